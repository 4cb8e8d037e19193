//go:build e2e

package prometheus

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// accountsFile has the tests that need several accounts of one exporter.
const accountsFile = "accounts_test.yml"

// asAccounts are the tests with each job turned into an account of one job. The tests
// keep jobs apart, so these want accounts to be kept apart in the same way: the same
// alerts at the same times. What is asked for an exporter with all its accounts is left
// to accountsFile.
func asAccounts(t *testing.T, files []unitTests) []unitTests {
	t.Helper()
	var result []unitTests
	for _, file := range files {
		if file.name == accountsFile {
			result = append(result, file)
			continue
		}
		file.name = "as_accounts_" + file.name
		file.Tests = slices.Clone(file.Tests)
		for i := range file.Tests {
			test := &file.Tests[i]
			test.InputSeries = accounts(t, test.InputSeries)
			test.Expressions = accounts(t, test.Expressions)
			test.Alerts = accounts(t, slices.DeleteFunc(slices.Clone(test.Alerts), func(a map[string]any) bool {
				return a["alertname"] == "NCPExporterDown"
			}))
		}
		result = append(result, file)
	}
	return result
}

// accounts turns jobs into accounts in a part of a test.
func accounts(t *testing.T, part []map[string]any) []map[string]any {
	t.Helper()
	changed := make([]map[string]any, len(part))
	for i, of := range part {
		changed[i], _ = asAccount(t, of).(map[string]any)
	}
	return changed
}

var jobMatcher = regexp.MustCompile(`\bjob(=~?)("[^"]*")`)

func asAccount(t *testing.T, v any) any {
	t.Helper()
	switch v := v.(type) {
	case string:
		// The process has this time in a scrape of its own only.
		v = strings.ReplaceAll(v, "process_start_time_seconds", "ncp_exporter_account_settings_timestamp_seconds")
		return jobMatcher.ReplaceAllString(v, `job="ncp", account$1$2`)
	case []any:
		changed := make([]any, len(v))
		for i := range v {
			changed[i] = asAccount(t, v[i])
		}
		return changed
	case map[string]any:
		changed := make(map[string]any, len(v))
		for key := range v {
			changed[key] = asAccount(t, v[key])
		}
		if labels, ok := v["exp_labels"].(map[string]any); ok {
			changed["exp_labels"], changed["exp_annotations"] = alertOfAccount(t, labels, v["exp_annotations"])
		}
		return changed
	default:
		return v
	}
}

// alertOfAccount is what is expected of an alert whose job became an account.
func alertOfAccount(t *testing.T, labels map[string]any, annotations any) (map[string]any, map[string]any) {
	t.Helper()
	job := fmt.Sprint(labels["job"])
	labels = maps.Clone(labels)
	labels["job"], labels["account"] = "ncp", job
	old, _ := annotations.(map[string]any)
	told := maps.Clone(old)
	name := regexp.MustCompile(`\b` + regexp.QuoteMeta(job) + `\b`)
	description := fmt.Sprint(told["description"])
	if found := name.FindAllString(description, -1); len(found) != 1 {
		t.Errorf("%q tells the job %s %d times", description, job, len(found))
	}
	told["description"] = name.ReplaceAllString(description, "account "+job+" of ncp")
	return labels, told
}

// TestAsAccounts runs the tests with accounts in place of jobs.
func TestAsAccounts(t *testing.T) {
	t.Parallel()
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, file := range asAccounts(t, readTests(t)) {
		t.Run(file.name, func(t *testing.T) {
			t.Parallel()
			file.RuleFiles = []string{rules}
			text, err := yaml.Marshal(file)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, file.name)
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if said, err := promtool(t, "test", "rules", path); err != nil {
				t.Errorf("%v\n%s", err, said)
			}
		})
	}
}
