package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// twins are the pages that there are in English and in Korean.
func twins() map[string]string {
	return map[string]string{"README.md": "README.ko.md", "docs/runbooks.md": "docs/runbooks.ko.md"}
}

// TestTwins holds each Korean page against its English twin: what both say in names,
// numbers, code and links is the same, section by section.
func TestTwins(t *testing.T) {
	for english, ko := range twins() {
		t.Run(ko, func(t *testing.T) {
			for _, difference := range compareTwins(readPage(t, english), readPage(t, ko)) {
				t.Error(difference)
			}
		})
	}
}

// TestTwinsDiffer changes one thing after the other in a Korean page, and wants each to be
// told.
func TestTwinsDiffer(t *testing.T) {
	for what, change := range map[string]struct{ page, old, changed string }{
		"a heading less":           {"docs/runbooks.md", "## NCPExporterAbsent\n", ""},
		"another level":            {"docs/runbooks.md", "## NCPExporterAbsent\n", "### NCPExporterAbsent\n"},
		"another order":            {"docs/runbooks.md", "## NCPExporterAbsent\n", "## NCPExporterDown\n"},
		"an alert in the text":     {"docs/runbooks.md", "NCPExporterDown도", "NCPAccountDown도"},
		"a number":                 {"docs/runbooks.md", "4시간 넘게", "5시간 넘게"},
		"a name":                   {"docs/runbooks.md", "`--scrape.max-age`를 확인", "`--scrape.timeout`을 확인"},
		"a code block":             {"README.md", "make test\n", "make tests\n"},
		"a command's mark":         {"README.md", "<!-- tested: helm -->\n", ""},
		"a row of a table":         {"README.md", "| `/-/ready` | NCP의 응답 여부와 관계없이, 스크레이프에 응답할 수 있게 되면 200 |\n", ""},
		"a generated row":          {"README.md", "| `ncp_exporter_state_persistent` | gauge |  |\n", ""},
		"a name in another row":    {"README.md", "| `ncp_exporter_state_persistent`가 0 |", "| `ncp_exporter_state_file`가 0 |"},
		"a link":                   {"README.md", "](docs/counting.md)", "](docs/scaling.md)"},
		"an anchor that is not":    {"README.md", "](#문제-해결)", "](#문제)"},
		"a page that is not":       {"README.md", "](docs/security.md)", "](docs/secure.md)"},
		"the English page":         {"README.md", "](docs/runbooks.ko.md)", "](docs/runbooks.md)"},
		"a picture":                {"README.md", "(docs/img/landing.png)](docs/img/landing.png)", "(docs/img/dashboard-oncall.png)](docs/img/landing.png)"},
		"an item of a list":        {"README.md", "- External Access만 감시합니다(`--no-collector.certificate-manager`).\n", ""},
		"a paragraph":              {"README.md", "`--ncp.rate-limit`과 `--ncp.max-concurrency`가 이 호출을 제한합니다.\n", ""},
		"the way to the twin":      {"README.md", "[English](README.md) | **한국어**\n", ""},
		"a sentence of its own":    {"docs/runbooks.md", "**조치**: 다시 발생하지 않으면", "조치.\n\n**조치**: 다시 발생하지 않으면"},
		"a cell more":              {"README.md", "| 경로 | 응답 |", "| 경로 | 응답 | |"},
		"an anchor in other pages": {"docs/runbooks.md", "README.ko.md#문제-해결", "README.ko.md#troubleshooting"},
	} {
		t.Run(what, func(t *testing.T) {
			path := twins()[change.page]
			text, err := os.ReadFile(filepath.FromSlash(path))
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(text), change.old, change.changed, 1)
			if changed == string(text) {
				t.Fatalf("%s does not say %q", path, change.old)
			}
			if len(compareTwins(readPage(t, change.page), parsePage(path, changed))) == 0 {
				t.Errorf("nobody noticed %q in place of %q", change.changed, change.old)
			}
		})
	}
}

func readPage(t *testing.T, path string) page {
	t.Helper()
	p := pageAt(path)
	if len(p.sections) == 0 {
		t.Fatalf("there is no %s", path)
	}
	return p
}

// compareTwins tells what one page has and the other does not.
func compareTwins(english, ko page) []string {
	var differences []string
	tell := func(heading, difference string) {
		differences = append(differences, ko.path+", "+heading+": "+difference)
	}
	if len(english.sections) != len(ko.sections) {
		return []string{fmt.Sprintf("%s has the headings %q, and %s has %q", ko.path, headings(ko), english.path, headings(english))}
	}
	for i, s := range english.sections {
		other := ko.sections[i]
		if s.level != other.level || alertName.MatchString(s.heading) && s.heading != other.heading {
			tell(other.heading, "the heading is not that of "+s.heading)
		}
		kinds := make(map[string]bool)
		for what := range s.parts {
			kinds[what] = true
		}
		for what := range other.parts {
			kinds[what] = true
		}
		for what := range kinds {
			want, got := s.parts[what], other.parts[what]
			if what == "link" {
				want = translated(want, english, ko)
			}
			if what != "table row" && what != "code block" && what != "comment" { // words have another order
				want, got = slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))
			}
			if !slices.Equal(want, got) {
				tell(other.heading, fmt.Sprintf("%d times %s, and %d times in %s, which alone has %q, and here alone is %q",
					len(got), what, len(want), english.path, without(want, got), without(got, want)))
			}
		}
	}
	return append(differences, append(lost(english), lost(ko)...)...)
}

func headings(p page) []string {
	var all []string
	for _, s := range p.sections[1:] {
		all = append(all, s.heading)
	}
	return all
}

// without are the values that the others do not have, or not so often.
func without(values, others []string) []string {
	others = slices.Clone(others)
	var left []string
	for _, v := range values {
		if i := slices.Index(others, v); i >= 0 {
			others = slices.Delete(others, i, i+1)
		} else {
			left = append(left, v)
		}
	}
	return left
}

// translated are the targets of links, as the Korean page has them: a page that has a
// twin is its twin, and an anchor in it is that of the same heading.
func translated(links []string, english, ko page) []string {
	var targets []string
	for _, link := range links {
		file, anchor, _ := strings.Cut(link, "#")
		from, to := english, ko
		if path := filepath.ToSlash(filepath.Join(filepath.Dir(english.path), file)); file != "" {
			if twins()[path] == "" {
				// NCP's guides are in both languages.
				targets = append(targets, strings.Replace(link, "ncloud-docs.com/docs/en/", "ncloud-docs.com/docs/", 1))
				continue
			}
			from, to = pageAt(path), pageAt(twins()[path])
			file = strings.TrimSuffix(file, ".md") + ".ko.md"
		}
		if i := slices.IndexFunc(from.sections, func(s section) bool { return s.anchor == anchor }); anchor != "" && i >= 0 && i < len(to.sections) {
			anchor = to.sections[i].anchor
		}
		targets = append(targets, strings.TrimSuffix(file+"#"+anchor, "#"))
	}
	return targets
}
