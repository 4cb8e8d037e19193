package collector

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

const (
	notBeforeFamily  = "ncp_external_access_subject_certificate_not_before_timestamp_seconds"
	notAfterFamily   = "ncp_external_access_subject_certificate_not_after_timestamp_seconds"
	unreadableFamily = "ncp_external_access_unreadable_certificates"
)

// showing is a login at that minute, with a certificate that expires after that many
// days.
func showing(minute, days int) ncptest.Credential {
	row := ncptest.NewCredential(past().Add(time.Duration(minute)*time.Minute), strconv.Itoa(days), false)
	from := past().Truncate(time.Second)
	row.X509CertificateData = ncptest.NewCertificate(int64(days), from, from.AddDate(0, 0, days))
	return row
}

func runsOut(days int) float64 { return timestamp(past().Truncate(time.Second).AddDate(0, 0, days)) }

func TestTheCertificateOfTheNewestRow(t *testing.T) {
	for _, order := range []ncptest.Order{ncptest.NewestFirst, ncptest.OldestFirst, ncptest.NoOrder} {
		t.Run(order.String(), func(t *testing.T) {
			w := newWorld(t, worldOptions{pageSize: 20, ncp: ncptest.Config{Order: order}})
			put(w.Server, "s", "idle")
			w.AddCredentials("s", history(250)...)
			s := w.scrape(t)
			wantAbsent(t, s, notAfterFamily)
			wantValue(t, s, 1, unreadableFamily) // the placeholder of NCP's guide; a subject that never logged in is not counted here
			for day := 1; day < 60; day += 7 {
				w.AddCredentials("s", showing(300+day, day))
				s = w.scrape(t)
				wantValue(t, s, runsOut(day), notAfterFamily, "subject_id", "s")
				wantValue(t, s, timestamp(past().Truncate(time.Second)), notBeforeFamily, "subject_id", "s")
				wantValue(t, s, 0, unreadableFamily)
			}
			wantAbsent(t, s, notAfterFamily, "subject_id", "idle")
			// A row that arrives late is not the newest one.
			w.AddCredentials("s", showing(299, 999))
			wantValue(t, w.scrape(t), runsOut(57), notAfterFamily, "subject_id", "s")
			// If the newest row has an unreadable certificate, an older one must not be shown.
			junk := showing(400, 1)
			junk.X509CertificateData = "-----BEGIN CERTIFICATE-----\ns3cret\n-----END CERTIFICATE-----"
			w.AddCredentials("s", junk)
			s = w.scrape(t)
			wantAbsent(t, s, notAfterFamily)
			wantAbsent(t, s, notBeforeFamily)
			wantValue(t, s, 1, unreadableFamily)
			wantValue(t, s, 1, successFamily, "collector", "external_access")
			if strings.Contains(w.log.String(), "s3cret") {
				t.Errorf("a certificate is in the log: %s", w.log)
			}
			// A row without a time, or with a time in the future, is not the newest one.
			w.AddCredentials("s", showing(500, 5),
				ncptest.Credential{Raw: json.RawMessage(`{"serialNumber":"x","x509CertificateData":"x","failed":true,"seenTime":"2099-12-12T18:09:05Z"}`)},
				ncptest.Credential{Raw: json.RawMessage(`{"serialNumber":"y","x509CertificateData":"y","failed":true,"seenTime":"yesterday"}`)})
			wantValue(t, w.scrape(t), runsOut(5), notAfterFamily, "subject_id", "s")
		})
	}
}

// When NCP drops the newest rows, the certificate that was seen last stays. When the
// history is empty, it goes.
func TestTheCertificateOfAHistoryThatGoes(t *testing.T) {
	w := newWorld(t, worldOptions{})
	put(w.Server, "s")
	w.AddCredentials("s", showing(1, 1), showing(2, 2))
	wantValue(t, w.scrape(t), runsOut(2), notAfterFamily, "subject_id", "s")
	w.RemoveCredentials("s", func(c ncptest.Credential) bool { return c.SerialNumber == "2" })
	wantValue(t, w.scrape(t), runsOut(2), notAfterFamily, "subject_id", "s")
	w.TrimCredentials("s", 0)
	s := w.scrape(t)
	wantAbsent(t, s, notAfterFamily)
	wantValue(t, s, 0, unreadableFamily)
}

// After a failed read the gauges are missing; after the next good one they are back.
func TestTheCertificateOfAReadThatFails(t *testing.T) {
	w := newWorld(t, worldOptions{})
	put(w.Server, "s", "well")
	w.AddCredentials("s", showing(1, 1))
	w.AddCredentials("well", showing(1, 1))
	w.scrape(t)
	w.SetFault(ncptest.ForSubject("s", ncptest.EmptyBody(500)))
	s := w.scrape(t)
	wantAbsent(t, s, notAfterFamily, "subject_id", "s")
	wantAbsent(t, s, notBeforeFamily, "subject_id", "s")
	wantValue(t, s, runsOut(1), notAfterFamily, "subject_id", "well")
	w.SetFault(nil)
	wantValue(t, w.scrape(t), runsOut(1), notAfterFamily, "subject_id", "s")
}

// While the list says that nothing changed, the certificate stays.
func TestTheCertificateWhileSweeping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{direct: true, sweep: 24 * time.Hour})
		put(w.Server, "s")
		w.AddCredentials("s", showing(1, 1))
		w.scrape(t)
		time.Sleep(time.Second)
		w.ResetStats()
		wantValue(t, w.scrape(t), runsOut(1), notAfterFamily, "subject_id", "s")
		if n := w.Count(ncptest.Credentials); n != 0 {
			t.Errorf("%d histories were read", n)
		}
	})
}
