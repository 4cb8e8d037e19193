package grafana

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestLint(t *testing.T) {
	metrics := knownMetrics(t)
	uids := make(map[string]bool)
	for _, d := range committed(t) {
		if uids[d.UID] {
			t.Errorf("%s is the uid of two dashboards", d.UID)
		}
		uids[d.UID] = true
		t.Run(d.UID, func(t *testing.T) {
			lintDashboard(t, d)
			lintVariables(t, d, metrics)
			lintLayout(t, d.Panels)
			lintLinks(t, d)
			for _, p := range d.Panels {
				t.Run(p.Title, func(t *testing.T) { lintPanel(t, &p, metrics) })
			}
		})
	}
}

func lintDashboard(t *testing.T, d *Dashboard) {
	t.Helper()
	if !regexp.MustCompile(`^ncp-[a-z-]{1,36}$`).MatchString(d.UID) {
		t.Errorf("the uid %q is not one that stays", d.UID)
	}
	if d.Title == "" || d.Description == "" {
		t.Error("no title or no description")
	}
	if d.Editable {
		t.Error("it is editable: what is changed in Grafana is lost at the next start")
	}
	if !slices.Contains(d.Tags, "ncp_exporter") {
		t.Error("it has no tag ncp_exporter")
	}
	if !slices.ContainsFunc(d.Annotations.List, func(a Annotation) bool {
		return a.Enable && strings.Contains(a.Expr, `ALERTS{alertname=~"NCP.*", alertstate="firing", severity!="info"}`) && a.Datasource == datasource()
	}) {
		t.Error("firing alerts are not marked in the graphs")
	}
	// Two colours that every theme has are none that are fixed: what is white or
	// black vanishes in one of them.
	text, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range regexp.MustCompile(`"(?:color|fixedColor)": "([^"]*)"`).FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains([]string{"red", "orange", "green", "blue", "purple", "text"}, found[1]) {
			t.Errorf("the colour %q is not one of those that both themes show well", found[1])
		}
	}
}

func lintVariables(t *testing.T, d *Dashboard, metrics map[string][]string) {
	t.Helper()
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name)
		if v.Type != "query" {
			continue
		}
		if v.Label == "" || v.Description == "" || !v.Multi || !v.IncludeAll || v.Refresh != 2 || v.Datasource == nil || *v.Datasource != datasource() {
			t.Errorf("the variable %s is not like the others", v.Name)
		}
		for _, s := range selectors(t, strings.ReplaceAll(v.Definition, "info[1d]", "info{}[1d]"), "") {
			if _, ok := metrics[s.metric]; !ok {
				t.Errorf("the variable %s asks for %s, which docs/metrics.md does not have", v.Name, s.metric)
			}
		}
	}
	if c := d.Templating.List[0].Current; c == nil || c.Value != "default" {
		t.Error("the data source is the first by name, and not the default")
	}
	if want := []string{"datasource", "job", "instance", "account", "subject", "runbooks"}; !slices.Equal(names, want) {
		t.Errorf("the variables are %v, want %v", names, want)
	}
	if v := d.Templating.List[0]; v.Type != "datasource" || v.Query != "prometheus" {
		t.Errorf("the first variable is not a data source: %+v", v)
	}
	for _, v := range d.Templating.List[3:5] {
		if v.AllValue != ".*" {
			t.Errorf("all values of %s do not include an empty one", v.Name)
		}
	}
}

