//go:build e2e

// Package e2e tests the built binary on the wire: against simulated NCPs, real
// signals, a real Prometheus and a real Alertmanager. It is run by
//
//	go test -tags e2e ./e2e/
package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"ncp_exporter/ncpclient/ncptest"
)

var update = flag.Bool("update", false, "rewrite testdata/metrics.golden") //nolint:gochecknoglobals // flags of tests are

// binary is the program, built as it is released.
var binary string //nolint:gochecknoglobals // made once, by TestMain

func TestMain(m *testing.M) {
	flag.Parse()
	if file := os.Getenv(bareVariable); file != "" {
		os.Exit(serveBare(file))
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ncp_exporter-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // a directory for temporary things
	binary = filepath.Join(dir, "ncp_exporter")
	build := exec.CommandContext(context.Background(), //nolint:gosec // the paths are ours
		"go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "ncp_exporter",
	)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// bound ends every wait.
const bound = 30 * time.Second

// tool finds a program that the tests need.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not there (apt-get update && apt-get install -y prometheus prometheus-alertmanager chromium): %v", name, err)
	}
	return path
}

// process is a program that runs until the test ends.
type process struct {
	cmd   *exec.Cmd
	out   *lines // stdout and stderr
	begun time.Time
	ended chan struct{} // closed when it has ended
}

// start starts a program. Nothing of the environment is handed on but PATH.
func start(t testing.TB, env []string, name string, args ...string) *process {
	t.Helper()
	return startCmd(t, env, exec.CommandContext(t.Context(), name, args...)) //nolint:gosec // programs of the tests
}

func startCmd(t testing.TB, env []string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, out: newLines(), ended: make(chan struct{})}
	if p.cmd.Dir == "" {
		p.cmd.Dir = t.TempDir() // for the ledger, among others
	}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	if p.cmd.Stderr == nil { // else nothing of it is waited for
		p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	}
	p.begun = time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // ProcessState tells
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.ended
		if t.Failed() {
			said := p.out.String()
			t.Logf("%s said at last:\n%s", strings.Join(cmd.Args, " "), said[max(0, len(said)-4000):])
		}
	})
	return p
}

// exit waits for the end and gives the exit code; -1 is the end by a signal.
func (p *process) exit(t testing.TB) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(bound):
		t.Fatal("the process does not end")
		return -1
	}
}

func (p *process) signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// address waits for the line of the toolkit that says where it listens.
func (p *process) address(t testing.TB) string {
	t.Helper()
	return p.wait(t, regexp.MustCompile(`msg="Listening on" .*address=(127\.0\.0\.1:\d+)`))[1]
}

// wait waits for a line and gives its submatches.
func (p *process) wait(t testing.TB, expression *regexp.Regexp) []string {
	t.Helper()
	deadline := time.After(bound)
	ended := p.ended
	for {
		text, more := p.out.state()
		if match := expression.FindStringSubmatch(text); match != nil {
			return match
		}
		if ended == nil {
			t.Fatalf("the process ended without a line that matches %s", expression)
		}
		select {
		case <-more:
		case <-ended:
			ended = nil
		case <-deadline:
			t.Fatalf("no line matches %s", expression)
		}
	}
}

// lines is a Writer that can be waited for.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed and replaced at each write
}

func newLines() *lines { return &lines{more: make(chan struct{})} }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.text.Write(b)
}

func (l *lines) state() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String(), l.more
}

func (l *lines) String() string {
	text, _ := l.state()
	return text
}

// ncp is a simulated NCP for each API, so that one can fail alone.
type ncp struct{ certificateManager, externalAccess *ncptest.Server }

func (n ncp) args() []string {
	return []string{
		"--ncp.certificate-manager.url=" + n.certificateManager.CertificateManagerURL(),
		"--ncp.external-access.url=" + n.externalAccess.ExternalAccessURL(),
	}
}

func simulate(t testing.TB) ncp {
	t.Helper()
	n := ncp{ncptest.New(ncptest.Config{}), ncptest.New(ncptest.Config{FrozenLastSeen: true})}
	for _, s := range []*ncptest.Server{n.certificateManager, n.externalAccess} {
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
	}
	furnish(n)
	return n
}

