package collector

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
)

// fake is a collector whose Update is a function of the test.
type fake struct {
	name    string
	update  func(context.Context) error
	updates atomic.Int64
	counter *prometheus.Desc
}

func newFake(name string, update func(context.Context) error) *fake {
	return &fake{name: name, update: update, counter: prometheus.NewDesc(name+"_total", "A counter.", nil, nil)}
}

// slowAtFirst has a first update that takes all the time that it has.
func slowAtFirst(name string) *fake {
	f := newFake(name, nil)
	f.update = func(ctx context.Context) error {
		if f.updates.Load() == 1 {
			return wait(ctx)
		}
		return nil
	}
	return f
}

func (f *fake) Name() string { return f.name }

func (f *fake) Close() {}

func (f *fake) Update(ctx context.Context, _ time.Time) error {
	f.updates.Add(1)
	return f.update(ctx)
}

func (f *fake) Describe(ch chan<- *prometheus.Desc) { ch <- f.counter }

func (f *fake) Collect(emit func(prometheus.Metric)) {
	emit(prometheus.MustNewConstMetric(f.counter, prometheus.CounterValue, float64(f.updates.Load())))
}

func newExporter(collectors ...Collector) *Exporter {
	return NewExporter(log.NewNopLogger(), ExporterOptions{Now: time.Now}, collectors...)
}

func ok(context.Context) error { return nil }

func wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func scrapeWithin(t *testing.T, e *Exporter, timeout time.Duration, names ...string) Scrape {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return e.Scrape(ctx, names)
}

func TestCollectorsRunSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleep := func(context.Context) error { time.Sleep(time.Second); return nil }
		e := newExporter(newFake("a", sleep), newFake("b", sleep))
		defer e.Close()
		s := scrapeWithin(t, e, time.Minute)
		for _, name := range []string{"a", "b"} {
			wantValue(t, s, 1, successFamily, "collector", name)
			wantValue(t, s, 1, "ncp_scrape_collector_duration_seconds", "collector", name)
		}
	})
}

func TestOneFailureDisturbsNoOther(t *testing.T) {
	failures := map[string]func(context.Context) error{
		"error":    func(context.Context) error { return errors.New("no") },
		"panic":    func(context.Context) error { panic("oops") },
		"deadline": wait,
		// The scrape does not wait for a collector that ignores its context.
		"deaf": func(context.Context) error { time.Sleep(time.Minute); return nil },
	}
	for name, update := range failures {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newExporter(newFake("good", ok), newFake("bad", update))
				defer e.Close()
				begin := time.Now()
				s := scrapeWithin(t, e, 10*time.Second)
				if took := time.Since(begin); took > 10*time.Second {
					t.Errorf("the scrape took %s, want no more than its deadline", took)
				}
				wantValue(t, s, 1, successFamily, "collector", "good")
				wantValue(t, s, 0, successFamily, "collector", "bad")
				wantValue(t, s, 1, "bad_total") // the counters stay
			})
		})
	}
}

func TestOverlappingScrapesShareOneUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := newFake("a", func(context.Context) error { <-release; return nil })
		e := newExporter(f)
		defer e.Close()
		done := make(chan Scrape)
		for range 50 {
			go func() { done <- scrapeWithin(t, e, time.Minute) }()
		}
		synctest.Wait()
		close(release)
		for range 50 {
			wantValue(t, <-done, 1, successFamily, "collector", "a")
		}
		if n := f.updates.Load(); n != 1 {
			t.Errorf("%d updates, want 1", n)
		}
		scrapeWithin(t, e, time.Minute)
		if n := f.updates.Load(); n != 2 {
			t.Errorf("%d updates after the next scrape, want 2: it must ask anew", n)
		}
	})
}

// An update continues if the client that began it disconnects: others wait for it.
func TestAClientThatGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		e := newExporter(newFake("a", func(ctx context.Context) error {
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}))
		defer e.Close()
		first, hangUp := context.WithTimeout(t.Context(), time.Minute)
		go e.Scrape(first, nil)
		synctest.Wait()
		done := make(chan Scrape)
		go func() { done <- scrapeWithin(t, e, time.Minute) }()
		synctest.Wait()
		hangUp()
		synctest.Wait()
		close(release)
		wantValue(t, <-done, 1, successFamily, "collector", "a")
	})
}

func TestCloseEndsUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newExporter(newFake("a", wait))
		done := make(chan Scrape)
		go func() { done <- scrapeWithin(t, e, time.Hour) }()
		synctest.Wait()
		begin := time.Now()
		e.Close()
		wantValue(t, <-done, 0, successFamily, "collector", "a")
		if took := time.Since(begin); took > 0 {
			t.Errorf("Close took %s", took)
		}
	})
}

func TestFilter(t *testing.T) {
	a, b := newFake("a", ok), newFake("b", ok)
	e := newExporter(a, b)
	defer e.Close()
	s := scrapeWithin(t, e, time.Minute, "b")
	wantAbsent(t, s, successFamily, "collector", "a")
	wantAbsent(t, s, "a_total")
	wantValue(t, s, 1, successFamily, "collector", "b")
	if a.updates.Load() != 0 {
		t.Error("a was updated, but only b was asked for")
	}
}

