package account

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/cespare/xxhash/v2"

	"ncp_exporter/ncpclient"
	"ncp_exporter/ncpclient/ncptest"
)

// locate completes the configuration by where the APIs are.
func (s *Setup) locate(ctx context.Context) error {
	s.owner.Account = s.Config.Name
	if s.Config.Demo {
		return s.simulate(ctx)
	}
	manager, access := &s.Config.CertificateManager, &s.Config.ExternalAccess
	managerURL, accessURL := siteURLs(s.Config.Site)
	manager.URL, access.URL = cmp.Or(manager.URL, managerURL), cmp.Or(access.URL, accessURL)
	s.owner.BaseURL = strings.TrimRight(access.URL, "/")
	return nil
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

// seed makes the simulated accounts differ; that of the flags has 0.
func seed(name string) uint64 {
	if name == "" {
		return 0
	}
	return xxhash.Sum64String(name)
}

// simulate starts the simulated NCP, which lives until the account is closed.
func (s *Setup) simulate(ctx context.Context) error {
	demo := ncptest.NewDemo(ncptest.Config{Seed: seed(s.Config.Name)})
	if err := demo.Start(); err != nil { //nolint:contextcheck // stopDemo ends it
		return fmt.Errorf("starting the simulated NCP: %w", err)
	}
	// It outlives the signal that ends ctx: scrapes in flight still ask it.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); demo.Run(ctx) }()
	s.stopDemo = func() {
		cancel()
		<-done
		_ = demo.Close() // the process ends
	}
	key := demo.Key()
	s.demoKeys = ncpclient.StaticCredentials(ncpclient.Keys{AccessKey: key.AccessKey, SecretKey: key.SecretKey}, "demo")
	s.Config.CertificateManager.URL, s.Config.ExternalAccess.URL = demo.CertificateManagerURL(), demo.ExternalAccessURL()
	s.owner.BaseURL = "demo" // its address is another one each time
	return nil
}
