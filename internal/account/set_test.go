package account

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/collector"
	"ncp_exporter/collector/ledger"
	"ncp_exporter/internal/config"
	"ncp_exporter/ncpclient/ncptest"
)

// bubble is a Set and a simulated NCP for each account, without a network, so that all
// of it can be in a synctest bubble.
type bubble struct {
	t    *testing.T
	set  *Set
	logs *bytes.Buffer
	env  map[string]string

	mu   sync.Mutex
	ncps map[string]*pipeListener // by address
}

func newBubble(t *testing.T, accounts ...config.Account) *bubble {
	t.Helper()
	time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))) // so that no history is in the future
	b := &bubble{t: t, logs: &bytes.Buffer{}, ncps: make(map[string]*pipeListener), env: map[string]string{
		"ACCESS": ncptest.DemoAccessKey, "SECRET": ncptest.DemoSecretKey,
		"NCLOUD_ACCESS_KEY_ID": ncptest.DemoAccessKey, "NCLOUD_SECRET_ACCESS_KEY": ncptest.DemoSecretKey,
	}}
	b.open(accounts...)
	return b
}

// open opens the Set, as at the start of the process.
func (b *bubble) open(accounts ...config.Account) {
	b.t.Helper()
	set, err := OpenSet(b.t.Context(), SetOptions{
		Shard:     config.Shard{Total: 1},
		LookupEnv: func(name string) (string, bool) { v, ok := b.env[name]; return v, ok },
		Logger:    log.NewLogfmtLogger(log.NewSyncWriter(b.logs)),
		Scrape:    collector.HandlerOptions{Timeout: 10 * time.Second},
		Now:       time.Now,
		dial:      b.dial,
	}, accounts)
	if err != nil {
		b.t.Fatal(err)
	}
	b.set = set
}

// close ends everything, as goroutines must not outlive their bubble.
func (b *bubble) close() {
	b.set.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.ncps {
		_ = l.server.Close()
	}
	clear(b.ncps)
}

// ncp is the simulated NCP of an account.
func (b *bubble) ncp(name string) *ncptest.Server { return b.listener(address(name)).ncp }

func (b *bubble) listener(addr string) *pipeListener {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.ncps[addr]; l != nil {
		return l
	}
	l := &pipeListener{
		ncp:   ncptest.New(ncptest.Config{Latency: 20 * time.Millisecond}),
		conns: make(chan net.Conn), closed: make(chan struct{}),
	}
	at := time.Date(2024, 12, 12, 9, 0, 0, 0, time.UTC)
	for i := range 3 {
		id := fmt.Sprintf("subject-%d", i)
		l.ncp.PutSubject(ncptest.Subject{SubjectID: id, Enabled: true})
		l.ncp.AddCredentials(id, ncptest.NewCredential(at, "1", false), ncptest.NewCredential(at.Add(time.Minute), "2", true))
	}
	l.ncp.SetChanges(ncptest.Change{OrderID: "410", CertificateID: 55991, Status: ncptest.StatusOngoing})
	l.server = &http.Server{Handler: l.ncp, ReadHeaderTimeout: time.Minute}
	go func() { _ = l.server.Serve(l) }() // ends with Close
	b.ncps[addr] = l
	return l
}

