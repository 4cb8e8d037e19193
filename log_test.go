package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

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

// TestLogOfAGoodScrape wants to know, with debug alone, what each collector asked, what
// came, and how long it took.
func TestLogOfAGoodScrape(t *testing.T) {
	for level, want := range map[string]int{"debug": 1, "info": 0} {
		p := watch(t, simulate(t, ncptest.Config{}), "--log.level="+level)
		p.scrape()
		p.stopped()
		for _, collector := range []string{
			certificateManager + ` [^\n]*calls=1 series=\d+ changes=\d+`, externalAccess + ` [^\n]*calls=5 series=\d+ subjects=1 authentications=2`,
			`certificate_inventory [^\n]*calls=2 series=\d+ certificates=1`, `external_access_trust_anchors [^\n]*calls=2 series=\d+ trust_anchors=1`,
		} {
			line := regexp.MustCompile(`level=debug [^\n]*collector=` + strings.Replace(collector, "[^\\n]*", `msg="Collector read everything" took=\S+ `, 1))
			if n := len(line.FindAllString(p.logs.String(), -1)); n != want {
				t.Errorf("%s: %d lines match %s, want %d:\n%s", level, n, line, want, p.logs)
			}
		}
	}
}

// TestLogNamesTheLedgerFirst wants to see what is waited for if a file server is dead.
func TestLogNamesTheLedgerFirst(t *testing.T) {
	p := watch(t, simulate(t, ncptest.Config{}))
	if !regexp.MustCompile(`msg="Opening the ledger" file=\S+ledger\.db\n[^\n]*msg="Counting begins with a new ledger" file=\S+ledger\.db `).MatchString(p.logs.String()) {
		t.Errorf("the log does not name the ledger before it is opened:\n%s", p.logs)
	}
}
