//go:build e2e

package e2e

import (
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// logins is an account in which authentications go on, and old ones are dropped.
type logins struct {
	*ncptest.Server
	order    ncptest.Order
	subjects []string

	mu    sync.Mutex
	total map[string]float64 // by series of the counters
	added map[string]int     // by subject
	safe  map[string]int     // how many of them were counted for certain
	n     int
}

const statePersistent = "ncp_exporter_state_persistent{}"

const authentications = "ncp_external_access_credential_authentications_total"

func newLogins(t *testing.T, order ncptest.Order) *logins {
	t.Helper()
	l := &logins{
		Server:   ncptest.New(ncptest.Config{Order: order}),
		order:    order,
		subjects: []string{"one", "two", "three"},
		total:    make(map[string]float64),
		added:    make(map[string]int),
		safe:     make(map[string]int),
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for _, id := range l.subjects {
		l.PutSubject(ncptest.Subject{SubjectID: id, X509Subject: "CN=" + id, Enabled: true})
	}
	return l
}

// login adds one authentication, and drops old ones that were counted: what NCP
// drops before anybody saw it is counted by nobody.
func (l *logins) login() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	id, failed, result := l.subjects[l.n%len(l.subjects)], l.n%5 == 0, "success"
	if failed {
		result = "failure"
	}
	l.AddCredentials(id, ncptest.NewCredential(time.Now(), strconv.Itoa(l.n), failed))
	l.added[id]++
	if l.order != ncptest.NoOrder {
		l.drop(id)
	}
	l.total[seriesName(authentications, map[string]string{"subject_id": id, "result": result})]++
}

// drop drops the oldest authentications of a subject.
func (l *logins) drop(id string) { l.TrimCredentials(id, l.added[id]-l.safe[id]+15) }

// counted scrapes, and notes that all logins from before the scrape are counted
// if it says that it read them all.
func (l *logins) counted(t *testing.T, e exporter) (scrape, error) {
	t.Helper()
	return l.countedAt(t, e.url+"/metrics")
}

// countedAt is counted at another path.
func (l *logins) countedAt(t *testing.T, url string) (scrape, error) {
	t.Helper()
	l.mu.Lock()
	before := maps.Clone(l.added)
	l.mu.Unlock()
	a, err := get(t.Context(), url)
	if err != nil {
		return nil, err
	}
	s := parse(t, a.body)
	if s[success(externalAccess)].value == 1 {
		l.mu.Lock()
		defer l.mu.Unlock()
		for id, n := range before {
			counted := 0.0
			for _, result := range []string{"success", "failure"} {
				counted += s[seriesName(authentications, map[string]string{"subject_id": id, "result": result})].value
			}
			if counted < float64(n) {
				t.Errorf("a scrape says that it read all, but has %v of the %d logins of %s from before it", counted, n, id)
			}
		}
		l.safe = before
		for _, id := range l.subjects {
			l.drop(id)
		}
	}
	return s, nil
}

// goOn adds authentications until the function that it returns is called.
func (l *logins) goOn() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.login()
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

func (l *logins) watch(t *testing.T, state string, args ...string) exporter {
	t.Helper()
	return launch(t, demoKeys(), append(args, "--no-collector.certificate-manager", "--ncp.external-access.url="+l.ExternalAccessURL(),
		"--collector.external-access.page-size=20", "--ncp.rate-limit=0", "--state.file="+state)...)
}

// wantAll wants every authentication counted.
func (l *logins) wantAll(t *testing.T, s scrape) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for series, want := range l.total {
		s.want(t, series, want)
	}
}

// TestKilled ends the exporter with SIGKILL at random moments, while logins go
// on and old ones are dropped: no counter ever falls, and in the end each login is
// counted once.
func TestKilled(t *testing.T) {
	for _, order := range []ncptest.Order{ncptest.NewestFirst, ncptest.OldestFirst, ncptest.NoOrder} {
		t.Run(order.String(), func(t *testing.T) {
			l := newLogins(t, order)
			state := filepath.Join(t.TempDir(), "ledger.db")
			for range 600 {
				l.login()
			}
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret hangs on it
			stop := l.goOn()
			defer stop()
			before := make(scrape)
			scrapes := 0
			for range kills {
				e := l.watch(t, state)
				kill := time.AfterFunc(time.Duration(random.IntN(60))*time.Millisecond, func() { _ = e.cmd.Process.Kill() })
				for {
					s, err := l.counted(t, e)
					if err != nil {
						break // it is dead
					}
					checkCounted(t, before, s)
					before = s
					scrapes++
				}
				kill.Stop()
				_ = e.exit(t)
			}
			stop()
			e := l.watch(t, state)
			s := e.scrape(t)
			s.want(t, success(externalAccess), 1)
			checkCounted(t, before, s)
			l.wantAll(t, s)
			t.Logf("%d kills, %d scrapes, %d logins", kills, scrapes, l.n)
		})
	}
}

// kills is for each order of rows.
const kills = 50

// checkCounted wants every counter of logins still there, and not lower.
func checkCounted(t *testing.T, earlier, later scrape) {
	t.Helper()
	name := regexp.MustCompile("^" + authentications)
	for series, before := range earlier {
		if !name.MatchString(series) {
			continue
		}
		if now, there := later[series]; !there || now.value < before.value {
			t.Errorf("%s is %v (there: %v), and was %v", series, now.value, there, before.value)
		}
	}
}

