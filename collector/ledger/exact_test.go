package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// memory is a store that a test can end at any write.
type memory struct {
	kept  *state
	crash bool // the next write does not happen
}

var errCrash = errors.New("crash")

func (m *memory) write(s *state, _ bool) error {
	if m.crash {
		return errCrash
	}
	m.kept = s.clone()
	return nil
}

func (*memory) close() error { return nil }

// world is one subject's history, the ledger that counts it, and what the
// ledger must have counted by now.
type world struct {
	t       *rapid.T
	history *history
	store   *memory
	ledger  *Ledger
	kind    string
	size    int
	serial  int
	late    map[string]bool // serial numbers of rows that came late
	// What happened: rows that came late or ahead of their time, ever, and what was
	// between the calls of a read.
	outOfTurn, disturbed, arrived, dropped bool
	// hidden says that late rows may have pushed others between calls of a read,
	// oldest first, though no total shows it, and that no read looked for late ones
	// since.
	hidden bool
	// counted are the rows of all reads that were applied, and kept those of
	// them that outlive a crash.
	counted, kept map[freshRow]bool
	// excused are rows of the time of another that were missed by a whole read while
	// rows arrived, and are too old to be counted later: no reader can know them.
	excused map[freshRow]bool
	shown   int
}

const testLateArrival = time.Hour

func (w *world) start() {
	w.ledger = with(w.store, w.store.kept, Options{LateArrival: testLateArrival, Now: func() time.Time { return w.history.now }})
}

// arrive adds a row that was seen so long ago; it is of the future if that is
// negative.
func (w *world) arrive(ago time.Duration) {
	w.serial++
	seen := w.history.now.Add(-ago)
	if w.history.wholeSeconds {
		seen = seen.Truncate(time.Second)
	}
	r := Row{
		Issuer:       "CN=" + strconv.Itoa(w.serial%3),
		SerialNumber: strconv.Itoa(w.serial),
		Result:       Result(w.serial % int(NumResults)),
		SeenTime:     seen,
	}
	if ago > 0 {
		w.late[r.SerialNumber] = true
	}
	w.history.add(r)
}

func fresh(r Row) freshRow {
	id := r.identity()
	return freshRow{seen: instantOf(r.SeenTime), id: [6]byte(id[:6]), result: uint8(r.Result)} //nolint:gosec // one of three
}

// strict says whether a row must be counted by a read without an error, if it was
// there all the time.
func (w *world) strict(r Row, read *Read) bool {
	switch w.kind {
	case "newest":
		return read.forLate || !w.late[r.SerialNumber]
	case "oldest":
		// Rows that were pushed without a sign of it are found by the next read that
		// looks for late ones.
		return !w.hidden && (read.forLate || !w.late[r.SerialNumber])
	default:
		return read.full && !w.disturbed && !w.excused[fresh(r)]
	}
}

// scrape reads and counts as the collector does. It says whether that was without
// an error.
func (w *world) scrape(crash bool) bool {
	h := w.history
	h.calls, h.mostCalls = 0, 50_000
	atStart := slices.Clone(h.rows)
	before := applied(w.ledger)
	_, sure := w.ledger.server.rowsOf(len(h.rows))
	w.disturbed, w.arrived, w.dropped = false, false, false
	read, err := w.ledger.Plan("s").Read(context.Background(), h, w.size)
	if err == nil {
		w.ledger.Apply("s", read)
	}
	w.store.crash = crash
	w.ledger.Commit()
	w.store.crash = false
	if crash {
		w.counted = maps.Clone(w.kept)
		w.start()
		w.shown = w.total()
		return false
	}
	if err == nil && !read.full && !before.order.sorted() {
		w.t.Fatal("a read ended early without an order that a whole read found")
	}
	if mayHide := w.outOfTurn && w.arrived && (w.dropped || !sure || h.total != nil); err == nil && (mayHide || read.forLate) {
		w.hidden = mayHide
	}
	if err == nil {
		w.count(read, atStart)
	}
	w.kept = maps.Clone(w.counted)
	if got := w.total(); got != len(w.counted) {
		w.t.Fatalf("%d rows are counted, want %d", got, len(w.counted))
	} else if got < w.shown {
		w.t.Fatalf("the count fell from %d to %d", w.shown, got)
	} else {
		w.shown = got
	}
	return err == nil
}

// count notes the rows of a read without an error; it fails if one is counted twice,
// or one that was there all the time is missing.
func (w *world) count(read *Read, atStart []Row) {
	h := w.history
	for _, row := range read.rows {
		if w.counted[row] {
			w.t.Fatalf("a row is counted twice")
		}
		w.counted[row] = true
	}
	for _, r := range atStart {
		if w.history.wholeSeconds && w.disturbed && fresh(r).seen <= applied(w.ledger).horizon && !w.counted[fresh(r)] {
			w.excused[fresh(r)] = true
		}
		if w.strict(r, read) && slices.Contains(h.rows, r) && !w.counted[fresh(r)] {
			w.t.Fatalf("row %s of %s was there all the time and is not counted", r.SerialNumber, r.SeenTime)
		}
	}
}

