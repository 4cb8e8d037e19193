// Command ncp_exporter is a Prometheus exporter for the certificates and the
// certificate logins of NAVER Cloud Platform (NCP).
package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/version"

	"ncp_exporter/internal/account"
	"ncp_exporter/internal/check"
	"ncp_exporter/internal/config"
	"ncp_exporter/internal/landing"
	"ncp_exporter/internal/logging"
)

// stopTime is when a signal has ended the program, at the latest.
const stopTime = 4800 * time.Millisecond

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() {
		stop() // a second signal ends the process at once
		// What hangs in the operating system, such as a key on a dead file server, cannot
		// be ended. The ledger is whole at any time.
		time.AfterFunc(stopTime, func() { os.Exit(1) })
	})
	if version.Version == "" { // set by the Makefile
		version.Version = "devel"
	}
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// run is the whole program: it serves until ctx ends and returns the exit code.
func run(ctx context.Context, args []string, env lookupEnv, stdout, stderr io.Writer) int {
	asked := -1
	app := newApp(stdout, func(code int) { asked = code })
	cfg, err := parse(app, flags(app, env), args, env)
	switch {
	case asked >= 0: // --help or --version has had its say
		return asked
	case err != nil:
		return refuse(stderr, err)
	case cfg.Check.File:
		return config.CheckFile(cfg, stdout)
	case cfg.Check.Run:
		return check.Run(ctx, cfg, env, stdout)
	}
	logs, err := logging.New(stderr, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return refuse(stderr, err)
	}
	defer logs.Close()
	if err := serve(ctx, cfg, env, logs); err != nil {
		_ = level.Error(logs.Logger).Log("msg", "Stopped", "err", err)
		return 1
	}
	return 0
}

func refuse(stderr io.Writer, err error) (code int) {
	_, _ = fmt.Fprintf(stderr, "%s: error: %s\n", config.Program, err)
	return 1
}

// serve opens the account and serves it until ctx ends.
func serve(ctx context.Context, cfg config.Config, env lookupEnv, logs logging.Log) error {
	logger := logs.Logger
	_ = level.Info(logger).Log("msg", "Starting "+config.Program, "version", version.Info(), "build", version.BuildContext())
	limitMemory(env, logger)
	watched, err := account.Open(ctx, account.Options{Config: cfg.Account, Shard: cfg.Shard, LookupEnv: env, Logger: logger})
	if err != nil {
		return err
	}
	defer watched.Close()
	page, err := landing.New(watched, cfg.Web.TelemetryPath, time.Now)
	if err != nil {
		return err
	}
	metrics := watched.Handler(cfg.Scrape,
		versioncollector.NewCollector(config.Program, versioncollector.WithExtraConstLabels(prometheus.Labels{"build_date": version.BuildDate})),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return serveHTTP(ctx, cfg, routes(cfg.Web.TelemetryPath, metrics, page), watched.Interrupt, logs)
}

// gcPercent is how much garbage may lie around, in percent of what is in use: less
// than Go's own 100, as with thousands of subjects most of the memory is what one
// scrape shows.
const gcPercent = 75

// limitMemory tells Go's garbage collector how much memory the container has,
// unless GOMEMLIMIT says it: it works harder before the kernel kills. GOGC comes
// before gcPercent.
func limitMemory(env lookupEnv, logger log.Logger) {
	if _, given := env("GOGC"); !given {
		debug.SetGCPercent(gcPercent)
	}
	limit, err := memlimit.Set()
	switch {
	case err != nil:
		_ = level.Warn(logger).Log("msg", "The container's memory limit could not be told to Go; GOMEMLIMIT can", "err", err)
	case limit < math.MaxInt64:
		_ = level.Info(logger).Log("msg", "Memory is limited", "gomemlimit_bytes", limit)
	}
}
