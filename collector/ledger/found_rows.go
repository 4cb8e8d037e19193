package ledger

import (
	"slices"
	"time"
)

// maxAhead is how far a row's time may lie ahead of NCP's own clock.
const maxAhead = 5 * time.Minute

// Uncounted is the number of rows that cannot be counted, by reason.
type Uncounted struct {
	NoTime     int // seenTime is missing or cannot be read
	FutureTime int // seenTime is more than 5 minutes ahead of NCP's clock
}

// Read is the outcome of a complete read of a history: every row that was not
// counted before is in it.
type Read struct {
	Uncounted Uncounted
	// Entries is the number of rows that NCP holds.
	Entries int
	// Told are new rows, as far as the plan wants to be told of them, and Untold is
	// the number of those that there were too many of.
	Told   []Row
	Untold int

	rows []freshRow
	// old are the rows that are too old for a fingerprint, by result: only their
	// number matters, so that a long history takes little memory.
	old    [NumResults]uint64
	newest [NumResults]instant // of all that are new
	oldest instant             // of all that are new; 0 if there are none
	latest instant             // the newest row that came, counted before or not
	pruned int                 // rows that were left when it was last looked for old ones
	clock  instant             // NCP's, when the read began
	seenAt instant             // NCP's, at the last look at the newest rows
	// The newest failure that came, counted before or not.
	failedAt instant
	failedBy *Certificate
	extent
}

// extent is how much of the history a read saw.
type extent struct {
	order     order // of all rows that came
	full      bool  // it went through the whole history
	forLate   bool  // it went back as far as rows may come late
	calls     int
	total     int // that the newest end of the history told; negative if unknown
	distinct  int
	recordSum uint64 // of the identities of all rows that came
}

// New is how many rows were found that were not counted before.
func (r *Read) New() int {
	n := len(r.rows)
	for _, old := range r.old {
		n += int(old) //nolint:gosec // rows in memory
	}
	return n
}

// freshRow is a row that was not counted before.
type freshRow struct {
	seen   instant
	id     [6]byte
	result uint8
}

// maxTold is how many rows are told one by one.
const maxTold = 100

func (r *Read) tell(row *Row) {
	if len(r.Told) == maxTold {
		r.Untold++
		return
	}
	r.Told = append(r.Told, Row{Issuer: Text(row.Issuer), SerialNumber: Text(row.SerialNumber), Result: row.Result, SeenTime: row.SeenTime})
}

// minRows is the number of rows below which none is thrown away.
const minRows = 4096

// addFresh takes a row that was not counted before.
func (r *Read) addFresh(s seenRow, lateArrival time.Duration) {
	r.rows = append(r.rows, freshRow{seen: s.seen, id: [6]byte(s.id[:6]), result: uint8(s.result)}) //nolint:gosec // one of three
	if r.oldest == 0 || s.seen < r.oldest {
		r.oldest = s.seen
	}
	if len(r.rows) < max(minRows, 2*r.pruned) {
		return
	}
	horizon := r.horizon(lateArrival)
	r.rows = slices.DeleteFunc(r.rows, func(f freshRow) bool {
		if f.seen >= horizon-instant(time.Millisecond) { // fingerprints are in milliseconds
			return false
		}
		r.old[f.result]++
		r.newest[f.result] = max(r.newest[f.result], f.seen)
		return true
	})
	r.pruned = len(r.rows)
}

// horizon is the time up to which no row of this history may still arrive, if it
// is read whole. A row from the future must not move it past the next ones, so
// it is told from NCP's clock.
func (r *Read) horizon(lateArrival time.Duration) instant {
	return min(r.latest, r.clock) - instant(lateArrival)
}

// seenRow is a row that can be counted.
type seenRow struct {
	id     identity
	seen   instant
	result Result
	row    *Row
	known  bool // to the ledger
	again  bool // it came before in this pass, on another page
}

// pageRead is a page with its rows that can be counted, in their order, and the
// number of the others.
type pageRead struct {
	Page
	seen      []seenRow
	uncounted Uncounted
}

func emptyPage(total int) pageRead { return pageRead{Page: Page{Total: total}} }

func countable(page Page) pageRead {
	p := pageRead{Page: page, seen: make([]seenRow, 0, len(page.Rows))}
	for i := range page.Rows {
		row := &page.Rows[i]
		switch {
		case row.SeenTime.IsZero():
			p.uncounted.NoTime++
		case row.SeenTime.After(page.Clock.Add(maxAhead)):
			p.uncounted.FutureTime++
		default:
			p.seen = append(p.seen, seenRow{id: row.identity(), seen: instantOf(row.SeenTime), result: row.Result, row: row})
		}
	}
	return p
}
