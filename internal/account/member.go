package account

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/internal/config"
)

const (
	// retryInterval is how long an account that cannot be used is left alone.
	retryInterval = 10 * time.Second
	// retryWait is how long the scrape that tries to open it waits for that.
	retryWait = 2 * time.Second
)

// member is an account of a Set, with one configuration.
type member struct {
	set    *Set
	config config.Account
	logger log.Logger
	since  time.Time     // of this configuration
	begun  chan struct{} // closed when account and handler are there

	opening sync.Mutex // held while the account is opened, replaced or closed
	ended   bool       // nothing is opened any more
	triedAt time.Time  // when it was last opened

	mu      sync.Mutex
	account *Account // once begun, it is written with both locks held: one is enough to read it
	handler http.Handler
	probed  time.Time
}

func (s *Set) newMember(cfg config.Account) *member {
	now := s.options.Now()
	return &member{
		set: s, config: cfg, logger: log.With(s.options.Logger, "account", cfg.Name),
		since: now, triedAt: now, begun: make(chan struct{}),
	}
}

// open opens the account. If it cannot be used now, there is an error, and an account
// that says so; it is nil only if nothing can be said of it.
func (m *member) open(ctx context.Context, before *Account) (*Account, error) {
	o := m.set.options
	setup, err := Prepare(ctx, Options{Config: m.config, Shard: o.Shard, LookupEnv: o.LookupEnv, Logger: o.Logger, Journal: o.Journal, crowd: m.set.crowd, dial: o.dial})
	if err != nil {
		return nil, err
	}
	a, err := setup.open(ctx, before)
	if err != nil {
		return setup.unavailable(err, metricsAfter(before)), err
	}
	return a, nil
}

// begin begins to serve an account in the place of an earlier member's.
func (m *member) begin(ctx context.Context, a *Account, earlier *member) {
	defer close(m.begun)
	if earlier == nil {
		m.use(ctx, a, nil)
		return
	}
	earlier.ended = true
	_, probed := earlier.current()
	m.mu.Lock()
	m.probed = probed
	m.mu.Unlock()
	earlier.account.Interrupt()
	m.use(ctx, a, earlier.account)
	earlier.account.Close()
}

// use serves an account from now on.
func (m *member) use(ctx context.Context, a, before *Account) {
	if a.err == nil {
		if err := a.begin(ctx, before); err != nil {
			m.logUnusable(err)
			a = a.unavailable(err, a.metrics)
		}
	}
	process := append(slices.Clone(m.set.options.Process), settingsTime(m.since))
	handler := a.Handler(m.set.options.Scrape, process...)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.account, m.handler = a, handler
}

// end closes the account. m.opening is held.
func (m *member) end() {
	m.ended = true
	m.account.Close()
}

// current gives the account, which is nil before begun is closed, and when it was
// last asked for.
func (m *member) current() (*Account, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.account, m.probed
}

// state gives the values of the metrics of the account.
func (m *member) state() (ready, probed float64) {
	a, at := m.current()
	if a != nil && a.err == nil {
		ready = 1
	}
	if !at.IsZero() {
		probed = float64(at.UnixMilli()) / 1e3
	}
	return ready, probed
}

// ServeHTTP serves a scrape of the account.
func (m *member) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	m.mu.Lock()
	m.probed = m.set.options.Now()
	m.mu.Unlock()
	select {
	case <-m.begun:
	case <-req.Context().Done():
		return // the client is gone
	}
	if a, _ := m.current(); a.err != nil {
		m.tryAgain(req.Context())
	}
	m.mu.Lock()
	handler := m.handler
	m.mu.Unlock()
	handler.ServeHTTP(w, req)
}

// tryAgain opens an account that could not be used, if that was long ago.
func (m *member) tryAgain(ctx context.Context) {
	if !m.opening.TryLock() {
		return // somebody tries, or it is being replaced
	}
	now := m.set.options.Now()
	if m.ended || m.account.err == nil || now.Sub(m.triedAt) < retryInterval {
		m.opening.Unlock()
		return
	}
	m.triedAt = now
	done := make(chan struct{})
	go func() { // it goes on if this scrape ends
		defer close(done)
		defer m.opening.Unlock()
		m.reopen(context.WithoutCancel(ctx))
	}()
	wait := time.NewTimer(retryWait)
	defer wait.Stop()
	select {
	case <-done:
	case <-wait.C:
	case <-ctx.Done():
	}
}

// reopen opens the account once more. m.opening is held.
func (m *member) reopen(ctx context.Context) {
	before := m.account
	a, err := m.open(ctx, before)
	switch {
	case a == nil:
		return // nothing new can be said
	case err != nil && err.Error() == before.err.Error():
		a.Close()
		return
	case err != nil:
		m.logUnusable(err)
	default:
		_ = level.Info(m.logger).Log("msg", "The account can be used now")
	}
	m.use(ctx, a, before)
	before.Close()
}

func (m *member) logUnusable(err error) {
	_ = level.Error(m.logger).Log("msg", "The account cannot be used now; its next scrapes try again", "err", err)
}

// settingsTime gives the metric that says since when an account has its settings.
func settingsTime(since time.Time) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ncp_exporter_account_settings_timestamp_seconds",
		Help: "When the account was opened with the settings that it has now, such as its limits.",
	}, func() float64 { return float64(since.UnixMilli()) / 1e3 })
}
