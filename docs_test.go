package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"ncp_exporter/collector"
	"ncp_exporter/collector/ledger"
	"ncp_exporter/internal/account"
	"ncp_exporter/internal/config"
	"ncp_exporter/internal/usage"
	"ncp_exporter/ncpclient"
	"ncp_exporter/ncpclient/ncptest"
)

// TestDocs compares the tables in README.md and docs/ with the code that they
// describe. `make docs` writes them.
func TestDocs(t *testing.T) {
	families, shown := documentedFamilies(t)
	maps.Copy(shown, goldenExposition(t)) // which has more, and is always the same
	several, ofSeveral := familiesOfSeveral(t, families)
	ko := readKorean(t)
	for _, table := range []struct{ file, name, text string }{
		{"README.ko.md", "check", demoCheck(t)},
		{"README.ko.md", "keys", ko.table(keyTable())},
		{"README.ko.md", "flags", ko.table(flagTable())},
		{"README.ko.md", "metrics", ko.table(metricTable(families))},
		{"README.ko.md", "errors", ko.table(errorTable())},
		{"README.md", "check", demoCheck(t)},
		{"README.md", "keys", keyTable()},
		{"README.md", "flags", flagTable()},
		{"README.md", "metrics", metricTable(families)},
		{"README.md", "errors", errorTable()},
		{"docs/security.md", "permissions", permissionTable()},
		{"docs/scaling.md", "shards", shardTable(t)},
		{"docs/configuration.md", "findings", findingTable()},
		{"docs/configuration.md", "flags", flagTable()},
		{"docs/metrics.md", "labels", labelTable(t, slices.Concat(families, several))},
		{"docs/metrics.md", "metrics", metricSections(t, families, shown, needsOf(t, families))},
		{"docs/metrics.md", "several", metricSections(t, several, ofSeveral, nil)},
		{"docs/metrics.md", "operations", operationTable()},
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
	ko.wantAllUsed()
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
		if f.IsBoolFlag() {
			value = usage.Switch(f)
		}
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `%s`<br>`%s` | %s | %s |\n", name, config.Variable(f.Name), value, strings.ReplaceAll(f.Help, "|", `\|`))
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

// keyTable is what the key needs for each collector.
func keyTable() string {
	var b strings.Builder
	b.WriteString("| collector | watches | its key needs | policy |\n|---|---|---|---|\n")
	for _, w := range account.Table() {
		var needs, policies []string
		for _, call := range w.Calls {
			needs = append(needs, call.Needs)
			policies = append(policies, policy(call))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", w.Name, w.What, strings.Join(needs, "; "), strings.Join(slices.Compact(policies), "; "))
	}
	return b.String()
}

// permissionTable is what the key needs for each call.
func permissionTable() string {
	var b strings.Builder
	b.WriteString("| call | for | its key needs | policy | left out by |\n|---|---|---|---|---|\n")
	for _, w := range account.Table() {
		for _, call := range w.Calls {
			fmt.Fprintf(&b, "| `%s` (`GET %s`) | %s | %s | %s | `%s` |\n", call.Operation, call.Path, w.What, call.Needs, policy(call), w.OffFlag())
		}
	}
	return b.String()
}

// shardTable is what is watched by default, and by which shards.
func shardTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| collector | flag | by default | by |\n|---|---|---|---|\n")
	first, second := prepare(t, "--total-shards=2"), prepare(t, "--shard=1", "--total-shards=2")
	for _, w := range account.Table() {
		on, by := "off", "every shard, its own subjects"
		if first.Off(w) == "" {
			on = "on"
		}
		if second.Off(w) != "" {
			by = "shard 0"
		}
		fmt.Fprintf(&b, "| `%s` | `--%s` | %s | %s |\n", w.Name, w.Flag, on, by)
	}
	return b.String()
}

// prepare prepares the account of some flags.
func prepare(t *testing.T, args ...string) *account.Setup {
	t.Helper()
	app := newApp(io.Discard, func(int) {})
	cfg, err := parse(app, flags(app, env{}.lookup), args, env{}.lookup)
	if err != nil {
		t.Fatal(err)
	}
	setup, err := account.Prepare(t.Context(), account.Options{Config: cfg.Account, Shard: cfg.Shard, LookupEnv: env{}.lookup})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(setup.Close)
	return setup
}

// findingTable is what --check reports.
func findingTable() string {
	var b strings.Builder
	row := func(name, checks, absent string) { fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, checks, absent) }
	b.WriteString("| name | what is checked | absent |\n|---|---|---|\n")
	row("collectors", "what is watched, and why the rest is not; fails if it is nothing", "")
	for _, w := range account.Table() {
		for _, call := range w.Calls {
			row(call.Finding, fmt.Sprintf("`%s`: %s", call.Operation, call.Probe), "if `"+w.Name+"` is not watched")
		}
	}
	row("clock", "this machine's clock against the answers' Date: a warning above 30 s, a failure above 5 minutes", "if nothing is watched")
	row("ledger", "whether the start would take `--state.file`: a warning if another process has it open, as an exporter that runs already has", "")
	row("web_config", "`--web.config.file` and the certificates that it names", "")
	return b.String()
}

// errorTable is what to do about each error.
func errorTable() string {
	var b strings.Builder
	b.WriteString("| error | fix |\n|---|---|\n")
	for _, reason := range ncpclient.Reasons() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", reason.Title(), reason.Remedy())
	}
	return b.String()
}

