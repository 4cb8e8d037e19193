//go:build e2e

package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ncp_exporter/grafana"
	"ncp_exporter/ncpclient/ncptest"
)

// The configuration of the Prometheus that answers the dashboards: besides the rules that
// are committed, one always fires, so that what asks for alerts finds some.
const (
	dashboardsConfig = `
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files: [rules.yml, committed.yml]
scrape_configs:
  - job_name: ncp
    static_configs:
`
	dashboardsRules = `
groups:
  - name: test
    rules:
      - alert: NCPTest
        expr: ncp_scrape_collector_success == 1
        labels: {severity: warning}
`
)

const whoFailed = "Who failed to log in, in this range"

// grafanaRange is the range that the dashboards are looked at with.
const grafanaRange = 15 * time.Minute

// viewer asks what Grafana would ask.
type viewer struct {
	prometheus string
	variables  *strings.Replacer
}

// view starts a Prometheus that scrapes e, and puts values in for the variables
// of the dashboards, which it asks that Prometheus for.
func view(t *testing.T, e exporter, rules string, d *grafana.Dashboard) *viewer {
	t.Helper()
	return viewTargets(t, fmt.Sprintf("      - targets: [%q]\n", strings.TrimPrefix(e.url, "http://")), rules, d)
}

// viewTargets is view with the targets as they stand in Prometheus's file.
func viewTargets(t *testing.T, targets, rules string, d *grafana.Dashboard) *viewer {
	t.Helper()
	dir := t.TempDir()
	committed, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"prometheus.yml": dashboardsConfig + targets,
		"rules.yml":      rules,
		"committed.yml":  string(committed),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, nil, tool(t, "prometheus"), "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	v := &viewer{prometheus: "http://" + p.address(t)}
	eventually(t, "Prometheus scrapes the exporter a few times", func() error {
		if stored, err := query(t, v.prometheus, `count_over_time(ncp_exporter_build_info[1m]) >= 5`); err != nil || len(stored) == 0 {
			return errors.Join(errNotYet, err)
		}
		return nil
	})
	v.choose(t, d)
	return v
}

