package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/exporter-toolkit/web"

	"ncp_exporter/internal/config"
)

const (
	healthyPath = "/-/healthy"
	readyPath   = "/-/ready"
)

// routes gives each path its handler; all others are not found.
func routes(telemetryPath string, metrics, landing http.Handler) http.Handler {
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintln(w, text) // the client is gone
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+telemetryPath, metrics)
	mux.Handle("GET "+healthyPath, say(config.Program+" is healthy."))
	mux.Handle("GET "+readyPath, say(config.Program+" is ready."))
	mux.Handle("GET /{$}", landing)
	return mux
}

const (
	// drainTime is how long scrapes in flight may go on after a signal, and
	// cutTime what they get to answer with what they have.
	drainTime = 4 * time.Second
	cutTime   = 500 * time.Millisecond
)

// server serves HTTP until it is told to stop.
type server struct {
	config    config.Config
	handler   http.Handler
	interrupt func() // makes scrapes in flight answer with what they have
	logger    log.Logger
	slogger   *slog.Logger
}

// serve serves until ctx ends, then lets the scrapes in flight end.
func (s server) serve(ctx context.Context) error {
	var announce sync.Once
	httpServer := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.slogger.Handler(), slog.LevelWarn),
		BaseContext: func(l net.Listener) context.Context {
			if s.config.Account.Demo {
				announce.Do(func() {
					_ = level.Info(s.logger).Log("msg", "Demo: a simulated NCP is being watched; see its metrics at "+metricsURL(l.Addr(), s.config.Web))
				})
			}
			return context.WithoutCancel(ctx) // a signal does not cut the scrapes in flight
		},
	}
	toolkit := s.config.Web.Toolkit
	served := make(chan error, 1)
	go func() { served <- web.ListenAndServe(httpServer, toolkit, s.slogger) }()
	select {
	case err := <-served:
		if *toolkit.WebSystemdSocket {
			return fmt.Errorf("serving on --web.systemd-socket: %w", err)
		}
		return fmt.Errorf("serving on --web.listen-address %s: %w", strings.Join(*toolkit.WebListenAddresses, ", "), err)
	case <-ctx.Done():
	}
	_ = level.Info(s.logger).Log("msg", "Stopping: scrapes in flight may end first")
	s.drain(context.WithoutCancel(ctx), httpServer)
	if err := <-served; err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	_ = level.Info(s.logger).Log("msg", "Stopped")
	return nil
}

// drain lets scrapes in flight end, then makes them end, then cuts them off.
func (s server) drain(ctx context.Context, httpServer *http.Server) {
	drain, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if err := httpServer.Shutdown(drain); errors.Is(err, context.DeadlineExceeded) {
		s.interrupt()
		cut, cancel := context.WithTimeout(ctx, cutTime)
		defer cancel()
		_ = httpServer.Shutdown(cut)
	}
	_ = httpServer.Close() // what is still open gets no answer
}

// metricsURL is where a browser on this machine finds the metrics.
func metricsURL(addr net.Addr, w config.Web) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil || *w.Toolkit.WebConfigFile != "" { // which may ask for TLS or not
		return w.TelemetryPath
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + w.TelemetryPath
}
