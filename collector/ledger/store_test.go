package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testURL = "https://external-access.example"

// clock is a clock that stands until it is moved.
type clock struct{ now time.Time }

func (c *clock) options() Options {
	return Options{LateArrival: time.Hour, Owner: Owner{BaseURL: testURL}, Now: func() time.Time { return c.now }}
}

func testOptions() Options { return (&clock{now: epoch().Add(48 * time.Hour)}).options() }

func mustOpen(t testing.TB, path string, options Options) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), path, options)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustClose(t testing.TB, l *Ledger) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path) //nolint:gosec // a test's own file
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustWrite(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// printOf is all that a ledger shows and keeps, to the last bit.
func printOf(l *Ledger) string {
	var b strings.Builder
	_ = writeSnapshot(&b, Owner{}, l.shown) // nothing to fail
	return b.String()
}

// manyRows are n rows one second apart.
func manyRows(subject string, from time.Duration, n int) []Row {
	rows := make([]Row, n)
	for i := range rows {
		rows[i] = row(from+time.Duration(i)*time.Second, subject+"-"+strconv.Itoa(i), Result(i%int(NumResults)))
	}
	return rows
}

// aFile is a ledger file with long lines, short ones, and a subject that is gone.
func aFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := mustOpen(t, path, testOptions())
	const subjects = 6
	for round := range 2 {
		for i := range subjects {
			n := i % 4
			if i == 3 {
				n = 100
			}
			id := fmt.Sprintf("subject-%03d", i)
			l.Apply(id, read(manyRows(id, time.Duration(round)*10*time.Minute, n)...))
		}
		l.Listed(slices.Collect(func(yield func(string) bool) {
			for i := range subjects - 1 {
				if !yield(fmt.Sprintf("subject-%03d", i)) {
					return
				}
			}
		}))
		l.ApplyStatuses("24h", map[string]string{"1": "normal", "2": strconv.Itoa(round)})
		l.Commit()
	}
	if !l.Persistent() {
		t.Fatal("the file was not written")
	}
	mustClose(t, l)
	return path
}

func TestReopenKeepsAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "directories", "ledger.db")
	c := &clock{now: epoch().Add(48 * time.Hour)}
	begun := c.now
	l := mustOpen(t, path, c.options())
	l.Apply("s", read(row(1, "a", Success), row(time.Hour, "b", Failure), row(2*time.Hour, "c", Unknown)))
	l.Apply("empty", read())
	l.Apply("gone", read(row(time.Minute, "a", Failure)))
	l.ApplyStatuses("24h", map[string]string{"1": "ongoing", "2": "normal"})
	l.ApplyStatuses("24h", map[string]string{"1": "normal"})
	l.Commit()
	l.Listed([]string{"s", "empty"})
	l.Commit()
	want, wantPrint := l.shown, printOf(l)
	for range 3 {
		mustClose(t, l)
		c.now = c.now.Add(time.Minute)
		l = mustOpen(t, path, c.options())
		if diff := cmp.Diff(want, l.shown, cmp.AllowUnexported(state{}, account{}, fingerprint{})); diff != "" {
			t.Fatalf("contents (-written +read):\n%s", diff)
		}
		if printOf(l) != wantPrint {
			t.Error("the fingerprint of the same contents is another")
		}
	}
	defer mustClose(t, l)
	a := l.shown.accounts["s"]
	switch {
	case a.count != [NumResults]uint64{1, 1, 1}, a.newest[Unknown] != instantOf(epoch().Add(2*time.Hour)), a.created == 0,
		a.watermark == 0, a.horizon == 0, len(a.fingerprints) == 0, l.shown.accounts["gone"].missingSince == 0:
		t.Errorf("what was to be kept was not there to be kept: %+v", l.shown.accounts)
	}
	if !l.Since().Equal(begun) {
		t.Errorf("since %s, want %s: a restart does not move it", l.Since(), begun)
	}
	if got := l.StatusChanges("normal"); got != 1 {
		t.Errorf("%d changes, want 1", got)
	}
	if !l.Persistent() {
		t.Error("a ledger with a file is not persistent")
	}
	// The same rows again are no new ones.
	l.Apply("s", read(row(1, "a", Success), row(time.Hour, "b", Failure), row(2*time.Hour, "c", Unknown)))
	l.Commit()
	if got := counts(t, l); got != [NumResults]uint64{1, 1, 1} {
		t.Errorf("counts %v after the same rows came again, want one of each", got)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, want that nobody else reads it", info.Mode())
	}
}

