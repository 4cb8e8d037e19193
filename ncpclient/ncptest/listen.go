package ncptest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"
)

// listening is one life of the Server on the wire.
type listening struct {
	server *http.Server
	cancel context.CancelFunc
	served chan struct{} // closed when the accept loop has ended

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
	idle   chan struct{} // closed when the last connection has gone after close
}

// Start listens on a free port of 127.0.0.1 and serves in the background. After
// Close it may be called again, and then takes the same port, as a service does
// that comes back.
func (s *Server) Start() error { return s.listen(nil) }

// StartTLS is Start with HTTPS, under a certificate that is made for it and
// returned for the client's pool of roots.
func (s *Server) StartTLS() (certPEM []byte, err error) {
	cert, certPEM, err := newCertificate()
	if err != nil {
		return nil, fmt.Errorf("ncptest: making a certificate: %w", err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if err := s.listen(config); err != nil {
		return nil, err
	}
	return certPEM, nil
}

func (s *Server) listen(config *tls.Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listening != nil {
		return errors.New("ncptest: the server has been started already")
	}
	address := s.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	ctx, cancel := context.WithCancel(context.Background())
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		cancel()
		return fmt.Errorf("ncptest: %w", err)
	}
	s.address, s.scheme = listener.Addr().String(), "http"
	if config != nil {
		listener, s.scheme = tls.NewListener(listener, config), "https"
	}
	l := &listening{
		cancel: cancel,
		served: make(chan struct{}),
		conns:  make(map[net.Conn]struct{}),
		idle:   make(chan struct{}),
	}
	l.server = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         l.track,
		// Clients that go away in the middle are what this server is for.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	s.listening = l
	go func() {
		defer close(l.served)
		_ = l.server.Serve(listener) // always an error: ErrServerClosed
	}()
	return nil
}

// track follows the connections, for Close to wait until the last has gone.
func (l *listening) track(conn net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateNew:
		l.conns[conn] = struct{}{}
		if l.closed {
			_ = conn.Close() // accepted too late for http.Server.Close to see it
		}
	case http.StateClosed, http.StateHijacked:
		delete(l.conns, conn)
		if l.closed && len(l.conns) == 0 {
			l.finish()
		}
	case http.StateActive, http.StateIdle:
	}
}

// finish closes idle once; l.mu is held.
func (l *listening) finish() {
	select {
	case <-l.idle:
	default:
		close(l.idle)
	}
}

// Close stops listening and cuts all connections, answered or not. It waits for
// their goroutines to end. A Server that is not running is left as it is.
func (s *Server) Close() error {
	s.mu.Lock()
	l := s.listening
	s.listening = nil
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()

	l.cancel() // lets the handlers that wait for their client go
	err := l.server.Close()
	<-l.served

	l.mu.Lock()
	if len(l.conns) == 0 {
		l.finish()
	}
	l.mu.Unlock()
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case <-l.idle:
	case <-grace.C:
	}
	if err != nil {
		return fmt.Errorf("ncptest: %w", err)
	}
	return nil
}

// URL is where the Server listens, without a path; "" before Start.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.address == "" {
		return ""
	}
	return s.scheme + "://" + s.address
}

// CertificateManagerURL is the base URL of Certificate Manager 2.0.
func (s *Server) CertificateManagerURL() string { return s.URL() + certificateManagerPath }

// ExternalAccessURL is the base URL of External Access.
func (s *Server) ExternalAccessURL() string { return s.URL() + externalAccessPath }

// newCertificate makes a self-signed certificate for loopback.
func newCertificate() (cert tls.Certificate, certPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "simulated NCP"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(7 * 24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, certPEM, nil
}
