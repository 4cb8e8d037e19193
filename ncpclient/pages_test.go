package ncpclient

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ncp_exporter/ncpclient/ncptest"
)

// put makes n subjects.
func put(sim *ncptest.Server, n int) {
	for i := range n {
		sim.PutSubject(ncptest.Subject{SubjectID: fmt.Sprintf("s-%d", i), Enabled: true})
	}
}

// history gives the subject s-1 n rows, a second apart until now.
func history(sim *ncptest.Server, n int) {
	rows := make([]ncptest.Credential, n)
	for i := range rows {
		rows[i] = ncptest.NewCredential(time.Now().Add(time.Duration(i-n)*time.Second), "serial-"+strconv.Itoa(i), i%5 == 0)
	}
	sim.AddCredentials("s-1", rows...)
}

// all walks to the end and gives the rows of all pages.
func all[T any](pages iter.Seq2[Page[T], error]) (rows []T, err error) {
	for page, err := range pages {
		if err != nil {
			return rows, err
		}
		rows = append(rows, page.Rows...)
	}
	return rows, nil
}

// histories walks through a history, once.
func histories(ctx context.Context, api *ExternalAccess, subjectID string, size int) iter.Seq2[Page[Credential], error] {
	return walk(size, func(number, size int) (Page[Credential], error) {
		page, err := api.CredentialsPage(ctx, subjectID, number, size)
		return page.Page, err
	})
}

func serials(rows []Credential) []string {
	all := make([]string, 0, len(rows))
	for _, row := range rows {
		all = append(all, row.SerialNumber)
	}
	return all
}

func TestSubjectsOverPages(t *testing.T) {
	t.Parallel()
	for n, requests := range map[int]int{0: 1, 1: 1, 19: 1, 20: 1, 21: 2, 40: 2, 45: 3} {
		sim := simulated(t, ncptest.Config{})
		put(sim, n)
		list, err := externalAccessAt(t, sim.URL()).Subjects(t.Context(), 20)
		rows := list.Rows
		if err != nil || len(rows) != n || sim.Count(ncptest.Subjects) != requests {
			t.Errorf("%d of %d subjects in %d requests, want %d: %v", len(rows), n, sim.Count(ncptest.Subjects), requests, err)
		}
		for i, row := range rows {
			if row.ID != fmt.Sprintf("s-%d", i) {
				t.Errorf("subject %d is %q", i, row.ID)
			}
		}
	}
}

func TestHistoryOverPages(t *testing.T) {
	t.Parallel()
	for _, order := range []ncptest.Order{ncptest.NewestFirst, ncptest.OldestFirst, ncptest.NoOrder} {
		for name, tt := range map[string]struct {
			clamp, size, requests int
		}{
			"of the size asked for": {0, 20, 13},
			"clamped":               {20, 100, 13},
			"in one page":           {0, 1000, 1},
			"row by row":            {0, 1, 250},
		} {
			t.Run(order.String()+" "+name, func(t *testing.T) {
				t.Parallel()
				sim := simulated(t, ncptest.Config{Order: order, MaxPageSize: tt.clamp})
				history(sim, 250)
				rows, err := all(histories(t.Context(), externalAccessAt(t, sim.URL()), "s-1", tt.size))
				if err != nil || len(rows) != 250 || sim.Count(ncptest.Credentials) != tt.requests {
					t.Errorf("%d rows in %d requests: %v", len(rows), sim.Count(ncptest.Credentials), err)
				}
				got := serials(rows)
				slices.Sort(got)
				if len(slices.Compact(got)) != 250 {
					t.Error("a row came twice, or not at all")
				}
				for i, r := range sim.Requests() {
					if want := tt.size; r.Page != i || r.Size != want && (i == 0 || r.Size != tt.clamp) {
						t.Errorf("request %d: page %d of size %d", i, r.Page, r.Size)
					}
				}
			})
		}
	}
}

// list is a list behind a server that has its own idea of pages.
type list struct {
	rows  int
	page  func(number, size int) (from, to int)
	total func(number int) string // JSON members about the list, such as totalElements
}

func (l list) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	number, _ := strconv.Atoi(r.URL.Query().Get("page"))
	size, _ := strconv.Atoi(r.URL.Query().Get("size"))
	from, to := l.page(number, size)
	from, to = min(from, l.rows), min(to, l.rows)
	rows := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		rows = append(rows, fmt.Sprintf(`{"serialNumber":"serial-%d"}`, i))
	}
	_, _ = fmt.Fprintf(w, `{%s"content":[%s]}`, l.total(number), strings.Join(rows, ","))
}

