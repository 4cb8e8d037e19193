package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// korean translates the cells of generated tables.
type korean struct {
	t     *testing.T
	words map[string]string // English to Korean
	used  map[string]bool
}

// readKorean reads testdata/ko.txt: an English line, a Korean line and an empty line.
func readKorean(t *testing.T) *korean {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "ko.txt"))
	if err != nil {
		t.Fatal(err)
	}
	_, pairs, _ := strings.Cut(string(text), "\n\n") // what the file is
	k := &korean{t: t, words: make(map[string]string), used: make(map[string]bool)}
	for pair := range strings.SplitSeq(strings.TrimSpace(pairs), "\n\n") {
		english, translated, ok := strings.Cut(pair, "\n")
		if !ok || strings.Contains(translated, "\n") || !hangul.MatchString(translated) || k.words[english] != "" {
			t.Errorf("testdata/ko.txt: this is not one English line and one Korean line, or not the first: %q", pair)
		}
		k.words[english] = translated
	}
	return k
}

var hangul = regexp.MustCompile(`\p{Hangul}`)

// untranslated are words that are the same in both languages: the types of metrics.
var untranslated = regexp.MustCompile(`^(gauge|counter|histogram)?$`)

// table translates what a table says in words. Names, in code spans, stay.
func (k *korean) table(table string) string {
	k.t.Helper()
	var b strings.Builder
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| ") {
			b.WriteString(line)
			continue
		}
		for _, cell := range cellsOf(line) {
			b.WriteString("| " + k.cell(cell) + " ")
		}
		b.WriteString("|\n")
	}
	return b.String()
}

func (k *korean) cell(english string) string {
	k.t.Helper()
	words := strings.ReplaceAll(codeSpan.ReplaceAllString(english, ""), "<br>", "")
	if untranslated.MatchString(strings.Trim(words, " ,;")) {
		return english
	}
	k.used[english] = true
	if k.words[english] == "" {
		k.t.Errorf("testdata/ko.txt has no Korean for this cell of README.md: %s", english)
	}
	return k.words[english]
}

// wantAllUsed names the translations of what README.md does not say any more.
func (k *korean) wantAllUsed() {
	k.t.Helper()
	for english := range k.words {
		if !k.used[english] {
			k.t.Errorf("testdata/ko.txt translates what no table says: %s", english)
		}
	}
}
