//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

// TestFaults has each API fail in each way while the other one is well.
func TestFaults(t *testing.T) {
	n := simulate(t)
	// In the log, each scrape that fails has its line.
	e := watch(t, n, "--ncp.timeout=10s", "--ncp.max-retries=1", "--ncp.rate-limit=0", "--log.level=debug")
	e.scrape(t)
	// Something for the counters of Certificate Manager to count.
	n.certificateManager.AddChanges(ncptest.Change{OrderID: "500", CertificateID: 1, Status: ncptest.StatusOngoing})
	e.scrape(t).want(t, seriesName("ncp_certificate_manager_status_changes_total", map[string]string{"status": "ongoing"}), 1)

	always := func(h http.Handler) func(*testing.T, *ncptest.Server) {
		return func(_ *testing.T, s *ncptest.Server) { s.SetFault(ncptest.Always(h)) }
	}
	// What hangs is given up after this, and then asked for again.
	hasty := watch(t, n, "--ncp.timeout=1s", "--ncp.max-retries=1", "--ncp.rate-limit=0", "--log.level=debug")
	hasty.scrape(t)
	const patient, short = "20", "2" // the time of a scrape, in seconds; half a second of it is the offset
	for _, fault := range []struct {
		name    string
		begin   func(*testing.T, *ncptest.Server)
		timeout string
		said    string // what the log says of it
	}{
		{"HTTP 500", always(ncptest.GatewayError(500, "900", "Unexpected Error")), patient, "HTTP 500, code 900"},
		{"403 without a body", always(ncptest.EmptyForbidden()), patient, "HTTP 403"},
		{"another returnCode", always(ncptest.ReturnCode(200, "9999", "Internal error")), patient, "HTTP 200, code 9999"},
		{"HTML", always(ncptest.HTMLPage(200)), patient, "the answer is not what this API documents"},
		{"cut short", always(ncptest.CutShort()), patient, "unexpected EOF"},
		{"cut clean", always(ncptest.CutClean()), patient, "unexpected EOF"},
		{"200 MB", always(ncptest.Huge(200 << 20)), patient, "the answer is too large to be right"},
		{"200 MB in gzip", always(ncptest.GzipBomb(200 << 20)), patient, "the answer is too large to be right"},
		{"no returnCode", always(ncptest.Raw(200, "application/json", `{"returnMessage":"Success","orders":[]}`)), patient, "the answer (has no returnCode|is not a page)"},
		{"an empty object", always(ncptest.Raw(200, "application/json", "{}")), patient, "the answer (has no returnCode|is not a page)"},
		{"hangs", always(ncptest.Hang()), short, "NCP did not answer in time"},
		{"drips", always(ncptest.Drip()), short, "NCP did not answer in time"},
		{"resets", always(ncptest.Reset()), patient, "connection reset"},
		{"refused", func(t *testing.T, s *ncptest.Server) {
			t.Helper()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}, patient, "connection refused"},
	} {
		for _, api := range []struct {
			name   string
			server *ncptest.Server
			other  string
		}{
			{certificateManager, n.certificateManager, externalAccess},
			{externalAccess, n.externalAccess, certificateManager},
		} {
			t.Run(fault.name+"/"+api.name, func(t *testing.T) {
				e := e
				if fault.timeout == short {
					e = hasty
				}
				before := e.scrape(t)
				before.want(t, success(certificateManager), 1)
				before.want(t, success(externalAccess), 1)
				logged := len(e.out.String())

				fault.begin(t, api.server)
				during := e.scrape(t, "X-Prometheus-Scrape-Timeout-Seconds", fault.timeout) // HTTP 200, or it fails
				during.want(t, success(api.name), 0)
				during.want(t, success(api.other), 1)
				checkFault(t, before, during, api.name, api.other)
				// The line comes when the update has ended, which is soon after the scrape
				// if that ran out of time. One of its kind may have come in this minute.
				e.waitAfter(t, logged, `level=(?:warn|debug) [^\n]*collector=`+api.name+` msg="Collector failed" [^\n]*`+fault.said)

				if fault.name == "refused" {
					if err := api.server.Start(); err != nil {
						t.Fatal(err)
					}
				}
				api.server.SetFault(nil)
				after := e.scrape(t)
				if fault.timeout == short { // it may have joined what still hung
					after = e.scrape(t)
				}
				after.want(t, success(certificateManager), 1)
				after.want(t, success(externalAccess), 1)
				checkCounters(t, during, after)
				checkSame(t, before, after, func(name string) bool {
					return strings.HasPrefix(name, "ncp_") && !strings.HasPrefix(name, "ncp_api_") && name != "ncp_scrape_collector_duration_seconds"
				})
				e.waitAfter(t, logged, `level=(?:info|debug) [^\n]*collector=`+api.name+` msg="Collector recovered"`)
				said := goodScrape.ReplaceAllString(e.out.String()[logged:], "")
				if strings.Contains(said, "collector="+api.other) {
					t.Errorf("the collector that is well is talked about: %s", said)
				}
				if strings.Contains(said, "bug in ncp_exporter") {
					t.Errorf("a panic: %s", said)
				}
			})
		}
	}
	t.Logf("resident at most: %d KiB", memory(t, e.process, "VmHWM"))
	if n.certificateManager.Unsigned()+n.externalAccess.Unsigned() > 0 {
		t.Error("requests without a good signature")
	}
}

