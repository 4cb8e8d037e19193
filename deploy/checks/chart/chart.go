// Package chart keeps what is made from other files in step with them: the values
// and flags of the Helm chart, and the copies of rules and dashboards.
package chart

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	helm       = "deploy/helm/ncp-exporter"
	rules      = "deploy/prometheus/ncp_exporter.rules.yml"
	dashboards = "grafana/dashboards"

	runbook = "runbook_url: "
	// composeRunbooks is where the Grafana of deploy/compose serves grafana/runbooks.html.
	composeRunbooks = "http://localhost:3000/public/runbooks.html"
)

// Made are the files that are made from others, by their paths. A nil text is a
// file that is not to be there.
func Made(root string) (map[string][]byte, error) {
	made := map[string][]byte{}
	for _, add := range []func(string, map[string][]byte) error{addRules, addDashboards, addReadme, addSchema} {
		if err := add(root, made); err != nil {
			return nil, err
		}
	}
	return made, nil
}

func addRules(root string, made map[string][]byte) error {
	text, err := os.ReadFile(filepath.Join(root, rules)) //nolint:gosec // a file of this repository
	if err != nil {
		return err
	}
	made[filepath.Join(helm, "files/ncp_exporter.rules.yml")] = text
	var object bytes.Buffer
	object.WriteString("# Made by `make deploy-sync` from " + rules + ".\n" +
		"apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: ncp-exporter\nspec:\n")
	for line := range strings.Lines(string(text)) {
		if line != "\n" {
			object.WriteString("  ")
		}
		object.WriteString(line)
	}
	made["deploy/kubernetes/base/prometheusrule.yaml"] = object.Bytes()
	made["deploy/compose/ncp_exporter.rules.yml"] = append(
		[]byte("# Made by `make deploy-sync` from "+rules+": here runbooks are a page of Grafana.\n"),
		bytes.ReplaceAll(text, []byte(runbook+"docs/runbooks.md#"), []byte(runbook+composeRunbooks+"#"))...)
	return nil
}

func addDashboards(root string, made map[string][]byte) error {
	copies := filepath.Join(helm, "files/dashboards")
	old, err := filepath.Glob(filepath.Join(root, copies, "*"))
	if err != nil {
		return err
	}
	for _, path := range old {
		made[filepath.Join(copies, filepath.Base(path))] = nil
	}
	all, err := filepath.Glob(filepath.Join(root, dashboards, "*.json"))
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("there are no dashboards in %s", dashboards)
	}
	for _, path := range all {
		text, err := os.ReadFile(path) //nolint:gosec // a file of this repository
		if err != nil {
			return err
		}
		if made[filepath.Join(copies, filepath.Base(path))] = text; !json.Valid(text) {
			return fmt.Errorf("%s is not JSON", path)
		}
	}
	return nil
}

// addReadme puts the table of values.yaml into the chart's README.
func addReadme(root string, made map[string][]byte) error {
	text, err := os.ReadFile(filepath.Join(root, helm, "values.yaml")) //nolint:gosec // a file of this repository
	if err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return err
	}
	var table strings.Builder
	table.WriteString("| value | default | meaning |\n|---|---|---|\n")
	if err := rows(&table, "", document.Content[0]); err != nil {
		return err
	}
	const begin, end = "<!-- values: made by `make deploy-sync` from values.yaml -->\n", "<!-- end of values -->"
	path := filepath.Join(helm, "README.md")
	readme, err := os.ReadFile(filepath.Join(root, path)) //nolint:gosec // a file of this repository
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(readme), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no part between %q and %q", path, begin, end)
	}
	made[path] = []byte(before + begin + table.String() + end + after)
	return nil
}

// rows writes a row for each value. A map with comments inside is a group of
// values; any other is a value by itself.
func rows(table *strings.Builder, prefix string, m *yaml.Node) error {
	for i := 0; i < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		name := prefix + key.Value
		meaning := prose(key.HeadComment)
		if value.Kind == yaml.MappingNode && slices.ContainsFunc(value.Content, func(n *yaml.Node) bool { return n.HeadComment != "" }) {
			if err := rows(table, name+".", value); err != nil {
				return err
			}
			continue
		}
		if meaning == "" {
			return fmt.Errorf("values.yaml does not say what %s is", name)
		}
		var plain any
		if err := value.Decode(&plain); err != nil {
			return err
		}
		text, err := json.Marshal(plain)
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "| `%s` | `%s` | %s |\n", name, text, meaning)
	}
	return nil
}

func prose(comment string) string {
	var words []string
	for line := range strings.Lines(comment) {
		words = append(words, strings.Fields(strings.TrimPrefix(line, "#"))...)
	}
	return strings.ReplaceAll(strings.Join(words, " "), "|", `\|`)
}

// ours are the flags that the chart sets by values of its own.
func ours() []string {
	return []string{
		"web.listen-address", "web.systemd-socket", "web.config.file",
		"ncp.credentials-file", "ncp.profile", "ncp.certificate-manager.profile", "ncp.external-access.profile",
		"ncp.access-key-file", "ncp.secret-key-file", "ncp.key-directory", "ncp.server-role",
		"state.file", "shard", "total-shards", "demo", "demo.accounts", "check",
		"config.file", "config.check", "config.auto-reload-interval",
	}
}

