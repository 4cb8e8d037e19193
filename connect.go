package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"

	"ncp_exporter/collector"
	"ncp_exporter/ncpclient"
	"ncp_exporter/ncpclient/ncptest"
)

// source is the NCP that is watched: the real one, or the simulated one.
type source struct {
	certificateManagerURL string
	externalAccessURL     string
	// keys gives the keys of an API, whose own profile comes first.
	keys  func(profile string) (ncpclient.Credentials, error)
	close func()
}

func newSource(ctx context.Context, s *settings, env func(string) (string, bool)) (*source, error) {
	if s.demo {
		return demoSource(ctx)
	}
	certificateManager, externalAccess := siteURLs(s.site)
	return &source{
		certificateManagerURL: orElse(s.certificateManagerURL, certificateManager),
		externalAccessURL:     orElse(s.externalAccessURL, externalAccess),
		keys:                  func(profile string) (ncpclient.Credentials, error) { return findCredentials(s, env, profile) },
		close:                 func() {},
	}, nil
}

// siteURLs are the base URLs of a site. Version 2 of Certificate Manager exists on
// the public one only.
func siteURLs(site string) (certificateManager, externalAccess string) {
	switch site {
	case "gov":
		return "https://certificatemanager.apigw.gov-ntruss.com/api/v1", "https://externalaccess.apigw.gov-ntruss.com/api/v1"
	case "fin":
		return "https://certificatemanager.apigw.fin-ntruss.com/api/v1", "https://externalaccess.apigw.fin-ntruss.com/api/v1"
	default:
		return "https://certificatemanager.apigw.ntruss.com/api/v2", "https://externalaccess.apigw.ntruss.com/api/v1"
	}
}

func orElse(value, otherwise string) string {
	if value != "" {
		return value
	}
	return otherwise
}

// demoSource starts the simulated NCP, whose account lives until close.
func demoSource(ctx context.Context) (*source, error) {
	demo := ncptest.NewDemo(ncptest.Config{})
	if err := demo.Start(); err != nil { //nolint:contextcheck // close ends it
		return nil, fmt.Errorf("starting the simulated NCP: %w", err)
	}
	// It outlives the signal that ends ctx: scrapes in flight still ask it.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); demo.Run(ctx) }()
	key := demo.Key()
	keys := ncpclient.StaticCredentials(ncpclient.Keys{AccessKey: key.AccessKey, SecretKey: key.SecretKey}, "demo")
	return &source{
		certificateManagerURL: demo.CertificateManagerURL(),
		externalAccessURL:     demo.ExternalAccessURL(),
		keys:                  func(string) (ncpclient.Credentials, error) { return keys, nil },
		close: func() {
			cancel()
			<-done
			_ = demo.Close() // the process ends
		},
	}, nil
}

// findCredentials looks for the keys of one API.
func findCredentials(s *settings, env func(string) (string, bool), apiProfile string) (ncpclient.Credentials, error) {
	sources := ncpclient.CredentialSources{
		AccessKeyFile:   s.accessKeyFile,
		SecretKeyFile:   s.secretKeyFile,
		LookupEnv:       env,
		ProfileFile:     s.credentialsFile,
		Profile:         orElse(s.profile, fromEnv(env, "NCLOUD_PROFILE", "")),
		ProfileRequired: s.credentialsFile != "" || s.profile != "",
		APIProfile:      apiProfile,
	}
	if home, err := os.UserHomeDir(); err == nil {
		sources.ProfileFile = orElse(sources.ProfileFile, filepath.Join(home, ".ncloud", "configure"))
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
		return nil, fmt.Errorf("%w: set NCLOUD_ACCESS_KEY_ID and NCLOUD_SECRET_ACCESS_KEY, or give --ncp.access-key-file and --ncp.secret-key-file, "+
			"or a profile in %s, or --ncp.server-role; or look around with --demo", err, sources.ProfileFile)
	}
	return keys, err
}

// apis are the clients of the two APIs; nil for one that is not watched.
type apis struct {
	certificateManager *ncpclient.CertificateManager
	externalAccess     *ncpclient.ExternalAccess
	metrics            *collector.APIMetrics
	transport          *http.Transport
}

func (a *apis) close() { a.transport.CloseIdleConnections() }

var errNothingToWatch = errors.New("there is nothing to watch: --collector.certificate-manager and --collector.external-access are both off")

