// Package landing is the page for people: what is watched, how it goes, and what
// is wrong. It shows what the last scrapes found and asks NCP nothing.
package landing

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"

	"ncp_exporter/collector"
	"ncp_exporter/collector/ledger"
	"ncp_exporter/internal/account"
)

//go:embed page.html
var pageHTML string // of an account

//go:embed accounts.html
var accountsHTML string // of all accounts

//go:embed style.html
var styleHTML string // of both

// New makes the page of an account, whose metrics are at a path. now is the clock.
func New(watched *account.Account, metrics string, logger log.Logger, now func() time.Time) (http.Handler, error) {
	page, err := parse(pageHTML, now)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		write(w, page, newView(watched, metrics, now()), logger)
	}), nil
}

// parse makes a page, to which all share the style and the templates of pageHTML.
func parse(text string, now func() time.Time) (*template.Template, error) {
	functions := template.FuncMap{
		"moment": func(t time.Time) moment { return momentOf(t, now()) },
		"label":  collector.LabelValue,
		"left":   func(t time.Time) string { return left(t, now()) },
	}
	page, err := template.New("landing").Funcs(functions).Parse(text)
	if err == nil {
		_, err = page.New("style").Parse(styleHTML)
	}
	if err != nil {
		return nil, fmt.Errorf("making the landing page: %w", err)
	}
	return page, nil
}

// write answers with a page.
func write(w http.ResponseWriter, page *template.Template, content any, logger log.Logger) {
	var text bytes.Buffer
	if err := page.Execute(&text, content); err != nil {
		_ = level.Error(logger).Log("msg", "The landing page could not be made", "err", err)
		http.Error(w, "The landing page could not be made; the log says why.", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	// Strangers choose the names of subjects: no script runs here.
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, _ = text.WriteTo(w) // the client is gone
}

// view is what the page shows.
type view struct {
	badge
	Name             string // of the account; empty for that of the flags
	Version          string
	Metrics          string // relative, as all links are: a proxy may serve the page below a path
	Now              time.Time
	Wrong            int // things that are
	Sentences        []string
	Collectors       section
	Certificates     *section      // nil if not watched
	Subjects         *section      // nil if not watched
	Expiring         section       // the first to expire first
	Success, Failure ledger.Result // to find their counts

	noted bool // a sentence says what is not wrong, but not well either
}

// section is a part of the page: a table of at most maxRows rows.
type section struct {
	Rows   []row
	More   int    // rows that it has no place for
	Counts []row  // of certificates, by status, as what follows
	Window string // of time
	Known  bool
}

func (s *section) add(item any, b badge) {
	if len(s.Rows) == maxRows {
		s.More++
		return
	}
	s.Rows = append(s.Rows, row{item, b})
}

// row is what it is about, which the page takes apart, and how that is doing.
type row struct {
	Item any
	badge
}

// badge is a state, and its colour.
type badge struct{ State, Class string }

const (
	good = "good"
	warn = "warn"
	info = "info" // nothing is wrong yet, as on the dashboards
	bad  = "bad"
)

// wrong adds n things that are wrong.
func (v *view) wrong(n int, sentence string) {
	v.Wrong += n
	v.Sentences = append(v.Sentences, sentence)
}

// note adds what somebody should know, though nothing is wrong yet.
func (v *view) note(sentence string) {
	v.noted = true
	v.Sentences = append(v.Sentences, sentence)
}

func newView(watched *account.Account, metrics string, now time.Time) *view {
	v := &view{Name: watched.Config.Name, Version: version.Version, Metrics: "." + metrics, Now: now, Success: ledger.Success, Failure: ledger.Failure}
	if err := watched.Err(); err != nil {
		v.wrong(1, "The account cannot be used now: "+err.Error())
	}
	asked := v.addCollectors(watched.Status())
	names := make(map[string]string) // of certificates
	for _, c := range watched.Collectors() {
		if c, ok := c.(naming); ok {
			names = c.Names()
		}
	}
	var expiries []collector.Expiry
	for _, c := range watched.Collectors() {
		if c, ok := c.(changing); ok {
			v.addCertificates(c, names, watched.Config.CertificateManager.Window)
		}
		if c, ok := c.(withSubjects); ok {
			v.addSubjects(c, now)
		}
		if c, ok := c.(expiring); ok {
			expiries = append(expiries, c.Expiring()...)
		}
	}
	v.addExpiring(expiries, now)
	switch {
	case v.Wrong > 0:
		v.badge = badge{"Look here", bad}
	case !asked:
		v.badge = badge{"Nothing was asked yet", warn}
		v.Sentences = []string{"NCP is asked when " + metrics + " is scraped."}
	case v.noted:
		v.badge = badge{"Take note", warn}
	default:
		v.badge = badge{"All is well", good}
		v.Sentences = append(v.Sentences, "All was read, no validation timed out, nothing that was read expires soon, and no login failed in the last hour.")
	}
	return v
}

// addCollectors says whether NCP was asked at all.
func (v *view) addCollectors(all []collector.Status) (asked bool) {
	var unread []string
	for _, s := range all {
		var b badge
		asked = asked || s.Failing || !s.Refreshed.IsZero()
		switch {
		case s.Failing:
			b = badge{"failing", bad}
			v.wrong(1, s.Name+" could not read all: "+s.Err.Error())
		case !s.Refreshed.IsZero():
			b = badge{"all read", good}
		default:
			b = badge{"not asked yet", warn}
			if s.UnderWay {
				b.State = "reading"
			}
			unread = append(unread, s.Name)
		}
		v.Collectors.add(s, b)
	}
	if len(unread) > 0 {
		v.note("Not read yet: " + strings.Join(unread, ", ") + ".")
	}
	return asked
}