// addSchema puts the names of the flags that `flags` may hold into the schema.
func addSchema(root string, made map[string][]byte) error {
	docs, err := os.ReadFile(filepath.Join(root, "docs/configuration.md")) //nolint:gosec // a file of this repository
	if err != nil {
		return err
	}
	var names []string
	for _, match := range regexp.MustCompile("(?m)^\\| `--(?:\\[no-\\])?([a-z.-]+)`").FindAllStringSubmatch(string(docs), -1) {
		if !slices.Contains(ours(), match[1]) {
			names = append(names, `"`+match[1]+`": {"$ref": "#/definitions/flag"}`)
		}
	}
	slices.Sort(names)
	path := filepath.Join(helm, "values.schema.json")
	schema, err := os.ReadFile(filepath.Join(root, path)) //nolint:gosec // a file of this repository
	if err != nil {
		return err
	}
	list := regexp.MustCompile(`("flags": \{\s*"type": "object",\s*"additionalProperties": false,\s*"properties": \{)(?:\s*"[a-z.-]+": \{"\$ref": "#/definitions/flag"\},?)*\s*\}`)
	if !list.Match(schema) || len(names) == 0 {
		return fmt.Errorf("%s has no list of flags", path)
	}
	const indent = "\n        "
	schema = list.ReplaceAllFunc(schema, func(old []byte) []byte {
		return append(bytes.Clone(list.FindSubmatch(old)[1]), indent+strings.Join(names, ","+indent)+"\n      }"...)
	})
	if schema, err = withTypes(root, schema); err != nil {
		return err
	}
	made[path], err = withAccounts(root, schema)
	return err
}

// withTypes puts the types of Kubernetes that the schema refers to, and those that they
// refer to, into it: a line each.
func withTypes(root string, schema []byte) ([]byte, error) {
	all := map[string]json.RawMessage{}
	for _, file := range []string{"statefulset.json", "networkpolicy.json"} {
		text, err := os.ReadFile(filepath.Join(root, "deploy/checks/schemas", file)) //nolint:gosec // a file of this repository
		if err != nil {
			return nil, err
		}
		var types struct{ Definitions map[string]json.RawMessage }
		if err := json.Unmarshal(text, &types); err != nil {
			return nil, err
		}
		maps.Copy(all, types.Definitions)
	}
	const begin, end = "  \"definitions\": {\n", "    \"scalar\": {"
	before, rest, ok := bytes.Cut(schema, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return nil, fmt.Errorf("the schema of the values has no part between %q and %q", begin, end)
	}
	refers := regexp.MustCompile(`"#/definitions/(io\.k8s\.[^"]+)"`)
	lines := map[string]string{}
	var add func(text []byte) error
	add = func(text []byte) error {
		for _, match := range refers.FindAllSubmatch(text, -1) {
			name := string(match[1])
			if _, known := lines[name]; known {
				continue
			}
			var compact bytes.Buffer
			if err := json.Compact(&compact, all[name]); err != nil {
				return fmt.Errorf("the type %s: %w", name, err)
			}
			lines[name] = "    \"" + name + "\": " + compact.String() + ",\n"
			if err := add(all[name]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := add(before); err != nil {
		return nil, err
	}
	types := []byte(begin)
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		types = append(types, lines[name]...)
	}
	return slices.Concat(before, types, []byte(end), after), nil
}

// withAccounts puts the schema of the file of accounts into that of the values. Without
// accounts the chart is for one account, so none is allowed; and the draft of the values'
// schema, the newest that each Helm knows, has an earlier name for one keyword.
func withAccounts(root string, schema []byte) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, "docs/accounts.schema.json")) //nolint:gosec // a file of this repository
	if err != nil {
		return nil, err
	}
	var file struct {
		Properties struct{ Accounts map[string]json.RawMessage }
	}
	if err := json.Unmarshal(bytes.ReplaceAll(text, []byte("dependentRequired"), []byte("dependencies")), &file); err != nil {
		return nil, err
	}
	delete(file.Properties.Accounts, "minProperties")
	accounts, err := json.MarshalIndent(file.Properties.Accounts, "    ", "  ")
	if err != nil {
		return nil, err
	}
	const begin, end = `    "accounts": `, ",\n    \"accountsSecret\": "
	before, rest, ok := bytes.Cut(schema, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return nil, fmt.Errorf("the schema of the values has no part between %q and %q", begin, end)
	}
	return slices.Concat(before, []byte(begin), accounts, []byte(end), after), nil
}

// Drift are the files that are not as they would be made.
func Drift(root string) ([]string, error) {
	made, err := Made(root)
	if err != nil {
		return nil, err
	}
	var drift []string
	for path, text := range made {
		old, err := os.ReadFile(filepath.Join(root, path)) //nolint:gosec // a file of this repository
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if !bytes.Equal(old, text) || (err == nil) != (text != nil) {
			drift = append(drift, path)
		}
	}
	slices.Sort(drift)
	return drift, nil
}

// Write writes all files.
func Write(root string) error {
	made, err := Made(root)
	if err != nil {
		return err
	}
	for path, text := range made {
		path = filepath.Join(root, path)
		if text == nil {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // files of this repository, and no secret
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil { //nolint:gosec // files of this repository, and no secret
			return err
		}
	}
	return nil
}