// counting is a store that counts what is written to the one below it.
type counting struct {
	store
	writes int
}

func (c *counting) write(s *state, changed bool) error {
	if changed {
		c.writes++
	}
	return c.store.write(s, changed)
}

func TestNothingIsWrittenWhenNothingChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := mustOpen(t, path, testOptions())
	defer mustClose(t, l)
	disk := &counting{store: l.store}
	l.store = disk
	scrape := func() {
		l.Listed([]string{"s"})
		l.Apply("s", read(row(1, "a", Success), row(time.Hour, "b", Failure)))
		l.ApplyStatuses("24h", map[string]string{"1": "normal"})
		l.Commit()
	}
	identity := func() os.FileInfo {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	scrape()
	before, writes := identity(), disk.writes
	for range 3 {
		scrape()
		if now := identity(); !os.SameFile(before, now) || !now.ModTime().Equal(before.ModTime()) || disk.writes != writes {
			t.Fatal("a scrape that brought nothing new wrote to the file")
		}
	}
	// All subjects of a commit, and the certificates, go into one write.
	for i := range 100 {
		l.Apply(strconv.Itoa(i), read(row(1, "a", Success)))
	}
	l.ApplyStatuses("24h", map[string]string{"1": "ongoing"})
	l.Commit()
	if got := disk.writes - writes; got != 1 {
		t.Errorf("100 subjects and the certificates took %d writes, want 1", got)
	}
	if os.SameFile(before, identity()) {
		t.Error("what changed was written into the old file, not into one that took its place")
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := mustOpen(t, path, testOptions())
	before := mustRead(t, path)
	wantRefusal(t, path, testOptions(), before, ErrLocked)
	mustClose(t, l)
	mustClose(t, mustOpen(t, path, testOptions()))
}

// wantRefusal opens a file that must be refused for one of these problems, and
// left as it is.
func wantRefusal(t *testing.T, path string, options Options, before []byte, problems ...FileProblem) {
	t.Helper()
	l, err := Open(t.Context(), path, options)
	if err == nil {
		_ = l.Close()
		t.Fatal("the file was opened")
	}
	checkRefusal(t, path, err, before, problems...)
	if _, probed := Probe(t.Context(), path, options); probed == nil || probed.Error() != err.Error() {
		t.Errorf("Probe says %v, but Open %v", probed, err)
	}
	if before != nil && !bytes.Equal(before, mustRead(t, path)) {
		t.Fatal("the refused file was changed by a probe")
	}
}

func checkRefusal(t *testing.T, path string, err error, before []byte, problems ...FileProblem) {
	t.Helper()
	var e *FileError
	if !errors.As(err, &e) || e.Path != path {
		t.Fatalf("error %v (%T), want a FileError of %s", err, err, path)
	}
	if !slices.ContainsFunc(problems, func(p FileProblem) bool { return errors.Is(err, p) }) {
		t.Fatalf("error %v, want %v", err, problems)
	}
	message := err.Error()
	if strings.ContainsAny(message, "\r\n") || !strings.Contains(message, path) || !strings.Contains(message, string(e.Problem)) {
		t.Errorf("message %q, want one line with the path and what is wrong", message)
	}
	wayOut := strings.Contains(message, "move") || strings.Contains(message, "a file of its own")
	if e.Problem != ErrUnusable && !wayOut {
		t.Errorf("message %q names no way out", message)
	}
	if before != nil && !bytes.Equal(before, mustRead(t, path)) {
		t.Fatal("the refused file was changed")
	}
}

// lines are the lines of a whole file without the checksum.
func lines(t testing.TB) []string {
	t.Helper()
	all := strings.SplitAfter(string(mustRead(t, aFile(t))), "\n")
	return all[:len(all)-2]
}

// sealed is a file of these lines whose checksum is right, so that what comes
// after it is met.
func sealed(t testing.TB, lines ...string) []byte {
	t.Helper()
	b := []byte(strings.Join(lines, ""))
	sum := sha256.Sum256(b)
	return fmt.Appendf(b, "{\"sha256\":\"%x\"}\n", sum)
}

func TestRefusedFiles(t *testing.T) {
	whole := lines(t)
	changed := func(line int, from, to string) []byte {
		t.Helper()
		all := slices.Clone(whole)
		all[line] = strings.Replace(all[line], from, to, 1)
		if all[line] == whole[line] {
			t.Fatalf("line %d has no %q: %s", line, from, all[line])
		}
		return sealed(t, all...)
	}
	without := func(line int) []byte { return sealed(t, slices.Delete(slices.Clone(whole), line, line+1)...) }
	fingerprints := regexp.MustCompile(`"fingerprints":"[^"]+"`)
	unsealed := func(file []byte) []byte { return file[:len(file)-checksumLength] }
	bolt := make([]byte, 4096)
	binary.NativeEndian.PutUint32(bolt[16:], 0xED0CDAED)
	for _, tt := range []struct {
		name string
		file []byte
		want FileProblem
	}{
		{"empty", nil, ErrDamaged},
		{"junk", []byte("junk"), ErrDamaged},
		{"other JSON", sealed(t, "{\"format\":\"theirs\",\"version\":1}\n"), ErrDamaged},
		{"zeros", make([]byte, 1<<20), ErrDamaged},
		{"a bbolt database", bolt, ErrOldKind},
		{"newer", changed(0, `"version":2`, `"version":3`), ErrNewer},
		{"much newer, without anything else known", []byte("{\"format\":\"ncp_exporter ledger\",\"version\":99,\"new\":[]}\n\x00\x01"), ErrNewer},
		{"version 0", changed(0, `"version":2`, `"version":0`), ErrDamaged},
		{"no version", changed(0, `"version":2,`, ``), ErrDamaged},
		{"version that is no number", changed(0, `"version":2`, `"version":"one"`), ErrDamaged},
		{"other base URL", changed(0, testURL, "https://other.example"), ErrOwner},
		{"other account", changed(0, `"account":""`, `"account":"agency"`), ErrOwner},
		{"other base URL by mishap", bytes.Replace(mustRead(t, aFile(t)), []byte(testURL), []byte("https://external-access.exampl_"), 1), ErrDamaged},
		{"no time of beginning", changed(0, `,"since":"2026-11-24T00:00:00Z"`, ``), ErrDamaged},
		{"an unknown field in the header", changed(0, `"version"`, `"more":1,"version"`), ErrDamaged},
		{"a space in the header", changed(0, `,"version"`, `, "version"`), ErrDamaged},
		{"no certificates", without(1), ErrDamaged},
		{"certificates twice", sealed(t, slices.Insert(slices.Clone(whole), 1, whole[1])...), ErrDamaged},
		{"an unknown field of the certificates", changed(1, `"scope"`, `"more":1,"scope"`), ErrDamaged},
		{"a certificate twice", changed(1, `{"1":"normal"`, `{"1":"normal","1":"normal"`), ErrDamaged},
		{"a subject less, by mishap", slices.Concat(unsealed(without(3)), mustRead(t, aFile(t))[len(strings.Join(whole, "")):]), ErrDamaged},
		{"a subject twice", sealed(t, slices.Insert(slices.Clone(whole), 3, whole[3])...), ErrDamaged},
		{"subjects in another order", sealed(t, append(slices.Clone(whole[:2]), whole[3], whole[2])...), ErrDamaged},
		{"an unknown field of a subject", changed(2, `"success"`, `"more":1,"success"`), ErrDamaged},
		{"a field twice", changed(2, `"subject":`, `"subject":"x","subject":`), ErrDamaged},
		{"a subject without its id", changed(2, `"subject":"subject-000",`, ``), ErrDamaged},
		{"a count below 0", changed(2, `"count":0`, `"count":-1`), ErrDamaged},
		{"a time that no account can keep", changed(2, `"counting_since":"2026`, `"counting_since":"9026`), ErrDamaged},
		{"a fingerprint cut off", changed(3, `"fingerprints":"`, `"fingerprints":"AAAA`), ErrDamaged},
		{"fingerprints in another order", changed(3, fingerprints.FindString(whole[3]), `"fingerprints":"AP///////wAAAAAAAAA="`), ErrDamaged},
		{"a line cut off", sealed(t, append(slices.Clone(whole), "{\"subject\":\"z\"")...), ErrDamaged},
		{"no subject, but a number", sealed(t, append(slices.Clone(whole), "1\n")...), ErrDamaged},
		{"no checksum", unsealed(sealed(t, whole...)), ErrDamaged},
		{"two checksums", sealed(t, string(sealed(t, whole...))), ErrDamaged},
		{"something behind it", append(sealed(t, whole...), '\n'), ErrDamaged},
		{"a file twice", slices.Concat(sealed(t, whole...), sealed(t, whole...)), ErrDamaged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.db")
			mustWrite(t, path, tt.file)
			wantRefusal(t, path, testOptions(), tt.file, tt.want)
		})
	}
}