func (b *bubble) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	l := b.listener(addr)
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, io.ErrClosedPipe
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pipeListener is a server whose connections are pipes.
type pipeListener struct {
	ncp    *ncptest.Server
	server *http.Server
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }
func (*pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// address is that of an account's NCP: each name has its own port.
func address(name string) string {
	port := 1024
	for _, c := range name {
		port = (port*31 + int(c)) % 60_000
	}
	return "127.0.0.1:" + strconv.Itoa(port+1024)
}

// named is an account that is kept in memory.
func named(name string) config.Account {
	url := "http://" + address(name)
	on := make(map[string]bool)
	for _, w := range Table() {
		on[w.Name] = w.Default
	}
	return config.Account{
		Name:               name,
		Site:               "public",
		Keys:               config.Keys{AccessKeyEnv: "ACCESS", SecretKeyEnv: "SECRET"},
		Limits:             config.Limits{Timeout: 5 * time.Second, MaxConcurrency: 4, RateLimit: 50, MaxRetries: 1},
		Collectors:         on,
		CertificateManager: config.CertificateManager{URL: url + "/api/v2", Window: 24 * time.Hour, PerCertificate: true},
		ExternalAccess:     config.ExternalAccess{URL: url + "/api/v1", PageSize: 100, InitialHistory: config.InitialHistoryCount, LateArrival: time.Hour},
	}
}

func onDisk(a config.Account, path string) config.Account {
	a.StateFile = config.StateFile{Path: path, Given: true}
	return a
}

// scrape gives the values of an account's series, and how long the scrape took.
func (b *bubble) scrape(name string) (map[string]string, time.Duration) {
	b.t.Helper()
	handler := b.set.Handler(name)
	if handler == nil {
		b.t.Fatalf("there is no account %s", name)
	}
	begin := time.Now()
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, httptest.NewRequestWithContext(b.t.Context(), http.MethodGet, "/probe?account="+name, http.NoBody))
	if rec.Code != http.StatusOK {
		b.t.Errorf("%s: HTTP %d: %s", name, rec.Code, rec.Body)
	}
	values := make(map[string]string)
	for line := range strings.Lines(rec.Body.String()) {
		if series, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(line, "#") {
			values[series] = value
		}
	}
	return values, time.Since(begin)
}

func (b *bubble) want(values map[string]string, series, value string) {
	b.t.Helper()
	if values[series] != value {
		b.t.Errorf("%s is %q, want %q", series, values[series], value)
	}
}

func (b *bubble) reload(want string, accounts ...config.Account) {
	b.t.Helper()
	changes, err := b.set.Reload(b.t.Context(), accounts)
	if err != nil || changes.String() != want {
		b.t.Errorf("the reload: %s, error %v; want %s", changes, err, want)
	}
}

const (
	successOfExternalAccess = `ncp_scrape_collector_success{collector="external_access"}`
	loginsOfSubject1        = `ncp_external_access_credential_authentications_total{result="success",subject_id="subject-1"}`
	callsOfSubjects         = `ncp_api_requests_total{api="external_access",code="200",operation="subjects"}`
	rateOfExternalAccess    = `ncp_api_rate_limit_requests_per_second{api="external_access"}`
)

// life is what an account was like over some scrapes.
type life struct {
	Requests []string // at which time, what
	Took     []time.Duration
	Values   []map[string]string // but for those that hold times
}

// watchLife scrapes an account every 15 s, and does something before each scrape.
func (b *bubble) watchLife(name string, scrapes int, before func(n int)) life {
	b.t.Helper()
	var l life
	// The first reads learn how the server counts and ends: their calls depend on which
	// subject is first.
	warm := time.Now()
	for n := range 6 {
		b.ncp(name).AddCredentials("subject-1", ncptest.NewCredential(time.Now(), "3", true))
		b.scrape(name)
		time.Sleep(time.Until(warm.Add(time.Duration(n+1) * 15 * time.Second)))
	}
	b.ncp(name).ResetStats()
	begin := time.Now()
	for n := range scrapes {
		b.ncp(name).AddCredentials("subject-1", ncptest.NewCredential(time.Now(), "3", n%2 == 0))
		before(n)
		synctest.Wait()
		values, took := b.scrape(name)
		for series := range values {
			if strings.Contains(series, "timestamp") || strings.Contains(series, "created") || strings.Contains(series, "ncp_api_request") {
				delete(values, series)
			}
		}
		l.Took, l.Values = append(l.Took, took), append(l.Values, values)
		time.Sleep(time.Until(begin.Add(time.Duration(n+1) * 15 * time.Second)))
	}
	for _, r := range b.ncp(name).Requests() {
		l.Requests = append(l.Requests, fmt.Sprintf("%s %s %s %s", r.Time.Sub(begin), r.Op, r.SubjectID, r.Query))
	}
	slices.Sort(l.Requests)
	return l
}

