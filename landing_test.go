package main

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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
	for _, want := range []string{`href="./ncp"`, `href="./-/healthy"`, `href="./-/ready"`, "NCP exporter", version.Version} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the landing page does not show %q", want)
		}
	}
	followLinks(t, p.url+"/", 4)
	if a := p.get("/metrics"); a.status != http.StatusNotFound {
		t.Errorf("/metrics with another telemetry path: HTTP %d", a.status)
	}
}

// followLinks follows the links of a page, and of those that they lead to: at least so
// many, all below the same path.
func followLinks(t *testing.T, first string, least int) {
	t.Helper()
	seen := map[string]bool{first: true}
	for pages := []string{first}; len(pages) > 0; pages = pages[1:] {
		page := request(t, plain(), http.MethodGet, pages[0])
		if page.status != http.StatusOK {
			t.Errorf("a link leads to %s: HTTP %d", pages[0], page.status)
		}
		at, err := url.Parse(pages[0])
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") {
			continue
		}
		for _, link := range regexp.MustCompile(`(?:href|src|action)="([^"]+)"`).FindAllStringSubmatch(page.body, -1) {
			to, err := at.Parse(html.UnescapeString(link[1]))
			if err != nil || !strings.HasPrefix(to.String(), first) {
				t.Errorf("%s links to %s (%v), which is not below %s", at, link[1], err, first)
			} else if !seen[to.String()] {
				seen[to.String()], pages = true, append(pages, to.String())
			}
		}
	}
	if len(seen) < least {
		t.Errorf("only %d pages are linked, want %d", len(seen), least)
	}
}

