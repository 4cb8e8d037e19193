package ledger

import (
	"context"
	"fmt"
)

// backward reads a history that comes oldest first from its last page to earlier
// ones, until the first or until all that is left is known.
func (r *reader) backward(ctx context.Context, first pageRead) error {
	w := &r.walk
	number, page, err := r.findLast(ctx, first)
	if err != nil {
		return err
	}
	r.read.total = page.Total
	last := number
	if len(page.Rows) == 0 {
		last = max(0, number-1) // with the last rows that there were
	}
	for {
		rows := r.add(page)
		w.seq.prepend(rows)
		if r.order = r.order.merge(w.seq.found).merge(oldestFirst); r.order == noOrder {
			return errNoOrder
		}
		if number == 0 {
			w.full = true
		}
		if number == 0 || len(rows) > 0 && r.mayStop(rows[0], r.read.total) {
			return r.explainGrowth(ctx, last)
		}
		number--
		if page, _, err = r.page(ctx, number); err != nil {
			return err
		}
		if w.rows > 0 || number == last && len(page.Rows) < w.lastRows {
			w.before(len(page.Rows))
		}
	}
}

// explainGrowth looks whether as many rows arrived on the last page, or behind it, as
// the total grew by during the pass. Else a late row may have pushed others to pages
// that were read already. It looks at no more pages than the pass had and one, as a
// server may repeat its last page for ever.
func (r *reader) explainGrowth(ctx context.Context, last int) error {
	w := &r.walk
	if _, sure := r.plan.server.rowsOf(w.total); !sure || w.capped || w.grown == 0 {
		return nil
	}
	saved, arrived := *w, 0
	defer func() { r.walk = saved }()
	for number := last; number <= last+saved.pages; number++ {
		page, ended, err := r.page(ctx, number)
		if err != nil {
			return err
		}
		for _, row := range r.add(page) {
			if !row.again {
				arrived++
			}
		}
		if ended {
			break
		}
		r.read.total, r.read.seenAt = page.Total, instantOf(page.Clock)
		if len(page.Rows) < saved.stride {
			break
		}
	}
	if arrived < w.grown {
		return fmt.Errorf("rows came late while it was read: %w", ErrMoved)
	}
	return nil
}

// findLast finds the last page: one that is not full, or that has nothing behind
// it, which is then given as an empty one. The total, or what was found the last
// time, says where to look first.
func (r *reader) findLast(ctx context.Context, first pageRead) (int, pageRead, error) {
	size := len(first.Rows)
	want, _ := r.plan.server.rowsOf(first.Total)
	if want < 0 {
		want = r.plan.last.entries
	}
	low, lowPage, high := 0, first, -1 // there are rows on low, and none on high
	number := max(1, (want-1)/size)
	for step := 1; ; {
		page, ended, err := r.page(ctx, number)
		if err != nil {
			return 0, pageRead{}, err
		}
		if number >= maxPages {
			return 0, pageRead{}, errNoOrder // it is read forward, which finds an end or none
		}
		rows := number*size + len(page.Rows)
		short := len(page.Rows) < r.plan.server.fullPage(r.walk.size)
		at, before := low, lowPage
		if !ended && short && number > low+1 && rows != want { // it may be the last page once more
			at = number - 1
			if before, _, err = r.page(ctx, at); err != nil {
				return 0, pageRead{}, err
			}
		}
		if !ended && r.samePage(before, page) {
			repeats, err := r.repeatsLast(ctx, page, true)
			if err != nil {
				return 0, pageRead{}, err
			}
			if repeats {
				return r.firstOf(ctx, page, max(1, at), first)
			}
		}
		switch {
		case ended:
			high = number
		case r.isLast(short, page), r.asBefore(rows, page):
			return number, page, r.lastPage(ctx, rows, page)
		default:
			low, lowPage = number, page
		}
		switch {
		case high < 0:
			number, step = low+step, 2*step
		case high-low > 1:
			number = (low + high) / 2
		default:
			// What was behind the last page a moment ago may be on it now: it is
			// read again.
			r.walk.lastRows = len(lowPage.Rows)
			return high, emptyPage(lowPage.Total), r.lastPage(ctx, low*size+len(lowPage.Rows), lowPage)
		}
	}
}

// isLast says whether a page that is not empty is the last as it is short. Without a
// total, a whole read looks behind it.
func (r *reader) isLast(short bool, page pageRead) bool {
	return short && (page.Total >= 0 || !r.plan.whole)
}

// firstOf finds the first of the pages that have the rows of one once more: the last
// page. There is one at high, and its rows are also on all pages behind it.
func (r *reader) firstOf(ctx context.Context, repeated pageRead, high int, first pageRead) (int, pageRead, error) {
	low := 0
	for number := high - 1; high-low > 1; number = (low + high) / 2 {
		page, ended, err := r.page(ctx, number)
		if err != nil {
			return 0, pageRead{}, err
		}
		if ended || r.samePage(repeated, page) {
			high = number
		} else {
			low = number
		}
	}
	if !r.samePage(repeated, first) {
		return high, repeated, r.lastPage(ctx, high*len(first.Rows)+len(repeated.Rows), repeated)
	}
	if told, _ := r.plan.server.rowsOf(first.Total); lacksPage(told, len(first.Rows), first) {
		return 0, pageRead{}, fmt.Errorf("page after page has the same rows: %w", ErrMoved)
	}
	r.walk.lastRows = len(first.Rows)
	return 1, emptyPage(first.Total), r.lastPage(ctx, len(first.Rows), first)
}

// lastPage notes the last page, up to which there are so many rows.
func (r *reader) lastPage(ctx context.Context, rows int, page pageRead) error {
	told, _ := r.plan.server.rowsOf(page.Total)
	r.walk.end, r.walk.capped, r.walk.lacks = rows, told < rows, r.tellMore(rows, r.read.total, page.Total)
	return r.learn(ctx, rows, len(page.Rows), page)
}
