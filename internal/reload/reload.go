// Package reload loads the accounts of a file anew while the exporter runs: when it is
// told to, and when the file has changed.
package reload

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/internal/account"
	"ncp_exporter/internal/config"
)

// Options are what a Reloader needs.
type Options struct {
	File   string
	Load   func() ([]config.Account, error) // reads File
	Apply  func(context.Context, []config.Account) (account.Changes, error)
	Logger log.Logger
	Now    func() time.Time
}

// Reloader reloads a file of accounts, and tells how that went.
type Reloader struct {
	options    Options
	successful *prometheus.Desc
	lastTime   *prometheus.Desc

	reloading sync.Mutex
	tried     string // the checksum of the file that was loaded last, be it good or bad
	said      string // of the last reload that was not only for debugging
	saidAt    time.Time

	mu        sync.Mutex
	failed    bool // the last time
	succeeded time.Time
}

// New makes a Reloader of a file that was just loaded.
func New(options Options) *Reloader {
	return &Reloader{
		options: options,
		successful: prometheus.NewDesc("ncp_exporter_config_last_reload_successful",
			"1 if the configuration was loaded the last time that it was to be, else 0: then the one before is in force.", nil, nil),
		lastTime: prometheus.NewDesc("ncp_exporter_config_last_reload_success_timestamp_seconds",
			"When the configuration was last loaded.", nil, nil),
		tried: checksum(options.File), succeeded: options.Now(),
	}
}

// Reload loads the file. If anything in it is wrong, nothing changes.
func (r *Reloader) Reload(ctx context.Context) (account.Changes, error) {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	r.said = "" // whoever has signals or files sent is not limited
	return r.reload(ctx)
}

// Asked is Reload by a client, which anybody may be: what is the same as the last time
// is logged once a minute.
func (r *Reloader) Asked(ctx context.Context) (account.Changes, error) {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	return r.reload(ctx)
}

// reload loads the file, with r.reloading held.
func (r *Reloader) reload(ctx context.Context) (account.Changes, error) {
	r.tried = checksum(r.options.File) // before it is read: what changes meanwhile is seen later
	var changes account.Changes
	accounts, err := r.options.Load()
	if err == nil {
		changes, err = r.options.Apply(ctx, accounts)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = err != nil
	if err != nil {
		logger := r.news(level.Error, err.Error())
		for _, problem := range problems(err) {
			_ = logger.Log("msg", "The configuration was not reloaded, the one before stays in force", "err", problem)
		}
		return account.Changes{}, err
	}
	r.succeeded = r.options.Now()
	if changes.Added+changes.Changed+changes.Removed > 0 {
		r.said = "" // it is news, whatever was said before
	}
	_ = r.news(level.Info, changes.String()).Log("msg", "The configuration was reloaded", "accounts", len(accounts), "changes", changes)
	return changes, nil
}

// repeatTime is how long what was said is not said again.
const repeatTime = time.Minute

// news gives a logger of a level for what came of a reload, or one of level debug if
// just that was said in the last minute.
func (r *Reloader) news(leveled func(log.Logger) log.Logger, outcome string) log.Logger {
	now := r.options.Now()
	if outcome == r.said && now.Sub(r.saidAt) < repeatTime {
		return level.Debug(r.options.Logger)
	}
	r.said, r.saidAt = outcome, now
	return leveled(r.options.Logger)
}

// problems are the errors that one may hold.
func problems(err error) []error {
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		return several.Unwrap()
	}
	return []error{err}
}

// Run reloads at each signal, and whenever the file was changed, until ctx ends. It
// looks at the file once in each interval; 0 is never. A changed file is loaded when it
// is the same in two looks, as it may be written in several steps.
func (r *Reloader) Run(ctx context.Context, signals <-chan os.Signal, interval time.Duration) {
	var ticks <-chan time.Time
	if interval > 0 {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		ticks = ticker.C
	}
	seen := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			_, _ = r.Reload(ctx) // the log and the metrics tell
		case <-ticks:
			now := checksum(r.options.File)
			if now != r.lastTried() && now == seen {
				_, _ = r.Reload(ctx)
			}
			seen = now
		}
	}
}

func (r *Reloader) lastTried() string {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	return r.tried
}

// maxFile is more than a file of accounts may have. What is behind it is not looked at.
const maxFile = 2 << 20

// checksum is equal for equal contents. A file that cannot be read has one too.
func checksum(file string) string {
	info, err := os.Stat(file)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxFile) {
		err = errors.New("not a file of accounts")
	}
	if err != nil {
		return "error: " + err.Error()
	}
	text, err := os.ReadFile(file) //nolint:gosec // the operator's path
	if err != nil {
		return "error: " + err.Error()
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// Describe makes a Reloader a prometheus.Collector.
func (r *Reloader) Describe(ch chan<- *prometheus.Desc) {
	ch <- r.successful
	ch <- r.lastTime
}

// Collect gives the metrics that tell how the last reload went.
func (r *Reloader) Collect(ch chan<- prometheus.Metric) {
	r.mu.Lock()
	defer r.mu.Unlock()
	successful := 1.
	if r.failed {
		successful = 0
	}
	ch <- prometheus.MustNewConstMetric(r.successful, prometheus.GaugeValue, successful)
	ch <- prometheus.MustNewConstMetric(r.lastTime, prometheus.GaugeValue, float64(r.succeeded.UnixMilli())/1e3)
}
