package ncpclient

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// simList is a list behind a server of which nobody knows how it sorts, counts and
// cuts: it may change between any two calls.
type simList struct {
	order, totals, end, unsaid string
	clamp, capAt               int
	logins, changes            int // of ten calls, before how many somebody logs in, or comes or goes

	rows    []string
	nextID  int
	calls   int
	present map[string]int // when each row came
	chance  func(label string, most int) int
}

func (s *simList) create() {
	id := "s-" + strconv.Itoa(s.nextID)
	s.nextID++
	s.present[id] = s.calls
	if s.order == "created last" || s.order == "seen last" {
		s.rows = append(s.rows, id)
	} else {
		s.rows = slices.Insert(s.rows, 0, id)
	}
}

func (s *simList) remove(i int) {
	delete(s.present, s.rows[i])
	s.rows = slices.Delete(s.rows, i, i+1)
}

// login moves a row in a list that is sorted by the last login.
func (s *simList) login(i int) {
	id := s.rows[i]
	switch s.order {
	case "seen first":
		s.rows = slices.Insert(slices.Delete(s.rows, i, i+1), 0, id)
	case "seen last":
		s.rows = append(slices.Delete(s.rows, i, i+1), id)
	}
}

// change is what happens between two calls.
func (s *simList) change() {
	if s.logins > 0 && s.chance("login", 9) < s.logins {
		for range 1 + s.chance("logins", 2) {
			if len(s.rows) > 0 {
				s.login(s.chance("who", len(s.rows)-1))
			}
		}
	}
	if s.changes > 0 && s.chance("change", 9) < s.changes {
		if s.chance("kind", 1) == 0 && len(s.rows) > 0 {
			s.remove(s.chance("gone", len(s.rows)-1))
		} else {
			s.create()
		}
	}
}

func (s *simList) get(number, size int) (Page[string], error) {
	s.change()
	s.calls++
	page := Page[string]{Asked: size, Total: unknownCount}
	if s.clamp > 0 && size > s.clamp {
		size = s.clamp
	}
	switch s.unsaid {
	case "said":
		page.Size = size
	case "denied":
		page.Size = page.Asked
	}
	last := max(0, (len(s.rows)-1)/size)
	if number > last && s.end == "refused" {
		return Page[string]{}, fmt.Errorf("page %d: %w", number, ErrPageRefused)
	}
	if number > last && s.end == "repeated" {
		number = last
	}
	from := min(number*size, len(s.rows))
	page.Rows = slices.Clone(s.rows[from:min(from+size, len(s.rows))])
	n := len(s.rows)
	switch s.totals {
	case "right":
		page.Total = n
	case "of the page":
		page.Total = len(page.Rows)
	case "one more":
		page.Total = n + 1
	case "one less":
		page.Total = max(0, n-1)
	case "capped":
		page.Total = min(n, s.capAt)
	case "moving":
		page.Total = n + s.calls%2
	}
	return page, nil
}

// Whatever a server does: a row that was there before, and is there all the time, is
// in each list that has no doubt. When it is quiet, the list has no doubt after
// a few reads, it is exactly what is there, and it costs what it has to.
func TestListsOfAnyServer(t *testing.T) { //nolint:cyclop // one story, told from its begin to its end
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
		s := &simList{
			order:   draw("order", "created first", "created last", "seen first", "seen last"),
			totals:  draw("totals", "right", "of the page", "one more", "one less", "capped", "absent", "moving"),
			end:     draw("end", "empty", "refused", "repeated"),
			unsaid:  draw("size", "said", "unsaid", "denied"),
			clamp:   rapid.SampledFrom([]int{0, 3, 4, 5, 7, 10}).Draw(t, "clamp"),
			capAt:   rapid.IntRange(1, 40).Draw(t, "cap"),
			logins:  rapid.IntRange(0, 10).Draw(t, "logins"),
			changes: rapid.IntRange(0, 3).Draw(t, "changes"),
			present: make(map[string]int),
			chance: func(label string, most int) int {
				return rapid.IntRange(0, most).Draw(t, label)
			},
		}
		for range rapid.IntRange(0, 40).Draw(t, "rows") {
			s.create()
		}
		size := rapid.IntRange(3, 20).Draw(t, "page size")
		clock := time.Unix(1_700_000_000, 0)
		r := &listReader[string]{pager: &pager{}, now: func() time.Time { return clock }, key: func(id string) string { return id }}
		get := func(number, size int) (Page[string], error) {
			page, err := s.get(number, size)
			if page.Total > len(page.Rows) && (number > 0 || len(page.Rows) > 0) {
				r.pager.totalsOfList.Store(true) // as getPage does
			}
			return page, err
		}
		read := func() (List[string], int) {
			calls := s.calls
			list, err := r.read(size, get)
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Rows) != len(slices.Compact(slices.Sorted(slices.Values(list.Rows)))) {
				t.Fatal("a row is there twice")
			}
			return list, s.calls - calls
		}
		watched := make(map[string]bool) // as a caller has it
		for n := range 6 {
			before := s.calls
			list, _ := read()
			if list.Doubt == nil {
				for id := range watched {
					if at, there := s.present[id]; there && at <= before && !slices.Contains(list.Rows, id) {
						t.Fatalf("read %d lacks %s, which was there before and all the time", n, id)
					}
				}
				clear(watched)
			}
			for _, id := range list.Rows {
				watched[id] = true
			}
			clock = clock.Add(time.Minute)
		}
		s.logins, s.changes = 0, 0
		if s.totals == "moving" {
			s.totals = "right"
		}
		for range quirkTimes + 1 {
			_, _ = read()
			clock = clock.Add(endValid) // the end is looked for again
		}
		_, _ = read()
		list, calls := read()
		if want := slices.Sorted(slices.Values(s.rows)); list.Doubt != nil || !slices.Equal(slices.Sorted(slices.Values(list.Rows)), want) {
			t.Fatalf("quiet: %d rows of %d, %v", len(list.Rows), len(want), list.Doubt)
		}
		whole := size
		if s.clamp > 0 {
			whole = min(size, s.clamp)
		}
		pages := max(1, (len(s.rows)+whole-1)/whole)
		full := len(s.rows) > 0 && len(s.rows)%whole == 0
		tells := (s.totals == "right" || s.totals == "one more") && r.pager.totalsOfList.Load()
		if full && !tells {
			pages += 2 // one, or two where the last page comes again
		}
		if calls > pages {
			t.Fatalf("quiet: %d calls for %d rows, want at most %d", calls, len(s.rows), pages)
		}
	})
}

