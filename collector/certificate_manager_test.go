package collector

import (
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

const (
	changedFamily     = "ncp_certificate_manager_recently_changed_certificates"
	certificateFamily = "ncp_certificate_manager_certificate_status"
	changesFamily     = "ncp_certificate_manager_status_changes_total"
	windowFamily      = "ncp_certificate_manager_lookback_window_seconds"
)

func change(order string, id int64, status string) ncptest.Change {
	return ncptest.Change{OrderID: order, CertificateID: id, Status: status}
}

func TestCertificateCounts(t *testing.T) {
	tests := []struct {
		name    string
		changes []ncptest.Change
		want    string
	}{
		{"nothing changed", nil, `
			ncp_certificate_manager_recently_changed_certificates{status="normal"} 0
			ncp_certificate_manager_recently_changed_certificates{status="ongoing"} 0
			ncp_certificate_manager_recently_changed_certificates{status="unknown"} 0
			ncp_certificate_manager_recently_changed_certificates{status="validation_timed_out"} 0
		`},
		{"each status, in odd case", []ncptest.Change{
			change("1", 1, "Normal"), change("1", 2, " NORMAL "), change("2", 1, "ongoing"),
			change("3", 1, "Validation Timed Out"), change("4", 1, "Revoked"), change("5", 1, ""),
		}, `
			ncp_certificate_manager_certificate_status{certificate_id="1",order_id="1",status="normal"} 1
			ncp_certificate_manager_certificate_status{certificate_id="1",order_id="2",status="ongoing"} 1
			ncp_certificate_manager_certificate_status{certificate_id="1",order_id="3",status="validation_timed_out"} 1
			ncp_certificate_manager_certificate_status{certificate_id="1",order_id="4",status="unknown"} 1
			ncp_certificate_manager_certificate_status{certificate_id="1",order_id="5",status="unknown"} 1
			ncp_certificate_manager_certificate_status{certificate_id="2",order_id="1",status="normal"} 1
			ncp_certificate_manager_recently_changed_certificates{status="normal"} 2
			ncp_certificate_manager_recently_changed_certificates{status="ongoing"} 1
			ncp_certificate_manager_recently_changed_certificates{status="unknown"} 2
			ncp_certificate_manager_recently_changed_certificates{status="validation_timed_out"} 1
		`},
		{"repeated with other statuses: the most serious counts", []ncptest.Change{
			change("1", 1, "Normal"), change("1", 1, "Validation timed out"), change("1", 1, "Ongoing"),
			change("2", 1, "Normal"), change("2", 1, "Odd"), change("2", 1, "Normal"),
			change("3", 1, "Odd"), change("3", 1, "Ongoing"),
			change("4", 1, "Normal"), change("4", 1, "Normal"),
		}, `
			ncp_certificate_manager_certificate_status{certificate_id="1",order_id="1",status="validation_timed_out"} 1
			ncp_certificate_manager_certificate_status{certificate_id="1",order_id="2",status="unknown"} 1
			ncp_certificate_manager_certificate_status{certificate_id="1",order_id="3",status="ongoing"} 1
			ncp_certificate_manager_certificate_status{certificate_id="1",order_id="4",status="normal"} 1
			ncp_certificate_manager_recently_changed_certificates{status="normal"} 1
			ncp_certificate_manager_recently_changed_certificates{status="ongoing"} 1
			ncp_certificate_manager_recently_changed_certificates{status="unknown"} 1
			ncp_certificate_manager_recently_changed_certificates{status="validation_timed_out"} 1
		`},
		{"the largest id keeps its digits", []ncptest.Change{change("9007199254740993", 9223372036854775807, "Normal")}, `
			ncp_certificate_manager_certificate_status{certificate_id="9223372036854775807",order_id="9007199254740993",status="normal"} 1
			ncp_certificate_manager_recently_changed_certificates{status="normal"} 1
			ncp_certificate_manager_recently_changed_certificates{status="ongoing"} 0
			ncp_certificate_manager_recently_changed_certificates{status="unknown"} 0
			ncp_certificate_manager_recently_changed_certificates{status="validation_timed_out"} 0
		`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, worldOptions{perCert: true})
			w.SetChanges(tt.changes...)
			expect(t, w.scrape(t), tt.want, changedFamily, certificateFamily)
		})
	}
}

func TestPerCertificateOff(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.SetChanges(change("1", 1, "Ongoing"))
	s := w.scrape(t)
	wantAbsent(t, s, certificateFamily)
	wantValue(t, s, 1, changedFamily, "status", "ongoing")
	wantValue(t, s, 86400, windowFamily)
}

func TestStatusChangesBetweenScrapes(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.SetChanges(change("1", 1, "Ongoing"), change("2", 1, "Normal"))
	s := w.scrape(t)
	for _, status := range []string{"normal", "ongoing", "unknown", "validation_timed_out"} {
		wantValue(t, s, 0, changesFamily, "status", status)
	}
	w.SetChanges(change("1", 1, "Validation timed out"), change("3", 1, "Ongoing"))
	s = w.scrape(t)
	wantValue(t, s, 1, changesFamily, "status", "validation_timed_out")
	wantValue(t, s, 1, changesFamily, "status", "ongoing")

	// A scrape that fails sees no changes: the next one sees them.
	w.SetFault(ncptest.ForOp(ncptest.RecentChanges, ncptest.EmptyBody(500)))
	w.SetChanges(change("1", 1, "Normal"), change("3", 1, "Ongoing"))
	s = w.scrape(t)
	wantValue(t, s, 1, changesFamily, "status", "validation_timed_out")
	wantAbsent(t, s, changedFamily)
	wantAbsent(t, s, windowFamily)
	w.SetFault(nil)
	s = w.scrape(t)
	wantValue(t, s, 1, changesFamily, "status", "normal")
	wantValue(t, s, 1, changesFamily, "status", "ongoing")
}

func TestOnlyTheWindowIsAskedFor(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.SetChanges(
		ncptest.Change{OrderID: "1", CertificateID: 1, Status: "Normal", ChangedAt: time.Now().Add(-23 * time.Hour)},
		ncptest.Change{OrderID: "2", CertificateID: 1, Status: "Normal", ChangedAt: time.Now().Add(-25 * time.Hour)})
	wantValue(t, w.scrape(t), 1, changedFamily, "status", "normal")
	for _, r := range w.Requests() {
		if r.Op == ncptest.RecentChanges && r.Query != "minutes=1440" {
			t.Errorf("the query was %q, want minutes=1440 alone", r.Query)
		}
	}
}

// A row that cannot be shown hides no other row, but success is 0.
func TestCertificatesWithoutIDs(t *testing.T) {
	w := newWorld(t, worldOptions{})
	answer := func(orders string) {
		w.SetFault(ncptest.ForOp(ncptest.RecentChanges, ncptest.Raw(200, "application/json", `{"returnCode":"0","orders":[`+orders+`]}`)))
	}
	answer(`{"orderId":"1","certificateId":2,"status":"Validation timed out"},{"orderId":"5","certificateId":null,"status":"Ongoing"},"junk"`)
	s := w.scrape(t)
	wantValue(t, s, 0, successFamily, "collector", "certificate_manager")
	wantValue(t, s, 1, changedFamily, "status", "validation_timed_out")
	wantValue(t, s, 0, changedFamily, "status", "ongoing")

	answer(`"junk"`) // taken for an answer, this would look as if nothing was wrong
	s = w.scrape(t)
	wantValue(t, s, 0, successFamily, "collector", "certificate_manager")
	wantAbsent(t, s, changedFamily)
}