// TestSymptomsAreReal finds symptoms in README.md that no error has, and metrics
// that do not exist.
func TestSymptomsAreReal(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## Troubleshooting\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var printed strings.Builder
	for _, reason := range ncpclient.Reasons() {
		fmt.Fprintln(&printed, (&ncpclient.Error{Reason: reason}).Error())
	}
	metrics := describedNames(t)
	rows := regexp.MustCompile("(?m)^\\| ([^|]*`[^|]*) \\|").FindAllStringSubmatch(section, -1)
	if len(rows) < len(ncpclient.Reasons()) {
		t.Errorf("only %d symptoms are found", len(rows))
	}
	for _, row := range rows {
		for _, span := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			if !strings.Contains(printed.String(), span[1]) && !slices.Contains(metrics, span[1]) {
				t.Errorf("no error says %q, and no metric is called so", span[1])
			}
		}
	}
}

// TestDefaultsNeedDocumentedPermissions wants the docs to name each collector and
// each operation that an exporter with default flags calls, and --check to have
// a finding for it.
func TestDefaultsNeedDocumentedPermissions(t *testing.T) {
	keys, permissions := keyTable(), permissionTable()
	operation := regexp.MustCompile(`^ncp_api_requests_total\{api="[^"]+",code="200",operation="([^"]+)"}`)
	collectorName := regexp.MustCompile(`^ncp_scrape_collector_success\{collector="([^"]+)"}`)
	operations, collectors := 0, 0
	for name := range watch(t, simulate(t, ncptest.Config{})).scrape() {
		if match := operation.FindStringSubmatch(name); match != nil {
			operations++
			if !strings.Contains(permissions, "| `"+match[1]+"` (`GET ") {
				t.Errorf("docs/security.md does not say what %s needs", match[1])
			}
		}
		if match := collectorName.FindStringSubmatch(name); match != nil {
			collectors++
			if !strings.Contains(keys, "| `"+match[1]+"` |") {
				t.Errorf("README.md does not say what %s needs", match[1])
			}
		}
	}
	if operations < 5 || collectors < 3 {
		t.Errorf("only %d operations and %d collectors are found", operations, collectors)
	}
}

// TestCheckIsDocumented wants every finding of --check in the docs, where those
// who run machines look for it.
func TestCheckIsDocumented(t *testing.T) {
	text := document(t, "configuration.md") // before a check changes the directory
	n := toCheck(t, ncptest.Config{})
	_, r, _ := n.check(t, n.env(), allOn()...)
	for _, f := range r.Checks {
		if !strings.Contains(text, "| `"+f.Name+"` | ") {
			t.Errorf("docs/configuration.md does not tell of %s", f.Name)
		}
	}
	if len(r.Checks) < 10 {
		t.Errorf("only %d findings", len(r.Checks))
	}
}

