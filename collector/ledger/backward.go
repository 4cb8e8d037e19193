package ledger

import (
	"context"
	"fmt"
	"slices"
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
	last, began := number, page.Total
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
			return r.explainGrowth(ctx, last, began)
		}
		if len(rows) > 0 && r.mayStop(rows[0], r.read.total) {
			return r.explainGrowth(ctx, last, began)
		}
		if page, err = r.pageBefore(ctx, number, page); err != nil {
			return err
		}
		number--
	}
}

// pageBefore asks for the page before a page. If a late row may have arrived
// before that, and have pushed others from the earlier page to later ones, it takes
// these again, until nothing moves meanwhile.
func (r *reader) pageBefore(ctx context.Context, number int, page pageRead) (pageRead, error) {
	before, _, err := r.page(ctx, number-1)
	if err != nil {
		return pageRead{}, err
	}
	if sameTimes(page, before) {
		repeats, err := r.repeatsLast(ctx, page, true)
		if err != nil || repeats { // both are behind the last page
			return emptyPage(before.Total), err
		}
	}
	late := len(page.Rows) == 0 || slices.ContainsFunc(page.Rows, func(row Row) bool {
		return instantOf(row.SeenTime) >= r.walk.begin-instant(r.plan.lateArrival)
	})
	_, sure := r.plan.server.rowsOf(before.Total)
	sure = sure && !r.walk.capped
	switch grew := before.Total > page.Total; {
	case !late, sure && !grew:
		return before, nil
	case sure && !r.careful:
		r.walk.grewBackward = true
		return before, nil
	}
	last := number
	for range maxPasses {
		found, moved, err := r.addAgain(ctx, number, &last, before.Total)
		if err != nil || sure && !moved && !found {
			return before, err
		}
		// Rows that were dropped may have hidden others in turn.
		now, _, err := r.page(ctx, number-1)
		if err != nil {
			return pageRead{}, err
		}
		if !found && r.nothingNew(now, before.seen...) {
			return before, nil
		}
		saved := r.walk
		r.add(before)
		r.walk = saved
		before = now
	}
	return pageRead{}, fmt.Errorf("page %d never stays as it is: %w", number, ErrMoved)
}

// explainGrowth looks whether as many rows arrived at the end of the history as the
// total grew by: then no late row arrived before it, which might have pushed others
// to pages that were read already. Else the next pass takes such pages again. It
// takes no more steps than the pass had pages and two, as a server may repeat its
// last page for ever.
func (r *reader) explainGrowth(ctx context.Context, number, began int) error {
	if !r.walk.grewBackward {
		return nil
	}
	saved := r.walk
	defer func() { r.walk = saved }()
	end := newEnd{reader: r, latest: r.read.latest, total: began}
	first := number
	for range saved.pages + 2 {
		_, ended, err := end.take(ctx, number, true)
		if err != nil {
			return err
		}
		short := end.short
		if number == first && !end.follows {
			break // rows that arrived may be on earlier pages, as others were dropped
		}
		if number > first && saved.twice > 0 {
			// Others are dropped, and the same may have happened between two of these.
			pulled, _, err := end.take(ctx, number-1, false)
			if err != nil {
				return err
			}
			if pulled {
				continue
			}
		}
		if ended || short {
			if end.total-began <= end.arrived {
				return nil
			}
			break
		}
		number++
	}
	r.careful = true
	return fmt.Errorf("rows came late while it was read: %w", ErrMoved)
}

// newEnd is what is at the end of a history after a pass backward.
type newEnd struct {
	*reader
	latest  instant // of all rows before
	arrived int     // newer rows
	total   int     // the largest that was told
	// Of the page that was taken last: it begins with a row that came before, and is
	// no full one.
	follows, short bool
}

