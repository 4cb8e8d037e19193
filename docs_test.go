package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"ncp_exporter/collector"
	"ncp_exporter/collector/ledger"
	"ncp_exporter/ncpclient/ncptest"
)

// TestDocs compares the tables in README.md and docs/ with the code that they
// describe. `make docs` writes them.
func TestDocs(t *testing.T) {
	families := documentedFamilies(t)
	for _, table := range []struct{ file, name, text string }{
		{"README.md", "check", demoCheck(t)},
		{"README.md", "flags", flagTable()},
		{"README.md", "metrics", metricTable(families)},
		{"docs/configuration.md", "flags", flagTable()},
		{"docs/metrics.md", "metrics", metricSections(families)},
	} {
		t.Run(table.file+" "+table.name, func(t *testing.T) {
			old, err := os.ReadFile(table.file)
			if err != nil {
				t.Fatal(err)
			}
			updated, err := replaceTable(string(old), table.name, table.text)
			switch {
			case err != nil:
				t.Fatal(err)
			case updated == string(old):
			case *update:
				if err := os.WriteFile(table.file, []byte(updated), 0o600); err != nil { //nolint:gosec // the names are in this test
					t.Fatal(err)
				}
			default:
				t.Errorf("%s does not tell what the code does: run `make docs` and commit what it writes", table.file)
			}
		})
	}
}

var update = flag.Bool("update", false, "write the tables instead of comparing them") //nolint:gochecknoglobals // a flag of the test

// replaceTable puts text between the marks of a generated part.
func replaceTable(file, name, text string) (string, error) {
	begin := "<!-- " + name + ": made by `make docs` from the code -->\n"
	end := "<!-- end of " + name + " -->"
	before, rest, ok := strings.Cut(file, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", fmt.Errorf("there is no part between %q and %q", strings.TrimSpace(begin), end)
	}
	return before + begin + text + end + after, nil
}

func flagTable() string {
	app := newApp(io.Discard, func(int) {})
	flags(app, func(string) (string, bool) { return "", false })
	var b strings.Builder
	b.WriteString("| flag | default | meaning |\n|---|---|---|\n")
	for _, f := range app.Model().Flags {
		if f.Hidden || strings.HasPrefix(f.Name, "help") || strings.HasPrefix(f.Name, "completion") || f.Name == "version" {
			continue
		}
		name := "--" + f.Name
		if f.IsBoolFlag() {
			name = "--[no-]" + f.Name
		}
		value := strings.Join(f.Default, ", ")
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `%s`<br>`%s` | %s | %s |\n", name, envar(f.Name), value, strings.ReplaceAll(f.Help, "|", `\|`))
	}
	return b.String()
}

// demoCheck is what --demo --check says, but for the port, which is another each time.
func demoCheck(t *testing.T) string {
	t.Helper()
	var stdout, stderr strings.Builder
	if code := run(t.Context(), []string{"--demo", "--check"}, env{}.lookup, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Fatalf("--demo --check: exit code %d, stderr %q:\n%s", code, &stderr, &stdout)
	}
	return "```console\n$ ncp_exporter --demo --check\n" + regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(stdout.String(), "127.0.0.1:40123") + "```\n"
}

// documentedFamilies are the metrics of the exporter as a scrape of a rich
// account shows them.
func documentedFamilies(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	a := watch(t, simulate(t, ncptest.Config{}), "--collector.certificate-inventory").get("/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range all {
		if strings.HasPrefix(name, "ncp_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	families := make([]*dto.MetricFamily, len(names))
	for i, name := range names {
		families[i] = all[name]
	}
	for _, name := range describedNames() {
		if !slices.Contains(names, name) {
			t.Errorf("%s is described, but the scrape does not have it", name)
		}
	}
	return families
}

// describedNames are the names of all metrics that the collectors describe.
func describedNames() []string {
	l := ledger.New(ledger.Options{Now: time.Now})
	ch := make(chan *prometheus.Desc)
	go func() {
		defer close(ch)
		for _, c := range []interface{ Describe(chan<- *prometheus.Desc) }{
			collector.NewCertificateManager(nil, l, collector.CertificateManagerOptions{}),
			collector.NewExternalAccess(nil, l),
			collector.NewCertificateInventory(nil, time.Now),
			collector.NewTrustAnchors(nil, 1, time.Now),
			collector.NewAPIMetrics(),
			collector.NewStateMetrics(l),
		} {
			c.Describe(ch)
		}
	}()
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	var names []string
	for desc := range ch {
		names = append(names, name.FindStringSubmatch(desc.String())[1])
	}
	return names
}

// labelsOf are the labels of a family, in the order of the exposition.
func labelsOf(f *dto.MetricFamily) []string {
	var names []string
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if !slices.Contains(names, l.GetName()) {
				names = append(names, l.GetName())
			}
		}
	}
	return names
}

func code(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return "`" + strings.Join(words, "`, `") + "`"
}

func metricTable(families []*dto.MetricFamily) string {
	var b strings.Builder
	b.WriteString("| metric | type | labels |\n|---|---|---|\n")
	for _, f := range families {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), code(labelsOf(f)))
	}
	return b.String()
}

func metricSections(families []*dto.MetricFamily) string {
	var b strings.Builder
	for _, f := range families {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n- type: %s\n", f.GetName(), f.GetHelp(), strings.ToLower(f.GetType().String()))
		if labels := labelsOf(f); len(labels) > 0 {
			fmt.Fprintf(&b, "- labels: %s\n", code(labels))
		}
	}
	b.WriteString("\n")
	return b.String()
}
