// Package landing is the page for people: what is watched, how it goes, and what
// is wrong. It shows what the last scrapes found and asks NCP nothing.
package landing

import (
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
)

//go:embed page.html
var pageHTML string

// maxRows is how many subjects or certificates the page shows: those that
// somebody has to look at come first.
const maxRows = 100

// Account is what the page needs of an account.
type Account interface {
	Status() []collector.Status
	Collectors() []collector.Collector
}

// Options are the settings of the page.
type Options struct {
	Metrics string        // the path of the metrics
	Window  time.Duration // of the changes of certificates
	Logger  log.Logger
	Now     func() time.Time
}

type handler struct {
	Options
	account Account
	page    *template.Template
}

// New makes the page of an account.
func New(account Account, options Options) (http.Handler, error) {
	page, err := template.New("landing").Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("making the landing page: %w", err)
	}
	return &handler{Options: options, account: account, page: page}, nil
}

func (h *handler) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	var page strings.Builder
	if err := h.page.Execute(&page, h.view()); err != nil {
		_ = level.Error(h.Logger).Log("msg", "The landing page could not be made", "err", err)
		http.Error(w, "The landing page could not be made; the log says why.", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	// Strangers choose the names of subjects: no script runs here.
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, _ = fmt.Fprint(w, page.String()) // the client is gone
}

// view is what the page shows.
type view struct {
	Version, Metrics string
	Now              moment
	State, Class     string
	Wrong            int // things that are
	Sentences        []string
	Collectors       []collectorView
	Certificates     *certificatesView // nil if not watched, as what follows
	Subjects         *subjectsView

	noted bool // a sentence says what is not wrong, but not well either
}

// The classes of states, which are their colours.
const (
	good = "good"
	warn = "warn"
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

func (h *handler) view() *view {
	now := h.Now()
	v := &view{Version: version.Version, Metrics: h.Metrics, Now: momentOf(now, now)}
	asked := v.addCollectors(h.account.Status(), now)
	for _, c := range h.account.Collectors() {
		if c, ok := c.(changing); ok {
			v.addCertificates(c, h.Window)
		}
		if c, ok := c.(withSubjects); ok {
			v.addSubjects(c, now)
		}
		if c, ok := c.(expiring); ok {
			v.addExpiring(c, now)
		}
	}
	switch {
	case v.Wrong > 0:
		v.State, v.Class = "Look here", bad
	case !asked:
		v.State, v.Class = "Nothing was asked yet", warn
		v.Sentences = []string{"NCP is asked when " + h.Metrics + " is scraped."}
	case v.noted:
		v.State, v.Class = "Take note", warn
	default:
		v.State, v.Class = "All is well", good
		v.Sentences = append(v.Sentences, "All was read, no validation timed out, nothing that was read expires within 7 days, and no login failed in the last hour.")
	}
	return v
}

type collectorView struct {
	Name, State, Class, Error string
	Refreshed, Succeeded      moment
	Failed                    moment // when Error was
}

// addCollectors says whether NCP was asked at all.
func (v *view) addCollectors(all []collector.Status, now time.Time) (asked bool) {
	var unread []string
	for _, s := range all {
		c := collectorView{Name: s.Name, Refreshed: momentOf(s.Refreshed, now), Succeeded: momentOf(s.Succeeded, now)}
		if s.Err != nil {
			c.Error, c.Failed = s.Err.Error(), momentOf(s.Failed, now)
		}
		asked = asked || s.Failing || !s.Refreshed.IsZero()
		switch {
		case s.Failing:
			c.State, c.Class = "failing", bad
			v.wrong(1, s.Name+" could not read all: "+s.Err.Error())
		case !s.Refreshed.IsZero():
			c.State, c.Class = "all read", good
		case s.UnderWay:
			c.State, c.Class = "reading", warn
			unread = append(unread, s.Name)
		default:
			c.State, c.Class = "not asked yet", warn
			unread = append(unread, s.Name)
		}
		v.Collectors = append(v.Collectors, c)
	}
	if len(unread) > 0 {
		v.note("Not read yet: " + strings.Join(unread, ", ") + ".")
	}
	return asked
}
