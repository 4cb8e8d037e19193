//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"ncp_exporter/grafana"
	"ncp_exporter/ncpclient/ncptest"
)

// TestDashboardsOfSeveralAccounts scrapes two accounts with one job and one instance, as
// those of one exporter are, and a subject of the same id. One account breaks: it must
// not hide behind the other one.
func TestDashboardsOfSeveralAccounts(t *testing.T) {
	t.Parallel() // it waits for Prometheus most of the time
	const same = "0a1b2c3d-same"
	all := dashboards(t)
	oncall := all[1:]
	accounts, targets := make(map[string]ncp), ""
	for _, name := range []string{"dev", "prod"} {
		n := newNCP(t, ncptest.Config{})
		n.certificateManager.SetChanges(ncptest.Change{OrderID: "410", CertificateID: 55992, Status: ncptest.StatusOngoing})
		n.externalAccess.PutSubject(ncptest.Subject{SubjectID: same, X509Subject: "CN=" + name, Enabled: true})
		n.externalAccess.AddCredentials(same, ncptest.NewCredential(time.Now().Add(-time.Minute), "1", true))
		accounts[name] = n
		targets += fmt.Sprintf("      - targets: [%q]\n        labels: {account: %s, instance: exporter}\n", //nolint:perfsprint // a few
			strings.TrimPrefix(watch(t, n).url, "http://"), name)
	}
	v := viewTargets(t, targets, dashboardsRules, oncall[0])

	for title, from := range map[string]string{
		"All subjects": "Value #A", whoFailed: "Value #H", "Certificates not validated": "Value", "Alerts": "Value",
	} {
		eventually(t, title+" has rows of both accounts", func() error {
			found := make(map[string]bool)
			for _, row := range column(t, v, panelOf(t, oncall, title), from, "account") {
				found[row.labels[0]] = true
			}
			if len(found) != 2 || !found["dev"] || !found["prod"] {
				return fmt.Errorf("rows of %v", found)
			}
			return nil
		})
	}
	var names []string
	for _, row := range column(t, v, panelOf(t, oncall, "All subjects"), "Value #A", "key", "x509_subject") {
		names = append(names, strings.Join(row.labels, " "))
	}
	slices.Sort(names)
	if want := []string{"dev/" + same + " CN=dev", "prod/" + same + " CN=prod"}; !slices.Equal(names, want) {
		t.Errorf("the subjects are %q, want %q", names, want)
	}
	for _, p := range panels(all) {
		for _, target := range p.Targets {
			if strings.Contains(target.LegendFormat, "{{account}}") {
				checkShape(t, &p, target, v.ask(t, target)) // no two lines have one name
			}
		}
	}

	accounts["dev"].externalAccess.SetFault(ncptest.Always(ncptest.HTMLPage(http.StatusBadRequest)))
	collectors := panelOf(t, oncall, "NCP").Targets[0]
	eventually(t, "the account that fails does not hide", func() error {
		if values := v.ask(t, collectors); len(values) != 1 || values[0].numbers(t)[0] != 0 {
			return fmt.Errorf("collectors: %v", values)
		}
		return nil
	})
	chosen := slices.IndexFunc(oncall[0].Templating.List, func(v grafana.Variable) bool { return v.Name == "account" })
	if values := v.values(t, oncall[0].Templating.List[chosen]); !slices.Equal(values, []string{"dev", "prod"}) {
		t.Errorf("the accounts to choose from are %q", values)
	}
	oncall[0].Templating.List[chosen].AllValue = "prod"
	v.choose(t, oncall[0])
	if values := v.ask(t, collectors); len(values) != 1 || values[0].numbers(t)[0] != 1 {
		t.Errorf("the collectors of the chosen account are %v", values)
	}
}
