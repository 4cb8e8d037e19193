//go:build e2e

package prometheus

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

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

// batch is a rule and its mutants.
type batch struct {
	dir     string
	rules   ruleFile
	names   []string // of the rule and all that use it
	tests   []unitTests
	mutants map[int]mutant // by their number
}

// unbroken is the number of the rule as it is.
const unbroken = 0

// run says which mutants no test notices. The slow tests see only the mutants that the
// fast ones did not notice.
func (b *batch) run(t *testing.T) (survivors []string, err error) {
	t.Helper()
	slices.SortFunc(b.tests, func(x, y unitTests) int { return cmp.Compare(x.evaluations(t), y.evaluations(t)) })
	for _, file := range b.tests {
		if len(b.mutants) == 1 { // unbroken
			break
		}
		if err := b.runFile(t, file); err != nil {
			return nil, err
		}
	}
	delete(b.mutants, unbroken)
	for _, m := range b.mutants {
		what := m.String()
		if m.mild {
			what = mild + what
		}
		survivors = append(survivors, what)
	}
	return survivors, nil
}

// evaluations are how often the rules are evaluated, at most.
func (u unitTests) evaluations(t *testing.T) time.Duration {
	t.Helper()
	parse := func(text any) time.Duration {
		d, err := model.ParseDuration(fmt.Sprint(text))
		if err != nil {
			t.Errorf("%s: %v", u.name, err)
			return 0
		}
		return time.Duration(d)
	}
	var all time.Duration
	for _, test := range u.Tests {
		var last time.Duration
		for _, e := range slices.Concat(test.Alerts, test.Expressions) {
			last = max(last, parse(e["eval_time"]))
		}
		all += last
	}
	return all / max(parse(u.EvaluationInterval), 1)
}

// runFile deletes the mutants that a file of tests notices.
func (b *batch) runFile(t *testing.T, file unitTests) error {
	t.Helper()
	for {
		said, err := b.promtool(t, file)
		if err == nil {
			return nil
		}
		found := regexp.MustCompile(`_m(\d+)\b`).FindAllStringSubmatch(said, -1)
		if len(found) == 0 || strings.Contains(said, "parse error") {
			return fmt.Errorf("not a failed test: %w: %s", err, said)
		}
		for _, m := range found {
			number, err := strconv.Atoi(m[1])
			if err != nil {
				return err
			}
			if number == unbroken {
				return fmt.Errorf("its tests do not pass as it is: %s", said)
			}
			delete(b.mutants, number)
		}
		// A rule that cannot be evaluated ends its test: the others are tried again.
		if !strings.Contains(said, ", err: ") {
			return nil
		}
	}
}

// rename gives the rule, and all that use it, the names that they have as a mutant.
func (b *batch) rename(text string, number int) string {
	for _, name := range b.names {
		text = regexp.MustCompile(`\b`+name+`\b`).ReplaceAllString(text, fmt.Sprint(name, "_m", number))
	}
	return text
}

// numbers are those of the mutants that are left.
func (b *batch) numbers() []int { return slices.Sorted(maps.Keys(b.mutants)) }

// excerpt are the rules of the batch: what they use as it is, as evaluating the others
// takes most of the time, and each mutant.
func (b *batch) excerpt() ruleFile {
	var needed []rule
	for before := -1; before < len(needed); { // a description may use a rule of a later group
		before = len(needed)
		for _, g := range b.rules.Groups {
			for _, r := range g.Rules {
				switch {
				case slices.ContainsFunc(needed, func(n rule) bool { return n.name() == r.name() }):
				case slices.Contains(b.names, r.name()), slices.ContainsFunc(needed, func(n rule) bool { return n.uses(r) }):
					needed = append(needed, r)
				}
			}
		}
	}
	var result ruleFile
	for _, g := range b.rules.Groups {
		kept := group{Name: g.Name, Interval: g.Interval}
		for _, r := range g.Rules {
			switch {
			case !slices.ContainsFunc(needed, func(n rule) bool { return n.name() == r.name() }):
			case !slices.Contains(b.names, r.name()):
				kept.Rules = append(kept.Rules, r)
			default:
				kept.Rules = append(kept.Rules, b.variants(r)...)
			}
		}
		result.Groups = append(result.Groups, kept)
	}
	return result
}

// variants are a rule as it is in each mutant.
func (b *batch) variants(r rule) []rule {
	var all []rule
	for _, number := range b.numbers() {
		variant := r
		if m := b.mutants[number]; m.name == r.name() {
			if m.rule == nil { // dropped
				continue
			}
			variant = *m.rule
		}
		variant.Record, variant.Alert = b.rename(variant.Record, number), b.rename(variant.Alert, number)
		variant.Expr = b.rename(variant.Expr, number)
		variant.Annotations = maps.Clone(variant.Annotations)
		if described, ok := variant.Annotations["description"]; ok { // and what it asks for
			variant.Annotations["description"] = b.rename(described, number)
		}
		all = append(all, variant)
	}
	return all
}

// expectations are those of a test, of each mutant.
func (b *batch) expectations(of []map[string]any) ([]map[string]any, error) {
	var result []map[string]any
	for _, number := range b.numbers() {
		text, err := yaml.Marshal(of)
		if err != nil {
			return nil, err
		}
		var variant []map[string]any
		if err := yaml.Unmarshal([]byte(b.rename(string(text), number)), &variant); err != nil {
			return nil, err
		}
		for _, v := range variant {
			if expr, ok := v["expr"].(string); ok { // that asks for no alerts of others
				own := fmt.Sprintf(`ALERTS{alertname=~".+_m%d",`, number)
				v["expr"] = strings.ReplaceAll(regexp.MustCompile(`\bALERTS\b\{?`).ReplaceAllString(expr, "ALERTS{"), "ALERTS{", own)
				if !strings.Contains(expr, "ALERTS{") {
					v["expr"] = strings.ReplaceAll(v["expr"].(string), own, own+"}") //nolint:forcetypeassert // as above
				}
			}
		}
		result = append(result, variant...)
	}
	return result, nil
}

// promtool runs a file of tests of all mutants.
func (b *batch) promtool(t *testing.T, file unitTests) (said string, err error) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(b.dir, testsDir), 0o700); err != nil {
		return "", err
	}
	write := func(name string, content any) error {
		text, err := yaml.Marshal(content)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(b.dir, name), text, 0o600)
	}
	file.Tests = slices.Clone(file.Tests)
	for i := range file.Tests {
		test := &file.Tests[i]
		if test.Alerts, err = b.expectations(test.Alerts); err != nil {
			return "", err
		}
		if test.Expressions, err = b.expectations(test.Expressions); err != nil {
			return "", err
		}
	}
	if err := write(filepath.Join(testsDir, file.name), file); err != nil {
		return "", err
	}
	if err := write(rulesFile, b.excerpt()); err != nil {
		return "", err
	}
	return promtool(t, "test", "rules", filepath.Join(b.dir, testsDir, file.name))
}

// about gives the tests of the named rules, and the tests of the group that expect no
// alert. A file tests the group that it names last.
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
