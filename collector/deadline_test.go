package collector

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/ncpclient/ncptest"
)

const (
	ageFamily         = "ncp_scrape_collector_age_seconds"
	lastSuccessFamily = "ncp_scrape_collector_last_success_timestamp_seconds"
	eaCollector       = "external_access"
	cmCollector       = "certificate_manager"
)

// within is a scrape that must be answered in time.
func (w *world) within(t *testing.T, timeout time.Duration) Scrape {
	t.Helper()
	begin := time.Now()
	s := scrapeWithin(t, w.exporter, timeout)
	if took := time.Since(begin); took > timeout {
		t.Errorf("the scrape took %s, want at most %s", took, timeout)
	}
	return s
}

// bySubject gives the values of a gauge, or of the failures of a counter, by subject.
func bySubject(t *testing.T, s Scrape, name string) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(s)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if result, ok := labels["result"]; !ok || result == "failure" {
				values[labels["subject_id"]] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return values
}

// whole gives the number of subjects that have counters.
func whole(t *testing.T, s Scrape) int {
	t.Helper()
	return len(bySubject(t, s, authFamily))
}

func manySubjects(w *world, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("subject-%04d", i)
	}
	put(w.Server, ids...)
	return ids
}

// NCP is five times too slow for the deadline. Every scrape is answered in time. Each
// subject has counters after as many scrapes as the work takes, and two more, with and
// without time between the scrapes.
func TestAnAPIFiveTimesTooSlow(t *testing.T) {
	const (
		subjects    = 200
		concurrency = 10
		deadline    = 10 * time.Second
		calls       = 2 + subjects/concurrency // two pages of subjects, one after the other
		latency     = 5 * deadline / calls
	)
	for _, between := range []time.Duration{0, 5 * time.Second, 50 * time.Second} {
		t.Run(fmt.Sprint("pause ", between), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldOptions{direct: true, concurrency: concurrency, ncp: ncptest.Config{Latency: latency}})
				manySubjects(w, subjects)
				for scrape := 1; ; scrape++ {
					s := w.within(t, deadline)
					n := whole(t, s)
					if n == subjects {
						break
					}
					if scrape == 5+2 {
						t.Fatalf("%d of %d subjects are whole after %d scrapes", n, subjects, scrape)
					}
					wantValue(t, s, 0, successFamily, "collector", eaCollector)
					wantValue(t, s, 1, successFamily, "collector", cmCollector)
					time.Sleep(between)
				}
				if n := strings.Count(w.log.String(), "level=warn"); n != 1 {
					t.Errorf("that there is too little time is said %d times, want once:\n%s", n, w.log)
				}
				// From then on no subject waits longer than this for its next read.
				begin := float64(time.Now().Unix())
				for scrape := 1; ; scrape++ {
					time.Sleep(between)
					s := w.within(t, deadline)
					again := 0
					for _, at := range bySubject(t, s, "ncp_external_access_subject_refresh_timestamp_seconds") {
						if at > begin {
							again++
						}
					}
					if again == subjects {
						break
					}
					if scrape == 5+2 {
						t.Fatalf("%d of %d subjects were read again after %d scrapes", again, subjects, scrape)
					}
				}
			})
		})
	}
}

// One history takes many scrapes to read. In the end it is read, and meanwhile the
// others are read in each scrape.
func TestAHistoryLongerThanAScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{direct: true, concurrency: 2, ncp: ncptest.Config{Latency: 500 * time.Millisecond}})
		put(w.Server, "long", "short")
		w.AddCredentials("long", history(10_000)...)
		for scrape := 1; ; scrape++ {
			w.AddCredentials("short", history(scrape)[scrape-1:]...)
			s := w.within(t, 10*time.Second)
			if _, there := value(t, s, authFamily, "subject_id", "long", "result", "success"); there {
				wantValue(t, s, 8000, authFamily, "subject_id", "long", "result", "success")
				break
			}
			wantValue(t, s, float64(scrape), entriesFamily, "subject_id", "short")
			wantAbsent(t, s, entriesFamily, "subject_id", "long")
			if scrape == 5+2 { // 101 pages, one after the other
				t.Fatal("the long history was not read")
			}
		}
	})
}