// furnish fills the account that all tests here watch: fixed, and in the past.
func furnish(n ncp) {
	n.certificateManager.SetChanges(
		ncptest.Change{OrderID: "410", CertificateID: 55991, Status: ncptest.StatusNormal},
		ncptest.Change{OrderID: "410", CertificateID: 55992, Status: " ONGOING "},
		ncptest.Change{OrderID: "411", CertificateID: 55992, Status: ncptest.StatusNormal}, // another order's
		ncptest.Change{OrderID: "412", CertificateID: 56001, Status: ncptest.StatusNormal},
		ncptest.Change{OrderID: "412", CertificateID: 56001, Status: "validation TIMED OUT"}, // the same, worse
		ncptest.Change{OrderID: "412", CertificateID: 56001, Status: ncptest.StatusOngoing},
		ncptest.Change{OrderID: "413", CertificateID: 56002, Status: ncptest.StatusNormal},
		ncptest.Change{OrderID: "413", CertificateID: 56002, Status: ncptest.StatusNormal}, // the same again
		ncptest.Change{OrderID: "414", CertificateID: 9007199254740993, Status: "Revoked"},
		ncptest.Change{OrderID: "415", CertificateID: 56003, Status: ""},
	)
	n.certificateManager.SetCertificates(
		ncptest.Certificate{No: 41207, Name: "www", CommonName: "www.example.com", StatusCode: "1", NotAfter: "2025-12-31 09:00:00", Used: []string{"lb-1"}},
		ncptest.Certificate{No: 9007199254740993, Name: "상점", CommonName: "*.shop.example.com", StatusCode: "2", NotAfter: "2025-12-31T09:00:00.000+0900"},
		ncptest.Certificate{No: 40011, StatusCode: "-2", NotAfter: "1767139200000"},
		ncptest.Certificate{No: 40012, StatusCode: "-6", NotAfter: "2020-01-01"},
		ncptest.Certificate{No: 40013, StatusCode: "7", NotAfter: "31 December"},
	)
	n.externalAccess.SetTrustAnchors(
		ncptest.TrustAnchor{ID: "anchor-1", Name: "issuing \"CA\"", Enabled: true, NotAfter: "2034-12-31T18:09:05.705+09:00", CRLs: []ncptest.CRL{{Enabled: true, NextUpdate: "2025-01-01"}}},
		ncptest.TrustAnchor{ID: "anchor-2", Name: "발급", NotAfter: "some day"},
	)
	const busy, mixed, disabled, broken, odd = "0a1b2c3d-busy", "1a1b2c3d-mixed", "2a1b2c3d-disabled", "3a1b2c3d-broken", "4a1b2c3d-odd"
	n.externalAccess.PutSubject(ncptest.Subject{SubjectID: busy, X509Subject: "CN=busy, OU=Platform, C=KR", Enabled: true, LastSeenTime: "2024-12-12T18:09:05.705+09:00"})
	n.externalAccess.PutSubject(ncptest.Subject{SubjectID: mixed, X509Subject: "CN=mixed", Enabled: true, LastSeenTime: "2024-12-13T09:00:00Z"})
	n.externalAccess.PutSubject(ncptest.Subject{SubjectID: disabled, X509Subject: "CN=disabled", LastSeenTime: "2024-11-01T00:00:00.000+0900"})
	n.externalAccess.PutSubject(ncptest.Subject{SubjectID: broken, X509Subject: "CN=broken", Enabled: true})
	n.externalAccess.PutSubject(ncptest.Subject{SubjectID: odd, X509Subject: "CN=\"소나무\", O=back\\slash,\nL=line", Enabled: true, LastSeenTime: "no time"})

	at := time.Date(2024, 12, 12, 9, 0, 0, 0, time.UTC)
	for i := range 250 { // over more than one page; every 25th failed
		n.externalAccess.AddCredentials(busy, ncptest.NewCredential(at.Add(time.Duration(i)*time.Minute), "5"+strconv.Itoa(i), i%25 == 0))
	}
	newest := ncptest.NewCredential(at.Add(249*time.Minute), "99", false)
	newest.X509CertificateData = ncptest.NewCertificate(99, at, at.AddDate(0, 3, 0))
	n.externalAccess.RemoveCredentials(busy, func(c ncptest.Credential) bool { return c.SerialNumber == "5249" })
	n.externalAccess.AddCredentials(busy, newest)
	unknown := ncptest.NewCredential(at.Add(3*time.Hour), "63", false)
	unknown.Failed = nil
	n.externalAccess.AddCredentials(mixed,
		ncptest.NewCredential(at.Add(time.Hour), "61", false),
		ncptest.NewCredential(at.Add(2*time.Hour+500*time.Millisecond), "62", true),
		ncptest.NewCredential(at.Add(2*time.Hour+500*time.Millisecond), "62", true),  // the same row twice
		ncptest.NewCredential(at.Add(2*time.Hour+500*time.Millisecond), "62", false), // another: it succeeded
		unknown,
	)
	n.externalAccess.AddCredentials(disabled, ncptest.NewCredential(at.Add(-1000*time.Hour), "70", true))
	n.externalAccess.AddCredentials(broken,
		ncptest.Credential{SerialNumber: "80", SeenTime: ""},
		ncptest.Credential{SerialNumber: "81", SeenTime: "yesterday"},
		ncptest.Credential{Raw: []byte(`"not a row"`)},
		ncptest.NewCredential(time.Date(2150, 1, 1, 0, 0, 0, 0, time.UTC), "82", true), // ahead of NCP's clock
		ncptest.NewCredential(at, "83", false),
	)
}

