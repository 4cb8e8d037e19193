package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

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
		"flag":                         {[]string{"--scrape.timeout=300ms"}, nil},
		"flag, as the header is wrong": {[]string{"--scrape.timeout=300ms"}, []string{"X-Prometheus-Scrape-Timeout-Seconds", "soon"}},
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

func TestSites(t *testing.T) {
	const notWatched = `Certificate Manager is not watched.*site=`
	for name, test := range map[string]struct {
		env  env
		args []string
		off  string // the site that the log names; empty if Certificate Manager is on
		host string // of External Access
	}{
		"public":            {nil, nil, "", "https://externalaccess.apigw.ntruss.com/api/v1"},
		"gov":               {nil, []string{"--ncp.site=gov"}, "gov", "https://externalaccess.apigw.gov-ntruss.com/api/v1"},
		"fin":               {nil, []string{"--ncp.site=fin"}, "fin", "https://externalaccess.apigw.fin-ntruss.com/api/v1"},
		"gov of NCP":        {env{"NCLOUD_SITE": "gov"}, nil, "gov", "https://externalaccess.apigw.gov-ntruss.com/api/v1"},
		"flag before NCP's": {env{"NCLOUD_SITE": "gov"}, []string{"--ncp.site=public"}, "", "https://externalaccess.apigw.ntruss.com/api/v1"},
		"gov with URL":      {nil, []string{"--ncp.site=gov", "--ncp.certificate-manager.url=https://127.0.0.1:1/api/v2"}, "", "https://externalaccess.apigw.gov-ntruss.com/api/v1"},
		"gov, off by flag":  {nil, []string{"--ncp.site=gov", "--no-collector.certificate-manager"}, "silent", "https://externalaccess.apigw.gov-ntruss.com/api/v1"},
	} {
		t.Run(name, func(t *testing.T) {
			e := demoKeys()
			for name, value := range test.env {
				e[name] = value
			}
			p := launch(t, e, test.args...) // nothing is sent before the first scrape
			if n := p.logs.count(`Watching collector=external_access url=` + regexp.QuoteMeta(test.host) + ` `); n != 1 {
				t.Errorf("External Access is not watched at %s:\n%s", test.host, p.logs)
			}
			watched, off := p.logs.count(`Watching collector=certificate_manager `), p.logs.count(notWatched)
			switch test.off {
			case "":
				if watched != 1 || off != 0 {
					t.Errorf("Certificate Manager should be watched:\n%s", p.logs)
				}
			case "silent":
				if watched != 0 || off != 0 {
					t.Errorf("Certificate Manager should be off, and nothing said:\n%s", p.logs)
				}
			default:
				if watched != 0 || off != 1 || p.logs.count(notWatched+test.off+"$") != 1 {
					t.Errorf("Certificate Manager should be off, and one line should say so:\n%s", p.logs)
				}
			}
		})
	}
}

// TestTrustAnchorsAreOptional wants no call for them where they are not wanted.
func TestTrustAnchorsAreOptional(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		on   string
	}{
		"by default":      {nil, "1"},
		"off":             {[]string{"--no-collector.external-access.trust-anchors"}, ""},
		"another shard":   {[]string{"--shard=1", "--total-shards=2"}, ""},
		"shard 0":         {[]string{"--shard=0", "--total-shards=2"}, "1"},
		"nothing of them": {[]string{"--no-collector.external-access"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ncp := simulate(t, ncptest.Config{})
			s := watch(t, ncp, test.args...).scrape()
			s.want(t, success(trustAnchors), test.on)
			calls := ncp.Count(ncptest.TrustAnchors) + ncp.Count(ncptest.CRLs)
			if want := map[string]int{"1": 2, "": 0}[test.on]; calls != want {
				t.Errorf("%d calls, want %d", calls, want)
			}
			if (s["ncp_external_access_trust_anchor_enabled{name=\"ca\",trust_anchor_id=\"anchor-1\"}"] != "") != (test.on != "") {
				t.Error("it shows trust anchors where it should not, or none where it should")
			}
		})
	}
}

