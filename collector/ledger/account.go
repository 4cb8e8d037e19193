package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"time"
)

// Result is how an authentication ended.
type Result int

// The results of an authentication. Unknown is a row that does not say.
const (
	Success Result = iota
	Failure
	Unknown
	NumResults
)

// Row is one authentication in a subject's history. SeenTime is zero if it
// could not be read.
type Row struct {
	Issuer       string
	SerialNumber string
	Result       Result
	SeenTime     time.Time
}

// identity tells rows apart: NCP gives them no id of their own. It is a hash,
// so that a row takes 16 bytes however long its names are.
type identity [16]byte

func (r Row) identity() identity {
	b := make([]byte, 0, 256)
	// The lengths keep ("ab", "c") and ("a", "bc") apart. The time is an
	// instant, so a zone that is written in another way is no other row.
	b = binary.BigEndian.AppendUint64(b, uint64(len(r.Issuer)))
	b = append(b, r.Issuer...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(r.SerialNumber)))
	b = append(b, r.SerialNumber...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Result)) //nolint:gosec // any 8 bytes will do
	b = binary.BigEndian.AppendUint64(b, uint64(r.SeenTime.UnixNano()))
	hash := sha256.Sum256(b)
	return identity(hash[:16])
}

// maxAhead is how far a row's time may lie ahead of NCP's own clock.
const maxAhead = 5 * time.Minute

// Uncounted is the number of rows that cannot be counted, by reason.
type Uncounted struct {
	NoTime     int // seenTime is missing or cannot be read
	FutureTime int // seenTime is more than 5 minutes ahead of NCP's clock
}

// Read collects the rows of one read of a history. A row may be added more
// than once, as when rows shift from one page to the next.
type Read struct {
	entries   map[identity]entry
	Uncounted Uncounted
}

type entry struct {
	seen   time.Time
	result Result
}

// Add takes the rows of one page. clock is NCP's clock when it gave them.
func (r *Read) Add(rows []Row, clock time.Time) {
	if r.entries == nil {
		r.entries = make(map[identity]entry, len(rows))
	}
	for _, row := range rows {
		switch {
		case row.SeenTime.IsZero():
			r.Uncounted.NoTime++
		case row.SeenTime.After(clock.Add(maxAhead)):
			r.Uncounted.FutureTime++
		default:
			r.entries[row.identity()] = entry{seen: row.SeenTime, result: row.Result}
		}
	}
}

// Totals is what was counted for one subject.
type Totals struct {
	Count [NumResults]uint64
	// Newest is the latest seenTime by result; zero if there was none.
	Newest [NumResults]time.Time
	// Created is when the counters began: at the first whole read or, if that
	// is earlier, with the oldest row that it counted. It never changes.
	Created time.Time
}

// account is what the ledger keeps for one subject. It is a value: counting
// makes the next one and leaves this one as it is, so that a count is taken
// over as a whole or not at all.
type account struct {
	totals Totals
	// watermark is the newest seenTime of all whole reads; zero before the first row.
	watermark time.Time
	// recent are the rows counted after the line, with their seenTime.
	recent map[identity]time.Time
}

// line is the time up to which rows are taken as counted already, as they are
// too old to be told apart by identity.
func (a account) line(lateArrival time.Duration) time.Time {
	if a.watermark.IsZero() {
		return time.Time{}
	}
	return a.watermark.Add(-lateArrival)
}

// open makes the account of a subject from the first whole read of its history.
func open(read *Read, options Options) account {
	a := account{}.count(read, options.LateArrival)
	a.totals.Created = options.Now()
	if options.SkipInitialHistory {
		a.totals.Count = [NumResults]uint64{}
		return a
	}
	for _, e := range read.entries {
		if e.seen.Before(a.totals.Created) {
			a.totals.Created = e.seen
		}
	}
	return a
}

// count returns the account after a whole read.
func (a account) count(read *Read, lateArrival time.Duration) account {
	line := a.line(lateArrival)
	fresh := make(map[identity]entry)
	for id, e := range read.entries {
		if _, counted := a.recent[id]; !counted && e.seen.After(line) {
			fresh[id] = e
		}
	}
	if len(fresh) == 0 {
		return a
	}
	next := account{totals: a.totals, watermark: a.watermark, recent: maps.Clone(a.recent)}
	if next.recent == nil {
		next.recent = make(map[identity]time.Time, len(fresh))
	}
	for id, e := range fresh {
		next.totals.Count[e.result]++
		next.totals.Newest[e.result] = latest(next.totals.Newest[e.result], e.seen)
		next.watermark = latest(next.watermark, e.seen)
		next.recent[id] = e.seen
	}
	line = next.line(lateArrival)
	maps.DeleteFunc(next.recent, func(_ identity, seen time.Time) bool { return !seen.After(line) })
	return next
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
