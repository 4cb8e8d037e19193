package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
)

const (
	testSite = "https://external-access.example"
	pageSize = 4096 // of the files of these tests
)

// clock is a clock that stands until it is moved.
type clock struct{ now time.Time }

func (c *clock) options() Options {
	return Options{LateArrival: time.Hour, Site: testSite, Now: func() time.Time { return c.now }}
}

func testOptions() Options { return (&clock{now: epoch().Add(48 * time.Hour)}).options() }

func mustOpen(t testing.TB, path string, options Options) *Ledger {
	t.Helper()
	l, err := Open(path, options)
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

// noSync spares a test the wait for the disk where the file is read back by
// the same machine.
func noSync(t testing.TB, l *Ledger) *Ledger {
	t.Helper()
	f, ok := l.store.(*file)
	if !ok {
		t.Fatal("not a ledger with a file")
	}
	f.db.NoSync = true
	return l
}

// fingerprint is all that a ledger shows and keeps, to the last bit.
func fingerprint(l *Ledger) string {
	var b strings.Builder
	b.WriteString(l.since.String())
	for _, id := range slices.Sorted(maps.Keys(l.accounts)) {
		a := l.accounts[id]
		b.WriteString("\n" + id + " ")
		b.Write(encodeAccount(id, &a))
	}
	b.WriteString("\n")
	b.Write(encodeStatuses(keyStatuses, &l.statuses))
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

// aFile is a ledger file with trees that have branches, records longer than a
// page, small ones, and a subject that is gone; and what may be in it.
func aFile(t testing.TB) (path string, states map[string]bool) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ledger.db")
	states = make(map[string]bool)
	l := noSync(t, mustOpen(t, path, testOptions()))
	states[fingerprint(l)] = true
	const subjects = 18
	for round := range 2 {
		for i := range subjects {
			n := i % 7
			if i%12 == 0 {
				n = 300
			}
			id := fmt.Sprintf("subject-%03d", i*7%subjects)
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
		states[fingerprint(l)] = true
	}
	if !l.Persistent() {
		t.Fatal("the file was not written")
	}
	mustClose(t, l)
	return path, states
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
	want, wantPrint := contents{since: l.since, accounts: l.accounts, statuses: l.statuses}, fingerprint(l)
	for range 3 {
		mustClose(t, l)
		c.now = c.now.Add(time.Minute)
		l = mustOpen(t, path, c.options())
		got := contents{since: l.since, accounts: l.accounts, statuses: l.statuses}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(contents{}, account{}, mark{}, statuses{})); diff != "" {
			t.Fatalf("contents (-written +read):\n%s", diff)
		}
		if fingerprint(l) != wantPrint {
			t.Error("the fingerprint of the same contents is another")
		}
	}
	defer mustClose(t, l)
	a := l.accounts["s"]
	switch {
	case a.count != [NumResults]uint64{1, 1, 1}, a.newest[Unknown] != instantOf(epoch().Add(2*time.Hour)), a.created == 0,
		a.watermark == 0, a.line == 0, len(a.marks) == 0, l.accounts["gone"].gone == 0:
		t.Errorf("what was to be kept was not there to be kept: %+v", l.accounts)
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

func TestNothingIsWrittenWhenNothingChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := mustOpen(t, path, testOptions())
	defer mustClose(t, l)
	f, ok := l.store.(*file)
	if !ok {
		t.Fatal("not a file")
	}
	txid := func() (id int) {
		if err := f.db.View(func(tx *bolt.Tx) error { id = tx.ID(); return nil }); err != nil {
			t.Fatal(err)
		}
		return id
	}
	scrape := func() {
		l.Listed([]string{"s"})
		l.Apply("s", read(row(1, "a", Success), row(time.Hour, "b", Failure)))
		l.ApplyStatuses("24h", map[string]string{"1": "normal"})
		l.Commit()
	}
	scrape()
	before, id := mustRead(t, path), txid()
	for range 3 {
		scrape()
		if !bytes.Equal(before, mustRead(t, path)) || txid() != id {
			t.Fatal("a scrape that brought nothing new wrote to the file")
		}
	}
	// All subjects of a commit go into one transaction.
	for i := range 100 {
		l.Apply(strconv.Itoa(i), read(row(1, "a", Success)))
	}
	l.ApplyStatuses("24h", map[string]string{"1": "ongoing"})
	l.Commit()
	if got := txid() - id; got != 1 {
		t.Errorf("100 subjects and the certificates took %d transactions, want 1", got)
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
	l, err := Open(path, options)
	if err == nil {
		_ = l.Close()
		t.Fatal("the file was opened")
	}
	checkRefusal(t, path, err, before, problems...)
	if _, probed := Probe(path, options.Site); probed == nil || probed.Error() != err.Error() {
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

func TestRefusedFiles(t *testing.T) {
	put := func(bucket, key, value string) func(*bolt.Tx) error {
		return func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), []byte(value)) }
	}
	remove := func(bucket, key string) func(*bolt.Tx) error {
		return func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucket)).Delete([]byte(key)) }
	}
	drop := func(bucket string) func(*bolt.Tx) error {
		return func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte(bucket)) }
	}
	// with the checksum of the whole file mended, so that the next check is met
	resummed := func(change func(*bolt.Tx) error) func(*bolt.Tx) error {
		return func(tx *bolt.Tx) error { return errors.Join(change(tx), putNewSum(tx)) }
	}
	tests := []struct {
		name   string
		change func(*bolt.Tx) error
		want   FileProblem
	}{
		{"newer schema", put(bucketMeta, keySchema, "2"), ErrNewer},
		{"much newer schema, without anything else known", func(tx *bolt.Tx) error {
			return errors.Join(put(bucketMeta, keySchema, "99")(tx), drop(bucketAccounts)(tx), drop(bucketStatuses)(tx))
		}, ErrNewer},
		{"no schema", remove(bucketMeta, keySchema), ErrDamaged},
		{"schema that is no number", put(bucketMeta, keySchema, "one"), ErrDamaged},
		{"schema 0", put(bucketMeta, keySchema, "0"), ErrDamaged},
		{"other site", resummed(put(bucketMeta, keySite, "https://other.example")), ErrSite},
		{"other site by mishap", put(bucketMeta, keySite, "https://other.example"), ErrDamaged},
		{"no time of beginning", resummed(remove(bucketMeta, keySince)), ErrDamaged},
		{"another time of beginning", put(bucketMeta, keySince, "2020-01-01T00:00:00Z"), ErrDamaged},
		{"no checksum", remove(bucketMeta, keySum), ErrDamaged},
		{"a subject less", remove(bucketAccounts, "subject-001"), ErrDamaged},
		{"a subject more", func(tx *bolt.Tx) error {
			return put(bucketAccounts, "x", string(encodeAccount("x", &account{})))(tx)
		}, ErrDamaged},
		{"a record of another subject", resummed(func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte(bucketAccounts))
			return b.Put([]byte("subject-002"), bytes.Clone(b.Get([]byte("subject-001"))))
		}), ErrDamaged},
		{"a record cut off", resummed(put(bucketAccounts, "subject-002", "")), ErrDamaged},
		{"statuses lost", remove(bucketStatuses, keyStatuses), ErrDamaged},
		{"statuses that cannot be read", resummed(put(bucketStatuses, keyStatuses, "none")), ErrDamaged},
		{"no subjects", drop(bucketAccounts), ErrDamaged},
		{"no certificates", drop(bucketStatuses), ErrDamaged},
		{"no frame", drop(bucketMeta), ErrDamaged},
		{"another bbolt database", func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket([]byte("theirs"))
			return errors.Join(drop(bucketMeta)(tx), drop(bucketAccounts)(tx), drop(bucketStatuses)(tx), err)
		}, ErrDamaged},
	}
	path, _ := aFile(t)
	whole := mustRead(t, path)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.db")
			mustWrite(t, path, whole)
			db, err := bolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(tt.change), db.Close()); err != nil {
				t.Fatal(err)
			}
			wantRefusal(t, path, testOptions(), mustRead(t, path), tt.want)
		})
	}
	t.Run("other site in the options", func(t *testing.T) {
		options := testOptions()
		options.Site = "https://other.example"
		wantRefusal(t, path, options, whole, ErrSite)
	})
}