// alone is the life of an account that has no neighbours.
func alone(t *testing.T, scrapes int) (l life) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, named("good"))
		defer b.close()
		l = b.watchLife("good", scrapes, func(int) {})
	})
	if last := l.Values[scrapes-1]; last[successOfExternalAccess] != "1" || last[loginsOfSubject1] == "" || len(l.Requests) < 5*scrapes {
		t.Fatalf("the account alone is not well: %v, %d requests", last, len(l.Requests))
	}
	return l
}

// wantSameLife wants an account to have the requests, the latency and the counts that
// it has alone.
func wantSameLife(t *testing.T, want, got life) {
	t.Helper()
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("the account is not as it is alone (-alone +here):\n%s", diff)
	}
}

// panicking has bugs everywhere.
type panicking struct{ collector.Collector }

func (panicking) Name() string                            { return "bug" }
func (panicking) Update(context.Context, time.Time) error { panic("a bug in Update") }
func (panicking) Collect(func(prometheus.Metric))         { panic("a bug in Collect") }

// TestNeighboursAreNotFelt has an account between broken ones, all scraped at once.
func TestNeighboursAreNotFelt(t *testing.T) {
	const scrapes = 8
	want := alone(t, scrapes)
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	throttle := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	huge := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("["), 1<<20))
	})
	synctest.Test(t, func(t *testing.T) {
		refused := named("refused")
		b := newBubble(t, named("good"), named("hanging"), named("throttled"), named("hostile"), named("endless"), named("panicking"), refused)
		defer b.close()
		b.ncp("hanging").SetFault(ncptest.Always(hang))
		b.ncp("throttled").SetFault(ncptest.Always(throttle))
		b.ncp("hostile").SetFault(ncptest.Always(huge))
		b.ncp("endless").Configure(func(c *ncptest.Config) { c.EndlessPages, c.Latency = true, time.Second })
		b.ncp("refused").SetKeys(ncptest.Key{AccessKey: "another", SecretKey: "another"})
		bug := b.set.all()["panicking"]
		bug.account.exporter.Close()
		bug.account.exporter = collector.NewExporter(bug.logger, collector.ExporterOptions{Now: time.Now},
			panicking{collector.NewUnavailable("bug", nil)}, collector.NewUnavailable("beside", nil))
		bug.handler = bug.account.Handler(b.set.options.Scrape)

		var all sync.WaitGroup
		scraped := make([]map[string]map[string]string, scrapes)
		got := b.watchLife("good", scrapes, func(n int) {
			all.Wait()
			scraped[n] = make(map[string]map[string]string)
			var mu sync.Mutex
			for _, name := range b.set.Names() {
				if name == "good" {
					continue
				}
				all.Go(func() {
					values, _ := b.scrape(name)
					mu.Lock()
					defer mu.Unlock()
					scraped[n][name] = values
				})
			}
		})
		all.Wait()
		wantSameLife(t, want, got)
		for n := range scrapes {
			for _, name := range []string{"hanging", "throttled", "hostile", "refused"} {
				b.want(scraped[n][name], successOfExternalAccess, "0")
			}
			b.want(scraped[n]["panicking"], `ncp_scrape_collector_success{collector="bug"}`, "0")
			b.want(scraped[n]["panicking"], `ncp_scrape_collector_success{collector="beside"}`, "1")
		}
	})
}

