package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// visit sends what a stranger sends.
func visit(t *testing.T, dial func(context.Context, string, string) (net.Conn, error), address, sent string, taken int64) {
	t.Helper()
	conn, err := dial(t.Context(), "tcp", address)
	if err != nil {
		return // there is TLS where none was expected
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(bound))
	if tcp, ok := conn.(*net.TCPConn); ok && taken >= 0 {
		_ = tcp.SetLinger(0) // a reset
	}
	if _, err := io.WriteString(conn, sent); err != nil {
		return // it was refused before all of it was sent
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok && taken < 0 {
		_ = half.CloseWrite()
	}
	if taken < 0 {
		taken = 1 << 20
	}
	_, _ = io.CopyN(io.Discard, conn, taken)
}

// TestStrangers has strangers, probes and broken clients at the port, several times.
func TestStrangers(t *testing.T) {
	// Each asks for something and takes so much of the answer before it resets the
	// connection; -1 is all of it.
	strangers := []struct {
		name, sent string
		taken      int64
	}{
		{"a probe of the port", "", 0},
		{"half a request", "GET /metrics HTTP/1.1\r\nHost:", 0},
		{"no HTTP", "\x00\x01\x02\xff\r\n\r\n", -1},
		{"a TLS handshake that breaks off", "\x16\x03\x01\x02\x00\x01\x00", 0},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense", -1},
		{"headers that are too long", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n\r\n", 10},
		{"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", -1},
		{"no such path", "GET /.env HTTP/1.0\r\n\r\n", -1},
		{"no such method", "BREW / HTTP/1.0\r\n\r\n", -1},
		{"a semicolon", "GET /?a;b HTTP/1.0\r\n\r\n", -1},
		{"a path of a proxy", "GET http://192.0.2.1/ HTTP/1.0\r\n\r\n", -1},
		{"no such account", "GET /probe?account=prod HTTP/1.0\r\n\r\n", -1},
		{"no such collector", "GET /metrics?collect[]=no HTTP/1.0\r\n\r\n", -1},
		{"a reload", "POST /-/reload HTTP/1.0\r\nContent-Length: 0\r\n\r\n", -1},
		{"a wrong password", "GET /metrics HTTP/1.0\r\nAuthorization: Basic YTpi\r\n\r\n", -1},
		{"hangs up at once", "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 0},
		{"hangs up in the midst of the metrics", "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 300},
		{"hangs up in the midst of the page", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 300},
		{"a hasty scrape", "GET /metrics HTTP/1.0\r\nX-Prometheus-Scrape-Timeout-Seconds: 0.000001\r\n\r\n", -1},
		{"a scrape", "GET /metrics HTTP/1.0\r\n\r\n", -1},
		{"a strange timeout", "GET /metrics HTTP/1.0\r\nX-Prometheus-Scrape-Timeout-Seconds: -NaN\r\n\r\n", -1},
	}
	cert := makeCertificate(t)
	users := "basic_auth_users:\n  alice: " + passwordHash + "\n"
	secure := "tls_server_config:\n  cert_file: " + cert.certFile + "\n  key_file: " + cert.keyFile + "\n"
	plainDial, tlsDial := (&net.Dialer{}).DialContext, (&tls.Dialer{Config: &tls.Config{RootCAs: cert.roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}}).DialContext
	for name, test := range map[string]struct {
		config string
		args   []string
	}{
		"plain":            {config: ""},
		"TLS":              {config: secure},
		"TLS and password": {config: secure + users},
		"several accounts": {config: secure, args: []string{"--demo", "--demo.accounts=2"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := filepath.Join(t.TempDir(), "web.yml")
			write(t, config, test.config)
			args := append([]string{"--web.config.file=" + config, "--log.level=debug"}, test.args...)
			var p *process
			if test.args != nil {
				p = launch(t, nil, args...)
			} else {
				p = watch(t, simulate(t, ncptest.Config{}), args...)
			}
			address := strings.TrimPrefix(p.url, "http://")
			begun := time.Now()
			for range 3 {
				for _, stranger := range strangers {
					visit(t, plainDial, address, stranger.sent, stranger.taken)
					if test.config != "" {
						visit(t, tlsDial, address, stranger.sent, stranger.taken)
					}
				}
			}
			write(t, config, "nonsense: true\n") // each request fails
			for range 10 {
				_, _ = tryRequest(t.Context(), cert.client, http.MethodGet, "https://"+address+"/")
				_, _ = tryRequest(t.Context(), plain(), http.MethodGet, p.url+"/")
			}
			if code := p.stopped(); code != 0 { // all is written
				t.Errorf("exit code %d", code)
			}
			most := 1 + int(time.Since(begun)/time.Minute)
			// What the start and the end say is of level info.
			if n := p.logs.count("^level=(warn|error) |^level=info .*Collector"); n > most {
				t.Errorf("%d lines that are not for debugging, want %d at most:\n%s", n, most, p.logs)
			}
			if test.config != "" && p.logs.count("^level=debug .*TLS handshake error") == 0 {
				t.Errorf("the single cases are not there for debugging:\n%s", p.logs)
			}
		})
	}
}
