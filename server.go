package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/exporter-toolkit/web"

	"ncp_exporter/internal/config"
	"ncp_exporter/internal/health"
	"ncp_exporter/internal/logging"
	"ncp_exporter/internal/peers"
)

const (
	healthyPath = health.Path
	readyPath   = "/-/ready"
)

// routes gives each path its handler; all others are not found.
func routes(telemetryPath string, metrics, landing http.Handler) *http.ServeMux {
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintln(w, text) // the client is gone
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+telemetryPath, metrics)
	mux.Handle("GET "+healthyPath, say(health.Answer))
	mux.Handle("GET "+readyPath, say(config.Program+" is ready."))
	mux.Handle("GET /{$}", landing)
	return mux
}

const (
	// drainTime is how long scrapes in flight may go on after a signal, and
	// cutTime what they get to answer with what they have.
	drainTime = 3500 * time.Millisecond
	cutTime   = 500 * time.Millisecond
)

// serveHTTP serves until ctx ends, then lets the scrapes in flight end. interrupt
// makes them answer with what they have.
func serveHTTP(ctx context.Context, cfg config.Config, handler http.Handler, interrupt func(), logs logging.Log) error {
	logger, toolkit := logs.Logger, cfg.Web.Toolkit
	var announce sync.Once
	var connections peers.Connections
	httpServer := &http.Server{
		Handler:           peers.WriteTimeout(handler),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       20 * time.Second,
		IdleTimeout:       5 * time.Minute, // Prometheus may take its time to the next scrape
		MaxHeaderBytes:    64 << 10,
		ConnState:         connections.StateChanged,
		ErrorLog:          logs.Server,
		BaseContext: func(l net.Listener) context.Context {
			if cfg.Account.Demo {
				announce.Do(func() {
					path, what := cfg.Web.TelemetryPath, "its metrics"
					if cfg.DemoAccounts > 1 {
						path, what = "/sd", "its accounts"
					}
					_ = level.Info(logger).Log("msg", "Demo: a simulated NCP is being watched; see "+what+" at "+urlOf(l.Addr(), cfg.Web, path))
				})
			}
			return context.WithoutCancel(ctx) // a signal does not cut the scrapes in flight
		},
	}
	served := make(chan error, 1)
	go func() { served <- web.ListenAndServe(httpServer, toolkit, logs.Slog) }()
	select {
	case err := <-served:
		if *toolkit.WebSystemdSocket {
			return fmt.Errorf("serving on --web.systemd-socket: %w", err)
		}
		return fmt.Errorf("serving on --web.listen-address %s: %w", strings.Join(*toolkit.WebListenAddresses, ", "), err)
	case <-ctx.Done():
	}
	_ = level.Info(logger).Log("msg", "Stopping: scrapes in flight may end first")
	drain(context.WithoutCancel(ctx), httpServer, interrupt)
	if err := <-served; err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	_ = level.Info(logger).Log("msg", "Stopped")
	return nil
}

// drain lets scrapes in flight end, then makes them end, then cuts them off.
func drain(ctx context.Context, httpServer *http.Server, interrupt func()) {
	drain, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if err := httpServer.Shutdown(drain); errors.Is(err, context.DeadlineExceeded) {
		interrupt()
		cut, cancel := context.WithTimeout(ctx, cutTime)
		defer cancel()
		_ = httpServer.Shutdown(cut)
	}
	_ = httpServer.Close() // what is still open gets no answer
}

// urlOf is where a browser on this machine finds a path.
func urlOf(addr net.Addr, w config.Web, path string) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil || *w.Toolkit.WebConfigFile != "" { // which may ask for TLS or not
		return path
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + path
}
