package ledger

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"
)

// reading is a history of rows one second apart, which a ledger reads in pages
// of ten.
type reading struct {
	t       *testing.T
	history *history
	ledger  *Ledger
	// lie changes what the history says of itself, if not nil.
	lie func(number int, page *Page)
	// answer changes a page, or refuses it, if not nil.
	answer func(number int, page *Page) error
	added  int
	calls  int
}

func newReading(t *testing.T, order order, rows int) *reading {
	t.Helper()
	r := &reading{t: t, history: &history{order: order, clamp: 10, now: epoch().Add(time.Hour)}}
	r.ledger = New(Options{LateArrival: time.Hour, Now: func() time.Time { return r.history.now }})
	r.ledger.server = &Server{largest: 10, same: minEnds} // the ways of the server are known
	r.arrive(rows)
	return r
}

// arrive adds rows at the newest end.
func (r *reading) arrive(n int) {
	for range n {
		r.history.now = r.history.now.Add(time.Second)
		r.arriveLate(0)
	}
}

// arriveLate adds a row that belongs further back.
func (r *reading) arriveLate(lateness time.Duration) {
	r.added++
	r.history.add(Row{SerialNumber: strconv.Itoa(r.added), SeenTime: r.history.now.Add(-lateness)})
}

func (r *reading) Page(ctx context.Context, number, size int) (Page, error) {
	r.calls++
	if err := ctx.Err(); err != nil {
		return Page{}, err
	}
	page, err := r.history.Page(ctx, number, size)
	if r.lie != nil {
		r.lie(number, &page)
	}
	if r.answer != nil && err == nil {
		err = r.answer(number, &page)
	}
	return page, err
}

func (r *reading) counted() int {
	totals, _ := r.ledger.Totals("s")
	return int(totals.Count[Success]) //nolint:gosec // a few rows
}

// scrape reads and counts. It fails the test if a failed read touched the ledger.
func (r *reading) scrape() (*Read, error) {
	r.t.Helper()
	r.calls, r.history.calls = 0, 0
	before := printOf(r.ledger)
	read, err := r.ledger.Plan("s").Read(r.t.Context(), r, 1000)
	if err == nil {
		r.ledger.Apply("s", read)
	}
	r.ledger.Commit()
	if err != nil && printOf(r.ledger) != before {
		r.t.Error("a read that failed changed the ledger")
	}
	return read, err
}

// want is a scrape that counts all up to now with so many calls.
func (r *reading) want(what string, calls, counted int) {
	r.t.Helper()
	if _, err := r.scrape(); err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
	if r.calls != calls || r.counted() != counted {
		r.t.Errorf("%s: %d calls and %d rows counted, want %d and %d", what, r.calls, r.counted(), calls, counted)
	}
}

func (r *reading) wantError(what string, calls int, want error) {
	r.t.Helper()
	if _, err := r.scrape(); !errors.Is(err, want) {
		r.t.Errorf("%s: error %v, want %v", what, err, want)
	}
	if r.calls != calls {
		r.t.Errorf("%s: %d calls, want %d", what, r.calls, calls)
	}
}

func orders() map[string]order {
	return map[string]order{"newest first": newestFirst, "oldest first": oldestFirst, "no order": noOrder}
}

