package collector

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// traffic are logins that go on all the time, at random moments.
type traffic struct {
	w      *world
	id     string
	keep   int // rows that NCP keeps; 0 is all
	random *rand.Rand

	mu     sync.Mutex
	next   time.Time
	rate   float64 // logins a second; 0 is none
	logins int
}

// soFar is how many logins there were.
func (t *traffic) soFar() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.logins
}

// until adds the logins up to now.
func (t *traffic) until(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.rate > 0 && !t.next.After(now) {
		t.w.AddCredentials(t.id, ncptest.NewCredential(t.next, strconv.Itoa(t.logins), t.logins%5 == 0))
		t.logins++
		t.next = t.next.Add(time.Duration(t.random.ExpFloat64() / t.rate * float64(time.Second)))
	}
	if t.keep > 0 {
		t.w.TrimCredentials(t.id, t.keep)
	}
}

// A busy subject is read whole in each scrape, and each login is counted once,
// however fast they come and whatever NCP drops meanwhile.
func TestABusySubject(t *testing.T) {
	for _, order := range []ncptest.Order{ncptest.NewestFirst, ncptest.OldestFirst} {
		for _, rate := range []float64{5, 30} {
			for _, keep := range []int{0, 5000} {
				t.Run(fmt.Sprintf("%s/%v a second/%d kept", order, rate, keep), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, worldOptions{direct: true, ncp: ncptest.Config{Order: order, Latency: 100 * time.Millisecond}})
						put(w.Server, "s")
						logins := &traffic{w: w, id: "s", keep: keep, random: rand.New(rand.NewPCG(1, 2)), rate: rate} //nolint:gosec // chance that can be repeated
						logins.next = time.Now().Add(-time.Duration(5000 / rate * float64(time.Second)))
						logins.until(time.Now())
						w.OnRequest(func(ncptest.Request) { logins.until(time.Now()) })
						before, sent, dropped := 0.0, 0, 0
						for scrape := range 8 {
							w.ResetStats()
							begin := logins.soFar()
							s := w.within(t, 10*time.Second)
							if ok, _ := value(t, s, successFamily, "collector", eaCollector); ok != 1 {
								t.Errorf("scrape %d is not whole after %d calls:\n%s", scrape, w.Count(ncptest.Credentials), w.log)
							}
							success, _ := value(t, s, authFamily, "result", "success")
							failure, _ := value(t, s, authFamily, "result", "failure")
							if success+failure < before {
								t.Errorf("scrape %d: %v logins are counted, and were %v", scrape, success+failure, before)
							}
							before = success + failure
							if scrape == 0 && keep > 0 {
								dropped = logins.soFar() - keep // perhaps before they were read
							}
							// The pages of the new rows, and one.
							calls, most := w.Count(ncptest.Credentials), (logins.soFar()-sent+99)/100+1
							if scrape > 0 && order == ncptest.NewestFirst && calls > most {
								t.Errorf("scrape %d: %d calls, want at most %d", scrape, calls, most)
							}
							sent = begin
							time.Sleep(15 * time.Second)
						}
						logins.mu.Lock()
						logins.rate = 0
						logins.mu.Unlock()
						s := w.within(t, 10*time.Second)
						success, _ := value(t, s, authFamily, "result", "success")
						failure, _ := value(t, s, authFamily, "result", "failure")
						if lost := float64(logins.soFar()) - success - failure; lost < 0 || lost > float64(dropped) {
							t.Errorf("%v of %d logins are not counted, and %d may have been dropped before they were read", lost, logins.soFar(), dropped)
						}
					})
				})
			}
		}
	}
}
