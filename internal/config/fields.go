package config

import (
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"ncp_exporter/ncpclient"
)

// field is a row of the table of what a file says of an account. How it is read,
// the JSON Schema and the table in docs/accounts.md follow from the row.
type field struct {
	path    string // below the account, such as external_access.page_size
	flag    string // that gives its default; empty if none does
	allowed string // follows "must be"
	schema  map[string]any
	set     func(*Account, *yaml.Node) []problem
}

// problem is what is wrong in a line. Its text follows the name of the field.
type problem struct {
	line int
	text string
}

// keyKind is a place of keys: its required fields, and one that may be left out.
type keyKind struct {
	required []string
	optional string
}

// keyKinds are those of which exactly one is given.
func keyKinds() []keyKind {
	return []keyKind{
		{required: []string{"access_key_file", "secret_key_file"}},
		{required: []string{"profile"}, optional: "credentials_file"},
		{required: []string{"access_key_env", "secret_key_env"}},
		{required: []string{"server_role"}},
	}
}

// keyPlace is where an account may say keys.
type keyPlace struct {
	path string
	of   func(*Account) *Keys
}

func keyPlaces() []keyPlace {
	return []keyPlace{
		{"keys", func(a *Account) *Keys { return &a.Keys }},
		{"certificate_manager.keys", func(a *Account) *Keys { return &a.CertificateManager.Keys }},
		{"external_access.keys", func(a *Account) *Keys { return &a.ExternalAccess.Keys }},
	}
}

// fields is the table.
func fields() []field {
	rules, keys := NewRules(), keyPlaces()
	return slices.Concat(
		[]field{setting("site", "ncp.site", rules.Site, func(a *Account) *string { return &a.Site })},
		keyFields(keys[0], rules),
		[]field{
			setting("timeout", "ncp.timeout", rules.RequestTimeout, func(a *Account) *time.Duration { return &a.Limits.Timeout }),
			setting("max_concurrency", "ncp.max-concurrency", rules.MaxConcurrency, func(a *Account) *int { return &a.Limits.MaxConcurrency }),
			setting("rate_limit", "ncp.rate-limit", rules.RateLimit, func(a *Account) *float64 { return &a.Limits.RateLimit }),
			setting("max_retries", "ncp.max-retries", rules.MaxRetries, func(a *Account) *int { return &a.Limits.MaxRetries }),
			setting("scrape_max_age", "scrape.max-age", rules.MaxAge, func(a *Account) *time.Duration { return &a.MaxAge }),
			collectorSwitch("certificate_manager.enabled", "collector.certificate-manager", ncpclient.APICertificateManager, rules),
		},
		keyFields(keys[1], rules),
		[]field{
			setting("certificate_manager.url", "", rules.BaseURL, func(a *Account) *string { return &a.CertificateManager.URL }),
			setting("certificate_manager.window", "collector.certificate-manager.window", rules.Window, func(a *Account) *time.Duration { return &a.CertificateManager.Window }),
			setting("certificate_manager.per_certificate", "collector.certificate-manager.per-certificate", rules.Switch, func(a *Account) *bool { return &a.CertificateManager.PerCertificate }),
			collectorSwitch("certificate_manager.inventory", "collector.certificate-inventory", inventory, rules),
			collectorSwitch("external_access.enabled", "collector.external-access", ncpclient.APIExternalAccess, rules),
		},
		keyFields(keys[2], rules),
		[]field{
			setting("external_access.url", "", rules.BaseURL, func(a *Account) *string { return &a.ExternalAccess.URL }),
			subjectList("external_access.subjects", rules.Subject),
			setting("external_access.subject_include", "collector.external-access.subject-include", rules.Pattern, func(a *Account) *string { return &a.ExternalAccess.SubjectInclude }),
			setting("external_access.subject_exclude", "collector.external-access.subject-exclude", rules.Pattern, func(a *Account) *string { return &a.ExternalAccess.SubjectExclude }),
			setting("external_access.page_size", "collector.external-access.page-size", rules.PageSize, func(a *Account) *int { return &a.ExternalAccess.PageSize }),
			setting("external_access.initial_history", "collector.external-access.initial-history", rules.InitialHistory, func(a *Account) *string { return &a.ExternalAccess.InitialHistory }),
			setting("external_access.late_arrival", "collector.external-access.late-arrival", rules.LateArrival, func(a *Account) *time.Duration { return &a.ExternalAccess.LateArrival }),
			setting("external_access.sweep_interval", "collector.external-access.sweep-interval", rules.SweepInterval, func(a *Account) *time.Duration { return &a.ExternalAccess.SweepInterval }),
			setting("external_access.failure_info", "collector.external-access.failure-info", rules.FailureInfo, func(a *Account) *time.Duration { return &a.ExternalAccess.FailureInfo }),
			collectorSwitch("external_access.trust_anchors", "collector.external-access.trust-anchors", trustAnchors, rules),
			setting("state_file", "state.file", rules.StateFile, func(a *Account) *StateFile { return &a.StateFile }),
			setting("formerly", "", rules.AccountName, func(a *Account) *string { return &a.Formerly }),
		},
	)
}

