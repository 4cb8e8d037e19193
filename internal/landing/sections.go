package landing

import (
	"cmp"
	"fmt"
	"slices"
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
	naming       interface{ Names() map[string]string }
)

// change is a change of a certificate, and what people call it.
type change struct {
	ncpclient.CertificateChange
	Name string // empty if it is not known
}

func (v *view) addCertificates(from changing, names map[string]string, window time.Duration) {
	badges := map[ncpclient.ValidationStatus]badge{
		ncpclient.StatusNormal:             {"validated", good},
		ncpclient.StatusOngoing:            {"ongoing", info},
		ncpclient.StatusValidationTimedOut: {"timed out", bad},
		ncpclient.StatusUnknown:            {"unknown", warn},
	}
	changes, known := from.Certificates()
	v.Certificates = &section{Window: model.Duration(window).String(), Known: known}
	counts := make(map[ncpclient.ValidationStatus]int)
	var timedOut []string
	for _, c := range changes {
		counts[c.Status]++
		name := names[c.CertificateID]
		if c.Status != ncpclient.StatusNormal {
			v.Certificates.add(change{c, name}, badges[c.Status])
		}
		if c.Status == ncpclient.StatusValidationTimedOut {
			timedOut = append(timedOut, called(name, c.CertificateID)+" of order "+c.OrderID)
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

// soon is how long before its end something is worth a word. A list of revoked
// certificates is replaced all the time, and only late if nobody did.
func soon(kind string) time.Duration {
	const day = 24 * time.Hour
	if kind == "CRL" {
		return day
	}
	return 7 * day
}

// maxExpiring is how many rows there are of what expires next.
const maxExpiring = 10

// addExpiring shows what expires next, and names what has expired or does so soon.
func (v *view) addExpiring(all []collector.Expiry, now time.Time) {
	slices.SortStableFunc(all, func(a, b collector.Expiry) int { return a.NotAfter.Compare(b.NotAfter) })
	var kinds []string
	expired, later := make(map[string][]string), make(map[string][]string)
	for i, e := range all {
		b, text := badge{left(e.NotAfter, now), good}, called(e.Name, e.ID)
		switch d := e.NotAfter.Sub(now); {
		case d <= 0:
			b.Class, expired[e.Kind] = bad, append(expired[e.Kind], text+" "+ago(-d))
		case d < soon(e.Kind):
			b.Class, later[e.Kind] = warn, append(later[e.Kind], text+" in "+inWords(d))
		}
		if i < maxExpiring {
			v.Expiring.add(e, b)
		}
		if !slices.Contains(kinds, e.Kind) {
			kinds = append(kinds, e.Kind)
		}
	}
	for _, kind := range kinds {
		if n := len(expired[kind]); n > 0 {
			v.wrong(n, fmt.Sprintf("Expired: %s: %s.", plural(n, kind), firstOf(expired[kind])))
		}
		if n := len(later[kind]); n > 0 {
			v.note(fmt.Sprintf("Expires soon: %s: %s.", plural(n, kind), firstOf(later[kind])))
		}
	}
}

// recently is how long a failed login is worth a word.
const recently = time.Hour

func (v *view) addSubjects(from withSubjects, now time.Time) {
	all := from.State().Subjects
	slices.SortFunc(all, mostUrgentFirst)
	v.Subjects = &section{}
	var failed int
	var reading, unread, disabled []string
	for _, s := range all {
		b, name := subjectBadge(s, now), called(collector.LabelValue(s.X509Subject), s.ID)
		switch {
		case b.State == stateFailed:
			failed++
		case s.FirstRead != nil:
			reading = append(reading, fmt.Sprintf("%s: %s", name, s.FirstRead))
		case b.State == stateUnread:
			unread = append(unread, name)
		}
		if s.Enabled != nil && !*s.Enabled {
			disabled = append(disabled, name)
		}
		v.Subjects.add(s, b)
	}
	if failed > 0 {
		v.wrong(failed, plural(failed, "subject")+" failed to log in within the last hour; those that failed last come first below.")
	}
	for _, of := range []struct {
		state string
		names []string
	}{{"Being read for the first time", reading}, {"Not read yet", unread}, {"Disabled", disabled}} {
		if n := len(of.names); n > 0 {
			v.note(fmt.Sprintf("%s: %s: %s.", of.state, plural(n, "subject"), firstOf(of.names)))
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