func TestCallsOfARead(t *testing.T) {
	// What a scrape costs: the first, a quiet one, one with 25 rows more. Without an
	// order, what changed is read twice. A full page may have others behind it.
	for _, tt := range []struct {
		rows  int
		calls map[order][3]int
	}{
		{0, map[order][3]int{newestFirst: {1, 1, 3}, oldestFirst: {1, 1, 4}, noOrder: {1, 1, 3 + 3}}},
		{5, map[order][3]int{newestFirst: {1, 1, 3}, oldestFirst: {1, 1, 6}, noOrder: {1, 1, 4 + 4}}},
		{10, map[order][3]int{newestFirst: {2, 1, 3}, oldestFirst: {3, 1, 5}, noOrder: {2 + 2, 1, 4 + 4}}},
		{95, map[order][3]int{newestFirst: {10, 1, 3}, oldestFirst: {11, 2, 6}, noOrder: {10 + 11, 10, 13 + 14}}},
		{100, map[order][3]int{newestFirst: {11, 1, 3}, oldestFirst: {13, 2, 5}, noOrder: {11 + 12, 10, 13 + 14}}},
	} {
		t.Run(strconv.Itoa(tt.rows), func(t *testing.T) {
			for name, o := range orders() {
				t.Run(name, func(t *testing.T) {
					r := newReading(t, o, tt.rows)
					r.want("the first read", tt.calls[o][0], tt.rows)
					r.want("a quiet read", tt.calls[o][1], tt.rows)
					r.want("another quiet read", tt.calls[o][1], tt.rows)
					r.arrive(25)
					r.want("25 more", tt.calls[o][2], tt.rows+25)
				})
			}
		})
	}
}

// A history that grew by more rows than were found has late ones further back.
func TestReadsOnForLateRows(t *testing.T) {
	for _, tt := range []struct {
		order order
		calls int
	}{{newestFirst, 6}, {oldestFirst, 7}, {noOrder, 10 + 12}} {
		r := newReading(t, tt.order, 95)
		r.want("the first read", map[order]int{newestFirst: 10, oldestFirst: 11, noOrder: 10 + 11}[tt.order], 95)
		r.arrive(1)
		for i := range 3 {
			r.arriveLate(50*time.Second + time.Duration(i))
		}
		r.want("late rows", tt.calls, 99)
	}
}

// What no total tells is found by the reads that look for late rows, once in every
// quarter of late-arrival.
func TestLooksForLateRows(t *testing.T) {
	for _, tt := range []struct {
		order                    order
		first, quiet, deep, next int
	}{{newestFirst, 11, 1, 11, 1}, {oldestFirst, 13, 2, 11, 3}} {
		r := newReading(t, tt.order, 100)
		r.want("the first read", tt.first, 100)
		r.arriveLate(50 * time.Second)
		r.history.trim(1) // which hides it from the total
		r.want("hidden", tt.quiet, 100)
		r.history.now = r.history.now.Add(15*time.Minute - 1)
		r.want("hidden still", tt.quiet, 100)
		r.history.now = r.history.now.Add(1)
		r.want("found", tt.deep, 101)
		r.want("found already", tt.quiet, 101)
		// What is older than late-arrival is not looked at.
		r.history.now = r.history.now.Add(2 * time.Hour)
		r.arrive(1)
		r.scrapes(2)
		r.history.now = r.history.now.Add(15 * time.Minute)
		r.want("late rows looked for", tt.next, 102)
	}
}