// TestInventoryIsAskedFor wants no call for it unless it is wanted.
func TestInventoryIsAskedFor(t *testing.T) {
	const flag = "--collector.certificate-inventory"
	for name, test := range map[string]struct {
		args []string
		on   string
	}{
		"by default":    {nil, ""},
		"on":            {[]string{flag}, "1"},
		"another shard": {[]string{flag, "--shard=1", "--total-shards=2"}, ""},
		"alone":         {[]string{flag, "--no-collector.certificate-manager", "--no-collector.external-access"}, "1"},
		"version 1":     {[]string{flag, "--ncp.site=gov"}, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			ncp := simulate(t, ncptest.Config{})
			url := ncp.CertificateManagerURL()
			if name == "version 1" {
				url = ncp.URL() + "/api/v1"
			}
			s := launch(t, demoKeys(), append(test.args, "--ncp.certificate-manager.url="+url, "--ncp.external-access.url="+ncp.ExternalAccessURL())...).scrape()
			s.want(t, success(inventory), test.on)
			if got, want := ncp.Count(ncptest.Certificates), len(test.on); got != want {
				t.Errorf("%d calls, want %d", got, want)
			}
			const series = `ncp_certificate_manager_certificate_not_after_timestamp_seconds{certificate_id="41207",common_name="www.example.com",name="www"}`
			s.want(t, series, map[string]string{"1": "1.7671392e+09", "": ""}[test.on])
			if name == "version 1" {
				s.want(t, success(certificateManager), "")
			}
		})
	}
}

// TestSiteWithoutCertificateManager scrapes where recentChanges does not exist.
func TestSiteWithoutCertificateManager(t *testing.T) {
	ncp := simulate(t, ncptest.Config{})
	p := launch(t, demoKeys(), "--ncp.site=gov", "--ncp.external-access.url="+ncp.ExternalAccessURL())
	for range 2 {
		s := p.scrape()
		s.want(t, success(externalAccess), "1")
		for name := range s {
			if strings.Contains(name, certificateManager) {
				t.Errorf("there is %s", name)
			}
		}
	}
	if n := p.logs.count("Certificate Manager"); n != 1 {
		t.Errorf("%d lines about Certificate Manager, want one", n)
	}
	if a := p.get("/metrics?collect[]=" + certificateManager); a.status != http.StatusBadRequest {
		t.Errorf("collect[] of the collector that is off: HTTP %d", a.status)
	}

	p = launch(t, env{"NCLOUD_SITE": "fin", "NCLOUD_ACCESS_KEY": ncptest.DemoAccessKey, "NCLOUD_SECRET_KEY": ncptest.DemoSecretKey},
		"--ncp.external-access.url="+ncp.ExternalAccessURL(), "--ncp.certificate-manager.url="+ncp.CertificateManagerURL())
	s := p.scrape()
	s.want(t, success(externalAccess), "1")
	s.want(t, success(certificateManager), "1")
}

func profile(name string, key ncptest.Key) string {
	return "[" + name + "]\nncloud_access_key_id = " + key.AccessKey + "\nncloud_secret_access_key = " + key.SecretKey + "\n"
}

