package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
)

// What a finding can be. A warning is told, and is no reason to fail.
const (
	statusOK   = "ok"
	statusWarn = "warn"
	statusFail = "fail"
)

// report is what --check found.
type report struct {
	OK     bool      `json:"ok"`
	Checks []finding `json:"checks"`
}

// finding is one thing that --check looked at.
type finding struct {
	Account string  `json:"account,omitempty"` // empty for that of the flags
	Name    string  `json:"name"`
	Status  string  `json:"status"`
	What    string  `json:"what"`   // that was asked or looked at
	Detail  string  `json:"detail"` // what came of it
	Remedy  string  `json:"remedy"` // what to do about it; empty if there is nothing to do
	Seconds float64 `json:"seconds"`

	clockOffset *time.Duration // NCP's clock less this machine's, if an answer told it
}

func failed(name, what, detail, remedy string) finding {
	return finding{Name: name, Status: statusFail, What: what, Detail: detail, Remedy: remedy}
}

// clean keeps a text fit for one line of a terminal, whatever a file or a host is
// called.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

func (r report) text(w io.Writer) error {
	var b strings.Builder
	labels := map[string]string{statusOK: "ok  ", statusWarn: "WARN", statusFail: "FAIL"}
	failures := 0
	for _, f := range r.Checks {
		fmt.Fprintf(&b, "%s  %s", labels[f.Status], cmp.Or(f.Account, f.Name))
		parts := []string{f.What, f.Detail}
		if f.Account != "" {
			parts = []string{f.Name, f.What, f.Detail}
		}
		for _, part := range parts {
			if part != "" {
				b.WriteString(": " + part)
			}
		}
		b.WriteString("\n")
		if f.Remedy != "" {
			b.WriteString("      do: " + f.Remedy + "\n")
		}
		if f.Status == statusFail {
			failures++
		}
	}
	if r.OK {
		b.WriteString("All that will be watched works.\n")
	} else {
		fmt.Fprintf(&b, "%d of %d checks failed.\n", failures, len(r.Checks))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r report) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // URLs are to be read
	e.SetIndent("", "  ")
	return e.Encode(r)
}
