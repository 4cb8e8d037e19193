package ledger

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"
)

// lacking are answers that lack rows of a page, as a gateway may give for a moment in
// place of what was asked for.
func lacking() map[string]func(*Page) error {
	return map[string]func(*Page) error{
		"refused": func(*Page) error { return ErrPastEnd },
		"empty":   func(p *Page) error { p.Rows = nil; return nil },
		"a row of nothing": func(p *Page) error {
			*p = Page{Rows: make([]Row, 1), Total: -1, Clock: p.Clock}
			return nil
		},
		"rows of nothing": func(p *Page) error { p.Rows = make([]Row, 2); return nil },
		"half of it":      func(p *Page) error { p.Rows = p.Rows[:len(p.Rows)/2]; return nil },
	}
}

// Some calls in a row lack rows that are there, at any place of a read. If it has no
// error, every row is counted; and the next read counts them all.
func TestPagesThatLackRows(t *testing.T) {
	for name, o := range orders() {
		for what, answer := range lacking() {
			for _, known := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, known %t", name, what, known), func(t *testing.T) {
					for at := 1; at <= 14; at++ {
						for long := 1; long <= 3; long++ {
							lackAt(t, o, known, 65, at, long, answer)
							lackAt(t, o, known, 66, at, long, answer) // once known, its last page is full
						}
					}
				})
			}
		}
	}
}

func lackAt(t *testing.T, o order, known bool, rows, at, long int, answer func(*Page) error) {
	t.Helper()
	r := newReading(t, o, rows)
	if !known {
		r.ledger.server = &Server{}
	} else {
		r.want("the first read", map[order]int{newestFirst: 7, oldestFirst: 8, noOrder: 7 + 8}[o], rows)
		r.arrive(24)
	}
	r.answer = func(number int, page *Page) error {
		// A first page that is empty or refused is that of a history without rows.
		if number == 0 && r.calls == 1 || r.calls < at || r.calls >= at+long || len(page.Rows) == 0 {
			return nil
		}
		return answer(page)
	}
	if _, err := r.scrape(); err == nil && r.counted() != r.added {
		t.Errorf("calls %d to %d: %d of %d rows are counted without an error", at, at+long-1, r.counted(), r.added)
	}
	r.answer = nil
	if _, err := r.scrape(); err != nil || r.counted() != r.added {
		t.Errorf("calls %d to %d: %d of %d rows are counted by the next read, error %v", at, at+long-1, r.counted(), r.added, err)
	}
	if r.ledger.server.changes > 0 {
		t.Errorf("calls %d to %d: the totals are held for wrong ones", at, at+long-1)
	}
}

// Without totals a short page with others behind it lacks rows, also if some passes lack
// the same.
func TestShortPagesWithoutTotals(t *testing.T) {
	for name, o := range orders() {
		for _, what := range []string{"rows of nothing", "half of it", "one row"} {
			for place := 3; place < 50; place += 6 { // the last pages may be as short as they like
				for times := 1; times <= minAgreeing; times++ {
					r := newReading(t, o, 65)
					r.ledger.server = &Server{largest: 10}
					r.history.total = func(int, int) int { return -1 }
					lacks, lacking := times, lacking()[what]
					of := func(row Row) bool { return row == r.history.ordered()[place] }
					r.answer = func(_ int, page *Page) error {
						if lacks == 0 || !slices.ContainsFunc(page.Rows, of) {
							return nil
						}
						lacks--
						if what == "one row" {
							page.Rows = slices.DeleteFunc(page.Rows, of)
							return nil
						}
						return lacking(page)
					}
					if _, err := r.scrape(); err == nil && r.counted() != r.added {
						t.Errorf("%s, %s at place %d, %d times: %d of %d rows are counted without an error", name, what, place, times, r.counted(), r.added)
					}
				}
			}
		}
	}
}

// A server whose way it is to leave out rows of pages, or to tell a total that is far
// too high, is read whole nevertheless, once its passes agree.
func TestLackingIsTheWayOfTheServer(t *testing.T) {
	for name, o := range orders() {
		for what, way := range map[string]func(number int, page *Page){
			"short pages": func(_ int, page *Page) {
				hidden := func(r Row) bool { serial, _ := strconv.Atoi(r.SerialNumber); return serial%10 > 7 }
				page.Rows = slices.DeleteFunc(slices.Clone(page.Rows), hidden)
				page.Total = -1
			},
			"a total far too high": func(_ int, page *Page) { page.Total += 40 },
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				r := newReading(t, o, 65)
				r.ledger.server = &Server{}
				r.lie = way
				want := map[string]int{"short pages": 65 - 2*6, "a total far too high": 65}[what]
				for range 3 {
					if _, err := r.scrape(); err != nil || r.counted() != want {
						t.Errorf("%d rows are counted, want %d; error %v", r.counted(), want, err)
					}
				}
			})
		}
	}
}

// server gives a page of so many rows.
type server func(number, size int) Page

func (s server) Page(_ context.Context, number, size int) (Page, error) { return s(number, size), nil }

// A last page that is repeated for ever ends a history as well if none of its rows can
// be counted.
func TestRepeatedPageOfUncountableRows(t *testing.T) {
	for name, o := range orders() {
		for _, uncountable := range []int{6, 10, 26, 30} {
			t.Run(fmt.Sprintf("%s, %d rows", name, uncountable), func(t *testing.T) {
				h := &history{order: o, now: epoch().Add(time.Hour)}
				h.add(seconds(30, "CN=A", epoch())...)
				rows := h.ordered()
				for i := range uncountable {
					rows = append(rows, Row{SerialNumber: strconv.Itoa(i)})
				}
				calls := 0
				read, err := ledgerOf(h, time.Hour).Plan("s").Read(t.Context(), server(func(number, size int) Page {
					calls++
					size = min(size, 10)
					from := min(number, (len(rows)-1)/size) * size
					return Page{Rows: rows[from:min(from+size, len(rows))], Total: -1, Clock: h.now}
				}), 10)
				if err != nil || read.New() != 30 || read.Uncounted.NoTime != uncountable || calls > 30 {
					t.Errorf("%+v after %d calls, error %v", read, calls, err)
				}
			})
		}
	}
}