// lintLayout wants the grid to be covered, once.
func lintLayout(t *testing.T, panels []Panel) {
	t.Helper()
	const columns = 24
	taken := make(map[[2]int]string)
	ids, titles, height := make(map[int]bool), make(map[string]bool), 0
	for _, p := range panels {
		if ids[p.ID] || p.ID < 1 || titles[p.Title] {
			t.Errorf("%s: its id %d or its title is another panel's too", p.Title, p.ID)
		}
		ids[p.ID], titles[p.Title] = true, true
		g := p.GridPos
		if g.X < 0 || g.Y < 0 || g.W < 1 || g.H < 1 || g.X+g.W > columns {
			t.Errorf("%s lies outside the grid: %+v", p.Title, g)
		}
		height = max(height, g.Y+g.H)
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
	if holes := columns*height - len(taken); holes != 0 {
		t.Errorf("%d cells of the grid are empty", holes)
	}
}

// lintLinks wants each dashboard to lead to the other and to the runbooks.
func lintLinks(t *testing.T, d *Dashboard) {
	t.Helper()
	var others, books int
	for _, l := range d.Links {
		switch uid, ok := strings.CutPrefix(l.URL, "/d/"); {
		case l.URL == "${runbooks}":
			books++
		case ok && uid != d.UID && l.KeepTime && l.IncludeVars && (uid == oncallUID || uid == exporterUID):
			others++
		default:
			t.Errorf("%s leads to %s", l.Title, l.URL)
		}
	}
	if others != 1 || books != 1 {
		t.Errorf("%d links to the other dashboard and %d to the runbooks, want one each", others, books)
	}
}

func lintPanel(t *testing.T, p *Panel, metrics map[string][]string) {
	t.Helper()
	if p.Title == "" {
		t.Error("no title")
	}
	if p.Type == "row" {
		return
	}
	if !strings.HasSuffix(p.Description, ".") {
		t.Error("no description, or one that does not end")
	}
	if !slices.Contains([]string{"stat", "timeseries", "table"}, p.Type) {
		t.Errorf("nobody looked at how a %s is drawn", p.Type)
	}
	if p.Datasource == nil || *p.Datasource != datasource() || len(p.Targets) == 0 {
		t.Fatal("no data source, or no query")
	}
	f := p.FieldConfig.Defaults
	if f.Unit == "" {
		t.Error("no unit")
	}
	if p.Type == "stat" && (f.Thresholds == nil || len(f.Thresholds.Steps) < 2) {
		t.Error("no thresholds")
	}
	if unread := slices.ContainsFunc(f.Mappings, func(m Mapping) bool { return m.Type == "special" && m.Options["match"] == "null" }); p.Type == "stat" && unread != (f.NoValue != "") {
		t.Error("what is not known has the colour of what is well")
	}
	// 0 is counted up from nothing, so that it is never missing.
	if f.NoValue == "" && !strings.HasSuffix(p.Targets[0].Expr, "or vector(0)") {
		t.Error(`it would say "No data"`)
	}
	lintTargets(t, p, metrics)
}

func lintTargets(t *testing.T, p *Panel, metrics map[string][]string) {
	t.Helper()
	for _, target := range p.Targets {
		if target.Datasource != datasource() || target.RefID == "" || target.Instant == target.Range {
			t.Errorf("%s: no data source, no name, or neither instant nor range", target.RefID)
		}
		if target.Range != (p.Type == "timeseries") || (target.Format == "table") != (p.Type == "table") {
			t.Errorf("%s: a %s wants another shape than %s", target.RefID, p.Type, target.Format)
		}
		if p.Type == "timeseries" && target.LegendFormat == "" {
			t.Errorf("%s: no legend", target.RefID)
		}
		lintQuery(t, p.Title, target.Expr, p.Type, metrics)
	}
}

func lintQuery(t reporter, panel, expr, kind string, metrics map[string][]string) {
	for _, s := range selectors(t, expr, "") {
		lintSelector(t, panel, s, metrics)
		lintSpan(t, s, kind)
	}
	// Two exporters on one account count the same logins. Requests are each
	// exporter's own.
	for _, found := range regexp.MustCompile(`\bsum\s*(?:(by|without)\s*\(([^)]*)\))?\s*\((max by)?[^{]*?(\w+)?\{`).FindAllStringSubmatch(expr, -1) {
		kept := found[1] == "without" && !regexp.MustCompile(`\b(job|instance)\b`).MatchString(found[2]) ||
			found[1] == "by" && strings.Contains(found[2], "job") && strings.Contains(found[2], "instance")
		if !kept && found[3] == "" && !strings.HasPrefix(found[4], "ncp_api_") {
			t.Errorf("%s counts twice what two exporters see", found[0])
		}
	}
	lintAccounts(t, expr)
}

// lintAccounts wants no account to hide behind another one of its job: what belongs to an
// account is grouped and matched by it. Sums and the worst value over all accounts by
// something else, such as the API, are fine.
func lintAccounts(t reporter, expr string) {
	grouping := regexp.MustCompile(`\b(by|on|without|ignoring)\s*\(([^)]*)\)`)
	owned := []string{"job", "subject_id", "collector", "order_id", "certificate_id", "trust_anchor_id"}
	for _, found := range grouping.FindAllStringSubmatch(expr, -1) {
		labels := strings.Split(found[2], ", ")
		account := slices.Contains(labels, "account")
		kept := found[1] == "by" || found[1] == "on"
		needed := slices.ContainsFunc(labels, func(l string) bool { return slices.Contains(owned, l) })
		if kept && needed && !account || !kept && (account || slices.Contains(labels, "job")) {
			t.Errorf("%s takes accounts for one another", found[0])
		}
	}
}

// lintSelector wants a metric that there is, of the exporters that were chosen.
func lintSelector(t reporter, panel string, s selector, metrics map[string][]string) {
	labels, ok := metrics[s.metric]
	if !ok {
		t.Errorf("%s is neither in docs/metrics.md nor recorded", s.metric)
	}
	wanted := map[string]string{"target-job-rule": `job=~"$job"`}
	if !recorded(s.metric) {
		wanted["target-instance-rule"] = `instance=~"$instance"`
	}
	if !regexp.MustCompile(`^(process|go)_`).MatchString(s.metric) { // of an exporter with all its accounts
		wanted["target-account-rule"] = `account=~"$account"`
	}
	if slices.Contains(labels, "subject_id") {
		wanted["subject"] = `subject_id=~"$subject"`
	}
	for rule, matcher := range wanted {
		if !slices.Contains(s.matchers, matcher) && !excused(t, rule, panel) {
			t.Errorf("%s is asked for without %s", s.metric, matcher)
		}
	}
	for _, m := range s.matchers {
		label := regexp.MustCompile(`^\w+`).FindString(m)
		if !strings.HasPrefix(s.metric, "ALERTS") && !slices.Contains([]string{"job", "instance", "account"}, label) && !slices.Contains(labels, label) {
			t.Errorf("%s has no label %s", s.metric, label)
		}
	}
}

// lintSpan wants what is asked for at one moment to look back over the range of
// the dashboard, and a line over its own interval; of counters, and of nothing else.
func lintSpan(t reporter, s selector, kind string) {
	counts := s.function == "rate" || s.function == "increase"
	if counter := strings.HasSuffix(s.metric, "_total") || strings.HasSuffix(s.metric, "_bucket"); counter != counts {
		t.Errorf("%s is in %s(): counters want rate() or increase(), gauges neither", s.metric, s.function)
	}
	// What is fixed is told by the description, and does not depend on the range.
	fixed := slices.Contains([]string{"last_over_time", "min_over_time", "max_over_time", "timestamp"}, s.function)
	function, span := "increase", "[$__range]"
	if kind == "timeseries" {
		function, span = "rate", "[$__rate_interval]"
	}
	switch {
	case counts && (s.function != function || s.span != span):
		t.Errorf("%s(%s%s) in a %s", s.function, s.metric, s.span, kind)
	case s.span != "" && !strings.HasPrefix(s.span, "[$__") && !fixed:
		t.Errorf("%s has the fixed range %s", s.metric, s.span)
	}
}

// selector is one metric of a query.
type selector struct {
	metric   string
	matchers []string
	span     string // [5m], if it has one
	function string // that it is handed to, if any
}

// selectors takes a query apart, as far as is needed here; that Prometheus
// understands it is tested by asking one.
func selectors(t reporter, expr, skip string) []selector {
	if skip != "" {
		expr = regexp.MustCompile(skip).ReplaceAllString(expr, ")")
	}
	if strings.Count(expr, "(") != strings.Count(expr, ")") {
		t.Errorf("the parentheses do not match: %s", expr)
	}
	var found []selector
	one := regexp.MustCompile(`(?:(\w+)\s*\()?\b([a-zA-Z_:][\w:]*)\{([^}]*)\}(\[[^\]]*\])?`)
	for _, m := range one.FindAllStringSubmatch(expr, -1) {
		s := selector{metric: m[2], span: m[4], function: m[1]}
		for matcher := range strings.SplitSeq(m[3], ", ") {
			if matcher != "" {
				s.matchers = append(s.matchers, matcher)
			}
		}
		found = append(found, s)
	}
	// What is left has no name that could be a metric without a selector.
	rest := one.ReplaceAllString(expr, "(")
	rest = regexp.MustCompile(`"[^"]*"|\[[^\]]*\]|\$\{?\w+\}?`).ReplaceAllString(rest, "")
	rest = regexp.MustCompile(`\b(by|without|on|ignoring|group_left)\s*\([^)]*\)`).ReplaceAllString(rest, "")
	for _, m := range regexp.MustCompile(`\b([a-zA-Z_:][\w:]*)(\s*\()?`).FindAllStringSubmatch(rest, -1) {
		switch {
		case m[2] != "", slices.Contains([]string{"and", "or", "unless", "bool"}, m[1]):
		case strings.HasPrefix(expr, "label_values("):
			found = append(found, selector{metric: m[1]})
		default:
			t.Errorf("%s is asked for without a selector: %s", m[1], expr)
		}
	}
	return found
}

// knownMetrics are the metrics that there are, with their labels.
func knownMetrics(t *testing.T) map[string][]string {
	t.Helper()
	known := make(map[string][]string)
	for section := range strings.SplitSeq(fileText(t, "../docs/metrics.md"), "\n### ") {
		name, rest, _ := strings.Cut(section, "\n")
		if !strings.HasPrefix(name, "ncp_") {
			continue
		}
		var labels []string
		if _, list, ok := strings.Cut(rest, "- labels: "); ok {
			line, _, _ := strings.Cut(list, "\n")
			for label := range strings.SplitSeq(line, ", ") {
				labels = append(labels, strings.Trim(label, "`"))
			}
		}
		known[name] = labels
		if strings.Contains(rest, "- type: histogram") {
			known[name+"_bucket"] = append(slices.Clone(labels), "le")
		}
	}
	rules := fileText(t, "../deploy/prometheus/ncp_exporter.rules.yml")
	for _, found := range regexp.MustCompile(`(?m)^      - record: (job\w*:\w+:\w+)$`).FindAllStringSubmatch(rules, -1) {
		known[found[1]] = []string{"kind", "status"}
		if strings.HasPrefix(found[1], "job_subject") {
			known[found[1]] = []string{"subject_id"}
		}
	}
	if len(known) < 25 {
		t.Fatalf("docs/metrics.md tells of %d metrics only", len(known))
	}
	for _, name := range []string{
		"ALERTS", "ALERTS_FOR_STATE", "up", "process_start_time_seconds", "process_resident_memory_bytes",
		"process_cpu_seconds_total", "go_memstats_heap_inuse_bytes", "go_goroutines",
	} {
		known[name] = nil
	}
	return known
}

func fileText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name) //nolint:gosec // a file of the repository
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// recorded says whether a metric is made by the rules. It has no instance.
func recorded(metric string) bool { return strings.Contains(metric, ":") }

