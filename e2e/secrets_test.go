//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

// theKeys are like nothing else in the program's output.
func theKeys() ncptest.Key {
	return ncptest.Key{AccessKey: "Zq7AccessNeedle4Xw", SecretKey: "Jk5SecretNeedle9/Yv+="}
}

// gateway stands before a simulated NCP and notes what must not be seen.
type gateway struct {
	next http.Handler

	mu      sync.Mutex
	sent    int
	secrets []string // in lower case, and in the forms that a careless line might give them
	fault   http.Handler
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	if s := r.Header.Get("X-Ncp-Apigw-Signature-V2"); s != "" {
		g.sent++
		g.secrets = append(g.secrets, forms(s)...)
		g.secrets = append(g.secrets, strings.ToLower(s[:20]))
	}
	fault := g.fault
	g.mu.Unlock()
	if fault != nil {
		fault.ServeHTTP(w, r)
		return
	}
	g.next.ServeHTTP(w, r)
}

func (g *gateway) set(fault http.Handler) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault = fault
}

func forms(secret string) []string {
	var all []string
	for _, form := range []string{
		secret, url.QueryEscape(secret), html.EscapeString(secret), hex.EncodeToString([]byte(secret)),
		strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "="),
	} {
		all = append(all, strings.ToLower(form))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// check looks for the keys and for every signature that was sent.
func (g *gateway) check(t *testing.T, where, text string) {
	t.Helper()
	g.mu.Lock()
	secrets := slices.Clone(g.secrets)
	g.mu.Unlock()
	secrets = append(secrets, "accessneedle", "secretneedle")
	for _, key := range []string{theKeys().AccessKey, theKeys().SecretKey} {
		secrets = append(secrets, forms(key)...)
	}
	lower := strings.ToLower(text)
	for _, secret := range secrets {
		if at := strings.Index(lower, secret); at >= 0 {
			t.Errorf("%s shows %q: ...%s...", where, secret, lower[max(0, at-200):min(len(lower), at+len(secret)+50)])
			return
		}
	}
}

// headersOf is what a careless server writes of a request into its answer.
func headersOf(r *http.Request) string {
	var b strings.Builder
	for _, name := range []string{"X-Ncp-Iam-Access-Key", "X-Ncp-Apigw-Signature-V2", "X-Ncp-Apigw-Timestamp"} {
		fmt.Fprintf(&b, "%s: %s; ", name, r.Header.Get(name))
	}
	return b.String()
}

// echo makes a handler of one of ncptest's, with the headers of the request in it.
func echo(answer func(headers string) http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Ncp-Trace-Id", r.Header.Get("X-Ncp-Apigw-Signature-V2"))
		w.Header().Set("X-Ncp-Apigw-Response-Origin", r.Header.Get("X-Ncp-Iam-Access-Key"))
		w.Header().Set("X-Request-Id", headersOf(r))
		answer(headersOf(r)).ServeHTTP(w, r)
	})
}

// onTheWire answers with bytes of its own.
func onTheWire(answer func(accessKey, signature string) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buffer, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer func() { _ = conn.Close() }() // the answer is out, or nobody is there
		_, _ = buffer.WriteString(answer(r.Header.Get("X-Ncp-Iam-Access-Key"), r.Header.Get("X-Ncp-Apigw-Signature-V2")))
		_ = buffer.Flush()
	})
}