func TestUnusablePaths(t *testing.T) {
	directory := t.TempDir()
	regular := filepath.Join(directory, "regular")
	mustWrite(t, regular, []byte("x"))
	for _, path := range []string{directory, filepath.Join(regular, "ledger.db"), filepath.Join(regular, "below", "ledger.db")} {
		wantRefusal(t, path, testOptions(), nil, ErrUnusable)
	}
	if got := mustRead(t, regular); string(got) != "x" {
		t.Errorf("the file in the way is now %q", got)
	}
}

// A ledger gets its name when it is whole: neither a process that is ended while
// it makes one nor a full disk leaves a file that stops the next start.
func TestNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "below", "ledger.db")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, path+".new", []byte("half a file"))
	for i, begun := range []bool{true, false} {
		l, err := Open(path, testOptions())
		if err != nil {
			t.Fatal(err)
		}
		if l.Begun() != begun || len(l.accounts) > 0 || !l.Since().Equal(testOptions().Now()) {
			t.Errorf("open %d: begun %v, %d accounts, since %s", i, l.Begun(), len(l.accounts), l.Since())
		}
		mustClose(t, l)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v (%v), want the ledger alone", entries, err)
	}
}

// A file that is there but holds no ledger is not taken for a new one: it may
// have been one.
func TestEmptyFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	refused := func(name string) {
		t.Helper()
		before := mustRead(t, path)
		if _, err := Open(path, testOptions()); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: error %v, want %q", name, err, ErrDamaged)
		}
		if !bytes.Equal(before, mustRead(t, path)) {
			t.Errorf("%s was changed", name)
		}
	}
	mustWrite(t, path, nil)
	refused("an empty file")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	refused("a file without buckets")
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

