package ncpclient

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// wire is what all connections of a transport carry from the client.
type wire struct {
	mu    sync.Mutex
	conns []*mortal
	sent  []sent
}

type sent struct {
	at      time.Time
	request string
}

// tap makes a transport's connections mortal and notes what is sent over them.
func tap(transport *http.Transport) *wire {
	w := &wire{}
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		m := &mortal{Conn: conn, wire: w}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.conns = append(w.conns, m)
		return m, nil
	}
	return w
}

// kill lets all connections die, in a way that shows at the next request only.
func (w *wire) kill(readErr, writeErr error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.dead, c.readErr, c.writeErr = true, readErr, writeErr
	}
}

func (w *wire) requests() []sent {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]sent(nil), w.sent...)
}

func (w *wire) dials() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.conns)
}

// mortal is a connection that may be dead without a sign of it.
type mortal struct {
	net.Conn
	wire              *wire
	dead              bool
	readErr, writeErr error
}

func (m *mortal) Write(p []byte) (int, error) {
	m.wire.mu.Lock()
	dead, writeErr := m.dead, m.writeErr
	m.wire.sent = append(m.wire.sent, sent{time.Now(), string(p)})
	m.wire.mu.Unlock()
	switch {
	case !dead:
		return m.Conn.Write(p)
	case writeErr != nil:
		return 0, writeErr
	default:
		return len(p), m.Close()
	}
}

func (m *mortal) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.wire.mu.Lock()
	defer m.wire.mu.Unlock()
	if m.dead && m.readErr != nil {
		err = m.readErr
	}
	return n, err
}

// A request that finds its pooled connection dead is sent again by us: it waits
// for the limit, is signed anew and is measured, and it is sent on a new
// connection even if the whole pool is dead. net/http does none of it.
func TestDeadConnections(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ readErr, writeErr error }{
		"closed":          {readErr: io.EOF},
		"reset":           {readErr: syscall.ECONNRESET},
		"nothing written": {readErr: syscall.ECONNRESET, writeErr: syscall.EPIPE},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sim, transport := bubbled(t, ncptest.Config{Latency: time.Second})
				w := tap(transport)
				var seen watcher
				var ticks int64
				var mu sync.Mutex
				api := certificateManagerAt(t, bubbleURL, through(transport), observed(&seen), func(c *Config) {
					c.MaxConcurrency, c.RateLimit = 3, 1
					c.Now = func() time.Time { // no two requests are signed at the same time
						mu.Lock()
						defer mu.Unlock()
						ticks++
						return time.Now().Add(time.Duration(ticks) * time.Millisecond)
					}
				})
				changesAtOnce(t, api, 3)
				w.kill(tt.readErr, tt.writeErr)
				if err := changesOf(t, api); err != nil {
					t.Errorf("without retries a dead connection is a failure: %v", err)
				}
				done, retried := seen.seen()
				requests := w.requests()
				if len(requests) != 5 || len(done) != 5 || retried != 1 || sim.Count(ncptest.RecentChanges) != 4 || w.dials() != 4 {
					t.Fatalf("%d requests on %d connections, %d observed, %d retries", len(requests), w.dials(), len(done), retried)
				}
				if done[3].Status != 0 || done[4].Status != http.StatusOK {
					t.Errorf("observed %+v", done[3:])
				}
				if gap := requests[4].at.Sub(requests[3].at); gap < 900*time.Millisecond {
					t.Errorf("sent again after %s, with a limit of one a second", gap)
				}
				signatures := make(map[string]bool)
				for _, sent := range requests {
					r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(sent.request)))
					if err != nil {
						t.Fatal(err)
					}
					signatures[r.Header.Get(headerSignature)+r.Header.Get(headerTimestamp)] = true
				}
				if len(signatures) != len(requests) {
					t.Errorf("%d signatures for %d requests", len(signatures), len(requests))
				}
			})
		})
	}
}

// Only the first dead connection of a call is free of MaxRetries, and a new
// connection that breaks is no dead one.
func TestDeadConnectionIsRetriedOnce(t *testing.T) {
	t.Parallel()
	for retriesAllowed, want := range map[int]int{0: 2, 2: 4} {
		synctest.Test(t, func(t *testing.T) {
			sim, transport := bubbled(t, ncptest.Config{})
			var w watcher
			api := certificateManagerAt(t, bubbleURL, through(transport), observed(&w), retries(retriesAllowed))
			if err := changesOf(t, api); err != nil {
				t.Fatal(err)
			}
			sim.ResetStats()
			sim.SetFault(ncptest.Always(ncptest.Reset()))
			wantReason(t, changesOf(t, api), ErrUnreachable)
			done, retried := w.seen()
			if got := sim.Count(ncptest.RecentChanges); got != want || len(done) != 1+want || retried != want-1 {
				t.Errorf("%d requests, want %d; %d observed, %d retries", got, want, len(done), retried)
			}
		})
	}
}

// A transport whose pool cannot be emptied may give one dead connection after
// another: more than the first are ordinary failures.
func TestSecondDeadConnectionIsNotFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, transport := bubbled(t, ncptest.Config{Latency: time.Second})
		w := tap(transport)
		api := certificateManagerAt(t, bubbleURL, through(roundTripFunc(transport.RoundTrip)))
		changesAtOnce(t, api, 3)
		w.kill(io.EOF, nil)
		wantReason(t, changesOf(t, api), ErrUnreachable)
		if got := len(w.requests()); got != 5 {
			t.Errorf("%d requests, want 5", got)
		}
	})
}

// An answer that breaks off on a pooled connection, or does not come, is no
// dead connection.
func TestBrokenAnswerIsNoDeadConnection(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]http.Handler{
		"cut short":      ncptest.CutShort(),
		"no answer":      ncptest.Hang(),
		"an endless one": ncptest.HugeHeader(1 << 20),
	} {
		synctest.Test(t, func(t *testing.T) {
			sim, transport := bubbled(t, ncptest.Config{})
			api := certificateManagerAt(t, bubbleURL, through(transport))
			if err := changesOf(t, api); err != nil {
				t.Fatal(err)
			}
			sim.SetFault(ncptest.Always(fault))
			if err := changesOf(t, api); err == nil || sim.Count(ncptest.RecentChanges) != 2 {
				t.Errorf("%s: %d requests, %v", name, sim.Count(ncptest.RecentChanges), err)
			}
		})
	}
}

// What keeps net/http from sending a request twice does not show on the wire.
func TestWhatIsOnTheWire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, transport := bubbled(t, ncptest.Config{})
		w := tap(transport)
		if err := changesOf(t, certificateManagerAt(t, bubbleURL, through(transport))); err != nil {
			t.Fatal(err)
		}
		requests := w.requests()
		if len(requests) != 1 {
			t.Fatalf("%d writes", len(requests))
		}
		head, rest, ok := strings.Cut(requests[0].request, "\r\n\r\n")
		if !ok || rest != "" || !strings.HasPrefix(head, "GET /api/v2/certificate/recentChanges?minutes=60 HTTP/1.1\r\n") {
			t.Errorf("sent %q", requests[0].request)
		}
		for _, header := range []string{"content-length", "transfer-encoding", "trailer", "expect"} {
			if bytes.Contains(bytes.ToLower([]byte(head)), []byte("\r\n"+header+":")) {
				t.Errorf("sent %q", head)
			}
		}
	})
}
