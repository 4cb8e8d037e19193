package ledger

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// seconds are n rows one second apart.
func seconds(n int, issuer string, from time.Time) []Row {
	rows := make([]Row, n)
	for i := range rows {
		rows[i] = Row{Issuer: issuer, SerialNumber: strconv.Itoa(i), SeenTime: from.Add(time.Duration(i) * time.Second)}
	}
	return rows
}

func ledgerOf(h *history, late time.Duration) *Ledger {
	return New(Options{LateArrival: late, Now: func() time.Time { return h.now }})
}

// Sorted by certificate: the first page looks newest first, and the rows of the
// second certificate are on the last.
func TestSortedByCertificate(t *testing.T) {
	h := &history{sorted: byIssuer, clamp: 20, now: epoch().Add(time.Hour)}
	h.add(seconds(100, "CN=A", epoch())...)
	l := ledgerOf(h, time.Hour)
	mustScrape(t, l, h, 20, 100)
	h.now = h.now.Add(time.Minute)
	h.add(Row{Issuer: "CN=A", SerialNumber: "new", SeenTime: h.now.Add(-time.Second)})
	h.add(Row{Issuer: "CN=B", SerialNumber: "1", SeenTime: h.now.Add(-2 * time.Second)})
	h.add(Row{Issuer: "CN=B", SerialNumber: "2", SeenTime: h.now.Add(-3 * time.Second)})
	mustScrape(t, l, h, 20, 103)

	// With a total that does not show them, the daily read finds them, and their
	// time has not passed.
	h.total = func(int, int) int { return -1 }
	l = ledgerOf(h, time.Minute)
	h.rows = seconds(100, "CN=A", h.now)
	h.now = h.now.Add(2 * time.Minute)
	mustScrape(t, l, h, 20, 100)
	h.add(Row{Issuer: "CN=B", SerialNumber: "1", SeenTime: h.now})
	for range 10 {
		h.now = h.now.Add(time.Hour)
		h.add(Row{Issuer: "CN=A", SerialNumber: h.now.String(), SeenTime: h.now})
		if read, err := l.Plan("s").Read(t.Context(), h, 20); err == nil {
			l.Apply("s", read)
		}
	}
	h.now = h.now.Add(24 * time.Hour)
	mustScrape(t, l, h, 20, 111)
}

// The total is that of the page.
func TestTotalOfThePage(t *testing.T) {
	for _, o := range orders() {
		h := &history{order: o, clamp: 100, now: epoch().Add(time.Hour), total: func(_, n int) int { return n }}
		h.add(seconds(350, "CN=A", epoch())...)
		l := ledgerOf(h, time.Hour)
		mustScrape(t, l, h, 100, 350)
		h.add(seconds(250, "CN=B", epoch().Add(time.Hour))...)
		h.now = h.now.Add(time.Hour)
		mustScrape(t, l, h, 100, 600)
	}
}

// Three hosts authenticate in the same second, at the edge of two pages, and change
// places with each call; all of it is older than the horizon after the first read.
func TestTiesAtAnEdge(t *testing.T) {
	for _, o := range []order{newestFirst, oldestFirst} {
		for seed := range uint64(20) {
			random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret depends on it
			h := &history{sorted: shuffledTies(o, random), clamp: 10, now: epoch().Add(24 * time.Hour)}
			for i := range 60 {
				h.add(Row{SerialNumber: strconv.Itoa(i), SeenTime: epoch().Add(time.Duration(i/3) * time.Second)})
			}
			h.add(Row{SerialNumber: "newest", SeenTime: h.now.Add(-time.Minute)})
			mustScrape(t, ledgerOf(h, time.Hour), h, 10, 61)
		}
	}
}

// A row of the future does not move the horizon past the next ones.
func TestARowAheadOfTheClock(t *testing.T) {
	h := &history{order: newestFirst, clamp: 10, now: epoch()}
	l := ledgerOf(h, time.Minute)
	h.add(Row{SerialNumber: "ahead", SeenTime: h.now.Add(4 * time.Minute)})
	mustScrape(t, l, h, 10, 1)
	for i := range uint64(5) {
		h.now = h.now.Add(20 * time.Second)
		h.add(Row{SerialNumber: strconv.Itoa(int(i)), SeenTime: h.now})
		mustScrape(t, l, h, 10, i+2)
	}
}

// Totals and sizes that are wrong, and pages that are refused behind the last, hide
// no row at the first read.
func TestWhatTheServerTells(t *testing.T) {
	for name, change := range map[string]func(h *history){
		"a total too high by one": func(h *history) { h.total = func(all, _ int) int { return all + 1 } },
		"a total that stops":      func(h *history) { h.total = func(all, _ int) int { return min(all, 100) } },
		"refused behind the last": func(h *history) { h.end = endRefused },
		"refused, and too high":   func(h *history) { h.end, h.total = endRefused, func(all, _ int) int { return all + 1 } },
		"the last page for ever":  func(h *history) { h.end = endRepeats },
		"smaller, without a word": func(h *history) { h.hidesSize = true },
		"smaller, total of page":  func(h *history) { h.hidesSize, h.total = true, func(_, n int) int { return n } },
	} {
		for orderName, o := range orders() {
			for _, rows := range []int{350, 360} {
				t.Run(name+" "+orderName+" "+strconv.Itoa(rows), func(t *testing.T) {
					h := &history{order: o, clamp: 20, now: epoch().Add(time.Hour)}
					change(h)
					h.add(seconds(rows, "CN=A", epoch())...)
					l := ledgerOf(h, time.Hour)
					mustScrape(t, l, h, 100, uint64(rows))      //nolint:gosec // a length
					mustScrape(t, l, h, 100, uint64(rows))      //nolint:gosec // a length
					h.add(seconds(1, "CN=B", h.now)...)         // and then one more
					mustScrape(t, l, h, 100, uint64(rows)+1)    //nolint:gosec // a length
					h.add(seconds(45, "CN=C", h.now)...)        // and a burst
					mustScrape(t, l, h, 100, uint64(rows)+1+45) //nolint:gosec // a length
				})
			}
		}
	}
}
