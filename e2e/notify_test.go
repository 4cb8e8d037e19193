//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// TestNotifications follows a validation that times out, a failed login and an
// exporter that ends from the simulated NCP to a webhook, and their ends as well:
// the exporter, Prometheus and Alertmanager are real, their files those that are
// committed.
func TestNotifications(t *testing.T) {
	t.Parallel() // it waits most of the time
	const subject, name = "0a1b2c3d-payment", "CN=payment-api, OU=Platform, O=\"Example, Inc.\""
	n := newNCP(t, ncptest.Config{})
	changes := func(status string) {
		n.certificateManager.SetChanges(
			ncptest.Change{OrderID: "410", CertificateID: 55991, Status: ncptest.StatusNormal},
			ncptest.Change{OrderID: "412", CertificateID: 56001, Status: status},
		)
	}
	changes(ncptest.StatusOngoing)
	n.externalAccess.PutSubject(ncptest.Subject{SubjectID: subject, X509Subject: name, Enabled: true})
	n.externalAccess.AddCredentials(subject, ncptest.NewCredential(time.Now(), "1", false))
	args := hasty("--state.file=" + t.TempDir() + "/ledger.db")
	e := watch(t, n, args...)
	s := watchdog(t, t.TempDir(), e)

	arrives := func(receiver, status string, labels map[string]string, meanwhile func()) *alert {
		t.Helper()
		var found *alert
		until(t, fmt.Sprintf("%v is told to be %s", labels, status), func() error {
			if found = s.webhook.find(receiver, status, labels); found != nil {
				return nil
			}
			meanwhile()
			return fmt.Errorf("told was\n%s", s.webhook.told())
		})
		found.check(t)
		return found
	}
	nothing := func() {}

	timedOut := map[string]string{
		"alertname": "NCPCertificateValidationTimedOut", "severity": "critical", "job": "ncp", "order_id": "412", "certificate_id": "56001",
	}
	changes(ncptest.StatusValidationTimedOut)
	arrives("wake-somebody", "firing", timedOut, nothing)

	// One login in twenty fails: too few for a ratio, which would be told instead.
	failed := map[string]string{
		"alertname": "NCPAuthenticationFailed", "severity": "info", "job": "ncp", "subject_id": subject, "x509_subject": name,
	}
	serial := 1
	next := time.Now()
	arrives("list", "firing", failed, func() {
		if time.Now().Before(next) {
			return
		}
		next = time.Now().Add(time.Second)
		for i := range 20 {
			serial++
			n.externalAccess.AddCredentials(subject, ncptest.NewCredential(time.Now(), strconv.Itoa(serial), i == 0))
		}
	})

	// The failures are over, and the certificate was validated after all.
	arrives("list", "resolved", failed, nothing)
	if s.webhook.find("wake-somebody", "resolved", timedOut) != nil {
		t.Error("the certificate is told to be well before it is")
	}
	changes(ncptest.StatusNormal)
	if a := arrives("wake-somebody", "resolved", timedOut, nothing); !a.EndsAt.After(a.StartsAt) {
		t.Errorf("it was resolved at %s, and began at %s", a.EndsAt, a.StartsAt)
	}

	address := strings.TrimPrefix(e.url, "http://")
	down := map[string]string{"alertname": "NCPExporterDown", "severity": "critical", "job": "ncp", "instance": address}
	e.signal(t, os.Interrupt)
	e.exit(t)
	arrives("wake-somebody", "firing", down, nothing)
	again := start(t, demoKeys(), binary, append(append([]string{"--web.listen-address=" + address}, n.args()...), args...)...)
	again.address(t)
	arrives("wake-somebody", "resolved", down, nothing)
}

// TestNotificationsOfTheDemo waits for what the demo promises to show: a certificate
// that times out after three minutes, of which nearly all have passed here, and a
// workload whose logins fail.
func TestNotificationsOfTheDemo(t *testing.T) {
	t.Parallel() // it waits most of the time
	begun := time.Now().Add(-170 * time.Second)
	demo := ncptest.NewDemo(ncptest.Config{Now: func() time.Time { return begun }})
	demo.Configure(func(c *ncptest.Config) { c.Now = time.Now })
	demo.Advance(time.Now())
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = demo.Close() })
	s := watchdog(t, t.TempDir(), watch(t, ncp{demo.Server, demo.Server}, hasty()...))
	for receiver, want := range map[string]map[string]string{
		"wake-somebody": {"alertname": "NCPCertificateValidationTimedOut", "severity": "critical", "job": "ncp"},
		"list":          {"alertname": "NCPAuthenticationFailed", "severity": "info", "job": "ncp", "x509_subject": "CN=legacy-batch, OU=Batch, O=Example Corp., C=KR"},
	} {
		for _, status := range []string{"firing", "resolved"} {
			if status == "resolved" && receiver == "wake-somebody" {
				continue // it stays so for a day
			}
			var found *alert
			until(t, fmt.Sprintf("%v is told to be %s", want, status), func() error {
				demo.Advance(time.Now())
				if found = s.webhook.find(receiver, status, want); found == nil {
					return fmt.Errorf("told was\n%s", s.webhook.told())
				}
				return nil
			})
			found.check(t)
		}
	}
}

// newNCP is a simulated NCP with an empty account for each API.
func newNCP(t *testing.T, config ncptest.Config) ncp {
	t.Helper()
	n := ncp{ncptest.New(config), ncptest.New(config)}
	for _, s := range []*ncptest.Server{n.certificateManager, n.externalAccess} {
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
	}
	return n
}