func demoKeys() []string {
	return []string{"NCLOUD_ACCESS_KEY_ID=" + ncptest.DemoAccessKey, "NCLOUD_SECRET_ACCESS_KEY=" + ncptest.DemoSecretKey}
}

// exporter is the binary at work.
type exporter struct {
	*process
	url string
}

// watch starts the binary against a simulated NCP.
func watch(t testing.TB, n ncp, args ...string) exporter {
	t.Helper()
	return launch(t, demoKeys(), append(n.args(), args...)...)
}

func launch(t testing.TB, env []string, args ...string) exporter {
	t.Helper()
	p := start(t, env, binary, append([]string{"--web.listen-address=127.0.0.1:0"}, args...)...)
	return exporter{p, "http://" + p.address(t)}
}

// client follows no redirect, and keeps no connection that would hold up a stop.
func client() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type answer struct {
	status int
	header http.Header
	body   string
}

func get(ctx context.Context, url string, header ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client().Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body)}, err
}

// metrics gets the metrics as they are.
func (e exporter) metrics(t testing.TB, header ...string) answer {
	t.Helper()
	a, err := get(t.Context(), e.url+"/metrics", header...)
	if err != nil || a.status != http.StatusOK {
		t.Fatalf("/metrics: HTTP %d, %v: %s", a.status, err, a.body)
	}
	return a
}

// scrape gets the metrics and takes them apart.
func (e exporter) scrape(t testing.TB, header ...string) scrape {
	t.Helper()
	return parse(t, e.metrics(t, header...).body)
}

// scrape is the samples of a scrape by series, as seriesName writes it.
type scrape map[string]sample

type sample struct {
	value float64
	// grows is set for counters, and for what histograms are made of.
	grows bool
}

func parse(t testing.TB, text string) scrape {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("not in the text format: %v\n%s", err, text)
	}
	s := make(scrape)
	for name, family := range families {
		for _, m := range family.GetMetric() {
			labels := make(map[string]string)
			for _, pair := range m.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				s[seriesName(name, labels)] = sample{m.GetCounter().GetValue(), true}
			case dto.MetricType_HISTOGRAM:
				h := m.GetHistogram()
				s[seriesName(name+"_sum", labels)] = sample{h.GetSampleSum(), true}
				s[seriesName(name+"_count", labels)] = sample{float64(h.GetSampleCount()), true}
				for _, b := range h.GetBucket() {
					labels["le"] = formatFloat(b.GetUpperBound())
					s[seriesName(name+"_bucket", labels)] = sample{float64(b.GetCumulativeCount()), true}
				}
			case dto.MetricType_SUMMARY: // of Go's runtime
			default:
				s[seriesName(name, labels)] = sample{m.GetGauge().GetValue() + m.GetUntyped().GetValue(), false}
			}
		}
	}
	return s
}

func seriesName(name string, labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for label, value := range labels {
		if value == "" { // the same as no label
			continue
		}
		if label == "le" { // 1 is 1.0 in OpenMetrics
			if bucket, err := strconv.ParseFloat(value, 64); err == nil {
				value = formatFloat(bucket)
			}
		}
		pairs = append(pairs, label+"="+strconv.Quote(value))
	}
	slices.Sort(pairs)
	return name + "{" + strings.Join(pairs, ",") + "}"
}

func formatFloat(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func (s scrape) want(t testing.TB, series string, value float64) {
	t.Helper()
	if got, ok := s[series]; !ok || got.value != value {
		t.Errorf("%s is %v (there: %t), want %v", series, got.value, ok, value)
	}
}

func (s scrape) names() []string {
	names := make([]string, 0, len(s))
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func success(collector string) string {
	return seriesName("ncp_scrape_collector_success", map[string]string{"collector": collector})
}

const (
	certificateManager = "certificate_manager"
	externalAccess     = "external_access"
)

// eventually waits for what no channel tells.
func eventually(t testing.TB, what string, happened func() error) {
	t.Helper()
	deadline := time.Now().Add(2 * bound)
	for {
		err := happened()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

var errNotYet = errors.New("not yet")

// anyAddress is address in both formats of the log.
func (p *process) anyAddress(t *testing.T, format string) string {
	t.Helper()
	if format == "json" {
		return p.wait(t, regexp.MustCompile(`"address":"(127\.0\.0\.1:\d+)"[^\n]*"msg":"Listening on"`))[1]
	}
	return p.address(t)
}