func TestProfilePerAPI(t *testing.T) {
	main := ncptest.Key{AccessKey: "MainAccountKey", SecretKey: "main-secret="}
	sub := ncptest.Key{AccessKey: "SubAccountKey", SecretKey: "sub-secret", SubAccount: true}
	ncp := simulate(t, ncptest.Config{Keys: []ncptest.Key{main, sub}})
	file := filepath.Join(t.TempDir(), "configure")
	write(t, file, profile("DEFAULT", sub)+profile("root", main)+profile("workload", sub))
	urls := []string{"--ncp.certificate-manager.url=" + ncp.CertificateManagerURL(), "--ncp.external-access.url=" + ncp.ExternalAccessURL()}
	// The environment has keys too: a profile for one API comes first for that API.
	wrong := env{"NCLOUD_ACCESS_KEY_ID": "wrong", "NCLOUD_SECRET_ACCESS_KEY": "wrong"}
	fromSub := env{"NCLOUD_ACCESS_KEY_ID": sub.AccessKey, "NCLOUD_SECRET_ACCESS_KEY": sub.SecretKey}

	for name, test := range map[string]struct {
		env         env
		args        []string
		manager     string // success of Certificate Manager
		managerKey  string
		externalKey string
	}{
		"both named":             {wrong, []string{"--ncp.certificate-manager.profile=root", "--ncp.external-access.profile=workload"}, "1", main.AccessKey, sub.AccessKey},
		"one named":              {fromSub, []string{"--ncp.certificate-manager.profile=root"}, "1", main.AccessKey, sub.AccessKey},
		"common profile":         {nil, []string{"--ncp.profile=root"}, "1", main.AccessKey, main.AccessKey},
		"profile of NCP's tools": {env{"NCLOUD_PROFILE": "root"}, nil, "1", main.AccessKey, main.AccessKey},
		"default profile":        {nil, nil, "0", sub.AccessKey, sub.AccessKey},
	} {
		t.Run(name, func(t *testing.T) {
			ncp.ResetStats()
			p := launch(t, test.env, append(append(urls, "--ncp.credentials-file="+file), test.args...)...)
			s := p.scrape()
			s.want(t, success(certificateManager), test.manager)
			s.want(t, success(externalAccess), "1")
			for _, r := range ncp.Requests() {
				want := test.externalKey
				if r.Op == ncptest.RecentChanges {
					want = test.managerKey
				}
				if r.AccessKey != want {
					t.Errorf("%s was signed with %s, want %s", r.Op, r.AccessKey, want)
				}
			}
			if test.manager == "0" && p.logs.count("level=warn .*main account") != 1 {
				t.Errorf("the log does not say that a main account's key is needed:\n%s", p.logs)
			}
		})
	}
}

func TestCredentialsRotate(t *testing.T) {
	before := ncptest.Key{AccessKey: "OldAccessKey", SecretKey: "old-secret"}
	after := ncptest.Key{AccessKey: "NewAccessKey", SecretKey: "new-secret"} // as long: only the time of the file differs
	replace := func(t *testing.T, path, content string) {
		t.Helper()
		write(t, path+".new", content)
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	test := func(t *testing.T, rotate func(), args ...string) {
		t.Helper()
		ncp := simulate(t, ncptest.Config{Keys: []ncptest.Key{before}})
		args = append(args, "--ncp.certificate-manager.url="+ncp.CertificateManagerURL(), "--ncp.external-access.url="+ncp.ExternalAccessURL())
		p := launch(t, nil, args...)
		s := p.scrape()
		s.want(t, success(certificateManager), "1")
		s.want(t, success(externalAccess), "1")
		ncp.SetKeys(after)
		s = p.scrape() // NCP knows of the rotation, the file does not
		s.want(t, success(certificateManager), "0")
		s.want(t, success(externalAccess), "0")
		rotate()
		s = p.scrape()
		s.want(t, success(certificateManager), "1")
		s.want(t, success(externalAccess), "1")
	}
	t.Run("credentials file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "configure")
		write(t, path, profile("DEFAULT", before))
		test(t, func() { replace(t, path, profile("DEFAULT", after)) }, "--ncp.credentials-file="+path)
	})
	t.Run("key files", func(t *testing.T) {
		dir := t.TempDir()
		access, secret := filepath.Join(dir, "access"), filepath.Join(dir, "secret")
		write(t, access, before.AccessKey+"\n")
		write(t, secret, before.SecretKey+"\n")
		test(t, func() {
			replace(t, access, after.AccessKey+"\n")
			replace(t, secret, after.SecretKey+"\n")
		}, "--ncp.access-key-file="+access, "--ncp.secret-key-file="+secret)
	})
}

