package account

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"ncp_exporter/ncpclient"
	"ncp_exporter/ncpclient/ncptest"
)

// source is the NCP that is watched: the real one, or the simulated one.
type source struct {
	certificateManagerURL string
	externalAccessURL     string
	keys                  func(apiProfile string) (ncpclient.Credentials, error)
	site                  string // where the histories of the ledger come from
	close                 func()
}

func newSource(ctx context.Context, o Options) (*source, error) {
	if o.Config.Demo {
		return demoSource(ctx)
	}
	certificateManager, externalAccess := siteURLs(o.Config.Site)
	s := &source{
		certificateManagerURL: cmp.Or(o.Config.CertificateManager.URL, certificateManager),
		externalAccessURL:     cmp.Or(o.Config.ExternalAccess.URL, externalAccess),
		keys:                  func(apiProfile string) (ncpclient.Credentials, error) { return findKeys(o, apiProfile) },
		close:                 func() {},
	}
	s.site = strings.TrimRight(s.externalAccessURL, "/")
	return s, nil
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
		site:                  "demo", // its address is another one each time
		close: func() {
			cancel()
			<-done
			_ = demo.Close() // the process ends
		},
	}, nil
}
