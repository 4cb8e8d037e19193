package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

const (
	docsFile   = "../../docs/accounts.md"
	schemaFile = "../../docs/accounts.schema.json"
)

// TestDocs compares docs/accounts.md and docs/accounts.schema.json with the table of
// fields. `make docs` writes them.
func TestDocs(t *testing.T) {
	docs := readFile(t, docsFile)
	begin, end := "<!-- fields: made by `make docs` from the code -->\n", "<!-- end of fields -->"
	before, rest, ok := strings.Cut(docs, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no part for the fields", docsFile)
	}
	for file, text := range map[string]string{docsFile: before + begin + fieldTable() + end + after, schemaFile: string(schemaText(t))} {
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if readFile(t, file) != text {
			t.Errorf("%s does not tell what the code does: run `make docs` and commit what it writes", file)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path) //nolint:gosec // a file of this repository
	if err != nil && !*update {
		t.Fatal(err)
	}
	return string(text)
}

// defaultOf is where the value of a field comes from that is not given, in words.
func defaultOf(f field) string {
	others := map[string]string{ //nolint:gosec // no credentials
		"certificate_manager.url":  "by `site`",
		"external_access.url":      "by `site`",
		"external_access.subjects": "all that NCP lists",
		"keys.credentials_file":    "`~/.ncloud/configure`",
		"state_file":               "`accounts/NAME` beside `--state.file`; in memory if that is empty",
	}
	if other, ok := others[f.path]; ok || f.flag == "" {
		return other
	}
	return "`--" + f.flag + "`"
}

func fieldTable() string {
	var b strings.Builder
	b.WriteString("| field | default | must be |\n|---|---|---|\n")
	for _, f := range fields() {
		place, _, below := strings.Cut(f.path, ".keys.")
		switch {
		case !below:
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.path, defaultOf(f), f.allowed)
		case strings.HasSuffix(f.path, ".access_key_file"): // the first of them stands for all
			fmt.Fprintf(&b, "| `%s.keys` | `keys` | as `keys` |\n", place)
		}
	}
	return b.String()
}

// schema is the JSON Schema of what is below a path of an account: "" or such as
// "external_access.".
func schema(below string) map[string]any {
	properties := make(map[string]any)
	for _, f := range fields() {
		rest, ok := strings.CutPrefix(f.path, below)
		if !ok {
			continue
		}
		if name, _, nested := strings.Cut(rest, "."); nested {
			properties[name] = schema(below + name + ".")
		} else {
			described := map[string]any{"description": "must be " + f.allowed}
			for name, value := range f.schema {
				described[name] = value
			}
			properties[name] = described
		}
	}
	object := map[string]any{"type": "object", "additionalProperties": false, "minProperties": 1, "properties": properties}
	if strings.HasSuffix(below, "keys.") {
		var kinds []any
		together := make(map[string]any)
		for _, kind := range keyKinds() {
			kinds = append(kinds, map[string]any{"required": kind.required})
			for _, name := range append(slices.Clone(kind.required), kind.optional) {
				if name != "" {
					together[name] = kind.required
				}
			}
		}
		object["oneOf"], object["dependentRequired"] = kinds, together
	}
	return object
}

func schemaText(t *testing.T) []byte {
	t.Helper()
	pattern, ok := NewRules().AccountName.Schema["pattern"].(string)
	if !ok {
		t.Fatal("the rule of names has no pattern")
	}
	text, err := json.MarshalIndent(map[string]any{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"title":       "ncp_exporter: --config.file",
		"description": "Made by `make docs` from the code. It knows all fields and their bounds, but not what must hold between accounts: --config.check does.",
		"type":        "object", "additionalProperties": false, "required": []string{"accounts"},
		"properties": map[string]any{"accounts": map[string]any{
			"type": "object", "minProperties": 1, "maxProperties": MaxAccounts, "additionalProperties": false,
			"patternProperties": map[string]any{pattern: schema("")},
		}},
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(readFile(t, schemaFile)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("accounts.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("accounts.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// validateSchema holds a YAML text against the schema, as an editor does.
func validateSchema(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var document any
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		return err
	}
	asJSON, err := json.Marshal(document)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(value)
}

// TestExamplesAreValid holds each file of accounts in docs/accounts.md against the
// schema and the program.
func TestExamplesAreValid(t *testing.T) {
	s, seen := compiledSchema(t), 0
	for _, match := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(readFile(t, docsFile), -1) {
		text := match[1]
		if !strings.HasPrefix(strings.TrimPrefix(text, "# yaml-language-server: $schema=accounts.schema.json\n"), "accounts:\n") {
			continue // Prometheus' own
		}
		seen++
		if err := validateSchema(t, s, text); err != nil {
			t.Errorf("by the schema: %v\n%s", err, text)
		}
		if _, err := ParseFile("accounts.yml", []byte(text), flagDefaults()); err != nil {
			t.Errorf("by the program: %v\n%s", err, text)
		}
	}
	if seen < 2 {
		t.Errorf("only %d examples are found", seen)
	}
}

// TestSchemaSaysWhatTheProgramSays wants both to take the same fields and values.
func TestSchemaSaysWhatTheProgramSays(t *testing.T) {
	s := compiledSchema(t)
	for _, file := range []string{"good-contract.yml", "good-all-fields.yml"} {
		if err := validateSchema(t, s, readFile(t, "testdata/accounts/"+file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	lists := map[string][]string{
		"site": {"public", "govt", "1", "''"}, "timeout": {"5s", "1m30s", "7d", "5", "'5'", "0", "soon"}, "max_concurrency": {"1", "0", "1001", "'1'", "1.5"},
		"rate_limit": {"0", "0.5", "-1", "1e7", "'1'"}, "max_retries": {"100", "101"}, "certificate_manager.enabled": {"true", "no", "1", "'true'"},
		"certificate_manager.url": {"https://h.example/v1", "h.example", "https://u:p@h.example/v1"}, "external_access.subjects": {"[a, b]", "[]", "a", "[1]"},
		"external_access.page_size": {"1", "0", "[1]"}, "external_access.initial_history": {"skip", "Skip"}, "external_access.nothing": {"1"}, "nothing": {"1"},
		"state_file": {"a", "''", "1"}, "formerly": {"a-1", "A", "-a"}, "keys.server_role": {"true", "false"}, "keys.profile": {"a", "''", "1"},
		"keys.access_key_file": {"a"}, "keys.credentials_file": {"a"}, "keys.access_key_env": {"A"},
	}
	// What a schema cannot say of them: durations are text.
	beyond := []string{"timeout 7d", "timeout '5'", "timeout 0"}
	for path, values := range lists {
		for _, value := range values {
			keys, nested := "keys: {profile: p}", path
			if strings.HasPrefix(path, "keys.") {
				keys = ""
			}
			if section, name, ok := strings.Cut(path, "."); ok {
				nested = section + ": {" + name
				value += "}"
			}
			text := "accounts: {one: {" + strings.TrimPrefix(keys+", "+nested+": "+value+"}}", ", ")
			bySchema := validateSchema(t, s, text) == nil
			_, err := ParseFile("a.yml", []byte(text), flagDefaults())
			if bySchema != (err == nil) && !slices.Contains(beyond, path+" "+value) {
				t.Errorf("%s: the schema takes it: %t, the program: %v", text, bySchema, err)
			}
		}
	}
}
