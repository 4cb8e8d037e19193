package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Whatever an installed text names of the project is there: links of Markdown lead to
// files, and no path is one of the repository.
func TestInstalledTextsNameWhatIsThere(t *testing.T) {
	links := regexp.MustCompile(`\]\(([^()#\s:]+)(?:#[^()\s]*)?\)`)
	// A path of the repository, or one of the directories of a package.
	paths := regexp.MustCompile("(?:^|[\\s`'\"(|=])((?:docs|grafana|prometheus|systemd|deploy/prometheus|deploy/systemd|/usr/share/doc/ncp-exporter|/usr/share/ncp_exporter)/[\\w./-]*\\w)")
	for name, test := range map[string]struct {
		root  string
		texts []string
	}{
		"archive": {unpacked(t), []string{"README.md", "README.ko.md", "CHANGELOG.md", "docs", "prometheus", "systemd"}},
		"package": {installed(t), []string{"usr/share/doc/ncp-exporter", "usr/share/ncp_exporter/prometheus", "usr/share/ncp_exporter/grafana/provisioning", "etc/default/ncp_exporter", service}},
	} {
		texts, named := 0, 0
		exists := func(from, to string) bool {
			at := filepath.Join(filepath.Dir(from), to)
			if filepath.IsAbs(to) {
				at = filepath.Join(test.root, to)
			}
			_, err := os.Stat(at) //nolint:gosec // made by the test
			return err == nil
		}
		for _, text := range test.texts {
			err := filepath.WalkDir(filepath.Join(test.root, text), func(file string, d fs.DirEntry, err error) error {
				if ext := filepath.Ext(file); err != nil || d.IsDir() || ext == ".png" || ext == ".json" {
					return err
				}
				content, err := os.ReadFile(file) //nolint:gosec // made by the test
				if err != nil {
					return err
				}
				texts++
				if filepath.Ext(file) == ".md" {
					for _, found := range links.FindAllStringSubmatch(string(content), -1) {
						named++
						if !exists(file, found[1]) {
							t.Errorf("%s: %s links to %s, which is not there", name, strings.TrimPrefix(file, test.root), found[1])
						}
					}
				}
				for _, found := range paths.FindAllStringSubmatch(string(content), -1) {
					path, glob, _ := strings.Cut(found[1], "/*")
					named++
					if !exists(file, path) && !exists(filepath.Join(test.root, "README.md"), path) {
						t.Errorf("%s: %s names %s%s, which is not there", name, strings.TrimPrefix(file, test.root), path, glob)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if texts < 15 || named < 60 {
			t.Errorf("%s: only %d texts, which name %d files", name, texts, named)
		}
	}
}
