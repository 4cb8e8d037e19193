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

	"ncp_exporter/collector"
)

const (
	healthyPath = "/-/healthy"
	readyPath   = "/-/ready"
)

// routes gives each path its handler; all others are not found.
func routes(telemetryPath string, metrics, landing http.Handler) http.Handler {
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintln(w, text) // the client's loss
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+telemetryPath, metrics)
	mux.Handle("GET "+healthyPath, say(program+" is healthy."))
	mux.Handle("GET "+readyPath, say(program+" is ready."))
	mux.Handle("GET /{$}", landing)
	return mux
}

const (
	// drainTime is how long scrapes in flight may go on after a signal, and
	// cutTime what they get to answer with what they have.
	drainTime = 4 * time.Second
	cutTime   = 500 * time.Millisecond
)

// listen serves until ctx ends, then lets the scrapes in flight end.
func listen(ctx context.Context, s *settings, handler http.Handler, exporter *collector.Exporter, logger log.Logger, slogger *slog.Logger) error {
	var sayWhere sync.Once
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(slogger.Handler(), slog.LevelWarn),
		BaseContext: func(l net.Listener) context.Context {
			if s.demo {
				sayWhere.Do(func() {
					_ = level.Info(logger).Log("msg", "Demo: a simulated NCP is being watched; see its metrics at "+metricsURL(l.Addr(), s))
				})
			}
			return context.WithoutCancel(ctx) // a signal does not cut the scrapes in flight
		},
	}
	served := make(chan error, 1)
	go func() { served <- web.ListenAndServe(server, s.web, slogger) }()
	select {
	case err := <-served:
		if *s.web.WebSystemdSocket {
			return fmt.Errorf("serving on --web.systemd-socket: %w", err)
		}
		return fmt.Errorf("serving on --web.listen-address %s: %w", strings.Join(*s.web.WebListenAddresses, ", "), err)
	case <-ctx.Done():
	}
	_ = level.Info(logger).Log("msg", "Stopping: scrapes in flight may end first")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := server.Shutdown(drain); errors.Is(err, context.DeadlineExceeded) {
		// What is left answers with what it has.
		exporter.Close()
		cut, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutTime)
		defer cancel()
		_ = server.Shutdown(cut) // whoever is left now is cut off
	}
	_ = server.Close() // nothing is left to lose
	if err := <-served; err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	_ = level.Info(logger).Log("msg", "Stopped")
	return nil
}

// metricsURL is where a browser on this machine finds the metrics.
func metricsURL(addr net.Addr, s *settings) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil || *s.web.WebConfigFile != "" { // which may ask for TLS or not
		return s.telemetryPath
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + s.telemetryPath
}
