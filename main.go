// Command ncp_exporter is a Prometheus exporter for the certificates and the
// certificate logins of NAVER Cloud Platform (NCP).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/version"

	"ncp_exporter/collector"
	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/subjects"
	"ncp_exporter/ncpclient"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// From the first signal on, a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	if version.Version == "" { // set by the Makefile
		version.Version = "devel"
	}
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// run is the whole program: it serves until ctx ends and returns the exit code.
func run(ctx context.Context, args []string, env func(string) (string, bool), stdout, stderr io.Writer) int {
	asked := -1
	app := newApp(stdout, func(code int) { asked = code })
	s := flags(app, env)
	err := parse(app, s, args, env)
	switch {
	case asked >= 0: // --help or --version has had its say
		return asked
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "%s: error: %s\n", program, err)
		return 1
	}
	if s.check {
		return checkUp(ctx, s, env, stdout)
	}
	logger, slogger, err := newLogger(stderr, s.logLevel, s.logFormat)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: error: %s\n", program, err)
		return 1
	}
	if err := serve(ctx, s, env, logger, slogger); err != nil {
		_ = level.Error(logger).Log("msg", "Stopped", "err", err)
		return 1
	}
	return 0
}

// serve wires the parts together and serves until ctx ends.
func serve(ctx context.Context, s *settings, env func(string) (string, bool), logger log.Logger, slogger *slog.Logger) error {
	_ = level.Info(logger).Log("msg", "Starting "+program, "version", version.Info(), "build", version.BuildContext())
	limitMemory(env, logger)
	source, err := newSource(ctx, s, env)
	if err != nil {
		return err
	}
	defer source.close()
	apis, err := connect(s, source, logger)
	if err != nil {
		return err
	}
	defer apis.close()

	counts, err := openLedger(s, source.externalAccessURL, logger)
	if err != nil {
		return err
	}
	defer func() {
		if err := counts.Close(); err != nil {
			_ = level.Error(logger).Log("msg", "The ledger could not be closed; what it holds is whole", "err", err)
		}
	}()
	page, err := newLanding(s, logger)
	if err != nil {
		return err
	}
	var all []collector.Collector
	if s.certificateManager {
		page.certificates = collector.NewCertificateManager(apis.certificateManager, counts, collector.CertificateManagerOptions{
			Window:         s.window,
			PerCertificate: s.perCertificate,
			Now:            time.Now,
		})
		all = append(all, page.certificates)
	}
	if apis.externalAccess != nil {
		page.subjects = collector.NewExternalAccess(subjects.NewWatcher(log.With(logger, "collector", ncpclient.APIExternalAccess), apis.externalAccess, counts, subjects.Options{
			IDs:         s.subjects,
			PageSize:    s.pageSize,
			Concurrency: s.maxConcurrency,
			Sweep:       s.sweep,
			LateArrival: s.lateArrival,
			Shard:       subjects.NewShard(s.shard, s.totalShards),
			Now:         time.Now,
		}), counts)
		all = append(all, page.subjects)
	}
	if s.inventory {
		all = append(all, collector.NewCertificateInventory(apis.certificateManager, time.Now))
	}
	if s.trustAnchors {
		all = append(all, collector.NewTrustAnchors(apis.externalAccess, s.maxConcurrency, time.Now))
	}
	exporter := collector.NewExporter(logger, collector.ExporterOptions{MaxAge: s.scrapeMaxAge, Now: time.Now}, all...)
	defer exporter.Close()
	page.exporter = exporter

	process := []prometheus.Collector{
		apis.metrics,
		collector.NewStateMetrics(counts),
		collector.NewShardMetrics(s.shard, s.totalShards),
		versioncollector.NewCollector(program, versioncollector.WithExtraConstLabels(prometheus.Labels{"build_date": version.BuildDate})),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	metrics := collector.NewHandler(logger, exporter, process, collector.HandlerOptions{
		Timeout:       s.scrapeTimeout,
		TimeoutOffset: s.scrapeTimeoutOffset,
	})
	return listen(ctx, s, routes(s.telemetryPath, metrics, page), exporter, logger, slogger)
}

// gcPercent is how much garbage is left lying, in percent of what is in use: less
// than Go's own 100, as with thousands of subjects most of the memory is what one
// scrape shows.
const gcPercent = 75

// limitMemory tells Go's garbage collector how much memory the container has,
// unless GOMEMLIMIT says it: it works harder before the kernel kills. GOGC comes
// before gcPercent.
func limitMemory(env func(string) (string, bool), logger log.Logger) {
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

// ledgerSite is where the histories in a ledger come from.
func ledgerSite(s *settings, externalAccessURL string) string {
	if s.demo {
		return "demo" // its address is another each time
	}
	return strings.TrimRight(externalAccessURL, "/")
}

// inMemory says whether no ledger on disk is wanted.
func inMemory(s *settings) bool { return s.demo && !s.stateFile.given || s.stateFile.path == "" }

// openLedger opens the ledger on disk, or makes one in memory if none is wanted
// or if the default file cannot be used.
func openLedger(s *settings, site string, logger log.Logger) (*ledger.Ledger, error) {
	options := ledger.Options{
		LateArrival:        s.lateArrival,
		SkipInitialHistory: s.initialHistory == initialHistorySkip,
		Now:                time.Now,
		Site:               ledgerSite(s, site),
		Kept: func(err error) {
			if err != nil {
				_ = level.Error(logger).Log("msg", "The ledger cannot be written: counting goes on in memory, and what is counted from now on is not safe until it can", "file", s.stateFile.path, "err", err)
				return
			}
			_ = level.Info(logger).Log("msg", "The ledger can be written again, and is complete", "file", s.stateFile.path)
		},
	}
	if inMemory(s) {
		_ = level.Info(logger).Log("msg", "Counting in memory: counters begin anew with each start")
		return ledger.New(options), nil
	}
	l, err := ledger.Open(s.stateFile.path, options)
	if errors.Is(err, ledger.ErrUnusable) && !s.stateFile.given {
		_ = level.Warn(logger).Log("msg", "The default ledger file cannot be used: counting in memory, counters begin anew with each start; give --state.file a path that can be written", "err", err)
		return ledger.New(options), nil
	}
	if err != nil {
		return nil, fmt.Errorf("--state.file: %w", err)
	}
	msg := "Counting goes on from the ledger"
	if l.Begun() {
		msg = "Counting begins with a new ledger"
	}
	_ = level.Info(logger).Log("msg", msg, "file", s.stateFile.path, "counting_since", l.Since().UTC().Format(time.RFC3339))
	return l, nil
}
