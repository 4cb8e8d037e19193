//go:build e2e

package prometheus

import (
	"maps"
	"regexp"
	"strconv"
	"strings"
)

// mutant is a rule that is broken in one place.
type mutant struct {
	what string
	name string // of the rule
	rule *rule  // nil if it is dropped
	mild bool   // it is broken so little that tests may not notice
}

// String says which rule is broken, and how.
func (m mutant) String() string { return m.name + ": " + m.what }

// mutants are the ways to break a rule that a test must notice. Tests of a group
// that is evaluated seldom are coarse: they cannot tell a shorter `for`.
func mutants(r rule, coarse bool) []mutant {
	all := []mutant{{what: "dropped", name: r.name()}}
	add := func(what string, change func(*rule)) *mutant {
		changed := r
		changed.Labels, changed.Annotations = maps.Clone(r.Labels), maps.Clone(r.Annotations)
		change(&changed)
		all = append(all, mutant{what: what, name: r.name(), rule: &changed})
		return &all[len(all)-1]
	}
	for _, e := range mutateExpression(r.Expr) {
		add(e.what, func(r *rule) { r.Expr = e.expr }).mild = e.mild
	}
	if r.Alert == "" {
		return all
	}
	number, _ := strconv.Atoi(strings.TrimRight(r.For, "mh"))
	unit := r.For[len(r.For)-1:]
	add("no for", func(r *rule) { r.For = "" })
	if r.KeepFiring != "" {
		add("no keep_firing_for", func(r *rule) { r.KeepFiring = "" })
		add("a longer keep_firing_for", func(r *rule) { r.KeepFiring = "20m" })
	}
	add("a longer for", func(r *rule) { r.For = strconv.Itoa(2*number) + unit })
	if !coarse {
		add("a shorter for", func(r *rule) { r.For = strconv.Itoa(number/2) + unit })
	}
	add("another severity", func(r *rule) {
		r.Labels["severity"] = map[string]string{"critical": "warning", "warning": "info", "info": "critical"}[r.Labels["severity"]]
	})
	for name := range r.Annotations {
		add("another "+name, func(r *rule) { r.Annotations[name] += "!" })
	}
	return all
}

type expression struct {
	what, expr string
	mild       bool
}

var (
	comparison  = regexp.MustCompile(`==|!=|>=|<=|>|<`)
	setOperator = regexp.MustCompile(`\b(unless|and|or)\b`)
	numeral     = regexp.MustCompile(`(^|[\s(,])(-?\d+(?:\.\d+)?)([\s),]|$)`)
	jobLabel    = regexp.MustCompile(`\b(on|by) \(job(, )?`)
	account     = regexp.MustCompile(`(, account|\b(without|ignoring) \(account\))`)
)

// merged are the ways to let the accounts of a job be taken for one another: the label
// account left out in one place. In the two alerts about an exporter with all its
// accounts, they are kept apart instead.
func merged(r rule) []mutant {
	var all []mutant
	for _, at := range account.FindAllStringIndex(mask(r.Expr), -1) {
		changed := r
		changed.Expr = r.Expr[:at[0]] + r.Expr[at[1]:]
		begin, end := strings.LastIndexByte(r.Expr[:at[0]], '\n')+1, at[1]+strings.IndexByte(r.Expr[at[1]-1:], ')')
		line := strings.TrimSpace(r.Expr[begin:end])
		all = append(all, mutant{what: "..." + line + " -> no account", name: r.name(), rule: &changed})
	}
	return all
}

// mutateExpression changes each operator, each number, and each place where one
// job is kept from another.
func mutateExpression(expr string) []expression {
	otherComparisons := map[string][]string{
		"==": {"!="}, "!=": {"=="}, ">": {"<", ">="}, ">=": {"<", ">"}, "<": {">", "<="}, "<=": {">", "<"},
	}
	otherSetOperators := map[string][]string{"unless": {"and"}, "and": {"unless"}, "or": {"and", "unless"}}
	var all []expression
	masked := mask(expr)
	replace := func(from, to int, with string, mild bool) {
		line := strings.TrimSpace(expr[strings.LastIndexByte(expr[:from], '\n')+1 : to])
		all = append(all, expression{"..." + line + " -> " + with, expr[:from] + with + expr[to:], mild})
	}
	for _, at := range comparison.FindAllStringIndex(masked, -1) {
		for _, other := range otherComparisons[expr[at[0]:at[1]]] {
			replace(at[0], at[1], other, other[0] == expr[at[0]]) // > and >=
		}
	}
	for _, at := range setOperator.FindAllStringIndex(masked, -1) {
		for _, other := range otherSetOperators[expr[at[0]:at[1]]] {
			replace(at[0], at[1], other, false)
		}
	}
	for _, at := range numeral.FindAllStringSubmatchIndex(masked, -1) {
		for _, other := range otherNumbers(expr[at[4]:at[5]]) {
			replace(at[4], at[5], other, false)
		}
	}
	for _, at := range jobLabel.FindAllStringIndex(masked, -1) {
		replace(at[0], at[1], expr[at[0]:at[0]+2]+" (", true)
	}
	return all
}

// mask replaces selectors, ranges and strings, in which nothing is changed.
func mask(expr string) string {
	hidden := regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]|"[^"]*"`)
	return hidden.ReplaceAllStringFunc(expr, func(s string) string { return strings.Repeat("#", len(s)) })
}

// otherNumbers are a little less and a little more.
func otherNumbers(number string) []string {
	f, err := strconv.ParseFloat(number, 64)
	if err != nil {
		panic(err) // the expression finds numbers alone
	}
	less, more := 0.8*f, 1.2*f
	if f == float64(int(f)) && f <= 10 {
		less, more = f-1, f+1
	}
	format := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	return []string{format(less), format(more)}
}