// TestLogLines has the program say all it can: its own lines, those of the
// toolkit, those of net/http, of good and of bad scrapes.
func TestLogLines(t *testing.T) {
	cert := makeCertificate(t)
	config := filepath.Join(t.TempDir(), "web.yml")
	write(t, config, "tls_server_config:\n  cert_file: "+cert.certFile+"\n  key_file: "+cert.keyFile+"\n")
	for _, format := range []string{"logfmt", "json"} {
		for _, level := range []string{"debug", "warn"} {
			t.Run(format+" "+level, func(t *testing.T) {
				ncp := simulate(t, ncptest.Config{RefusePageSizeAbove: 20})
				// The address is in lines of level info: with warn, a fixed one is needed.
				listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				address := listener.Addr().String()
				_ = listener.Close() // for the program to take; it says so if somebody else is faster
				p := &process{t: t, url: "https://" + address, logs: newLines(), code: make(chan int, 1)}
				ctx, stop := context.WithCancel(t.Context())
				p.stop = stop
				t.Cleanup(func() { p.stopped() })
				go func() {
					p.code <- run(ctx, []string{
						"--web.listen-address=" + address, "--web.config.file=" + config, "--log.level=" + level, "--log.format=" + format, "--ncp.max-retries=0", "--state.file=",
						"--ncp.certificate-manager.url=" + ncp.CertificateManagerURL(), "--ncp.external-access.url=" + ncp.ExternalAccessURL(),
					}, demoKeys().lookup, nil, p.logs)
					p.logs.end()
				}()
				eventually(t, "the program listens", func() bool {
					conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
					if err == nil {
						_ = conn.Close()
					}
					return err == nil
				})
				if a, err := tryRequest(t.Context(), plain(), http.MethodGet, "http://"+address+"/"); err == nil && a.status == http.StatusOK {
					t.Error("HTTPS answers HTTP")
				}
				for _, fault := range []ncptest.Fault{nil, ncptest.Always(ncptest.HTMLPage(502)), ncptest.Always(ncptest.GatewayError(400, "100", "a \"quoted\"\nmessage = \\u0000")), nil} {
					ncp.SetFault(fault)
					if a := request(t, cert.client, http.MethodGet, p.url+"/metrics"); a.status != http.StatusOK {
						t.Errorf("HTTP %d", a.status)
					}
				}
				p.logs.wait(t, regexp.MustCompile(`TLS handshake error`))
				if code := p.stopped(); code != 0 {
					t.Errorf("exit code %d", code)
				}
				checkLines(t, p.logs.all(), format)
				for pattern, at := range map[string]string{
					"Starting": "debug", "Watching": "debug", "Listening on": "debug", "TLS is enabled": "debug", // the toolkit's last two
					"TLS handshake error": "warn", "Collector failed": "warn", "refuses the page size": "warn", // net/http's first
					"Collector recovered": "debug", "Stopping": "debug", "Stopped": "debug",
				} {
					if n := p.logs.count(pattern); (n > 0) != (at == "warn" || level == "debug") {
						t.Errorf("level %s: %d lines with %q:\n%s", level, n, pattern, p.logs)
					}
				}
			})
		}
	}
}

