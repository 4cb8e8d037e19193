package ncpclient

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

// historyReader reads a history as a list. Its rows have a serial number each.
func historyReader(t *testing.T, api *ExternalAccess, subjectID string) func(size int) (List[Credential], error) {
	t.Helper()
	r := &listReader[Credential]{pager: api.pages, now: time.Now, key: func(c Credential) string { return c.SerialNumber }}
	return func(size int) (List[Credential], error) {
		return r.read(size, func(number, size int) (Page[Credential], error) {
			page, err := api.CredentialsPage(t.Context(), subjectID, number, size)
			return page.Page, err
		})
	}
}

func serials(rows []Credential) []string {
	all := make([]string, 0, len(rows))
	for _, row := range rows {
		all = append(all, row.SerialNumber)
	}
	return all
}

// The first read looks behind a page that may not be the last. While nothing
// changes, no other read does.
func TestSubjectsOverPages(t *testing.T) {
	t.Parallel()
	for n, requests := range map[int][2]int{0: {1, 1}, 1: {2, 1}, 19: {2, 1}, 20: {2, 1}, 21: {2, 2}, 40: {3, 2}, 45: {3, 3}} {
		sim := simulated(t, ncptest.Config{})
		put(sim, n)
		api := externalAccessAt(t, sim.URL())
		for _, want := range requests {
			sim.ResetStats()
			list, err := api.Subjects(t.Context(), 20)
			if err != nil || list.Doubt != nil || len(list.Rows) != n || sim.Count(ncptest.Subjects) != want {
				t.Errorf("%d of %d subjects in %d requests, want %d: %v, %v", len(list.Rows), n, sim.Count(ncptest.Subjects), want, err, list.Doubt)
			}
			for i, row := range list.Rows {
				if row.ID != fmt.Sprintf("s-%d", i) {
					t.Errorf("subject %d is %q", i, row.ID)
				}
			}
		}
	}
}

