package account

import (
	"os"
	"testing"
	"time"

	"github.com/go-kit/log"

	"ncp_exporter/internal/config"
	"ncp_exporter/ncpclient"
	"ncp_exporter/ncpclient/ncptest"
)

// everything is an account of a simulated NCP of which all is watched.
func everything(t *testing.T) (Options, *ncptest.Server) {
	t.Helper()
	ncp := ncptest.New(ncptest.Config{})
	if err := ncp.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ncp.Close() }) // the test is over
	ncp.PutSubject(ncptest.Subject{SubjectID: "subject-1", Enabled: true})
	ncp.SetTrustAnchors(ncptest.TrustAnchor{ID: "anchor-1", Enabled: true})
	ncp.SetCertificates(ncptest.Certificate{No: 1, StatusCode: "1"})
	on := make(map[string]bool)
	for _, w := range Table() {
		on[w.Name] = true
	}
	keys := map[string]string{"NCLOUD_ACCESS_KEY_ID": ncptest.DemoAccessKey, "NCLOUD_SECRET_ACCESS_KEY": ncptest.DemoSecretKey}
	return Options{
		Config: config.Account{
			Limits:             config.Limits{Timeout: time.Minute, MaxConcurrency: 1},
			Collectors:         on,
			CertificateManager: config.CertificateManager{URL: ncp.CertificateManagerURL(), Window: time.Hour},
			ExternalAccess:     config.ExternalAccess{URL: ncp.ExternalAccessURL(), PageSize: 20, LateArrival: time.Hour},
		},
		Shard: config.Shard{Total: 1},
		LookupEnv: func(name string) (string, bool) {
			if v, ok := keys[name]; ok {
				return v, true
			}
			return os.LookupEnv(name)
		},
		Logger: log.NewNopLogger(),
	}, ncp
}

// TestEachRowHasItsProbes wants --check to make each call of each row, once, and
// to have a finding for it that no other call has.
func TestEachRowHasItsProbes(t *testing.T) {
	options, ncp := everything(t)
	setup, err := Prepare(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	defer setup.Close()
	findings := make(map[string]bool)
	for _, w := range Table() {
		if why := setup.Off(w); why != "" {
			t.Errorf("%s is not watched here: %s", w.Name, why)
			continue
		}
		if w.probe == nil || len(w.Calls) == 0 {
			t.Errorf("%s has no probe, or no calls", w.Name)
			continue
		}
		ncp.ResetStats()
		answers := setup.Probe(t.Context(), w)
		asked := make(map[ncpclient.Operation]Answer)
		for _, a := range answers {
			asked[a.Call.Operation] = a
			if a.Err != nil || a.Keys == "" || a.Advice != "" || a.ClockOffset == nil {
				t.Errorf("%s: %s was not asked, or not answered: %+v", w.Name, a.Call.Operation, a)
			}
		}
		for _, call := range w.Calls {
			if _, ok := asked[call.Operation]; !ok || ncp.Count(ncptest.Operation(call.Operation)) != 1 {
				t.Errorf("%s: %s is probed %d times, want once", w.Name, call.Operation, ncp.Count(ncptest.Operation(call.Operation)))
			}
			if call.Finding == "" || findings[call.Finding] || call.Needs == "" || call.Path == "" || call.Probe == "" {
				t.Errorf("%s: %s lacks words, or its finding is another's: %+v", w.Name, call.Operation, call)
			}
			findings[call.Finding] = true
		}
		if len(ncp.Requests()) != len(w.Calls) {
			t.Errorf("%s: %d requests for %d calls", w.Name, len(ncp.Requests()), len(w.Calls))
		}
	}
}

// TestTableNamesCollectors opens two accounts side by side, with all rows on.
func TestTableNamesCollectors(t *testing.T) {
	for range 2 {
		options, ncp := everything(t)
		a, err := Open(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		for i, w := range Table() {
			if i >= len(a.Collectors()) || a.Collectors()[i].Name() != w.Name {
				t.Errorf("the collector of row %d is not called %s", i, w.Name)
			}
		}
		if len(ncp.Requests()) > 0 {
			t.Errorf("to open an account sends %d requests", len(ncp.Requests()))
		}
	}
}

func TestNothingToWatch(t *testing.T) {
	options, _ := everything(t)
	options.Config.Collectors = nil
	if a, err := Open(t.Context(), options); err != ErrNothingToWatch { //nolint:errorlint // it is never wrapped
		t.Errorf("opened %v, error %v", a, err)
	}
}