func ordinary(number, size int) (int, int) { return number * size, (number + 1) * size }

func said(total int) func(int) string {
	return func(int) string { return fmt.Sprintf(`"totalElements":%d,`, total) }
}

func TestOddLists(t *testing.T) {
	t.Parallel()
	clamped := func(most int) func(int, int) (int, int) {
		return func(number, size int) (int, int) { return ordinary(number, min(size, most)) }
	}
	for name, tt := range map[string]struct {
		list list
		rows int // -1: some
		err  error
	}{
		"clamped, unsaid":            {list{250, clamped(20), said(250)}, 250, nil},
		"clamped to one":             {list{30, clamped(1), said(30)}, 30, nil},
		"clamped, said wrong":        {list{250, clamped(20), func(int) string { return `"totalElements":250,"pageSize":100,` }}, 250, nil},
		"total missing":              {list{250, ordinary, func(int) string { return "" }}, 250, nil},
		"total missing, whole pages": {list{200, ordinary, func(int) string { return "" }}, 200, nil},
		"total too high":             {list{250, ordinary, said(251)}, 250, errListChanged},
		"total far too high":         {list{250, ordinary, said(1 << 30)}, 250, errListChanged},
		"total too low":              {list{250, ordinary, said(245)}, 250, nil},
		"total far too low":          {list{25000, ordinary, said(1)}, -1, ErrEndless},
		"total falls":                {list{250, ordinary, func(n int) string { return said(250 - n)(n) }}, 100, errListChanged},
		"total vanishes":             {list{250, ordinary, func(n int) string { return []string{`"totalElements":250,`, "", ""}[n] }}, 100, errListChanged},
		"always the first page":      {list{250, func(_, size int) (int, int) { return 0, size }, said(250)}, 100, errListChanged},
		"the last page again":        {list{250, func(n, size int) (int, int) { return ordinary(min(n, 1), size) }, said(250)}, 200, errListChanged},
		"two pages in turn":          {list{250, func(n, size int) (int, int) { return ordinary(n%2, size) }, said(250)}, -1, ErrEndless},
		"no end":                     {list{1 << 30, ordinary, func(n int) string { return said(100 * (n + 2))(n) }}, -1, ErrEndless},
		"an empty page in between":   {list{250, func(n, size int) (int, int) { return ordinary(n*(3-2*min(n, 1)), size*(1-n%2)) }, said(250)}, -1, errListChanged},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rows, err := all(histories(t.Context(), externalAccessAt(t, served(t, tt.list)), "x", 100))
			if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Errorf("%v, want %v", err, tt.err)
			}
			if tt.rows >= 0 && len(rows) != tt.rows {
				t.Errorf("%d rows, want %d", len(rows), tt.rows)
			}
			if tt.err == nil {
				got := serials(rows)
				slices.Sort(got)
				if len(slices.Compact(got)) != tt.rows {
					t.Error("a row came twice, or not at all")
				}
			}
		})
	}
}

func TestLyingServers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg  ncptest.Config
		err  error
		most int // requests
	}{
		"endless":   {ncptest.Config{EndlessPages: true}, ErrEndless, 20},
		"repeated":  {ncptest.Config{RepeatPage: true}, errListChanged, 2},
		"high":      {ncptest.Config{LyingTotal: 1000}, errListChanged, 14},
		"low":       {ncptest.Config{LyingTotal: -7}, nil, 13},
		"envelopes": {ncptest.Config{EnvelopeOnPage: true}, ErrRefused, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := simulated(t, tt.cfg)
			history(sim, 250)
			rows, err := all(histories(t.Context(), externalAccessAt(t, sim.URL()), "s-1", 20))
			if !errors.Is(err, tt.err) || tt.err == nil && (err != nil || len(rows) != 250) {
				t.Errorf("%d rows, %v, want %v", len(rows), err, tt.err)
			}
			if got := sim.Count(ncptest.Credentials); got > tt.most {
				t.Errorf("%d requests, want at most %d", got, tt.most)
			}
		})
	}
}

// between lets something happen before the answer to one page.
func between(sim *ncptest.Server, page int, happens func()) {
	var once atomic.Bool
	sim.OnRequest(func(r ncptest.Request) {
		if r.Page == page && once.CompareAndSwap(false, true) {
			happens()
		}
	})
}