// A file goes on with its account: also if the account had no name or another one
// when it was kept, and the next write has the new one. No other account takes it.
func TestOwners(t *testing.T) {
	owned := func(account string) Options {
		options := testOptions()
		options.Owner.Account = account
		return options
	}
	path := filepath.Join(t.TempDir(), "ledger.db")
	goesOn := func(options Options) {
		t.Helper()
		if found, err := Probe(t.Context(), path, options); !found || err != nil {
			t.Errorf("Probe: found %t, error %v", found, err)
		}
		l := mustOpen(t, path, options)
		defer mustClose(t, l)
		l.Commit() // nothing is new but the owner
		if got := counts(t, l); got[Success] != 1 || !l.Persistent() {
			t.Errorf("%d rows are counted, persistent: %v", got[Success], l.Persistent())
		}
	}
	refused := func(options Options, names ...string) {
		t.Helper()
		before := mustRead(t, path)
		wantRefusal(t, path, options, before, ErrOwner)
		_, err := Open(t.Context(), path, options)
		for _, name := range names {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("message %q, want it to name %s", err, name)
			}
		}
	}
	l := mustOpen(t, path, testOptions())
	l.Apply("s", read(row(1, "a", Success)))
	l.Commit()
	mustClose(t, l)

	goesOn(owned("prod"))
	goesOn(owned("prod"))
	refused(owned("agency"), `account "prod" at `+testURL, `account "agency" at `+testURL)
	refused(testOptions(), `account "prod"`)
	renamed := owned("production")
	renamed.Formerly = "prod"
	elsewhere := renamed
	elsewhere.Owner.BaseURL = "https://other.example"
	refused(elsewhere, testURL, "https://other.example")
	goesOn(renamed)
	refused(owned("prod"), `"production"`)
	goesOn(owned("production"))
}

