package subjects

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/refresh"
	"ncp_exporter/ncpclient"
)

// Known is what the last reads told of a subject. It never changes: news makes
// another one, so that a scrape may keep what it shows.
type Known struct {
	ID string
	// InList says whether NCP's list has told what follows; it has not of a
	// subject that was named by flag, or before the first list.
	InList      bool
	X509Subject string    // x509Subject, its distinguished name
	Enabled     *bool     // enabled; nil if the list does not say
	LastSeen    time.Time // lastSeenTime; zero if it cannot be read

	// Err is that of the last read of the history, nil if it was whole. It is
	// about this subject alone and does not name it.
	Err error
	// Refreshed is the end of the last whole read; zero before the first.
	Refreshed   time.Time
	Entries     int // rows of the history
	Uncounted   ledger.Uncounted
	Certificate Certificate
}

// subject is one subject that is watched: what is known of it, and when it is to
// be read. It is guarded by the lock of its Watcher.
type subject struct {
	watcher *Watcher
	known   *Known
	list    uint64 // the number of the last list that it was on
	listed  times
	swept   swept
	// unmoved is when the list last told that there is nothing new to read.
	unmoved time.Time
}

// times are those by which the list tells that a subject has something new.
type times struct{ lastSeen, updated time.Time }

func timesOf(row ncpclient.Subject) times { return times{row.LastSeen, row.UpdateTime} }

func (t times) equal(other times) bool {
	return t.lastSeen.Equal(other.lastSeen) && t.updated.Equal(other.updated)
}

// news changes what is known.
func (s *subject) news(change func(*Known)) {
	next := *s.known
	change(&next)
	s.known = &next
}

// listedAs takes over what the list tells of the subject.
func (s *subject) listedAs(row ncpclient.Subject) {
	s.listed = timesOf(row)
	k := s.known
	if k.InList && k.X509Subject == row.X509Subject && sameFlag(k.Enabled, row.Enabled) && k.LastSeen.Equal(row.LastSeen) {
		return
	}
	s.news(func(k *Known) {
		if k.X509Subject != row.X509Subject { // else the old text is kept, and the new one is not
			k.X509Subject = row.X509Subject
		}
		k.InList, k.Enabled, k.LastSeen = true, row.Enabled, row.LastSeen
	})
}

func sameFlag(a, b *bool) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// upToDate is when it was last known that nothing is missing of the history.
func (s *subject) upToDate() time.Time {
	if s.unmoved.After(s.known.Refreshed) {
		return s.unmoved
	}
	return s.known.Refreshed
}

// Key is the subject's id.
func (s *subject) Key() string { return s.known.ID }

// TimedOut says whether the last read ended because NCP did not answer in time.
func (s *subject) TimedOut() bool {
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	return errors.Is(s.known.Err, ncpclient.ErrTimeout)
}

// Refresh has what is new in the history counted.
func (s *subject) Refresh(ctx context.Context, pace refresh.Pace) error {
	w := s.watcher
	w.mu.Lock()
	id, listed, inList, watched := s.known.ID, s.listed, s.known.InList, len(w.watched)
	w.mu.Unlock()
	history := &history{client: w.client, subjectID: id, pace: pace, now: w.options.Now}
	read, err := w.ledger.Plan(id).Read(ctx, history, w.options.PageSize)
	w.list.notePageSize()
	if err != nil {
		return err
	}
	w.ledger.Apply(id, read)
	certificate, newest := w.certificates.read(history.newest, watched)
	w.mu.Lock()
	defer w.mu.Unlock()
	s.news(func(k *Known) {
		k.Err, k.Entries, k.Uncounted, k.Refreshed = nil, read.Entries, read.Uncounted, w.options.Now()
		switch {
		case newest && !certificate.SeenTime.Before(k.Certificate.SeenTime):
			k.Certificate = certificate
		case !newest && read.Entries == 0: // else the newest row was read before, and not again
			k.Certificate = Certificate{}
		}
	})
	if inList {
		w.sweep.read(s, listed, read.New(), w.ledger.Watermark(id))
	}
	return nil
}

// Done keeps the outcome of a read.
func (s *subject) Done(err error) {
	w := s.watcher
	w.mu.Lock()
	if err != nil {
		s.news(func(k *Known) { k.Err = err })
	}
	updating := w.updating
	w.mu.Unlock()
	if err == nil && !updating {
		w.ledger.Commit() // an Update does so at its end
	}
}

// history gives the pages of a subject's history to the ledger. It keeps the
// certificate of the newest row that went by.
type history struct {
	client    Client
	subjectID string
	pace      refresh.Pace
	now       func() time.Time
	newest    *ncpclient.PresentedCertificate
}

func (h *history) Page(ctx context.Context, number, size int) (ledger.Page, error) {
	if number > 0 {
		if err := h.pace(); err != nil {
			return ledger.Page{}, fmt.Errorf("before page %d: %w", number, err)
		}
	}
	page, err := h.client.CredentialsPage(ctx, h.subjectID, number, size)
	if err != nil {
		return ledger.Page{}, err
	}
	if p := page.Presented; p != nil && (h.newest == nil || p.SeenTime.After(h.newest.SeenTime)) {
		h.newest = p
	}
	clock := page.Date
	if clock.IsZero() {
		clock = h.now()
	}
	return ledger.Page{Rows: ledgerRows(page.Rows), Size: page.Size, Total: page.Total, Clock: clock}, nil
}

func ledgerRows(credentials []ncpclient.Credential) []ledger.Row {
	rows := make([]ledger.Row, len(credentials))
	for i, c := range credentials {
		result := ledger.Unknown
		if c.Failed != nil && *c.Failed {
			result = ledger.Failure
		} else if c.Failed != nil {
			result = ledger.Success
		}
		rows[i] = ledger.Row{Issuer: c.Issuer, SerialNumber: c.SerialNumber, Result: result, SeenTime: c.SeenTime}
	}
	return rows
}
