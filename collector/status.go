package collector

import (
	"slices"
	"strings"
	"time"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/ncpclient"
)

// Status is how a collector is doing.
type Status struct {
	Name string
	// Refreshed is when the last update ended, Succeeded when the last ended
	// that read all; zero if there was none yet.
	Refreshed, Succeeded time.Time
	// Failing says whether the last update did not read all, Err why the last of
	// those did not, and Failed when that was.
	Failing bool
	Err     error
	Failed  time.Time
	// UnderWay says whether an update is at work.
	UnderWay bool
}

// Status is how each collector is doing. It asks NCP nothing.
func (e *Exporter) Status() []Status {
	all := make([]Status, len(e.runners))
	for i, r := range e.runners {
		r.mu.Lock()
		all[i] = Status{Name: r.collector.Name(), Succeeded: r.lastSuccess, UnderWay: r.current != nil, Err: r.lastErr, Failed: r.lastFailed}
		if r.last != nil {
			all[i].Refreshed, all[i].Failing = r.last.ended, r.last.err != nil
		}
		r.mu.Unlock()
	}
	return all
}

// SubjectStatus is what is known of a subject.
type SubjectStatus struct {
	ID          string
	X509Subject string // empty if the list was not read yet
	// Refreshed is the end of the last whole read; zero before the first.
	Refreshed time.Time
	Err       error // of the last read; nil if it was whole
	// Counted says whether there are Totals yet.
	Counted bool
	Totals  ledger.Totals
}

// Subjects are the subjects watched: first those that could not be read, then
// those that failed to log in most lately. It asks NCP nothing.
func (c *ExternalAccess) Subjects() []SubjectStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]SubjectStatus, 0, len(c.watched))
	for id, s := range c.watched {
		status := SubjectStatus{ID: id, Refreshed: s.refreshed, Err: s.err}
		if len(s.infoLabels) > 0 {
			status.X509Subject = s.infoLabels[2].GetValue()
		}
		status.Totals, status.Counted = c.ledger.Totals(id)
		all = append(all, status)
	}
	slices.SortFunc(all, func(a, b SubjectStatus) int {
		if (a.Err != nil) != (b.Err != nil) {
			if a.Err != nil {
				return -1
			}
			return 1
		}
		if order := b.Totals.Newest[ledger.Failure].Compare(a.Totals.Newest[ledger.Failure]); order != 0 {
			return order
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// Certificates are the certificates whose status changed inside the look-back
// window, and false if that could not be read. It asks NCP nothing.
func (c *CertificateManager) Certificates() (changes []ncpclient.CertificateChange, known bool) {
	certificates := c.latest()
	if certificates == nil {
		return nil, false
	}
	for _, cert := range *certificates {
		changes = append(changes, ncpclient.CertificateChange{OrderID: cert.orderID, CertificateID: cert.certificateID, Status: cert.status})
	}
	slices.SortStableFunc(changes, func(a, b ncpclient.CertificateChange) int { return severity(b.Status) - severity(a.Status) })
	return changes, true
}
