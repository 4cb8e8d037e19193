package landing

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"ncp_exporter/collector"
	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/subjects"
	"ncp_exporter/ncpclient"
)

// The page asks each collector whether it has one of these to tell.
type (
	changing interface {
		Certificates() (changes []ncpclient.CertificateChange, known bool)
	}
	withSubjects interface{ State() subjects.State }
	expiring     interface{ Expiring() []collector.Expiry }
)

type certificatesView struct {
	Window string
	Known  bool
	Counts []countView
	Rows   []certificateView
	More   int
}

type countView struct {
	Status, Class string
	Count         int
}

type certificateView struct{ OrderID, CertificateID, Status, Class string }

func (v *view) addCertificates(from changing, window time.Duration) {
	changes, known := from.Certificates()
	c := &certificatesView{Window: model.Duration(window).String(), Known: known}
	v.Certificates = c
	counts := make(map[ncpclient.ValidationStatus]int)
	for _, change := range changes {
		counts[change.Status]++
		if change.Status == ncpclient.StatusNormal {
			continue
		}
		if len(c.Rows) == maxRows {
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
		c.Counts = append(c.Counts, countView{words, class, counts[status]})
	}
	if n := counts[ncpclient.StatusValidationTimedOut]; n > 0 {
		var names []string // the most serious come first
		for _, row := range c.Rows[:min(n, len(c.Rows))] {
			names = append(names, row.CertificateID+" of order "+row.OrderID)
		}
		v.wrong(n, fmt.Sprintf("The validation of %s timed out: %s.", plural(n, "certificate"), firstOf(names, n)))
	}
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

// soon is how long before its end something is worth a word.
const soon = 7 * 24 * time.Hour

// addExpiring names what has expired or does so soon, the first to expire first.
func (v *view) addExpiring(from expiring, now time.Time) {
	all := from.Expiring()
	slices.SortStableFunc(all, func(a, b collector.Expiry) int { return a.NotAfter.Compare(b.NotAfter) })
	var expired, later []string
	for _, e := range all {
		name := strings.TrimSpace(e.ID + " " + e.Name)
		switch left := e.NotAfter.Sub(now); {
		case left <= 0:
			expired = append(expired, name)
		case left < soon:
			later = append(later, name+" (in "+inWords(left)+")")
		}
	}
	if n := len(expired); n > 0 {
		v.wrong(n, fmt.Sprintf("Expired: %s: %s.", plural(n, all[0].Kind), firstOf(expired, n)))
	}
	if n := len(later); n > 0 {
		v.note(fmt.Sprintf("Expires within 7 days: %s: %s.", plural(n, all[0].Kind), firstOf(later, n)))
	}
}

type subjectsView struct {
	Rows []subjectView
	More int
}

type subjectView struct {
	ID, Name, State, Class, Error       string
	Successes, Failures                 string
	LastFailure, LastSuccess, Refreshed moment
}

// recently is how long a failed login is worth a word.
const recently = time.Hour

func (v *view) addSubjects(from withSubjects, now time.Time) {
	all := from.State().Subjects
	slices.SortFunc(all, mostUrgentFirst)
	v.Subjects = &subjectsView{More: max(0, len(all)-maxRows)}
	counts := make(map[string]int) // by state
	for i, s := range all {
		row := subjectRow(s, now)
		counts[row.State]++
		if i < maxRows {
			v.Subjects.Rows = append(v.Subjects.Rows, row)
		}
	}
	if n := counts[stateFailed]; n > 0 {
		v.wrong(n, plural(n, "subject")+" failed to log in within the last hour; those that failed last come first below.")
	}
	for _, state := range []string{stateUnread, stateDisabled} {
		if n := counts[state]; n > 0 {
			v.note(plural(n, "subject") + ": " + state + ".")
		}
	}
}

// The states of a subject.
const (
	stateFailed   = "failed lately"
	stateUnread   = "not read yet"
	stateDisabled = "disabled"
)

func subjectRow(s subjects.Subject, now time.Time) subjectView {
	row := subjectView{ID: s.ID, Name: collector.LabelValue(s.X509Subject), Refreshed: momentOf(s.Refreshed, now), Successes: "–", Failures: "–", State: "well", Class: good}
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
		row.State, row.Class = stateFailed, bad
	case !s.Counted:
		row.State, row.Class = stateUnread, warn
	case s.Enabled != nil && !*s.Enabled:
		row.State, row.Class = stateDisabled, warn
	}
	return row
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
