package ledger

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// restarting is a ledger that is closed and opened again before each step.
type restarting struct {
	t       *testing.T
	path    string
	clock   *clock
	options func(*Options)
	*Ledger
}

func newRestarting(t *testing.T) *restarting {
	t.Helper()
	r := &restarting{t: t, path: filepath.Join(t.TempDir(), "ledger.db"), clock: &clock{now: epoch().Add(48 * time.Hour)}, options: func(*Options) {}}
	r.restart()
	t.Cleanup(func() { mustClose(t, r.Ledger) })
	return r
}

func (r *restarting) restart() {
	r.t.Helper()
	if r.Ledger != nil {
		mustClose(r.t, r.Ledger)
	}
	options := r.clock.options()
	r.options(&options)
	r.Ledger = mustOpen(r.t, r.path, options)
}

// scrape is a scrape that found these rows, and its restart.
func (r *restarting) scrape(listed []string, rows ...Row) {
	r.t.Helper()
	r.Listed(listed)
	if slices.Contains(listed, "s") {
		read, err := r.Plan("s").Read(r.t.Context(), onePage{rows, epoch().Add(24 * time.Hour)}, len(rows)+1)
		if err != nil {
			r.t.Fatal(err)
		}
		r.Apply("s", read)
	}
	r.Commit()
	r.restart()
}

func (r *restarting) want(when string, known bool, successes uint64, subjects ...string) {
	r.t.Helper()
	totals, is := r.Totals("s")
	if is != known || totals.Count[Success] != successes {
		r.t.Errorf("%s: known %v with %d rows, want %v with %d", when, is, totals.Count[Success], known, successes)
	}
	got := r.Subjects()
	slices.Sort(got)
	if !slices.Equal(got, subjects) {
		r.t.Errorf("%s: subjects %v, want %v", when, got, subjects)
	}
}

func TestSubjectsThatLeave(t *testing.T) {
	r := newRestarting(t)
	both, one := []string{"s", "t"}, []string{"t"}
	history := []Row{row(1, "a", Success), row(2, "b", Success)}
	r.Apply("t", read())
	r.scrape(both, history...)
	r.want("at first", true, 2, "s", "t")
	r.scrape(one)
	r.want("gone", true, 2, "t")
	r.clock.now = r.clock.now.Add(forgetAfter - 1)
	r.scrape(one)
	r.want("gone for not quite 30 days", true, 2, "t")
	r.scrape(both, append(history, row(3, "c", Success))...)
	r.want("back in time", true, 3, "s", "t")
	r.clock.now = r.clock.now.Add(forgetAfter)
	r.scrape(one)
	r.want("gone again, its time begins anew", true, 3, "t")
	r.clock.now = r.clock.now.Add(forgetAfter)
	r.scrape(one)
	r.want("gone for 30 days", false, 0, "t")
	r.scrape(one)
	r.want("and still", false, 0, "t")
	r.scrape(both, row(3, "c", Success))
	r.want("back as a new one", true, 1, "s", "t")
}

// A subject that is being dropped is not brought back, without its counts, by
// another list before the next commit.
func TestDroppedIsDropped(t *testing.T) {
	c := &clock{now: epoch()}
	l := New(c.options())
	l.Apply("s", read(row(1, "a", Success)))
	l.Commit()
	l.Listed(nil)
	l.Commit()
	c.now = c.now.Add(forgetAfter)
	l.Listed(nil)
	l.Listed(nil)
	l.Listed([]string{"s"})
	l.Commit()
	if totals, known := l.Totals("s"); known {
		t.Errorf("the subject is still there, with %+v", totals)
	}
}

// What NCP lists and whose history was never read is none of the ledger's.
func TestListedButNeverRead(t *testing.T) {
	l := newLedger(false)
	l.Listed([]string{"s"})
	l.Commit()
	if _, known := l.Totals("s"); known || len(l.Subjects()) > 0 {
		t.Error("a subject whose history was never read is known")
	}
}

// Rows whose fingerprints are gone are not counted again when late-arrival is made
// longer, and rows that have fingerprints not when it is made shorter.
func TestLateArrivalChanges(t *testing.T) {
	r := newRestarting(t)
	late := time.Hour
	r.options = func(o *Options) { o.LateArrival = late }
	history := manyRows("s", 0, 5*60*60) // five hours, a row a second
	scrape := func(when string, extra ...Row) {
		t.Helper()
		history = append(history, extra...)
		r.scrape([]string{"s"}, history...)
		totals, _ := r.Totals("s")
		var sum uint64
		for _, n := range totals.Count {
			sum += n
		}
		if sum != uint64(len(history)) {
			t.Errorf("%s: %d are counted, want %d", when, sum, len(history))
		}
	}
	scrape("at first")
	late = 24 * time.Hour
	r.restart()
	scrape("longer")
	scrape("longer, and a row more", row(5*time.Hour, "x", Success))
	late = 10 * time.Minute
	r.restart()
	scrape("shorter")
	scrape("shorter, and a row more", row(5*time.Hour+time.Minute, "y", Success))
	if n := len(r.shown.accounts["s"].fingerprints); n > 700 {
		t.Errorf("%d fingerprints are kept, want those of 10 minutes", n)
	}
	late = 5 * time.Hour
	r.restart()
	scrape("longer again")
}

