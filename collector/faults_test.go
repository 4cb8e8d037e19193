package collector

import (
	"fmt"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// One call in three fails, in every way, while subjects log in and old rows are dropped.
// No counter falls, none disappears, and when the faults have ended, every login is
// counted.
func TestOneCallInThreeFails(t *testing.T) {
	for _, order := range []ncptest.Order{ncptest.NewestFirst, ncptest.OldestFirst, ncptest.NoOrder} {
		t.Run(order.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldOptions{
				pageSize: 20, timeout: 30 * time.Second,
				ncp: ncptest.Config{Order: order, Seed: 7},
			})
			keep := 80
			if order == ncptest.NoOrder {
				keep = 1000 // two passes in a row without a fault are rare, and what is dropped before them is lost
			}
			ids := []string{"a", "b", "c"}
			put(w.Server, ids...)
			added := make(map[string]int)
			rows := history(2000)
			login := func(id string, n int) {
				w.AddCredentials(id, rows[added[id]:added[id]+n]...)
				added[id] += n
			}
			for i, id := range ids {
				login(id, 30*(i+1))
			}
			w.SetChanges(change("1", 1, "Ongoing"))
			w.scrape(t) // a first scrape without faults: from now on every counter must stay
			w.SetFault(ncptest.OneIn(3, 7,
				ncptest.GatewayError(500, "900", "unexpected"), ncptest.EmptyForbidden(), ncptest.GatewayError(401, "200", "no"),
				ncptest.ReturnCode(200, "9999", "no"), ncptest.HTMLPage(200), ncptest.CutShort(), ncptest.CutClean(),
				ncptest.NoReturnCode(), ncptest.Reset(), ncptest.NotJSON(), ncptest.Throttled(""), ncptest.EmptyBody(504),
				ncptest.Nested(1000), ncptest.Raw(200, "application/json", `{"content":null}`)))
			before := make(map[string]float64)
			for scrape := range 100 {
				for i, id := range ids {
					if scrape%(i+2) == 0 {
						login(id, 1+scrape%3)
						w.TrimCredentials(id, keep)
					}
				}
				s := w.scrape(t)
				for _, id := range ids {
					for _, result := range []string{"success", "failure"} {
						key := id + " " + result
						now, there := value(t, s, authFamily, "subject_id", id, "result", result)
						if !there || now < before[key] {
							t.Fatalf("scrape %d: %s is %v (there: %v), and was %v", scrape, key, now, there, before[key])
						}
						before[key] = now
					}
				}
				if _, there := value(t, s, changesFamily, "status", "ongoing"); !there {
					t.Fatalf("scrape %d: the changes of certificates vanished", scrape)
				}
			}
			w.SetFault(nil)
			s := w.scrape(t)
			for _, id := range ids {
				success, _ := value(t, s, authFamily, "subject_id", id, "result", "success")
				failure, _ := value(t, s, authFamily, "subject_id", id, "result", "failure")
				if success+failure != float64(added[id]) {
					t.Errorf("%s: %v logins are counted, want %d", id, success+failure, added[id])
				}
			}
			wantValue(t, s, 1, successFamily, "collector", "external_access")
		})
	}
}

// The calls of a quiet scrape do not grow with the history.
func TestCallsOfAQuietScrape(t *testing.T) {
	for _, tt := range []struct {
		order ncptest.Order
		want  int
	}{{ncptest.NewestFirst, 1}, {ncptest.OldestFirst, 2}} {
		for _, n := range []int{150, 5000} {
			t.Run(fmt.Sprint(tt.order, n), func(t *testing.T) {
				w := newWorld(t, worldOptions{ncp: ncptest.Config{Order: tt.order}})
				put(w.Server, "s")
				w.AddCredentials("s", history(n)...)
				w.scrape(t)
				w.ResetStats()
				w.scrape(t)
				if got := w.Count(ncptest.Credentials); got != tt.want {
					t.Errorf("%d calls in a quiet scrape, want %d", got, tt.want)
				}
			})
		}
	}
}