// Subjects that hang delay the others only until each of them has timed out.
func TestSubjectsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{direct: true, retries: 3, timeout: 5 * time.Second, ncp: ncptest.Config{Latency: 50 * time.Millisecond}})
		ids := manySubjects(w, 100)
		w.within(t, 10*time.Second)
		w.SetFault(func(r ncptest.Request) http.Handler {
			if r.Op == ncptest.Credentials && r.SubjectID < "subject-0020" {
				return ncptest.Hang()
			}
			return nil
		})
		for range 2 {
			w.within(t, 10*time.Second)
			time.Sleep(5 * time.Second)
		}
		for scrape := range 10 {
			for _, id := range ids[20:] {
				w.AddCredentials(id, history(scrape + 1)[scrape:]...)
			}
			s := w.within(t, 10*time.Second)
			entries, behind := bySubject(t, s, entriesFamily), 0
			for _, id := range ids[20:] {
				if entries[id] != float64(scrape+1) {
					behind++
				}
			}
			if behind > 0 {
				t.Errorf("scrape %d: %d of 80 subjects were not read", scrape, behind)
			}
			wantValue(t, s, 0, freshFamily, "subject_id", ids[0])
			wantValue(t, s, 0, successFamily, "collector", eaCollector)
			time.Sleep(5 * time.Second)
		}
		w.SetFault(nil)
		w.within(t, 10*time.Second) // a read that hangs may do so for the timeout of one request
		time.Sleep(5 * time.Second)
		wantValue(t, w.within(t, 10*time.Second), 1, successFamily, "collector", eaCollector)
	})
}

// A read that a scrape had no time to wait for serves the next one, which shows its age.
func TestWhatIsUnderWayServesTheNextScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{direct: true, timeout: time.Minute, ncp: ncptest.Config{Latency: 12 * time.Second}})
		w.SetChanges(change("1", 1, "Ongoing"))
		s := w.within(t, 10*time.Second)
		wantValue(t, s, 0, successFamily, "collector", cmCollector)
		wantAbsent(t, s, changedFamily)
		wantAbsent(t, s, lastSuccessFamily, "collector", cmCollector)
		time.Sleep(5 * time.Second)
		s = w.within(t, 10*time.Second)
		wantValue(t, s, 1, successFamily, "collector", cmCollector)
		wantValue(t, s, 1, changedFamily, "status", "ongoing")
		age, _ := value(t, s, ageFamily, "collector", cmCollector)
		if age < 5 || age > 6 { // since the first scrape was answered
			t.Errorf("the age is %v, want that of the answer that came after the first scrape", age)
		}
		// The API hangs now, and nothing is shown as new a second time.
		w.SetFault(ncptest.Always(ncptest.Hang()))
		time.Sleep(15 * time.Second)
		w.within(t, 10*time.Second)
		s = w.within(t, 10*time.Second)
		wantValue(t, s, 0, successFamily, "collector", cmCollector)
		wantAbsent(t, s, changedFamily)
	})
}

// With a maximum age, scrapes are answered from one refresh while it is young enough, and
// show its age.
func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{direct: true, maxAge: 30 * time.Second})
		put(w.Server, "s")
		w.SetChanges(change("1", 1, "Ongoing"))
		begin := time.Now()
		for _, step := range []struct {
			at    time.Duration
			age   float64
			calls int
		}{{0, 0, 1}, {15 * time.Second, 15, 1}, {29 * time.Second, 29, 1}, {30 * time.Second, 0, 2}, {59 * time.Second, 29, 2}, {61 * time.Second, 0, 3}} {
			time.Sleep(time.Until(begin.Add(step.at)))
			s := w.within(t, 10*time.Second)
			for _, c := range []string{eaCollector, cmCollector} {
				wantValue(t, s, step.age, ageFamily, "collector", c)
				wantValue(t, s, 1, successFamily, "collector", c)
				wantValue(t, s, timestamp(time.Now())-step.age, lastSuccessFamily, "collector", c)
			}
			wantValue(t, s, 1, changedFamily, "status", "ongoing")
			wantValue(t, s, 0, entriesFamily, "subject_id", "s")
			for op, first := range map[ncptest.Operation]int{ncptest.RecentChanges: 1, ncptest.Subjects: 2, ncptest.Credentials: 1} {
				if got, want := w.Count(op), first-1+step.calls; got != want {
					t.Errorf("at %s: %d calls of %s, want %d", step.at, got, op, want)
				}
			}
		}
		// This holds for a failed refresh too: two Prometheus servers must not ask a broken
		// API twice as often.
		w.SetFault(ncptest.Always(ncptest.EmptyBody(500)))
		time.Sleep(time.Minute)
		for range 2 {
			wantValue(t, w.within(t, 10*time.Second), 0, successFamily, "collector", cmCollector)
		}
		if got := w.Count(ncptest.RecentChanges); got != 4 {
			t.Errorf("%d calls, want 4", got)
		}
	})
}