// TestBackup takes a copy as docs/counting.md says, while the file is being
// written, and goes on from it.
func TestBackup(t *testing.T) {
	l := newLogins(t, ncptest.NewestFirst)
	dir := t.TempDir()
	state, backup := filepath.Join(dir, "ledger.db"), filepath.Join(dir, "backup.db")
	stop := l.goOn()
	defer stop()
	e := l.watch(t, state)
	ctx, cancel := context.WithCancel(t.Context())
	scraped := make(chan struct{})
	go func() {
		defer close(scraped)
		for ctx.Err() == nil {
			_, _ = get(ctx, e.url+"/metrics") // what counts is that it writes
		}
	}()
	for range 10 {
		for {
			out, err := exec.CommandContext(t.Context(), "cp", state, backup).CombinedOutput() //nolint:gosec // the paths are the test's
			if err == nil {
				break
			}
			if !strings.Contains(string(out), "replaced while being copied") { // which docs/counting.md tells
				t.Fatalf("%v: %s", err, out)
			}
		}
		restored := filepath.Join(t.TempDir(), "restored.db")
		b, err := os.ReadFile(backup) //nolint:gosec // the path is the test's
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(restored, b, 0o600); err != nil { //nolint:gosec // the path is the test's
			t.Fatal(err)
		}
		other := l.watch(t, restored) // it would not start with a damaged one
		other.scrape(t).want(t, statePersistent, 1)
		other.signal(t, os.Interrupt)
		if code := other.exit(t); code != 0 {
			t.Fatalf("exit code %d", code)
		}
	}
	cancel()
	<-scraped
	stop()
	other := l.watch(t, backup)
	other.scrape(t)
	l.wantAll(t, other.scrape(t))
}

// TestDiskFull lets the ledger hit a limit of its size while it runs: scrapes
// and counters go on, a metric and one line say that nothing is kept, and once
// there is room all of it is.
func TestDiskFull(t *testing.T) {
	l := newLogins(t, ncptest.NewestFirst)
	state := filepath.Join(t.TempDir(), "ledger.db")
	e := l.watch(t, state)
	limit := func(bytes string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), tool(t, "prlimit"), "--pid", strconv.Itoa(e.cmd.Process.Pid), "--fsize="+bytes+":unlimited").CombinedOutput() //nolint:gosec // the program is the test's
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	l.login()
	e.scrape(t).want(t, statePersistent, 1)
	limit("1")
	for range 3 {
		l.login()
		s := e.scrape(t)
		s.want(t, statePersistent, 0)
		s.want(t, success(externalAccess), 1)
		l.wantAll(t, s)
	}
	limit("unlimited")
	l.login()
	s := e.scrape(t)
	s.want(t, statePersistent, 1)
	l.wantAll(t, s)
	for pattern, want := range map[string]int{`level=error .*cannot be written`: 1, `level=info .*can be written again`: 1} {
		if got := len(regexp.MustCompile(pattern).FindAllString(e.out.String(), -1)); got != want {
			t.Errorf("%d lines match %s, want %d", got, pattern, want)
		}
	}
	// All of it is on disk: NCP has dropped everything, and the counts are still there.
	e.signal(t, os.Kill)
	_ = e.exit(t)
	for _, id := range l.subjects {
		l.TrimCredentials(id, 0)
	}
	l.wantAll(t, l.watch(t, state).scrape(t))
}

// TestStateFiles is what can be wrong with the file at the start.
func TestStateFiles(t *testing.T) {
	l := newLogins(t, ncptest.NewestFirst)
	dir := t.TempDir()
	good := filepath.Join(dir, "good.db")
	e := l.watch(t, good)
	e.scrape(t)

	refused := func(state, want string) {
		t.Helper()
		p := start(t, demoKeys(), binary, "--web.listen-address=127.0.0.1:0", "--ncp.external-access.url="+l.ExternalAccessURL(),
			"--no-collector.certificate-manager", "--state.file="+state)
		if code := p.exit(t); code != 1 {
			t.Errorf("%s: exit code %d, want 1", state, code)
		}
		p.wait(t, regexp.MustCompile("level=error .*--state.file.*"+regexp.QuoteMeta(state)+".*"+want))
	}
	refused(good, "another process has it open")
	e.signal(t, os.Interrupt)
	_ = e.exit(t)

	b, err := os.ReadFile(good) //nolint:gosec // the path is the test's
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"junk.db": []byte("junk"), "short.db": b[:len(b)/2]} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(path, "it is damaged.*move it away")
		after, err := os.ReadFile(path) //nolint:gosec // the path is the test's
		if err != nil || string(after) != string(content) {
			t.Errorf("%s was changed (%v)", path, err)
		}
	}
	refused(filepath.Join(good, "below.db"), "it cannot be used")

	// The default file that cannot be used is a warning.
	blocked := t.TempDir()
	if err := os.WriteFile(filepath.Join(blocked, "data"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, //nolint:gosec // the program is the test's
		"--web.listen-address=127.0.0.1:0", "--no-collector.certificate-manager",
		"--ncp.external-access.url="+l.ExternalAccessURL())
	cmd.Dir = blocked
	p := startCmd(t, demoKeys(), cmd)
	p.wait(t, regexp.MustCompile(`level=warn .*default ledger file cannot be used`))
	exporter{p, "http://" + p.address(t)}.scrape(t).want(t, statePersistent, 0)
}