func checkLines(t *testing.T, all []string, format string) {
	t.Helper()
	timestamp := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$`)
	logfmt := regexp.MustCompile(`^level=(debug|info|warn|error) ts=(\S+) (?:[a-z_]+=(?:"(?:[^"\\]|\\.)*"|[^ "=]*) )*msg=(?:"(?:[^"\\]|\\.)+"|[^ "=]+)(?: [A-Za-z_0-9]+=(?:"(?:[^"\\]|\\.)*"|[^ "]*))*$`)
	for _, line := range all {
		if format == "logfmt" {
			match := logfmt.FindStringSubmatch(line)
			if match == nil || !timestamp.MatchString(match[2]) {
				t.Errorf("not a line of level, ts, msg: %s", line)
			}
			if strings.Contains(line, "caller=") || strings.Contains(line, " time=") {
				t.Errorf("a key that other lines do not have: %s", line)
			}
			continue
		}
		var fields struct{ Level, TS, Msg, Time, Caller string }
		decoder := json.NewDecoder(strings.NewReader(line))
		if err := decoder.Decode(&fields); err != nil || decoder.More() {
			t.Errorf("%v: not a line of JSON: %s", err, line)
			continue
		}
		if !regexp.MustCompile(`^(debug|info|warn|error)$`).MatchString(fields.Level) || !timestamp.MatchString(fields.TS) || fields.Msg == "" || fields.Time+fields.Caller != "" {
			t.Errorf("not a line of level, ts, msg: %s", line)
		}
	}
}

// eventually waits for what no channel tells.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	deadline := time.Now().Add(bound)
	for !happened() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// certificate is one for loopback, and a client that trusts nothing else.
type certificate struct {
	certFile, keyFile string
	roots             *x509.CertPool
	client            *http.Client
}

func makeCertificate(t *testing.T) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := certificate{certFile: filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem")}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(t, c.certFile, string(certPEM))
	write(t, c.keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	c.roots = x509.NewCertPool()
	c.roots.AppendCertsFromPEM(certPEM)
	c.client = &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12},
	}}
	return c
}

// passwordHash is bcrypt's of "open sesame", at its lowest cost.
const passwordHash = "$2a$04$DTWz/8DI4Lx5DyBhnC8ar.VeQakh8T5VrNJOA.s8BQob316XBbTaG" //nolint:gosec // opens nothing

func TestTLSAndBasicAuth(t *testing.T) {
	cert := makeCertificate(t)
	dir := t.TempDir()
	users := "basic_auth_users:\n  alice: " + passwordHash + "\n"
	secure := "tls_server_config:\n  cert_file: " + cert.certFile + "\n  key_file: " + cert.keyFile + "\n"
	for name, test := range map[string]struct {
		config      string
		tls, locked bool
	}{
		"basic auth": {users, false, true},
		"TLS":        {secure, true, false},
		"both":       {secure + users, true, true},
		"empty":      {"", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			config := filepath.Join(dir, "web.yml")
			write(t, config, test.config)
			p := watch(t, simulate(t, ncptest.Config{}), "--web.config.file="+config)
			client := plain()
			if test.tls {
				if a, err := tryRequest(t.Context(), plain(), http.MethodGet, p.url+"/metrics"); err == nil && a.status == http.StatusOK {
					t.Error("answers without TLS")
				}
				p.url, client = "https"+strings.TrimPrefix(p.url, "http"), cert.client
				old := &http.Client{Transport: &http.Transport{
					DisableKeepAlives: true,
					TLSClientConfig:   &tls.Config{RootCAs: cert.roots, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, //nolint:gosec // to be refused
				}}
				if _, err := tryRequest(t.Context(), old, http.MethodGet, p.url+"/metrics"); err == nil {
					t.Error("answers to TLS 1.1")
				}
			}
			for _, path := range []string{"/metrics", "/", "/-/healthy", "/-/ready"} {
				want := http.StatusOK
				if test.locked {
					want = http.StatusUnauthorized
				}
				if a := request(t, client, http.MethodGet, p.url+path); a.status != want || test.locked && strings.Contains(a.body, "ncp_") {
					t.Errorf("%s without a password: HTTP %d, want %d", path, a.status, want)
				}
				if !test.locked {
					continue
				}
				if a := request(t, client, http.MethodGet, p.url+path, "Authorization", basic("alice", "open says me")); a.status != http.StatusUnauthorized {
					t.Errorf("%s with a wrong password: HTTP %d", path, a.status)
				}
				if a := request(t, client, http.MethodGet, p.url+path, "Authorization", basic("alice", "open sesame")); a.status != http.StatusOK {
					t.Errorf("%s with the password: HTTP %d", path, a.status)
				}
			}
			if code := p.stopped(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func basic(user, password string) string {
	r := http.Request{Header: make(http.Header)}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

// TestDrain is SIGTERM while NCP has a scrape in its hands.
func TestDrain(t *testing.T) {
	ncp := simulate(t, ncptest.Config{})
	asked, goOn := make(chan struct{}, 1), make(chan struct{})
	ncp.OnRequest(func(r ncptest.Request) {
		if r.Op == ncptest.Credentials {
			asked <- struct{}{}
			<-goOn
		}
	})
	released := false
	release := func() {
		if !released {
			released = true
			close(goOn)
		}
	}
	t.Cleanup(release) // before the server is closed
	p := watch(t, ncp, "--ncp.timeout=1h", "--scrape.timeout=1h", "--ncp.max-retries=0")

	type result struct {
		answer
		err error
	}
	scraped := make(chan result, 1)
	go func() {
		a, err := tryRequest(t.Context(), plain(), http.MethodGet, p.url+"/metrics")
		scraped <- result{a, err}
	}()
	select {
	case <-asked:
	case <-time.After(bound):
		t.Fatal("NCP was not asked")
	}
	p.stop()
	eventually(t, "new connections are refused", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	select {
	case code := <-p.code:
		t.Fatalf("the program ended (%d) with a scrape in flight", code)
	case r := <-scraped:
		t.Fatalf("the scrape ended before NCP had answered: HTTP %d, %v", r.status, r.err)
	default:
	}
	release()
	select {
	case r := <-scraped:
		if r.err != nil || r.status != http.StatusOK {
			t.Fatalf("the scrape in flight: HTTP %d, %v", r.status, r.err)
		}
		s := parseSeries(t, r.body)
		s.want(t, success(certificateManager), "1")
		s.want(t, success(externalAccess), "1")
		s.want(t, `ncp_external_access_credential_authentications_total{result="success",subject_id="subject-1"}`, "1")
	case <-time.After(bound):
		t.Fatal("the scrape in flight did not end")
	}
	if code := p.stopped(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if n := p.logs.count("level=error"); n != 0 {
		t.Errorf("a quiet end has errors:\n%s", p.logs)
	}
}

// TestStopBeforeStart ends a program that has not begun to listen.
func TestStopBeforeStart(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	logs := newLines()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"--demo", "--web.listen-address=127.0.0.1:0"}, env{}.lookup, nil, logs)
	}()
	select {
	case code := <-code:
		if code != 0 {
			t.Errorf("exit code %d:\n%s", code, logs)
		}
	case <-time.After(bound):
		t.Fatal("the program did not end")
	}
}

// TestShards starts both of two shards, as the pods of a StatefulSet, and wants
// each subject in one of them, and Certificate Manager in the first.
func TestShards(t *testing.T) {
	ncp := simulate(t, ncptest.Config{})
	for i := range 20 {
		ncp.PutSubject(ncptest.Subject{SubjectID: "of-many-" + strconv.Itoa(i), Enabled: true})
	}
	seen := make(map[string]bool)
	for shard := range 2 {
		p := watch(t, ncp, "--shard=ncp-exporter-"+strconv.Itoa(shard), "--total-shards=2")
		s := p.scrape()
		s.want(t, fmt.Sprintf(`ncp_exporter_shard_info{shard="%d",total_shards="2"}`, shard), "1")
		s.want(t, success(externalAccess), "1")
		_, there := s[success(certificateManager)]
		if there != (shard == 0) {
			t.Errorf("shard %d watches Certificate Manager: %t", shard, there)
		}
		if said := p.logs.count("Certificate Manager is not watched: shard 0 does it"); said != shard {
			t.Errorf("shard %d says %d times that shard 0 watches Certificate Manager", shard, said)
		}
		for name := range s {
			if id, ok := strings.CutPrefix(name, `ncp_external_access_credential_history_entries{subject_id="`); ok {
				if seen[id] {
					t.Errorf("both shards have %s", id)
				}
				seen[id] = true
			}
		}
	}
	if len(seen) != 21 {
		t.Errorf("%d subjects are watched, want 21", len(seen))
	}
}
