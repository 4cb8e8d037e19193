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
	"regexp"
	"runtime"
	"slices"
	"strconv"
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
	KeepFiring  string            `yaml:"keep_firing_for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

func (r rule) name() string { return r.Record + r.Alert }

// uses says whether the rule reads what the other one records, or its description does.
func (r rule) uses(other rule) bool {
	return other.Record != "" && strings.Contains(r.Expr+r.Annotations["description"], other.Record)
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
	cmd := exec.CommandContext(t.Context(), "promtool", args...) //nolint:gosec // the paths are ours
	cmd.Env = append(os.Environ(), "GOGC=400")                   // there is memory, and there are few processors
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		err = fmt.Errorf("promtool is not there (apt-get update && apt-get install -y prometheus): %w", err)
	}
	return string(out), err
}

func TestPromtool(t *testing.T) {
	t.Parallel()
	if said, err := promtool(t, "check", "rules", "--lint=all", "--lint-fatal", rulesFile); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, said)
	}
	for _, file := range readTests(t) {
		t.Run(file.name, func(t *testing.T) {
			t.Parallel()
			if said, err := promtool(t, "test", "rules", filepath.Join(testsDir, file.name)); err != nil {
				t.Errorf("%v\n%s", err, said)
			}
		})
	}
}

//nolint:gochecknoglobals // flags of tests are
var (
	all   = flag.Bool("all", false, "also try mutants that may well survive, and tell which")
	tried = flag.String("mutants", "", "try only the mutants that this expression matches, in RULE: WHAT")
)

// equivalent says whether a mutant is no worse than the rule.
func equivalent(m mutant) bool {
	return slices.ContainsFunc([]string{
		// Gaps of whole seconds are 0 or longer than 1, but for two logins within two seconds.
		"ended10m[1d]) > bool 0 -> 1",
		// A target that answers shows the metric itself. If none does, one of another account
		// changes nothing.
		"NCPAccountDown: ...and ignoring (account) (up == 1 and on (job, account, instance) -> no account",
		"NCPExporterDown: ...up and on (job, account, instance) -> no account",
	}, func(end string) bool { return strings.HasSuffix(m.String(), end) })
}

// TestMutants breaks each rule in one place after the other, and fails if no test of the
// rules notices. All mutants of a rule are tried at once, each under its own name, so
// that the rules that they share are evaluated only once.
func TestMutants(t *testing.T) {
	t.Parallel()
	rules, files, dir := readRules(t), readTests(t), t.TempDir()
	ofAccounts := asAccounts(t, files)
	var (
		workers   errgroup.Group
		mu        sync.Mutex
		survivors []string
		count     int
		batches   int
	)
	only := regexp.MustCompile(*tried)
	workers.SetLimit(runtime.GOMAXPROCS(0))
	try := func(rule rule, group string, files []unitTests, mutants []mutant) {
		names := concerned(rules, rule)
		b := &batch{
			dir: filepath.Join(dir, strconv.Itoa(batches)), rules: rules, names: names,
			tests: about(files, names, group),
			// The unbroken rule must pass, or a mutant that fails proves nothing.
			mutants: map[int]mutant{unbroken: {what: "as it is", name: rule.name(), rule: &rule}},
		}
		batches++
		for _, m := range mutants {
			if (!m.mild || *all) && !equivalent(m) && only.MatchString(m.String()) {
				b.mutants[len(b.mutants)] = m
			}
		}
		count += len(b.mutants) - 1
		workers.Go(func() error {
			alive, err := b.run(t)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%s: %v", rule.name(), err)
			}
			survivors = append(survivors, alive...)
			return nil
		})
	}
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			try(rule, group.Name, files, mutants(rule, group.Interval != ""))
			try(rule, group.Name, ofAccounts, merged(rule))
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

// mild marks mutants that are only looked at.
const mild = "(mild) "