// TestReloadsAreNotFelt reloads other accounts while one is scraped, also in the
// middle of its scrapes.
func TestReloadsAreNotFelt(t *testing.T) {
	const scrapes = 8
	want := alone(t, scrapes)
	synctest.Test(t, func(t *testing.T) {
		good, other := named("good"), named("other")
		b := newBubble(t, good, other)
		defer b.close()
		var all sync.WaitGroup
		wantSameLife(t, want, b.watchLife("good", scrapes, func(n int) {
			other := other
			all.Go(func() {
				for i := range 5 {
					time.Sleep(15 * time.Millisecond)
					other.Limits.MaxRetries = 10*n + i
					_, _ = b.set.Reload(t.Context(), []config.Account{good, other, named("new-" + strconv.Itoa(i))})
					_, _ = b.set.Reload(t.Context(), []config.Account{good, withoutKeys("bad")})
				}
			})
		}))
		all.Wait()
	})
}

func withoutKeys(name string) config.Account {
	a := named(name)
	a.Keys = config.Keys{AccessKeyEnv: "NONE", SecretKeyEnv: "NONE"}
	return a
}

// TestChangedAccountGoesOn changes an account that has counted what its history does
// not hold any more.
func TestChangedAccountGoesOn(t *testing.T) {
	for _, kept := range []string{"in memory", "on disk"} {
		t.Run(kept, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger")
			synctest.Test(t, func(t *testing.T) {
				a := named("prod")
				if kept == "on disk" {
					a = onDisk(a, path)
				}
				b := newBubble(t, a)
				defer b.close()
				before, _ := b.scrape("prod")
				b.want(before, loginsOfSubject1, "1")
				b.want(before, callsOfSubjects, "2")
				b.ncp("prod").RemoveCredentials("subject-1", func(ncptest.Credential) bool { return true })
				first := b.set.Account("prod")
				time.Sleep(time.Minute)

				a.Limits.RateLimit = 20
				a.ExternalAccess.LateArrival = 2 * time.Hour
				b.reload("0 added, 1 changed, 0 removed, 0 unchanged", a)
				after, _ := b.scrape("prod")
				b.want(after, loginsOfSubject1, "1")
				b.want(after, callsOfSubjects, "4")
				b.want(after, rateOfExternalAccess, "20")
				b.want(after, successOfExternalAccess, "1")
				const settings = "ncp_exporter_account_settings_timestamp_seconds"
				if before[settings] == after[settings] || after[settings] == "" {
					t.Errorf("the settings are of %s, and were of %s", after[settings], before[settings])
				}
				if b.set.Account("prod") == first {
					t.Error("it is the same account")
				}
				b.reload("0 added, 0 changed, 0 removed, 1 unchanged", a)

				a.ExternalAccess.URL += "/"
				a.Collectors = maps.Clone(a.Collectors)
				a.Collectors["certificate_manager"] = false
				b.reload("0 added, 1 changed, 0 removed, 0 unchanged", a)
				last, _ := b.scrape("prod")
				b.want(last, loginsOfSubject1, "1")
				b.want(last, `ncp_api_rate_limit_requests_per_second{api="certificate_manager"}`, "")
			})
		})
	}
}

// TestBackoffGoesOn changes an account that NCP throttles.
func TestBackoffGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := named("prod")
		b := newBubble(t, a)
		defer b.close()
		b.ncp("prod").SetFault(ncptest.ForOp(ncptest.Subjects, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
		})))
		before, _ := b.scrape("prod")
		const half = "4" // of two requests in the shortest stretch that is measured
		b.want(before, rateOfExternalAccess, half)
		b.ncp("prod").SetFault(nil)
		a.Limits.MaxRetries = 2
		b.reload("0 added, 1 changed, 0 removed, 0 unchanged", a)
		asked := b.ncp("prod").Count(ncptest.Subjects)
		after, _ := b.scrape("prod")
		b.want(after, rateOfExternalAccess, half)
		b.want(after, successOfExternalAccess, "0")
		if n := b.ncp("prod").Count(ncptest.Subjects); n != asked {
			t.Errorf("%d requests in the pause that NCP asked for", n-asked)
		}
		time.Sleep(time.Minute)
		later, _ := b.scrape("prod")
		b.want(later, successOfExternalAccess, "1")
	})
}

