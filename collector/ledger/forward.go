package ledger

import (
	"context"
	"fmt"
	"slices"
)

// forward reads from the first page to later ones, until the end or until all
// that follows is known.
func (r *reader) forward(ctx context.Context, page pageRead) error {
	w := &r.walk
	for _, row := range w.first {
		w.latest = max(w.latest, row.seen)
	}
	if r.order.merge(sequenceOf(w.first).found) == oldestFirst && !r.atEnd(page, len(page.Rows)) {
		return r.backward(ctx, page)
	}
	first, before := page, walk{}
	for number := 0; ; number++ {
		rows := r.add(page)
		w.seq.append(rows)
		r.order = r.order.merge(w.seq.found)
		if r.order == oldestFirst && number > 0 {
			r.set.restartPass()
			r.walk = walk{size: w.size, begin: w.begin, head: w.head, total: -1, gaps: noGaps}
			return r.backward(ctx, first)
		}
		if r.atEnd(page, w.rows) {
			w.atOnce = number == 0
			return r.ended(ctx, page, page)
		}
		if len(rows) > 0 && r.order == newestFirst && r.mayStop(rows[len(rows)-1], r.read.total) {
			return nil
		}
		if number >= pageLimit(first) || r.set.len > maxRows {
			return fmt.Errorf("page %d of a history of %d rows: %w", number, page.Total, ErrEndless)
		}
		next, ended, err := r.page(ctx, number+1)
		if err != nil {
			return err
		}
		if !ended {
			if ended, err = r.repeated(ctx, &before, page, next); err != nil {
				return err
			}
		}
		if ended {
			return r.ended(ctx, page, next)
		}
		if !r.nothingNew(next) {
			w.before(len(page.Rows))
		}
		page = next
	}
}

// pageLimit is the number of pages after which a history is held for endless. It
// may have far more than its total says, which may be that of the page or stop at
// some number.
func pageLimit(page pageRead) int {
	if page.Total <= len(page.Rows) {
		return maxPages
	}
	return min(maxPages, 1000+100*(page.Total/len(page.Rows)))
}

// ended notes the end of the history behind a page, and next, which is not
// there; both are the same if the page is a short one.
func (r *reader) ended(ctx context.Context, page, next pageRead) error {
	w := &r.walk
	w.full, w.end = true, w.rows
	w.lacks = r.tellMore(w.rows, r.read.total, page.Total, next.Total)
	if next.Total >= 0 && next.Total != page.Total {
		return nil // it changed in between
	}
	of := len(page.Rows)
	if len(next.Rows) == 0 && next.Total >= 0 {
		of = 0 // a total beside no rows is not that of the page
	}
	return r.learn(ctx, w.rows, of, page)
}

// learn learns from the end of a history. Nobody knows at first whether totals are
// those of the page or of the history: smaller pages tell, once for the API. of is
// the rows of the smallest page that told the total.
func (r *reader) learn(ctx context.Context, rows, of int, page pageRead) error {
	server := r.plan.server
	if r.walk.lacks && r.agreeing == 0 {
		return nil // it may be no end
	}
	server.sawEnd(rows, page.Total, of)
	if !server.learner.TryLock() {
		return nil
	}
	defer server.learner.Unlock()
	for size := 1; size < r.walk.stride && page.Total == rows && server.learning(); size++ {
		r.read.calls++
		smaller, err := r.pages.Page(ctx, 0, size)
		arrived := smaller.Total - rows
		if err != nil || arrived < 0 || arrived > len(page.Rows) || smaller.Total == len(smaller.Rows) {
			return err // the total moves, or is that of the page
		}
		server.sawEnd(rows, rows, len(smaller.Rows)) // what arrived since the end was seen is not on it
	}
	return nil
}

// atEnd says whether a page, up to which so many rows came, is taken for the last
// without a look behind it.
func (r *reader) atEnd(page pageRead, rows int) bool {
	if len(page.Rows) == 0 {
		return true
	}
	short := len(page.Rows) < r.plan.server.fullPage(r.walk.size)
	want, sure := r.plan.server.rowsOf(page.Total)
	asTold := sure && rows == want
	last := &r.plan.last
	if r.plan.whole || !last.read || rows < last.entries {
		return asTold && (short || rows == len(page.Rows) && rows < r.walk.size)
	}
	return short && rows >= want || r.asBefore(rows, page)
}

