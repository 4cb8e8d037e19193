package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

// TestDemoLeavesTheLedgerAlone starts the demo on the ledger of an account, and the account
// on it again.
func TestDemoLeavesTheLedgerAlone(t *testing.T) {
	ncp := simulate(t, ncptest.Config{})
	file := filepath.Join(t.TempDir(), "l.db")
	account := []string{"--state.file=" + file, "--ncp.certificate-manager.url=" + ncp.CertificateManagerURL(), "--ncp.external-access.url=" + ncp.ExternalAccessURL()}
	ledger := func() []byte {
		text, err := os.ReadFile(file) //nolint:gosec // made by the test
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	p := launch(t, demoKeys(), account...)
	p.scrape().want(t, "ncp_exporter_state_persistent", "1")
	p.stopped()
	before := ledger()
	for _, more := range []string{"--demo.accounts=1", "--demo.accounts=2"} {
		demo := launch(t, nil, "--demo", more, "--state.file="+file)
		if more == "--demo.accounts=1" { // its ledger is on disk too
			demo.scrape().want(t, "ncp_exporter_state_persistent", "1")
		}
		demo.stopped()
		if !bytes.Equal(before, ledger()) {
			t.Errorf("%s has changed the ledger of an account", more)
		}
	}
	launch(t, demoKeys(), account...).scrape().want(t, "ncp_exporter_state_persistent", "1")
}
