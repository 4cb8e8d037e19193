package ledger

import (
	"hash/fnv"
	"time"
)

const (
	day = instant(24 * time.Hour)
	// overdueSpread is the time after a start over which the whole reads are
	// spread that were due before it.
	overdueSpread = instant(time.Hour)
	// wholeShare is how many calls have to go by for each of a whole read that is
	// to move the horizon: so these take at most a fifth of all calls.
	wholeShare = 4
	// minOutdated is the number of fingerprints that are no worth such a read.
	minOutdated = 64
)

// Plan is how the next read of a subject's history has to go.
type Plan struct {
	// OnPage is called after each page but the first of a first read, with the rows that came so far
	// and those that will, as far as the server tells (0 if it does not). Rows without
	// an order come at least twice. May be nil.
	OnPage func(rows, total int)
	// Tell says of which results Read.Told has the new rows, but for a first read. May
	// be nil: of none.
	Tell func(Result) bool

	account     account
	known       bool // the history was read whole before
	whole       bool // read all of it
	forLate     bool // read back as far as rows may come late
	back        instant
	last        progress
	lateArrival time.Duration
	server      *Server
}

// progress is what is known of a history since the start of the process.
type progress struct {
	read      bool
	clock     instant   // NCP's, when the newest rows were last looked at
	lateAt    time.Time // when rows that came late were last looked for
	lateClock instant   // NCP's, then
	total     int       // as of the last read; negative if unknown
	entries   int
	rows      int    // that can be counted, as of the last read of all
	recordSum uint64 // of these
	// calls are those since the last whole read, and wholeCalls those of that.
	calls, wholeCalls int
}

func (p progress) after(read *Read, now time.Time) progress {
	p.read, p.clock, p.total, p.entries = true, read.seenAt, read.total, read.Entries
	p.calls += read.calls
	if read.full {
		p.rows, p.recordSum, p.calls, p.wholeCalls = read.distinct, read.recordSum, 0, read.calls
	}
	if read.forLate {
		p.lateAt, p.lateClock = now, read.clock
	}
	return p
}

// plan says how a history is read next: whole the first time, once a day, and
// when fingerprints can be dropped by it; else back to the last read, and in every
// quarter of late-arrival as far as rows may have come late since it was last
// looked for them.
func (l *Ledger) plan(subjectID string, a account, known bool) Plan {
	late, now := l.options.LateArrival, l.options.Now()
	p := Plan{account: a, known: known, lateArrival: late, server: l.server, last: l.progress[subjectID]}
	last := &p.last
	p.whole = !known || l.wholeDue(subjectID, &a, instantOf(now)) ||
		last.wholeCalls > 0 && last.calls >= wholeShare*last.wholeCalls && outdatedMost(&a, last.clock, late)
	p.forLate = !last.read || now.Sub(last.lateAt) >= late/4
	switch {
	case !last.read:
		// It was last read when its newest row was there, and looked for late ones
		// at most a quarter of late-arrival before.
		p.back = a.watermark - instant(maxAhead+late+late/4)
	case p.forLate:
		p.back = last.lateClock - instant(late)
	default:
		p.back = last.clock
	}
	return p
}

// outdatedMost says whether a whole read would drop most fingerprints.
func outdatedMost(a *account, clock instant, late time.Duration) bool {
	horizon := min(a.watermark, clock) - instant(late)
	outdated := len(a.fingerprints) - a.newer(horizon.milliseconds())
	return outdated > minOutdated && outdated > len(a.fingerprints)/2
}

// wholeDue says whether the daily read of a whole history is due. Each subject has
// its own time of day. What became due while the exporter did not run is spread
// over the first hour.
func (l *Ledger) wholeDue(subjectID string, a *account, now instant) bool {
	h := fnv.New64a()
	_, _ = h.Write([]byte(subjectID)) // never fails
	share := instant(h.Sum64() >> 1)
	offset := share % day
	due := (a.wholeAt-offset)/day*day + offset + day
	if due < l.started {
		due = l.started + share%overdueSpread
	}
	return now >= due
}
