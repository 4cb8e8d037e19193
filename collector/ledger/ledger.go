// Package ledger counts each authentication of a subject exactly once, from a
// history that NCP hands out in pages, in no promised order, and trims.
//
// Rows go in as whole reads of a history; exact counts come out. It knows
// neither HTTP nor Prometheus.
package ledger

import (
	"sync"
	"time"
)

// Options are what a Ledger needs; all have to be set.
type Options struct {
	// LateArrival is how much later than its seenTime a row may still appear
	// in the history and be counted.
	LateArrival time.Duration
	// SkipInitialHistory starts a subject's counters at 0 and not with the rows
	// that its history holds at the first read.
	SkipInitialHistory bool
	// Now is the clock.
	Now func() time.Time
}

// Ledger holds the counts of all subjects, and the changes of certificates.
// It is safe for concurrent use.
type Ledger struct {
	options Options
	since   time.Time

	mu       sync.Mutex
	accounts map[string]account
	statuses statuses
}

// New returns an empty ledger in memory: its counts end with the process.
func New(options Options) *Ledger {
	return &Ledger{options: options, since: options.Now(), accounts: make(map[string]account)}
}

// Apply counts the rows of a whole read of a subject's history that were not
// counted before. A read of which any part is missing must not be applied.
func (l *Ledger) Apply(subjectID string, read *Read) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, known := l.accounts[subjectID]
	if known {
		l.accounts[subjectID] = before.count(read, l.options.LateArrival)
		return
	}
	l.accounts[subjectID] = open(read, l.options)
}

// Totals returns what was counted for a subject, and false if its history has
// not been read whole yet.
func (l *Ledger) Totals(subjectID string) (Totals, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, known := l.accounts[subjectID]
	return a.totals, known
}

// ApplyStatuses counts the certificates that are not in the state in which
// they were last seen. current is the whole answer: the status of each
// certificate in the window, by a key of the caller's.
func (l *Ledger) ApplyStatuses(current map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statuses = l.statuses.count(current)
}

// StatusChanges returns how often a certificate was seen to have come into a
// status, since the first look.
func (l *Ledger) StatusChanges(status string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.statuses.changes[status]
}

// Since is when this ledger was begun. It moves when a ledger is lost.
func (l *Ledger) Since() time.Time { return l.since }

// Persistent says whether the counts outlive the process.
func (l *Ledger) Persistent() bool { return false }
