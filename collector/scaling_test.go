package collector

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// quietCalls is the formula of docs/scaling.md: the calls of a scrape in which nothing is
// new. Each of the subjects has a history of that many rows; read is how many of them are
// read.
func quietCalls(order ncptest.Order, subjects, read, rows, pageSize int) int {
	pages := func(n int) int { return max(1, (n+pageSize-1)/pageSize) }
	perSubject := 1
	switch {
	case order == ncptest.OldestFirst && rows > pageSize:
		perSubject = 2
	case order == ncptest.NoOrder:
		perSubject = pages(rows)
	}
	return 1 + pages(subjects) + read*perSubject
}

// anchorCalls is the part of the formula that external_access_trust_anchors adds.
func anchorCalls(anchors int) int { return 1 + anchors }

// inventoryCalls is the part that certificate_inventory adds, which asks for
// pages of 100.
func inventoryCalls(certificates int) int { return max(1, (certificates+99)/100) }

// The collectors that tell what expires add as many calls as the formula says.
func TestTheFormulaOfWhatRunsOut(t *testing.T) {
	for _, n := range []int{0, 1, 25} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, worldOptions{direct: true, expiry: true})
			var anchors []ncptest.TrustAnchor
			for i := range n {
				anchors = append(anchors, ncptest.TrustAnchor{ID: fmt.Sprintf("a%d", i)})
			}
			w.SetTrustAnchors(anchors...)
			w.SetCertificates(inventoryOf(50 * n)...)
			w.scrape(t) // the first looks behind the last pages
			w.ResetStats()
			w.scrape(t)
			if got, want := len(w.Requests()), quietCalls(ncptest.NewestFirst, 0, 0, 0, 100)+anchorCalls(n)+inventoryCalls(50*n); got != want {
				t.Errorf("%d anchors: %d calls, and the formula says %d", n, got, want)
			}
		})
	}
}

// The formula of docs/scaling.md tells the calls of a scrape exactly.
func TestTheFormulaOfTheCalls(t *testing.T) {
	for _, order := range []ncptest.Order{ncptest.NewestFirst, ncptest.OldestFirst, ncptest.NoOrder} {
		for _, subjects := range []int{0, 20, 30} {
			for _, rows := range []int{0, 20, 21, 70} {
				for _, sweep := range []time.Duration{0, 24 * time.Hour} {
					t.Run(fmt.Sprintf("%s/%d subjects/%d rows/sweep %s", order, subjects, rows, sweep), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							w := newWorld(t, worldOptions{direct: true, pageSize: 20, sweep: sweep, ncp: ncptest.Config{Order: order}})
							for _, id := range manySubjects(w, subjects) {
								w.AddCredentials(id, history(rows)...)
							}
							w.scrape(t)
							time.Sleep(time.Millisecond)
							w.ResetStats()
							w.scrape(t)
							read := subjects
							if sweep > 0 {
								read = 0
							}
							if got, want := len(w.Requests()), quietCalls(order, subjects, read, rows, 20); got != want {
								t.Errorf("%d calls, and the formula says %d", got, want)
							}
						})
					})
				}
			}
		}
	}
}