// TestBehindAProxy wants the links of all pages right where a proxy serves the exporter
// below a path, which it does not know.
func TestBehindAProxy(t *testing.T) {
	for name, test := range map[string]struct {
		args  []string
		links int
	}{
		"one account":      {[]string{"--demo"}, 4},
		"another path":     {[]string{"--demo", "--web.telemetry-path=/m:x/y"}, 4},
		"several accounts": {[]string{"--demo", "--demo.accounts=2"}, 9},
	} {
		t.Run(name, func(t *testing.T) {
			p := launch(t, nil, test.args...)
			to, err := url.Parse(p.url)
			if err != nil {
				t.Fatal(err)
			}
			proxy := httptest.NewServer(http.StripPrefix("/monitoring/ncp", httputil.NewSingleHostReverseProxy(to)))
			defer proxy.Close()
			followLinks(t, proxy.URL+"/monitoring/ncp/", test.links)
		})
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
	// What goes on is blue, as on the dashboards: nothing is wrong yet.
	tells("well", "All is well", "all read", "subject-1", "CN=one", ">well<", `<span class="state info">ongoing</span>`)

	ncp.AddCredentials("subject-1", ncptest.NewCredential(time.Now(), "9", true))
	ncp.SetChanges(ncptest.Change{OrderID: "410", CertificateID: 55991, Status: ncptest.StatusValidationTimedOut})
	ncp.SetCertificates(ncptest.Certificate{No: 55991, Name: "login", CommonName: "login.example.com", StatusCode: "-4"})
	tells("not scraped yet", "All is well")
	p.scrape()
	tells("wrong", "Look here", "The validation of 1 certificate timed out: login.example.com (55991) of order 410.",
		`login.example.com<br><span class="id">55991</span>`,
		"1 subject failed to log in within the last hour", "failed lately", "serial number 9<", "issuer CN=QA_Root_CA, ")

	ncp.SetFault(ncptest.FirstOf(
		ncptest.ForOp(ncptest.RecentChanges, ncptest.EmptyForbidden()),
		ncptest.ForSubject("subject-1", ncptest.GatewayError(500, "900", "Unexpected Error")),
	))
	p.scrape()
	tells("failing", "failing", "HTTP 403", "main account", "not read", "HTTP 500, code 900", "Not known")

	ncp.SetFault(nil)
	p.scrape()
	tells("well again", "all read", "HTTP 403") // the last error stays, with its time
	asked := len(ncp.Requests())
	tells("again", "all read")
	if got := len(ncp.Requests()); got != asked {
		t.Errorf("the page asked NCP %d times", got-asked)
	}
}

// TestLandingPageIsNotWell goes through what keeps the page from saying that all
// is well though every collector read all.
func TestLandingPageIsNotWell(t *testing.T) {
	in := func(d time.Duration) string { return ncptest.FormatTime(time.Now().Add(d)) }
	certificate := func(status, notAfter string) func(*ncptest.Server) {
		return func(ncp *ncptest.Server) {
			ncp.SetCertificates(ncptest.Certificate{No: 41207, Name: "www", CommonName: "www.example.com", StatusCode: status, NotAfter: notAfter})
		}
	}
	crl := func(enabled bool, nextUpdate string) func(*ncptest.Server) {
		return func(ncp *ncptest.Server) {
			ncp.SetTrustAnchors(ncptest.TrustAnchor{ID: "anchor-1", Name: "ca", Enabled: enabled, NotAfter: "2045-12-31", CRLs: []ncptest.CRL{{Enabled: true, NextUpdate: nextUpdate}}})
		}
	}
	anchor := func(enabled bool, notAfter string) func(*ncptest.Server) {
		return func(ncp *ncptest.Server) {
			ncp.SetTrustAnchors(ncptest.TrustAnchor{ID: "anchor-1", Name: "ca", Enabled: enabled, NotAfter: notAfter})
		}
	}
	shows := func(notAfter time.Time) func(*ncptest.Server) {
		return func(ncp *ncptest.Server) {
			row := ncptest.NewCredential(time.Now().Add(-2*time.Hour), "3", false)
			row.X509CertificateData = ncptest.NewCertificate(3, notAfter.AddDate(-1, 0, 0), notAfter)
			ncp.AddCredentials("subject-1", row)
		}
	}
	const day = 24 * time.Hour
	for name, test := range map[string]struct {
		change func(*ncptest.Server)
		query  string // of the scrape
		want   []string
	}{
		"well":                           {func(*ncptest.Server) {}, "", []string{"All is well", ">expires in 89 days<"}},
		"certificate expired":            {certificate("1", in(-day)), "", []string{"Look here", "Expired: 1 certificate: www.example.com (41207) 24 h ago."}},
		"certificate expires soon":       {certificate("1", in(3*day)), "", []string{"Take note", "Expires soon: 1 certificate: www.example.com (41207) in 2 days."}},
		"certificate expires later":      {certificate("1", in(8*day)), "", []string{"All is well", ">expires in 7 days<"}},
		"certificate expired, deleted":   {certificate("-6", in(-day)), "", []string{"All is well"}},
		"trust anchor expired":           {anchor(true, in(-day)), "", []string{"Look here", "Expired: 1 trust anchor: ca (anchor-1) 24 h ago."}},
		"trust anchor expires soon":      {anchor(true, in(3*day)), "", []string{"Take note", "1 trust anchor: ca (anchor-1) in 2 days."}},
		"trust anchor expired, disabled": {anchor(false, in(-day)), "", []string{"All is well"}},
		"CRL expired":                    {crl(true, in(-day)), "", []string{"Look here", "Expired: 1 CRL: ca (anchor-1) 24 h ago.", ">CRL<"}},
		"CRL expires soon":               {crl(true, in(20*time.Hour)), "", []string{"Take note", "Expires soon: 1 CRL: ca (anchor-1) in 19 h."}},
		"CRL expires later":              {crl(true, in(30*time.Hour)), "", []string{"All is well", ">expires in 29 h<"}},
		"CRL expired, anchor disabled":   {crl(false, in(-day)), "", []string{"All is well"}},
		"client certificate expired":     {shows(time.Now().Add(-3*day - time.Hour)), "", []string{"Look here", "Expired: 1 client certificate: CN=one (subject-1) 3 days ago.", "<span>expired 3 days ago</span>"}},
		"client certificate soon":        {shows(time.Now().Add(3 * day)), "", []string{"Take note", "1 client certificate: CN=one (subject-1) in 2 days.", "<span>expires in 2 days</span>"}},
		"subject disabled": {
			func(ncp *ncptest.Server) {
				ncp.PutSubject(ncptest.Subject{SubjectID: "subject-2", X509Subject: "CN=two"})
			}, "",
			[]string{"Take note", "Disabled: 1 subject: CN=two (subject-2).", ">disabled<", `<span class="soft">not known</span>`},
		},
		"a disabled subject fails": {
			func(ncp *ncptest.Server) {
				ncp.PutSubject(ncptest.Subject{SubjectID: "subject-2", X509Subject: "CN=two"})
				ncp.AddCredentials("subject-2", ncptest.NewCredential(time.Now(), "5", true))
			}, "", []string{"Look here", "Disabled: 1 subject: CN=two (subject-2).", ">failed lately<"},
		},
		"expired things of each kind": {
			func(ncp *ncptest.Server) { anchor(true, in(-day))(ncp); certificate("1", in(-2*day))(ncp) }, "",
			[]string{"Expired: 1 certificate: www.example.com (41207) 2 days ago.", "Expired: 1 trust anchor: ca (anchor-1) 24 h ago."},
		},
		"one collector was not asked": {
			func(*ncptest.Server) {}, "?collect[]=" + certificateManager,
			[]string{"Take note", "Not read yet: external_access, certificate_inventory, external_access_trust_anchors."},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ncp := simulate(t, ncptest.Config{})
			certificate("1", in(90*day))(ncp)
			test.change(ncp)
			p := watch(t, ncp)
			p.get("/metrics" + test.query)
			page := p.get("/").body
			for _, want := range test.want {
				if !strings.Contains(page, want) {
					t.Errorf("the page does not tell %q:\n%s", want, page)
				}
			}
		})
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

// TestFirstReadIsTold has a history that no scrape reads whole: the page and the log
// say how far its first read is, until it has ended.
func TestFirstReadIsTold(t *testing.T) {
	ncp := simulate(t, ncptest.Config{})
	const rows = 25_000 // 5 s at the default rate
	at := time.Now()
	for i := range rows {
		ncp.AddCredentials("subject-1", ncptest.NewCredential(at.Add(-time.Duration(i)*time.Minute), "7", false))
	}
	p := watch(t, ncp)
	p.scrape("X-Prometheus-Scrape-Timeout-Seconds", "1")
	told := regexp.MustCompile(`Being read for the first time: 1 subject: CN=one \(subject-1\): \d+ %, about \d+s left\.`)
	for deadline := time.Now().Add(bound); ; p.scrape("X-Prometheus-Scrape-Timeout-Seconds", "0.1") {
		page := p.get("/").body
		if told.MatchString(page) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the page does not tell how far the read is:\n%s", page)
		}
	}
	p.logs.wait(t, regexp.MustCompile(`msg="A history is read for the first time[^\n]* subject_id=subject-1 progress="\d+ %, about \d+s left"`))
	p.logs.wait(t, regexp.MustCompile(`msg="A history was read for the first time" subject_id=subject-1 rows=25002 took=`))
	p.scrape().want(t, `ncp_external_access_credential_authentications_total{result="success",subject_id="subject-1"}`, "25001")
	if page := p.get("/").body; strings.Contains(page, "first time") {
		t.Errorf("the page tells of a read that has ended:\n%s", page)
	}
}
