package peers

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
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