func TestListThatShrinksWhileItIsRead(t *testing.T) {
	t.Parallel()
	for _, order := range []ncptest.Order{ncptest.NewestFirst, ncptest.OldestFirst, ncptest.NoOrder} {
		sim := simulated(t, ncptest.Config{Order: order})
		history(sim, 100)
		between(sim, 2, func() { sim.TrimCredentials("s-1", 70) })
		rows, err := all(histories(t.Context(), externalAccessAt(t, sim.URL()), "s-1", 20))
		if !errors.Is(err, errListChanged) || len(rows) != 40 {
			t.Errorf("%s: %d rows, %v", order, len(rows), err)
		}
	}
}

// Rows that come while a list is read push others to later pages, and hide none
// that were there before: even when they push by exactly a page.
func TestListThatGrowsWhileItIsRead(t *testing.T) {
	t.Parallel()
	for _, order := range []ncptest.Order{ncptest.NewestFirst, ncptest.OldestFirst} {
		for _, more := range []int{1, 19, 20, 21, 60} {
			t.Run(fmt.Sprint(order, " by ", more), func(t *testing.T) {
				t.Parallel()
				sim := simulated(t, ncptest.Config{Order: order})
				history(sim, 100)
				between(sim, 2, func() {
					for i := range more {
						sim.AddCredentials("s-1", ncptest.NewCredential(time.Now().Add(time.Duration(i)*time.Millisecond), "new-"+strconv.Itoa(i), false))
					}
				})
				rows, err := all(histories(t.Context(), externalAccessAt(t, sim.URL()), "s-1", 20))
				if err != nil {
					t.Fatal(err)
				}
				seen := make(map[string]bool)
				for _, serial := range serials(rows) {
					seen[serial] = true
				}
				for i := range 100 {
					if !seen["serial-"+strconv.Itoa(i)] {
						t.Errorf("row %d was there from the beginning and did not come", i)
					}
				}
			})
		}
	}
}

func TestFailureOnALaterPage(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{})
	history(sim, 100)
	sim.SetFault(ncptest.ForPage(ncptest.Credentials, 3, ncptest.ReturnCode(200, "9999", "x")))
	pages := 0
	var last error
	for page, err := range histories(t.Context(), externalAccessAt(t, sim.URL()), "s-1", 20) {
		if last = err; err == nil {
			pages++
		} else if len(page.Rows) != 0 {
			t.Errorf("an error and %d rows", len(page.Rows))
		}
	}
	if wantReason(t, last, ErrRefused); pages != 3 || sim.Count(ncptest.Credentials) != 4 {
		t.Errorf("%d pages in %d requests", pages, sim.Count(ncptest.Credentials))
	}
}

func TestWalkCanBeLeft(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{})
	history(sim, 100)
	for page, err := range histories(t.Context(), externalAccessAt(t, sim.URL()), "s-1", 20) {
		if err != nil || len(page.Rows) != 20 {
			t.Errorf("%d rows, %v", len(page.Rows), err)
		}
		break
	}
	if got := sim.Count(ncptest.Credentials); got != 1 {
		t.Errorf("%d requests", got)
	}
}

func TestListWithoutTotalAndEndIsBounded(t *testing.T) {
	t.Parallel()
	asked := 0
	_, err := all(walk(1, func(number, size int) (Page[int], error) {
		asked++
		return Page[int]{Size: size, Total: unknownCount, Rows: []int{number}}, nil
	}))
	if !errors.Is(err, ErrEndless) || asked > maxUnknownPages+2 {
		t.Errorf("%d pages: %v", asked, err)
	}
}

// Whatever the length, the size and the server's clamp: all rows, once, in order.
func TestPagesSeeEachRowOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(0, 300).Draw(t, "total")
		clamp := rapid.IntRange(1, 120).Draw(t, "clamp")
		saysTotal := rapid.Bool().Draw(t, "says total")
		rows, err := all(walk(rapid.IntRange(1, 120).Draw(t, "size"), func(number, size int) (Page[int], error) {
			size = min(size, clamp)
			page := Page[int]{Size: size, Total: unknownCount}
			if saysTotal {
				page.Total = total
			}
			for i := number * size; i < min((number+1)*size, total); i++ {
				page.Rows = append(page.Rows, i)
			}
			return page, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		want := make([]int, total)
		for i := range want {
			want[i] = i
		}
		if diff := cmp.Diff(want, append([]int{}, rows...)); diff != "" {
			t.Fatal(diff)
		}
	})
}
