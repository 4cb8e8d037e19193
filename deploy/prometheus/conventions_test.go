//go:build e2e

package prometheus

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name) //nolint:gosec // a file of the repository
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestConventions(t *testing.T) {
	var (
		camelCase = regexp.MustCompile(`^NCP([A-Z][a-z]+)+$`)
		recorded  = regexp.MustCompile(`^job(_[a-z]+)*:ncp_[a-z_]+:[a-z0-9_]+$`)
		runbook   = regexp.MustCompile(`^(.*#)([a-z]+)$`)
		sections  []string
		bases     []string
		alerts    []string
	)
	for _, match := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(read(t, "../../docs/runbooks.md"), -1) {
		sections = append(sections, match[1])
	}
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			if r.Alert == "" {
				if !recorded.MatchString(r.Record) {
					t.Errorf("%s is not job_...:metric:operations", r.Record)
				}
				continue
			}
			alerts = append(alerts, r.Alert)
			if !camelCase.MatchString(r.Alert) {
				t.Errorf("%s is not CamelCase after NCP", r.Alert)
			}
			if r.For == "" {
				t.Errorf("%s fires at once", r.Alert)
			}
			if len(r.Labels) != 1 || !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
				t.Errorf("%s has the labels %v instead of a severity", r.Alert, r.Labels)
			}
			if summary := r.Annotations["summary"]; summary == "" || strings.Contains(summary, "{{") {
				t.Errorf("%s: the summary %q is not a fixed text", r.Alert, summary)
			}
			for _, label := range tells(r.Alert) {
				if description := r.Annotations["description"]; !strings.Contains(description, "$labels."+label) {
					t.Errorf("%s: the description %q does not tell the %s", r.Alert, description, label)
				}
			}
			url := runbook.FindStringSubmatch(r.Annotations["runbook_url"])
			if url == nil || url[2] != strings.ToLower(r.Alert) {
				t.Errorf("%s: the runbook_url %q does not end with its name", r.Alert, r.Annotations["runbook_url"])
				continue
			}
			bases = append(bases, url[1])
		}
	}
	if bases = slices.Compact(bases); len(bases) != 1 {
		t.Errorf("the runbook_urls begin differently: %q", bases)
	}
	slices.Sort(alerts)
	slices.Sort(sections)
	if !slices.Equal(alerts, sections) {
		t.Errorf("the sections of docs/runbooks.md\n%q\nare not the alerts\n%q", sections, alerts)
	}
}

// tells are the labels that the description of an alert must give. Two alerts are about
// an exporter with all its accounts.
func tells(alert string) []string {
	if alert == "NCPExporterDown" || alert == "NCPConfigReloadFailed" {
		return []string{"job", "instance"}
	}
	return []string{"job", "account"}
}

// merging are the places of an expression in which series of several accounts become one
// or match each other: groupings and matchings without job and account, and aggregations
// of everything.
func merging(expr string) []string {
	var found []string
	masked := mask(expr)
	for _, m := range regexp.MustCompile(`\b(by|on|without|ignoring) \(([^)]*)\)`).FindAllStringSubmatch(masked, -1) {
		labels := strings.Split(m[2], ", ")
		named := slices.Contains(labels, "job") || slices.Contains(labels, "account")
		both := slices.Contains(labels, "job") && slices.Contains(labels, "account")
		if kept := m[1] == "by" || m[1] == "on"; kept && !both || !kept && named {
			found = append(found, m[0])
		}
	}
	aggregation := `\b(sum|min|max|avg|group|count|stddev|stdvar|topk|bottomk|quantile|count_values) ?\(`
	return append(found, regexp.MustCompile(aggregation).FindAllString(masked, -1)...)
}