func TestUnusablePaths(t *testing.T) {
	directory := t.TempDir()
	regular, nowhere := filepath.Join(directory, "regular"), filepath.Join(directory, "nowhere")
	mustWrite(t, regular, []byte("x"))
	if err := os.Symlink(filepath.Join(directory, "missing"), nowhere); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{directory, nowhere, os.DevNull, filepath.Join(regular, "ledger.db"), filepath.Join(regular, "below", "ledger.db")} {
		wantRefusal(t, path, testOptions(), nil, ErrUnusable)
	}
	if got := mustRead(t, regular); string(got) != "x" {
		t.Errorf("the file in the way is now %q", got)
	}
	if entries, err := os.ReadDir(directory); err != nil || len(entries) != 2 {
		t.Errorf("the directory holds %v (%v), want nothing new", entries, err)
	}
}

// A ledger gets its name when it is whole: neither a process that is ended while
// it makes one nor a full disk leaves a file that stops the next start; and what
// it leaves is removed.
func TestNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "below", "ledger.db")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	others := []string{path + ".tmp", path + ".tmp1x", path + "2.tmp1"}
	for _, name := range append([]string{path + ".tmp1", path + ".tmp4294967295"}, others...) {
		mustWrite(t, name, []byte("half a file"))
	}
	for i, begun := range []bool{true, false} {
		l := mustOpen(t, path, testOptions())
		if l.Begun() != begun || len(l.shown.accounts) > 0 || !l.Since().Equal(testOptions().Now()) {
			t.Errorf("open %d: begun %v, %d accounts, since %s", i, l.Begun(), len(l.shown.accounts), l.Since())
		}
		mustClose(t, l)
	}
	want := append([]string{filepath.Dir(path), path, path + ".lock"}, others...)
	slices.Sort(want)
	if diff := cmp.Diff(want, names(t, filepath.Dir(path))); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}

