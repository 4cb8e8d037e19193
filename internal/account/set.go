package account

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/collector"
	"ncp_exporter/collector/subjects"
	"ncp_exporter/internal/config"
	"ncp_exporter/ncpclient"
)

// SetOptions are what the accounts of a Set have in common.
type SetOptions struct {
	Shard     config.Shard
	LookupEnv func(string) (string, bool)
	Logger    log.Logger
	Journal   subjects.Journal
	Scrape    collector.HandlerOptions
	Process   []prometheus.Collector // shown with each account, such as the version
	Now       func() time.Time

	dial func(ctx context.Context, network, address string) (net.Conn, error) // see Options
}

// Set is several accounts by name, each as if it were alone.
type Set struct {
	options   SetOptions
	crowd     *ncpclient.Crowd
	reloading sync.Mutex // one Reload, or Close, at a time

	mu      sync.RWMutex
	members map[string]*member // nobody changes the map: a Reload replaces it
}

// crowdPlaces is enough for half a dozen accounts at the same instant.
const crowdPlaces = 50

// OpenSet opens accounts. One that cannot be used now, as its keys or its ledger
// cannot be read, is not ready: a later scrape tries again.
func OpenSet(ctx context.Context, options SetOptions, accounts []config.Account) (*Set, error) {
	s := &Set{options: options, crowd: ncpclient.NewCrowd(crowdPlaces), members: make(map[string]*member)}
	opened, errs := make([]*Account, len(accounts)), make([]error, len(accounts))
	var all sync.WaitGroup
	for i, cfg := range accounts {
		m := s.newMember(cfg)
		s.members[cfg.Name] = m
		all.Go(func() {
			if opened[i], errs[i] = m.open(ctx, nil); opened[i] != nil {
				m.begin(ctx, opened[i], nil)
			}
		})
	}
	all.Wait()
	for i, err := range errs {
		switch {
		case err != nil && opened[i] == nil:
			s.discard(opened)
			return nil, fmt.Errorf("account %s: %w", accounts[i].Name, err) //nolint:gosec // one error an account
		case err != nil:
			s.members[accounts[i].Name].logUnusable(err) //nolint:gosec // one error an account
		}
	}
	return s, nil
}

// discard closes accounts; nil is none.
func (*Set) discard(accounts []*Account) {
	for _, a := range accounts {
		if a != nil {
			a.Close()
		}
	}
}

// Changes are how many accounts a reload found in each state.
type Changes struct{ Added, Changed, Removed, Unchanged int }

func (c Changes) String() string {
	return fmt.Sprintf("%d added, %d changed, %d removed, %d unchanged", c.Added, c.Changed, c.Removed, c.Unchanged)
}

// replacement is a member that is ready to take the place of another.
type replacement struct {
	next    *member
	account *Account
	before  *member // nil for a new account
}

// Reload makes the set one of these accounts. If one of the new or changed accounts
// cannot be used, nothing changes, and the error names all of them. Accounts that did
// not change are not touched. A changed one ends its scrapes, and goes on with its
// ledger, its counters of requests and its back-off. A removed one is closed.
func (s *Set) Reload(ctx context.Context, accounts []config.Account) (Changes, error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	var changes Changes
	next, gone := make(map[string]*member), maps.Clone(s.all())
	var changed []config.Account
	for _, cfg := range accounts {
		if m := gone[cfg.Name]; m != nil && m.config.Equal(cfg) {
			next[cfg.Name] = m
			delete(gone, cfg.Name)
			changes.Unchanged++
		} else {
			changed = append(changed, cfg)
		}
	}
	for _, m := range gone { // nobody tries to open them meanwhile
		m.opening.Lock()
		defer m.opening.Unlock()
	}
	replacements, err := s.prepare(ctx, changed, gone)
	if err != nil {
		return Changes{}, err
	}
	for _, r := range replacements {
		next[r.next.config.Name] = r.next
		if r.before == nil {
			changes.Added++
		} else {
			changes.Changed++
		}
	}
	changes.Removed = len(gone)
	s.mu.Lock()
	s.members = next
	s.mu.Unlock()
	var all sync.WaitGroup
	for _, r := range replacements {
		all.Go(func() { r.next.begin(context.WithoutCancel(ctx), r.account, r.before) })
	}
	for _, m := range gone {
		all.Go(m.end)
	}
	all.Wait()
	return changes, nil
}

