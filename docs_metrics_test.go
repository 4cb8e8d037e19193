package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"ncp_exporter/internal/account"
)

// labelMeanings says what the value of a label is.
func labelMeanings() map[string]string {
	return map[string]string{
		"account":         "the name of an account in `--config.file`",
		"api":             "which of NCP's APIs",
		"branch":          "of the build; the other labels of `ncp_exporter_build_info` likewise",
		"certificate_id":  "NCP's number of a certificate",
		"code":            "the HTTP status of the answer, or `error` if no whole answer came. Other values appear when NCP answers with them",
		"collector":       "a collector, with the name that `collect[]` takes",
		"common_name":     "the domain that the certificate is for, as NCP tells it; may be empty",
		"enabled":         "whether the subject is enabled in NCP",
		"issuer":          "the distinguished name of the CA that issued a certificate",
		"name":            "the name that somebody gave it in the NCP console; may be empty, and may change",
		"operation":       "what was asked: see [Permissions](#permissions)",
		"order_id":        "NCP's number of the order that the certificate belongs to",
		"reason":          "`no_time`: without a readable time. `future_time`: ahead of NCP's clock",
		"result":          "what NCP says of the login. `unknown` appears if NCP does not say it",
		"serial_number":   "of a certificate, as NCP tells it: decimal, hexadecimal, or with `*` for some digits",
		"shard":           "the number of this shard, from 0",
		"status":          "the status, in small letters. `unknown` is one that NCP's guide does not have",
		"subject_id":      "NCP's id of a subject of External Access. It stays when the subject is renamed",
		"total_shards":    "how many shards there are",
		"trust_anchor_id": "NCP's id of a trust anchor",
		"x509_subject":    "the distinguished name in the subject's certificate. It may change",
	}
}

// bounded are the labels of which each value is known. The other labels have what NCP
// or the user names.
func bounded() []string {
	return []string{"api", "code", "collector", "enabled", "operation", "reason", "result", "status"}
}

// labelTable is what the value of each label is.
func labelTable(t *testing.T, families []*dto.MetricFamily) string {
	t.Helper()
	meanings := labelMeanings()
	found := make(map[string]bool)
	for _, f := range families {
		for _, label := range labelsOf(f) {
			if f.GetName() != "ncp_exporter_build_info" || label == "branch" {
				found[label] = true
			}
		}
	}
	var b strings.Builder
	b.WriteString("| label | its value |\n|---|---|\n")
	for _, label := range slices.Sorted(maps.Keys(found)) {
		if meanings[label] == "" {
			t.Errorf("labelMeanings does not say what the label %s is", label)
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", label, meanings[label])
		delete(meanings, label)
	}
	for label := range meanings {
		t.Errorf("labelMeanings has the label %s, which no metric has", label)
	}
	return b.String()
}

// valuesOf are the values of a label in an exposition.
func valuesOf(lines []string, label string) []string {
	value := regexp.MustCompile(`[{,]` + label + `="([^"]*)"`)
	found := make(map[string]bool)
	for _, line := range lines {
		if match := value.FindStringSubmatch(line); match != nil {
			found[match[1]] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// exposition has the sample lines of each family.
type exposition map[string][]string

func readExposition(text string) exposition {
	e := make(exposition)
	family := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			family, _, _ = strings.Cut(rest, " ")
		}
		if family != "" && !strings.HasPrefix(line, "#") && line != "" {
			e[family] = append(e[family], line)
		}
	}
	return e
}

// goldenExposition is the one that the end-to-end test holds the program to.
func goldenExposition(t *testing.T) exposition {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("e2e", "testdata", "metrics.golden"))
	if err != nil {
		t.Fatal(err)
	}
	return readExposition(string(text))
}

var (
	variesInLabels = regexp.MustCompile(`(\w+)="VARIES"`)
	variesTime     = regexp.MustCompile(`^(\w+_timestamp_seconds(?:\{.*\})?) \S+$`)
	variesOffset   = regexp.MustCompile(`^(\w+_offset_seconds\{.*\}) VARIES$`)
	variesBucket   = regexp.MustCompile(`^(\w+_bucket\{.*\}) VARIES$`)
)

// example makes a line that anybody may see out of one that is different each time.
func example(line, total string) string {
	build := map[string]string{
		"branch": "main", "build_date": "2026-01-02T03:04:05Z", "goarch": "amd64", "goos": "linux",
		"goversion": "go1.26.0", "revision": "0123abc", "tags": "unknown", "version": "0.1.0",
	}
	line = variesInLabels.ReplaceAllStringFunc(line, func(pair string) string {
		label, _, _ := strings.Cut(pair, "=")
		return label + `="` + build[label] + `"`
	})
	line = variesBucket.ReplaceAllString(line, "$1 "+total)
	if !strings.HasSuffix(line, " VARIES") {
		return line
	}
	line = variesTime.ReplaceAllString(line, "$1 1.73408945e+09")
	line = variesOffset.ReplaceAllString(line, "$1 0")
	return strings.Replace(line, " VARIES", " 0.012", 1)
}

// sample is a short part of what a scrape shows of a family: its first and its last
// line, or what is shown of one histogram. Lines with empty labels tell less.
func sample(lines []string) string {
	if whole := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.Contains(line, `=""`) }); len(whole) > 0 {
		lines = whole
	}
	first, total := lines[0], ""
	chosen := slices.Compact([]string{first, lines[len(lines)-1]})
	if strings.Contains(first, `,le="`) {
		end := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, "_count{") })
		chosen = []string{first, lines[end-2], lines[end-1], lines[end]}
		total = lines[end][strings.LastIndexByte(lines[end], ' ')+1:]
	}
	for i, line := range chosen {
		chosen[i] = example(line, total)
	}
	return strings.Join(chosen, "\n")
}

