package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Pages gives the pages of one subject's history.
type Pages interface {
	// Page returns a page, counted from 0, of size rows as they are at this
	// moment.
	Page(ctx context.Context, number, size int) (Page, error)
}

// Page is one page of a history.
type Page struct {
	Rows []Row
	// Size is the number of rows of a whole page as the server makes them.
	Size int
	// Total is the number of rows of the whole history; negative if unknown.
	Total int
	// Clock is NCP's clock when it gave the page.
	Clock time.Time
}

// Why a read is not whole.
var (
	// ErrMoved is a history that moved while it was read, or whose total is
	// wrong: rows may have been missed.
	ErrMoved = errors.New("the history moved while it was read, or its total is wrong")
	// ErrEndless is a history that goes on well past its own total.
	ErrEndless = errors.New("the history does not end")
)

// errNoOrder ends a try that took a history for one in order.
var errNoOrder = errors.New("the rows have no order after all")

// Plan is how far the next read of a subject's history has to go.
type Plan struct {
	account account
	known   bool // the history was read whole before
	total   int  // as of the last read; negative if unknown
	deep    bool // read on to the line
}

// maxTries is how often a history is read until it holds still.
const maxTries = 3

// Read reads a history as far as the plan needs: to the end the first time, or
// if its rows have no order; else until all that follows is known. It asks for
// pages of size rows, or of what the first page says. Its error is that of a
// page, ErrMoved or ErrEndless.
func (p Plan) Read(ctx context.Context, pages Pages, size int) (*Read, error) {
	var before *reader
	var unordered sequence
	for try := 1; ; try++ {
		r := &reader{plan: p, pages: pages, read: &Read{}, sequence: unordered}
		err := r.once(ctx, size)
		if errors.Is(err, errNoOrder) {
			unordered.found = noOrder
			continue
		}
		if err == nil && r.suspect && !r.agrees(before) {
			err = fmt.Errorf("rows are there twice: %w", ErrMoved)
			before = r
		}
		if err == nil || try >= maxTries || !errors.Is(err, ErrMoved) {
			return r.read, err
		}
	}
}

// reader is one try at reading a history.
type reader struct {
	plan  Plan
	pages Pages
	read  *Read

	size, total int // of the first page
	raw         int // rows that came, repeated ones too
	sequence    sequence
	// suspect is set if rows came twice in a history that has no order and did
	// not grow, which may hide that others did not come at all.
	suspect bool
}

// agrees says whether another try saw the same rows: then those that came
// twice are in the history twice.
func (r *reader) agrees(other *reader) bool {
	if other == nil || len(r.read.entries) != len(other.read.entries) || r.raw != other.raw {
		return false
	}
	for id := range r.read.entries {
		if _, ok := other.read.entries[id]; !ok {
			return false
		}
	}
	return true
}

func (r *reader) once(ctx context.Context, size int) error {
	first, err := r.pages.Page(ctx, 0, size)
	if err != nil {
		return err
	}
	r.size, r.total = max(1, first.Size), first.Total
	rows := r.take(first)
	r.sequence.then(rows)
	return r.forward(ctx, first, rows)
}

// take adds a page to what was read.
func (r *reader) take(page Page) []seenRow {
	rows := r.read.add(page, &r.plan.account)
	r.raw += len(page.Rows)
	r.read.Entries = page.Total
	if page.Total < 0 {
		r.read.Entries = r.raw
	}
	return rows
}

// forward reads on from the first page to later ones. That misses no row of a
// history that only grows, as rows then move to later pages, nor one whose
// rows come newest first, as it is the oldest that are dropped.
func (r *reader) forward(ctx context.Context, page Page, rows []seenRow) error {
	least := page.Total // the least total that was told
	for number := 0; ; number++ {
		ends := r.ends(page)
		if r.sequence.found == oldestFirst && r.total >= 0 && (number > 0 || !ends) {
			return r.backward(ctx)
		}
		if ends {
			if r.raw < least {
				return fmt.Errorf("it ended after %d of %d rows: %w", r.raw, least, ErrMoved)
			}
			r.read.deep = true
			distinct := len(r.read.entries) + r.read.Uncounted.NoTime + r.read.Uncounted.FutureTime
			r.suspect = number > 0 && r.sequence.found != newestFirst && distinct < r.raw && page.Total == r.total
			return nil
		}
		if r.sequence.found == newestFirst && r.mayStop(rows, page.Total, r.sequence.last) {
			return nil
		}
		next, err := r.pages.Page(ctx, number+1, r.size)
		switch {
		case err != nil:
			return err
		case repeats(page, next):
			return fmt.Errorf("page %d has the rows of the page before: %w", number+1, ErrMoved)
		case number+1 > pageLimit(r.total, r.size):
			return fmt.Errorf("page %d of a history of %d rows: %w", number+1, r.total, ErrEndless)
		case next.Total < page.Total && r.sequence.found != newestFirst:
			return fmt.Errorf("its total fell from %d to %d: %w", page.Total, next.Total, ErrMoved)
		}
		page = next
		least = min(least, page.Total)
		rows = r.take(page)
		r.sequence.then(rows)
	}
}

