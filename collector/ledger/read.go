package ledger

import "time"

// maxAhead is how far a row's time may lie ahead of NCP's own clock.
const maxAhead = 5 * time.Minute

// Uncounted is the number of rows that cannot be counted, by reason.
type Uncounted struct {
	NoTime     int // seenTime is missing or cannot be read
	FutureTime int // seenTime is more than 5 minutes ahead of NCP's clock
}

// Read is the outcome of a whole read of a history: every row that was not
// counted before is in it.
type Read struct {
	Uncounted Uncounted
	// Entries is the number of rows that NCP holds.
	Entries int

	entries map[identity]entry
	fresh   int  // entries that the ledger does not know
	deep    bool // it went to the line, or to the end
}

// New is how many rows were found that were not counted before.
func (r *Read) New() int { return r.fresh }

type entry struct {
	seen   instant
	result Result
	marked bool // by the ledger
}

// add takes the rows of one page of a's history, and returns those that can be counted in
// their order on the page. A row may come more than once, as when rows shift
// from one page to the next.
func (r *Read) add(page Page, a *account) []seenRow {
	if r.entries == nil {
		r.entries = make(map[identity]entry, len(page.Rows))
	}
	rows := make([]seenRow, 0, len(page.Rows))
	for _, row := range page.Rows {
		switch {
		case row.SeenTime.IsZero():
			r.Uncounted.NoTime++
		case row.SeenTime.After(page.Clock.Add(maxAhead)):
			r.Uncounted.FutureTime++
		default:
			s := seenRow{id: row.identity(), seen: instantOf(row.SeenTime)}
			e, repeated := r.entries[s.id]
			if !repeated {
				e = entry{seen: s.seen, result: row.Result, marked: a.marked(s.id, s.seen)}
				r.entries[s.id] = e
			}
			s.known = e.marked || s.seen <= a.line
			if !repeated && !s.known {
				r.fresh++
			}
			rows = append(rows, s)
		}
	}
	return rows
}

// seenRow is a row that can be counted.
type seenRow struct {
	id    identity
	seen  instant
	known bool // to the ledger
}
