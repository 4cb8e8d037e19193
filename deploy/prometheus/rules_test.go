//go:build e2e

// Package prometheus tests the alerting and recording rules with promtool, and
// the tests of the rules by breaking each rule. It is run by
//
//	go test -tags e2e ./deploy/prometheus/
package prometheus

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"
)

const (
	rulesFile = "ncp_exporter.rules.yml"
	testsDir  = "tests"
)

type ruleFile struct {
	Groups []group `yaml:"groups"`
}

type group struct {
	Name     string `yaml:"name"`
	Interval string `yaml:"interval,omitempty"`
	Rules    []rule `yaml:"rules"`
}

type rule struct {
	Record      string            `yaml:"record,omitempty"`
	Alert       string            `yaml:"alert,omitempty"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

func (r rule) name() string { return r.Record + r.Alert }

// uses says whether the rule reads what the other one records.
func (r rule) uses(other rule) bool {
	return other.Record != "" && strings.Contains(r.Expr, other.Record)
}

func readRules(t *testing.T) ruleFile {
	t.Helper()
	f, err := os.Open(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	decoder := yaml.NewDecoder(f)
	decoder.KnownFields(true)
	var rules ruleFile
	if err := decoder.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	return rules
}

// unitTests is a file of promtool's unit tests.
type unitTests struct {
	name               string
	RuleFiles          []string   `yaml:"rule_files"`
	GroupEvalOrder     []string   `yaml:"group_eval_order"`
	EvaluationInterval string     `yaml:"evaluation_interval"`
	Tests              []unitTest `yaml:"tests"`
}

type unitTest struct {
	Name        string           `yaml:"name"`
	Interval    string           `yaml:"interval"`
	InputSeries []map[string]any `yaml:"input_series"`
	Expressions []map[string]any `yaml:"promql_expr_test,omitempty"`
	Alerts      []map[string]any `yaml:"alert_rule_test,omitempty"`
}

func readTests(t *testing.T) []unitTests {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(testsDir, "*_test.yml"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no tests in %s: %v", testsDir, err)
	}
	files := make([]unitTests, len(names))
	for i, name := range names {
		f, err := os.Open(name) //nolint:gosec // a file of this directory
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }() // only read
		decoder := yaml.NewDecoder(f)
		decoder.KnownFields(true)
		if err := decoder.Decode(&files[i]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		files[i].name = filepath.Base(name)
	}
	return files
}

func promtool(t *testing.T, args ...string) (said string, err error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput() //nolint:gosec // the paths are ours
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		err = fmt.Errorf("promtool is not there (apt-get update && apt-get install -y prometheus): %w", err)
	}
	return string(out), err
}

func TestPromtool(t *testing.T) {
	if said, err := promtool(t, "check", "rules", "--lint=all", "--lint-fatal", rulesFile); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, said)
	}
	for _, file := range readTests(t) {
		t.Run(file.name, func(t *testing.T) {
			if said, err := promtool(t, "test", "rules", filepath.Join(testsDir, file.name)); err != nil {
				t.Errorf("%v\n%s", err, said)
			}
		})
	}
}

var all = flag.Bool("all", false, "also try mutants that may well survive, and tell which") //nolint:gochecknoglobals // flags of tests are

// equivalent is the one mutant that is no worse than the rule: gaps of whole
// seconds are 0 or longer than 1, but for two logins within two seconds.
const equivalent = "ended10m[1d]) > bool 0 -> 1"

// TestMutants breaks each rule, one place after the other, and wants the tests
// of the rules to notice.
func TestMutants(t *testing.T) {
	rules, files, dir := readRules(t), readTests(t), t.TempDir()
	var (
		workers   errgroup.Group
		mu        sync.Mutex
		survivors []string
		count     int
	)
	workers.SetLimit(runtime.GOMAXPROCS(0))
	try := func(dir string, what string, rules ruleFile, tests []unitTests, wantPass bool) {
		workers.Go(func() error {
			pass, err := passes(t, dir, rules, tests)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Errorf("%s: %v", what, err)
			case wantPass && !pass:
				t.Errorf("%s: its tests do not pass as it is", what)
			case !wantPass && pass:
				survivors = append(survivors, what)
			}
			return nil
		})
	}
	for g, group := range rules.Groups {
		for r, rule := range group.Rules {
			names := concerned(rules, rule)
			tests := about(files, names, group.Name)
			sub := func(number int) string { return filepath.Join(dir, fmt.Sprint(g, "-", r, "-", number)) }
			// That a mutant fails tells nothing if the rule does.
			try(sub(0), rule.name(), excerpt(rules, names, nil), tests, true)
			for m, mutant := range mutants(rule, group.Interval != "") {
				if mutant.mild && !*all || strings.HasSuffix(mutant.what, equivalent) {
					continue
				}
				count++
				what, tests := rule.name()+": "+mutant.what, tests
				if mutant.says {
					tests = first(tests, rule.name())
				}
				if mutant.mild {
					what = mild + what
				}
				try(sub(m+1), what, excerpt(rules, names, &mutant), tests, false)
			}
		}
	}
	_ = workers.Wait() // none returns an error
	slices.Sort(survivors)
	for _, s := range survivors {
		if strings.HasPrefix(s, mild) {
			t.Logf("no test notices %s", s)
		} else {
			t.Errorf("no test notices %s", s)
		}
	}
	t.Logf("%d of %d mutants survived", len(survivors), count)
}

// concerned are the names of a rule and of all that use it.
func concerned(rules ruleFile, changed rule) []string {
	users := []rule{changed}
	for i := 0; i < len(users); i++ {
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				if r.uses(users[i]) && !slices.ContainsFunc(users, func(u rule) bool { return u.name() == r.name() }) {
					users = append(users, r)
				}
			}
		}
	}
	names := make([]string, len(users))
	for i, r := range users {
		names[i] = r.name()
	}
	return names
}

// excerpt are the named rules and what they use, as evaluating the others takes
// most of the time; with one of them changed or dropped.
func excerpt(rules ruleFile, names []string, change *mutant) ruleFile {
	var needed []rule
	for _, g := range slices.Backward(rules.Groups) {
		for _, r := range slices.Backward(g.Rules) {
			if slices.Contains(names, r.name()) || slices.ContainsFunc(needed, func(n rule) bool { return n.uses(r) }) {
				needed = append(needed, r)
			}
		}
	}
	var result ruleFile
	for _, g := range rules.Groups {
		kept := group{Name: g.Name, Interval: g.Interval}
		for _, r := range g.Rules {
			switch {
			case !slices.ContainsFunc(needed, func(n rule) bool { return n.name() == r.name() }):
			case change == nil || change.name != r.name():
				kept.Rules = append(kept.Rules, r)
			case change.rule != nil:
				kept.Rules = append(kept.Rules, *change.rule)
			}
		}
		result.Groups = append(result.Groups, kept)
	}
	return result
}

// about are the tests of the named rules, and those of the group that no alert is
// there. The group that a file tests is the last that it names.
func about(files []unitTests, names []string, group string) []unitTests {
	var result []unitTests
	for _, file := range files {
		var tests []unitTest
		for _, test := range file.Tests {
			test.Alerts = slices.DeleteFunc(slices.Clone(test.Alerts), func(a map[string]any) bool {
				return !slices.Contains(names, fmt.Sprint(a["alertname"]))
			})
			test.Expressions = slices.DeleteFunc(slices.Clone(test.Expressions), func(e map[string]any) bool {
				expr := fmt.Sprint(e["expr"])
				none := file.GroupEvalOrder[len(file.GroupEvalOrder)-1] == group && strings.Contains(expr, "ALERTS") && e["exp_samples"] == nil
				return !none && !slices.ContainsFunc(names, func(name string) bool { return strings.Contains(expr, name) })
			})
			if len(test.Alerts)+len(test.Expressions) > 0 {
				tests = append(tests, test)
			}
		}
		if len(tests) > 0 {
			file.Tests = tests
			result = append(result, file)
		}
	}
	return result
}

// first is the first test in which the alert fires: it tells what the alert says.
func first(files []unitTests, alert string) []unitTests {
	for _, file := range files {
		for _, test := range file.Tests {
			for _, a := range test.Alerts {
				if a["alertname"] == alert && a["exp_alerts"] != nil {
					test.Alerts, test.Expressions = []map[string]any{a}, nil
					file.Tests = []unitTest{test}
					return []unitTests{file}
				}
			}
		}
	}
	return files
}

// mild marks mutants that are only looked at.
const mild = "(mild) "

// passes says whether all tests pass with these rules.
func passes(t *testing.T, dir string, rules ruleFile, files []unitTests) (bool, error) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, testsDir), 0o700); err != nil {
		return false, err
	}
	write := func(name string, content any) error {
		text, err := yaml.Marshal(content)
		if err != nil {
			return err
		}
		return os.WriteFile(name, text, 0o600)
	}
	args := []string{"test", "rules"}
	for _, file := range files {
		name := filepath.Join(dir, testsDir, file.name)
		if err := write(name, file); err != nil {
			return false, err
		}
		args = append(args, name)
	}
	if err := write(filepath.Join(dir, rulesFile), rules); err != nil {
		return false, err
	}
	said, err := promtool(t, args...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return true, nil
	case !errors.As(err, &exit), strings.Contains(said, "parse error"), !strings.Contains(said, "exp:") && !strings.Contains(said, "many-to-many"):
		return false, fmt.Errorf("not a failed test: %w: %s", err, said)
	}
	return false, nil
}
