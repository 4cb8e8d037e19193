package ledger

import (
	"context"
	"slices"
)

// complete says whether the pass that ended has shown that no row was missed.
func (r *reader) complete(ctx context.Context, n int) (bool, error) {
	w := &r.walk
	switch {
	case w.doubtful():
		r.plan.whole = true // only passes over all of it can agree
	case w.atOnce:
		return true, nil
	case r.order.sorted():
		if complete, err := r.explained(ctx); complete && !r.shrunk() || err != nil {
			return complete, err
		}
	case w.twice == 0 && r.unchanged():
		return true, nil
	}
	if n == 0 {
		return false, nil
	}
	return r.agrees(n), nil
}

// shrunk says whether this pass of all found less than half of what one before it did: an
// end that is repeated may look like all there is, if the order flips.
func (r *reader) shrunk() bool {
	return r.walk.full && 2*r.walk.places < max(r.mostPlaces, r.lastLen)
}

// agrees says whether this pass found what the ones before it did, so that it has
// shown that no row was missed.
func (r *reader) agrees(n int) bool {
	w := &r.walk
	missed := r.set.before - r.set.again
	if r.order.sorted() && !w.full {
		missed = 0 // it went less far back
	}
	if missed == 0 && w.surprise == 0 {
		r.agreeing++
	} else {
		r.agreeing = 0
	}
	switch {
	case r.agreeing >= r.agreeingPasses(n):
		return true
	case !w.full || w.doubtful() || w.places < r.mostPlaces:
		return false
	case r.agreeing == 1 && w.twice <= w.arrived:
		return true
	default:
		return w.places == r.set.len && r.mostPlaces == r.set.len && r.lastLen == r.set.len
	}
}

// agreeingPasses are as many as prove that no row was missed. If there is room for one
// that did not come, a first read wants more of them, as it would never be counted.
func (r *reader) agreeingPasses(n int) int {
	if !r.plan.known && n < maxPasses-1 && max(r.mostPlaces, r.walk.places) > r.set.len {
		return 2 * minAgreeing
	}
	return minAgreeing
}

// unchanged says whether the rows are those that the last read found: then none
// was dropped, and none arrived.
func (r *reader) unchanged() bool {
	return r.plan.known && !r.plan.whole && r.plan.last.read && r.walk.full && r.walk.grown == 0 &&
		r.walk.places == r.set.len && r.plan.last.rows == r.set.len && r.plan.last.recordSum == r.recordSum
}

// explained says whether the rows that came twice were pushed by others that
// arrived (or were pulled by others that were dropped): it looks at the first
// page again, and at those after it, at most at as many as the pass had and one: a
// server may repeat its last page for ever.
func (r *reader) explained(ctx context.Context) (bool, error) {
	w := &r.walk
	twice, saved := w.twice, *w
	var head pageRead
	for number := 0; twice > 0 && number <= saved.pages; number++ {
		page, ended, err := r.page(ctx, number)
		if err != nil || ended {
			return false, err
		}
		if r.order = r.order.merge(sequenceOf(page.seen).found); r.order == noOrder {
			return false, nil
		}
		if r.order == oldestFirst {
			dropped := r.droppedFrom(page)
			if dropped < len(w.first) || dropped >= twice && r.plan.known {
				return dropped >= twice, nil
			}
			return r.goesOn(ctx, page)
		}
		if number == 0 {
			head = page
		}
		rows := r.add(page)
		*w = saved
		for _, row := range rows {
			if !row.again && row.seen > w.latest {
				twice--
			}
		}
		if n := len(rows); n > 0 && rows[n-1].again && rows[n-1].seen < w.begin {
			// All that had arrived until the first of these pages is known.
			r.read.total, r.read.seenAt = head.Total, instantOf(head.Clock)
			break
		}
	}
	return twice <= 0, nil
}

// goesOn says whether newer rows follow the first page: if all of the one before were
// dropped, this one may as well be the newest, of an order that flips.
func (r *reader) goesOn(ctx context.Context, first pageRead) (bool, error) {
	next, ended, err := r.page(ctx, 1)
	if err != nil || ended || len(first.seen) == 0 || len(next.seen) == 0 {
		return false, err
	}
	r.order = r.order.merge(sequenceOf(slices.Concat(first.seen, next.seen)).found)
	return r.order == oldestFirst, nil
}

// droppedFrom is the number of rows of this pass's first page that were dropped
// since, as older ones than those that are on it now.
func (r *reader) droppedFrom(page pageRead) int {
	rows := page.seen
	n := 0
	for _, row := range r.walk.first {
		if len(rows) == 0 || row.seen < rows[0].seen {
			n++
		}
	}
	return n
}
