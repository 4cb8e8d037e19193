// Package account is one NCP account that is watched: its APIs, its ledger and
// its collectors, and the table of what is watched of it. Accounts share nothing,
// so that several can live side by side.
package account

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/collector"
	"ncp_exporter/collector/ledger"
	"ncp_exporter/internal/config"
)

// Options are what an account is made from.
type Options struct {
	Config    config.Account
	Shard     config.Shard
	LookupEnv func(string) (string, bool) // such as os.LookupEnv
	Logger    log.Logger
}

// Account is an NCP account that is being watched.
type Account struct {
	*Setup
	metrics    *collector.APIMetrics
	ledger     *ledger.Ledger
	collectors []collector.Collector
	exporter   *collector.Exporter
}

// Open opens all that belongs to an account. Nothing is sent to NCP before the
// first scrape. ctx is for the opening only: Close ends the account.
func Open(ctx context.Context, options Options) (*Account, error) {
	setup, err := Prepare(ctx, options)
	if err != nil {
		return nil, err
	}
	a := &Account{Setup: setup, metrics: collector.NewAPIMetrics()}
	if err := a.open(ctx); err != nil {
		setup.Close()
		return nil, err
	}
	return a, nil
}

func (a *Account) open(ctx context.Context) error {
	watched := a.Watched()
	for _, w := range Table() {
		if why := a.Off(w); why != "" && a.switchedOff(w) == "" {
			_ = level.Info(a.Logger).Log("msg", "Not watched: "+why, "collector", w.Name, "site", a.Config.Site, "shard", a.Shard.Number)
		}
	}
	if len(watched) == 0 {
		return ErrNothingToWatch
	}
	var c clients
	for _, api := range a.apis {
		if err := a.watch(&c, api); err != nil {
			return fmt.Errorf("%s: %w", api.Name, err)
		}
	}
	var err error
	if a.ledger, err = a.openLedger(ctx); err != nil {
		return err
	}
	for _, w := range watched {
		a.collectors = append(a.collectors, w.collector(a, c))
	}
	a.exporter = collector.NewExporter(a.Logger, collector.ExporterOptions{MaxAge: a.Config.MaxAge, Now: time.Now}, a.collectors...)
	return nil
}

// watch makes the client of an API, and the series of what is called there.
func (a *Account) watch(c *clients, api API) error {
	keys, err := api.keys()
	if err != nil {
		return err
	}
	_ = level.Info(a.Logger).Log("msg", "Watching", "collector", api.Name, "url", api.BaseURL, "keys", keys)
	limit, err := a.connect(c, api, keys, a.Config.Limits.MaxRetries, a.metrics)
	if err != nil {
		return err
	}
	for _, w := range a.Watched() {
		for _, call := range w.Calls {
			if w.API == api.Name {
				a.metrics.Expect(api.Name, limit, call.Operation)
			}
		}
	}
	return nil
}

// Close ends the account. What was counted is in the ledger.
func (a *Account) Close() {
	a.exporter.Close()
	if err := a.ledger.Close(); err != nil {
		_ = level.Error(a.Logger).Log("msg", "The ledger could not be closed; what it holds is whole", "err", err)
	}
	a.Setup.Close()
}

// Interrupt ends what is being read, so that scrapes in flight answer with what
// they have. Close follows.
func (a *Account) Interrupt() { a.exporter.Close() }

// Handler serves scrapes of the account, and with them the metrics of process.
func (a *Account) Handler(options collector.HandlerOptions, process ...prometheus.Collector) http.Handler {
	process = append(process, a.metrics, collector.NewStateMetrics(a.ledger), collector.NewShardMetrics(a.Shard.Number, a.Shard.Total))
	return collector.NewHandler(a.Logger, a.exporter, process, options)
}

// Status is how each collector is doing. It asks NCP nothing.
func (a *Account) Status() []collector.Status { return a.exporter.Status() }

// Collectors are what is watched, in the order of the table.
func (a *Account) Collectors() []collector.Collector { return a.collectors }
