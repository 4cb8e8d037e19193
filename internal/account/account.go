// Package account is the NCP accounts that are watched: the APIs, the ledger and the
// collectors of each, the table of what is watched of it, and the set of them by
// name. Accounts share nothing, so that several can live side by side.
package account

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/collector"
	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/subjects"
	"ncp_exporter/internal/config"
	"ncp_exporter/ncpclient"
)

// Options are what an account is made from.
type Options struct {
	Config    config.Account
	Shard     config.Shard
	LookupEnv func(string) (string, bool) // such as os.LookupEnv
	Logger    log.Logger
	Journal   subjects.Journal

	crowd *ncpclient.Crowd                                                     // of all accounts; nil if there is one
	dial  func(ctx context.Context, network, address string) (net.Conn, error) // of tests; nil is the network
}

// Account is an NCP account that is being watched, or that cannot be used now.
type Account struct {
	*Setup
	err        error // why it cannot be used now; nil if it can
	clients    clients
	metrics    *collector.APIMetrics
	ledger     *ledger.Ledger // nil if the account cannot be used
	handedOn   bool           // the ledger belongs to another account now
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
	a, err := setup.open(ctx, nil)
	if err == nil {
		err = a.begin(ctx, nil)
	}
	if err != nil {
		setup.Close()
		return nil, err
	}
	return a, nil
}

// open opens all that can fail. before is the account whose place this one takes, or
// nil: it goes on with what that one has, from begin on. An error has opened nothing.
func (s *Setup) open(ctx context.Context, before *Account) (*Account, error) {
	a := &Account{Setup: s, metrics: metricsAfter(before)}
	if len(s.apis) == 0 {
		return nil, ErrNothingToWatch
	}
	for _, api := range s.apis {
		keys, err := api.keys()
		if err == nil {
			err = s.connect(&a.clients, api, keys, s.Config.Limits.MaxRetries, a.metrics)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", api.Name, err)
		}
	}
	if a.inherits(before) || a.movesFileOf(before) {
		return a, nil
	}
	var err error
	a.ledger, err = s.openLedger(ctx, before)
	return a, err
}

func metricsAfter(before *Account) *collector.APIMetrics {
	if before == nil {
		return collector.NewAPIMetrics()
	}
	return before.metrics
}

// begin begins to watch, and goes on with what before has, which was interrupted. It
// can only fail where the file of the ledger is moved.
func (a *Account) begin(ctx context.Context, before *Account) error {
	if err := a.takeLedger(ctx, before); err != nil {
		return err
	}
	if before != nil {
		a.takeBackoff(before)
	}
	a.metrics.Restart()
	watched := a.Watched()
	for _, api := range a.apis {
		keys, _ := api.keys() // open has seen the error
		_ = level.Info(a.Logger).Log("msg", "Watching", "collector", api.Name, "url", api.BaseURL, "keys", keys)
		for _, w := range watched {
			for _, call := range w.Calls {
				if w.API == api.Name {
					a.metrics.Expect(api.Name, a.clients.rateLimit(api.Name), call.Operation)
				}
			}
		}
	}
	for _, w := range Table() {
		if why := a.Off(w); why != "" && a.switchedOff(w) == "" {
			_ = level.Info(a.Logger).Log("msg", "Not watched: "+why, "collector", w.Name, "site", a.Config.Site, "shard", a.Shard.Number)
		}
	}
	for _, w := range watched {
		a.collectors = append(a.collectors, w.collector(a, a.clients))
	}
	a.exporter = collector.NewExporter(a.Logger, collector.ExporterOptions{MaxAge: a.Config.MaxAge, Now: time.Now, Calls: a.calls}, a.collectors...)
	return nil
}

// calls is the number of requests that a collector has sent so far.
func (a *Account) calls(name string) uint64 {
	var operations []ncpclient.Operation
	for _, w := range Table() {
		if w.Name == name {
			for _, call := range w.Calls {
				operations = append(operations, call.Operation)
			}
		}
	}
	return a.metrics.Sent(operations...)
}

// takeBackoff goes on with what answers of 429 did to the rates of before.
func (a *Account) takeBackoff(before *Account) {
	for _, api := range a.apis {
		same := slices.ContainsFunc(before.apis, func(b API) bool { return b.Name == api.Name && b.BaseURL == api.BaseURL })
		if same {
			a.clients.takeOver(api.Name, before.clients)
		}
	}
}

// unavailable is an account that cannot be used now, and fails in what it would watch.
func (s *Setup) unavailable(err error, metrics *collector.APIMetrics) *Account {
	a := &Account{Setup: s, err: err, metrics: metrics}
	for _, w := range s.Watched() {
		a.collectors = append(a.collectors, collector.NewUnavailable(w.Name, err))
	}
	// The set of accounts logs the reason once.
	a.exporter = collector.NewExporter(log.NewNopLogger(), collector.ExporterOptions{Now: time.Now}, a.collectors...)
	return a
}

// Close ends the account. What was counted is in the ledger.
func (a *Account) Close() {
	if a.exporter != nil {
		a.exporter.Close()
	}
	a.closeLedger()
	a.Setup.Close()
}

// Interrupt ends what is being read, so that scrapes in flight answer with what
// they have. Close follows.
func (a *Account) Interrupt() { a.exporter.Close() }

// Err says why the account cannot be used now; nil if it can.
func (a *Account) Err() error { return a.err }

// Handler serves scrapes of the account, and with them the metrics of process.
func (a *Account) Handler(options collector.HandlerOptions, process ...prometheus.Collector) http.Handler {
	process = append(process, a.metrics, collector.NewShardMetrics(a.Shard.Number, a.Shard.Total))
	if a.ledger != nil {
		process = append(process, collector.NewStateMetrics(a.ledger))
	}
	return collector.NewHandler(a.Logger, a.exporter, process, options)
}

// Status is how each collector is doing. It asks NCP nothing.
func (a *Account) Status() []collector.Status { return a.exporter.Status() }

// Collectors are what is watched, in the order of the table.
func (a *Account) Collectors() []collector.Collector { return a.collectors }
