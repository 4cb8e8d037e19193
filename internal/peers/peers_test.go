package peers

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
)

type conn struct {
	net.Conn
	closed bool
}

func (c *conn) Close() error { c.closed = true; return nil }

func open(c *Connections, n int, states ...http.ConnState) []*conn {
	conns := make([]*conn, n)
	for i := range conns {
		conns[i] = &conn{}
		for _, state := range states {
			c.StateChanged(conns[i], state)
		}
	}
	return conns
}

func closed(conns []*conn) (n int) {
	for _, c := range conns {
		if c.closed {
			n++
		}
	}
	return n
}

func TestLongestIdleConnectionsMakePlace(t *testing.T) {
	var c Connections
	busy := open(&c, 1, http.StateNew, http.StateActive)
	used := open(&c, 1, http.StateNew, http.StateActive, http.StateIdle)
	idle := open(&c, maxConnections-2, http.StateNew)
	c.StateChanged(used[0], http.StateActive) // idle again, later than the others
	c.StateChanged(used[0], http.StateIdle)
	late := open(&c, maxConnections-2, http.StateNew)
	if closed(idle) != maxConnections-2 || closed(busy)+closed(used)+closed(late) > 0 {
		t.Errorf("closed: %d idle, %d busy, %d used lately, %d new", closed(idle), closed(busy), closed(used), closed(late))
	}
	for _, gone := range idle {
		c.StateChanged(gone, http.StateClosed)
	}
	if len(c.idle) != maxConnections {
		t.Errorf("%d connections are known, want %d", len(c.idle), maxConnections)
	}
	c.StateChanged(used[0], http.StateClosed)
	if open(&c, 1, http.StateNew); closed(late) > 0 {
		t.Error("one was closed though there was a place")
	}
}

func TestNewConnectionsWhereAllAreBusy(t *testing.T) {
	var c Connections
	busy := open(&c, maxConnections, http.StateNew, http.StateActive)
	late := open(&c, 10, http.StateNew)
	if closed(busy) > 0 || closed(late) != 10 {
		t.Errorf("%d busy ones were closed, and %d new ones of 10", closed(busy), closed(late))
	}
}

// TestWriteTimeout wants each write to have a time of its own.
func TestWriteTimeout(t *testing.T) {
	recorded := &deadlines{ResponseWriter: httptest.NewRecorder()}
	WriteTimeout(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !recorded.write.IsZero() {
			t.Error("the time begins before there is an answer")
		}
		_, _ = w.Write([]byte("answer"))
	})).ServeHTTP(recorded, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
	if left := time.Until(recorded.write); left <= 0 || left > writeTimeout {
		t.Errorf("a write has %s", left)
	}
}

type deadlines struct {
	http.ResponseWriter
	write time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = t; return nil }

func TestErrorLog(t *testing.T) {
	var text bytes.Buffer
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l := ErrorLog(log.NewLogfmtLogger(&text), func() time.Time { return now })
	for _, step := range []struct{ line, level string }{
		{"http: TLS handshake error from 192.0.2.1:1: EOF", "warn"},
		{"http: TLS handshake error from 192.0.2.2:2: EOF", "debug"},
		{"http: URL query contains semicolon", "warn"},
		{"http: TLS handshake error from 192.0.2.3:3: remote error", "debug"},
	} {
		text.Reset()
		l.Print(step.line)
		if got := text.String(); !strings.HasPrefix(got, "level="+step.level+" ") || strings.Count(got, "\n") != 1 || !strings.Contains(got, step.line) {
			t.Errorf("%s: %s", step.line, got)
		}
	}
	now = now.Add(quiet)
	text.Reset()
	if l.Print("http: TLS handshake error from 192.0.2.1:1: EOF"); !strings.HasPrefix(text.String(), "level=warn ") {
		t.Errorf("a minute later: %s", text.String())
	}
}
