package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the image's health check says of a running exporter, with the same flags.
func TestHealthCheck(t *testing.T) {
	cert := makeCertificate(t)
	secure := "tls_server_config:\n  cert_file: " + cert.certFile + "\n  key_file: " + cert.keyFile + "\n"
	password := "basic_auth_users:\n  alice: " + passwordHash + "\n"
	for name, config := range map[string]string{
		"plain":                   "",
		"password":                password,
		"TLS":                     secure,
		"TLS and a password":      secure + password,
		"certificates of clients": secure + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: " + cert.certFile + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"--demo"}
			if config != "" {
				file := filepath.Join(t.TempDir(), "web.yml")
				write(t, file, config)
				args = append(args, "--web.config.file="+file)
			}
			p := launch(t, nil, args...)
			_, port, err := net.SplitHostPort(strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			for _, host := range []string{"127.0.0.1", "0.0.0.0", ""} {
				code, stdout, stderr := attempt(t, nil, append(args, "--health-check", "--web.listen-address="+host+":"+port)...)
				if code != 0 || stdout != "ncp_exporter is healthy.\n" || stderr != "" {
					t.Errorf("%q: exit code %d, %q, %q", host, code, stdout, stderr)
				}
			}
			// Only a client that has to show a certificate, and has none, is told of.
			if logged := p.logs.String(); !strings.HasPrefix(name, "certificates") && strings.Contains(logged, "level=warn") || strings.Contains(logged, "level=error") {
				t.Errorf("it is in the log:\n%s", logged)
			}
			p.stop()
			p.stopped()
			code, stdout, stderr := attempt(t, nil, append(args, "--health-check", "--web.listen-address=127.0.0.1:"+port)...)
			if code != 1 || stdout != "" || !strings.Contains(stderr, port+"/-/healthy: nothing listens there") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("after its end: exit code %d, %q, %q", code, stdout, stderr)
			}
		})
	}
}

func TestHealthCheckOfOthers(t *testing.T) {
	serve := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body)) // the client is gone
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // as short as the test
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() //nolint:errcheck // the test is over
	noFile := filepath.Join(t.TempDir(), "web.yml")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"404":          {[]string{"--web.listen-address=" + serve(http.StatusNotFound, "no")}, "HTTP 404, but not the answer of ncp_exporter: another program"},
		"another":      {[]string{"--web.listen-address=" + serve(http.StatusOK, "OK")}, "HTTP 200, but not the answer of ncp_exporter"},
		"401":          {[]string{"--web.listen-address=" + serve(http.StatusUnauthorized, "no")}, "HTTP 401"},
		"no answer":    {[]string{"--web.listen-address=" + silent.Addr().String()}, "no answer within 5s"},
		"no address":   {[]string{"--web.listen-address=vsock://:1"}, "is no HOST:PORT"},
		"no port":      {[]string{"--web.listen-address=localhost"}, "is no HOST:PORT"},
		"a socket":     {[]string{"--web.systemd-socket"}, "--web.systemd-socket"},
		"no file":      {[]string{"--web.config.file=" + noFile}, "web.yml"},
		"two at once":  {[]string{"--check"}, "give one of them"},
		"another flag": {[]string{"--ncp.site=moon"}, "--ncp.site"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := attempt(t, nil, append(test.args, "--health-check")...)
			if code != 1 || stdout != "" || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "ncp_exporter: error: ") {
				t.Errorf("exit code %d, %q, %q, want %q", code, stdout, stderr, test.want)
			}
		})
	}
	if _, err := os.Stat(noFile); err == nil {
		t.Error("a health check writes files")
	}
}
