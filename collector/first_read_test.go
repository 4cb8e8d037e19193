package collector

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// While a history is read for the first time over several scrapes, they show how far
// that is, which never goes back, and no counter; when it has ended, the counters.
func TestFirstReadOverSeveralScrapes(t *testing.T) {
	const (
		family, rows = "ncp_external_access_first_read_progress_ratio", 20_000
		begun, ended = "A history is read for the first time", "A history was read for the first time"
	)
	for _, order := range []ncptest.Order{ncptest.NewestFirst, ncptest.OldestFirst, ncptest.NoOrder} {
		t.Run(order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldOptions{direct: true, ncp: ncptest.Config{Order: order, Latency: 100 * time.Millisecond}})
				put(w.Server, "long", "short")
				w.AddCredentials("long", history(rows)...)
				w.AddCredentials("short", history(10)...)
				last, all := 0.0, []float64(nil)
				for scrape := 0; ; scrape++ {
					s := w.within(t, 5*time.Second)
					wantAbsent(t, s, family, "subject_id", "short")
					wantValue(t, s, 8, authFamily, "subject_id", "short", "result", "success")
					ratio, reading := value(t, s, family, "subject_id", "long")
					if counted, ok := value(t, s, authFamily, "subject_id", "long", "result", "success"); ok {
						if reading || counted != rows*4/5 {
							t.Errorf("%v logins are counted, and it is still read: %t", counted, reading)
						}
						break
					}
					if failed := scrape == 2; reading == failed {
						t.Errorf("scrape %d: progress is shown: %t", scrape, reading)
					} else if reading {
						if ratio < last || ratio > 1 || scrape == 0 && ratio > 0.3 {
							t.Errorf("scrape %d: progress was %v and is %v", scrape, last, ratio)
						}
						last, all = ratio, append(all, ratio)
					}
					w.SetFault(nil)
					if scrape == 1 { // then the read begins again
						w.SetFault(ncptest.ForSubject("long", ncptest.GatewayError(500, "900", "Unexpected Error")))
					}
					if scrape > 20 {
						t.Fatalf("it does not end:\n%s", w.log)
					}
				}
				time.Sleep(24 * time.Hour)
				w.within(t, time.Minute) // reads all of it again, which is no first read
				if n := len(all); n < 4 || last < 0.5 || all[n-2] > 0.95 {
					t.Errorf("progress was %v", all)
				}
				log := w.log.String()
				if strings.Count(log, begun) != 1 || strings.Count(log, ended) != 1 || !strings.Contains(log, " left\"\n") {
					t.Errorf("the log says:\n%s", log)
				}
			})
		})
	}
}

// A first read that ends between two scrapes has ended once.
func TestFirstReadEndsBetweenScrapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{direct: true, ncp: ncptest.Config{Latency: 100 * time.Millisecond}})
		put(w.Server, "long")
		w.AddCredentials("long", history(6000)...)
		for scrape := range 3 {
			_, reading := value(t, w.within(t, 5*time.Second), "ncp_external_access_first_read_progress_ratio")
			if reading != (scrape == 0) {
				t.Errorf("scrape %d: progress is shown: %t", scrape, reading)
			}
			time.Sleep(5 * time.Second)
		}
		if log := w.log.String(); strings.Count(log, "A history was read for the first time") != 1 {
			t.Errorf("the log says:\n%s", log)
		}
	})
}

// Without a total that can be right nobody knows how far it is.
func TestFirstReadWithoutTotals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{direct: true, ncp: ncptest.Config{LyingTotal: -9_950, Latency: 100 * time.Millisecond}})
		put(w.Server, "long")
		w.AddCredentials("long", history(10_000)...)
		wantAbsent(t, w.within(t, 5*time.Second), "ncp_external_access_first_read_progress_ratio")
		if log := w.log.String(); !strings.Contains(log, " rows so far") {
			t.Errorf("the log says:\n%s", log)
		}
	})
}
