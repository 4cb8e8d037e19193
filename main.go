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
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/version"

	"ncp_exporter/collector/subjects"
	"ncp_exporter/internal/account"
	"ncp_exporter/internal/check"
	"ncp_exporter/internal/config"
	"ncp_exporter/internal/health"
	"ncp_exporter/internal/landing"
	"ncp_exporter/internal/logging"
	"ncp_exporter/internal/reload"
	"ncp_exporter/internal/usage"
	"ncp_exporter/internal/web"
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
	tidyEnvironment()
	app := newApp(stdout, func(code int) { asked = code })
	unparsed := flags(app, env)
	if usage.Complete(app, args, stdout) {
		return 0
	}
	cfg, err := parse(app, unparsed, tidyArgs(args), env)
	switch {
	case asked >= 0: // --help or --version has had its say
		return asked
	case err != nil:
		return refuse(stderr, err)
	case cfg.Check.File:
		return config.CheckFile(cfg, stdout)
	}
	if cfg.Check.Health {
		if err := health.Check(ctx, cfg.Web, stdout); err != nil {
			return refuse(stderr, err)
		}
		return 0
	}
	unknown := misspelt(app, os.Environ())
	accounts, err := accountsOf(cfg)
	switch {
	case err != nil:
		return refuse(stderr, err)
	case cfg.Check.Run:
		for _, name := range unknown {
			_, _ = fmt.Fprintf(stderr, "%s: warning: %s: %s\n", config.Program, name, setsNothing)
		}
		return check.Run(ctx, cfg, accounts, env, stdout)
	}
	logs, err := logging.New(stderr, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return refuse(stderr, err)
	}
	defer logs.Close()
	for _, name := range unknown {
		_ = level.Warn(logs.Logger).Log("msg", "A variable sets nothing: "+setsNothing, "variable", name)
	}
	if err := serve(ctx, cfg, accounts, env, logs); err != nil {
		_ = level.Error(logs.Logger).Log("msg", "Stopped", "err", err)
		return 1
	}
	return 0
}

func refuse(stderr io.Writer, err error) (code int) {
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintf(stderr, "%s: error: %s\n", config.Program, strings.TrimSpace(line))
	}
	return 1
}

// accountsOf gives the accounts, each with a name; nil if there is only that of the
// flags, which has none.
func accountsOf(cfg config.Config) ([]config.Account, error) {
	if cfg.File != "" {
		return config.LoadFile(cfg.File, cfg)
	}
	if !cfg.Account.Demo || cfg.DemoAccounts < 2 {
		return nil, nil
	}
	accounts := make([]config.Account, cfg.DemoAccounts)
	for i := range accounts {
		a := cfg.Account
		a.Name = fmt.Sprintf("demo-%d", i+1)
		if !a.InMemory() {
			a.StateFile.Path = filepath.Join(filepath.Dir(a.StateFile.Path), "accounts", a.Name+".demo")
		}
		accounts[i] = a
	}
	return accounts, nil
}

// serve opens the accounts and serves them until ctx ends.
func serve(ctx context.Context, cfg config.Config, accounts []config.Account, env lookupEnv, logs logging.Log) error {
	logger := logs.Logger
	_ = level.Info(logger).Log("msg", "Starting "+config.Program, "version", version.Info(), "build", version.BuildContext())
	limitMemory(env, accounts != nil, logger)
	if err := checkProxy(env, logger); err != nil && !cfg.Account.Demo {
		return err
	}
	if accounts == nil {
		return serveOne(ctx, cfg, env, logs)
	}
	return serveSeveral(ctx, cfg, accounts, env, logs)
}

func versionMetrics() prometheus.Collector {
	return versioncollector.NewCollector(config.Program, versioncollector.WithExtraConstLabels(prometheus.Labels{"build_date": version.BuildDate}))
}

