package collector

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// exposition is an answer to a scrape, or to several.
type exposition struct {
	deadline time.Time
	done     chan struct{}
	// What follows is set when done is closed.
	cut    bool // the deadline left something out
	header http.Header
	status int
	body   bytes.Buffer
}

// exposition gives the answer to a request; nil if nobody waits for it any more.
func (h *handler) exposition(req *http.Request, names []string, deadline time.Time) *exposition {
	key := strings.Join(names, "\x00") + "\n" + strings.Join(req.Header["Accept"], ",") + "\n" + strings.Join(req.Header["Accept-Encoding"], ",")
	for {
		h.mu.Lock()
		e := h.shared[key]
		if e == nil || e.deadline.After(deadline) { // that one may come too late
			e = &exposition{deadline: deadline, done: make(chan struct{}), header: make(http.Header)}
			h.shared[key] = e
			h.mu.Unlock()
			h.expose(e, key, req, names)
			return e
		}
		h.mu.Unlock()
		select {
		case <-e.done:
		case <-req.Context().Done():
			return nil
		}
		if !e.cut || !time.Now().Before(deadline) {
			return e
		}
		// It was cut off by an earlier deadline: this scrape has time left.
	}
}

// expose makes an exposition.
func (h *handler) expose(e *exposition, key string, req *http.Request, names []string) {
	defer close(e.done)
	// If the client goes away it is cut off, and who joined begins another.
	ctx, cancel := context.WithDeadline(req.Context(), e.deadline)
	defer cancel()
	scrape := h.exporter.Scrape(ctx, names)
	e.cut = scrape.cut
	h.mu.Lock()
	if h.shared[key] == e {
		delete(h.shared, key) // who comes now asks NCP anew
	}
	h.mu.Unlock()
	// One registry for all: to gather from two checks each series twice.
	registry := prometheus.NewRegistry()
	registry.MustRegister(h.process...)
	registry.MustRegister(scrape)
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: errorLog{h.logger},
		// A metric that cannot be shown must not hide the others.
		ErrorHandling:     promhttp.ContinueOnError,
		EnableOpenMetrics: true,
	}).ServeHTTP(e, req)
}

// Header makes an exposition an http.ResponseWriter.
func (e *exposition) Header() http.Header { return e.header }

// WriteHeader makes an exposition an http.ResponseWriter.
func (e *exposition) WriteHeader(status int) { e.status = status }

// Write makes an exposition an http.ResponseWriter.
func (e *exposition) Write(p []byte) (int, error) { return e.body.Write(p) }

// write sends an exposition.
func (e *exposition) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), e.header)
	w.Header().Set("Content-Length", strconv.Itoa(e.body.Len()))
	if e.status != 0 {
		w.WriteHeader(e.status)
	}
	_, _ = w.Write(e.body.Bytes()) // the client may be gone
}
