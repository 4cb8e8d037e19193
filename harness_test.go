package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"ncp_exporter/ncpclient/ncptest"
)

func TestMain(m *testing.M) {
	// What the machine of the developer has set is none of the tests' business.
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "NCP_EXPORTER_") || strings.HasPrefix(name, "NCLOUD_") {
			_ = os.Unsetenv(name) // fails for names that cannot be set either
		}
	}
	goleak.VerifyTestMain(m)
}

// bound ends every wait of these tests: it is how long a broken program may take
// to be found broken, and no test that passes comes near it.
const bound = 30 * time.Second

// process is the program under test: one call of run.
type process struct {
	t    *testing.T
	url  string // of the server, without a path
	logs *lines
	stop context.CancelFunc
	code chan int
}

// env is an environment besides that of the process.
type env map[string]string

func (e env) lookup(name string) (string, bool) {
	if v, ok := e[name]; ok {
		return v, true
	}
	return os.LookupEnv(name)
}

func demoKeys() env {
	return env{"NCLOUD_ACCESS_KEY_ID": ncptest.DemoAccessKey, "NCLOUD_SECRET_ACCESS_KEY": ncptest.DemoSecretKey}
}

// launch runs the program until the test ends, on a free port of loopback.
func launch(t *testing.T, e env, args ...string) *process {
	t.Helper()
	t.Setenv("HOME", t.TempDir()) // no ~/.ncloud/configure but the test's
	ctx, stop := context.WithCancel(t.Context())
	p := &process{t: t, logs: newLines(), stop: stop, code: make(chan int, 1)}
	if !slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--state.file") }) {
		args = append(args, "--state.file="+filepath.Join(t.TempDir(), "ledger.db"))
	}
	args = append([]string{"--web.listen-address=127.0.0.1:0"}, args...)
	go func() {
		p.code <- run(ctx, args, e.lookup, io.Discard, p.logs)
		p.logs.end()
	}()
	t.Cleanup(func() { p.stopped() })
	listening := p.logs.wait(t, regexp.MustCompile(`address"?[=:]"?(127\.0\.0\.1:\d+)`)) // of the toolkit
	p.url = "http://" + listening[1]
	return p
}

// watch launches the program against a simulated NCP.
func watch(t *testing.T, ncp *ncptest.Server, args ...string) *process {
	t.Helper()
	return launch(t, demoKeys(), append([]string{
		"--ncp.certificate-manager.url=" + ncp.CertificateManagerURL(),
		"--ncp.external-access.url=" + ncp.ExternalAccessURL(),
	}, args...)...)
}

// stopped ends the program and gives its exit code.
func (p *process) stopped() int {
	p.t.Helper()
	p.stop()
	select {
	case code := <-p.code:
		p.code <- code // for whoever asks again
		return code
	case <-time.After(bound):
		p.t.Fatalf("the program did not end; it said:\n%s", p.logs)
		return -1
	}
}

// simulate starts a simulated NCP with a small account.
func simulate(t *testing.T, cfg ncptest.Config) *ncptest.Server {
	t.Helper()
	ncp := ncptest.New(cfg)
	if err := ncp.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ncp.Close(); err != nil {
			t.Error(err)
		}
	})
	at := time.Date(2024, 12, 12, 9, 0, 0, 0, time.UTC)
	ncp.SetChanges(ncptest.Change{OrderID: "410", CertificateID: 55991, Status: ncptest.StatusOngoing})
	ncp.PutSubject(ncptest.Subject{SubjectID: "subject-1", X509Subject: "CN=one", Enabled: true})
	newest := ncptest.NewCredential(at.Add(time.Minute), "2", true)
	newest.X509CertificateData = ncptest.NewCertificate(2, at, at.AddDate(21, 0, 0))
	ncp.AddCredentials("subject-1", ncptest.NewCredential(at, "1", false), newest)
	ncp.SetCertificates(ncptest.Certificate{No: 41207, Name: "www", CommonName: "www.example.com", StatusCode: "1", NotAfter: "2045-12-31 09:00:00", Used: []string{"lb-1"}})
	ncp.SetTrustAnchors(ncptest.TrustAnchor{
		ID: "anchor-1", Name: "ca", Enabled: true, NotAfter: "2045-12-31", CRLs: []ncptest.CRL{{Enabled: true, NextUpdate: "2045-01-01 00:00:00"}},
	})
	return ncp
}

