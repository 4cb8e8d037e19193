package ledger

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// BenchmarkCommit writes 10,000 subjects that each have 60 rows, of which 1,000
// got one more. It must take less than 50 ms, which depends on the disk: it waits
// for it.
func BenchmarkCommit(b *testing.B) {
	const subjects, changed, marks = 10_000, 1000, 60
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
		for _, id := range ids[:changed] {
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

// BenchmarkStoreSize tells how many bytes of the file a subject takes.
func BenchmarkStoreSize(b *testing.B) {
	for _, marks := range []int{0, 60, 100, 1000} {
		b.Run(fmt.Sprintf("marks=%d", marks), func(b *testing.B) { benchmarkStoreSize(b, marks) })
	}
}

func benchmarkStoreSize(b *testing.B, marks int) {
	b.Helper()
	const subjects = 1000
	for b.Loop() {
		path := filepath.Join(b.TempDir(), "ledger.db")
		l := mustOpen(b, path, testOptions())
		for i := range subjects {
			id := fmt.Sprintf("c2dea79b-0000-0000-0000-%012d", i)
			l.Apply(id, read(manyRows(id, 0, marks)...))
		}
		l.Commit()
		mustClose(b, l)
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
		switch m.order {
		case newestFirst:
			at = m.rows - 1 - i
		case noOrder:
			at = i * 7919 % m.rows
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