// processMetrics are those of the process, whatever it watches.
func processMetrics() []prometheus.Collector {
	return []prometheus.Collector{
		versionMetrics(),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
}

// serveOne serves the account of the flags.
func serveOne(ctx context.Context, cfg config.Config, env lookupEnv, logs logging.Log) error {
	watched, err := account.Open(ctx, account.Options{Config: cfg.Account, Shard: cfg.Shard, LookupEnv: env, Logger: logs.Logger, Journal: subjects.Journal{Of: cfg.Log.Of, Flush: logs.Flush}})
	if err != nil {
		return err
	}
	defer watched.Close()
	page, err := landing.New(watched, cfg.Web.TelemetryPath, logs.Clients, time.Now)
	if err != nil {
		return err
	}
	metrics := watched.Handler(cfg.Scrape, processMetrics()...)
	return serveHTTP(ctx, cfg, routes(cfg.Web.TelemetryPath, metrics, page), watched.Interrupt, logs)
}

// serveSeveral serves accounts by name, and reloads their file.
func serveSeveral(ctx context.Context, cfg config.Config, accounts []config.Account, env lookupEnv, logs logging.Log) error {
	metricsPath := cfg.Web.TelemetryPath
	if metricsPath == web.ProbePath || metricsPath == web.SDPath {
		return fmt.Errorf("%s is %s, which serves the accounts: give another path", config.FlagName("web.telemetry-path"), metricsPath)
	}
	sayUnused(env, logs.Logger)
	set, err := account.OpenSet(ctx, account.SetOptions{
		Shard: cfg.Shard, LookupEnv: env, Logger: logs.Logger, Journal: subjects.Journal{Of: cfg.Log.Of, Flush: logs.Flush}, Scrape: cfg.Scrape,
		Process: []prometheus.Collector{versionMetrics()}, Now: time.Now,
	}, accounts)
	if err != nil {
		return err
	}
	defer set.Close()
	page, err := landing.NewSet(set, metricsPath, logs.Clients, time.Now)
	if err != nil {
		return err
	}
	probe := web.NewProbe(set, logs.Clients)
	reloader := reload.New(reload.Options{
		File: cfg.File, Load: func() ([]config.Account, error) { return config.LoadFile(cfg.File, cfg) },
		Apply: set.Reload, Logger: logs.Logger, Now: time.Now,
	})
	mux := routes(metricsPath, web.Metrics(append(processMetrics(), set, probe, reloader)...), page)
	mux.Handle("GET "+web.ProbePath, probe)
	mux.Handle("GET "+web.SDPath, web.ServiceDiscovery(set, metricsPath))
	if cfg.File != "" {
		if cfg.Web.Lifecycle {
			mux.Handle(web.ReloadPath, web.Reload(reloader.Asked))
		}
		defer runReloader(ctx, reloader, cfg.AutoReload)()
	}
	return serveHTTP(ctx, cfg, mux, set.Interrupt, logs)
}

// runReloader reloads at SIGHUP and at changes of the file. stop ends it.
func runReloader(ctx context.Context, reloader *reload.Reloader, interval time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	var running sync.WaitGroup
	running.Go(func() { reloader.Run(ctx, hangup, interval) })
	return func() {
		signal.Stop(hangup)
		cancel()
		running.Wait()
	}
}

// sayUnused names the variables of NCP's own tools, which say nothing about several
// accounts.
func sayUnused(env lookupEnv, logger log.Logger) {
	var unused []string
	for _, name := range []string{"NCLOUD_ACCESS_KEY_ID", "NCLOUD_ACCESS_KEY", "NCLOUD_SECRET_ACCESS_KEY", "NCLOUD_SECRET_KEY", "NCLOUD_PROFILE"} {
		if v, _ := env(name); v != "" {
			unused = append(unused, name)
		}
	}
	if len(unused) > 0 {
		_ = level.Info(logger).Log("msg", "Several accounts: variables of NCP's own tools are used only where an account names them", "variables", strings.Join(unused, ","))
	}
}

// gcPercent is how much garbage may lie around, in percent of what is in use: less
// than Go's own 100, as with thousands of subjects most of the memory is what one
// scrape shows.
const gcPercent = 75

// gcPercentOfSeveral is that of several accounts, which have less to do for each MiB:
// a hundred of them answer within 96 MiB even if all are scraped at the same instant.
const gcPercentOfSeveral = 40

// limitMemory tells Go's garbage collector how much memory the container has,
// unless GOMEMLIMIT says it: it works harder before the kernel kills. GOGC comes
// before gcPercent.
func limitMemory(env lookupEnv, several bool, logger log.Logger) {
	percent := gcPercent
	if several {
		percent = gcPercentOfSeveral
	}
	if _, given := env("GOGC"); !given {
		debug.SetGCPercent(percent)
	}
	limit, err := memlimit.Set()
	switch {
	case err != nil:
		_ = level.Warn(logger).Log("msg", "The container's memory limit could not be told to Go; GOMEMLIMIT can", "err", err)
	case limit < math.MaxInt64:
		_ = level.Info(logger).Log("msg", "Memory is limited", "gomemlimit_bytes", limit)
	}
}
