package ledger

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// BenchmarkCommit writes 1,000 subjects that each have 60 rows and got one more.
// It must take less than 50 ms, which depends on the disk: it waits for it.
func BenchmarkCommit(b *testing.B) {
	const subjects, marks = 1000, 60
	l := mustOpen(b, filepath.Join(b.TempDir(), "ledger.db"), testOptions())
	defer mustClose(b, l)
	ids := make([]string, subjects)
	for i := range ids {
		ids[i] = fmt.Sprintf("c2dea79b-0000-0000-0000-%012d", i)
		l.Apply(ids[i], read(manyRows(ids[i], 0, marks)...))
	}
	l.Commit()
	round := 0
	for b.Loop() {
		b.StopTimer()
		round++
		for _, id := range ids {
			// As far from the others as they are long: so there are always as many.
			at := time.Duration(marks+round) * time.Minute
			l.Apply(id, read(row(at, id+strconv.Itoa(round), Success)))
		}
		b.StartTimer()
		l.Commit()
	}
	if !l.Persistent() {
		b.Fatal("it was not written")
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/commit")
}

// BenchmarkStoreSize tells how many bytes a subject takes: in its record, in the
// pages in use, and in the file after twenty commits. Each of them changed every
// row of all subjects, or of one in twenty: bbolt writes what changed to free
// pages, so that the file has room for all that one commit changed once more.
func BenchmarkStoreSize(b *testing.B) {
	for _, every := range []int{1, 20} {
		for _, marks := range []int{0, 60, 100, 1000} {
			b.Run(fmt.Sprintf("changed=1in%d/marks=%d", every, marks), func(b *testing.B) { benchmarkStoreSize(b, every, marks) })
		}
	}
}

func benchmarkStoreSize(b *testing.B, every, marks int) {
	b.Helper()
	const subjects = 1000
	for b.Loop() {
		path := filepath.Join(b.TempDir(), "ledger.db")
		l := mustOpen(b, path, testOptions())
		record := 0
		for round := range 20 {
			for i := range subjects {
				id := fmt.Sprintf("c2dea79b-0000-0000-0000-%012d", i)
				if round == 0 || (i+round)%every == 0 {
					l.Apply(id, read(manyRows(id, 65*time.Minute*time.Duration(round), marks)...))
				}
			}
			l.Commit()
		}
		for id, a := range l.accounts {
			if len(a.marks) != marks {
				b.Fatalf("%d marks are kept, want %d", len(a.marks), marks)
			}
			record = max(record, len(id)+len(encodeAccount(id, &a)))
		}
		mustClose(b, l)
		db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
		if err != nil {
			b.Fatal(err)
		}
		var inUse int
		if err := errors.Join(db.View(func(tx *bolt.Tx) error {
			s := tx.Bucket([]byte(bucketAccounts)).Stats()
			inUse = s.LeafAlloc + s.BranchAlloc
			return nil
		}), db.Close()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(record), "record-B/subject")
		b.ReportMetric(float64(inUse)/subjects, "pages-B/subject")
		size, allowed := float64(len(mustRead(b, path)))/subjects, 2048+16*float64(marks)
		b.ReportMetric(size, "file-B/subject")
		b.ReportMetric(size/allowed, "file/allowed")
	}
}

// made are the pages of a history of which no row is kept.
type made struct {
	order order
	rows  int
	calls int
}

func (m *made) row(i int) Row {
	return Row{Issuer: "CN=Root", SerialNumber: strconv.Itoa(i), SeenTime: epoch().Add(time.Duration(i) * time.Second)}
}

func (m *made) Page(_ context.Context, number, size int) (Page, error) {
	m.calls++
	page := Page{Size: size, Total: m.rows, Clock: epoch().Add(10_000 * time.Hour)}
	for i := number * size; i < min((number+1)*size, m.rows); i++ {
		at := i
		if m.order == newestFirst {
			at = m.rows - 1 - i
		}
		page.Rows = append(page.Rows, m.row(at))
	}
	return page, nil
}

// BenchmarkQuietCalls tells how many pages a scrape asks for that finds nothing
// new: the same however long the history is.
func BenchmarkQuietCalls(b *testing.B) {
	for name, o := range map[string]order{"newest-first": newestFirst, "oldest-first": oldestFirst} {
		for rows := 100; rows <= 1_000_000; rows *= 10 {
			b.Run(fmt.Sprintf("%s/rows=%d", name, rows), func(b *testing.B) {
				history := &made{order: o, rows: rows}
				l := New(testOptions())
				scrape := func() {
					read, err := l.Plan("s").Read(b.Context(), history, 50)
					if err != nil {
						b.Fatal(err)
					}
					l.Apply("s", read)
					l.Commit()
				}
				scrape()
				runtime.GC()
				history.calls = 0
				for b.Loop() {
					scrape()
				}
				b.ReportMetric(float64(history.calls)/float64(b.N), "calls/scrape")
			})
		}
	}
}
