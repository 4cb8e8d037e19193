// Package peers bounds what clients can do to the server, by intent or because they
// are broken: the connections that they hold, and the answers that they do not take.
package peers

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxConnections is far below 1,024, a usual limit of descriptors.
const maxConnections = 256

// Connections bounds the open connections of a server. At the bound, a new one takes
// the place of the one that has been idle longest, so that nobody who holds
// connections locks Prometheus out. The zero value is ready.
type Connections struct {
	mu    sync.Mutex
	steps uint64
	idle  map[net.Conn]uint64 // since which step; 0 while a request is answered
}

// StateChanged is for http.Server.ConnState, which calls it before the next
// connection is accepted.
func (c *Connections) StateChanged(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateClosed, http.StateHijacked:
		delete(c.idle, conn)
	case http.StateActive:
		c.idle[conn] = 0
	case http.StateNew, http.StateIdle:
		if c.idle == nil {
			c.idle = make(map[net.Conn]uint64)
		}
		c.steps++
		c.idle[conn] = c.steps
		if len(c.idle) > maxConnections {
			c.closeIdle()
		}
	}
}

// closeIdle closes the connection that has been idle longest, which is the new one if
// all others are in use.
func (c *Connections) closeIdle() {
	var longest net.Conn
	for conn, since := range c.idle {
		if since > 0 && (longest == nil || since < c.idle[longest]) {
			longest = conn
		}
	}
	delete(c.idle, longest) // the server reports the end later
	if secure, ok := longest.(*tls.Conn); ok {
		longest = secure.NetConn() // TLS would wait for the peer to take its goodbye
	}
	_ = longest.Close() // nobody is there to be told
}

// writeTimeout is how long a client may take no byte of its answer.
const writeTimeout = 30 * time.Second

// WriteTimeout ends answers that the client does not take: each holds one of
// --web.max-requests. http.Server.WriteTimeout begins with the request, so it would
// end long scrapes too.
func WriteTimeout(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(timedWriter{w}, r)
	})
}

type timedWriter struct{ http.ResponseWriter }

func (t timedWriter) Write(p []byte) (int, error) {
	// An error is that of a writer without deadlines: no connection.
	_ = http.NewResponseController(t.ResponseWriter).SetWriteDeadline(time.Now().Add(writeTimeout))
	return t.ResponseWriter.Write(p)
}
