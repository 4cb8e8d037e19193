package subjects

import (
	"errors"
	"time"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/ncpclient"
)

// Known is what the last reads told of a subject. It never changes: each change makes
// a new one, as a scrape may still be reading the old one.
type Known struct {
	ID string
	// InList says whether the next three fields are set: they come from NCP's list.
	// It is false before the first list, and for a subject that a flag names.
	InList      bool
	X509Subject string    // x509Subject, its distinguished name
	Enabled     *bool     // enabled; nil if the list does not say
	LastSeen    time.Time // lastSeenTime; zero if it cannot be read

	// Err is the error of the last read of the history; nil if it was complete. It
	// does not name the subject.
	Err error
	// Refreshed is when the last complete read ended; zero before the first.
	Refreshed   time.Time
	Entries     int // rows in the history
	Uncounted   ledger.Uncounted
	Certificate Certificate
}

// subject is one watched subject: what is known of it, and what decides when it is
// read. The lock of its Watcher guards it.
type subject struct {
	watcher *Watcher
	known   *Known
	list    uint64 // number of the last list that it was on
	listed  times  // on that list
	swept   swept
	// unmoved is when a list last told that the subject has nothing new to read.
	unmoved   time.Time
	firstRead *FirstRead // nil before it and after it
}

// times are the times in the list that move when a subject has something new.
type times struct{ lastSeen, updated time.Time }

func timesOf(row ncpclient.Subject) times { return times{row.LastSeen, row.UpdateTime} }

func (t times) equal(other times) bool {
	return t.lastSeen.Equal(other.lastSeen) && t.updated.Equal(other.updated)
}

// news replaces what is known by a changed copy.
func (s *subject) news(change func(*Known)) {
	next := *s.known
	change(&next)
	s.known = &next
}

// listedAs takes over what the list says of the subject.
func (s *subject) listedAs(row ncpclient.Subject) {
	s.listed = timesOf(row)
	k := s.known
	if k.InList && k.X509Subject == row.X509Subject && sameFlag(k.Enabled, row.Enabled) && k.LastSeen.Equal(row.LastSeen) {
		return
	}
	s.news(func(k *Known) {
		if k.X509Subject != row.X509Subject { // keep the old string if it is equal: the new one holds memory too
			k.X509Subject = row.X509Subject
		}
		k.InList, k.Enabled, k.LastSeen = true, row.Enabled, row.LastSeen
	})
}

func sameFlag(a, b *bool) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// upToDate gives the time at which nothing was missing of the history: that of the
// last complete read, or of a later list that showed nothing new.
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
