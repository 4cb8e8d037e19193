package ledger

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
	"unique"
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

// String is the result as labels and the log have it.
func (r Result) String() string { return [...]string{"success", "failure", "unknown"}[r] }

// Row is one authentication in a subject's history. SeenTime is zero if it
// could not be read.
type Row struct {
	Issuer       string
	SerialNumber string
	Result       Result
	SeenTime     time.Time
}

// Certificate names the certificate of a row, as far as the ledger keeps it.
type Certificate struct{ Issuer, SerialNumber string }

// certificateOf is nil if the row names none.
func certificateOf(issuer, serialNumber string) *Certificate {
	if issuer == "" && serialNumber == "" {
		return nil
	}
	return &Certificate{unique.Make(issuer).Value(), serialNumber} // thousands of subjects share an issuer
}

// Text makes a stranger's text fit for the file and the log: its first 512 bytes, in
// valid UTF-8 and without control characters.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, s[:min(len(s), 512)])
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
	// FailedBy is the certificate of the newest failure; zero if it is not known.
	FailedBy Certificate
	// Created is when the counters began: at the first whole read or, if that
	// is earlier, with the oldest row that it counted. It never changes.
	Created time.Time
}

// account is what the ledger keeps for one subject. It is a value: counting
// makes the next one and leaves this one as it is, so that a count is taken
// over as a whole or not at all.
type account struct { //nolint:recvcheck // add makes the next value, the others only look
	count  [NumResults]uint64
	newest [NumResults]instant
	// failedBy is the certificate of the newest failure. It is nil in an account of
	// the first layout of the file until a read meets that failure.
	failedBy *Certificate
	created  instant
	// watermark is the newest seenTime of all whole reads.
	watermark instant
	// horizon is the time up to which rows are taken as counted already, as they
	// are too old to be told apart: late-arrival before the watermark, or before
	// NCP's clock if that is earlier. It never moves back, for a longer
	// late-arrival must not bring rows to be counted again whose fingerprints are
	// gone. Only a read of the whole history moves it.
	horizon instant
	// fingerprints are the rows counted that are newer than the horizon, the
	// newest first.
	fingerprints []fingerprint
	// missingSince is when the subject was first missing from NCP's list; 0 while
	// it is on it.
	missingSince instant
	// order is that of all rows at the last read of the whole history, or noOrder
	// if a later read contradicted it.
	order order
	// wholeAt is about when the whole history was last read, by our clock: it is
	// not moved by each such read, but when another is due.
	wholeAt instant
}

// fingerprint is a counted row: when it was seen and, as there may be others of
// that millisecond, the first bytes of its identity. Together they tell apart as
// many rows as 9 bytes of identity would, in less.
type fingerprint struct {
	ago uint32 // milliseconds before the watermark, or that many and more
	id  [6]byte
}

func compareFingerprints(a, b fingerprint) int {
	return cmp.Or(cmp.Compare(a.ago, b.ago), bytes.Compare(a.id[:], b.id[:]))
}

// fingerprintOf is that of a row that is not newer than the watermark, which is in
// milliseconds.
func fingerprintOf(watermark int64, id [6]byte, seen int64) fingerprint {
	return fingerprint{ago: uint32(min(watermark-seen, math.MaxUint32)), id: id} //nolint:gosec // never before seen
}

func (a *account) totals() Totals {
	t := Totals{Count: a.count, Created: a.created.time()}
	if a.failedBy != nil {
		t.FailedBy = *a.failedBy
	}
	for i, newest := range a.newest {
		t.Newest[i] = newest.time()
	}
	return t
}

// marked says whether a row has a fingerprint; id are the first bytes of its
// identity.
func (a *account) marked(id [6]byte, seen instant) bool {
	if seen > a.watermark {
		return false
	}
	m := fingerprintOf(a.watermark.milliseconds(), id, seen.milliseconds())
	_, found := slices.BinarySearchFunc(a.fingerprints, m, compareFingerprints)
	return found
}

// has says whether a row is counted already, or too old to be.
func (a *account) has(row seenRow) bool {
	return row.seen <= a.horizon || a.marked([6]byte(row.id[:6]), row.seen)
}

// newer is the number of fingerprints newer than a time in milliseconds.
func (a *account) newer(than int64) int {
	n, _ := slices.BinarySearchFunc(a.fingerprints, than, func(f fingerprint, than int64) int { return cmp.Compare(than, a.seenOf(f)) })
	return n
}

// seenOf is when the row of a fingerprint was seen, to the millisecond.
func (a *account) seenOf(f fingerprint) int64 { return a.watermark.milliseconds() - int64(f.ago) }

// openAccount makes the account of a subject from the first read of its history.
func openAccount(read *Read, options Options) account {
	now := instantOf(options.Now())
	next, _ := account{}.add(read, options.LateArrival)
	next.created, next.wholeAt = now, now
	if options.SkipInitialHistory {
		next.count = [NumResults]uint64{}
	} else if read.New() > 0 {
		next.created = min(now, read.oldest)
	}
	return next
}

// add returns the account after a complete read, and whether it differs.
func (a account) add(read *Read, lateArrival time.Duration) (account, bool) {
	next := a
	var fresh []freshRow
	for _, row := range read.rows {
		if seen := row.seen; seen <= a.horizon || a.marked(row.id, seen) {
			continue
		}
		next.count[row.result]++
		next.newest[row.result] = max(next.newest[row.result], row.seen)
		next.watermark = max(next.watermark, row.seen)
		fresh = append(fresh, row)
	}
	for result, n := range read.old {
		next.count[result] += n
		next.newest[result] = max(next.newest[result], read.newest[result])
	}
	if at := read.failedAt; at == next.newest[Failure] && (at > a.newest[Failure] || a.failedBy == nil) {
		next.failedBy = read.failedBy
	}
	if read.order == noOrder || read.full && read.order != orderUnclear {
		next.order = read.order
	}
	if read.full && next.watermark != 0 {
		next.horizon = max(a.horizon, min(next.watermark, read.clock)-instant(lateArrival))
	}
	if next.count == a.count && next.failedBy == a.failedBy && next.order == a.order && !a.outdates(next.horizon) {
		return a, false
	}
	next.fingerprints = a.fingerprintsAnd(fresh, next.watermark, next.horizon)
	return next, true
}

// outdates says whether a horizon leaves any fingerprint behind.
func (a *account) outdates(horizon instant) bool {
	n := len(a.fingerprints)
	return n > 0 && a.seenOf(a.fingerprints[n-1]) < int64(horizon)/int64(time.Millisecond)
}

// fingerprintsAnd are those of an account and of fresh rows, without those behind
// the horizon. All ages are told from the new watermark.
func (a *account) fingerprintsAnd(fresh []freshRow, watermark, horizon instant) []fingerprint {
	now, oldest := watermark.milliseconds(), int64(horizon)/int64(time.Millisecond)
	all := make([]fingerprint, 0, len(a.fingerprints)+len(fresh))
	keep := func(id [6]byte, seen int64) {
		if seen >= oldest {
			all = append(all, fingerprintOf(now, id, seen))
		}
	}
	for _, f := range a.fingerprints {
		keep(f.id, a.seenOf(f))
	}
	for _, row := range fresh {
		keep(row.id, row.seen.milliseconds())
	}
	slices.SortFunc(all, compareFingerprints)
	return slices.Clip(all)
}