func (r *reading) scrapes(n int) {
	r.t.Helper()
	for range n {
		if _, err := r.scrape(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// A history that seemed to be in order and then is not is read to its end, and not
// trusted again until a read of the whole history found it in order.
func TestOrderContradicted(t *testing.T) {
	for _, tt := range []struct {
		order order
		back  int // calls, when the order is trusted
	}{{newestFirst, 1}, {oldestFirst, 2}} {
		r := newReading(t, tt.order, 95)
		r.want("the first read", map[order]int{newestFirst: 10, oldestFirst: 11}[tt.order], 95)
		r.want("trusted", tt.back, 95)
		// Two rows the other way round, on a page that has new rows.
		r.arrive(58)
		r.lie = func(_ int, page *Page) {
			for i, row := range page.Rows {
				if row.SerialNumber == "130" && i > 0 {
					page.Rows[i], page.Rows[i-1] = page.Rows[i-1], page.Rows[i]
				}
			}
		}
		r.scrapes(1)
		if r.counted() != 153 {
			t.Errorf("%d are counted, want 153", r.counted())
		}
		r.lie = nil
		r.want("not trusted", 16, 153)
		r.history.now = r.history.now.Add(24 * time.Hour)
		r.scrapes(1)
		r.want("trusted again", tt.back, 153)
	}
}

// Without totals all is read; a quiet read costs a call more if the last page that
// it needs is a full one.
func TestNoTotal(t *testing.T) {
	quiet := map[int]map[order]int{
		0:   {newestFirst: 1, oldestFirst: 1, noOrder: 1},
		9:   {newestFirst: 1, oldestFirst: 1, noOrder: 1},
		10:  {newestFirst: 1, oldestFirst: 3, noOrder: 2},
		95:  {newestFirst: 1, oldestFirst: 2, noOrder: 10},
		100: {newestFirst: 1, oldestFirst: 4, noOrder: 11},
	}
	for rows, calls := range quiet {
		for name, o := range orders() {
			t.Run(strconv.Itoa(rows)+" "+name, func(t *testing.T) {
				r := newReading(t, o, rows)
				r.lie = func(_ int, page *Page) { page.Total = -1 }
				r.scrapes(1)
				if r.calls > 2*(rows/10+2)+1 {
					t.Errorf("%d calls of the first read", r.calls)
				}
				r.want("a quiet read", calls[o], rows)
				if read, err := r.scrape(); err != nil || read.Entries != rows {
					t.Errorf("%d entries (%v), want the %d that came", read.Entries, err, rows)
				}
			})
		}
	}
}

func TestEndless(t *testing.T) {
	for total, pages := range map[int]int{0: maxPages, 50: 1500, -1: maxPages} {
		r := newReading(t, newestFirst, 0)
		r.lie = func(number int, page *Page) {
			page.Total = total
			page.Rows = nil
			for i := range 10 {
				n := number*10 + i
				page.Rows = append(page.Rows, Row{SerialNumber: strconv.Itoa(n), SeenTime: r.history.now.Add(-time.Duration(n) * time.Second)})
			}
		}
		r.wantError("endless", pages+1, ErrEndless)
		// Another subject's, or the same a day later, is read as ever.
		r.lie = nil
		r.arrive(5)
		r.scrapes(1)
		r.want("ended", 1, 5)
	}
}

func TestRepeatedPage(t *testing.T) {
	for name, o := range orders() {
		t.Run(name, func(t *testing.T) {
			r := newReading(t, o, 95)
			whole := r.history.ordered()
			r.lie = func(_ int, page *Page) { page.Rows = whole[:10] }
			switch o {
			case oldestFirst: // the page that should be the last is not, so that there must be others behind
				_, err := r.scrape()
				if !errors.Is(err, ErrMoved) {
					t.Errorf("error %v, want ErrMoved", err)
				}
			default:
				r.wantError("repeated", 3*maxPasses, ErrMoved)
			}
			r.lie = nil
			r.scrapes(1)
			if r.counted() != 95 {
				t.Errorf("%d are counted, want 95", r.counted())
			}
		})
	}
}

// A total that is wrong hides no row from a first read: it is found out, or
// all rows are counted.
func TestTotalsThatLie(t *testing.T) {
	for _, rows := range []int{95, 100} {
		for _, lie := range []int{-100, -95, -30, -20, -10, -6, -5, -1, 1, 4, 5, 6, 10, 20, 1000} {
			for name, o := range orders() {
				t.Run(name, func(t *testing.T) {
					r := newReading(t, o, rows)
					r.lie = func(_ int, page *Page) { page.Total = max(0, page.Total+lie) }
					_, err := r.scrape()
					switch {
					case err == nil && r.counted() != rows:
						t.Errorf("%d rows, a total that is wrong by %d: %d are counted without an error", rows, lie, r.counted())
					case err != nil && !errors.Is(err, ErrMoved) && !errors.Is(err, ErrEndless):
						t.Errorf("%d rows, a total that is wrong by %d: %v", rows, lie, err)
					}
					// Once it is right again, all is.
					r.lie = nil
					r.scrapes(1)
					if r.counted() != rows {
						t.Errorf("%d rows, a total that was wrong by %d: %d are counted", rows, lie, r.counted())
					}
				})
			}
		}
	}
}

// A read ends although the last page comes again for each page behind it, and a
// row pushes others while it is read.
func TestRepeatedPageBehindRowsThatMove(t *testing.T) {
	for name, o := range orders() {
		for at := 2; at <= 10; at++ {
			for _, rows := range []int{38, 39, 40} {
				for _, future := range []time.Duration{0, time.Minute} {
					for _, tells := range []bool{true, false} {
						r := newReading(t, o, 0)
						r.history.end, r.history.mostCalls = endRepeats, 1000
						if !tells {
							r.history.total = func(int, int) int { return -1 }
						}
						for range rows {
							r.history.now = r.history.now.Add(time.Second)
							r.arriveLate(-future)
						}
						r.history.onPage = func(call int) error {
							if call == at {
								r.arriveLate(3500*time.Millisecond - future)
								r.arriveLate(37500*time.Millisecond - future)
							}
							return nil
						}
						if _, err := r.scrape(); err != nil {
							t.Errorf("%s, %d rows, moves at call %d, of the future by %s, tells its total: %t: %v", name, rows, at, future, tells, err)
						}
					}
				}
			}
		}
	}
}

// Old rows that are dropped while pages are read hide no other.
func TestShrinksWhileRead(t *testing.T) {
	for at := 2; at <= 10; at++ {
		for name, o := range orders() {
			t.Run(name, func(t *testing.T) {
				r := newReading(t, o, 95)
				r.history.onPage = func(call int) error {
					if call == at {
						r.history.trim(1)
					}
					return nil
				}
				if _, err := r.scrape(); err != nil {
					t.Fatal(err)
				}
				if most := map[order]int{newestFirst: 10, oldestFirst: 12, noOrder: 10 + 11 + 16}[o]; r.calls > most {
					t.Errorf("at call %d: %d calls, want at most %d", at, r.calls, most)
				}
				for _, row := range r.history.rows {
					if a, id := r.ledger.shown.accounts["s"], row.identity(); !a.marked([6]byte(id[:6]), instantOf(row.SeenTime)) {
						t.Errorf("at call %d: row %s was there all the time and is not counted", at, row.SerialNumber)
					}
				}
			})
		}
	}
	// One that goes on shrinking has no order in which it can be read.
	r := newReading(t, noOrder, 95)
	r.history.onPage = func(int) error { r.history.trim(1); return nil }
	if _, err := r.scrape(); !errors.Is(err, ErrMoved) && len(r.history.rows) > 0 {
		t.Errorf("shrinks at each page: error %v, want ErrMoved", err)
	}
}

func TestPageThatFails(t *testing.T) {
	broken := errors.New("broken")
	for name, o := range orders() {
		t.Run(name, func(t *testing.T) {
			for at := 1; at <= 10; at++ {
				r := newReading(t, o, 95)
				r.history.onPage = func(call int) error {
					if call == at {
						return broken
					}
					return nil
				}
				r.wantError("broken", at, broken)
				r.history.onPage = nil
				r.scrapes(1)
				if r.counted() != 95 {
					t.Errorf("%d are counted once it works, want 95", r.counted())
				}
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	for name, o := range orders() {
		t.Run(name, func(t *testing.T) {
			r := newReading(t, o, 95)
			ctx, cancel := context.WithCancel(t.Context())
			r.history.onPage = func(call int) error {
				if call == 3 {
					cancel()
				}
				return nil
			}
			if _, err := r.ledger.Plan("s").Read(ctx, r, 10); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want that it is cancelled", err)
			}
			if r.calls != 4 {
				t.Errorf("%d calls, want 4: none after the one that was cancelled", r.calls)
			}
		})
	}
}

// Rows that cannot be counted are told once each, and confuse no order.
func TestUncountedRowsAmongOthers(t *testing.T) {
	for _, rows := range []int{7, 50, 57} {
		for name, o := range orders() {
			t.Run(name, func(t *testing.T) {
				r := newReading(t, o, rows)
				ordered := r.history.ordered()
				// On each page one without a time, and one from the future.
				var mixed []Row
				for i, row := range ordered {
					if i%8 == 0 {
						mixed = append(mixed, Row{SerialNumber: "no time " + strconv.Itoa(i)},
							Row{SerialNumber: "future " + strconv.Itoa(i), SeenTime: r.history.now.Add(time.Hour)})
					}
					mixed = append(mixed, row)
				}
				r.lie = func(number int, page *Page) {
					page.Rows = mixed[min(number*10, len(mixed)):min(number*10+10, len(mixed))]
					page.Total, page.Size = len(mixed), 10
				}
				read, err := r.scrape()
				if err != nil {
					t.Fatal(err)
				}
				each := (rows + 7) / 8
				if read.Uncounted != (Uncounted{NoTime: each, FutureTime: each}) || r.counted() != rows || read.Entries != len(mixed) {
					t.Errorf("%d rows: %+v, %d counted, %d entries, want %d of each, %d and %d", rows, read.Uncounted, r.counted(), read.Entries, each, rows, len(mixed))
				}
				r.scrapes(1)
				if r.counted() != rows {
					t.Errorf("%d are counted after another read, want %d", r.counted(), rows)
				}
			})
		}
	}
}

// Rows that cannot be told apart are one.
func TestRowsThatAreThereTwice(t *testing.T) {
	for name, o := range orders() {
		t.Run(name, func(t *testing.T) {
			r := newReading(t, o, 55)
			r.history.add(r.history.rows[:40]...)
			calls := map[order]int{newestFirst: 130, oldestFirst: 11, noOrder: 121}[o] // nine passes make it sure
			r.want("the first read", calls, 55)
			r.want("again", map[order]int{newestFirst: 1, oldestFirst: 2, noOrder: 68}[o], 55)
		})
	}
}

// All rows at one time have no order, however many pages there are.
func TestRowsOfOneTime(t *testing.T) {
	r := newReading(t, newestFirst, 1)
	for range 94 {
		r.arriveLate(0)
	}
	r.want("the first read", 10+11, 95)
	r.want("again", 10, 95)
}

// A page that has as many rows as its total tells is no word about totals, also
// from a server that gives more rows than were asked for, and while rows arrive.
func TestTotalsOfThePageAreNotBelieved(t *testing.T) {
	for name, o := range orders() {
		for at := 2; at <= 6; at++ {
			r := newReading(t, o, 4)
			r.ledger.server = &Server{}
			r.history.clamp, r.history.ignoresSize, r.history.end = 5, true, endRefused
			r.history.total = func(_, n int) int { return n }
			r.history.onPage = func(call int) error {
				if call == at {
					r.arrive(1)
				}
				return nil
			}
			if _, err := r.scrape(); err != nil {
				t.Fatal(err)
			}
			if !r.ledger.server.learning() || r.ledger.server.same > 1 {
				t.Errorf("%s, call %d: totals are believed after %d ends", name, at, r.ledger.server.same)
			}
			r.history.onPage = nil
			r.arrive(6)
			r.scrapes(1)
			if r.counted() != r.added {
				t.Errorf("%s, call %d: %d of %d rows are counted", name, at, r.counted(), r.added)
			}
		}
	}
}

// A total of the page, told on the last of several pages, is always as much too
// small until there is another page: that is no word about totals either.
func TestTotalsOfTheLastPageAreNotBelieved(t *testing.T) {
	for name, o := range orders() {
		for _, hides := range []bool{false, true} {
			r := newReading(t, o, 22)
			r.ledger.server = &Server{}
			r.history.hidesSize = hides
			r.history.total = func(_, n int) int { return n }
			for range 40 {
				r.scrapes(1)
				if r.counted() != r.added {
					t.Fatalf("%s: %d of %d rows are counted", name, r.counted(), r.added)
				}
				r.arrive(1)
			}
		}
	}
}

// What a history had before is no reason to doubt that its last page comes again.
func TestAHistoryThatBecameShortRepeatsItsPage(t *testing.T) {
	for name, o := range orders() {
		r := newReading(t, o, 95)
		r.history.end = endRepeats
		r.history.total = func(int, int) int { return -1 }
		r.scrapes(1)
		r.history.trim(89)
		r.arrive(2)
		if _, err := r.scrape(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if r.counted() != 97 {
			t.Errorf("%s: %d of 97 rows are counted", name, r.counted())
		}
	}
}