// answer is what came back for a request.
type answer struct {
	status int
	header http.Header
	body   string
}

// request sends a request and reads all of the answer.
func request(t *testing.T, client *http.Client, method, url string, header ...string) answer {
	t.Helper()
	a, err := tryRequest(t.Context(), client, method, url, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func tryRequest(ctx context.Context, client *http.Client, method, url string, header ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // all of it was read
	return answer{status: resp.StatusCode, header: resp.Header, body: string(body)}, err
}

// plain is a client that keeps no connection open: none may hold up a shutdown.
func plain() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

func (p *process) get(path string, header ...string) answer {
	p.t.Helper()
	return request(p.t, plain(), http.MethodGet, p.url+path, header...)
}

// scrape gets the metrics and wants them to come.
func (p *process) scrape(header ...string) series {
	p.t.Helper()
	a := p.get("/metrics", header...)
	if a.status != http.StatusOK {
		p.t.Fatalf("/metrics: HTTP %d: %s", a.status, a.body)
	}
	return parseSeries(p.t, a.body)
}

// series is a scrape: values by series, which is a name with labels in the order
// in which they are written.
type series map[string]string

func parseSeries(t *testing.T, text string) series {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(text)); err != nil {
		t.Fatalf("not in the text format: %v\n%s", err, text)
	}
	s := make(series)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if cut := strings.LastIndexByte(line, ' '); cut > 0 && line[0] != '#' {
			s[line[:cut]] = line[cut+1:]
		}
	}
	return s
}

// want checks the value of a series; "" is that it must not be there.
func (s series) want(t *testing.T, name, value string) {
	t.Helper()
	if got := s[name]; got != value {
		t.Errorf("%s is %q, want %q", name, got, value)
	}
}

func success(collector string) string {
	return `ncp_scrape_collector_success{collector="` + collector + `"}`
}

const (
	certificateManager = "certificate_manager"
	externalAccess     = "external_access"
	inventory          = "certificate_inventory"
	trustAnchors       = "external_access_trust_anchors"
)

// lines is a Writer whose lines can be waited for.
type lines struct {
	mu    sync.Mutex
	text  bytes.Buffer
	more  chan struct{} // closed and replaced at each write
	ended bool
}

func newLines() *lines { return &lines{more: make(chan struct{})} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.text.Write(p)
}

// end says that no line will follow.
func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	close(l.more)
	l.more = make(chan struct{})
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// all are the whole lines so far.
func (l *lines) all() []string {
	var all []string
	for line := range strings.Lines(l.String()) {
		all = append(all, strings.TrimSuffix(line, "\n"))
	}
	return all
}

// count is how many lines match.
func (l *lines) count(pattern string) int {
	expression, n := regexp.MustCompile(pattern), 0
	for _, line := range l.all() {
		if expression.MatchString(line) {
			n++
		}
	}
	return n
}

// wait waits for a line and gives its submatches.
func (l *lines) wait(t *testing.T, expression *regexp.Regexp) []string {
	t.Helper()
	deadline := time.After(bound)
	for {
		l.mu.Lock()
		more, ended := l.more, l.ended
		match := expression.FindStringSubmatch(l.text.String())
		l.mu.Unlock()
		switch {
		case match != nil:
			return match
		case ended:
			t.Fatalf("the program ended without a line that matches %s; it said:\n%s", expression, l)
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("no line matches %s; there is:\n%s", expression, l)
		}
	}
}