func TestSecrets(t *testing.T) {
	t.Parallel() // what hangs takes its time
	secretKeys := theKeys()
	ncp := ncptest.New(ncptest.Config{Keys: []ncptest.Key{secretKeys}})
	// Unsigned as it is, what a redirect leads to must see no key.
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a redirect was followed, with %v", r.Header)
	}))
	t.Cleanup(elsewhere.Close)
	furnish(twice(ncp))
	g := &gateway{next: ncp}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	// The metadata service of a server with a role.
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/role") {
			_, _ = fmt.Fprintf(w, `{"AccessKeyId":%q,"SecretAccessKey":%q,"Expiration":"2199-01-01T00:00:00Z"}`, secretKeys.AccessKey, secretKeys.SecretKey)
			return
		}
		_, _ = fmt.Fprint(w, "role")
	}))
	t.Cleanup(metadata.Close)

	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil { //nolint:gosec // below a TempDir
			t.Fatal(err)
		}
		return path
	}
	inEnvironment := []string{"NCLOUD_ACCESS_KEY_ID=" + secretKeys.AccessKey, "NCLOUD_SECRET_ACCESS_KEY=" + secretKeys.SecretKey}
	inFile := "[DEFAULT]\nncloud_access_key_id = " + secretKeys.AccessKey + "\nncloud_secret_access_key = " + secretKeys.SecretKey + "\n"
	for _, source := range []struct {
		name string
		env  []string
		args []string
	}{
		{"environment", inEnvironment, nil},
		{"profile", nil, []string{"--ncp.credentials-file=" + file("configure", inFile)}},
		{"key files", nil, []string{"--ncp.access-key-file=" + file("access", secretKeys.AccessKey), "--ncp.secret-key-file=" + file("secret", secretKeys.SecretKey)}},
		{"server role", nil, []string{"--ncp.server-role", "--ncp.server-role.url=" + metadata.URL}},
	} {
		for _, format := range []string{"logfmt", "json"} {
			t.Run(source.name+"/"+format, func(t *testing.T) {
				g.set(nil)
				ncp.SetKeys(secretKeys)
				args := append([]string{
					"--web.listen-address=127.0.0.1:0", "--log.level=debug", "--log.format=" + format,
					"--ncp.timeout=500ms", "--ncp.max-retries=1", "--ncp.rate-limit=0",
					"--ncp.certificate-manager.url=" + server.URL + "/api/v2", "--ncp.external-access.url=" + server.URL + "/api/v1",
				}, source.args...)
				for _, only := range []string{"--help", "--version", "--nonsense", "--help-long", "--help-man"} {
					p := start(t, source.env, binary, append([]string{only}, args...)...)
					p.exit(t)
					g.check(t, only, p.out.String())
				}
				p := start(t, source.env, binary, args...)
				e := exporter{p, "http://" + p.anyAddress(t, format)}
				looked := func(when string) {
					t.Helper()
					for _, path := range []string{"/", "/metrics", "/-/healthy", "/-/ready", "/nowhere", "/metrics?collect[]=x"} {
						a, err := get(t.Context(), e.url+path, "X-Prometheus-Scrape-Timeout-Seconds", "1.5")
						if err != nil {
							t.Fatal(err)
						}
						g.check(t, path+" after "+when, fmt.Sprint(a.header)+a.body)
					}
				}
				e.scrape(t).want(t, success(externalAccess), 1)
				looked("a good scrape")
				faults, logged := secretFaults(elsewhere.URL), 0
				if source.name != "environment" { // from there on, all keys go the same way
					maps.DeleteFunc(faults, func(name string, _ http.Handler) bool {
						return name != "401 key" && name != "hang" && name != "echo, gateway" && name != "wire, header line"
					})
				}
				for _, name := range slices.Sorted(maps.Keys(faults)) {
					g.set(faults[name])
					a := e.metrics(t, "X-Prometheus-Scrape-Timeout-Seconds", "1.5", "Accept", "application/openmetrics-text;version=1.0.0")
					g.check(t, "OpenMetrics after "+name, a.body)
					said := e.out.String()
					g.check(t, "the log after "+name, said[logged:])
					logged = len(said)
					if source.name == "environment" && format == "logfmt" { // --check has formats of its own
						for _, as := range []string{"text", "json"} {
							c := start(t, source.env, binary, append([]string{"--check", "--format=" + as}, args...)...)
							c.exit(t)
							g.check(t, "--check as "+as+" after "+name, c.out.String())
						}
					}
				}
				looked("all faults")
				g.set(nil)
				ncp.SetKeys(ncptest.Key{AccessKey: "other", SecretKey: "other"}) // 401 by the book
				s := e.scrape(t)
				s.want(t, success(certificateManager), 0)
				looked("a 401")
				ncp.SetKeys(secretKeys)
				e.scrape(t).want(t, success(externalAccess), 1)

				cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", e.cmd.Process.Pid))
				if err != nil || !strings.Contains(string(cmdline), "--log.level=debug") {
					t.Errorf("the command line: %q, %v", cmdline, err)
				}
				g.check(t, "the command line", string(cmdline))
				e.signal(t, os.Interrupt)
				e.exit(t)
				g.check(t, "the rest of stdout and stderr", e.out.String()[logged:])
				if !strings.Contains(e.out.String(), "redacted") {
					t.Error("no echo came as far as the log: this test looks at nothing")
				}
			})
		}
	}
	if g.sent < 100 {
		t.Errorf("only %d signatures were sent", g.sent)
	}
}

// twice is one NCP for both APIs.
func twice(s *ncptest.Server) ncp { return ncp{s, s} }

