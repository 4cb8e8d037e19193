package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"ncp_exporter/internal/usage"
)

// TestHelpByThemes wants each flag under one heading of --help, and switches with their
// defaults.
func TestHelpByThemes(t *testing.T) {
	code, help, stderr := attempt(t, nil, "--help")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %q", code, stderr)
	}
	at := 0
	for _, title := range usage.Themes() {
		next := strings.Index(help, "\n"+title+":\n")
		if next < at {
			t.Errorf("%s is not there, or not in its place", title)
		}
		at = next
	}
	words := strings.Join(strings.Fields(help), " ")
	app := newApp(io.Discard, func(int) {})
	flags(app, env{}.lookup)
	for _, f := range app.Model().Flags {
		name := "--" + f.Name
		if f.IsBoolFlag() {
			name = "--[no-]" + f.Name
		}
		n := len(slices.DeleteFunc(strings.Fields(help), func(word string) bool { return !isFlag(word, f.Name) }))
		if f.Hidden != (n == 0) || n > 1 {
			t.Errorf("%s is there %d times, hidden %t", name, n, f.Hidden)
		}
	}
	for _, want := range []string{"Needs no account and no keys. It leaves", "Watch logins of the subjects of External Access. Default: true.", "in FILE.demo. Default: false."} {
		if !strings.Contains(words, want) {
			t.Errorf("--help lacks %q", want)
		}
	}
}

// isFlag says whether a word of --help is the entry of a flag, not a mention of it.
func isFlag(word, flag string) bool {
	return word == "--[no-]"+flag || strings.HasPrefix(word, "--"+flag+"=")
}

// TestCompletions asks as the scripts of the shells do.
func TestCompletions(t *testing.T) {
	for name, test := range map[string]struct {
		words      []string
		want, miss string
	}{
		"flags":             {nil, "--ncp.site", "--completion-bash"},
		"flags by a letter": {[]string{"--demo", "--n"}, "--no-demo", "public"},
		"a switch":          {[]string{"--dem"}, "--no-collector.external-access", "--no-ncp.site"},
		"after a switch":    {[]string{"--demo", ""}, "--check", "true"},
		"values":            {[]string{"--ncp.site", "g"}, "gov", "--ncp.site"},
		"values of bash":    {[]string{"--log.level", "=", "d"}, "debug", "--log.level"},
		"values at =":       {[]string{"--log.format", "="}, "json", "--log.format"},
		"values of zsh":     {[]string{"--log.authentications=f"}, "--log.authentications=failures", "failures"},
		"a file":            {[]string{"--config.file", "acc"}, "", "--ncp.site"},
		"a file of zsh":     {[]string{"--config.file=acc"}, "", "--ncp.site"},
	} {
		code, stdout, stderr := attempt(t, env{"NCP_EXPORTER_NCP_SITE": "moon"}, append([]string{"--completion-bash"}, test.words...)...)
		said := strings.Fields(stdout)
		if code != 0 || stderr != "" || test.want != "" && !slices.Contains(said, test.want) || test.want == "" && len(said) > 0 || slices.Contains(said, test.miss) {
			t.Errorf("%s: exit code %d, %q, %q", name, code, said, stderr)
		}
	}
}
