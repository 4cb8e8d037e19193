package ledger

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// history is what NCP keeps of a subject, in one of the orders in which it may
// give it. Things happen to it while it is read.
type history struct {
	rows    []Row // oldest first
	order   order
	clamp   int // the largest page
	now     time.Time
	calls   int
	onPage  func(call int) error
	changed bool // while it was read
}

func (h *history) Page(_ context.Context, number, size int) (Page, error) {
	h.calls++
	if h.onPage != nil {
		if err := h.onPage(h.calls); err != nil {
			return Page{}, err
		}
	}
	size = min(size, h.clamp)
	rows := h.ordered()
	from, to := min(number*size, len(rows)), min((number+1)*size, len(rows))
	return Page{Rows: rows[from:to], Size: size, Total: len(rows), Clock: h.now}, nil
}

func (h *history) ordered() []Row {
	rows := slices.Clone(h.rows)
	switch h.order {
	case newestFirst:
		slices.Reverse(rows)
	case noOrder:
		shuffled := func(r Row) [32]byte { return sha256.Sum256([]byte(r.SerialNumber)) }
		slices.SortFunc(rows, func(a, b Row) int {
			x, y := shuffled(a), shuffled(b)
			return slices.Compare(x[:], y[:])
		})
	}
	return rows
}

func (h *history) add(rows ...Row) {
	h.rows = append(h.rows, rows...)
	slices.SortStableFunc(h.rows, func(a, b Row) int { return a.SeenTime.Compare(b.SeenTime) })
}

func (h *history) trim(n int) { h.rows = slices.Clone(h.rows[min(n, len(h.rows)):]) }

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
	serial  int
	// counted are the rows of all reads that were applied, and kept those of
	// them that outlive a crash.
	counted, kept map[Row]bool
	shown         int
}

const testLateArrival = time.Hour

func (w *world) start() {
	w.ledger = with(w.store, w.store.kept, Options{LateArrival: testLateArrival, Now: func() time.Time { return w.history.now }})
}

func (w *world) arrive(lateness time.Duration) {
	w.serial++
	w.history.add(Row{
		Issuer:       "CN=Root",
		SerialNumber: strconv.Itoa(w.serial),
		Result:       Result(w.serial % int(NumResults)),
		SeenTime:     w.history.now.Add(-lateness),
	})
}

// scrape reads and counts as the collector does.
func (w *world) scrape(size int, crash bool) {
	h := w.history
	h.calls = 0
	atStart := slices.Clone(h.rows)
	read, err := w.ledger.Plan("s").Read(context.Background(), h, size)
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
		return
	}
	if err == nil {
		w.note(atStart, read)
		w.note(h.rows, read)
		if read.deep && (h.order != noOrder || !h.changed) {
			for _, r := range atStart {
				if slices.Contains(h.rows, r) && !w.counted[r] {
					w.t.Fatalf("row %s of %s was there all the time and is not counted", r.SerialNumber, r.SeenTime)
				}
			}
		}
	}
	w.kept = maps.Clone(w.counted)
	if got := w.total(); got != len(w.counted) {
		w.t.Fatalf("%d rows are counted, want %d", got, len(w.counted))
	} else if got < w.shown {
		w.t.Fatalf("the count fell from %d to %d", w.shown, got)
	} else {
		w.shown = got
	}
}