// secretFaults are all ways to fail, among them answers that hold what they were
// asked with.
func secretFaults(elsewhere string) map[string]http.Handler {
	return map[string]http.Handler{
		"401 key":          ncptest.GatewayError(401, "200", "Authentication Failed"),
		"401 permission":   ncptest.GatewayError(401, "210", "Permission Denied"),
		"details":          ncptest.GatewayErrorDetails(503, 900, "Unexpected Error", "details"),
		"throttled":        ncptest.Throttled("1"),
		"flat":             ncptest.FlatError(400, 1001, "Bad"),
		"return code":      ncptest.ReturnCode(200, "9999", "Internal error"),
		"response error":   ncptest.ResponseError(400, "800", "Bad"),
		"spring":           ncptest.SpringError(500, "COMMON_500", "Bad"),
		"XML":              ncptest.XMLError(404, "300", "Not Found Exception"),
		"HTML":             ncptest.HTMLPage(502),
		"HTML with 200":    ncptest.HTMLPage(200),
		"empty 403":        ncptest.EmptyForbidden(),
		"empty 500":        ncptest.EmptyBody(500),
		"no return code":   ncptest.NoReturnCode(),
		"not JSON":         ncptest.NotJSON(),
		"nested":           ncptest.Nested(20_000),
		"redirect":         ncptest.Redirect(elsewhere),
		"cut short":        ncptest.CutShort(),
		"cut clean":        ncptest.CutClean(),
		"huge":             ncptest.Huge(40 << 20),
		"gzip bomb":        ncptest.GzipBomb(40 << 20),
		"huge header":      ncptest.HugeHeader(1 << 20),
		"drip":             ncptest.Drip(),
		"hang":             ncptest.Hang(),
		"reset":            ncptest.Reset(),
		"echo, gateway":    echo(func(h string) http.Handler { return ncptest.GatewayError(401, "200", h) }),
		"echo, details":    echo(func(h string) http.Handler { return ncptest.GatewayErrorDetails(500, 900, "x", h) }),
		"echo as code":     echo(func(h string) http.Handler { return ncptest.GatewayError(400, h, h) }),
		"echo, flat":       echo(func(h string) http.Handler { return ncptest.FlatError(500, 900, h) }),
		"echo, 200":        echo(func(h string) http.Handler { return ncptest.ReturnCode(200, "9999", h) }),
		"echo, 200 code":   echo(func(h string) http.Handler { return ncptest.ReturnCode(200, h, h) }),
		"echo, response":   echo(func(h string) http.Handler { return ncptest.ResponseError(403, "800", h) }),
		"echo, spring":     echo(func(h string) http.Handler { return ncptest.SpringError(500, h, h) }),
		"echo, XML":        echo(func(h string) http.Handler { return ncptest.XMLError(500, h, h) }),
		"echo, HTML title": echo(func(h string) http.Handler { return ncptest.Raw(502, "text/html", "<html><title>"+h+"</title>"+h) }),
		"echo, text":       echo(func(h string) http.Handler { return ncptest.Raw(500, "text/plain", h) }),
		"echo, text, 200":  echo(func(h string) http.Handler { return ncptest.Raw(200, "application/json", h) }),
		"echo, wrong type": echo(func(h string) http.Handler {
			return ncptest.Raw(200, "application/json", fmt.Sprintf(`{"returnCode":"0","totalElements":%q,"content":%q,"orders":%q}`, h, h, h))
		}),
		"echo, rows": echo(func(h string) http.Handler {
			return ncptest.Raw(200, "application/json", fmt.Sprintf(`{"returnCode":"0","totalElements":1,"content":[%q],"orders":[%q]}`, h, h))
		}),
		"echo, after":       echo(func(h string) http.Handler { return ncptest.Raw(200, "application/json", `{"returnCode":"0"}`+h) }),
		"echo, moved":       echo(func(h string) http.Handler { return ncptest.Redirect(elsewhere + "/?" + url.QueryEscape(h)) }),
		"echo, Retry-After": echo(ncptest.Throttled),
		"wire, status line": onTheWire(func(k, s string) string { return k + " " + s + "\r\n\r\n" }),
		"wire, version":     onTheWire(func(k, _ string) string { return "HTTP/" + k + " 200 OK\r\n\r\n" }),
		"wire, status":      onTheWire(func(k, s string) string { return "HTTP/1.1 " + k + " " + s + "\r\n\r\n" }),
		"wire, reason":      onTheWire(func(k, s string) string { return "HTTP/1.1 500 " + k + " " + s + "\r\nContent-Length: 0\r\n\r\n" }),
		"wire, header line": onTheWire(func(k, s string) string { return "HTTP/1.1 200 OK\r\n" + k + " " + s + "\r\n\r\n" }),
		"wire, header name": onTheWire(func(k, s string) string { return "HTTP/1.1 200 OK\r\n" + k + " (): " + s + "\r\n\r\n" }),
		"wire, length":      onTheWire(func(k, _ string) string { return "HTTP/1.1 200 OK\r\nContent-Length: " + k + "\r\n\r\n" }),
		"wire, transfer":    onTheWire(func(_, s string) string { return "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + s + "\r\n\r\n" }),
		"wire, chunk": onTheWire(func(k, s string) string {
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + k + "\r\n" + s
		}),
		"wire, gzip": onTheWire(func(k, s string) string {
			return "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 30\r\n\r\n" + k + s
		}),
	}
}
