package ledger

// How a history is read, and why no row is missed.
//
//  1. A page is one moment of the history. Between two pages rows arrive and are
//     dropped, which moves all rows behind them.
//  2. Newest first, rows arrive at the front and are dropped at the end: no row
//     moves to an earlier page. So a read forward meets every row that was there
//     when it began, and some of them twice.
//  3. Oldest first, rows arrive at the end and are dropped at the front: no row
//     moves to a later page. So a read backward, from a page with nothing behind
//     it, meets them all as well. A late row that pushes others is seen as the
//     history grows by more rows than arrived at its end: it is read again.
//  4. A row that comes twice is a row that was pushed, or one that changed places
//     with another of the same time, which then did not come at all. If no more
//     rows arrived (were dropped) than came twice, the read is not complete.
//  5. Without an order, a row that came and was dropped while the pass went on may
//     have pulled another past it. So the pass was complete if the next one, whose
//     pages have other edges, meets all of its rows again, and no other but new ones.
//  6. If rows change places from page to page, a pass is complete if as many
//     different rows came, in all passes, as the history has places.
//  7. A pass that met a short page with others behind it, or ended before its total,
//     lacks rows that the server did not give, unless that is its way: then
//     minAgreeing passes agree.
//  8. What is not complete after maxPasses is an error, and changes nothing.
//  9. A read may end early, at a row that is known, only if a read of the whole
//     history found all of it in order, and nothing spoke against that since.
//     It goes on if the total grew by more rows than it found, or if rows of the
//     ledger did not come that should have.
// 10. Only a read of the whole history moves the horizon, behind which rows are
//     taken for counted: what an early end missed is found by the next whole read.
// 11. The end is an empty page, a refused page behind full ones, a page repeated
//     for ever, or a short page, once it is known how long a full one is. Totals
//     and sizes that the server tells are hints: they save calls where they were
//     right before.

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
	// moment. Its error is ErrPastEnd if the server refuses the page as one that
	// is not there; that of page 0 never is.
	Page(ctx context.Context, number, size int) (Page, error)
}

// Page is one page of a history.
type Page struct {
	Rows []Row
	// Size is the number of rows of a whole page, as the server tells; 0 if it
	// does not.
	Size int
	// Total is the number of rows of the whole history, as the server tells;
	// negative if it does not.
	Total int
	// Clock is NCP's clock when it gave the page.
	Clock time.Time
}

// Errors of pages and reads.
var (
	// ErrPastEnd is a page that the server refuses as it is behind the last.
	ErrPastEnd = errors.New("the page is behind the last one")
	// ErrMoved is a history that moved while it was read, so that rows may have
	// been missed.
	ErrMoved = errors.New("the history moved while it was read: it is read again at the next scrape")
	// ErrEndless is a history that does not end.
	ErrEndless = errors.New("the history does not end")
)

// errNoOrder ends a pass that took a history for one in order.
var errNoOrder = errors.New("the rows have no order after all")

const (
	// maxPasses is how often a history is gone through until it is complete.
	maxPasses = 12
	// minAgreeing is how many passes in a row have to find what the one before found
	// if rows came twice for which nothing that arrived accounts, or if each lacks some:
	// chance may hide the same row some times.
	minAgreeing = 4
	// maxPages and maxRows are what no history has.
	maxPages = 100_000
	maxRows  = 4_000_000
	// maxOldPages is how many pages in a row may bring nothing new. After each
	// manyOldPages it is time to ask whether there is an end.
	maxOldPages  = 100
	manyOldPages = 8
)

