// Command ncp_exporter is a Prometheus exporter for the certificates and the
// certificate logins of NAVER Cloud Platform (NCP).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/version"

	"ncp_exporter/collector"
	"ncp_exporter/collector/ledger"
	"ncp_exporter/ncpclient"
	"ncp_exporter/ncpclient/ncptest"
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
	apis, err := connect(ctx, s, env, logger)
	if err != nil {
		return err
	}
	defer apis.close()

	counts := ledger.New(ledger.Options{
		LateArrival:        s.lateArrival,
		SkipInitialHistory: s.initialHistory == initialHistorySkip,
		Now:                time.Now,
	})
	var all []collector.Collector
	if apis.certificateManager != nil {
		all = append(all, collector.NewCertificateManager(apis.certificateManager, counts, collector.CertificateManagerOptions{
			Window:         s.window,
			PerCertificate: s.perCertificate,
		}))
	}
	if apis.externalAccess != nil {
		all = append(all, collector.NewExternalAccess(logger, apis.externalAccess, counts, collector.ExternalAccessOptions{
			SubjectIDs:  s.subjects,
			PageSize:    s.pageSize,
			Concurrency: s.maxConcurrency,
			Now:         time.Now,
		}))
	}
	exporter := collector.NewExporter(logger, time.Now, all...)
	defer exporter.Close()

	process := prometheus.NewRegistry()
	process.MustRegister(
		apis.metrics,
		collector.NewStateMetrics(counts),
		versioncollector.NewCollector(program),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	metrics := collector.NewHandler(logger, exporter, process, collector.HandlerOptions{
		Timeout:       s.scrapeTimeout,
		TimeoutOffset: s.scrapeTimeoutOffset,
	})
	handler, err := routes(s.telemetryPath, metrics)
	if err != nil {
		return err
	}
	return listen(ctx, s, handler, exporter, logger, slogger)
}

// apis are the clients of the two APIs; nil for one that is not watched.
type apis struct {
	certificateManager *ncpclient.CertificateManager
	externalAccess     *ncpclient.ExternalAccess
	metrics            *collector.APIMetrics
	close              func()
}

// connect makes the clients. It sends nothing to NCP yet.
func connect(ctx context.Context, s *settings, env func(string) (string, bool), logger log.Logger) (*apis, error) {
	if s.certificateManagerURL == "" {
		s.certificateManagerURL = sites[s.site].certificateManager
	}
	if s.externalAccessURL == "" {
		s.externalAccessURL = sites[s.site].externalAccess
	}
	a := &apis{metrics: collector.NewAPIMetrics()}
	credentials := func(profile string) (ncpclient.Credentials, error) { return findCredentials(s, env, profile) }
	stopDemo := func() {}
	if s.demo {
		demo, stop, err := startDemo(ctx)
		if err != nil {
			return nil, err
		}
		stopDemo = stop
		s.certificateManagerURL, s.externalAccessURL = demo.CertificateManagerURL(), demo.ExternalAccessURL()
		credentials = func(string) (ncpclient.Credentials, error) {
			return ncpclient.StaticCredentials(ncpclient.Keys{AccessKey: demo.Key().AccessKey, SecretKey: demo.Key().SecretKey}, "demo"), nil
		}
	}
	if s.certificateManager && s.certificateManagerURL == "" {
		_ = level.Info(logger).Log("msg", "Certificate Manager is not watched: this site has no recentChanges; give --ncp.certificate-manager.url if yours has", "site", s.site)
		s.certificateManager = false
	}
	if !s.certificateManager && !s.externalAccess {
		stopDemo()
		return nil, errors.New("there is nothing to watch: --collector.certificate-manager and --collector.external-access are both off")
	}

	transport := ncpclient.NewTransport(s.maxConcurrency, http.ProxyFromEnvironment)
	a.close = func() { transport.CloseIdleConnections(); stopDemo() }
	config := func(api, url, profile string) (ncpclient.Config, error) {
		keys, err := credentials(profile)
		if err != nil {
			return ncpclient.Config{}, err
		}
		_ = level.Info(logger).Log("msg", "Watching", "collector", api, "url", url, "keys", keys)
		return ncpclient.Config{
			BaseURL:        url,
			Credentials:    keys,
			Transport:      transport,
			Timeout:        s.timeout,
			MaxConcurrency: s.maxConcurrency,
			RateLimit:      s.rateLimit,
			MaxRetries:     s.maxRetries,
			Observer:       a.metrics,
			UserAgent:      program + "/" + version.Version,
		}, nil
	}
	if s.certificateManager {
		c, err := config(ncpclient.APICertificateManager, s.certificateManagerURL, s.certificateManagerProfile)
		if err == nil {
			a.certificateManager, err = ncpclient.NewCertificateManager(c)
		}
		if err != nil {
			a.close()
			return nil, fmt.Errorf("certificate manager: %w", err)
		}
		a.metrics.Expect(ncpclient.APICertificateManager, ncpclient.OpRecentChanges)
	}
	if s.externalAccess {
		c, err := config(ncpclient.APIExternalAccess, s.externalAccessURL, s.externalAccessProfile)
		if err == nil {
			a.externalAccess, err = ncpclient.NewExternalAccess(c)
		}
		if err != nil {
			a.close()
			return nil, fmt.Errorf("external access: %w", err)
		}
		a.metrics.Expect(ncpclient.APIExternalAccess, ncpclient.OpSubjects, ncpclient.OpCredentials)
	}
	return a, nil
}

// findCredentials looks for the keys of one API.
func findCredentials(s *settings, env func(string) (string, bool), apiProfile string) (ncpclient.Credentials, error) {
	sources := ncpclient.CredentialSources{
		AccessKeyFile:   s.accessKeyFile,
		SecretKeyFile:   s.secretKeyFile,
		LookupEnv:       env,
		ProfileFile:     s.credentialsFile,
		Profile:         s.profile,
		ProfileRequired: s.credentialsFile != "" || s.profile != "",
		APIProfile:      apiProfile,
	}
	if sources.Profile == "" {
		sources.Profile = fromEnv(env, "NCLOUD_PROFILE", "")
	}
	if sources.ProfileFile == "" {
		home, err := os.UserHomeDir()
		if err == nil {
			sources.ProfileFile = filepath.Join(home, ".ncloud", "configure")
		}
	}
	if s.serverRole {
		role, err := ncpclient.ServerRoleCredentials(s.serverRoleURL, time.Now)
		if err != nil {
			return nil, fmt.Errorf("--ncp.server-role.url: %w", err)
		}
		sources.ServerRole = role
	}
	keys, err := ncpclient.FindCredentials(sources)
	if errors.Is(err, ncpclient.ErrNoKeys) {
		return nil, fmt.Errorf("%w; set NCLOUD_ACCESS_KEY_ID and NCLOUD_SECRET_ACCESS_KEY, or give --ncp.access-key-file and --ncp.secret-key-file, "+
			"or a profile in %s, or --ncp.server-role; or look around with --demo", err, sources.ProfileFile)
	}
	return keys, err
}

// startDemo starts the simulated NCP.
func startDemo(ctx context.Context) (*ncptest.Demo, func(), error) {
	demo := ncptest.NewDemo(ncptest.Config{})
	if err := demo.Start(); err != nil {
		return nil, nil, fmt.Errorf("starting the simulated NCP: %w", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); demo.Run(ctx) }()
	return demo, func() {
		cancel()
		<-done
		_ = demo.Close() // the process ends
	}, nil
}