// 300 subjects in a list that is sorted by the last login, 5 logins a second, 100 ms
// an answer: no read lacks one, and it costs little more than the pages.
func TestAListThatMovesAllTheTime(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"seen first", "seen last"} {
		random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
		s := &simList{order: order, totals: "right", end: "empty", present: make(map[string]int)}
		for range 300 {
			s.create()
		}
		get := func(number, size int) (Page[string], error) {
			for random.Float64() < 0.35 { // 0.5 a call, on average
				s.login(random.IntN(len(s.rows)))
			}
			return s.get(number, size)
		}
		r := &listReader[string]{pager: &pager{}, now: time.Now, key: func(id string) string { return id }}
		for n := range 100 {
			list, err := r.read(100, get)
			if err != nil || list.Doubt != nil || len(list.Rows) != 300 {
				t.Fatalf("%s: read %d: %d rows, %v, %v", order, n, len(list.Rows), list.Doubt, err)
			}
		}
		t.Logf("%s: %d calls for 100 reads", order, s.calls)
		if s.calls > 550 {
			t.Errorf("%s: %d calls for 100 reads", order, s.calls)
		}
	}
}

// A row that is new is in the next read, wherever it stands.
func TestARowThatIsNew(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"created first", "created last"} {
		for _, totals := range []string{"right", "of the page", "one more", "one less", "capped", "absent"} {
			for _, end := range []string{"empty", "refused", "repeated"} {
				for rows := range 50 {
					s := &simList{order: order, totals: totals, end: end, capAt: 7, present: make(map[string]int)}
					r := &listReader[string]{pager: &pager{}, now: time.Now, key: func(id string) string { return id }}
					for range rows {
						s.create()
					}
					for range quirkTimes {
						if _, err := r.read(10, s.get); err != nil {
							t.Fatal(err)
						}
					}
					s.create()
					if list, err := r.read(10, s.get); err != nil || len(list.Rows) != rows+1 {
						t.Errorf("%s, %s, %s: %d rows of %d, %v, %v", order, totals, end, len(list.Rows), rows+1, list.Doubt, err)
					}
				}
			}
		}
	}
}

// A row that is gone is dropped by the same read that finds it missing.
func TestARowThatIsGone(t *testing.T) {
	t.Parallel()
	for _, totals := range []string{"right", "of the page", "one more", "absent"} {
		for _, rows := range []int{2, 20, 21, 45} {
			s := &simList{order: "created last", totals: totals, end: "empty", present: make(map[string]int)}
			for range rows {
				s.create()
			}
			r := &listReader[string]{pager: &pager{}, now: time.Now, key: func(id string) string { return id }}
			for range quirkTimes {
				if list, err := r.read(20, s.get); err != nil || list.Doubt != nil || len(list.Rows) != rows {
					t.Fatalf("%s: %d rows of %d, %v, %v", totals, len(list.Rows), rows, list.Doubt, err)
				}
			}
			s.remove(0)
			list, err := r.read(20, s.get)
			if err != nil || list.Doubt != nil || len(list.Rows) != rows-1 {
				t.Errorf("%s: %d rows of %d, %v, %v", totals, len(list.Rows), rows-1, list.Doubt, err)
			}
		}
	}
}