// backward reads a history that comes oldest first from its last page back to
// its first. That misses no row when old ones are dropped, as rows then move to
// earlier pages, the first among them, which is why it is read again. When the
// history grew between two pages, rows may have moved from the earlier to the
// later one, which is then read again too.
func (r *reader) backward(ctx context.Context) error {
	var later sequence
	total, last := r.total, (r.total-1)/r.size
	first := r.read.Uncounted
	for number := last; number >= 0; number-- {
		page, err := r.pages.Page(ctx, number, r.size)
		if err != nil {
			return err
		}
		if len(page.Rows) == 0 || page.Total-total >= r.size {
			return fmt.Errorf("page %d of %d rows has moved: %w", number, page.Total, ErrMoved)
		}
		if number == last && r.thorough() && len(page.Rows) >= r.size && page.Total == total {
			// A full page may not be the last, if the total is wrong.
			if err := r.behind(ctx, last+1); err != nil {
				return err
			}
		}
		if number == 0 { // they are in it again
			r.read.Uncounted.NoTime -= first.NoTime
			r.read.Uncounted.FutureTime -= first.FutureTime
		}
		rows := r.take(page)
		later.before(rows)
		if page.Total > total && number < last {
			again, err := r.pages.Page(ctx, number+1, r.size)
			if err != nil {
				return err
			}
			if again.Total-page.Total >= r.size {
				return fmt.Errorf("page %d of %d rows has moved: %w", number+1, again.Total, ErrMoved)
			}
			r.take(again)
		}
		total = page.Total
		if later.found.and(oldestFirst) == noOrder {
			return errNoOrder
		}
		if r.mayStop(rows, page.Total, later.first) {
			return nil
		}
	}
	r.read.deep = true
	return nil
}

// behind looks whether there are rows behind the page that should be the last.
func (r *reader) behind(ctx context.Context, number int) error {
	page, err := r.pages.Page(ctx, number, r.size)
	if err == nil && len(page.Rows) > 0 {
		err = fmt.Errorf("there are rows behind the last of %d: %w", r.total, ErrMoved)
	}
	return err
}

// mayStop says whether all rows behind these, of which the oldest is oldest,
// are known, given that the history is in order.
func (r *reader) mayStop(rows []seenRow, total int, oldest instant) bool {
	a := &r.plan.account
	if !r.plan.known || len(rows) == 0 {
		return false
	}
	for _, row := range rows {
		if !row.known {
			return false
		}
	}
	// The rows of the ledger that belong between the newest and these must all
	// have come: else the order is not what it seemed.
	came := 0
	limit := oldest.milliseconds()
	for _, e := range r.read.entries {
		if e.marked && e.seen.milliseconds() > limit {
			came++
		}
	}
	if came < a.newer(limit) {
		return false
	}
	if oldest <= a.line {
		r.read.deep = true
		return true
	}
	grew := total - r.plan.total
	return !r.plan.deep && r.plan.total >= 0 && total >= 0 && grew <= r.read.fresh
}

// thorough says whether this read is one that looks into every corner.
func (r *reader) thorough() bool { return !r.plan.known || r.plan.deep }

// ends says whether a page is the last.
func (r *reader) ends(page Page) bool {
	switch {
	case len(page.Rows) == 0:
		return true
	case page.Total < 0:
		return len(page.Rows) < r.size
	case len(page.Rows) < r.size:
		return r.raw >= page.Total
	default:
		// A full page at the total's end may not be the last, if the total is
		// wrong; a thorough read looks behind it.
		return r.raw == page.Total && !r.thorough()
	}
}

// repeats says whether a server gave the same page twice. Rows that cannot be
// told apart do not count.
func repeats(page, next Page) bool {
	if len(next.Rows) == 0 || !slices.Equal(page.Rows, next.Rows) {
		return false
	}
	return slices.ContainsFunc(next.Rows, func(r Row) bool { return !r.SeenTime.IsZero() && r != next.Rows[0] }) ||
		len(next.Rows) == 1 && !next.Rows[0].SeenTime.IsZero()
}

// pageLimit is the number of pages after which a history is held for endless.
// It leaves room for one that grows while it is read.
func pageLimit(total, size int) int {
	if total < 0 {
		return 10_000
	}
	return 2*(total/size) + 10
}