// take adds a page, and says whether it has a new row. last is a page that is
// looked at for what is the newest.
func (e *newEnd) take(ctx context.Context, number int, last bool) (isNew, ended bool, err error) {
	page, ended, err := e.page(ctx, number)
	if err != nil {
		return false, false, err
	}
	e.total = max(e.total, page.Total)
	e.follows = len(page.seen) > 0 && e.cameBefore(page.seen[0])
	e.short = len(page.Rows) < e.walk.stride
	for _, row := range page.seen {
		if !e.cameBefore(row) {
			isNew = true
			if row.seen > e.latest {
				e.arrived++
			}
		}
	}
	if !ended {
		e.add(page)
		if last {
			e.reader.read.total, e.reader.read.seenAt = page.Total, instantOf(page.Clock)
		}
	}
	return isNew, ended, nil
}

// addAgain adds a page and those behind it again, up to the last, or further if
// there is something new. It says whether anything new was found before a row that
// was known, as rows that arrive are behind all others, and whether the total moved
// meanwhile.
func (r *reader) addAgain(ctx context.Context, number int, last *int, total int) (found, moved bool, err error) {
	saved := r.walk
	defer func() { r.walk = saved }()
	isNew := false
	for ; ; number++ {
		page, ended, err := r.page(ctx, number)
		moved = moved || page.Total != total
		if err != nil || ended || r.nothingNew(page) && number >= *last {
			return found || isNew && len(page.seen) > 0, moved, err
		}
		for _, row := range page.seen {
			if !r.cameBefore(row) {
				isNew = true
			} else if isNew {
				found = true
			}
		}
		r.add(page)
		total, *last = page.Total, max(*last, number)
		if isNew {
			r.read.total = page.Total
		}
	}
}

// findLast finds the last page: one that is not full, or that has nothing behind
// it, which is then given as an empty one. The total, or what was found the last
// time, says where to look first.
func (r *reader) findLast(ctx context.Context, first pageRead) (int, pageRead, error) {
	size := len(first.Rows)
	told, _ := r.plan.server.rowsOf(first.Total)
	want := told
	if want < 0 {
		want = r.plan.last.entries
	}
	low, lowPage, high := 0, first, -1 // there are rows on low, and none on high
	repeated := false
	met := make(map[identity]bool)
	number := max(1, (want-1)/size)
	for step := 1; ; {
		page, ended, err := r.page(ctx, number)
		if err != nil {
			return 0, pageRead{}, err
		}
		if number >= maxPages {
			return 0, pageRead{}, errNoOrder // it is read forward, which finds an end or none
		}
		same := sameTimes(lowPage, page)
		if !ended && (same || allMet(met, page)) { // rows of one time may change places on the last page
			if repeated, err = r.repeatsLast(ctx, page, same); err != nil {
				return 0, pageRead{}, err
			}
			ended = repeated
		}
		rows := number*size + len(page.Rows)
		switch {
		case ended:
			high = number
		case len(page.Rows) < r.plan.server.fullPage(r.walk.size), r.asBefore(rows, page):
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
			rows := low*size + len(lowPage.Rows)
			if repeated && lacksPage(told, rows, lowPage) {
				return 0, pageRead{}, fmt.Errorf("page after page has the same rows: %w", ErrMoved)
			}
			// What was behind the last page a moment ago may be on it now: it is
			// read again.
			return high, emptyPage(lowPage.Total), r.lastPage(ctx, rows, lowPage)
		}
	}
}

// allMet says whether all rows of a page are met, and adds them to those.
func allMet(met map[identity]bool, page pageRead) bool {
	before := len(met)
	for _, row := range page.seen {
		met[row.id] = true
	}
	return len(page.seen) > 0 && len(met) == before
}

// lastPage notes the last page, up to which there are so many rows.
func (r *reader) lastPage(ctx context.Context, rows int, page pageRead) error {
	told, _ := r.plan.server.rowsOf(page.Total)
	r.walk.end, r.walk.capped = rows, told < rows
	return r.learn(ctx, rows, len(page.Rows), page)
}