// choose gives each variable the value All. A variable that has no value for All
// stands for all that there are.
func (v *viewer) choose(t *testing.T, d *grafana.Dashboard) {
	t.Helper()
	pairs := []string{"$__rate_interval", "15s", "$__range_s", strconv.Itoa(int(grafanaRange.Seconds())), "$__range", grafanaRange.String()}
	for _, variable := range d.Templating.List {
		if variable.Type != "query" {
			continue
		}
		v.variables = strings.NewReplacer(pairs...)
		found := v.values(t, variable)
		value := variable.AllValue
		if value == "" && len(found) == 0 {
			t.Errorf("nothing to choose from: %s", variable.Definition)
		}
		if value == "" {
			for i := range found {
				found[i] = regexp.QuoteMeta(found[i])
			}
			// Within a string of PromQL a backslash is two.
			value = strings.ReplaceAll("("+strings.Join(found, "|")+")", `\`, `\\`)
		}
		pairs = append(pairs, "$"+variable.Name, value)
	}
	v.variables = strings.NewReplacer(pairs...)
}

// values are what a variable can be chosen to be.
func (v *viewer) values(t *testing.T, variable grafana.Variable) []string {
	t.Helper()
	definition := v.variables.Replace(variable.Definition)
	m := regexp.MustCompile(`^query_result\((.*)\)$`).FindStringSubmatch(definition)
	if m == nil {
		t.Fatalf("nobody knows how Grafana reads %s", definition)
	}
	// Grafana makes lines like this one of the answer, and the expression takes
	// the value and its name from them.
	expression := regexp.MustCompile(strings.Trim(variable.Regex, "/"))
	var values []string
	for _, r := range v.ask(t, grafana.Target{Expr: m[1], Instant: true}) {
		labels := make([]string, 0, len(r.Metric))
		for _, name := range slices.Sorted(maps.Keys(r.Metric)) {
			labels = append(labels, fmt.Sprintf(`%s="%s"`, name, r.Metric[name]))
		}
		line := "{" + strings.Join(labels, ",") + "} 1 1700000000000"
		found := expression.FindStringSubmatch(line)
		if found == nil && len(labels) == 0 { // no account
			continue
		}
		if found == nil {
			t.Fatalf("%s does not match %s", variable.Regex, line)
		}
		value := found[1]
		if variable.Name == "subject" {
			name := found[expression.SubexpIndex("text")]
			if value = found[expression.SubexpIndex("value")]; value != r.Metric["subject_id"] || name != r.Metric["x509_subject"] {
				t.Errorf("%s gives %q and %q of %s", variable.Regex, value, name, line)
			}
		}
		values = append(values, value)
	}
	slices.Sort(values)
	return values
}

// result is one series of an answer.
type result struct {
	Metric map[string]string
	Value  [2]any
	Values [][2]any
}

// numbers are its values.
func (r result) numbers(t *testing.T) []float64 {
	t.Helper()
	samples := r.Values
	if samples == nil {
		samples = [][2]any{r.Value}
	}
	numbers := make([]float64, len(samples))
	for i, s := range samples {
		text, _ := s[1].(string)
		var err error
		if numbers[i], err = strconv.ParseFloat(text, 64); err != nil {
			t.Fatal(err)
		}
	}
	return numbers
}

// ask runs one query of a panel.
func (v *viewer) ask(t *testing.T, target grafana.Target) []result {
	t.Helper()
	expr := v.variables.Replace(target.Expr)
	if regexp.MustCompile(`\$[{_a-z]`).MatchString(expr) { // $1 is label_replace's
		t.Errorf("a variable without a value: %s", expr)
	}
	now := time.Now()
	parameters := url.Values{"query": {expr}}
	path := "/api/v1/query"
	if !target.Instant {
		path = "/api/v1/query_range"
		parameters.Set("start", strconv.FormatInt(now.Add(-grafanaRange).Unix(), 10))
		parameters.Set("end", strconv.FormatInt(now.Unix(), 10))
		parameters.Set("step", "1")
	}
	a, err := get(t.Context(), v.prometheus+path+"?"+parameters.Encode())
	if err != nil || a.status != http.StatusOK {
		t.Fatalf("%s: HTTP %d, %v: %s", expr, a.status, err, a.body)
	}
	var answer struct{ Data struct{ Result []result } }
	if err := json.Unmarshal([]byte(a.body), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Data.Result
}

func dashboards(t *testing.T) []*grafana.Dashboard {
	t.Helper()
	all, err := grafana.Read(os.DirFS("../grafana/dashboards"))
	if err != nil || len(all) < 2 {
		t.Fatalf("%d dashboards: %v", len(all), err)
	}
	return all
}

// panels are all panels that ask something.
func panels(all []*grafana.Dashboard) []grafana.Panel {
	var found []grafana.Panel
	for _, d := range all {
		for _, p := range d.Panels {
			if len(p.Targets) > 0 {
				found = append(found, p)
			}
		}
	}
	return found
}

// TestDashboardsShowTheDemo runs every query of every panel on a real Prometheus
// that scrapes the demo, and wants data of the shape that the panel draws.
func TestDashboardsShowTheDemo(t *testing.T) {
	t.Parallel() // they wait for Prometheus most of the time
	all := dashboards(t)
	v := view(t, launch(t, nil, "--demo"), dashboardsRules, all[0])
	for _, p := range panels(all) {
		t.Run(p.Title, func(t *testing.T) {
			for _, target := range p.Targets {
				if strings.Contains(target.Expr, firstRead) {
					continue // TestDashboardsShowAFirstRead
				}
				var results []result
				eventually(t, target.Expr+" has an answer", func() error {
					if results = v.ask(t, target); len(results) == 0 {
						return errNotYet
					}
					return nil
				})
				checkShape(t, &p, target, results)
			}
			if p.Type == "table" {
				checkColumns(t, v, &p)
			}
		})
	}
	for _, d := range all {
		for _, a := range d.Annotations.List {
			if a.Expr != "" && len(v.ask(t, grafana.Target{Expr: a.Expr})) == 0 {
				t.Errorf("nothing to mark: %s", a.Expr)
			}
		}
	}
	t.Run("who fails", func(t *testing.T) {
		who := panelOf(t, all, whoFailed)
		// The table is sorted by the failures that Prometheus has seen.
		eventually(t, "legacy-batch is the first who fails", func() error {
			failures := column(t, v, who, "Value #B", "key")
			if len(failures) == 0 {
				return errNotYet
			}
			worst := slices.MaxFunc(failures, func(a, b cells) int { return cmp.Compare(a.value, b.value) }).labels[0]
			for _, row := range column(t, v, who, "Value #H", "key", "x509_subject") {
				if row.labels[0] == worst && strings.HasPrefix(row.labels[1], "CN=legacy-batch,") {
					return nil
				}
			}
			return fmt.Errorf("it is %s of %v", worst, failures)
		})
	})
}

// checkShape wants of an answer what its panel needs.
func checkShape(t *testing.T, p *grafana.Panel, target grafana.Target, results []result) {
	t.Helper()
	if p.Type == "stat" && len(results) != 1 {
		t.Errorf("%d values for one number: %s", len(results), target.Expr)
	}
	legends := make(map[string]bool)
	for _, r := range results {
		if !slices.ContainsFunc(r.numbers(t), func(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }) {
			t.Errorf("no number to show for %v: %s", r.Metric, target.Expr)
		}
		legend := target.LegendFormat
		for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(legend, -1) {
			if r.Metric[m[1]] == "" && m[1] != "account" { // not each target has one
				t.Errorf("the legend wants %s of %v: %s", m[1], r.Metric, target.Expr)
			}
			legend = strings.ReplaceAll(legend, m[0], r.Metric[m[1]])
		}
		if p.Type == "timeseries" && legends[legend] {
			t.Errorf("two lines are called %s: %s", legend, target.Expr)
		}
		legends[legend] = true
	}
}

// checkColumns wants something in each column of a table, and no other column: Grafana
// shows whatever is in an answer and is not left out.
func checkColumns(t *testing.T, v *viewer, p *grafana.Panel) {
	t.Helper()
	there := make(map[string]bool)
	for _, target := range p.Targets {
		for _, r := range v.ask(t, target) {
			for label := range r.Metric {
				there[label] = true
			}
		}
		value := "Value #" + target.RefID
		if len(p.Targets) == 1 {
			value = "Value"
		}
		there[value] = true
	}
	hidden := excluded(p)
	for from := range there {
		if _, ok := renames(t, p)[from]; !ok && !hidden[from] {
			t.Errorf("the answers have the column %s, which is not meant", from)
		}
	}
	there["account"] = true // where Prometheus gives the targets one
	for from := range renames(t, p) {
		if !there[from] {
			t.Errorf("no answer has the column %s", from)
		}
	}
}

// renames are the columns of a table: the field that each comes from, and its title.
func renames(t *testing.T, p *grafana.Panel) map[string]string {
	t.Helper()
	for _, tr := range p.Transformations {
		if options, ok := tr.Options.(map[string]any); ok && tr.ID == "organize" {
			titles := make(map[string]string)
			for from, title := range options["renameByName"].(map[string]any) { //nolint:forcetypeassert // ours
				titles[from], _ = title.(string)
			}
			return titles
		}
	}
	t.Fatalf("%s has no columns", p.Title)
	return nil
}

// excluded are the fields of a table that are not shown.
func excluded(p *grafana.Panel) map[string]bool {
	hidden := make(map[string]bool)
	for _, tr := range p.Transformations {
		if options, ok := tr.Options.(map[string]any); ok && tr.ID == "organize" {
			for from, yes := range options["excludeByName"].(map[string]any) { //nolint:forcetypeassert // ours
				hidden[from], _ = yes.(bool)
			}
		}
	}
	return hidden
}

func panelOf(t *testing.T, all []*grafana.Dashboard, title string) *grafana.Panel {
	t.Helper()
	for _, p := range panels(all) {
		if p.Title == title {
			return &p
		}
	}
	t.Fatalf("there is no panel %s", title)
	return nil
}

// cells are some labels of a row, and a value.
type cells struct {
	labels []string
	value  float64
}

// column gives the cells of one column of a table, with these labels of their rows.
func column(t *testing.T, v *viewer, p *grafana.Panel, from string, labels ...string) []cells {
	t.Helper()
	var column []cells
	for _, target := range p.Targets {
		if from != "Value" && from != "Value #"+target.RefID {
			continue
		}
		for _, r := range v.ask(t, target) {
			row := cells{value: r.numbers(t)[0]}
			for _, label := range labels {
				row.labels = append(row.labels, r.Metric[label])
			}
			column = append(column, row)
		}
	}
	return column
}

// TestDashboardsTellWhatIsWrong looks for the certificate that timed out, for a
// subject that has no name because it was named by flag, and for what is told when
// NCP cannot be read.
func TestDashboardsTellWhatIsWrong(t *testing.T) {
	t.Parallel()
	all := dashboards(t)
	n := simulate(t)
	const named = "1a1b2c3d-mixed"
	e := watch(t, n, "--collector.external-access.subject="+named)
	v := view(t, e, dashboardsRules, all[0])

	rows := column(t, v, panelOf(t, all, "Certificates not validated"), "Value", "status", "order_id", "certificate_id")
	slices.SortFunc(rows, func(a, b cells) int { return strings.Compare(b.labels[0], a.labels[0]) })
	if len(rows) != 4 || !slices.Equal(rows[0].labels, []string{"validation_timed_out", "412", "56001"}) {
		t.Errorf("the certificates are %v, want first that which timed out", rows)
	}
	for _, row := range rows {
		if age := time.Duration(row.value * float64(time.Second)); age < 0 || age > time.Since(e.begun) {
			t.Errorf("%v is seen so for %s, longer than there is a Prometheus", row.labels, age)
		}
	}

	// It fails twice more; between the two Prometheus sees the counter stand.
	for i := range 2 {
		n.externalAccess.AddCredentials(named, ncptest.NewCredential(time.Now(), "90"+strconv.Itoa(i), true))
		who := panelOf(t, all, whoFailed)
		eventually(t, "the failure is seen", func() error {
			if rows := column(t, v, who, "Value #B", "key"); len(rows) != 1 || rows[0].value < float64(i+1) {
				return fmt.Errorf("failures: %v", rows)
			}
			return nil
		})
	}
	lines := v.ask(t, panelOf(t, all, "Failed logins by subject").Targets[0])
	if len(lines) != 1 || lines[0].Metric["x509_subject"] != named {
		t.Errorf("a subject without a name is called %v", lines)
	}

	// What is known of the logins stays when NCP can no longer be asked, and is
	// said to be old; what is not known is not said to be well.
	n.externalAccess.SetFault(ncptest.Always(ncptest.HTMLPage(http.StatusBadRequest)))
	n.certificateManager.SetFault(ncptest.Always(ncptest.HTMLPage(http.StatusBadRequest)))
	eventually(t, "the collectors are said to fail", func() error {
		if values := v.ask(t, panelOf(t, all, "NCP").Targets[0]); len(values) != 1 || values[0].numbers(t)[0] != 0 {
			return fmt.Errorf("collectors: %v", values)
		}
		return nil
	})
	if rows := column(t, v, panelOf(t, all, whoFailed), "Value #B", "key"); len(rows) != 1 {
		t.Errorf("who fails is forgotten with the first failed scrape: %v", rows)
	}
	// The rules keep it, and so do the alert and the table.
	if values := v.ask(t, panelOf(t, all, "Timed out").Targets[0]); len(values) != 1 || values[0].numbers(t)[0] != 1 {
		t.Errorf("Certificate Manager cannot be read, and %v timed out, want what was known", values)
	}
}
