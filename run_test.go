package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

// down are addresses of an NCP at which nobody listens.
func down(t *testing.T) []string {
	t.Helper()
	ncp := ncptest.New(ncptest.Config{})
	if err := ncp.Start(); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--ncp.certificate-manager.url=" + ncp.CertificateManagerURL(),
		"--ncp.external-access.url=" + ncp.ExternalAccessURL(),
		"--ncp.max-retries=0",
	}
	if err := ncp.Close(); err != nil {
		t.Fatal(err)
	}
	return args
}

func TestScrape(t *testing.T) {
	p := watch(t, simulate(t, ncptest.Config{}))
	s := p.scrape()
	s.want(t, success(certificateManager), "1")
	s.want(t, success(externalAccess), "1")
	s.want(t, `ncp_certificate_manager_recently_changed_certificates{status="ongoing"}`, "1")
	s.want(t, `ncp_external_access_credential_authentications_total{result="failure",subject_id="subject-1"}`, "1")
	if code := p.stopped(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestDemo(t *testing.T) {
	p := launch(t, nil, "--demo") // without keys
	where := p.logs.wait(t, regexp.MustCompile(`(?m)^level=info .*Demo: .* (http://127\.0\.0\.1:\d+/metrics)"$`))[1]
	if where != p.url+"/metrics" {
		t.Errorf("the log says that the metrics are at %s, but they are at %s/metrics", where, p.url)
	}
	s := p.scrape()
	s.want(t, success(certificateManager), "1")
	s.want(t, success(externalAccess), "1")
	if s["ncp_external_access_subjects"] == "" || s["ncp_external_access_subjects"] == "0" {
		t.Error("the demo has no subjects")
	}
}

func TestPaths(t *testing.T) {
	for name, args := range map[string][]string{
		"NCP up":   {"--ncp.max-retries=0"},
		"NCP down": down(t),
	} {
		t.Run(name, func(t *testing.T) {
			p := watch(t, simulate(t, ncptest.Config{}))
			if name == "NCP down" {
				p = launch(t, demoKeys(), args...)
			}
			for _, test := range []struct {
				method, path string
				status       int
			}{
				{http.MethodGet, "/metrics", 200},
				{http.MethodHead, "/metrics", 200},
				{http.MethodGet, "/-/healthy", 200},
				{http.MethodGet, "/-/ready", 200},
				{http.MethodGet, "/", 200},
				{http.MethodGet, "/metrics/", 404},
				{http.MethodGet, "/metrics/x", 404},
				{http.MethodGet, "/-/", 404},
				{http.MethodGet, "/-/quit", 404},
				{http.MethodGet, "/favicon.ico", 404},
				{http.MethodGet, "/debug/pprof/", 404},
				{http.MethodPost, "/nowhere", 404},
				{http.MethodPost, "/metrics", 405},
				{http.MethodPut, "/-/healthy", 405},
				{http.MethodPost, "/-/ready", 405},
				{http.MethodDelete, "/", 405},
			} {
				if a := request(t, plain(), test.method, p.url+test.path); a.status != test.status {
					t.Errorf("%s %s: HTTP %d, want %d", test.method, test.path, a.status, test.status)
				}
			}
			want := "1"
			if name == "NCP down" {
				want = "0"
			}
			s := p.scrape()
			s.want(t, success(certificateManager), want)
			s.want(t, success(externalAccess), want)
		})
	}
}

func TestCollectFilter(t *testing.T) {
	ncp := simulate(t, ncptest.Config{})
	p := watch(t, ncp)
	for _, test := range []struct {
		query, with, without string
	}{
		{"?collect[]=" + certificateManager, certificateManager, externalAccess},
		{"?collect%5B%5D=" + externalAccess, externalAccess, certificateManager},
	} {
		s := parseSeries(t, p.get("/metrics"+test.query).body)
		s.want(t, success(test.with), "1")
		s.want(t, success(test.without), "")
		for name := range s {
			if strings.HasPrefix(name, "ncp_"+test.without) {
				t.Errorf("%s shows %s", test.query, name)
			}
		}
		s.want(t, "ncp_exporter_state_persistent", "1")
	}
	if n := ncp.Count(ncptest.RecentChanges); n != 1 {
		t.Errorf("Certificate Manager was asked %d times, want once", n)
	}
	ncp.ResetStats()
	a := p.get("/metrics?collect[]=" + externalAccess + "&collect[]=nonsense%0A<b>")
	if a.status != http.StatusBadRequest {
		t.Errorf("an unknown collector: HTTP %d", a.status)
	}
	for _, want := range []string{"nonsense", certificateManager, externalAccess} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the answer does not tell %q: %s", want, a.body)
		}
	}
	if !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") || strings.Count(a.body, "\n") != 1 {
		t.Errorf("an answer of %s: %q", a.header.Get("Content-Type"), a.body)
	}
	if n := len(ncp.Requests()); n != 0 {
		t.Errorf("NCP was asked %d times for a request that was refused", n)
	}
	both := p.scrape()
	both.want(t, success(certificateManager), "1")
	both.want(t, success(externalAccess), "1")
}

// TestScrapeTimeout would take an hour if the header of the request, or the
// default of the flag, were not heeded.
func TestScrapeTimeout(t *testing.T) {
	for name, test := range map[string]struct {
		args   []string
		header []string
	}{
		"header":                       {[]string{"--scrape.timeout=1h"}, []string{"X-Prometheus-Scrape-Timeout-Seconds", "0.3"}},
		"flag":                         {[]string{"--scrape.timeout=1s"}, nil},
		"flag, as the header is wrong": {[]string{"--scrape.timeout=1s"}, []string{"X-Prometheus-Scrape-Timeout-Seconds", "soon"}},
	} {
		t.Run(name, func(t *testing.T) {
			ncp := simulate(t, ncptest.Config{})
			p := watch(t, ncp, append(test.args, "--ncp.timeout=1h")...)
			p.scrape("X-Prometheus-Scrape-Timeout-Seconds", "60").want(t, success(externalAccess), "1")
			ncp.SetFault(ncptest.Always(ncptest.Hang()))
			s := p.scrape(test.header...)
			s.want(t, success(certificateManager), "0")
			s.want(t, success(externalAccess), "0")
			s.want(t, `ncp_external_access_credential_authentications_total{result="failure",subject_id="subject-1"}`, "1")
		})
	}
}