// withoutCertificateManager says why Certificate Manager cannot be watched here,
// whatever the flag wants; "" if it can.
func withoutCertificateManager(s *settings, from *source) string {
	switch {
	case strings.HasSuffix(strings.TrimRight(from.certificateManagerURL, "/"), "/v1"): // recentChanges exists in version 2 only
		return "this site has no recentChanges; give --ncp.certificate-manager.url if yours has"
	case s.shard > 0:
		return "shard 0 does it"
	default:
		return ""
	}
}

func newAPIs(s *settings) *apis {
	return &apis{
		metrics:   collector.NewAPIMetrics(),
		transport: ncpclient.NewTransport(s.maxConcurrency, proxyFromEnvironment),
	}
}

// errProxy says which setting is wrong, where a library would look for a host
// that is called http.
var errProxy = errors.New("the proxy's address (HTTPS_PROXY or HTTP_PROXY) cannot be read: it must be of the form http://host:port")

func proxyFromEnvironment(req *http.Request) (*url.URL, error) {
	return usableProxy(http.ProxyFromEnvironment(req))
}

func usableProxy(proxy *url.URL, err error) (*url.URL, error) {
	// An address that is none has http:// put before it in a second try, and
	// then its own scheme is the host.
	if proxy != nil && (proxy.Host == "http:" || proxy.Host == "https:") {
		return nil, errProxy
	}
	return proxy, err
}

// narrow switches off what this site does not have, and what is left to shard 0.
func narrow(s *settings, from *source, logger log.Logger) error {
	if why := withoutCertificateManager(s, from); s.certificateManager && why != "" {
		about := []any{"msg", "Certificate Manager is not watched: " + why, "site", s.site}
		if s.shard > 0 {
			about = append(about, "shard", s.shard)
		}
		_ = level.Info(logger).Log(about...)
		s.certificateManager = false
	}
	s.inventory = s.inventory && s.shard == 0
	s.trustAnchors = s.trustAnchors && s.externalAccess && s.shard == 0
	if !s.certificateManager && !s.externalAccess && !s.inventory {
		return errNothingToWatch
	}
	return nil
}

// connect makes the clients. It sends nothing to NCP yet.
func connect(s *settings, from *source, logger log.Logger) (*apis, error) {
	if err := narrow(s, from, logger); err != nil {
		return nil, err
	}
	a := newAPIs(s)
	if s.certificateManager || s.inventory {
		config, err := a.config(s, from, logger, ncpclient.APICertificateManager, from.certificateManagerURL, s.certificateManagerProfile)
		if err != nil {
			return nil, err
		}
		if a.certificateManager, err = ncpclient.NewCertificateManager(config); err != nil {
			return nil, fmt.Errorf("%s: %w", ncpclient.APICertificateManager, err)
		}
	}
	if s.certificateManager {
		a.metrics.Expect(ncpclient.APICertificateManager, a.certificateManager.RateLimit, ncpclient.OpRecentChanges)
	}
	if s.inventory {
		a.metrics.Expect(ncpclient.APICertificateManager, a.certificateManager.RateLimit, ncpclient.OpCertificates)
	}
	if s.externalAccess {
		config, err := a.config(s, from, logger, ncpclient.APIExternalAccess, from.externalAccessURL, s.externalAccessProfile)
		if err != nil {
			return nil, err
		}
		if a.externalAccess, err = ncpclient.NewExternalAccess(config); err != nil {
			return nil, fmt.Errorf("%s: %w", ncpclient.APIExternalAccess, err)
		}
		a.metrics.Expect(ncpclient.APIExternalAccess, a.externalAccess.RateLimit, ncpclient.OpSubjects, ncpclient.OpCredentials)
	}
	if s.trustAnchors {
		a.metrics.Expect(ncpclient.APIExternalAccess, a.externalAccess.RateLimit, ncpclient.OpTrustAnchors, ncpclient.OpCRLs)
	}
	return a, nil
}

// config is what the client of one API is made from.
func (a *apis) config(s *settings, from *source, logger log.Logger, api, base, profile string) (ncpclient.Config, error) {
	keys, err := from.keys(profile)
	if err != nil {
		return ncpclient.Config{}, fmt.Errorf("%s: %w", api, err)
	}
	_ = level.Info(logger).Log("msg", "Watching", "collector", api, "url", base, "keys", keys)
	return ncpclient.Config{
		BaseURL:        base,
		Credentials:    keys,
		Transport:      a.transport,
		Timeout:        s.timeout,
		MaxConcurrency: s.maxConcurrency,
		RateLimit:      s.rateLimit,
		MaxRetries:     s.maxRetries,
		Observer:       a.metrics,
		UserAgent:      program + "/" + version.Version,
	}, nil
}
