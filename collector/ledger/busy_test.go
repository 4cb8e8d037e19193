package ledger

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// A history that is busy at any rate is read whole in each scrape: newest first
// with the pages of the new rows and one more.
func TestBusy(t *testing.T) {
	for _, tt := range []struct {
		order      order
		perSecond  float64
		size, keep int
		first      int // calls of the first read
		each       int // calls for each full page of new rows
	}{
		{newestFirst, 5, 100, 5000, 56, 1},
		{newestFirst, 30, 100, 5000, 60, 1},
		{newestFirst, 30, 100, 0, 60, 1},
		{oldestFirst, 20, 20, 1000, 110, 1},
		{oldestFirst, 20, 100, 0, 220, 3},
	} {
		t.Run(fmt.Sprintf("order %d, %v a second, %d kept", tt.order, tt.perSecond, tt.keep), func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // no secret depends on it
			h := &history{order: tt.order, clamp: tt.size, keep: tt.keep, now: epoch(), wholeSeconds: false}
			serial := 0
			next := h.now
			pass := func(d time.Duration) { // the time, while rows arrive
				h.now = h.now.Add(d)
				for next.Before(h.now) {
					serial++
					h.rows = append(h.rows, Row{SerialNumber: strconv.Itoa(serial), SeenTime: next})
					next = next.Add(time.Duration(random.ExpFloat64() / tt.perSecond * float64(time.Second)))
				}
				if tt.keep > 0 && len(h.rows) > tt.keep {
					h.rows = h.rows[len(h.rows)-tt.keep:]
				}
			}
			pass(time.Duration(5000/tt.perSecond) * time.Second)
			h.onPage = func(int) error { pass(100 * time.Millisecond); return nil }
			l := New(Options{LateArrival: time.Hour, Now: func() time.Time { return h.now }})
			counted := make(map[freshRow]bool)
			for scrape := range 12 { // until late rows are looked for
				h.calls = 0
				there := h.rows
				read, err := l.Plan("s").Read(t.Context(), h, tt.size)
				if err != nil {
					t.Fatalf("scrape %d: %v", scrape, err)
				}
				l.Apply("s", read)
				l.Commit()
				for _, row := range read.rows {
					counted[row] = true
				}
				for _, row := range there {
					if scrape > 0 && !counted[fresh(row)] && row.SeenTime.After(h.now.Add(-time.Hour)) && len(h.rows) > 0 && !row.SeenTime.Before(h.rows[0].SeenTime) {
						t.Fatalf("scrape %d: row %s is not counted", scrape, row.SerialNumber)
					}
				}
				most := tt.first
				if scrape > 0 {
					most = read.New()/tt.size*tt.each + 2
				}
				if scrape > 0 && tt.order == oldestFirst {
					most += 10 // the first page and the last are read again, others that moved too
				}
				if h.calls > most {
					t.Errorf("scrape %d: %d calls for %d new rows, want at most %d", scrape, h.calls, read.New(), most)
				}
				pass(time.Minute)
			}
		})
	}
}

// The first read of a million rows takes a few bytes for each.
func TestMemoryOfAFirstRead(t *testing.T) {
	for name, o := range orders() {
		t.Run(name, func(t *testing.T) {
			const rows = 1_000_000
			var before, now runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			peak := uint64(0)
			plan := New(testOptions()).Plan("s")
			plan.OnPage = func(came, total int) {
				if came%100_000 > 0 || total%rows > 0 {
					return
				}
				runtime.GC()
				runtime.ReadMemStats(&now)
				peak = max(peak, now.HeapAlloc-before.HeapAlloc)
			}
			read, err := plan.Read(t.Context(), &made{order: o, rows: rows}, 1000)
			if err != nil || read.New() != rows {
				t.Fatalf("%d rows (%v), want %d", read.New(), err, rows)
			}
			t.Logf("%d bytes a row at most", peak/rows)
			if peak > 30*rows {
				t.Errorf("%d bytes are in use at most, want 30 a row", peak)
			}
		})
	}
}