// asBefore says whether a page, up to which there are so many rows, ends the
// history as it did at the last read, with nothing new on it.
func (r *reader) asBefore(rows int, page pageRead) bool {
	want, sure := r.plan.server.rowsOf(page.Total)
	last := &r.plan.last
	if !sure || want != rows || r.plan.whole || !last.read || last.entries != rows || last.total != page.Total {
		return false
	}
	seen := page.seen
	return r.read.New() == 0 && !slices.ContainsFunc(seen, func(s seenRow) bool { return !r.plan.account.has(s) })
}

// repeated says whether next is the last page once more. before is the walk before the
// first of the pages in a row that brought nothing new.
func (r *reader) repeated(ctx context.Context, before *walk, page, next pageRead) (bool, error) {
	if len(next.Rows) == 0 || !r.nothingNew(next) {
		return false, nil
	}
	w := &r.walk
	if w.oldPages == 0 {
		*before = *w
	}
	// Without an order the last page may look otherwise each time.
	same := r.samePage(page, next)
	if !same && (r.order != noOrder || (w.oldPages+1)%manyOldPages != 0) {
		return false, nil
	}
	if repeats, err := r.repeatsLast(ctx, next, same); err != nil || !repeats {
		return false, err
	}
	if !same {
		*w = *before
	}
	if want, _ := r.plan.server.rowsOf(next.Total); same && lacksPage(want, w.rows, page) {
		return false, fmt.Errorf("page after page has the same rows: %w", ErrMoved)
	}
	return true, nil
}

// repeatsLast says whether the server gives rows far behind its last page: those
// of a page, if same.
func (r *reader) repeatsLast(ctx context.Context, page pageRead, same bool) (bool, error) {
	far, ended, err := r.page(ctx, 2*maxPages)
	return err == nil && !ended && (!same || sameTimes(page, far)), err
}

// samePage says whether next has the rows of a page once more. Rows of one time may
// have changed places: the times tell then, unless a full page has only one, or no row
// has any that counts.
func (r *reader) samePage(page, next pageRead) bool {
	n := len(page.seen)
	switch {
	case !sameTimes(page, next):
		return false
	case n == 0:
		return slices.EqualFunc(page.Rows, next.Rows, func(a, b Row) bool { return a.identity() == b.identity() })
	}
	return n < r.walk.stride || page.seen[0].seen != page.seen[n-1].seen ||
		slices.EqualFunc(page.seen, next.seen, func(a, b seenRow) bool { return a.id == b.id })
}

// sameTimes says whether two pages have rows of the same times.
func sameTimes(page, next pageRead) bool {
	return slices.EqualFunc(page.Rows, next.Rows, func(a, b Row) bool { return a.SeenTime.Equal(b.SeenTime) })
}

// lacksPage says whether a total tells of a page behind so many rows; one row more
// is no page, as totals may be too high by one.
func lacksPage(total, rows int, page pageRead) bool {
	return total >= rows+max(2, len(page.Rows))
}

// nothingNew says whether all rows of a page that can be counted came before in
// this pass.
func (r *reader) nothingNew(page pageRead) bool {
	return !slices.ContainsFunc(page.seen, func(row seenRow) bool { return !r.cameBefore(row) })
}

func (r *reader) cameBefore(row seenRow) bool {
	passes, _ := r.set.in(rowKey(row.id))
	return passes&inThisPass != 0
}

// mayStop says whether all rows behind this one are known, if the order of the
// history can be trusted.
func (r *reader) mayStop(edge seenRow, total int) bool {
	p := &r.plan
	if p.whole || r.order != p.account.order || !edge.known || edge.seen >= p.back {
		return false
	}
	if rows, _ := p.server.rowsOf(total); rows >= 0 && p.last.read && p.last.total >= 0 && total-p.last.total > r.read.New() {
		return false
	}
	// The rows of the ledger that belong before this one must all have come: else
	// the order is not what it seemed.
	limit, came := edge.seen.milliseconds(), 0
	for _, seen := range r.came {
		if seen.milliseconds() > limit {
			came++
		}
	}
	p.whole = came < p.account.newer(limit)
	return !p.whole
}
