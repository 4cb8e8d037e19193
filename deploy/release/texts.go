package main

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// patterns are the files of the repository that a release has beside the program.
var patterns = []string{ //nolint:gochecknoglobals // a constant
	"LICENSE", "README*.md", "CHANGELOG.md", "SECURITY.md", "docs/*.md", "docs/*.json", "docs/img/*.png",
	"deploy/prometheus/*.yml", "grafana/dashboards/*.json", "grafana/provisioning/*/*.yml", "grafana/runbooks.html",
	"deploy/systemd/ncp_exporter.*",
}

// layout says where a file or a directory of the repository is installed; "" is nowhere.
type layout func(source string) string

// inArchive is the layout of an archive.
func inArchive(source string) string {
	if !shipped(source) {
		return ""
	}
	return strings.TrimPrefix(source, "deploy/")
}

// The directories of a package for what is not read by the system itself.
const (
	docDir   = "/usr/share/doc/ncp-exporter"
	shareDir = "/usr/share/ncp_exporter"
)

// inPackage is the layout of a package.
func inPackage(source string) string {
	name := path.Base(source)
	switch {
	case !shipped(source):
		return ""
	case source == "LICENSE":
		return docDir + "/copyright"
	case strings.HasPrefix(source, "deploy/prometheus"), strings.HasPrefix(source, "grafana"):
		return path.Join(shareDir, strings.TrimPrefix(source, "deploy/"))
	case strings.HasPrefix(source, "deploy/systemd"):
		switch path.Ext(name) {
		case ".default":
			return "/etc/default/" + program
		case ".sysusers":
			return "/usr/lib/sysusers.d/" + program + ".conf"
		case ".tmpfiles":
			return "/usr/lib/tmpfiles.d/" + program + ".conf"
		}
		return "/usr/lib/systemd/system/" + name
	}
	return path.Join(docDir, source)
}

// shipped says whether a file is shipped, or all that is shipped below a directory.
func shipped(source string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		for ; pattern != "."; pattern = path.Dir(pattern) {
			if ok, _ := path.Match(pattern, source); ok {
				return pattern != "deploy"
			}
		}
		return false
	})
}

// sources reads the files that are shipped, by their paths in the repository.
func (o *options) sources() (map[string][]byte, error) {
	texts := make(map[string][]byte)
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(o.root, filepath.FromSlash(pattern)))
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("%s: no such files, error %w", pattern, err)
		}
		for _, file := range found {
			text, err := os.ReadFile(file) //nolint:gosec // a file of this repository
			if err != nil {
				return nil, err
			}
			source, err := filepath.Rel(o.root, file)
			if err != nil {
				return nil, err
			}
			texts[filepath.ToSlash(source)] = text
		}
	}
	return texts, nil
}

// installedTexts are the shipped files by the paths where a layout puts them. Their texts name
// other files by the paths there.
func installedTexts(sources map[string][]byte, where layout) map[string][]byte {
	files := make(map[string][]byte, len(sources))
	for source, text := range sources {
		if ext := path.Ext(source); ext != ".png" && ext != ".json" && ext != ".html" {
			text = relocated(source, text, where)
		}
		files[where(source)] = text
	}
	return files
}

var (
	// link is a link of Markdown to a file, with what it is called and where in it.
	link = regexp.MustCompile(`(!?)\[([^\]\n]*)\]\(([^()#\s:]+)(#[^()\s]*)?\)`)
	// mention is a file or a directory of the repository as it is named elsewhere.
	mention = regexp.MustCompile("(^|[\\s`'\"(|=])((?:docs|grafana|deploy/prometheus|deploy/systemd)/[\\w.*/-]*\\w)")
)

// notHere is said of what has no place in a release, in the two languages.
func notHere(source string) string {
	if strings.HasSuffix(source, ".ko.md") {
		return "(소스 코드에 있음)"
	}
	return "(in the source)"
}

// relocated names the files in a text by where they are installed.
func relocated(source string, text []byte, where layout) []byte {
	here := where(source)
	if path.Ext(source) == ".md" {
		text = link.ReplaceAllFunc(text, func(found []byte) []byte {
			parts := link.FindSubmatch(found)
			to := where(path.Join(path.Dir(source), string(parts[3])))
			if to == "" {
				return fmt.Appendf(nil, "%s %s", parts[2], notHere(source))
			}
			return fmt.Appendf(nil, "%s[%s](%s%s)", parts[1], parts[2], relative(here, to), parts[4])
		})
	}
	return mention.ReplaceAllFunc(text, func(found []byte) []byte {
		parts := mention.FindSubmatch(found)
		to := where(strings.TrimSuffix(string(parts[2]), "/*.json"))
		if to == "" || bytes.HasPrefix(parts[1], []byte("(")) { // a link that is right already
			return found
		}
		if bytes.HasSuffix(parts[2], []byte("/*.json")) {
			to += "/*.json"
		}
		return append(parts[1], to...)
	})
}

// relative is the way from one installed file to another: relative if they belong
// together, else absolute.
func relative(from, to string) string {
	if strings.HasPrefix(to, "/") && !strings.HasPrefix(to, docDir+"/") {
		return to
	}
	way, err := filepath.Rel(path.Dir(from), to)
	if err != nil {
		return to
	}
	return filepath.ToSlash(way)
}