// TestChangedAccountEndsItsScrapes changes and removes accounts whose NCP hangs.
func TestChangedAccountEndsItsScrapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changed, removed := named("changed"), named("removed")
		b := newBubble(t, changed, removed)
		defer b.close()
		hang := ncptest.Always(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		b.ncp("changed").SetFault(hang)
		b.ncp("removed").SetFault(hang)
		var scrapes sync.WaitGroup
		for _, name := range []string{"changed", "removed"} {
			scrapes.Go(func() {
				values, took := b.scrape(name)
				b.want(values, successOfExternalAccess, "0")
				if took != time.Second {
					t.Errorf("the scrape of %s took %s, want 1s", name, took)
				}
			})
		}
		time.Sleep(time.Second)
		b.ncp("changed").SetFault(nil)
		changed.Limits.MaxRetries = 0
		begin := time.Now()
		b.reload("0 added, 1 changed, 1 removed, 0 unchanged", changed)
		if took := time.Since(begin); took > 0 {
			t.Errorf("the reload took %s", took)
		}
		scrapes.Wait()
		values, _ := b.scrape("changed")
		b.want(values, successOfExternalAccess, "1")
		if b.set.Handler("removed") != nil {
			t.Error("the removed account is still there")
		}
	})
}

// TestRenamed renames an account, while the process runs and between two starts, with
// a ledger that is named after the account and with one that is not.
func TestRenamed(t *testing.T) {
	for _, running := range []bool{true, false} {
		for _, file := range []string{"", "ledger.db"} {
			t.Run(fmt.Sprintf("running %t, file %q", running, file), func(t *testing.T) {
				dir := t.TempDir()
				pathOf := func(name string) string { return filepath.Join(dir, cmp.Or(file, name)) }
				synctest.Test(t, func(t *testing.T) {
					b := newBubble(t, onDisk(named("old"), pathOf("old")))
					defer b.close()
					b.scrape("old")
					renamed := onDisk(named("old"), pathOf("new"))
					renamed.Name, renamed.Formerly = "new", "old"
					b.ncp("old").RemoveCredentials("subject-1", func(ncptest.Credential) bool { return true })
					if running {
						b.reload("0 added, 1 changed, 0 removed, 0 unchanged", renamed)
					} else {
						b.set.Close()
						b.open(renamed)
					}
					values, _ := b.scrape("new")
					b.want(values, loginsOfSubject1, "1")
					b.want(values, "ncp_exporter_state_persistent", "1")

					b.set.Close() // and the name is there to stay
					renamed.Formerly = ""
					b.open(renamed)
					values, _ = b.scrape("new")
					b.want(values, loginsOfSubject1, "1")
				})
			})
		}
	}
}

// TestLedgerOfAnother gives an account the ledger of another.
func TestLedgerOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	synctest.Test(t, func(t *testing.T) {
		nameless := onDisk(named("a"), path)
		nameless.Name = ""
		b := newBubble(t, nameless) // the ledger of the flags' time
		b.scrape("")
		b.set.Close()

		a := onDisk(named("a"), path)
		b.open(a)
		defer b.close()
		b.ncp("a").RemoveCredentials("subject-1", func(ncptest.Credential) bool { return true })
		values, _ := b.scrape("a")
		b.want(values, loginsOfSubject1, "1") // taken over

		other := onDisk(named("b"), path)
		if _, err := b.set.Reload(t.Context(), []config.Account{other}); err == nil {
			t.Error("the ledger of an account was given to another")
		}
		elsewhere := a
		elsewhere.ExternalAccess.URL = named("b").ExternalAccess.URL
		if _, err := b.set.Reload(t.Context(), []config.Account{elsewhere}); err == nil || !strings.Contains(err.Error(), "another account or site") {
			t.Errorf("the ledger of a site was given to another: %v", err)
		}
		values, _ = b.scrape("a")
		b.want(values, successOfExternalAccess, "1")

		b.reload("0 added, 1 changed, 0 removed, 0 unchanged", onDisk(named("a"), path+".new"))
		if _, err := ledger.Probe(t.Context(), path, ledger.Options{Owner: ledger.Owner{Account: "a", BaseURL: a.ExternalAccess.URL}}); err != nil {
			t.Errorf("the file that the account had before: %v", err) // it must not be locked any more
		}
	})
}