// TestAccountBesideJob wants no account to hide behind another one of its job: in rules,
// and in what Alertmanager groups and inhibits.
func TestAccountBesideJob(t *testing.T) {
	// They ask for the other targets of an exporter, which are those of other accounts.
	across := map[string][]string{
		"NCPExporterDown": {"without (account)", "without (account)"},
		"NCPAccountDown":  {"ignoring (account)"},
	}
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			if found := merging(r.Expr); !slices.Equal(found, across[r.Alert]) {
				t.Errorf("%s merges accounts by %q, want %q", r.name(), found, across[r.Alert])
			}
		}
	}
	for expr, want := range map[string]int{
		"max by (job) (a)":                          1,
		"max by (account, subject_id) (a)":          1,
		"a unless on (job, instance) b":             1,
		"a * on (subject_id) group_left () b":       1,
		"sum without (job) (a)":                     1,
		"a == ignoring (result, account) b":         1,
		"max(a)":                                    1,
		"max by (job, account) (a) or sum(b)":       1,
		"max by (job, account) (a)":                 0,
		"a and on (job, account, instance) b":       0,
		"sum without (result) (a) + min_over(b)":    0,
		`label_replace(a, "x", "by (job)", "", "")`: 0,
	} {
		if found := merging(expr); len(found) != want {
			t.Errorf("%s merges accounts by %q, want %d places", expr, found, want)
		}
	}

	var file struct {
		Route struct {
			GroupBy []string `yaml:"group_by"`
		} `yaml:"route"`
		Inhibit []struct {
			Source []string `yaml:"source_matchers"`
			Equal  []string `yaml:"equal"`
		} `yaml:"inhibit_rules"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "alertmanager.yml")), &file); err != nil {
		t.Fatal(err)
	}
	if by := file.Route.GroupBy; !slices.Contains(by, "job") || !slices.Contains(by, "account") {
		t.Errorf("messages are grouped by %q, without job and account", by)
	}
	for _, i := range file.Inhibit {
		// An exporter that is down has no account, and all its accounts are down.
		down := slices.Equal(i.Source, []string{"alertname = NCPExporterDown"})
		if !slices.Contains(i.Equal, "job") || slices.Contains(i.Equal, "account") == down {
			t.Errorf("%q inhibits alerts with equal %q", i.Source, i.Equal)
		}
	}
}

// notInTheGolden are metrics that no scrape of the end-to-end test shows, with
// their labels: those of others, and those that are there only with some flags.
func notInTheGolden() map[string][]string {
	return map[string][]string{
		"up": nil, "process_start_time_seconds": nil,
		"ncp_scrape_collector_age_seconds":                    {"collector"},
		"ncp_scrape_collector_last_success_timestamp_seconds": {"collector"},
		"ncp_api_rate_limit_requests_per_second":              {"api"},
		"ncp_exporter_shard_info":                             {"shard", "total_shards"},
		"ncp_external_access_sweeping":                        nil,
		"ncp_exporter_account_ready":                          {"account"},
		"ncp_exporter_account_last_probe_timestamp_seconds":   {"account"},
		"ncp_exporter_account_settings_timestamp_seconds":     nil,
		"ncp_exporter_config_last_reload_successful":          nil,
	}
}

// TestNames wants every metric, label and value that a rule asks for to exist.
func TestNames(t *testing.T) {
	documented, golden := read(t, "../../docs/metrics.md"), read(t, "../../e2e/testdata/metrics.golden")
	labels := notInTheGolden()
	for _, section := range regexp.MustCompile(`(?s)\n### (ncp_\w+)\n(.*?)- type: \w+\n(?:- labels: ([^\n]+))?`).FindAllStringSubmatch(documented, -1) {
		labels[section[1]] = strings.Split(strings.Trim(section[3], "`"), "`, `")
	}
	var (
		name     = regexp.MustCompile(`[a-z_:]*\bncp_[a-z0-9_:]+|\bup\b|\bprocess_\w+`)
		selector = regexp.MustCompile(`([a-z_:0-9]+)\{([^}]*)\}`)
		matcher  = regexp.MustCompile(`(\w+)(=~|!=|!~|=)"([^"]*)"`)
		grouping = regexp.MustCompile(`\b(?:by|on|group_left|without|ignoring) \(([a-z0-9_, ]*)\)`)
		known    = []string{"job", "account", "instance", "in_use"} // the last is made by a rule
		recorded []string
	)
	for _, of := range labels {
		known = append(known, of...)
	}
	rules := readRules(t)
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			recorded = append(recorded, r.Record)
		}
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			described := regexp.MustCompile("`[^`]*`").FindAllString(r.Annotations["description"], -1)
			for _, used := range name.FindAllString(mask(r.Expr+strings.Join(described, " ")), -1) {
				if _, ok := labels[used]; !ok && !slices.Contains(recorded, used) {
					t.Errorf("%s: there is no metric %s", r.name(), used)
				}
			}
			for _, list := range grouping.FindAllStringSubmatch(r.Expr, -1) {
				for label := range strings.SplitSeq(list[1], ", ") {
					if !slices.Contains(known, label) {
						t.Errorf("%s: there is no label %q", r.name(), label)
					}
				}
			}
			for _, s := range selector.FindAllStringSubmatch(r.Expr, -1) {
				for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
					of, ok := labels[s[1]]
					switch {
					case m[1] == "job":
					case ok && !slices.Contains(of, m[1]), !slices.Contains(known, m[1]):
						t.Errorf("%s: %s has no label %s", r.name(), s[1], m[1])
					case !strings.Contains(golden, m[1]+`="`+m[3]+`"`):
						t.Errorf("%s: %s is never %q", r.name(), m[1], m[3])
					}
				}
			}
		}
	}
}

// TestDocumentedInstance has Prometheus read the example of docs/configuration.md.
func TestDocumentedInstance(t *testing.T) {
	const mark = "<!-- tested: instance -->\n```yaml\n"
	_, rest, found := strings.Cut(read(t, "../../docs/configuration.md"), mark)
	text, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatalf("there is no block after %q", mark)
	}
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "promtool", "check", "config", file).CombinedOutput(); err != nil { //nolint:gosec // in a directory of the test
		t.Errorf("%v\n%s", err, out)
	}
}