// damages makes copies of a file that are damaged in one place.
func damages(whole []byte, yield func(what string, damaged []byte)) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in each run
	fill := func(b []byte) {
		for i := range b {
			b[i] = byte(random.IntN(256)) //nolint:gosec // it fits
		}
	}
	for page := range len(whole) / pageSize {
		at := page * pageSize
		change := func(what string, change func(page []byte)) {
			b := bytes.Clone(whole)
			change(b[at : at+pageSize])
			yield(fmt.Sprintf("page %d: %s", page, what), b)
		}
		change("zeroed", func(p []byte) { clear(p) })
		change("filled", fill)
		change("first half zeroed", func(p []byte) { clear(p[:pageSize/2]) })
		change("second half zeroed", func(p []byte) { clear(p[pageSize/2:]) })
		change("as the page before", func(p []byte) { copy(p, whole[max(0, at-pageSize):]) })
		for i := range 20 { // the head, and the first element
			change(fmt.Sprintf("bit of byte %d", i), func(p []byte) { p[i] ^= 1 << random.IntN(8) })
		}
		for range 5 {
			i := random.IntN(pageSize)
			change(fmt.Sprintf("bit of byte %d", i), func(p []byte) { p[i] ^= 1 << random.IntN(8) })
		}
		for range 3 {
			from := random.IntN(pageSize - 64)
			change(fmt.Sprintf("64 bytes from %d", from), func(p []byte) { fill(p[from : from+64]) })
		}
	}
	for n := pageSize; n < len(whole); n += pageSize / 2 {
		yield(fmt.Sprintf("cut to %d", n), whole[:n])
		yield(fmt.Sprintf("cut to %d", n+1), whole[:n+1])
	}
	for _, n := range []int{16, 100, 4096, 8192, len(whole)} {
		b := make([]byte, n)
		yield(fmt.Sprintf("%d zeros", n), b)
		b = make([]byte, n)
		fill(b)
		yield(fmt.Sprintf("%d random bytes", n), b)
	}
}

// Whatever is damaged in one place: the file is refused and left alone, or it
// has all that was in it at one time; and then it also takes more.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	path, states := aFile(t)
	whole := mustRead(t, path)
	target := filepath.Join(t.TempDir(), "damaged.db")
	opened, refused := 0, 0
	damages(whole, func(what string, damaged []byte) {
		mustWrite(t, target, damaged)
		l, err := Open(target, testOptions())
		if err != nil {
			refused++
			// Of what it says about itself a bit may make a newer version.
			checkRefusal(t, target, err, damaged, ErrDamaged, ErrNewer)
			return
		}
		opened++
		if !states[fingerprint(l)] {
			t.Fatalf("%s: it was opened with contents that never were", what)
		}
		if opened%8 != 0 { // for the time that it takes
			mustClose(t, l)
			return
		}
		noSync(t, l)
		for i := range 10 {
			id := fmt.Sprintf("subject-%03d", i*2)
			l.Apply(id, read(manyRows(id, 3*time.Hour, i*i)...))
			l.Apply(id+"-new", read(manyRows(id, 3*time.Hour, i*i)...))
		}
		l.Commit()
		want := fingerprint(l)
		if !l.Persistent() {
			t.Fatalf("%s: it was opened and takes no more", what)
		}
		mustClose(t, l)
		l, err = Open(target, testOptions())
		if err != nil {
			t.Fatalf("%s: it was opened and written, and then refused: %v", what, err)
		}
		if fingerprint(l) != want {
			t.Fatalf("%s: what was written to it is not in it", what)
		}
		mustClose(t, l)
	})
	t.Logf("%d damaged files: %d refused, %d opened with contents that were committed", opened+refused, refused, opened)
	if refused == 0 || opened == 0 {
		t.Error("the damages do not do what they should")
	}
}

// No file that the ledger itself wrote is ever taken for damaged: whatever the
// sizes of the records, and however they grow and go.
func TestHealthyFilesAreOpened(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same in each run
	c := &clock{now: epoch()}
	l := noSync(t, mustOpen(t, path, c.options()))
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
		want := fingerprint(l)
		mustClose(t, l)
		l = noSync(t, mustOpen(t, path, c.options()))
		if fingerprint(l) != want {
			t.Fatalf("round %d: it was opened with other contents", round)
		}
	}
	mustClose(t, l)
}