// excused says whether .lint has an exception, with a reason.
func excused(t reporter, rule, panel string) bool {
	text, err := os.ReadFile(".lint")
	if err != nil {
		t.Errorf("%v", err)
	}
	_, after, ok := strings.Cut(string(text), "\n  "+rule+":\n")
	if !ok {
		return false
	}
	section := regexp.MustCompile(`(?m)^  \S`).Split(after, 2)[0]
	return strings.Contains(section, "    reason: ") && strings.Contains(section, "      - panel: "+panel+"\n")
}

// reporter is a *testing.T, or a count of what it would say.
type reporter interface {
	Errorf(format string, args ...any)
}

type complaints int

func (c *complaints) Errorf(string, ...any) { *c++ }

// TestLintFinds wants the rules to find what they are for.
func TestLintFinds(t *testing.T) {
	metrics := knownMetrics(t)
	for name, expr := range map[string]string{
		"no job":           `max(ncp_scrape_collector_success{instance=~"$instance"})`,
		"no instance":      `max(ncp_scrape_collector_success{job=~"$job"})`,
		"no account":       `max(ncp_scrape_collector_success{EXPORTER})`,
		"by job":           `max(max by (job) (ncp_scrape_collector_success{TARGET}))`,
		"by subject":       `max(max by (subject_id) (ncp_external_access_subject_refresh_success{SUBJECT}))`,
		"on subject":       `max(up{TARGET} and on (subject_id) up{TARGET})`,
		"without account":  `max without (account) (ncp_scrape_collector_success{TARGET})`,
		"ignoring account": `max(up{TARGET} unless ignoring (account) up{TARGET})`,
		"no subject":       `max(ncp_external_access_subject_refresh_success{TARGET})`,
		"no such metric":   `max(ncp_scrape_collector_failure{TARGET})`,
		"no such label":    `max(ncp_scrape_collector_success{TARGET, api="x"})`,
		"no selector":      `max(up)`,
		"sum":              `sum(ncp_external_access_subject_refresh_success{SUBJECT})`,
		"sum by":           `sum by (result) (rate(ncp_external_access_credential_authentications_total{SUBJECT}[$__rate_interval]))`,
		"sum without":      `sum without (instance) (ncp_external_access_subject_refresh_success{SUBJECT})`,
		"fixed range":      `max(rate(ncp_api_requests_total{TARGET}[5m]))`,
		"bare counter":     `max(ncp_api_requests_total{TARGET})`,
		"rate of a gauge":  `max(rate(ncp_scrape_collector_success{TARGET}[$__rate_interval]))`,
		"increase in time": `max(increase(ncp_api_requests_total{TARGET}[$__range]))`,
		"parentheses":      `max((ncp_scrape_collector_success{TARGET})`,
	} {
		var found complaints
		if lintQuery(&found, "a panel", query(expr), "timeseries", metrics); found == 0 {
			t.Errorf("%s: no complaint of %s", name, query(expr))
		}
	}
}