// Ages of fingerprints that outgrow what is kept of them make no row come twice, and
// keep no fingerprint for ever.
func TestFingerprintsOlderThanTheirAgeCanTell(t *testing.T) {
	long := time.Duration(math.MaxUint32)*time.Millisecond + time.Minute
	first, second := row(0, "a", Success), row(long, "b", Success)
	later := func(full bool) *Read {
		r := readAt(second.SeenTime, first, second)
		r.full = full
		return r
	}
	a, _ := account{}.add(read(first), time.Hour)
	a, _ = a.add(later(false), time.Hour) // the horizon stays, and with it the fingerprint
	if a.count[Success] != 2 || len(a.fingerprints) != 2 {
		t.Fatalf("%d are counted and %d fingerprints kept, want 2", a.count[Success], len(a.fingerprints))
	}
	a, _ = a.add(later(true), time.Hour)
	if a.count[Success] != 2 {
		t.Errorf("%d are counted, want 2", a.count[Success])
	}
	if len(a.fingerprints) != 1 {
		t.Errorf("%d fingerprints are kept, want the one of the last hour", len(a.fingerprints))
	}
}

func TestSkipInitialHistoryOverRestarts(t *testing.T) {
	r := newRestarting(t)
	r.options = func(o *Options) { o.SkipInitialHistory = true }
	r.restart()
	only := []string{"s"}
	r.scrape(only, row(1, "a", Success), row(2, "b", Success))
	r.want("at first", true, 0, "s")
	r.scrape(only, row(1, "a", Success), row(2, "b", Success), row(3, "c", Success))
	r.want("a row more", true, 1, "s")
	// To count from the beginning now changes nothing for a subject that is known.
	r.options = func(*Options) {}
	r.restart()
	r.scrape(only, row(1, "a", Success), row(2, "b", Success), row(3, "c", Success))
	r.want("without the option", true, 1, "s")
}

// The certificate of the newest failure is kept. A ledger of the first layout learns it
// when a read meets that failure again.
func TestCertificateOfTheNewestFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := mustOpen(t, path, testOptions())
	want := func(serial string) {
		t.Helper()
		l.Commit()
		mustClose(t, l)
		l = mustOpen(t, path, testOptions())
		totals, _ := l.Totals("s")
		if by := (Certificate{"CN=Root", serial}); serial != "" && totals.FailedBy != by || serial == "" && totals.FailedBy != (Certificate{}) {
			t.Errorf("the newest failure is that of %+v, want serial number %q", totals.FailedBy, serial)
		}
	}
	all := []Row{row(time.Hour, "a", Success)}
	l.Apply("s", read(all...))
	want("")
	all = append(all, row(2*time.Hour, "b", Failure), row(2*time.Hour, "c", Failure), row(3*time.Hour, "d", Success))
	l.Apply("s", read(all...))
	want("b") // the first of those of one time, and it stays
	l.Apply("s", read(all[2], all[1]))
	want("b")
	l.Apply("s", read(row(90*time.Minute, "late", Failure)))
	want("b")
	l.Apply("s", read(row(4*time.Hour, "\xff\x1b\u009b\n"+strings.Repeat("é", 1000), Failure)))
	want("\uFFFD\uFFFD\uFFFD\uFFFD" + strings.Repeat("é", 253) + "\uFFFD")
	l.Apply("s", read(row(5*time.Hour, "e", Failure)))
	want("e")

	file := mustRead(t, path)
	older := strings.NewReplacer(`"version":2`, `"version":1`, `,"issuer":"CN=Root","serial_number":"e"`, "").Replace(string(file[:len(file)-checksumLength]))
	mustClose(t, l)
	mustWrite(t, path, sealed(t, older))
	l = mustOpen(t, path, testOptions())
	want("")
	if kept := mustRead(t, path); string(kept) != string(sealed(t, older)) {
		t.Errorf("a file of the first layout was written without need:\n%s", kept)
	}
	l.Apply("s", read(all...))
	want("")
	l.Apply("s", read(row(5*time.Hour, "e", Failure)))
	want("e")
	if got, _ := l.Totals("s"); got.Count != [NumResults]uint64{2, 4, 0} {
		t.Errorf("counts %v", got.Count)
	}
	mustClose(t, l)
}
