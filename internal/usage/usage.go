// Package usage is what the command line says of itself: --help by themes, and what a
// shell can complete.
package usage

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"

	"github.com/alecthomas/kingpin/v2"
)

// themes are the headings of --help, and how the names of their flags begin. The first
// that fits takes a flag.
var themes = [...]struct{ title, prefixes string }{ //nolint:gochecknoglobals // a constant in all but syntax
	{"This program", "help version check format health-check demo"},
	{"Serving metrics", "web. scrape."},
	{"Reaching NCP", "ncp."},
	{"What is watched", "collector. shard total-shards"},
	{"What was counted", "state."},
	{"Several accounts", "config."},
	{"The log", "log."},
}

// Themes are the titles of --help, in their order.
func Themes() []string {
	titles := make([]string, len(themes))
	for i, t := range themes {
		titles[i] = t.title
	}
	return titles
}

// theme gives the number of the heading of a flag; -1 if it has none.
func theme(flag string) int {
	for i, t := range themes {
		if slices.ContainsFunc(strings.Fields(t.prefixes), func(prefix string) bool { return strings.HasPrefix(flag, prefix) }) {
			return i
		}
	}
	return -1
}

const help = `usage: {{.App.Name}} [<flags>]

{{.App.Help|Wrap 0}}
Each flag has a variable, which stands behind it. The flag comes before the variable.
{{range .Context.Flags|Themes}}
{{.Title}}:
{{.Flags|FlagsToTwoColumns|FormatTwoColumns}}{{end -}}
`

// group is a heading of --help, and its flags.
type group struct {
	Title string
	Flags []*kingpin.FlagModel
}

// ByThemes has an application group the flags of its --help.
func ByThemes(app *kingpin.Application) {
	app.UsageTemplate(help).UsageFuncs(template.FuncMap{"Themes": byThemes})
}

func byThemes(flags []*kingpin.FlagModel) []group {
	groups := make([]group, len(themes))
	for i, t := range themes {
		groups[i].Title = t.title
	}
	for _, f := range flags {
		if i := theme(f.Name); i >= 0 && !f.Hidden {
			groups[i].Flags = append(groups[i].Flags, withDefault(f))
		}
	}
	return groups
}

// withDefault is a switch whose help tells how it stands if it is not given. Of other
// flags kingpin tells it.
func withDefault(f *kingpin.FlagModel) *kingpin.FlagModel {
	if !f.IsBoolFlag() || f.Name == "help" || f.Name == "version" {
		return f
	}
	told := *f
	told.Help = strings.TrimSpace(f.Help + " Default: " + Switch(f) + ".")
	return &told
}

// Switch is the value of a switch that is not given.
func Switch(f *kingpin.FlagModel) string {
	if len(f.Default) > 0 {
		return f.Default[0]
	}
	return "false"
}

// complete is the flag by which the scripts for shells ask for completions.
const complete = "--completion-bash"

// Complete answers a shell that asks, by --completion-bash and the words so far, how the
// last of them may go on: with flags, also --no- ones, or with the values of a flag that
// takes one of a few. asked says whether that was asked.
func Complete(app *kingpin.Application, args []string, stdout io.Writer) (asked bool) {
	if len(args) == 0 || args[0] != complete {
		return false
	}
	// bash takes --flag=value for three words.
	words := slices.DeleteFunc(slices.Clone(args[1:]), func(word string) bool { return word == "=" })
	last := ""
	if len(words) > 0 {
		last = words[len(words)-1]
	}
	if len(args) > 1 && args[len(args)-1] == "=" {
		words, last = append(words, ""), ""
	}
	flags := app.Model().Flags
	values := func(word string) []string {
		for _, f := range flags {
			if v, ok := f.Value.(interface{ Values() []string }); ok && word == "--"+f.Name {
				return v.Values()
			}
		}
		return nil
	}
	if name, _, given := strings.Cut(last, "="); given {
		for _, value := range values(name) {
			_, _ = fmt.Fprintf(stdout, "%s=%s\n", name, value) // the shell is gone
		}
		return true
	}
	if n := len(words); n > 1 && takesValue(flags, words[n-2]) {
		for _, value := range values(words[n-2]) {
			_, _ = fmt.Fprintln(stdout, value) // the shell is gone
		}
		return true
	}
	for _, f := range flags {
		if f.Hidden {
			continue
		}
		_, _ = fmt.Fprintln(stdout, "--"+f.Name) // the shell is gone
		if f.IsBoolFlag() && f.Name != "help" && f.Name != "version" {
			_, _ = fmt.Fprintln(stdout, "--no-"+f.Name) // the shell is gone
		}
	}
	return true
}

func takesValue(flags []*kingpin.FlagModel, word string) bool {
	return slices.ContainsFunc(flags, func(f *kingpin.FlagModel) bool { return !f.IsBoolFlag() && word == "--"+f.Name })
}
