// Package ledger counts each authentication of a subject exactly once, from a
// history that NCP hands out in pages, in no promised order, and trims.
//
// A Plan reads the pages of a history as far as needed (reader.go); a whole
// read goes into the subject's account (account.go), and all accounts are
// written to disk together (file.go; the format is in snapshot.go). It knows
// neither HTTP nor Prometheus.
package ledger

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"
)

// MaxLateArrival is the longest late-arrival that a ledger can be kept with.
const MaxLateArrival = 30 * 24 * time.Hour

// forgetAfter is how long a subject may be missing from NCP's list before its
// account is dropped.
const forgetAfter = 30 * 24 * time.Hour

// Options are what a Ledger needs.
type Options struct {
	// LateArrival is how much later than its seenTime a row may still appear
	// in the history and be counted; at most MaxLateArrival.
	LateArrival time.Duration
	// SkipInitialHistory starts a subject's counters at 0 and not with the rows
	// that its history holds at the first read.
	SkipInitialHistory bool
	// Now is the clock.
	Now func() time.Time
	// Owner is whose logins are counted. A file that was written for another is
	// refused, except for one of the same base URL and no account's name: that
	// one is taken over.
	Owner Owner
	// Formerly is an earlier name of the owner's account, whose file is taken
	// over too; empty if there is none.
	Formerly string
	// OnSaveError is told when what was counted can no longer be written to
	// disk, with the error, and with nil when it can again. May be nil.
	OnSaveError func(error)
}

// Ledger holds the counts of all subjects, and the changes of certificates.
// It is safe for concurrent use.
//
// What is applied is shown by the next Commit, which first writes it to disk. If
// that fails it is shown all the same, stays in memory, and is written by the
// first Commit that can.
type Ledger struct {
	options Options
	store   store // nil: memory only

	mu       sync.Mutex
	applied  *state
	shown    *state // nobody changes it: a Commit replaces it
	changed  bool   // applied differs from shown
	unsaved  bool   // the last write failed
	progress map[string]progress
	started  instant
	server   *Server

	commit sync.Mutex // one Commit at a time
}

// state is all that a ledger holds.
type state struct {
	since    time.Time // when the ledger was begun
	accounts map[string]*account
	statuses statuses
}

// clone is a copy that does not change with the state. It has the same accounts
// and statuses, which nobody changes: another one takes their place.
func (s *state) clone() *state {
	return &state{since: s.since, accounts: maps.Clone(s.accounts), statuses: s.statuses}
}

// store keeps a ledger.
type store interface {
	// write keeps a state, as a whole or not at all. Without a change since the
	// last write that succeeded, it may just say whether it could.
	write(s *state, changed bool) error
	close() error
}

// New returns an empty ledger in memory: its counts end with the process.
func New(options Options) *Ledger {
	return with(nil, &state{since: options.Now(), accounts: make(map[string]*account)}, options)
}

// Open returns the ledger of a file, which is made if it is not there. It stays
// locked until Close. While another process has it, Open waits for a second at
// most, or until the context ends. See FileError for what can be wrong with a
// file.
func Open(ctx context.Context, path string, options Options) (*Ledger, error) {
	f, s, err := openFile(ctx, path, options)
	if err != nil {
		return nil, fileError(path, err)
	}
	return with(f, s, options), nil
}

// with returns a ledger that goes on from a state.
func with(kept store, s *state, options Options) *Ledger {
	return &Ledger{
		options: options, store: kept, applied: s.clone(), shown: s,
		progress: make(map[string]progress), started: instantOf(options.Now()), server: &Server{},
	}
}

// Close gives the file free. What was applied and not committed is lost, to be
// counted again from the history.
func (l *Ledger) Close() error {
	if l.store == nil {
		return nil
	}
	l.commit.Lock()
	defer l.commit.Unlock()
	if err := l.store.close(); err != nil {
		return fmt.Errorf("closing the ledger: %w", err)
	}
	return nil
}

// Reconfigure gives the ledger other options. Its file stays where it is; for another
// owner it is written anew by the next Commit.
func (l *Ledger) Reconfigure(options Options) {
	l.commit.Lock()
	defer l.commit.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.options = options
	if f, onDisk := l.store.(*file); onDisk && f.owner != options.Owner {
		f.owner, f.stale = options.Owner, true
	}
}

// Plan says how to read a subject's history next.
func (l *Ledger) Plan(subjectID string) Plan {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.applied.accounts[subjectID]; a != nil {
		return l.plan(subjectID, *a, true)
	}
	return l.plan(subjectID, account{}, false)
}

