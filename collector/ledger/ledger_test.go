package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// epoch is the time that the rows of these tests are counted from.
func epoch() time.Time { return time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC) }

func row(at time.Duration, serial string, result Result) Row {
	return Row{Issuer: "CN=Root", SerialNumber: serial, Result: result, SeenTime: epoch().Add(at)}
}

// onePage is a history that fits into a page, as it is at a time.
type onePage struct {
	rows []Row
	at   time.Time
}

func (p onePage) Page(_ context.Context, number, _ int) (Page, error) {
	page := Page{Total: len(p.rows), Clock: p.at}
	if number == 0 {
		page.Rows = p.rows
	}
	return page, nil
}

// readAt is the first read of a history, as it is at a time.
func readAt(at time.Time, rows ...Row) *Read {
	plan := Plan{whole: true, lateArrival: time.Hour, server: &Server{}}
	r, err := plan.Read(context.Background(), onePage{rows, at}, len(rows)+1)
	if err != nil {
		panic(err) // a page that is there cannot fail
	}
	return r
}

func read(rows ...Row) *Read { return readAt(epoch().Add(24*time.Hour), rows...) }

func newLedger(skip bool) *Ledger {
	return New(Options{LateArrival: time.Hour, SkipInitialHistory: skip, Now: func() time.Time { return epoch().Add(48 * time.Hour) }})
}

func counts(t *testing.T, l *Ledger) [NumResults]uint64 {
	t.Helper()
	totals, known := l.Totals("s")
	if !known {
		t.Fatal("the subject is not known")
	}
	return totals.Count
}

