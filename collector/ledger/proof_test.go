package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"
)

// Oldest first, a late row that arrives between two calls pushes another to a page
// that was read already. The total shows it: no read without an error misses that.
func TestLateRowWhileReadBackward(t *testing.T) {
	for at := 2; at <= 9; at++ {
		for seconds := 5; seconds < 95; seconds += 10 {
			r := newReading(t, oldestFirst, 95)
			before := slices.Clone(r.history.rows)
			r.history.onPage = func(call int) error {
				if call == at {
					r.arriveLate(time.Duration(seconds)*time.Second + time.Millisecond)
				}
				return nil
			}
			if _, err := r.scrape(); err != nil {
				t.Fatalf("%d s late at call %d: %v", seconds, at, err)
			}
			a := applied(r.ledger)
			for _, row := range before {
				id := row.identity()
				if seen := instantOf(row.SeenTime); seen > a.horizon && !a.marked([6]byte(id[:6]), seen) {
					t.Errorf("%d s late at call %d: row %s was there all the time and is not counted", seconds, at, row.SerialNumber)
				}
			}
		}
	}
}

// Rows of one time that changed places are not explained by a total that grows
// though nothing arrives.
func TestTotalThatGrowsExplainsNothing(t *testing.T) {
	r := newReading(t, newestFirst, 35)
	r.history.rows[25].SeenTime = r.history.rows[24].SeenTime // at the edge of the first two pages
	swapped := false
	r.lie = func(number int, page *Page) {
		page.Total += r.calls
		if number == 1 && !swapped {
			swapped = true
			page.Rows = slices.Clone(page.Rows)
			page.Rows[0] = r.history.rows[25] // it came on page 0 already
		}
	}
	if _, err := r.scrape(); err == nil && r.counted() != 35 {
		t.Errorf("%d of 35 rows are counted without an error", r.counted())
	}
}

// A pass that has fewer rows than one before is not complete because another
// agrees with it.
func TestFewerRowsThanAPassBefore(t *testing.T) {
	r := newReading(t, noOrder, 25)
	r.ledger.server = &Server{}
	ordered := r.history.ordered()
	first, last := ordered[0], ordered[24]
	pass := 0
	r.lie = func(number int, page *Page) {
		page.Total = -1
		if number == 0 {
			pass++
		}
		i := slices.Index(page.Rows, last)
		switch page.Rows = slices.Clone(page.Rows); {
		case i < 0 || pass > 3:
		case pass == 1:
			page.Rows[i] = first
		default:
			page.Rows = slices.Delete(page.Rows, i, i+1)
		}
	}
	if _, err := r.scrape(); err == nil && r.counted() != 25 {
		t.Errorf("%d of 25 rows are counted without an error", r.counted())
	}
}

// sameTime is a server without totals whose rows all have one time. It gives these
// pages, and then the last for ever.
func sameTime(t *testing.T, pages ...[]int) *reading {
	t.Helper()
	r := newReading(t, orderUnclear, 0)
	r.ledger.server = &Server{}
	r.history.mostCalls = 20_000
	r.lie = func(number int, page *Page) {
		page.Total, page.Size, page.Rows = -1, 0, nil
		for _, serial := range pages[min(number, len(pages)-1)] {
			page.Rows = append(page.Rows, Row{SerialNumber: strconv.Itoa(serial), SeenTime: r.history.now})
		}
	}
	return r
}

// A full page of rows of one time is not the last because the same rows come once
// more: they may have changed places with others that come later.
func TestPageOfOneTimeIsNoEnd(t *testing.T) {
	r := sameTime(t, []int{1, 2, 3, 4}, []int{4, 3, 2, 1}, []int{5, 6, 7, 8})
	if _, err := r.scrape(); err == nil && r.counted() != 8 {
		t.Errorf("%d of 8 rows are counted without an error", r.counted())
	}
}

// Rows of one time that change places on a last page that is repeated for ever are
// not read for ever.
func TestPagesWithNothingNewEnd(t *testing.T) {
	r := sameTime(t, []int{1, 2, 3, 4})
	pages := r.lie
	r.lie = func(number int, page *Page) {
		if pages(number, page); r.calls%2 == 0 {
			slices.Reverse(page.Rows)
		}
	}
	if _, err := r.scrape(); !errors.Is(err, ErrMoved) || r.calls > 2*maxPasses*maxOldPages {
		t.Errorf("error %v after %d calls", err, r.calls)
	}
}

// A full page is not all because the total says so: it may stop at that number.
func TestTotalThatStopsAtAPage(t *testing.T) {
	for name, o := range orders() {
		r := newReading(t, o, 5)
		r.history.total = func(all, _ int) int { return min(all, 10) }
		r.scrapes(1)
		r.arrive(7)
		r.scrapes(1)
		if r.counted() != 12 {
			t.Errorf("%s: %d of 12 rows are counted", name, r.counted())
		}
	}
}

// What a last page costs that comes again for each page behind it, on a server that
// tells no totals: the first read, a quiet one, and one with 25 rows more.
func TestCallsBesideARepeatedLastPage(t *testing.T) {
	for rows, calls := range map[int]map[order][3]int{
		95:  {newestFirst: {12, 1, 3}, oldestFirst: {22, 2, 13}},
		100: {newestFirst: {12, 1, 3}, oldestFirst: {22, 5, 8}},
	} {
		for o, calls := range calls {
			t.Run(fmt.Sprintf("%s, %d rows", orderNames[o], rows), func(t *testing.T) {
				r := newReading(t, o, rows)
				r.history.end = endRepeats
				r.history.total = func(int, int) int { return -1 }
				r.want("the first read", calls[0], rows)
				r.want("a quiet read", calls[1], rows)
				r.arrive(25)
				r.want("25 more", calls[2], rows+25)
			})
		}
	}
}