// Of two processes that start at the same moment one begins the file, and the
// other says that another has it: here two locks of one process stand for them.
func TestTwoFirstStarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	var starts sync.WaitGroup
	var begun, locked atomic.Int32
	for range 2 {
		starts.Go(func() {
			l, err := Open(t.Context(), path, testOptions())
			switch {
			case errors.Is(err, ErrLocked):
				locked.Add(1)
			case err != nil:
				t.Error(err)
			case l.Begun():
				begun.Add(1)
				t.Cleanup(func() { mustClose(t, l) })
			}
		})
	}
	starts.Wait()
	if begun.Load() != 1 || locked.Load() != 1 {
		t.Errorf("%d began the file and %d were told that another has it, want 1 and 1", begun.Load(), locked.Load())
	}
}

// Who waits for the lock waits for a second, and not longer than the context.
func TestWaitForTheLockEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	holder := mustOpen(t, path, testOptions())
	defer mustClose(t, holder)
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			limit, want time.Duration
			err         error
		}{
			{time.Minute, time.Second, ErrLocked},
			{100 * time.Millisecond, 100 * time.Millisecond, context.DeadlineExceeded},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
			defer cancel()
			begin := time.Now()
			_, err := Open(ctx, path, testOptions())
			if took := time.Since(begin); !errors.Is(err, tt.err) || took != tt.want {
				t.Errorf("error %v after %s, want %v after %s", err, took, tt.err, tt.want)
			}
		}
	})
}

// A lock file is nobody's once its process has ended, however it ended.
func TestLockFileThatWasLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	mustWrite(t, path+".lock", []byte("anything"))
	mustClose(t, mustOpen(t, path, testOptions()))
	if err := errors.Join(os.Remove(path+".lock"), os.Mkdir(path+".lock", 0o700)); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, path, testOptions(), mustRead(t, path), ErrUnusable)
}

// What is written through a link goes into the file that it leads to.
func TestLinkedFile(t *testing.T) {
	path := aFile(t)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, link, testOptions())
	wantRefusal(t, path, testOptions(), nil, ErrLocked)
	l.Apply("another", read())
	l.Commit()
	mustClose(t, l)
	l = mustOpen(t, path, testOptions())
	defer mustClose(t, l)
	if _, known := l.Totals("another"); !known {
		t.Error("what was written through the link is not in the file")
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().IsRegular() {
		t.Errorf("the link is no link any more: %v, %v", info, err)
	}
}

// The rights that somebody gave to a file stay, as for a backup's user.
func TestRightsStay(t *testing.T) {
	path := aFile(t)
	if err := os.Chmod(path, 0o640); err != nil { //nolint:gosec // so it is said
		t.Fatal(err)
	}
	l := mustOpen(t, path, testOptions())
	defer mustClose(t, l)
	l.Apply("another", read())
	l.Commit()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 || !l.Persistent() {
		t.Errorf("the mode is %v (%v), persistent: %v", info.Mode(), err, l.Persistent())
	}
}

// A ledger that was closed writes no more: by then the file may be another's.
func TestClosedIsClosed(t *testing.T) {
	path := aFile(t)
	before := mustRead(t, path)
	l := mustOpen(t, path, testOptions())
	mustClose(t, l)
	l.Apply("another", read())
	l.Commit()
	if l.Persistent() || !bytes.Equal(before, mustRead(t, path)) {
		t.Error("a ledger wrote to its file after it was closed")
	}
}