// Names of collectors in Account.Collectors, as the table in internal/account has
// them.
const (
	inventory    = "certificate_inventory"
	trustAnchors = "external_access_trust_anchors"
)

func keyFields(place keyPlace, rules Rules) []field {
	text := func(name string, rule Rule[string], target func(*Keys) *string) field {
		return setting(place.path+"."+name, "", rule, func(a *Account) *string { return target(place.of(a)) })
	}
	return []field{
		text("access_key_file", rules.KeyFile, func(k *Keys) *string { return &k.AccessKeyFile }),
		text("secret_key_file", rules.KeyFile, func(k *Keys) *string { return &k.SecretKeyFile }),
		text("profile", rules.Profile, func(k *Keys) *string { return &k.Profile }),
		text("credentials_file", rules.KeyFile, func(k *Keys) *string { return &k.CredentialsFile }),
		text("access_key_env", rules.KeyVariable, func(k *Keys) *string { return &k.AccessKeyEnv }),
		text("secret_key_env", rules.KeyVariable, func(k *Keys) *string { return &k.SecretKeyEnv }),
		setting(place.path+".server_role", "", rules.ServerRole, func(a *Account) *bool { return &place.of(a).ServerRole }),
	}
}

// setting is a field of one value.
func setting[T any](path, flag string, rule Rule[T], target func(*Account) *T) field {
	return field{path: path, flag: flag, allowed: rule.Allowed, schema: rule.Schema, set: func(a *Account, n *yaml.Node) []problem {
		value, wrong := parseNode(n, rule)
		if wrong == nil {
			*target(a) = value
		}
		return wrong
	}}
}

// collectorSwitch switches a collector on or off.
func collectorSwitch(path, flag, collector string, rules Rules) field {
	return field{path: path, flag: flag, allowed: rules.Switch.Allowed, schema: rules.Switch.Schema, set: func(a *Account, n *yaml.Node) []problem {
		on, wrong := parseNode(n, rules.Switch)
		a.Collectors[collector] = on && wrong == nil
		return wrong
	}}
}

// subjectList is a list of ids.
func subjectList(path string, rule Rule[string]) field {
	allowed := "a list of ids of subjects, at least one"
	schema := map[string]any{"type": "array", "items": rule.Schema, "minItems": 1}
	return field{path: path, allowed: allowed, schema: schema, set: func(a *Account, n *yaml.Node) []problem {
		if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
			return []problem{{n.Line, misshapen(n, allowed)}}
		}
		var ids []string
		var wrong []problem
		for _, item := range n.Content {
			id, bad := parseNode(item, rule)
			ids, wrong = append(ids, id), append(wrong, bad...)
		}
		a.ExternalAccess.Subjects = sortedSet(ids)
		return wrong
	}}
}

// parseNode reads a value that follows a rule, and that has the type of the rule's
// schema: a number in quotes is no number.
func parseNode[T any](n *yaml.Node, rule Rule[T]) (value T, wrong []problem) {
	if n.Kind != yaml.ScalarNode {
		return value, []problem{{n.Line, misshapen(n, rule.Allowed)}}
	}
	tags := map[any][]string{"string": {"!!str"}, "integer": {"!!int"}, "number": {"!!int", "!!float"}, "boolean": {"!!bool"}}
	kind := rule.Schema["type"]
	typed := slices.Contains(tags[kind], n.ShortTag())
	value, err := rule.Parse(n.Value)
	var text string
	switch {
	case err == nil && typed:
		return value, nil
	case n.Tag == "!!null" || rule.Secret && (err != nil || kind != "string"):
		text = " must be " + rule.Allowed
	case err != nil:
		text = " is " + shown(n.Value) + ", but must be " + rule.Allowed
	case kind == "string":
		text = " is no text to YAML: put it in quotes"
	default:
		text = " is " + shown(n.Value) + " in quotes, but must be without: " + rule.Allowed
	}
	return value, []problem{{n.Line, text}}
}

// misshapen says of a node that is of another kind what it must be.
func misshapen(n *yaml.Node, allowed string) string {
	if n.Kind == yaml.AliasNode {
		return " is an alias (*), which is not allowed: write it out"
	}
	return " must be " + allowed
}

// shown is a text of the file as errors show it: on one line, and not all of it if
// it is long.
func shown(text string) string {
	const longest = 64
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest]) + "..."
	}
	return strconv.Quote(text)
}