// goodScrape is what the log says, at level debug, of a collector that read everything.
var goodScrape = regexp.MustCompile(`(?m)^level=debug .* msg="Collector read everything" .*\n`)

// checkFault looks at a scrape during which one API failed.
func checkFault(t *testing.T, before, during scrape, failing, other string) {
	t.Helper()
	checkCounters(t, before, during)
	checkSame(t, before, during, func(name string) bool { return strings.HasPrefix(name, "ncp_"+other+"_") })
	for series, is := range during {
		if strings.HasPrefix(series, "ncp_"+failing+"_") && !is.grows {
			t.Errorf("a stale lie: %s is %v", series, is.value)
		}
		if _, there := before[series]; !there && strings.HasPrefix(series, "ncp_") && !strings.HasPrefix(series, "ncp_api_requests_total{") {
			t.Errorf("a fault brought %s", series)
		}
	}
}

// checkSame wants the series of some names as they were.
func checkSame(t *testing.T, before, after scrape, names func(string) bool) {
	t.Helper()
	for series, was := range before {
		name, _, _ := strings.Cut(series, "{")
		if !names(name) || strings.Contains(name, "_refresh_") || strings.HasSuffix(name, "_last_success_timestamp_seconds") {
			continue
		}
		if is, there := after[series]; !there || is != was {
			t.Errorf("%s was %v and is %v (there: %t)", series, was.value, is.value, there)
		}
	}
}

// checkCounters wants all counters of the earlier scrape in the later one, and
// none of them lower.
func checkCounters(t *testing.T, earlier, later scrape) {
	t.Helper()
	for series, was := range earlier {
		if is, there := later[series]; was.grows && (!there || is.value < was.value) {
			t.Errorf("the counter %s went from %v to %v (there: %t)", series, was.value, is.value, there)
		}
	}
}

// waitAfter waits for what the process says after the first so many bytes.
func (p *process) waitAfter(t *testing.T, logged int, pattern string) {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	eventually(t, "a line that matches "+pattern, func() error {
		if text := p.out.String(); len(text) < logged || !expression.MatchString(text[logged:]) {
			return errNotYet
		}
		return nil
	})
}

// memory reads a value in KiB from what the kernel knows of the process.
func memory(t testing.TB, p *process, name string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+) kB$`).FindSubmatch(status)
	if match == nil {
		t.Fatalf("no %s in %s", name, status)
	}
	n, err := strconv.Atoi(string(match[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