// needsOf are the flags without which a metric is not there, found by leaving each
// out.
func needsOf(t *testing.T, families []*dto.MetricFamily) map[string][]string {
	t.Helper()
	type variation struct{ args, needs string }
	var variations []variation
	app := newApp(io.Discard, func(int) {})
	flags(app, env{}.lookup)
	for _, f := range app.Model().Flags {
		if strings.HasPrefix(f.Name, "collector.") && f.IsBoolFlag() {
			variations = append(variations, variation{"--no-" + f.Name, "`--" + f.Name + "`"})
		}
	}
	variations = append(variations,
		variation{"--ncp.rate-limit=0", "`--ncp.rate-limit` above 0 (the default)"},
		variation{"--collector.external-access.failure-info=0s", "`--collector.external-access.failure-info` above 0 (the default)"},
		variation{"--collector.external-access.subject=subject-1 --collector.external-access.subject=subject-2", "no `--collector.external-access.subject`"},
	)
	scraped := func(args ...string) []*dto.MetricFamily {
		return ownFamilies(t, scrapeRich(t, args...))
	}
	needs, byDefault := make(map[string][]string), scraped()
	for _, v := range variations {
		args := slices.DeleteFunc(allOn(), func(arg string) bool { return "--no-"+arg[2:] == v.args })
		without := scraped(append(args, strings.Fields(v.args)...)...)
		for _, f := range families {
			if name := f.GetName(); !hasFamily(without, name) {
				needs[name] = append(needs[name], v.needs)
			}
		}
	}
	needs[firstRead] = needs["ncp_external_access_subjects"]
	for name, of := range needs {
		if name != firstRead && !hasFamily(byDefault, name) {
			needs[name] = append(of, "**off by default**")
		}
	}
	return needs
}

// metricSections has a section for each family.
func metricSections(t *testing.T, families []*dto.MetricFamily, shown exposition, needs map[string][]string) string {
	t.Helper()
	var b strings.Builder
	for _, f := range families {
		name := f.GetName()
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n- type: %s\n", name, f.GetHelp(), strings.ToLower(f.GetType().String()))
		labels := labelsOf(f)
		if len(labels) > 0 {
			fmt.Fprintf(&b, "- labels: %s\n", code(labels))
		}
		for _, label := range labels {
			if slices.Contains(bounded(), label) {
				fmt.Fprintf(&b, "- `%s`: %s\n", label, code(valuesOf(shown[name], label)))
			}
		}
		if of := needs[name]; len(of) > 0 {
			fmt.Fprintf(&b, "- needs: %s\n", strings.Join(of, "; "))
		}
		if len(shown[name]) == 0 {
			t.Errorf("there is no sample of %s in e2e/testdata/metrics.golden: run `make golden`", name)
			continue
		}
		fmt.Fprintf(&b, "\n```text\n%s\n```\n", sample(shown[name]))
	}
	b.WriteString("\n")
	return b.String()
}

// operationTable is what the key needs for each operation.
func operationTable() string {
	var b strings.Builder
	b.WriteString("| `operation` | collector | its key needs | policy |\n|---|---|---|---|\n")
	for _, w := range account.Table() {
		for _, call := range w.Calls {
			fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", call.Operation, w.Name, call.Needs, policy(call))
		}
	}
	return b.String()
}

// policy is the policy of NCP that gives what a call needs.
func policy(call account.Call) string {
	if call.Policy == "" {
		return "none"
	}
	return "`" + call.Policy + "`"
}

// TestSamplesAreExpositions reads the samples of docs/metrics.md as Prometheus would.
func TestSamplesAreExpositions(t *testing.T) {
	text := document(t, "metrics.md")
	samples := regexp.MustCompile("(?s)\n### (ncp_\\w+)\n.*?```text\n(.*?)```\n").FindAllStringSubmatch(text, -1)
	if want := strings.Count(text, "\n### ncp_"); len(samples) != want {
		t.Errorf("%d of %d metrics have a sample", len(samples), want)
	}
	for _, s := range samples {
		series := parseSeries(t, s[2])
		if len(series) == 0 || strings.Contains(s[2], "VARIES") {
			t.Errorf("the sample of %s is %q", s[1], s[2])
		}
		for name := range series {
			if !strings.HasPrefix(name, s[1]) {
				t.Errorf("%s is in the sample of %s", name, s[1])
			}
		}
	}
}