// A file that is moved away while it is open is no longer on disk; once it is
// back, all that was counted meanwhile is.
func TestMovedAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := mustOpen(t, path, testOptions())
	l.Apply("s", read(row(1, "a", Success)))
	l.Commit()
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	l.Commit() // nothing is new, and yet it shows
	if l.Persistent() {
		t.Error("a ledger without a file is said to be on disk")
	}
	l.Apply("s", read(row(2, "b", Success)))
	l.Commit()
	if got := counts(t, l); got[Success] != 2 || l.Persistent() {
		t.Errorf("%d rows are counted, persistent: %v", got[Success], l.Persistent())
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	l.Commit()
	if !l.Persistent() {
		t.Error("the file is back, and the ledger is not said to be on disk")
	}
	mustClose(t, l)
	l = mustOpen(t, path, testOptions())
	defer mustClose(t, l)
	if got := counts(t, l); got[Success] != 2 {
		t.Errorf("%d rows are on disk, want 2", got[Success])
	}
}

// A file whose contents were changed from outside is brought up to date, and one
// that another file has taken the place of is left alone.
func TestReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := mustOpen(t, path, testOptions())
	defer mustClose(t, l)
	l.Apply("s", read(row(1, "a", Success)))
	l.Commit()
	whole := mustRead(t, path)
	mustWrite(t, path, []byte("something else"))
	l.Commit()
	if !l.Persistent() || !bytes.Equal(whole, mustRead(t, path)) {
		t.Error("the file does not hold the ledger again")
	}
	mustWrite(t, path+".other", []byte("another"))
	if err := os.Rename(path+".other", path); err != nil {
		t.Fatal(err)
	}
	l.Apply("s", read(row(2, "b", Success)))
	l.Commit()
	if l.Persistent() || string(mustRead(t, path)) != "another" {
		t.Errorf("persistent: %v, and the file that took the place holds %q", l.Persistent(), mustRead(t, path))
	}
}

// Whatever is damaged in one place, or cut off: the file is refused and left as it is.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	whole := mustRead(t, aFile(t))
	target := filepath.Join(t.TempDir(), "damaged.db")
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in each run
	refused := func(damaged []byte, what string, args ...any) {
		t.Helper()
		// Of what it says about itself a bit may make a newer version.
		var e *FileError
		_, _, err := readSnapshot(bytes.NewReader(damaged), int64(len(damaged)))
		if !errors.As(err, &e) || e.Problem != ErrDamaged && e.Problem != ErrNewer {
			t.Fatalf("%s: error %v", fmt.Sprintf(what, args...), err)
		}
		if random.IntN(50) > 0 { // for the time that it takes
			return
		}
		mustWrite(t, target, damaged)
		_, err = Open(t.Context(), target, testOptions())
		checkRefusal(t, target, err, damaged, ErrDamaged, ErrNewer)
	}
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1 << random.IntN(8)
		refused(damaged, "a bit of byte %d", i)
		damaged[i] = whole[i] + byte(1+random.IntN(255)) //nolint:gosec // it fits
		refused(damaged, "byte %d", i)
		refused(slices.Delete(bytes.Clone(whole), i, i+1), "without byte %d", i)
		refused(slices.Insert(bytes.Clone(whole), i, whole[i]), "byte %d twice", i)
		refused(whole[:i], "cut to %d bytes", i)
		damaged = bytes.Clone(whole)
		clear(damaged[i:min(i+64, len(whole))])
		refused(damaged, "64 bytes from %d zeroed", i)
	}
}

// No file that the ledger itself wrote is ever taken for damaged: whatever the
// sizes of the accounts, and however they grow and go.
func TestHealthyFilesAreOpened(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same in each run
	c := &clock{now: epoch()}
	l := mustOpen(t, path, c.options())
	for round := range 40 {
		if round%20 == 19 { // all but a few leave
			c.now = c.now.Add(1000 * time.Hour)
			l.Listed([]string{"subject-3", "subject-30"})
			l.Commit()
			c.now = c.now.Add(1000 * time.Hour)
			l.Listed([]string{"subject-3", "subject-30"})
		}
		for range random.IntN(60) {
			n := random.IntN(20)
			if random.IntN(5) == 0 {
				n = random.IntN(600)
			}
			id := "subject-" + strconv.Itoa(random.IntN(300))
			l.Apply(id, read(manyRows(id, time.Duration(round)*4*time.Hour, n)...))
		}
		l.Commit()
		want := printOf(l)
		mustClose(t, l)
		l = mustOpen(t, path, c.options())
		if printOf(l) != want {
			t.Fatalf("round %d: it was opened with other contents", round)
		}
	}
	mustClose(t, l)
}
