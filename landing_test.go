package main

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/version"

	"ncp_exporter/ncpclient/ncptest"
)

func TestLandingPage(t *testing.T) {
	p := watch(t, simulate(t, ncptest.Config{}), "--web.telemetry-path=/ncp/")
	page := p.get("/")
	if page.status != http.StatusOK || !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") {
		t.Fatalf("HTTP %d, %s", page.status, page.header.Get("Content-Type"))
	}
	for _, want := range []string{`href="/ncp"`, `href="/-/healthy"`, `href="/-/ready"`, "NCP exporter", version.Version} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the landing page does not show %q", want)
		}
	}
	for _, link := range regexp.MustCompile(`href="([^"]+)"`).FindAllStringSubmatch(page.body, -1) {
		if a := p.get(link[1]); a.status != http.StatusOK {
			t.Errorf("the link %s leads to HTTP %d", link[1], a.status)
		}
	}
	if a := p.get("/metrics"); a.status != http.StatusNotFound {
		t.Errorf("/metrics with another telemetry path: HTTP %d", a.status)
	}
}

// TestLandingPageTells goes through what there is to tell, and wants each thing
// in words, and nothing that was asked of NCP for it.
func TestLandingPageTells(t *testing.T) {
	ncp := simulate(t, ncptest.Config{})
	p := watch(t, ncp, "--ncp.max-retries=0")
	tells := func(what string, words ...string) {
		t.Helper()
		text := p.get("/").body
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("%s: the page does not tell %q:\n%s", what, w, text)
			}
		}
	}
	tells("before the first scrape", "Nothing was asked yet", "not asked yet", "/metrics")
	if n := len(ncp.Requests()); n != 0 {
		t.Errorf("the page asked NCP %d times", n)
	}

	p.scrape()
	tells("well", "All is well", "all read", "subject-1", "CN=one", ">well<")
	asked := len(ncp.Requests())

	ncp.AddCredentials("subject-1", ncptest.NewCredential(time.Now(), "9", true))
	ncp.SetChanges(ncptest.Change{OrderID: "410", CertificateID: 55991, Status: ncptest.StatusValidationTimedOut})
	tells("not scraped yet", "All is well")
	p.scrape()
	tells("wrong", "Look here", "The validation of 1 certificate timed out: 55991 of order 410.",
		"1 subject failed to log in within the last hour", "failed lately")

	ncp.SetFault(ncptest.FirstOf(
		ncptest.ForOp(ncptest.RecentChanges, ncptest.EmptyForbidden()),
		ncptest.ForSubject("subject-1", ncptest.GatewayError(500, "900", "Unexpected Error")),
	))
	p.scrape()
	tells("failing", "failing", "HTTP 403", "main account", "not read", "HTTP 500, code 900", "Not known")

	ncp.SetFault(nil)
	p.scrape()
	tells("well again", "all read", "HTTP 403") // the last error stays, with its time
	if got := len(ncp.Requests()); got != asked+3*asked {
		t.Errorf("%d requests after four scrapes, want four times the %d of the first: the page asks nothing", got, asked)
	}
}

// TestLandingPageOfStrangers has names that would be more than text.
func TestLandingPageOfStrangers(t *testing.T) {
	ncp := simulate(t, ncptest.Config{})
	const evil = `CN=</span><script>alert(1)</script><img src=x onerror=alert(1)>"'{{.}}`
	ncp.PutSubject(ncptest.Subject{SubjectID: "evil", X509Subject: evil + "\xff\u202e" + strings.Repeat("A", 5000), Enabled: true})
	ncp.SetChanges(ncptest.Change{OrderID: `"><script>`, CertificateID: 1, Status: ncptest.StatusValidationTimedOut})
	p := watch(t, ncp)
	p.scrape()
	page := p.get("/")
	for _, tag := range []string{"<script", "<img", "onerror=alert(1)>"} {
		if strings.Contains(page.body, tag) {
			t.Errorf("the page holds %s", tag)
		}
	}
	if !strings.Contains(page.body, "&lt;script&gt;alert(1)") || strings.Count(page.body, "A") > 3000 {
		t.Error("the name is not shown as text, or at any length")
	}
	if csp := page.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "script-src") {
		t.Errorf("the policy is %q", csp)
	}
}

// TestLandingPageIsBounded has more subjects than anybody reads.
func TestLandingPageIsBounded(t *testing.T) {
	ncp := simulate(t, ncptest.Config{})
	for i := range 150 {
		ncp.PutSubject(ncptest.Subject{SubjectID: fmt.Sprintf("many-%03d", i), Enabled: true})
	}
	ncp.AddCredentials("many-149", ncptest.NewCredential(time.Now(), "1", true))
	p := watch(t, ncp, "--ncp.rate-limit=0")
	p.scrape()
	page := p.get("/")
	if n := strings.Count(page.body, `data-label="Subject"`); n != 100 {
		t.Errorf("%d subjects are shown, want 100", n)
	}
	if !strings.Contains(page.body, "more: see the metrics") || !strings.Contains(page.body, "many-149") {
		t.Error("the page does not say that there are more, or leaves out the one that fails")
	}
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "now", 0: "now", 59 * time.Second: "59 s ago", 119 * time.Second: "119 s ago", 2 * time.Minute: "2 min ago",
		119 * time.Minute: "119 min ago", 2 * time.Hour: "2 h ago", 47 * time.Hour: "47 h ago", 48 * time.Hour: "2 days ago",
	} {
		if got := ago(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}
