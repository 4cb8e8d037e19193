package ledger

import (
	"math/rand/v2"
	"testing"
)

// A history whose order may be the other way round with each call hides no row from a
// first read that has no error, however few there are: rows that came in two places say
// that others may have come in none.
func TestFlippingOrderHidesNoRow(t *testing.T) {
	failed, calls := 0, 0
	const reads = 20_000
	for seed := range uint64(reads) {
		random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // the same in each run
		n, clamp := 2+int(seed%4), 1+int(seed/4%3)
		r := newReading(t, noOrder, n)
		r.history.sorted, r.history.clamp, r.ledger.server = flips(random), clamp, &Server{}
		_, err := r.scrape()
		calls += r.calls
		if err != nil {
			failed++
		} else if got := r.counted(); got != n {
			t.Fatalf("%d rows, pages of %d, seed %d: %d rows are counted without an error", n, clamp, seed, got)
		}
	}
	t.Logf("%d of %d reads had an error, %.1f calls each", failed, reads, float64(calls)/reads)
}