// 50 scrapes at the same time are all answered, from one refresh: the API sees the calls
// of one.
func TestFiftyScrapesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{direct: true, ncp: ncptest.Config{Latency: 100 * time.Millisecond}})
		ids := manySubjects(w, 30)
		w.SetChanges(change("1", 1, "Ongoing"))
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				s := w.within(t, 10*time.Second)
				wantValue(t, s, 1, successFamily, "collector", eaCollector)
				wantValue(t, s, 1, changedFamily, "status", "ongoing")
				if n := whole(t, s); n != len(ids) {
					t.Errorf("%d of %d subjects are whole", n, len(ids))
				}
			})
		}
		group.Wait()
		for op, want := range map[ncptest.Operation]int{ncptest.RecentChanges: 1, ncptest.Subjects: 2, ncptest.Credentials: 30} {
			if got := w.Count(op); got != want {
				t.Errorf("%d calls of %s, want %d", got, op, want)
			}
		}
	})
}

// If a client disconnects, its scrape ends. The calls to NCP continue to their end, and
// no goroutine is left (or the bubble would not end).
func TestCloseEndsWhatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{direct: true, timeout: time.Hour})
		put(w.Server, "s")
		w.SetFault(ncptest.Always(ncptest.Hang()))
		ctx, hangUp := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.exporter.Scrape(ctx, nil)
		}()
		synctest.Wait()
		hangUp()
		<-done
		w.within(t, 10*time.Second)
		begin := time.Now()
		w.exporter.Close()
		if took := time.Since(begin); took > 0 {
			t.Errorf("Close took %s", took)
		}
	})
}

// What is read after a scrape was answered is on disk before the next scrape.
func TestWhatGoesOnIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledger.New(ledger.Options{LateArrival: time.Hour, Now: time.Now})
		w := newWorld(t, worldOptions{direct: true, timeout: time.Minute, ledger: l, subjects: []string{"s"}, ncp: ncptest.Config{Latency: 12 * time.Second}})
		put(w.Server, "s")
		w.within(t, 10*time.Second)
		time.Sleep(5 * time.Second)
		if _, counted := l.Totals("s"); !counted {
			t.Error("the subject was read after the scrape, and is not in the ledger")
		}
	})
}

// A refresh that its deadline cut off does not answer another scrape.
func TestMaxAgeOfHalfARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{direct: true, timeout: time.Minute, maxAge: time.Hour, ncp: ncptest.Config{Latency: 7 * time.Second}})
		put(w.Server, "s")
		wantValue(t, w.within(t, 10*time.Second), 0, successFamily, "collector", eaCollector)
		wantValue(t, w.within(t, 20*time.Second), 1, successFamily, "collector", eaCollector)
	})
}

// Twenty first reads take minutes each. They delay no other subject, and are read in the
// end.
func TestSlowFirstReadsHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{direct: true, pageSize: 20})
		const pages = 40
		var slow, quick []string
		for i := range 20 {
			slow = append(slow, fmt.Sprintf("a-slow-%02d", i))
		}
		for i := range 50 {
			quick = append(quick, fmt.Sprintf("quick-%02d", i))
		}
		put(w.Server, slow...)
		put(w.Server, quick...)
		for _, id := range slow {
			w.AddCredentials(id, history(20*pages)...)
		}
		w.SetFault(func(r ncptest.Request) http.Handler {
			if strings.HasPrefix(r.SubjectID, "a-slow") {
				time.Sleep(4 * time.Second)
			}
			return nil
		})
		w.within(t, 10*time.Second)
		time.Sleep(5 * time.Second)
		s := w.within(t, 10*time.Second)
		counters := bySubject(t, s, authFamily)
		for _, id := range quick {
			if _, there := counters[id]; !there {
				t.Errorf("%s was not read in two scrapes", id)
			}
		}
		for scrape := 0; whole(t, s) < len(slow)+len(quick); scrape++ {
			if scrape == 80 { // 20 reads of 160 s, five at a time, take 43 scrapes
				t.Fatalf("%d of %d subjects are whole after %d scrapes", whole(t, s), len(slow)+len(quick), scrape)
			}
			time.Sleep(5 * time.Second)
			s = w.within(t, 10*time.Second)
			for _, id := range quick {
				wantValue(t, s, 1, freshFamily, "subject_id", id)
			}
		}
		w.exporter.Close()
		time.Sleep(4 * time.Second) // answers that nobody waits for any more
	})
}
