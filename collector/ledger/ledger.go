// Package ledger counts each authentication of a subject exactly once, from a
// history that NCP hands out in pages, in no promised order, and trims.
//
// A Plan reads the pages of a history as far as needed (reader.go); a whole
// read goes into the subject's account (account.go), and the accounts that
// changed are kept on disk together (store.go). It knows neither HTTP nor
// Prometheus.
package ledger

import (
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
	// Site is the base URL that the histories come from. A file that was
	// written for another is refused.
	Site string
	// Kept is told when what was counted can no longer be written to disk, with
	// the error, and with nil when it can again. May be nil.
	Kept func(error)
}

// Ledger holds the counts of all subjects, and the changes of certificates.
// It is safe for concurrent use.
//
// What is applied shows with the next Commit, which first writes it to disk. If
// that fails it shows all the same, is kept in memory, and is written by the
// first Commit that can.
type Ledger struct {
	options Options
	store   store // nil: memory only

	mu       sync.Mutex
	since    time.Time
	accounts map[string]account
	statuses statuses
	staged   change // applied and not yet shown
	writing  change // what Commit is writing, neither staged nor shown
	unkept   change // shown and not on disk
	failed   bool   // the last write failed
	progress map[string]progress

	commit sync.Mutex // one Commit at a time
}

// progress is what is known of a history since the start of the process.
type progress struct {
	total  int       // its length as of the last read
	deepAt time.Time // when it was last read to the line
}

// change is what a Commit writes.
type change struct {
	accounts map[string]*account // nil: the subject is dropped
	statuses *statuses
}

func (c change) empty() bool { return len(c.accounts) == 0 && c.statuses == nil }

// and is a change and then another.
func (c change) and(later change) change {
	sum := change{accounts: maps.Clone(c.accounts), statuses: c.statuses}
	if sum.accounts == nil {
		sum.accounts = make(map[string]*account, len(later.accounts))
	}
	maps.Copy(sum.accounts, later.accounts)
	if later.statuses != nil {
		sum.statuses = later.statuses
	}
	return sum
}

// store keeps a ledger.
type store interface {
	// load returns all that was written.
	load() (contents, error)
	// write adds a change, as a whole or not at all. With an empty one it only
	// says whether it could.
	write(change) error
	close() error
}

// contents is all that a store holds.
type contents struct {
	since    time.Time
	accounts map[string]account
	statuses statuses
}

// New returns an empty ledger in memory: its counts end with the process.
func New(options Options) *Ledger {
	return &Ledger{
		options:  options,
		since:    options.Now(),
		accounts: make(map[string]account),
		progress: make(map[string]progress),
	}
}

// Open returns the ledger of a file, which is made if it is not there. It stays
// locked until Close. See FileError for what can be wrong with a file.
func Open(path string, options Options) (*Ledger, error) {
	s, err := openFile(path, options.Site, options.Now())
	if err != nil {
		return nil, err
	}
	return with(s, options)
}

func with(s store, options Options) (*Ledger, error) {
	l := New(options)
	all, err := s.load()
	if err != nil {
		_ = s.close() // the error that matters is the first
		return nil, err
	}
	l.store, l.since, l.accounts, l.statuses = s, all.since, all.accounts, all.statuses
	return l, nil
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

// Plan says how to read a subject's history next.
func (l *Ledger) Plan(subjectID string) Plan {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, known := l.current(subjectID)
	p, readBefore := l.progress[subjectID]
	if !readBefore {
		p.total = -1
	}
	return Plan{
		account: a,
		known:   known,
		total:   p.total,
		deep:    l.options.Now().Sub(p.deepAt) >= l.options.LateArrival/4,
	}
}

// current is the account with all that was applied.
func (l *Ledger) current(subjectID string) (account, bool) {
	for _, c := range []change{l.staged, l.writing} {
		if a, changed := c.accounts[subjectID]; changed && a != nil {
			return *a, true
		} else if changed {
			return account{}, false
		}
	}
	a, known := l.accounts[subjectID]
	return a, known
}

// Apply counts the rows of a whole read of a subject's history that were not
// counted before. They show with the next Commit.
func (l *Ledger) Apply(subjectID string, read *Read) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.progress[subjectID]
	p.total = read.Entries
	if read.deep {
		p.deepAt = l.options.Now()
	}
	l.progress[subjectID] = p

	before, known := l.current(subjectID)
	if !known {
		opened := openAccount(read, l.options)
		l.stage(subjectID, &opened)
		return
	}
	if next, changed := before.add(read, l.options.LateArrival); changed {
		l.stage(subjectID, &next)
	}
}

func (l *Ledger) stage(subjectID string, a *account) {
	if l.staged.accounts == nil {
		l.staged.accounts = make(map[string]*account)
	}
	l.staged.accounts[subjectID] = a
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
	for id := range l.accounts {
		a, known := l.current(id)
		switch {
		case !known: // it is being dropped
		case listed[id] && a.gone != 0:
			a.gone = 0
			l.stage(id, &a)
		case listed[id]:
		case a.gone == 0:
			a.gone = now
			l.stage(id, &a)
		case now-a.gone >= instant(forgetAfter):
			l.stage(id, nil)
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
	before := l.statuses
	for _, c := range []change{l.writing, l.staged} {
		if c.statuses != nil {
			before = *c.statuses
		}
	}
	if next, changed := before.add(scope, current); changed {
		l.staged.statuses = &next
	}
}

// Commit writes what was applied, in one transaction, and shows it.
func (l *Ledger) Commit() {
	l.commit.Lock()
	defer l.commit.Unlock()
	l.mu.Lock()
	staged := l.staged
	l.staged, l.writing = change{}, staged
	unkept := l.unkept.and(staged)
	l.mu.Unlock()

	var err error
	if l.store != nil {
		err = l.store.write(unkept)
	}

	l.mu.Lock()
	for id, a := range staged.accounts {
		if a == nil {
			delete(l.accounts, id)
			delete(l.progress, id)
			continue
		}
		l.accounts[id] = *a
	}
	if staged.statuses != nil {
		l.statuses = *staged.statuses
	}
	l.writing, l.unkept = change{}, change{}
	if err != nil {
		l.unkept = unkept
	}
	turned := (err != nil) != l.failed
	l.failed = err != nil
	l.mu.Unlock()
	if turned && l.options.Kept != nil {
		l.options.Kept(err)
	}
}

// Totals returns what was counted for a subject, and false if its history has
// not been read whole yet.
func (l *Ledger) Totals(subjectID string) (Totals, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, known := l.accounts[subjectID]
	return a.totals(), known
}

// Watermark returns the seenTime of the newest row that was counted for a
// subject, also if it does not show yet; zero if there was none.
func (l *Ledger) Watermark(subjectID string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, _ := l.current(subjectID)
	return a.watermark.time()
}

// Subjects are those whose history was read whole and who were on NCP's list
// when it was last told.
func (l *Ledger) Subjects() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []string
	for id, a := range l.accounts {
		if a.gone == 0 {
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
	return l.statuses.changes[status]
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
	return l.since
}

// Persistent says whether all that shows is on disk.
func (l *Ledger) Persistent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.store != nil && !l.failed
}
