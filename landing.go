package main

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/version"

	"ncp_exporter/collector"
	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/subjects"
	"ncp_exporter/ncpclient"
)

//go:embed landing.html
var landingHTML string

// landingRows is how many subjects or certificates the page shows: those that
// somebody has to look at come first.
const landingRows = 100

// recently is how long a failed login is worth a word.
const recently = time.Hour

// landing is the page for people: what is watched, how it goes, and what is
// wrong. It shows what the last scrapes found and asks NCP nothing.
type landing struct {
	page          *template.Template
	logger        log.Logger
	telemetryPath string
	window        time.Duration
	now           func() time.Time

	exporter     *collector.Exporter
	certificates *collector.CertificateManager // nil if not watched
	subjects     *collector.ExternalAccess     // nil if not watched
}

func newLanding(s *settings, logger log.Logger) (*landing, error) {
	page, err := template.New("landing").Parse(landingHTML)
	if err != nil {
		return nil, fmt.Errorf("making the landing page: %w", err)
	}
	return &landing{page: page, logger: logger, telemetryPath: s.telemetryPath, window: s.window, now: time.Now}, nil
}

func (l *landing) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	var page strings.Builder
	if err := l.page.Execute(&page, l.view()); err != nil {
		_ = level.Error(l.logger).Log("msg", "The landing page could not be made", "err", err)
		http.Error(w, "The landing page could not be made; the log says why.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	// What a subject is called is up to strangers: no script runs here.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, _ = fmt.Fprint(w, page.String()) // the client's loss
}

// landingView is what the page shows.
type landingView struct {
	Version, Metrics string
	Now              moment
	State, Class     string
	Wrong            int // things that are
	Sentences        []string
	Collectors       []collectorView
	Certificates     *certificatesView
	Subjects         *subjectsView
}

// The states' looks.
const (
	good = "good"
	warn = "warn"
	bad  = "bad"
)

type collectorView struct {
	Name, State, Class, Error string
	Refreshed, Succeeded      moment
	Failed                    moment // when Error was
}

type certificatesView struct {
	Window string
	Known  bool
	Counts []struct {
		Status, Class string
		Count         int
	}
	Rows []certificateView
	More int
}

type certificateView struct{ OrderID, CertificateID, Status, Class string }

type subjectsView struct {
	Rows []subjectView
	More int
}

type subjectView struct {
	ID, Name, State, Class, Error       string
	Successes, Failures                 string
	LastFailure, LastSuccess, Refreshed moment
}

func (l *landing) view() *landingView {
	now := l.now()
	v := &landingView{Version: version.Version, Metrics: l.telemetryPath, Now: momentOf(now, now)}
	asked := l.addCollectors(v, now)
	if l.certificates != nil {
		l.addCertificates(v)
	}
	if l.subjects != nil {
		l.addSubjects(v, now)
	}
	switch {
	case v.Wrong > 0:
		v.State, v.Class = "Look here", bad
	case !asked:
		v.State, v.Class = "Nothing was asked yet", warn
		v.Sentences = append(v.Sentences, "NCP is asked when "+l.telemetryPath+" is scraped.")
	default:
		v.State, v.Class = "All is well", good
		v.Sentences = append(v.Sentences, "All was read, no validation timed out, and no login failed in the last hour.")
	}
	return v
}

// addCollectors says whether NCP was asked at all.
func (l *landing) addCollectors(v *landingView, now time.Time) (asked bool) {
	for _, s := range l.exporter.Status() {
		c := collectorView{Name: s.Name, Refreshed: momentOf(s.Refreshed, now), Succeeded: momentOf(s.Succeeded, now)}
		if s.Err != nil {
			c.Error, c.Failed = s.Err.Error(), momentOf(s.Failed, now)
		}
		switch {
		case s.Failing:
			asked = true
			c.State, c.Class = "failing", bad
			v.Wrong++
			v.Sentences = append(v.Sentences, s.Name+" could not read all: "+s.Err.Error())
		case !s.Refreshed.IsZero():
			asked = true
			c.State, c.Class = "all read", good
		case s.UnderWay:
			c.State, c.Class = "reading", warn
		default:
			c.State, c.Class = "not asked yet", warn
		}
		v.Collectors = append(v.Collectors, c)
	}
	return asked
}

func (l *landing) addCertificates(v *landingView) {
	changes, known := l.certificates.Certificates()
	c := &certificatesView{Window: model.Duration(l.window).String(), Known: known}
	v.Certificates = c
	counts := make(map[ncpclient.ValidationStatus]int)
	for _, change := range changes {
		counts[change.Status]++
		if change.Status == ncpclient.StatusNormal {
			continue
		}
		if len(c.Rows) == landingRows {
			c.More++
			continue
		}
		words, class := statusWords(change.Status)
		c.Rows = append(c.Rows, certificateView{change.OrderID, change.CertificateID, words, class})
	}
	for _, status := range []ncpclient.ValidationStatus{ncpclient.StatusValidationTimedOut, ncpclient.StatusOngoing, ncpclient.StatusNormal, ncpclient.StatusUnknown} {
		words, class := statusWords(status)
		if counts[status] == 0 {
			class = ""
		}
		c.Counts = append(c.Counts, struct {
			Status, Class string
			Count         int
		}{words, class, counts[status]})
	}
	if n := counts[ncpclient.StatusValidationTimedOut]; n > 0 {
		v.Wrong += n
		v.Sentences = append(v.Sentences, fmt.Sprintf("The validation of %s timed out: %s.", many(n, "certificate"), certificateNames(c.Rows, n)))
	}
}

// certificateNames names the first certificates of the most serious status.
func certificateNames(rows []certificateView, n int) string {
	const shown = 3
	var names []string
	for _, row := range rows[:min(n, shown, len(rows))] {
		names = append(names, row.CertificateID+" of order "+row.OrderID)
	}
	if n > shown {
		names = append(names, fmt.Sprintf("and %d more", n-shown))
	}
	return strings.Join(names, ", ")
}

func statusWords(s ncpclient.ValidationStatus) (words, class string) {
	switch s {
	case ncpclient.StatusNormal:
		return "validated", good
	case ncpclient.StatusOngoing:
		return "ongoing", warn
	case ncpclient.StatusValidationTimedOut:
		return "timed out", bad
	default:
		return "unknown", warn
	}
}

func (l *landing) addSubjects(v *landingView, now time.Time) {
	all := l.subjects.State().Subjects
	slices.SortFunc(all, mostUrgentFirst)
	v.Subjects = &subjectsView{More: max(0, len(all)-landingRows)}
	failing := 0
	for i, s := range all {
		row := subjectView{ID: s.ID, Name: collector.LabelValue(s.X509Subject), Refreshed: momentOf(s.Refreshed, now), Successes: "–", Failures: "–"}
		newest := s.Totals.Newest[ledger.Failure]
		if s.Counted {
			row.Successes = strconv.FormatUint(s.Totals.Count[ledger.Success], 10)
			row.Failures = strconv.FormatUint(s.Totals.Count[ledger.Failure], 10)
			row.LastFailure, row.LastSuccess = momentOf(newest, now), momentOf(s.Totals.Newest[ledger.Success], now)
		}
		switch {
		case s.Err != nil:
			row.State, row.Class, row.Error = "not read", bad, s.Err.Error()
		case !newest.IsZero() && now.Sub(newest) < recently:
			failing++
			row.State, row.Class = "failed lately", bad
		case !s.Counted:
			row.State, row.Class = "not read yet", warn
		default:
			row.State, row.Class = "well", good
		}
		if i < landingRows {
			v.Subjects.Rows = append(v.Subjects.Rows, row)
		}
	}
	if failing > 0 {
		v.Wrong += failing
		v.Sentences = append(v.Sentences, many(failing, "subject")+" failed to log in within the last hour; those that failed last come first below.")
	}
}

// mostUrgentFirst is the order of the subjects: those that could not be read, then
// those that failed to log in most lately.
func mostUrgentFirst(a, b subjects.Subject) int {
	if (a.Err != nil) != (b.Err != nil) {
		if a.Err != nil {
			return -1
		}
		return 1
	}
	return cmp.Or(b.Totals.Newest[ledger.Failure].Compare(a.Totals.Newest[ledger.Failure]), cmp.Compare(a.ID, b.ID))
}

func many(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// moment is a time in words.
type moment struct {
	Known              bool
	Ago, Text, Machine string
}

func momentOf(t, now time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	return moment{
		Known:   true,
		Ago:     ago(now.Sub(t)),
		Text:    t.UTC().Format("2006-01-02 15:04:05 UTC"),
		Machine: t.UTC().Format(time.RFC3339),
	}
}

func ago(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return "now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	default:
		return fmt.Sprintf("%d days ago", d/day)
	}
}
