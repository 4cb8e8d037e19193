package checks

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"
	"go.yaml.in/yaml/v3"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path)) //nolint:gosec // files of this repository
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// find gives what the first group of an expression matches in a file.
func find(t *testing.T, path, expression string) string {
	t.Helper()
	match := regexp.MustCompile("(?m)" + expression).FindStringSubmatch(read(t, path))
	if match == nil {
		t.Fatalf("%s has no %s", path, expression)
	}
	return match[1]
}

// TestVersionsAgree finds a place that was forgotten when the version was raised.
func TestVersionsAgree(t *testing.T) {
	want := find(t, "deploy/helm/ncp-exporter/Chart.yaml", `^appVersion: (\S+)$`)
	got := map[string]string{
		"the chart's own version":       find(t, "deploy/helm/ncp-exporter/Chart.yaml", `^version: (\S+)$`),
		"the tag in overlays/single":    find(t, "deploy/kubernetes/overlays/single/kustomization.yaml", `newTag: (\S+)$`),
		"the tag in overlays/accounts":  find(t, "deploy/kubernetes/overlays/accounts/kustomization.yaml", `newTag: (\S+)$`),
		"the tag in overlays/sharded":   find(t, "deploy/kubernetes/overlays/sharded/kustomization.yaml", `newTag: (\S+)$`),
		"the tag in README.md":          find(t, "README.md", `newTag: (\S+)$`),
		"the tag in docs/release.md":    find(t, "docs/release.md", `git tag --annotate v([^\x60]+)\x60`),
		"the image in docs/release.md ": find(t, "docs/release.md", `IMAGE=\S+:(\S+)$`),
	}
	if match := regexp.MustCompile(`(?m)^## v?(\d\S*)`).FindStringSubmatch(read(t, "CHANGELOG.md")); match != nil {
		got["the newest version in CHANGELOG.md"] = match[1]
	}
	for what, version := range got {
		if version != want {
			t.Errorf("%s is %s, the chart's appVersion %s", what, version, want)
		}
	}
}

func workflows(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, ".github/workflows/*.yml"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, error %v", files, err)
	}
	return files
}

func lint(t *testing.T, name, text string) []*actionlint.Error {
	t.Helper()
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found, err := linter.Lint(name, []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestWorkflows(t *testing.T) {
	goVersion := find(t, "Dockerfile", `golang:([\d.]+)-`)
	for _, file := range workflows(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text := read(t, filepath.Join(".github/workflows", filepath.Base(file)))
			for _, found := range lint(t, file, text) {
				t.Error(found)
			}
			pinned := regexp.MustCompile(`^\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
			for _, match := range regexp.MustCompile(`(?m)uses: (.*)$`).FindAllStringSubmatch(text, -1) {
				if !pinned.MatchString(match[1]) {
					t.Errorf("%s is not pinned to a commit, with its version behind it", match[1])
				}
			}
			for _, match := range regexp.MustCompile(`go-version: (.*)`).FindAllStringSubmatch(text, -1) {
				if match[1] != goVersion {
					t.Errorf("it takes Go %s, the Dockerfile %s", match[1], goVersion)
				}
			}
			makefile := read(t, "Makefile")
			for _, match := range regexp.MustCompile(`\bmake (?:--silent )?([a-z-]+)`).FindAllStringSubmatch(text, -1) {
				if !strings.Contains(makefile, fmt.Sprintf("\n%s: ## ", match[1])) {
					t.Errorf("%q is no target of the Makefile", match[1])
				}
			}
			if broken := strings.Replace(text, "runs-on:", "run-on:", 1); len(lint(t, file, broken)) == 0 {
				t.Error("a broken workflow passes")
			}
		})
	}
}

// workflow is what matters here of a workflow.
type workflow struct {
	Permissions map[string]string
	Jobs        map[string]struct {
		Needs       any
		Permissions map[string]string
		Steps       []struct{ Uses, Run string }
	}
}

// TestReleaseWorkflow wants nothing published before the tests have passed, no right to
// write where it is not needed, and no names that a registry does not take.
func TestReleaseWorkflow(t *testing.T) {
	text := read(t, ".github/workflows/release.yml")
	var w workflow
	if err := yaml.Unmarshal([]byte(text), &w); err != nil {
		t.Fatal(err)
	}
	var before func(job string) []string // all that has to pass
	before = func(job string) []string {
		var names []string
		for _, name := range strings.FieldsFunc(fmt.Sprint(w.Jobs[job].Needs), func(r rune) bool { return strings.ContainsRune("[]<> ", r) }) {
			if name != "nil" {
				names = append(append(names, name), before(name)...)
			}
		}
		return names
	}
	writes := map[string][]string{
		"image": {"attestations", "id-token", "packages"}, "chart": {"packages"}, "release": {"attestations", "contents", "id-token"},
	}
	for name, job := range w.Jobs {
		var may []string
		for what, how := range job.Permissions {
			if how == "write" {
				may = append(may, what)
			}
		}
		slices.Sort(may)
		if !slices.Equal(may, writes[name]) {
			t.Errorf("%s may write %v, want %v", name, may, writes[name])
		}
		if publishes := len(may) > 0; publishes != slices.Contains(before(name), "test") {
			t.Errorf("%s publishes: %t, but waits for %v", name, publishes, before(name))
		}
	}
	if len(w.Jobs) != 5 || len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
		t.Errorf("%d jobs, and by default they may %v", len(w.Jobs), w.Permissions)
	}
	tests := fmt.Sprint(w.Jobs["test"].Steps)
	for _, want := range []string{".ci/run", "make image-test"} {
		if !strings.Contains(tests, want) {
			t.Errorf("the tests before a release are without %s", want)
		}
	}
	for _, match := range regexp.MustCompile(`ghcr\.io/\S+`).FindAllString(text, -1) {
		if strings.Contains(match, "github.repository") || strings.Contains(match, "GITHUB_") && !strings.Contains(match, ",,}") {
			t.Errorf("%s may have capitals, which no registry takes", match)
		}
	}
}

// TestMakeTargetsAreTold demands that what README and docs tell to make can be made.
func TestMakeTargetsAreTold(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, file := range []string{"README.md", "CONTRIBUTING.md", "docs/release.md"} {
		for _, match := range regexp.MustCompile("(?m)(?:`|^)make ([a-z][a-z0-9-]*)").FindAllStringSubmatch(read(t, file), -1) {
			if !strings.Contains(makefile, "\n"+match[1]+": ") {
				t.Errorf("%s tells to `make %s`, which is no target", file, match[1])
			}
		}
	}
}