// Read reads a history as far as the plan needs. It asks for pages of size rows,
// or of what the first page says. Its error is that of a page, ErrMoved or
// ErrEndless.
func (p Plan) Read(ctx context.Context, pages Pages, size int) (*Read, error) {
	r := &reader{plan: p, pages: pages, size: max(1, size), told: -1}
	if !p.whole {
		r.order = p.account.order
	}
	moved := fmt.Errorf("%d passes over it do not agree: %w", maxPasses, ErrMoved)
	for n := range maxPasses {
		err := r.pass(ctx, n)
		switch {
		case errors.Is(err, errNoOrder):
			r.order, r.agreeing = noOrder, 0
			continue
		case errors.Is(err, ErrMoved):
			moved, r.agreeing = err, 0
			continue
		case err != nil:
			return nil, err
		}
		complete, err := r.complete(ctx, n)
		if err != nil {
			return nil, err
		}
		if complete {
			return r.result(), nil
		}
	}
	return nil, moved
}

// reader reads a history once.
type reader struct {
	plan  Plan
	pages Pages
	size  int // of pages, in the first pass
	told  int // the last total that was told: a page without one is a poor one
	read  Read
	set   rowSet
	came  []instant // rows that the ledger marked
	order order     // of all that came
	// agreeing is the number of passes that found the same as the one before.
	agreeing  int
	recordSum uint64

	walk       walk
	mostPlaces int     // places of a pass before
	lastLen    int     // rows of the passes before
	lastBegin  instant // of the pass before
}

// walk is one pass over the history.
type walk struct {
	movement
	gaps
	head

	size   int
	begin  instant // NCP's clock
	seq    sequence
	rows   int // that came, those that cannot be counted too
	places int // rows that can be counted, without those that are twice on a page
	pages  int // with rows
	// oldPages are the last pages in a row that had rows, and nothing new.
	oldPages int
	total    int // of the page before
	full     bool
	atOnce   bool // the history was there on one page, which is one moment
	end      int  // rows of the history, if its end was seen
}

// head is the first page of a pass.
type head struct {
	first  []seenRow // its rows that can be counted
	latest instant   // the newest of them
	stride int       // all its rows
}

// movement is what a pass shows of rows that arrived, were dropped or changed places
// meanwhile.
type movement struct {
	twice    int  // rows that came on a page before
	grown    int  // by how much the total grew
	arrived  int  // rows that are new since the pass before
	surprise int  // rows that the pass before should have met
	capped   bool // the total is smaller than the number of rows
}

// edges are the sizes of pages of one pass after another, in sixteenths: the
// edges of pages, where rows are missed, are elsewhere in each.
var edges = [...]int{16, 15, 11, 13, 9, 14, 10, 12} //nolint:gochecknoglobals // a constant in all but syntax

func (r *reader) pass(ctx context.Context, n int) error {
	r.mostPlaces, r.lastBegin, r.lastLen = max(r.mostPlaces, r.walk.places), r.walk.begin, r.set.len
	r.set.nextPass()
	size := r.size
	if full := r.plan.server.fullPage(size); n > 0 && full > 0 {
		size = max(1, full*edges[n%len(edges)]/edges[0])
	}
	r.walk = walk{size: size, total: -1, gaps: noGaps}
	r.read.Uncounted = Uncounted{}
	first, _, err := r.page(ctx, 0)
	if err != nil {
		return err
	}
	r.walk.begin, r.read.total = instantOf(first.Clock), first.Total
	r.read.seenAt = r.walk.begin
	if n == 0 {
		r.read.clock = r.walk.begin
	}
	r.walk.first = slices.Clone(first.seen)
	r.walk.stride = len(first.Rows)
	if 0 < first.Size && first.Size < size && len(first.Rows) <= first.Size {
		r.walk.size = first.Size // later pages are counted in it
	}
	return r.forward(ctx, first)
}