// Apply counts the rows of a whole read of a subject's history that were not
// counted before. They show with the next Commit.
func (l *Ledger) Apply(subjectID string, read *Read) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.options.Now()
	l.progress[subjectID] = l.progress[subjectID].after(read, now)
	before := l.applied.accounts[subjectID]
	if before == nil {
		l.set(subjectID, openAccount(read, l.options))
		return
	}
	next, changed := before.add(read, l.options.LateArrival)
	if read.full && l.wholeDue(subjectID, before, instantOf(now)) {
		next.wholeAt, changed = instantOf(now), true
	}
	if changed {
		l.set(subjectID, next)
	}
}

func (l *Ledger) set(subjectID string, a account) {
	l.applied.accounts[subjectID] = &a
	l.changed = true
}

// Listed tells which subjects NCP lists. One that is not on the list for 30
// days is forgotten.
func (l *Ledger) Listed(subjectIDs []string) {
	listed := make(map[string]bool, len(subjectIDs))
	for _, id := range subjectIDs {
		listed[id] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := instantOf(l.options.Now())
	for id, a := range l.applied.accounts {
		next := *a
		switch {
		case listed[id]:
			next.missingSince = 0
		case a.missingSince == 0:
			next.missingSince = now
		case now-a.missingSince >= instant(forgetAfter):
			delete(l.applied.accounts, id)
			delete(l.progress, id)
			l.changed = true
		}
		if next.missingSince != a.missingSince {
			l.set(id, next)
		}
	}
}

// ApplyStatuses counts the certificates that are not in the state in which
// they were last seen. current is the whole answer: the status of each
// certificate in the window, by a key of the caller's. scope names the window:
// the first answer with another is a baseline again, as certificates come into
// a wider window that did not change. The counts show with the next Commit.
func (l *Ledger) ApplyStatuses(scope string, current map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if next, changed := l.applied.statuses.add(scope, current); changed {
		l.applied.statuses, l.changed = next, true
	}
}

// Commit writes all that was applied so far, by whichever collector, and shows
// it.
func (l *Ledger) Commit() {
	l.commit.Lock()
	defer l.commit.Unlock()
	l.mu.Lock()
	next, changed := l.shown, l.changed || l.unsaved
	if l.changed {
		next, l.changed = l.applied.clone(), false
	}
	l.mu.Unlock()

	var err error
	if l.store != nil {
		err = l.store.write(next, changed)
	}

	l.mu.Lock()
	l.shown = next
	turned := (err != nil) != l.unsaved
	l.unsaved = err != nil
	l.mu.Unlock()
	if turned && l.options.OnSaveError != nil {
		l.options.OnSaveError(err)
	}
}

// Totals returns what was counted for a subject, and false if its history has
// not been read whole yet.
func (l *Ledger) Totals(subjectID string) (Totals, bool) {
	c := l.Counts(subjectID)
	return c.Totals(), c.Counted()
}

// Counts returns what was counted for a subject, as it shows now.
func (l *Ledger) Counts(subjectID string) Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Counts{l.shown.accounts[subjectID]}
}

// Counts is what was counted for a subject at some moment. It takes little memory
// where there are thousands.
type Counts struct{ account *account }

// Counted says whether the history had been read whole.
func (c Counts) Counted() bool { return c.account != nil }

// Totals are the counts; all 0 if nothing was counted yet.
func (c Counts) Totals() Totals {
	if c.account == nil {
		return Totals{}
	}
	return c.account.totals()
}

// Watermark returns the seenTime of the newest row that was counted for a
// subject, also if it does not show yet; zero if there was none.
func (l *Ledger) Watermark(subjectID string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.applied.accounts[subjectID]; a != nil {
		return a.watermark.time()
	}
	return time.Time{}
}

// Subjects are those whose history was read whole and who were on NCP's list
// when it was last told.
func (l *Ledger) Subjects() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []string
	for id, a := range l.shown.accounts {
		if a.missingSince == 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// StatusChanges returns how often a certificate was seen to have come into a
// status, since the first look.
func (l *Ledger) StatusChanges(status string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shown.statuses.Changes[status]
}

// Begun says whether the ledger is a new one on disk.
func (l *Ledger) Begun() bool {
	f, onDisk := l.store.(*file)
	return onDisk && f.begun
}

// Since is when this ledger was begun. It moves when a ledger is lost.
func (l *Ledger) Since() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shown.since
}

// Persistent says whether all that shows is on disk.
func (l *Ledger) Persistent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.store != nil && !l.unsaved
}