// note takes down which rows a read brought.
func (w *world) note(rows []Row, read *Read) {
	for _, r := range rows {
		if _, came := read.entries[r.identity()]; came {
			w.counted[r] = true
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

// Whatever happens (any order and page size, rows that come late, rows that are
// dropped, both while pages are read, pages that fail, repeated scrapes, crashes
// before the write): every row that a read has brought is counted once, a read
// to the line has brought all rows that were there, and no count ever falls.
func TestExactWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &history{
			order: rapid.SampledFrom([]order{newestFirst, oldestFirst, noOrder}).Draw(t, "order"),
			clamp: rapid.IntRange(1, 9).Draw(t, "clamp"),
			now:   epoch(),
		}
		w := &world{
			t: t, history: h,
			store:   &memory{kept: &state{accounts: make(map[string]*account)}},
			counted: make(map[Row]bool), kept: make(map[Row]bool),
		}
		w.start()
		size := rapid.IntRange(1, 12).Draw(t, "size")
		for range rapid.IntRange(0, 30).Draw(t, "at first") {
			h.now = h.now.Add(time.Duration(rapid.IntRange(0, 600).Draw(t, "seconds")) * time.Second)
			w.arrive(0)
		}
		for range rapid.IntRange(1, 25).Draw(t, "scrapes") {
			h.now = h.now.Add(time.Duration(rapid.IntRange(0, 20*60).Draw(t, "pause")) * time.Second)
			for range rapid.IntRange(0, 6).Draw(t, "arrivals") {
				h.now = h.now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "gap")) * time.Second)
				lateness := time.Duration(0)
				if rapid.IntRange(0, 3).Draw(t, "late") == 0 {
					lateness = time.Duration(rapid.IntRange(0, 59*60).Draw(t, "lateness")) * time.Second
				}
				w.arrive(lateness)
			}
			if rapid.IntRange(0, 3).Draw(t, "trim") == 0 {
				h.trim(rapid.IntRange(0, len(h.rows)).Draw(t, "dropped"))
			}
			// What happens at which page of this read.
			arrivesAt, trimsAt, failsAt := 0, 0, 0
			switch rapid.IntRange(0, 7).Draw(t, "while reading") {
			case 0:
				arrivesAt = rapid.IntRange(2, 6).Draw(t, "arrives at")
			case 1:
				trimsAt = rapid.IntRange(2, 6).Draw(t, "trims at")
			case 2:
				arrivesAt = rapid.IntRange(2, 6).Draw(t, "arrives at")
				trimsAt = arrivesAt
			case 3:
				failsAt = rapid.IntRange(1, 6).Draw(t, "fails at")
			}
			h.changed = false
			h.onPage = func(call int) error {
				if call == arrivesAt {
					h.changed = true
					h.now = h.now.Add(time.Second)
					w.arrive(0)
				}
				if call == trimsAt {
					h.changed = true
					h.trim(1)
				}
				if call == failsAt {
					return errors.New("broken")
				}
				return nil
			}
			w.scrape(size, rapid.IntRange(0, 9).Draw(t, "crash") == 0)
			h.onPage = nil
			if rapid.IntRange(0, 4).Draw(t, "again") == 0 {
				h.changed = false
				w.scrape(size, false)
			}
		}
		// Once all is calm, and a quarter of late-arrival has passed, nothing is missing.
		h.now = h.now.Add(testLateArrival / 4)
		h.changed = false
		w.scrape(size, false)
		for _, r := range h.rows {
			if !w.counted[r] {
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
			h := &history{order: tt.order, clamp: 100, now: epoch()}
			rows := make([]Row, n)
			for i := range rows {
				h.now = h.now.Add(time.Second)
				rows[i] = Row{SerialNumber: strconv.Itoa(i), SeenTime: h.now}
			}
			h.rows = rows
			l := New(Options{LateArrival: time.Hour, Now: func() time.Time { return h.now }})
			for scrape := range 3 {
				h.calls = 0
				read, err := l.Plan("s").Read(t.Context(), h, 100)
				if err != nil {
					t.Fatal(err)
				}
				l.Apply("s", read)
				l.Commit()
				want := tt.want
				if n == 100 {
					want = 1
				}
				if scrape > 0 && h.calls != want {
					t.Errorf("order %d, %d rows: %d calls in a quiet scrape, want %d", tt.order, n, h.calls, want)
				}
			}
			totals, _ := l.Totals("s")
			if totals.Count[Success] != uint64(n) { //nolint:gosec // a length
				t.Errorf("order %d: %d of %d rows were counted", tt.order, totals.Count[Success], n)
			}
		}
	}
}

// A row that comes almost late-arrival late, hidden at first because another was
// dropped at the same time, is counted by the next deep read, however far the
// newest rows have moved on meanwhile.
func TestLateRowsOutliveShallowReads(t *testing.T) {
	h := &history{order: newestFirst, clamp: 2, now: epoch()}
	at := func(minutes float64) time.Time { return epoch().Add(time.Duration(minutes * float64(time.Minute))) }
	add := func(serial string, seen time.Time) { h.add(Row{SerialNumber: serial, SeenTime: seen}) }
	for i := range 10 {
		add("old "+strconv.Itoa(i), at(-200-float64(i)))
		add("recent "+strconv.Itoa(i), at(-float64(i)))
	}
	l := New(Options{LateArrival: time.Hour, Now: func() time.Time { return h.now }})
	scrape := func(want uint64) {
		t.Helper()
		read, err := l.Plan("s").Read(t.Context(), h, 2)
		if err != nil {
			t.Fatal(err)
		}
		l.Apply("s", read)
		l.Commit()
		if totals, _ := l.Totals("s"); totals.Count[Success] != want {
			t.Errorf("%d rows are counted, want %d", totals.Count[Success], want)
		}
	}
	scrape(20)
	h.now = at(10)
	add("late", at(-58)) // it came within two minutes of the first read
	h.trim(1)
	add("new", at(10))
	scrape(21) // too shallow for the late one
	h.now = at(16)
	scrape(22)
}