func TestHistoryOverPages(t *testing.T) {
	t.Parallel()
	for _, order := range []ncptest.Order{ncptest.NewestFirst, ncptest.OldestFirst, ncptest.NoOrder} {
		for name, tt := range map[string]struct {
			clamp, size int
			requests    [2]int
		}{
			"of the size asked for": {0, 20, [2]int{13, 13}},
			"clamped":               {20, 100, [2]int{13, 13}},
			"in one page":           {0, 1000, [2]int{2, 1}},
			"row by row":            {0, 1, [2]int{251, 250}},
		} {
			t.Run(order.String()+" "+name, func(t *testing.T) {
				t.Parallel()
				sim := simulated(t, ncptest.Config{Order: order, MaxPageSize: tt.clamp})
				history(sim, 250)
				read := historyReader(t, externalAccessAt(t, sim.URL()), "s-1")
				for _, want := range tt.requests {
					sim.ResetStats()
					list, err := read(tt.size)
					if err != nil || list.Doubt != nil || len(list.Rows) != 250 || sim.Count(ncptest.Credentials) != want {
						t.Errorf("%d rows in %d requests, want %d: %v, %v", len(list.Rows), sim.Count(ncptest.Credentials), want, err, list.Doubt)
					}
					got := serials(list.Rows)
					slices.Sort(got)
					if len(slices.Compact(got)) != 250 {
						t.Error("a row came twice, or not at all")
					}
					for i, r := range sim.Requests() {
						if r.Page != i || r.Size != tt.size && (i == 0 || r.Size != min(250, tt.clamp+250*max(0, 1-tt.clamp))) {
							t.Errorf("request %d: page %d of size %d", i, r.Page, r.Size)
						}
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

// What a server says of its list is no reason to fail, and none to take a part of it
// for all.
func TestOddLists(t *testing.T) {
	t.Parallel()
	clamped := func(most int) func(int, int) (int, int) {
		return func(number, size int) (int, int) { return ordinary(number, min(size, most)) }
	}
	const sure, thirdTime, never = 1, quirkTimes, 0 // the read from which on there is no doubt
	for name, tt := range map[string]struct {
		list  list
		rows  int
		sure  int
		quirk string
	}{
		"clamped, unsaid":            {list{250, clamped(20), said(250)}, 250, sure, "pages have 20 rows at most"},
		"clamped to one":             {list{30, clamped(1), said(30)}, 30, sure, "pages have 1 rows at most"},
		"clamped, said wrong":        {list{250, clamped(20), func(int) string { return `"totalElements":250,"pageSize":100,` }}, 250, sure, "pages have 20"},
		"clamped, total of the page": {list{60, clamped(20), said(20)}, 60, sure, "the total is the number of rows of the page"},
		"total of the page":          {list{250, ordinary, func(n int) string { return said(min(100, 250-100*n))(n) }}, 250, sure, "the total is the number of rows of the page"},
		"total missing":              {list{250, ordinary, func(int) string { return "" }}, 250, sure, ""},
		"total missing, whole pages": {list{200, ordinary, func(int) string { return "" }}, 200, sure, ""},
		"total too high":             {list{250, ordinary, said(251)}, 250, sure, "the total is 1 more"},
		"total far too high":         {list{250, ordinary, said(1 << 30)}, 250, thirdTime, "more than the rows"},
		"total too low":              {list{250, ordinary, said(245)}, 250, sure, "the total is 5 less"},
		"total far too low":          {list{25000, ordinary, said(1)}, 25000, sure, "the total is 24999 less"},
		"total falls":                {list{250, ordinary, func(n int) string { return said(250 - n)(n) }}, 250, sure, ""},
		"total vanishes":             {list{250, ordinary, func(n int) string { return []string{`"totalElements":250,`, "", "", ""}[n] }}, 250, sure, ""},
		"the last page again":        {list{200, func(n, size int) (int, int) { return ordinary(min(n, 1), size) }, said(200)}, 200, sure, ""},
		"again, and a page is less":  {list{200, func(n, size int) (int, int) { return ordinary(min(n, 1), size) }, said(300)}, 200, thirdTime, "the total is 100 more"},
		"always the first page":      {list{250, func(_, size int) (int, int) { return 0, size }, said(250)}, 100, never, "the total is 150 more"},
		"two pages in turn":          {list{250, func(n, size int) (int, int) { return ordinary(n%2, size) }, said(250)}, 200, 2, ""},
		"an empty page in between":   {list{250, func(n, size int) (int, int) { return ordinary(n*(3-2*min(n, 1)), size*(1-n%2)) }, said(250)}, 100, never, "the total is 150 more"},
		"no rows, and a total":       {list{0, ordinary, said(3)}, 0, never, "the total is 3 more"},
		"no rows, and a total of 1":  {list{0, ordinary, said(1)}, 0, thirdTime, "the total is 1 more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := externalAccessAt(t, served(t, tt.list))
			r := &listReader[Credential]{pager: api.pages, now: time.Now, key: func(c Credential) string { return c.SerialNumber }}
			for n := 1; n <= quirkTimes+1; n++ {
				list, err := r.read(100, func(number, size int) (Page[Credential], error) {
					page, err := api.CredentialsPage(t.Context(), "x", number, size)
					return page.Page, err
				})
				if err != nil || len(list.Rows) != tt.rows || (list.Doubt == nil) != (tt.sure != never && n >= tt.sure) {
					t.Errorf("read %d: %d rows, want %d; %v, %v", n, len(list.Rows), tt.rows, list.Doubt, err)
				}
				got := serials(list.Rows)
				slices.Sort(got)
				if len(slices.Compact(got)) != tt.rows {
					t.Error("a row came twice")
				}
			}
			said := strings.Join(r.said(), "; ")
			if !strings.Contains(said, tt.quirk) || tt.quirk == "" && said != "" {
				t.Errorf("quirks: %q, want %q", said, tt.quirk)
			}
		})
	}
}

// A list without an end is bounded, also one that has always a page more.
func TestEndlessLists(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		total func(number int) string
		most  int
	}{
		"always a page more": {func(n int) string { return said(100 * (n + 2))(n) }, 200},
		"without a total":    {func(int) string { return "" }, maxListRows/100 + 2},
	} {
		server := list{1 << 30, ordinary, tt.total}
		asked := 0
		r := &listReader[int]{pager: &pager{}, now: time.Now, key: strconv.Itoa}
		_, err := r.read(100, func(number, size int) (Page[int], error) {
			asked++
			from, to := server.page(number, size)
			page := Page[int]{Asked: size, Total: unknownCount}
			if tt.total(0) != "" {
				page.Total = 100 * (number + 2)
			}
			for i := from; i < to; i++ {
				page.Rows = append(page.Rows, i)
			}
			return page, nil
		})
		if !errors.Is(err, ErrEndless) || asked > tt.most {
			t.Errorf("%s: %d pages: %v", name, asked, err)
		}
	}
}

// A size that the server makes smaller while the list is read leaves no row out.
func TestPagesThatBecomeSmaller(t *testing.T) {
	t.Parallel()
	for _, totals := range []func(int) string{said(250), func(int) string { return "" }} {
		var api *ExternalAccess
		calls := 0
		l := list{250, nil, totals}
		l.page = func(number, size int) (int, int) {
			if calls++; calls > 2 {
				size = min(size, 20)
			}
			return ordinary(number, size)
		}
		api = externalAccessAt(t, served(t, l))
		read := historyReader(t, api, "x")
		for range 2 {
			list, err := read(100)
			if err != nil || len(list.Rows) != 250 && totals(0) != "" {
				t.Errorf("%d rows, %v, %v", len(list.Rows), err, list.Doubt)
			}
		}
	}
}

func TestLyingServers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg   ncptest.Config
		err   error
		rows  int
		doubt bool
		most  int // requests
	}{
		"endless":   {ncptest.Config{EndlessPages: true}, ErrEndless, 0, false, 130},
		"repeated":  {ncptest.Config{RepeatPage: true}, nil, 20, true, 3},
		"high":      {ncptest.Config{LyingTotal: 1000}, nil, 250, true, 14},
		"low":       {ncptest.Config{LyingTotal: -7}, nil, 250, false, 13},
		"envelopes": {ncptest.Config{EnvelopeOnPage: true}, ErrRefused, 0, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := simulated(t, tt.cfg)
			history(sim, 250)
			list, err := historyReader(t, externalAccessAt(t, sim.URL()), "s-1")(20)
			if !errors.Is(err, tt.err) || len(list.Rows) != tt.rows || (list.Doubt != nil) != tt.doubt {
				t.Errorf("%d rows, want %d; %v; %v, want %v", len(list.Rows), tt.rows, list.Doubt, err, tt.err)
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

// Rows that leave a list while it is read move others to pages that were read.
func TestListThatShrinksWhileItIsRead(t *testing.T) {
	t.Parallel()
	for _, order := range []ncptest.Order{ncptest.NewestFirst, ncptest.OldestFirst, ncptest.NoOrder} {
		sim := simulated(t, ncptest.Config{Order: order})
		history(sim, 100)
		between(sim, 2, func() { sim.TrimCredentials("s-1", 70) })
		list, err := historyReader(t, externalAccessAt(t, sim.URL()), "s-1")(20)
		seen := make(map[string]bool)
		for _, serial := range serials(list.Rows) {
			seen[serial] = true
		}
		for i := 30; i < 100; i++ {
			if !seen["serial-"+strconv.Itoa(i)] {
				t.Errorf("%s: row %d is missing: %v, %v", order, i, list.Doubt, err)
			}
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
				list, err := historyReader(t, externalAccessAt(t, sim.URL()), "s-1")(20)
				if err != nil || list.Doubt != nil {
					t.Fatal(err, list.Doubt)
				}
				seen := make(map[string]bool)
				for _, serial := range serials(list.Rows) {
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
	list, err := historyReader(t, externalAccessAt(t, sim.URL()), "s-1")(20)
	if wantReason(t, err, ErrRefused); len(list.Rows) != 0 || sim.Count(ncptest.Credentials) != 4 {
		t.Errorf("%d rows in %d requests", len(list.Rows), sim.Count(ncptest.Credentials))
	}
}

// A page that is refused may be behind the last. The first is not, and a key that is
// refused is no page.
func TestPageRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault http.Handler
		is    bool
	}{
		"400":            {ncptest.SpringError(400, "COMMON_001", "page is out of range"), true},
		"404":            {ncptest.EmptyBody(404), true},
		"416":            {ncptest.EmptyBody(416), true},
		"422":            {ncptest.EmptyBody(422), true},
		"another page":   {ncptest.Raw(200, "application/json", `{"pageNo":0,"content":[{}]}`), true},
		"401":            {ncptest.GatewayError(401, "200", "Authentication Failed"), false},
		"401 permission": {ncptest.GatewayError(401, "210", "Permission Denied"), false},
		"403":            {ncptest.EmptyForbidden(), false},
		"413":            {ncptest.EmptyBody(413), false},
		"429":            {ncptest.Throttled(""), false},
		"500":            {ncptest.EmptyBody(500), false},
		"200 refused":    {ncptest.ReturnCode(200, "9999", "x"), false},
		"not JSON":       {ncptest.NotJSON(), false},
	} {
		sim := simulated(t, ncptest.Config{})
		history(sim, 60)
		sim.SetFault(ncptest.ForPage(ncptest.Credentials, 1, tt.fault))
		api := externalAccessAt(t, sim.URL())
		_, err := api.CredentialsPage(t.Context(), "s-1", 1, 20)
		if errors.Is(err, ErrPageRefused) != tt.is || asError(t, err).Operation != OpCredentials {
			t.Errorf("%s: %v", name, err)
		}
		sim.SetFault(ncptest.ForPage(ncptest.Credentials, 0, tt.fault))
		if _, err := api.CredentialsPage(t.Context(), "s-1", 0, 20); errors.Is(err, ErrPageRefused) {
			t.Errorf("%s on the first page: %v", name, err)
		}
	}
}
