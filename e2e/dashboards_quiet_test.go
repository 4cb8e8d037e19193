//go:build e2e

package e2e

import (
	"testing"
	"time"

	"ncp_exporter/grafana"
	"ncp_exporter/ncpclient/ncptest"
)

// TestDashboardsOfAQuietAccount wants no panel to say "No data" where nothing is
// wrong, and every number to be one that worries nobody.
func TestDashboardsOfAQuietAccount(t *testing.T) {
	for name, furnish := range map[string]func(ncp){
		"quiet": func(n ncp) {
			n.certificateManager.SetChanges(ncptest.Change{OrderID: "410", CertificateID: 55991, Status: ncptest.StatusNormal})
			n.externalAccess.PutSubject(ncptest.Subject{SubjectID: "0a1b2c3d-busy", X509Subject: "CN=busy", Enabled: true})
			n.externalAccess.AddCredentials("0a1b2c3d-busy", ncptest.NewCredential(time.Now().Add(-time.Minute), "51", false))
		},
		"empty": func(ncp) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := dashboards(t)
			n := ncp{ncptest.New(ncptest.Config{}), ncptest.New(ncptest.Config{})}
			for _, s := range []*ncptest.Server{n.certificateManager, n.externalAccess} {
				if err := s.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = s.Close() })
			}
			furnish(n)
			v := view(t, watch(t, n), "groups: []", all[0])
			for _, p := range panels(all) {
				t.Run(p.Title, func(t *testing.T) {
					var results []result
					for _, target := range p.Targets {
						results = append(results, v.ask(t, target)...)
					}
					switch {
					case p.Type == "stat" && len(results) != 1:
						t.Errorf("it shows %q where it could say that nothing is wrong: %v", p.FieldConfig.Defaults.NoValue, results)
					case p.Type == "stat":
						checkCalm(t, &p, results[0].numbers(t)[0])
					case len(results) == 0 && p.FieldConfig.Defaults.NoValue == "":
						t.Error(`it says "No data"`)
					}
				})
			}
		})
	}
}

// checkCalm wants the colour of a number to be that of the best.
func checkCalm(t *testing.T, p *grafana.Panel, value float64) {
	t.Helper()
	f := p.FieldConfig.Defaults
	color := ""
	for _, step := range f.Thresholds.Steps {
		if step.Value == nil || value >= *step.Value {
			color = step.Color
		}
	}
	for _, m := range f.Mappings {
		if mapped, ok := m.Options[formatFloat(value)].(map[string]any); ok {
			color, _ = mapped["color"].(string)
		}
	}
	if color != "green" {
		t.Errorf("%v is %s though nothing is wrong", value, color)
	}
}