// page asks for a page. ended is a page that is not there: it is empty, or it is
// refused. If that cannot be, as far as the total is known, it is asked for once
// more. No loop over pages goes on for ever, as this ends it.
func (r *reader) page(ctx context.Context, number int) (page pageRead, ended bool, err error) {
	if number > 2*maxPages || r.set.len > maxRows {
		return pageRead{}, false, fmt.Errorf("page %d, after %d rows: %w", number, r.set.len, ErrEndless)
	}
	if r.walk.oldPages > maxOldPages {
		return pageRead{}, false, fmt.Errorf("rows arrive faster than they are read: %w", ErrMoved)
	}
	for try := 0; ; try++ {
		r.read.calls++
		answer, err := r.pages.Page(ctx, number, r.walk.size)
		if err != nil && (number == 0 || !errors.Is(err, ErrPastEnd)) {
			return pageRead{}, false, err
		}
		if err != nil {
			page = emptyPage(-1)
		} else {
			page = countable(answer)
			if page.Total < 0 {
				page.Total = r.told
			}
			r.told = page.Total
		}
		if len(page.Rows) > 0 {
			r.plan.server.sawPage(len(page.Rows))
			return page, false, nil
		}
		total := max(page.Total, r.walk.total)
		if rows, _ := r.plan.server.rowsOf(total); try > 0 || err == nil && rows <= number*r.walk.stride {
			return page, true, nil
		}
	}
}

// add adds a page to what was read, and returns the rows that can be counted in
// their order on the page.
func (r *reader) add(page pageRead) []seenRow {
	a, w := &r.plan.account, &r.walk
	rows := page.seen
	r.read.Uncounted.NoTime += page.uncounted.NoTime
	r.read.Uncounted.FutureTime += page.uncounted.FutureTime
	switch {
	case !r.nothingNew(page):
		w.oldPages = 0
	case len(rows) > 0:
		w.oldPages++
	}
	for i := range rows {
		rows[i].again = r.cameBefore(rows[i])
	}
	now := instantOf(page.Clock.Add(time.Second)) // it may have no fraction
	for i := range rows {
		s := &rows[i]
		key := rowKey(s.id)
		marked := a.marked([6]byte(s.id[:6]), s.seen)
		s.known = marked || s.seen <= a.horizon
		if passes, met := r.set.in(key); s.again {
			w.twice++
			w.places++
		} else if !met || passes&inThisPass == 0 {
			w.places++
			r.meet(s, met, passes, marked, now)
		}
		r.set.add(key)
	}
	w.rows += len(page.Rows)
	w.longest = max(w.longest, len(page.Rows))
	w.pages += min(1, len(page.Rows))
	if w.total >= 0 && page.Total > w.total {
		w.grown += page.Total - w.total
	}
	w.total = page.Total
	if r.plan.OnPage != nil && !r.plan.known && w.pages > 1 {
		came, total := w.rows, max(0, page.Total)
		if r.order.merge(w.seq.found) == noOrder {
			came, total = came+r.mostPlaces, 2*total
		}
		r.plan.OnPage(came, total)
	}
	return rows
}

// meet takes a row that did not come in this pass yet. One of the future may have
// been there all the time.
func (r *reader) meet(s *seenRow, before bool, passes uint64, marked bool, now instant) {
	w := &r.walk
	switch {
	case before && passes&inLastPass == 0, !before && (s.seen <= r.lastBegin || s.seen > now):
		w.surprise++
	case !before:
		w.arrived++
	}
	if before {
		return
	}
	r.read.latest = max(r.read.latest, s.seen)
	if s.result == Failure && s.seen > r.read.failedAt {
		r.read.failedAt, r.read.failedBy = s.seen, certificateOf(Text(s.row.Issuer), Text(s.row.SerialNumber))
	}
	r.recordSum += rowKey(s.id)
	if marked {
		r.came = append(r.came, s.seen)
	}
	if !s.known {
		r.read.addFresh(*s, r.plan.lateArrival)
		if r.plan.known && r.plan.Tell != nil && r.plan.Tell(s.result) {
			r.read.tell(s.row)
		}
	}
}

// result is what a complete read tells.
func (r *reader) result() *Read {
	out, w := &r.read, &r.walk
	out.full, out.order, out.recordSum = w.full, r.order, r.recordSum
	out.forLate = w.full || r.plan.forLate
	rows, _ := r.plan.server.rowsOf(out.total)
	switch {
	case w.full:
		out.Entries = w.end
	case rows >= 0:
		out.Entries = rows
	default:
		out.Entries = max(r.plan.last.entries, w.rows)
	}
	out.distinct = r.set.len
	return out
}