func TestApply(t *testing.T) {
	h := time.Hour
	tests := []struct {
		name  string
		reads []*Read
		want  [NumResults]uint64 // success, failure, unknown
	}{
		{"an empty history", []*Read{read()}, [...]uint64{0, 0, 0}},
		{"each result", []*Read{read(row(1, "a", Success), row(2, "a", Failure), row(3, "a", Unknown))}, [...]uint64{1, 1, 1}},
		{"the same history twice", []*Read{read(row(1, "a", Success)), read(row(1, "a", Success))}, [...]uint64{1, 0, 0}},
		{"a row that repeats in one read", []*Read{read(row(1, "a", Success), row(1, "a", Success))}, [...]uint64{1, 0, 0}},
		{"rows that differ in one field", []*Read{read(row(1, "a", Success), row(1, "b", Success), row(2, "a", Success), row(1, "a", Failure),
			Row{Issuer: "CN=Other", SerialNumber: "a", Result: Success, SeenTime: epoch().Add(1)})}, [...]uint64{4, 1, 0}},
		{"a row more", []*Read{read(row(1, "a", Success)), read(row(1, "a", Success), row(2*h, "a", Failure))}, [...]uint64{1, 1, 0}},
		{"old rows dropped", []*Read{read(row(1, "a", Success), row(2*h, "a", Success)), read(row(3*h, "a", Success))}, [...]uint64{3, 0, 0}},
		{"all rows dropped", []*Read{read(row(1, "a", Success)), read()}, [...]uint64{1, 0, 0}},
		{"late, inside the window", []*Read{read(row(5*h, "a", Success)), read(row(4*h+1, "a", Success), row(5*h, "a", Success))}, [...]uint64{2, 0, 0}},
		{"late, on the horizon", []*Read{read(row(5*h, "a", Success)), read(row(4*h, "a", Success), row(5*h, "a", Success))}, [...]uint64{1, 0, 0}},
		{"late, and then again", []*Read{read(row(5*h, "a", Success)), read(row(4*h+1, "a", Success)), read(row(4*h+1, "a", Success))}, [...]uint64{2, 0, 0}},
		{"a row hidden for one read", []*Read{read(row(1, "a", Success), row(2, "b", Success)), read(row(2, "b", Success)), read(row(1, "a", Success), row(2, "b", Success))}, [...]uint64{2, 0, 0}},
		{"an empty history that fills", []*Read{read(), read(row(1, "a", Failure))}, [...]uint64{0, 1, 0}},
		{"no time", []*Read{read(Row{SerialNumber: "a"})}, [...]uint64{0, 0, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLedger(false)
			for _, r := range tt.reads {
				l.Apply("s", r)
				l.Commit()
			}
			if diff := cmp.Diff(tt.want, counts(t, l)); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRowsThatCannotBeCounted(t *testing.T) {
	clock := epoch()
	r := readAt(clock,
		Row{SerialNumber: "no time"},
		row(5*time.Minute, "just inside", Success),
		row(5*time.Minute+1, "ahead", Success),
	)
	if diff := cmp.Diff(Uncounted{NoTime: 1, FutureTime: 1}, r.Uncounted); diff != "" {
		t.Errorf("uncounted (-want +got):\n%s", diff)
	}
	l := newLedger(false)
	l.Apply("s", r)
	l.Commit()
	if got := counts(t, l); got[Success] != 1 {
		t.Errorf("counted %d rows, want 1", got[Success])
	}
	// Time passes: the row is no longer ahead, and counts.
	later := readAt(clock.Add(time.Hour), row(5*time.Minute, "just inside", Success), row(5*time.Minute+1, "ahead", Success))
	l.Apply("s", later)
	l.Commit()
	if got := counts(t, l); got[Success] != 2 {
		t.Errorf("counted %d rows once the clock had caught up, want 2", got[Success])
	}
}

func TestSkipInitialHistory(t *testing.T) {
	l := newLedger(true)
	l.Apply("s", read(row(1, "a", Success), row(2, "a", Failure)))
	l.Commit()
	l.Apply("s", read(row(1, "a", Success), row(2, "a", Failure), row(3, "a", Failure)))
	l.Commit()
	if got := counts(t, l); got != [NumResults]uint64{0, 1, 0} {
		t.Errorf("counts are %v, want only the row that came after the first read", got)
	}
	if totals, _ := l.Totals("s"); !totals.Created.Equal(epoch().Add(48 * time.Hour)) {
		t.Errorf("created %s, want the moment of the first read", totals.Created)
	}
}

func TestCreatedNeverMoves(t *testing.T) {
	l := newLedger(false)
	l.Apply("old", read(row(time.Hour, "a", Success), row(2*time.Hour, "a", Success)))
	l.Commit()
	l.Apply("old", read(row(90*time.Minute, "late", Success)))
	l.Commit()
	l.Apply("new", read())
	l.Commit()
	l.Apply("new", read(row(time.Hour, "a", Failure)))
	l.Commit()
	for id, want := range map[string]time.Time{"old": epoch().Add(time.Hour), "new": epoch().Add(48 * time.Hour)} {
		if totals, _ := l.Totals(id); !totals.Created.Equal(want) {
			t.Errorf("%s: created %s, want %s", id, totals.Created, want)
		}
	}
}

func TestNewest(t *testing.T) {
	l := newLedger(false)
	l.Apply("s", read(row(1, "a", Success), row(3, "a", Failure), row(2, "a", Failure)))
	l.Commit()
	l.Apply("s", read()) // dropped rows are not forgotten
	l.Commit()
	totals, _ := l.Totals("s")
	want := [NumResults]time.Time{Success: epoch().Add(1), Failure: epoch().Add(3)}
	if diff := cmp.Diff(want, totals.Newest); diff != "" {
		t.Errorf("newest (-want +got):\n%s", diff)
	}
}

func TestTotalsOfAnUnknownSubject(t *testing.T) {
	if _, known := newLedger(false).Totals("nobody"); known {
		t.Error("a subject whose history was never read is known")
	}
}

// What is applied is shown by the next Commit, and not before it is written.
func TestWrittenThenShown(t *testing.T) {
	l := newLedger(false)
	l.store = writing(func(s *state) {
		if s.accounts["s"].count[Success] != successes(l)+1 {
			t.Errorf("%d rows are written, and %d shown", s.accounts["s"].count[Success], successes(l))
		}
	})
	var rows []Row
	for i := range uint64(3) {
		status := strconv.FormatUint(i, 10)
		rows = append(rows, row(time.Duration(len(rows)+1), "a", Success))
		l.Apply("s", read(rows...))
		l.ApplyStatuses("24h", map[string]string{"1": status})
		if got := successes(l); got != i || l.StatusChanges(status) != 0 {
			t.Errorf("%d rows are shown before the commit, want %d", got, i)
		}
		l.Commit()
		if got := successes(l); got != i+1 || i > 0 && l.StatusChanges(status) != 1 {
			t.Errorf("%d rows are shown, want %d", got, i+1)
		}
	}
	l.Listed(nil)
	if len(l.Subjects()) != 1 {
		t.Error("a subject went before the commit")
	}
	l.store = nil
	l.Commit()
	if len(l.Subjects()) != 0 {
		t.Error("a subject did not go with the commit")
	}
}

// successes is what is shown as successes of the subject of these tests; 0 before
// its first commit.
func successes(l *Ledger) uint64 {
	totals, _ := l.Totals("s")
	return totals.Count[Success]
}

// writing is a store that only looks at what it is given.
type writing func(*state)

func (w writing) write(s *state, _ bool) error { w(s); return nil }

func (writing) close() error { return nil }

// An account keeps the rows inside the window only, however long the history.
func TestAccountIsBounded(t *testing.T) {
	a := account{}
	for minute := range 600 {
		a, _ = a.add(read(row(time.Duration(minute)*time.Minute, "a", Success)), time.Hour)
	}
	if len(a.fingerprints) != 61 { // and the one on the horizon, as times are rounded
		t.Errorf("the account keeps %d rows, want the 61 of the last hour", len(a.fingerprints))
	}
}

// Counting makes a new account: one that was read is not changed by it.
func TestCountLeavesTheAccount(t *testing.T) {
	a, _ := account{}.add(read(row(1, "a", Success)), time.Hour)
	_, _ = a.add(read(row(5*time.Hour, "b", Success)), time.Hour)
	if len(a.fingerprints) != 1 || a.count[Success] != 1 {
		t.Errorf("the account changed: %+v", a)
	}
}

// Whatever the order, the repeats, the rows that come late and those that NCP
// drops: after each whole read the counts are the number of distinct rows ever
// seen, and they never fall.
func TestCountedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLedger(false)
		ever := make(map[Row]bool)
		var history []Row
		newest := time.Duration(0)
		for step := range rapid.IntRange(1, 12).Draw(t, "reads") {
			for i := range rapid.IntRange(0, 8).Draw(t, "arrivals") {
				at := newest + time.Duration(rapid.IntRange(0, 90).Draw(t, "advance"))*time.Minute
				if step > 0 && rapid.Bool().Draw(t, "late") {
					at = newest - time.Duration(rapid.IntRange(0, 59).Draw(t, "lateness"))*time.Minute
				}
				result := Result(rapid.IntRange(0, int(NumResults)-1).Draw(t, "result"))
				history = append(history, row(at, fmt.Sprint(step, i), result))
			}
			for _, r := range history {
				newest = max(newest, r.SeenTime.Sub(epoch()))
			}
			// NCP drops old rows, gives the rest in any order and some of it twice.
			slices.SortFunc(history, func(a, b Row) int { return a.SeenTime.Compare(b.SeenTime) })
			history = history[rapid.IntRange(0, len(history)).Draw(t, "dropped"):]
			seen := slices.Clone(history)
			seen = append(seen, history[:rapid.IntRange(0, len(history)).Draw(t, "repeated")]...)
			rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 0)).Shuffle(len(seen), func(i, j int) { seen[i], seen[j] = seen[j], seen[i] }) //nolint:gosec // no secret hangs on it
			for _, r := range seen {
				ever[r] = true
			}

			before, _ := l.Totals("s")
			l.Apply("s", readAt(epoch().Add(10000*time.Hour), seen...))
			l.Commit()

			var want [NumResults]uint64
			for r := range ever {
				want[r.Result]++
			}
			after, _ := l.Totals("s")
			if diff := cmp.Diff(want, after.Count); diff != "" {
				t.Fatalf("read %d: counts (-want +got):\n%s", step, diff)
			}
			for i := range after.Count {
				if after.Count[i] < before.Count[i] {
					t.Fatalf("read %d: a count fell from %d to %d", step, before.Count[i], after.Count[i])
				}
			}
		}
	})
}

