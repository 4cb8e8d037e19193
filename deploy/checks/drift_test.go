package checks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"

	"ncp_exporter/deploy/checks/chart"
)

// TestRulesAndDashboards demands that the chart and the kustomization install what
// the repository has.
func TestRulesAndDashboards(t *testing.T) {
	r := helm(t, "", "prometheusRule.enabled=true", "dashboards.enabled=true")
	var source, kustomized monitoring.PrometheusRuleSpec
	text, err := os.ReadFile(filepath.Join(root, "deploy/prometheus/ncp_exporter.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := (Manifest{text: text}).Into(&source); err != nil || len(source.Groups) == 0 {
		t.Fatalf("%d groups of rules, error %v", len(source.Groups), err)
	}
	var object monitoring.PrometheusRule
	if _, err := split(t, kustomize(t, overlay("single"))).One("PrometheusRule", &object); err != nil {
		t.Fatal(err)
	}
	kustomized = object.Spec
	for _, got := range []monitoring.PrometheusRuleSpec{one[monitoring.PrometheusRule](t, r, "PrometheusRule").Spec, kustomized} {
		if diff := cmp.Diff(source.Groups, got.Groups, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}

	want := map[string]string{}
	files, err := filepath.Glob(filepath.Join(root, "grafana/dashboards/*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // a file of this repository
		if err != nil {
			t.Fatal(err)
		}
		want[filepath.Base(file)] = strings.TrimSpace(string(text))
	}
	got := map[string]string{}
	for _, m := range r.Manifests {
		if m.Kind != "ConfigMap" {
			continue
		}
		var c corev1.ConfigMap
		if err := m.Into(&c); err != nil {
			t.Fatal(err)
		}
		if c.Labels["grafana_dashboard"] != "1" {
			t.Errorf("%s has labels %v", c.Name, c.Labels)
		}
		for name, text := range c.Data {
			got[name] = strings.TrimSpace(text)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestNothingDrifted compares what is made from other files with what they are.
func TestNothingDrifted(t *testing.T) {
	drift, err := chart.Drift(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range drift {
		t.Errorf("%s is not what it is made from: run `make deploy-sync` and commit what it writes", path)
	}
}