func (w *world) total() int {
	totals, _ := w.ledger.Totals("s")
	var sum uint64
	for _, n := range totals.Count {
		sum += n
	}
	return int(sum)
}

// happen lets rows arrive and be dropped: none, one, some, or a burst of more than
// a page.
func (w *world) happen(what string) {
	for range rapid.SampledFrom([]int{0, 0, 0, 0, 1, 1, 2, 3, 14}).Draw(w.t, "arrivals "+what) {
		w.history.now = w.history.now.Add(time.Duration(rapid.IntRange(1, 400).Draw(w.t, "milliseconds")) * time.Millisecond)
		ago := time.Duration(0)
		switch rapid.IntRange(0, 11).Draw(w.t, "late or ahead") {
		case 0:
			ago = time.Duration(rapid.IntRange(1, 59*60-1).Draw(w.t, "late")) * time.Second
		case 1:
			ago = -time.Duration(rapid.IntRange(2, 4*60).Draw(w.t, "ahead")) * time.Second
		}
		w.arrived, w.outOfTurn = true, w.outOfTurn || ago != 0
		w.arrive(ago)
		w.dropped = w.dropped || len(w.history.rows) == w.history.keep
	}
	if n := rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2, 12}).Draw(w.t, "dropped "+what); n > 0 {
		w.dropped = true
		w.history.trim(n)
	}
}

// newWorld is a server of any kind.
func newWorld(t *rapid.T) *world {
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)) //nolint:gosec // no secret depends on it
	h := &history{
		clamp:       rapid.IntRange(2, 9).Draw(t, "clamp"),
		keep:        rapid.SampledFrom([]int{0, 0, 30}).Draw(t, "keep"),
		now:         epoch(),
		hidesSize:   rapid.Bool().Draw(t, "hides its page size"),
		ignoresSize: rapid.IntRange(0, 5).Draw(t, "ignores the page size") == 0,
		end:         rapid.IntRange(0, 2).Draw(t, "end"),
	}
	kind := rapid.SampledFrom([]string{"newest", "newest", "oldest", "oldest", "hash", "issuer", "ties newest", "ties oldest", "flips"}).Draw(t, "order")
	switch kind {
	case "newest":
		h.order = newestFirst
	case "oldest":
		h.order = oldestFirst
	case "hash":
		h.order = noOrder
	case "issuer":
		h.sorted = byIssuer
	case "ties newest":
		h.sorted, h.wholeSeconds = shuffledTies(newestFirst, random), true
	case "ties oldest":
		h.sorted, h.wholeSeconds = shuffledTies(oldestFirst, random), true
	case "flips":
		h.sorted = flips(random)
	}
	if h.wholeSeconds {
		h.clamp += 4 // on pages of two rows, chance hides a row of several at one time too often
		if h.end == endRepeats {
			h.end = endEmpty // its end may not be told from its middle
		}
	}
	switch rapid.SampledFrom([]string{"right", "right", "absent", "page", "high", "low", "capped", "moving"}).Draw(t, "total") {
	case "absent":
		h.total = func(int, int) int { return -1 }
	case "page":
		h.total = func(_, n int) int { return n }
	case "high":
		h.total = func(all, _ int) int { return all + 1 }
	case "low":
		h.total = func(all, _ int) int { return max(0, all-1) }
	case "capped":
		h.total = func(all, _ int) int { return min(all, 23) }
	case "moving":
		h.total = func(all, _ int) int { return max(0, all+random.IntN(15)-7) }
	}
	w := &world{
		t: t, history: h, kind: kind,
		size:    rapid.IntRange(2, 12).Draw(t, "size"),
		store:   &memory{kept: &state{accounts: make(map[string]*account)}},
		late:    make(map[string]bool),
		counted: make(map[freshRow]bool), kept: make(map[freshRow]bool), excused: make(map[freshRow]bool),
	}
	if h.wholeSeconds {
		w.size += 4
	}
	w.start()
	return w
}

// fault is a call that fails. Where totals are known to be right, pages may also be
// refused that are there.
func (w *world) fault() func(call int) error {
	failsAt := 0
	if rapid.IntRange(0, 7).Draw(w.t, "fails") == 0 {
		failsAt = rapid.IntRange(1, 6).Draw(w.t, "fails at")
	}
	_, sure := w.ledger.server.rowsOf(len(w.history.rows))
	refused := sure && w.history.total == nil && rapid.Bool().Draw(w.t, "refused")
	return func(call int) error {
		switch {
		case refused && (call == failsAt || call == failsAt+1):
			return ErrPastEnd
		case call == failsAt:
			return errors.New("broken")
		}
		return nil
	}
}