func TestStatusChanges(t *testing.T) {
	l := newLedger(false)
	for _, look := range []map[string]string{
		{"1": "ongoing", "2": "normal"},                // the baseline
		{"1": "normal", "2": "normal"},                 // 1 moved
		{"1": "normal", "3": "ongoing"},                // 3 entered, 2 left
		{"1": "normal", "2": "normal", "3": "ongoing"}, // 2 entered again
		{},
	} {
		l.ApplyStatuses("24h", look)
		l.Commit()
	}
	got := map[string]uint64{"normal": l.StatusChanges("normal"), "ongoing": l.StatusChanges("ongoing"), "unknown": l.StatusChanges("unknown")}
	if diff := cmp.Diff(map[string]uint64{"normal": 2, "ongoing": 1, "unknown": 0}, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestStatusChangesFromAnEmptyBaseline(t *testing.T) {
	l := newLedger(false)
	l.ApplyStatuses("24h", nil)
	l.ApplyStatuses("24h", map[string]string{"1": "ongoing"})
	l.Commit()
	if got := l.StatusChanges("ongoing"); got != 1 {
		t.Errorf("%d changes, want 1: an empty first look is a baseline too", got)
	}
}

// Rows are told apart by their fields, and by nothing else.
func FuzzIdentity(f *testing.F) {
	f.Add("CN=Root", "1", "CN=Root", "1", int64(1), int64(1))
	f.Add("a", "bc", "ab", "c", int64(1), int64(1))
	f.Add("", "", "", "\x00", int64(0), int64(-1))
	f.Fuzz(func(t *testing.T, issuer1, serial1, issuer2, serial2 string, time1, time2 int64) {
		a := Row{Issuer: issuer1, SerialNumber: serial1, SeenTime: time.Unix(0, time1).In(time.FixedZone("KST", 9*60*60))}
		b := Row{Issuer: issuer2, SerialNumber: serial2, SeenTime: time.Unix(0, time2).UTC()}
		same := issuer1 == issuer2 && serial1 == serial2 && time1 == time2
		if (a.identity() == b.identity()) != same {
			t.Errorf("%+v and %+v: the identities are equal: %v", a, b, !same)
		}
	})
}
