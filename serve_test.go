package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

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

// holdHistories keeps NCP from answering for histories until they are released, which
// is before the server is closed at the latest.
func holdHistories(t *testing.T, ncp *ncptest.Server) (asked <-chan struct{}, release func()) {
	t.Helper()
	first, goOn := make(chan struct{}, 1), make(chan struct{})
	ncp.OnRequest(func(r ncptest.Request) {
		if r.Op == ncptest.Credentials {
			select {
			case first <- struct{}{}:
			default: // it was asked before
			}
			<-goOn
		}
	})
	release = sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release)
	return first, release
}

// TestDrain is SIGTERM while NCP has a scrape in its hands.
func TestDrain(t *testing.T) {
	ncp := simulate(t, ncptest.Config{})
	asked, release := holdHistories(t, ncp)
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

// TestIdleTLSConnections holds more connections open than the server has places.
func TestIdleTLSConnections(t *testing.T) {
	cert := makeCertificate(t)
	config := filepath.Join(t.TempDir(), "web.yml")
	write(t, config, "tls_server_config:\n  cert_file: "+cert.certFile+"\n  key_file: "+cert.keyFile+"\n")
	p := watch(t, simulate(t, ncptest.Config{}), "--web.config.file="+config)
	address := strings.TrimPrefix(p.url, "http://")
	var first net.Conn
	for i := range 300 {
		dialer := &tls.Dialer{Config: &tls.Config{RootCAs: cert.roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}[i%2:]}}
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer func() { _ = conn.Close() }()
		if first == nil {
			first = conn
		}
	}
	if a := request(t, cert.client, http.MethodGet, "https://"+address+"/metrics"); a.status != http.StatusOK {
		t.Errorf("HTTP %d", a.status)
	}
	_ = first.SetReadDeadline(time.Now().Add(bound))
	var timeout net.Error
	if _, err := io.Copy(io.Discard, first); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("the connection that was idle longest is still open")
	}
}

// TestMaxRequests has one scrape in flight, and another.
func TestMaxRequests(t *testing.T) {
	ncp := simulate(t, ncptest.Config{})
	asked, release := holdHistories(t, ncp)
	p := watch(t, ncp, "--web.max-requests=1", "--ncp.timeout=1h", "--scrape.timeout=1h")
	scraped := make(chan answer, 1)
	go func() {
		a, _ := tryRequest(t.Context(), plain(), http.MethodGet, p.url+"/metrics") // its status tells
		scraped <- a
	}()
	<-asked
	if a := p.get("/metrics"); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "--web.max-requests") {
		t.Errorf("one too many: HTTP %d, %s", a.status, a.body)
	}
	for _, path := range []string{"/", "/-/healthy"} {
		if a := p.get(path); a.status != http.StatusOK {
			t.Errorf("%s meanwhile: HTTP %d", path, a.status)
		}
	}
	release()
	if a := <-scraped; a.status != http.StatusOK {
		t.Errorf("the scrape in flight: HTTP %d", a.status)
	}
	p.scrape()
}
