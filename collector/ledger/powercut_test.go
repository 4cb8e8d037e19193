package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// commit is a commit to a file: what was in the file before and after.
type commit struct {
	before, after           []byte
	beforePrint, afterPrint string
}

// commits are those of a few weeks in which subjects come, authenticate and go.
func commits(t *testing.T, n int) []commit {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.db")
	c := &clock{now: epoch()}
	l := mustOpen(t, path, c.options())
	defer mustClose(t, l)
	random := rand.New(rand.NewPCG(5, 6)) //nolint:gosec // the same in each run
	all := make([]commit, n)
	for i := range all {
		all[i].before, all[i].beforePrint = mustRead(t, path), fingerprint(l)
		c.now = c.now.Add(36 * time.Hour)
		var listed []string
		for s := range 3 + i {
			if id := "subject-" + strconv.Itoa(s); (s+i)%11 != 0 {
				listed = append(listed, id)
				l.Apply(id, read(manyRows(id, time.Duration(i)*30*time.Minute, random.IntN(8)*random.IntN(8)*random.IntN(8))...))
			}
		}
		l.Listed(listed)
		l.ApplyStatuses("24h", map[string]string{"1": strconv.Itoa(i)})
		l.Commit()
		all[i].after, all[i].afterPrint = mustRead(t, path), fingerprint(l)
		if !l.Persistent() || all[i].beforePrint == all[i].afterPrint {
			t.Fatal("nothing was written")
		}
	}
	return all
}

// powerCut is one file that a power cut may leave.
type powerCut struct {
	what     string
	file     []byte
	mustBe   string // the contents that it must have; "" for old, new, or refused
	oldOrNew [2]string
}

// powerCuts makes the files that a power cut during c may leave. bbolt lets the
// file grow, writes the data pages and waits for the disk; then it writes a meta
// page, and waits again.
func (c *commit) powerCuts(random *rand.Rand, yield func(powerCut)) {
	cut := func(mustBe string, file []byte, what string, args ...any) {
		yield(powerCut{fmt.Sprintf(what, args...), file, mustBe, [2]string{c.beforePrint, c.afterPrint}})
	}
	before := append(bytes.Clone(c.before), make([]byte, len(c.after)-len(c.before))...) // it has grown
	var data []int
	meta := -1
	for page := range len(c.after) / pageSize {
		at := page * pageSize
		switch {
		case bytes.Equal(before[at:at+pageSize], c.after[at:at+pageSize]):
		case page < 2:
			meta = page
		default:
			data = append(data, page)
		}
	}
	half := func(file []byte, page, from, to int) []byte {
		torn := bytes.Clone(file)
		at := page * pageSize
		copy(torn[at+from:at+to], c.after[at+from:at+to])
		return torn
	}
	for n := len(c.before); n < len(c.after); n += pageSize {
		cut(c.beforePrint, before[:n], "grown to %d of %d bytes", n, len(c.after))
	}
	written := bytes.Clone(before)
	for i, page := range data {
		cut(c.beforePrint, bytes.Clone(written), "%d of %d data pages", i, len(data))
		from := i % 2 * pageSize / 2
		cut(c.beforePrint, half(written, page, from, from+pageSize/2), "%d of %d data pages and half of one", i, len(data))
		// A disk may write the pages in any order.
		some := bytes.Clone(before)
		for _, page := range data {
			if random.IntN(2) == 0 {
				some = half(some, page, 0, pageSize)
			}
		}
		cut(c.beforePrint, some, "some data pages")
		written = half(written, page, 0, pageSize)
	}
	cut(c.beforePrint, bytes.Clone(written), "all data pages")
	for _, n := range []int{8, 16, 32, 48, 64, 76, 80, 84, 88, 512} {
		cut("", half(written, meta, 0, n), "the first %d bytes of the meta page", n)
		cut("", half(written, meta, n, pageSize), "the meta page but its first %d bytes", n)
	}
	zeroed := bytes.Clone(written)
	clear(zeroed[meta*pageSize : (meta+1)*pageSize])
	cut(c.beforePrint, zeroed, "the meta page zeroed")
	cut(c.afterPrint, c.after, "all")
	// The file's new length is lost, which it should not be.
	for n := len(c.before); n < len(c.after); n += pageSize {
		cut("", c.after[:n], "all, cut to %d of %d bytes", n, len(c.after))
	}
}