// documentedFamilies are the metrics of the exporter as a scrape of a rich
// account shows them.
func documentedFamilies(t *testing.T) ([]*dto.MetricFamily, exposition) {
	t.Helper()
	a := scrapeRich(t, allOn()...)
	families, shown := ownFamilies(t, a), readExposition(a.body)
	first := scrapeFirstRead(t)
	families = append(families, slices.DeleteFunc(ownFamilies(t, first), func(f *dto.MetricFamily) bool { return f.GetName() != firstRead })...)
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	shown[firstRead] = readExposition(first.body)[firstRead]
	for i, line := range shown[firstRead] { // how far it is differs
		shown[firstRead][i] = line[:strings.LastIndexByte(line, ' ')] + " 0.75"
	}
	for _, name := range describedNames(t) {
		if !hasFamily(families, name) {
			t.Errorf("%s is described, but the scrape does not have it", name)
		}
	}
	return families, shown
}

// scrapeRich scrapes an account that has something of everything.
func scrapeRich(t *testing.T, args ...string) answer {
	t.Helper()
	ncp := simulate(t, ncptest.Config{})
	ncp.PutSubject(ncptest.Subject{SubjectID: "subject-2", X509Subject: "CN=two", Enabled: true})
	ncp.AddCredentials("subject-2", ncptest.NewCredential(time.Now().Add(-time.Minute), "3", true))
	return watch(t, ncp, args...).get("/metrics")
}

// scrapeFirstRead scrapes until the first read of a long history is under way, which
// never ends.
func scrapeFirstRead(t *testing.T) answer {
	t.Helper()
	ncp := simulate(t, ncptest.Config{})
	for i := range 400 {
		ncp.AddCredentials("subject-1", ncptest.NewCredential(time.Now().Add(-time.Duration(i)*time.Minute), "4", false))
	}
	ncp.SetFault(ncptest.ForPage(ncptest.Credentials, 3, ncptest.Hang()))
	p := watch(t, ncp)
	for deadline := time.Now().Add(bound); ; {
		a := p.get("/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "1")
		switch {
		case strings.Contains(a.body, "\n"+firstRead+"{"):
			return a
		case time.Now().After(deadline):
			t.Fatalf("no scrape shows %s:\n%s", firstRead, p.logs)
		}
	}
}

// firstRead is a metric that is there only while a first read takes longer than a
// scrape.
const firstRead = "ncp_external_access_first_read_progress_ratio"

// familiesOfSeveral are the metrics that an exporter of several accounts has beside
// others.
func familiesOfSeveral(t *testing.T, others []*dto.MetricFamily) ([]*dto.MetricFamily, exposition) {
	t.Helper()
	p := launch(t, nil, "--demo", "--demo.accounts=2")
	process, probe := p.get("/metrics"), p.get("/probe?account=demo-1")
	families := slices.Concat(ownFamilies(t, process), ownFamilies(t, probe))
	shown := readExposition(process.body + probe.body)
	for name, lines := range shown {
		for i, line := range lines { // no two runs have a time in common
			shown[name][i] = variesTime.ReplaceAllString(line, "$1 VARIES")
		}
	}
	return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return hasFamily(others, f.GetName()) }), shown
}

func hasFamily(families []*dto.MetricFamily, name string) bool {
	return slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name })
}

// ownFamilies are the metrics of the exporter in an answer, by their names.
func ownFamilies(t *testing.T, a answer) []*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	var families []*dto.MetricFamily
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(name, "ncp_") {
			families = append(families, all[name])
		}
	}
	return families
}

// allOn are the flags that switch every collector on.
func allOn() []string {
	var args []string
	for _, w := range account.Table() {
		args = append(args, "--"+w.Flag)
	}
	return args
}

// describedNames are the names of all metrics that the collectors describe.
func describedNames(t *testing.T) []string {
	t.Helper()
	app := newApp(io.Discard, func(int) {})
	cfg, err := parse(app, flags(app, env{}.lookup), append(allOn(), "--demo"), env{}.lookup)
	if err != nil {
		t.Fatal(err)
	}
	demo, err := account.Open(t.Context(), account.Options{Config: cfg.Account, Shard: cfg.Shard, LookupEnv: env{}.lookup, Logger: log.NewNopLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer demo.Close()
	ch := make(chan *prometheus.Desc)
	go func() {
		defer close(ch)
		for _, c := range demo.Collectors() {
			c.Describe(ch)
		}
		collector.NewAPIMetrics().Describe(ch)
		collector.NewStateMetrics(ledger.New(ledger.Options{Now: time.Now})).Describe(ch)
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