// A failure is logged once when it begins, and once when it ends.
func TestLogTellsEvents(t *testing.T) {
	var out strings.Builder
	var err error
	e := NewExporter(log.NewLogfmtLogger(log.NewSyncWriter(&out)), ExporterOptions{Now: time.Now}, newFake("a", func(context.Context) error { return err }))
	defer e.Close()
	for _, err = range []error{nil, errors.New("one"), errors.New("one"), errors.New("two"), nil, nil} {
		scrapeWithin(t, e, time.Minute)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		if !strings.Contains(line, "level=debug") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := []string{
		`level=warn collector=a msg="Collector failed" err=one`,
		`level=warn collector=a msg="Collector failed" err=two`,
		`level=info collector=a msg="Collector recovered"`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the log is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestFewLines has failures that come and go, and scrapes that are too hasty.
func TestFewLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		update := ok
		e := NewExporter(log.NewLogfmtLogger(log.NewSyncWriter(&out)), ExporterOptions{Now: time.Now}, newFake("a", func(ctx context.Context) error { return update(ctx) }))
		defer e.Close()
		expect := func(what string, want ...string) {
			t.Helper()
			var got []string
			for line := range strings.Lines(out.String()) {
				if !strings.Contains(line, "level=debug") {
					got = append(got, strings.TrimSpace(line))
				}
			}
			if out.Reset(); !slices.Equal(got, want) {
				t.Errorf("%s: the log is\n%s", what, strings.Join(got, "\n"))
			}
		}
		for range 100 {
			update = wait
			scrapeWithin(t, e, time.Millisecond)
			update = ok
			scrapeWithin(t, e, time.Minute)
		}
		expect("hasty scrapes")
		const failed, recovered = `level=warn collector=a msg="Collector failed" err=no`, `level=info collector=a msg="Collector recovered"`
		no := func(context.Context) error { return errors.New("no") }
		for range 10 {
			update = no
			scrapeWithin(t, e, time.Minute)
			update = ok
			scrapeWithin(t, e, time.Minute)
			time.Sleep(5 * time.Second)
		}
		expect("failures that come and go", failed, recovered)
		update = no
		scrapeWithin(t, e, time.Minute)
		expect("one more in the same minute")
		time.Sleep(time.Minute)
		scrapeWithin(t, e, time.Minute)
		update = ok
		scrapeWithin(t, e, time.Minute)
		expect("and it goes on", failed, recovered)
	})
}

// A collector that was done in time succeeds, even if another was not.
func TestTheDeadlineOfOneIsNotThatOfTheOther(t *testing.T) {
	for range 20 { // a select with two ready cases takes any of them
		synctest.Test(t, func(t *testing.T) {
			e := newExporter(newFake("slow", wait), newFake("quick", ok))
			defer e.Close()
			s := scrapeWithin(t, e, time.Second)
			wantValue(t, s, 0, successFamily, "collector", "slow")
			wantValue(t, s, 1, successFamily, "collector", "quick")
		})
	}
}

// A scrape shares an update that has an earlier deadline. When that deadline ends the
// update, the scrape has time left, and asks again.
func TestAScrapeOutlivesTheUpdateItJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newExporter(slowAtFirst("a"))
		defer e.Close()
		first := make(chan Scrape, 1)
		go func() { first <- scrapeWithin(t, e, time.Second) }()
		synctest.Wait()
		wantValue(t, scrapeWithin(t, e, time.Minute), 1, successFamily, "collector", "a")
		wantValue(t, <-first, 0, successFamily, "collector", "a")
	})
}

// buggy is a collector that panics in Collect and in Close.
type buggy struct{ *fake }

func (buggy) Close() { panic("oops") }

func (b buggy) Collect(emit func(prometheus.Metric)) {
	b.fake.Collect(emit)
	panic("oops")
}

func TestABugInCollect(t *testing.T) {
	for name, update := range map[string]func(context.Context) error{"update ends": ok, "update goes on": wait} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newExporter(newFake("good", ok), buggy{newFake("bad", update)})
				defer e.Close()
				for range 2 {
					s := scrapeWithin(t, e, time.Second)
					wantValue(t, s, 1, successFamily, "collector", "good")
					wantValue(t, s, 0, successFamily, "collector", "bad")
				}
			})
		})
	}
}

// TestScrapeOfAClosedExporter is answered, shows the counters and reads nothing.
func TestScrapeOfAClosedExporter(t *testing.T) {
	f := newFake("a", ok)
	e := newExporter(f)
	scrapeWithin(t, e, time.Minute)
	e.Close()
	s := scrapeWithin(t, e, time.Minute)
	wantValue(t, s, 0, successFamily, "collector", "a")
	wantValue(t, s, 1, "a_total")
	if n := f.updates.Load(); n != 1 {
		t.Errorf("%d updates, want 1", n)
	}
}
