package ledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"slices"
	"time"
)

// history is what NCP keeps of a subject, given out as a server might. Things
// happen to it while it is read.
type history struct {
	rows   []Row // oldest first
	order  order
	sorted func([]Row) // in another order than that, given the oldest first; may change with each call
	clamp  int         // the largest page
	keep   int         // rows that are kept; 0: all
	now    time.Time
	calls  int
	onPage func(call int) error
	// mostCalls are those of one read, unless it is 0: a read that does not end is
	// found at once.
	mostCalls int

	ignoresSize  bool                 // pages have as many rows as the clamp, whatever is asked for
	hidesSize    bool                 // it does not say that a page is smaller than asked for
	total        func(all, n int) int // what it tells of all its rows, on a page with n; nil: all
	end          int                  // what is behind the last page
	wholeSeconds bool                 // its clock has no fraction
}

// What a server gives behind the last page.
const (
	endEmpty = iota
	endRefused
	endRepeats
)

func (h *history) Page(_ context.Context, number, size int) (Page, error) {
	h.calls++
	if h.mostCalls > 0 && h.calls > h.mostCalls {
		panic("a read does not end")
	}
	if h.onPage != nil {
		if err := h.onPage(h.calls); err != nil {
			return Page{}, err
		}
	}
	told := size
	size = min(size, h.clamp)
	if h.ignoresSize {
		size = h.clamp
	}
	if !h.hidesSize {
		told = size
	}
	rows := h.ordered()
	if last := max(0, (len(rows)-1)/size); number > last {
		switch h.end {
		case endRefused:
			return Page{}, ErrPastEnd
		case endRepeats:
			number = last
		}
	}
	from, to := min(number*size, len(rows)), min((number+1)*size, len(rows))
	page := Page{Rows: rows[from:to], Size: told, Total: len(rows), Clock: h.now}
	if h.total != nil {
		page.Total = h.total(len(rows), to-from)
	}
	if h.wholeSeconds {
		page.Clock = h.now.Truncate(time.Second)
	}
	return page, nil
}

func (h *history) ordered() []Row {
	rows := slices.Clone(h.rows)
	switch {
	case h.sorted != nil:
		h.sorted(rows)
	case h.order == newestFirst:
		slices.Reverse(rows)
	case h.order == noOrder:
		byHash(rows)
	}
	return rows
}

// byHash is an order that has nothing to do with the times.
func byHash(rows []Row) {
	hash := func(r Row) [32]byte { return sha256.Sum256([]byte(r.SerialNumber)) }
	slices.SortFunc(rows, func(a, b Row) int {
		x, y := hash(a), hash(b)
		return slices.Compare(x[:], y[:])
	})
}

// byIssuer is sorted by certificate, and then newest first.
func byIssuer(rows []Row) {
	slices.Reverse(rows)
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(a.Issuer, b.Issuer) })
}

// shuffledTies is an order in which rows of the same time change places with each call.
func shuffledTies(o order, random *rand.Rand) func([]Row) {
	return func(rows []Row) {
		random.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		slices.SortStableFunc(rows, func(a, b Row) int {
			if o == newestFirst {
				a, b = b, a
			}
			return a.SeenTime.Compare(b.SeenTime)
		})
	}
}

// flips is an order that may be the other way round with each call.
func flips(random *rand.Rand) func([]Row) {
	return func(rows []Row) {
		if random.IntN(2) == 0 {
			slices.Reverse(rows)
		}
	}
}

func (h *history) add(rows ...Row) {
	h.rows = append(h.rows, rows...)
	slices.SortStableFunc(h.rows, func(a, b Row) int { return a.SeenTime.Compare(b.SeenTime) })
	if h.keep > 0 && len(h.rows) > h.keep {
		h.trim(len(h.rows) - h.keep)
	}
}

func (h *history) trim(n int) { h.rows = slices.Clone(h.rows[min(n, len(h.rows)):]) }
