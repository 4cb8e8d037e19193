//go:build e2e

package prometheus

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
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
			if description := r.Annotations["description"]; !strings.Contains(description, "$labels.job") {
				t.Errorf("%s: the description %q does not tell the job", r.Alert, description)
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
		grouping = regexp.MustCompile(`\b(?:by|on|group_left) \(([a-z0-9_, ]*)\)`)
		known    = []string{"job", "instance", "in_use"} // the last is made by a rule
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
			for _, used := range name.FindAllString(mask(r.Expr), -1) {
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
