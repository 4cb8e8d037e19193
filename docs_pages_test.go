package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// TestLinks wants each link of each page to lead to a file, and to a heading of it.
func TestLinks(t *testing.T) {
	pages := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules" || path != "." && strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		pages++
		for _, difference := range lost(pageAt(filepath.ToSlash(path))) {
			t.Error(difference)
		}
		return nil
	})
	if err != nil || pages < 15 {
		t.Errorf("%d pages are found: %v", pages, err)
	}
}

// page is a page of Markdown, by its headings.
type page struct {
	path     string
	sections []section
}

// section is a heading and what is below it, up to the next one.
type section struct {
	level   int
	heading string
	anchor  string
	parts   map[string][]string // what it has besides words, by what it is
}

// pageAt is the page at a path; one without sections if there is none.
func pageAt(path string) page {
	text, err := os.ReadFile(filepath.FromSlash(path))
	if err != nil {
		return page{path: path}
	}
	return parsePage(path, string(text))
}

var (
	codeSpan    = regexp.MustCompile("`[^`]+`")
	headingLine = regexp.MustCompile(`^(#+) (.+)$`)
	commentLine = regexp.MustCompile(`^<!-- .* -->$`)
	listItem    = regexp.MustCompile(`^(?:-|\d+\.) `)
	linkTarget  = regexp.MustCompile(`!?\]\(([^)]+)\)|<(https?://[^>]+)>`)
	picture     = regexp.MustCompile(`!\[[^]]*\]\(([^)]+)\)`)
	alertName   = regexp.MustCompile(`\bNCP[A-Z]\w+`)
	number      = regexp.MustCompile(`\d+(?:\.\d+)*`)
	otherPage   = regexp.MustCompile(`^\[English\]\(\S+\) \| \*\*한국어\*\*$|^\*\*English\*\* \| \[한국어\]\(\S+\)$`)
)

func parsePage(path, text string) page {
	p := page{path: path, sections: []section{{parts: make(map[string][]string)}}}
	var block []string // the code block that is open
	paragraph := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		s := &p.sections[len(p.sections)-1]
		if fence := strings.TrimSpace(line); strings.HasPrefix(fence, "```") || block != nil {
			block = append(block, line)
			if fence == "```" && len(block) > 1 {
				s.add("code block", strings.Join(block, "\n"))
				block = nil
			}
			paragraph = false
			continue
		}
		if match := headingLine.FindStringSubmatch(line); match != nil {
			p.sections = append(p.sections, section{
				level: len(match[1]), heading: match[2], anchor: anchorOf(match[2]), parts: make(map[string][]string),
			})
			s = &p.sections[len(p.sections)-1]
		}
		if otherPage.MatchString(line) {
			s.add("line that leads to the twin", "")
			continue
		}
		s.read(line, paragraph)
		paragraph = line != "" && !strings.HasPrefix(line, "#")
	}
	return p
}

func (s *section) add(what string, values ...string) {
	s.parts[what] = append(s.parts[what], values...)
}

// read reads a line that is not code.
func (s *section) read(line string, goesOn bool) {
	switch {
	case line == "" || strings.HasPrefix(line, "#"):
	case commentLine.MatchString(line):
		s.add("comment", line)
		return
	case strings.HasPrefix(line, "|"):
		// Each row has the same names, so no row can change places with another.
		row := codeSpan.FindAllString(line, -1)
		slices.Sort(row)
		s.add("table row", strings.Repeat("|", len(cellsOf(line)))+strings.Join(row, ""))
	case listItem.MatchString(line):
		s.add("list item", "")
	case !goesOn && !strings.HasPrefix(line, "  "):
		s.add("paragraph", "")
	}
	for _, match := range linkTarget.FindAllStringSubmatch(line, -1) {
		s.add("link", match[1]+match[2])
	}
	for _, match := range picture.FindAllStringSubmatch(line, -1) {
		s.add("picture", match[1])
	}
	s.add("name in code", codeSpan.FindAllString(line, -1)...)
	plain := linkTarget.ReplaceAllString(codeSpan.ReplaceAllString(line, ""), "]")
	s.add("alert", alertName.FindAllString(plain, -1)...)
	s.add("number", number.FindAllString(plain, -1)...)
}

// cellsOf are the cells of a line of a table. A bar in a cell is written \|.
func cellsOf(line string) []string {
	line = strings.TrimSuffix(strings.TrimPrefix(strings.TrimRight(line, "\n"), "|"), "|")
	var cells []string
	for cell := range strings.SplitSeq(strings.ReplaceAll(line, `\|`, "\x00"), "|") {
		cells = append(cells, strings.TrimSpace(strings.ReplaceAll(cell, "\x00", `\|`)))
	}
	return cells
}

// anchorOf is the anchor that GitHub gives a heading.
func anchorOf(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			b.WriteRune(r)
		}
	}
	return b.String()
}

// lost are the links of a page that lead nowhere.
func lost(p page) []string {
	var differences []string
	for _, s := range p.sections {
		for _, link := range append(s.parts["link"], s.parts["picture"]...) {
			if strings.Contains(link, "://") {
				continue
			}
			file, anchor, _ := strings.Cut(link, "#")
			path, to := filepath.Join(filepath.Dir(p.path), filepath.FromSlash(file)), p
			if _, err := os.Stat(path); file != "" && err != nil {
				differences = append(differences, p.path+": there is no "+link)
				continue
			}
			if anchor == "" {
				continue
			}
			if file != "" {
				to = pageAt(path)
			}
			if !slices.ContainsFunc(to.sections, func(s section) bool { return s.anchor == anchor }) {
				differences = append(differences, p.path+": there is no heading "+link)
			}
		}
	}
	return differences
}