// prepare opens the changed accounts. It takes those that they replace out of gone.
func (s *Set) prepare(ctx context.Context, changed []config.Account, gone map[string]*member) ([]replacement, error) {
	var prepared []replacement
	var problems []error
	earlier := earlierNames(changed, gone)
	for _, cfg := range changed {
		r := replacement{next: s.newMember(cfg), before: gone[earlier[cfg.Name]]}
		delete(gone, earlier[cfg.Name])
		var before *Account
		if r.before != nil {
			before = r.before.account
		}
		a, err := r.next.open(ctx, before)
		if err != nil {
			problems = append(problems, fmt.Errorf("account %s cannot be used: %w", cfg.Name, err))
		}
		if a != nil {
			r.account = a
			prepared = append(prepared, r)
		}
	}
	if len(problems) == 0 {
		return prepared, nil
	}
	for _, r := range prepared {
		r.account.Close()
	}
	return nil, errors.Join(problems...)
}

// earlierNames are those of the accounts that changed ones replace, by their new
// name: the same, or the one that they had formerly.
func earlierNames(changed []config.Account, gone map[string]*member) map[string]string {
	names, taken := make(map[string]string), make(map[string]bool)
	for _, cfg := range changed {
		if gone[cfg.Name] != nil {
			names[cfg.Name], taken[cfg.Name] = cfg.Name, true
		}
	}
	for _, cfg := range changed {
		if names[cfg.Name] == "" && gone[cfg.Formerly] != nil && !taken[cfg.Formerly] {
			names[cfg.Name], taken[cfg.Formerly] = cfg.Formerly, true
		}
	}
	return names
}

func (s *Set) all() map[string]*member {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.members
}

// Names are those of the accounts, sorted.
func (s *Set) Names() []string { return slices.Sorted(maps.Keys(s.all())) }

// Handler serves the scrapes of an account; nil if there is none of this name.
func (s *Set) Handler(name string) http.Handler {
	if m := s.all()[name]; m != nil {
		return m
	}
	return nil
}

// Account is one of the set; nil if there is none of this name.
func (s *Set) Account(name string) *Account {
	m := s.all()[name]
	if m == nil {
		return nil
	}
	<-m.begun
	a, _ := m.current()
	return a
}

// Interrupt ends what is being read, so that scrapes in flight answer with what they
// have. Close follows.
func (s *Set) Interrupt() { s.each(func(m *member) { m.account.Interrupt() }) }

// Close closes all accounts.
func (s *Set) Close() { s.each((*member).end) }

func (s *Set) each(do func(*member)) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	var all sync.WaitGroup
	for _, m := range s.all() {
		all.Go(func() {
			m.opening.Lock()
			defer m.opening.Unlock()
			do(m)
		})
	}
	all.Wait()
}

// Describe makes a Set a prometheus.Collector.
func (s *Set) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect gives the metrics that say which accounts there are.
func (s *Set) Collect(ch chan<- prometheus.Metric) {
	ready := prometheus.NewDesc("ncp_exporter_account_ready",
		"1 if the account can be used, 0 if not, as its keys or its ledger cannot be read: the log and the page of the account say why.", []string{"account"}, nil)
	probed := prometheus.NewDesc("ncp_exporter_account_last_probe_timestamp_seconds",
		"When /probe was last asked for the account; 0 if never since the start.", []string{"account"}, nil)
	for name, m := range s.all() {
		isReady, at := m.state()
		ch <- prometheus.MustNewConstMetric(ready, prometheus.GaugeValue, isReady, name)
		ch <- prometheus.MustNewConstMetric(probed, prometheus.GaugeValue, at, name)
	}
}