// Whatever the server does (see newWorld), and whatever happens between any two
// calls: every row that was there during a read without an error is counted once
// (see strict), no count ever falls, and after all is quiet nothing is missing.
func TestExactWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		h := w.history
		for range rapid.IntRange(0, 40).Draw(t, "at first") {
			h.now = h.now.Add(time.Duration(rapid.IntRange(0, 600_000).Draw(t, "milliseconds")) * time.Millisecond)
			w.arrive(0)
		}
		for range rapid.IntRange(1, 20).Draw(t, "scrapes") {
			h.now = h.now.Add(time.Duration(rapid.IntRange(1, 30*60).Draw(t, "pause")) * time.Second)
			w.happen("before")
			busy := rapid.IntRange(0, 2).Draw(t, "busy") == 0
			fault := w.fault()
			h.onPage = func(call int) error {
				if err := fault(call); err != nil {
					return err
				}
				if busy && call > 1 && call < 100 {
					w.disturbed = true
					w.happen("between calls")
				}
				return nil
			}
			w.scrape(rapid.IntRange(0, 9).Draw(t, "crash") == 0)
			h.onPage = nil
			if rapid.IntRange(0, 7).Draw(t, "restart") == 0 {
				w.start()
			}
		}
		// Once all is quiet, and a day has passed, nothing is missing.
		h.now = h.now.Add(25 * time.Hour)
		whole := false
		for range 6 {
			whole = w.scrape(false)
		}
		if !whole && h.end == endRepeats && w.kind == "flips" {
			return // its end may not be told from its middle: an error, no silent loss
		}
		if !whole {
			t.Fatal("the last read failed")
		}
		for _, r := range h.rows {
			if !w.counted[fresh(r)] && !w.excused[fresh(r)] {
				t.Fatalf("row %s of %s is never counted", r.SerialNumber, r.SeenTime)
			}
		}
	})
}

// A quiet scrape asks for the same few pages however long the history is.
func TestCallsOfAQuietScrape(t *testing.T) {
	for _, tt := range []struct {
		order order
		want  int
	}{{newestFirst, 1}, {oldestFirst, 2}} {
		for _, n := range []int{100, 1_000, 10_050} {
			t.Run(fmt.Sprintf("order %d, %d rows", tt.order, n), func(t *testing.T) {
				h := &history{order: tt.order, clamp: 100, now: epoch()}
				rows := make([]Row, n)
				for i := range rows {
					h.now = h.now.Add(time.Second)
					rows[i] = Row{SerialNumber: strconv.Itoa(i), SeenTime: h.now}
				}
				h.rows = rows
				l := New(Options{LateArrival: time.Hour, Now: func() time.Time { return h.now }})
				want := tt.want
				if n == 100 {
					want = 1
				}
				for scrape := range 3 {
					h.calls = 0
					mustScrape(t, l, h, 100, uint64(n)) //nolint:gosec // a length
					if scrape > 0 && h.calls != want {
						t.Errorf("%d calls in a quiet scrape, want %d", h.calls, want)
					}
				}
			})
		}
	}
}

// mustScrape reads and counts, after which so many rows are counted.
func mustScrape(t *testing.T, l *Ledger, pages Pages, size int, want uint64) {
	t.Helper()
	read, err := l.Plan("s").Read(t.Context(), pages, size)
	if err != nil {
		t.Fatal(err)
	}
	l.Apply("s", read)
	l.Commit()
	totals, _ := l.Totals("s")
	if got := totals.Count[Success] + totals.Count[Failure] + totals.Count[Unknown]; got != want {
		t.Errorf("%d rows are counted, want %d", got, want)
	}
}

// A row that comes almost late-arrival late, hidden at first because another was
// dropped at the same time, is counted by the next read that looks for late ones,
// however far the newest rows have moved on meanwhile.
func TestLateRowsOutliveShallowReads(t *testing.T) {
	h := &history{order: newestFirst, clamp: 2, now: epoch()}
	at := func(minutes float64) time.Time { return epoch().Add(time.Duration(minutes * float64(time.Minute))) }
	add := func(serial string, seen time.Time) { h.add(Row{SerialNumber: serial, SeenTime: seen}) }
	for i := range 10 {
		add("old "+strconv.Itoa(i), at(-200-float64(i)))
		add("recent "+strconv.Itoa(i), at(-float64(i)))
	}
	l := New(Options{LateArrival: time.Hour, Now: func() time.Time { return h.now }})
	mustScrape(t, l, h, 2, 20)
	h.now = at(10)
	add("late", at(-58)) // it came within two minutes of the first read
	h.trim(1)
	add("new", at(10))
	mustScrape(t, l, h, 2, 21) // too shallow for the late one
	h.now = at(16)
	mustScrape(t, l, h, 2, 22)
}

// applied is the account with all that was applied.
func applied(l *Ledger) account {
	if a := l.applied.accounts["s"]; a != nil {
		return *a
	}
	return account{}
}