// TestNotReady has an account without keys, which then come.
func TestNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := withoutKeys("late")
		b := newBubble(t, a, named("good"))
		defer b.close()
		for range 3 {
			values, _ := b.scrape("late")
			for _, w := range Table() {
				if w.Default {
					b.want(values, `ncp_scrape_collector_success{collector="`+w.Name+`"}`, "0")
				}
			}
			time.Sleep(3 * time.Second)
		}
		if err := b.set.Account("late").Err(); err == nil || !strings.Contains(err.Error(), "NONE") {
			t.Errorf("the reason is %v", err)
		}
		b.env["NONE"] = ncptest.DemoAccessKey // of both, and so a wrong one
		values, _ := b.scrape("late")
		b.want(values, successOfExternalAccess, "0")
		if err := b.set.Account("late").Err(); err == nil {
			t.Error("it was tried again too early")
		}
		time.Sleep(time.Second) // 10 s after the start
		b.ncp("late").SetKeys(ncptest.Key{AccessKey: ncptest.DemoAccessKey, SecretKey: ncptest.DemoAccessKey})
		values, _ = b.scrape("late")
		b.want(values, successOfExternalAccess, "1")
		b.want(values, callsOfSubjects, "2")
		if n := strings.Count(b.logs.String(), "cannot be used now"); n != 1 {
			t.Errorf("%d lines say that it cannot be used, want 1:\n%s", n, b.logs)
		}
	})
}

// TestTriedSeldom counts how often the keys of an account are looked for.
func TestTriedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		defer b.close()
		b.set.Close()
		looked := 0
		b.set.options.LookupEnv = func(string) (string, bool) { looked++; return "", false }
		set, err := OpenSet(t.Context(), b.set.options, []config.Account{withoutKeys("late")})
		if err != nil {
			t.Fatal(err)
		}
		b.set = set
		once := looked
		for range 100 {
			b.scrape("late")
			time.Sleep(time.Second)
		}
		if tries := looked/once - 1; tries != 9 {
			t.Errorf("tried %d times in 100 s, want 9", tries)
		}
	})
}

// TestFailedReloadChangesNothing has one bad account among good changes.
func TestFailedReloadChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new")
	synctest.Test(t, func(t *testing.T) {
		a, removed := named("changed"), named("removed")
		b := newBubble(t, a, removed)
		defer b.close()
		before := []*Account{b.set.Account("changed"), b.set.Account("removed")}
		a.Limits.RateLimit = 1
		_, err := b.set.Reload(t.Context(), []config.Account{a, onDisk(named("new"), path), withoutKeys("bad"), withoutKeys("worse")})
		for _, name := range []string{"bad", "worse"} {
			if err == nil || !strings.Contains(err.Error(), "account "+name) {
				t.Errorf("the error does not name %s: %v", name, err)
			}
		}
		if names := b.set.Names(); !slices.Equal(names, []string{"changed", "removed"}) ||
			b.set.Account("changed") != before[0] || b.set.Account("removed") != before[1] {
			t.Errorf("something changed: %s", names)
		}
		values, _ := b.scrape("changed")
		b.want(values, rateOfExternalAccess, "50")
		b.want(values, successOfExternalAccess, "1")
		b.reload("1 added, 1 changed, 1 removed, 0 unchanged", a, onDisk(named("new"), path)) // nothing of it was left open
	})
}
