package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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
		all[i].before, all[i].beforePrint = mustRead(t, path), printOf(l)
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
		all[i].after, all[i].afterPrint = mustRead(t, path), printOf(l)
		if !l.Persistent() || all[i].beforePrint == all[i].afterPrint {
			t.Fatal("nothing was written")
		}
	}
	return all
}

// TestPowerCut leaves behind what a power cut or a kill can leave, at each step
// of a write: the old file is there until the new one has its name, and what is
// half done is removed by the next start. If a disk loses contents that it said
// it has, the file is refused: it is never a mix.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	remains := path + ".tmp123"
	opens := func(commit int, step, want string) {
		t.Helper()
		l, err := Open(t.Context(), path, testOptions())
		if err != nil {
			t.Fatalf("commit %d, %s: it is refused: %v", commit, step, err)
		}
		defer mustClose(t, l)
		if printOf(l) != want {
			t.Fatalf("commit %d, %s: the contents are of the wrong side of the commit", commit, step)
		}
		if _, err := os.Stat(remains); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("commit %d, %s: half a file is still there (%v)", commit, step, err)
		}
	}
	for i, c := range commits(t, 8) {
		mustWrite(t, path, c.before)
		for n := range len(c.after) + 1 {
			if n%97 != 0 && n != len(c.after) { // for the time that it takes
				continue
			}
			mustWrite(t, remains, c.after[:n])
			opens(i, fmt.Sprintf("%d of %d bytes", n, len(c.after)), c.beforePrint)
		}
		mustWrite(t, remains, c.after)
		if err := os.Rename(remains, path); err != nil {
			t.Fatal(err)
		}
		opens(i, "renamed", c.afterPrint)
		for n := i; n < len(c.after); n += 8 { // each prefix of one file is among the damages
			if _, _, err := readSnapshot(bytes.NewReader(c.after), int64(n)); !errors.Is(err, ErrDamaged) {
				t.Fatalf("commit %d, renamed with %d of %d bytes: error %v", i, n, len(c.after), err)
			}
			lost := slices.Concat(c.after[:n], make([]byte, len(c.after)-n))
			if _, _, err := readSnapshot(bytes.NewReader(lost), int64(len(lost))); !errors.Is(err, ErrDamaged) {
				t.Fatalf("commit %d, renamed with %d bytes and zeros: error %v", i, n, err)
			}
		}
	}
}

// flaky is a store whose writes can fail, all of them or after they were done.
type flaky struct {
	store
	err    error
	late   bool // the write happens, and fails all the same
	writes int
}

func (f *flaky) write(s *state, changed bool) error {
	if changed {
		f.writes++
	}
	if f.err != nil && !f.late {
		return f.err
	}
	return errors.Join(f.store.write(s, changed), f.err)
}

// onFlakyDisk opens a ledger whose writes can fail.
func onFlakyDisk(t *testing.T, path string, options Options) (*Ledger, *flaky) {
	t.Helper()
	l := mustOpen(t, path, options)
	f := &flaky{store: l.store}
	l.store = f
	return l, f
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
	options.OnSaveError = func(err error) { told = append(told, err) }
	l, f := onFlakyDisk(t, path, options)
	f.late = late
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
	if writes := f.writes; writes != 4 {
		t.Errorf("%d writes, want 4", writes)
	}

	f.err = nil
	l.Commit()
	want("after", 3, true, full, nil)
	if got := l.StatusChanges("normal"); got != 1 {
		t.Errorf("%d changes, want 1", got)
	}
	after := printOf(l)
	writes := f.writes
	l.Commit()
	if f.writes != writes {
		t.Error("what is on disk was written again")
	}
	mustClose(t, l)
	again := mustOpen(t, path, options)
	defer mustClose(t, again)
	if printOf(again) != after {
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
	l, f := onFlakyDisk(t, path, testOptions())
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
