package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestContributingNamesEachFile holds "Where things are" against the tree: each file of
// product code is named there, and each name is that of a file.
func TestContributingNamesEachFile(t *testing.T) {
	text, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Where things are\n")
	section, _, _ = strings.Cut(section, "\n## ")
	named := make(map[string]bool)
	for _, name := range regexp.MustCompile(`[a-z0-9_]+\.go\b`).FindAllString(section, -1) {
		named[name] = true
	}
	files := make(map[string]bool)
	for _, dir := range []string{"main.go", "flags.go", "variables.go", "server.go", "collector", "internal", "ncpclient", "grafana"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			name := d.Name()
			if err != nil || d.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
				return err
			}
			files[name] = true
			product := !strings.Contains(path, "ncptest") && !strings.HasPrefix(path, "grafana") && name != "doc.go"
			if product && !named[name] {
				t.Errorf("%s is not named", path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range named {
		if !files[name] && !strings.HasSuffix(name, "_test.go") {
			t.Errorf("%s is named, and there is no such file", name)
		}
	}
}

// TestDocsNameRealTests wants each test that the docs name to be there.
func TestDocsNameRealTests(t *testing.T) {
	tests := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+)`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // of this repository
		for _, match := range declared.FindAllSubmatch(text, -1) {
			tests[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	docs, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(docs, "CONTRIBUTING.md", "README.md") {
		text, err := os.ReadFile(path) //nolint:gosec // of this repository
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1) {
			if !tests[match[1]] {
				t.Errorf("%s names %s, which is no test", path, match[1])
			}
		}
	}
}

// TestReadmeNamesGo wants README.md to name the Go that go.mod needs.
func TestReadmeNamesGo(t *testing.T) {
	module, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(module))[1]
	if !strings.Contains(string(readme), "[Go](https://go.dev/dl/) "+version+" or newer") {
		t.Errorf("README.md does not name Go %s, which go.mod needs", version)
	}
}
