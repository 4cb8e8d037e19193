package ledger

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
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
// so that a row takes few bytes however long its names are.
type identity [12]byte

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
	return identity(hash[:len(identity{})])
}

// instant is a time in nanoseconds since 1970; 0 is none.
type instant int64

func instantOf(t time.Time) instant {
	if t.IsZero() {
		return 0
	}
	return instant(t.UnixNano())
}

func (i instant) time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(i)).UTC()
}

// milliseconds rounds up, so that what is kept by it is kept too long rather
// than too short.
func (i instant) milliseconds() int64 {
	const ms = int64(time.Millisecond)
	return (int64(i) + ms - 1) / ms
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
type account struct { //nolint:recvcheck // add makes the next value, the others only look
	count   [NumResults]uint64
	newest  [NumResults]instant
	created instant
	// watermark is the newest seenTime of all whole reads.
	watermark instant
	// line is the time up to which rows are taken as counted already, as they
	// are too old to be told apart: late-arrival before the watermark. It is
	// kept, and never moves back, for a longer late-arrival must not bring rows
	// to be counted again whose marks are gone.
	line instant
	// marks are the rows counted that are newer than the line, the newest first:
	// those of late-arrival, and of the time since the line moved last.
	marks []mark
	// gone is when the subject was first missing from NCP's list; 0 while it is
	// on it.
	gone instant
}

// mark is a counted row: when it was seen and, for there may be others of that
// millisecond, the first bytes of its identity. Together they tell apart as many
// rows as 9 bytes of identity would, in less.
type mark struct {
	ago uint32 // milliseconds before the watermark, or that many and more
	id  [6]byte
}

func compareMarks(a, b mark) int {
	return cmp.Or(cmp.Compare(a.ago, b.ago), bytes.Compare(a.id[:], b.id[:]))
}

// markOf is the mark of a row that is not newer than the watermark, which is in
// milliseconds.
func markOf(watermark int64, id [6]byte, seen int64) mark {
	return mark{ago: uint32(min(watermark-seen, math.MaxUint32)), id: id} //nolint:gosec // never before seen
}

func (a *account) totals() Totals {
	t := Totals{Count: a.count, Created: a.created.time()}
	for i, newest := range a.newest {
		t.Newest[i] = newest.time()
	}
	return t
}

// knows says whether a row is counted already, or too old to be.
func (a *account) knows(id identity, seen instant) bool {
	return seen <= a.line || a.marked(id, seen)
}

func (a *account) marked(id identity, seen instant) bool {
	if seen > a.watermark {
		return false
	}
	m := markOf(a.watermark.milliseconds(), [6]byte(id[:6]), seen.milliseconds())
	_, found := slices.BinarySearchFunc(a.marks, m, compareMarks)
	return found
}

// newer is the number of marks newer than a time in milliseconds.
func (a *account) newer(than int64) int {
	n, _ := slices.BinarySearchFunc(a.marks, than, func(m mark, than int64) int { return cmp.Compare(than, a.seenOf(m)) })
	return n
}

// seenOf is when a marked row was seen, to the millisecond.
func (a *account) seenOf(m mark) int64 { return a.watermark.milliseconds() - int64(m.ago) }

// openAccount makes the account of a subject from the first whole read of its history.
func openAccount(read *Read, options Options) account {
	next, _ := account{}.add(read, options.LateArrival)
	next.created = instantOf(options.Now())
	if options.SkipInitialHistory {
		next.count = [NumResults]uint64{}
		return next
	}
	for _, e := range read.entries {
		next.created = min(next.created, e.seen)
	}
	return next
}

// add returns the account after a whole read, and whether it differs.
func (a account) add(read *Read, lateArrival time.Duration) (account, bool) {
	var fresh []identity
	next := a
	for id, e := range read.entries {
		if a.knows(id, e.seen) {
			continue
		}
		next.count[e.result]++
		next.newest[e.result] = max(next.newest[e.result], e.seen)
		next.watermark = max(next.watermark, e.seen)
		fresh = append(fresh, id)
	}
	if read.deep && next.watermark != 0 {
		// Only a read that went to the line may move it: one that stopped before
		// has not seen the rows that came late since.
		next.line = max(a.line, next.watermark-instant(lateArrival))
	}
	if len(fresh) == 0 && next.line == a.line {
		return a, false
	}
	// All ages are told from the new watermark, and marks behind the new line
	// are done with.
	now, oldest := next.watermark.milliseconds(), int64(next.line)/int64(time.Millisecond)
	next.marks = make([]mark, 0, len(a.marks)+len(fresh))
	keep := func(id [6]byte, seen int64) {
		if seen >= oldest {
			next.marks = append(next.marks, markOf(now, id, seen))
		}
	}
	for _, m := range a.marks {
		keep(m.id, a.seenOf(m))
	}
	for _, id := range fresh {
		keep([6]byte(id[:6]), read.entries[id].seen.milliseconds())
	}
	slices.SortFunc(next.marks, compareMarks)
	return next, true
}
