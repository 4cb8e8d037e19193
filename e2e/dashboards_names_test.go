//go:build e2e

package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

const firstRead = "ncp_external_access_first_read_progress_ratio"

// TestDashboardsNameTheDemo follows the names of the demo to the panels: the domain of a
// certificate that is not validated, the certificate with which a subject failed and what
// is left of its own, and what an alert is about and asks for.
func TestDashboardsNameTheDemo(t *testing.T) {
	t.Parallel() // it waits for Prometheus most of the time
	all := dashboards(t)
	v := view(t, launch(t, nil, "--demo"), dashboardsRules, all[0])

	eventually(t, "a certificate that is not validated has its name", func() error {
		rows := column(t, v, panelOf(t, all, "Certificates not validated"), "Value", "status", "certificate_id", "name")
		if len(rows) == 0 {
			return errNotYet
		}
		for _, row := range rows {
			if !strings.HasSuffix(row.labels[2], ".example.com") {
				return fmt.Errorf("no name: %v", row)
			}
		}
		return nil
	})

	who := panelOf(t, all, whoFailed)
	var batch string
	eventually(t, "legacy-batch has failed", func() error {
		for _, row := range column(t, v, who, "Value #H", "key", "x509_subject") {
			if strings.HasPrefix(row.labels[1], "CN=legacy-batch,") {
				batch = row.labels[0]
				return nil
			}
		}
		return errNotYet
	})
	eventually(t, "the certificate that failed is told, and that it has expired", func() error {
		failed, left := 0, 0.0
		for _, row := range column(t, v, who, "Value #G", "key", "issuer", "serial_number") {
			if row.labels[0] == batch && row.labels[1] == "Example Issuing CA G2" && len(row.labels[2]) > 5 {
				failed++
			}
		}
		for _, row := range column(t, v, who, "Value #E", "key") {
			if row.labels[0] == batch {
				left = row.value
			}
		}
		// Two of its three hosts have one that expired three days before the start.
		if failed != 1 || left > -3*24*3600 || left < -3*24*3600-600 {
			return fmt.Errorf("%d certificates, %v s left", failed, left)
		}
		return nil
	})
	eventually(t, "an alert tells what it is about", func() error {
		for _, row := range column(t, v, panelOf(t, all, "Alerts"), "Value", "alertname", "about", "of") {
			if row.labels[0] == "NCPTest" && strings.Contains(row.labels[1], externalAccess) && row.labels[2] == "ncp" {
				return nil
			}
		}
		return errNotYet
	})
}

// TestDashboardsShowAFirstRead wants the progress of a long first read in the table of
// subjects.
func TestDashboardsShowAFirstRead(t *testing.T) {
	t.Parallel() // it waits for Prometheus most of the time
	const long = "0a1b2c3d-long"
	all := dashboards(t)
	n := newNCP(t, ncptest.Config{})
	n.externalAccess.PutSubject(ncptest.Subject{SubjectID: long, X509Subject: "CN=long", Enabled: true})
	rows := make([]ncptest.Credential, 40_000)
	for i := range rows {
		rows[i] = ncptest.NewCredential(time.Now().Add(time.Duration(i-len(rows))*time.Second), strconv.Itoa(i), false)
	}
	n.externalAccess.AddCredentials(long, rows...)
	v := view(t, watch(t, n, "--ncp.rate-limit=10", "--collector.external-access.page-size=100"), dashboardsRules, all[0])
	eventually(t, "the progress of the first read is shown", func() error {
		if rows := column(t, v, panelOf(t, all, "All subjects"), "Value #H", "key"); len(rows) != 1 || rows[0].value <= 0 || rows[0].value >= 1 {
			return fmt.Errorf("progress: %v", rows)
		}
		return nil
	})
}