// Whenever the power goes during a commit: the file has what was there before
// or what should be there after, or it is refused. It is never a mix.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 8)) //nolint:gosec // the same in each run
	path := filepath.Join(t.TempDir(), "ledger.db")
	var old, anew, refused int
	for i, c := range commits(t, 20) {
		c.powerCuts(random, func(cut powerCut) {
			mustWrite(t, path, cut.file)
			l, err := Open(path, testOptions())
			if err != nil {
				checkRefusal(t, path, err, cut.file, ErrDamaged)
				if refused++; cut.mustBe != "" {
					t.Errorf("commit %d, %s: it is refused: %v", i, cut.what, err)
				}
				return
			}
			got := fingerprint(l)
			mustClose(t, l)
			switch got {
			case cut.oldOrNew[0]:
				old++
			case cut.oldOrNew[1]:
				anew++
			default:
				t.Fatalf("commit %d, %s: it was opened with contents that never were", i, cut.what)
			}
			if cut.mustBe != "" && got != cut.mustBe {
				t.Errorf("commit %d, %s: the contents are of the wrong side of the commit", i, cut.what)
			}
		})
	}
	t.Logf("%d power cuts: %d opened as before the commit, %d as after it, %d refused", old+anew+refused, old, anew, refused)
	if old == 0 || anew == 0 {
		t.Error("the power cuts do not do what they should")
	}
}

// flaky is a store whose writes can fail, all of them or after they were done.
type flaky struct {
	store
	err    error
	late   bool // the write happens, and fails all the same
	writes int
}

func (f *flaky) write(c change) error {
	if !c.empty() {
		f.writes++
	}
	if f.err != nil && !f.late {
		return f.err
	}
	return errors.Join(f.store.write(c), f.err)
}

// While the disk cannot be written the counts go on in memory, and it is said;
// once it can all is on it, also what was counted meanwhile.
func TestWritesThatFail(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late=%v", late), func(t *testing.T) { testWritesThatFail(t, late) })
	}
}

func testWritesThatFail(t *testing.T, late bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.db")
	c := &clock{now: epoch()}
	options := c.options()
	var told []error
	options.Kept = func(err error) { told = append(told, err) }
	disk, err := openFile(path, testSite, c.now)
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{store: disk, late: late}
	l, err := with(f, options)
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left on device")
	want := func(when string, count uint64, persistent bool, tellings ...error) {
		t.Helper()
		if totals, _ := l.Totals("s"); totals.Count[Success] != count {
			t.Errorf("%s: %d are counted, want %d", when, totals.Count[Success], count)
		}
		if l.Persistent() != persistent {
			t.Errorf("%s: persistent is %v", when, l.Persistent())
		}
		if len(told) != len(tellings) {
			t.Fatalf("%s: told %v, want %v", when, told, tellings)
		}
		for i := range told {
			if !errors.Is(told[i], tellings[i]) {
				t.Errorf("%s: told %v, want %v", when, told, tellings)
			}
		}
	}
	l.Apply("s", read(row(1, "a", Success)))
	l.Apply("leaver", read(row(1, "a", Success)))
	l.ApplyStatuses("24h", map[string]string{"1": "ongoing"})
	l.Listed([]string{"s"})
	l.Commit()
	l.Listed([]string{"s"})
	l.Commit()
	want("at first", 1, true)

	f.err = full
	l.Apply("s", read(row(1, "a", Success), row(2, "b", Success)))
	l.ApplyStatuses("24h", map[string]string{"1": "normal"})
	l.Commit()
	want("at the first failure", 2, false, full)
	l.Commit() // a quiet scrape tries again
	want("at the second", 2, false, full)
	c.now = c.now.Add(forgetAfter)
	l.Listed([]string{"s"})
	l.Apply("s", read(row(2, "b", Success), row(3, "c", Success)))
	l.Apply("other", read(row(1, "a", Success)))
	l.Commit()
	want("at the third", 3, false, full)
	if writes := f.writes; writes != 5 {
		t.Errorf("%d writes, want 5", writes)
	}

	f.err = nil
	l.Commit()
	want("after", 3, true, full, nil)
	if got := l.StatusChanges("normal"); got != 1 {
		t.Errorf("%d changes, want 1", got)
	}
	after := fingerprint(l)
	writes := f.writes
	l.Commit()
	if f.writes != writes {
		t.Error("what is on disk was written again")
	}
	mustClose(t, l)
	again := mustOpen(t, path, options)
	defer mustClose(t, again)
	if fingerprint(again) != after {
		t.Error("what was counted while the disk could not be written is not all on it")
	}
	if _, known := again.Totals("leaver"); known {
		t.Error("the subject that was dropped while the disk could not be written is still on it")
	}
}

// What is lost with a process that could not write is counted again from the
// history, and not twice.
func TestRestartWhileWritesFail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	disk, err := openFile(path, testSite, epoch())
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{store: disk}
	l, err := with(f, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	l.Apply("s", read(row(1, "a", Success)))
	l.Commit()
	f.err = errors.New("no space left on device")
	l.Apply("s", read(row(1, "a", Success), row(2, "b", Success)))
	l.Commit()
	mustClose(t, l)
	again := mustOpen(t, path, testOptions())
	defer mustClose(t, again)
	if got := counts(t, again); got[Success] != 1 {
		t.Errorf("%d are on disk, want the 1 from before the failure", got[Success])
	}
	again.Apply("s", read(row(1, "a", Success), row(2, "b", Success)))
	again.Commit()
	if got := counts(t, again); got[Success] != 2 {
		t.Errorf("%d are counted, want 2", got[Success])
	}
}
