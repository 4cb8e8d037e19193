package collector

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// exposition is the answer to one scrape, or to several that share it.
type exposition struct {
	deadline time.Time
	done     chan struct{}
	// The fields below are set when done is closed.
	gone   bool // its client disconnected before there was any of it
	cut    bool // something is missing because the deadline came
	header http.Header
	status int
	body   bytes.Buffer
}

// exposition gives the answer to a request; nil if the client is gone.
func (h *handler) exposition(req *http.Request, names []string, deadline time.Time) *exposition {
	key := strings.Join(names, "\x00") + "\n" + strings.Join(metricNames(req), "\x00") +
		"\n" + strings.Join(req.Header["Accept"], ",") + "\n" + strings.Join(req.Header["Accept-Encoding"], ",")
	for {
		h.mu.Lock()
		e := h.shared[key]
		if e == nil || e.deadline.After(deadline) { // an answer with a later deadline may come too late
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
		if !e.gone && (!e.cut || !time.Now().Before(deadline)) {
			return e
		}
		// Something is missing in it, as its deadline was earlier. This scrape has time
		// left, so it tries again.
	}
}

// maxGrow is how much memory is taken for an exposition before there is any of it.
const maxGrow = 2 << 20

// expose makes an exposition.
func (h *handler) expose(e *exposition, key string, req *http.Request, names []string) {
	defer close(e.done)
	// If this client disconnects, the answer ends early; a client that shares it then
	// starts another.
	ctx, cancel := context.WithDeadline(req.Context(), e.deadline)
	defer cancel()
	scrape := h.exporter.Scrape(ctx, names)
	e.cut = scrape.cut
	h.mu.Lock()
	if h.shared[key] == e {
		delete(h.shared, key) // the next scrape asks NCP again
	}
	h.mu.Unlock()
	if e.gone = req.Context().Err() != nil; e.gone {
		return
	}
	e.body.Grow(int(min(h.size.Load(), maxGrow))) // it will be about as long as the last one
	defer func() { h.size.Store(int64(e.body.Len())) }()
	h.encode(e, req, scrape)
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
	_, _ = w.Write(e.body.Bytes()) //nolint:gosec // it is no HTML; the client may be gone
}
