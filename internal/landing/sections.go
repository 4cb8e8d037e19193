package landing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"ncp_exporter/collector"
	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/subjects"
	"ncp_exporter/ncpclient"
)

// maxRows is how many subjects or certificates the page shows: those that
// somebody has to look at come first.
const maxRows = 100

// The page asks each collector whether it has one of these to tell.
type (
	changing interface {
		Certificates() (changes []ncpclient.CertificateChange, known bool)
	}
	withSubjects interface{ State() subjects.State }
	expiring     interface{ Expiring() []collector.Expiry }
)

func (v *view) addCertificates(from changing, window time.Duration) {
	badges := map[ncpclient.ValidationStatus]badge{
		ncpclient.StatusNormal:             {"validated", good},
		ncpclient.StatusOngoing:            {"ongoing", warn},
		ncpclient.StatusValidationTimedOut: {"timed out", bad},
		ncpclient.StatusUnknown:            {"unknown", warn},
	}
	changes, known := from.Certificates()
	v.Certificates = &section{Window: model.Duration(window).String(), Known: known}
	counts := make(map[ncpclient.ValidationStatus]int)
	var timedOut []string
	for _, change := range changes {
		counts[change.Status]++
		if change.Status != ncpclient.StatusNormal {
			v.Certificates.add(change, badges[change.Status])
		}
		if change.Status == ncpclient.StatusValidationTimedOut {
			timedOut = append(timedOut, change.CertificateID+" of order "+change.OrderID)
		}
	}
	for _, status := range []ncpclient.ValidationStatus{ncpclient.StatusValidationTimedOut, ncpclient.StatusOngoing, ncpclient.StatusNormal, ncpclient.StatusUnknown} {
		b := badges[status]
		if counts[status] == 0 {
			b.Class = ""
		}
		v.Certificates.Counts = append(v.Certificates.Counts, row{counts[status], b})
	}
	if n := len(timedOut); n > 0 {
		v.wrong(n, fmt.Sprintf("The validation of %s timed out: %s.", plural(n, "certificate"), firstOf(timedOut)))
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
		v.wrong(n, fmt.Sprintf("Expired: %s: %s.", plural(n, all[0].Kind), firstOf(expired)))
	}
	if n := len(later); n > 0 {
		v.note(fmt.Sprintf("Expires within 7 days: %s: %s.", plural(n, all[0].Kind), firstOf(later)))
	}
}

// recently is how long a failed login is worth a word.
const recently = time.Hour

func (v *view) addSubjects(from withSubjects, now time.Time) {
	all := from.State().Subjects
	slices.SortFunc(all, mostUrgentFirst)
	v.Subjects = &section{}
	counts := make(map[string]int) // by state
	var firstReads []string
	for _, s := range all {
		if s.FirstRead != nil {
			firstReads = append(firstReads, fmt.Sprintf("%s (%s)", s.ID, s.FirstRead))
		}
		b := subjectBadge(s, now)
		counts[b.State]++
		v.Subjects.add(s, b)
	}
	if n := counts[stateFailed]; n > 0 {
		v.wrong(n, plural(n, "subject")+" failed to log in within the last hour; those that failed last come first below.")
	}
	if n := len(firstReads); n > 0 {
		v.note(fmt.Sprintf("Read for the first time: the history of %s: %s.", plural(n, "subject"), firstOf(firstReads)))
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

func subjectBadge(s subjects.Subject, now time.Time) badge {
	failed := s.Totals().Newest[ledger.Failure]
	switch {
	case s.Err != nil:
		return badge{"not read", bad}
	case !failed.IsZero() && now.Sub(failed) < recently:
		return badge{stateFailed, bad}
	case !s.Counted():
		return badge{stateUnread, warn}
	case s.Enabled != nil && !*s.Enabled:
		return badge{stateDisabled, warn}
	default:
		return badge{"well", good}
	}
}

// mostUrgentFirst is the order of the subjects: those that could not be read, then
// those that failed to log in most lately.
func mostUrgentFirst(a, b subjects.Subject) int {
	switch {
	case a.Err != nil && b.Err == nil:
		return -1
	case a.Err == nil && b.Err != nil:
		return 1
	}
	return cmp.Or(b.Totals().Newest[ledger.Failure].Compare(a.Totals().Newest[ledger.Failure]), cmp.Compare(a.ID, b.ID))
}
