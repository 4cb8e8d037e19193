package refresh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// track records what the items of a test do.
type track struct {
	mu     sync.Mutex
	begun  []string
	done   map[string]int
	errs   map[string]error
	atWork int
	most   int
}

// job is an item with several steps, each of which takes a while.
type job struct {
	*track
	key      string
	steps    int
	step     time.Duration
	fails    error
	panics   bool
	timedOut bool
	then     func()
}

func (j *job) Key() string    { return j.key }
func (j *job) TimedOut() bool { return j.timedOut }

func (j *job) Refresh(ctx context.Context, pace Pace) error {
	j.mu.Lock()
	j.begun = append(j.begun, j.key)
	j.atWork++
	j.most = max(j.most, j.atWork)
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.atWork--
	}()
	for step := range max(1, j.steps) {
		if step > 0 {
			if err := pace(); err != nil {
				return fmt.Errorf("step %d: %w", step, err)
			}
		}
		select {
		case <-time.After(j.step):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if j.panics {
		panic("oops")
	}
	if j.then != nil {
		j.then()
	}
	return j.fails
}

func (j *job) Done(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done[j.key]++
	j.errs[j.key] = err
	j.timedOut = errors.Is(err, context.DeadlineExceeded)
}

func newTrack() *track { return &track{done: make(map[string]int), errs: make(map[string]error)} }

func (t *track) jobs(n int, step time.Duration, prefix string) []Item {
	items := make([]Item, n)
	for i := range items {
		items[i] = &job{track: t, key: fmt.Sprintf("%s%03d", prefix, i), step: step}
	}
	return items
}

func (t *track) order() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.begun, " ")
}

// times gives how often an item was done.
func (t *track) times(key string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.done[key]
}

// err gives the last error of an item.
func (t *track) err(key string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.errs[key]
}

func newQueue(t *testing.T, workers int) *Queue {
	t.Helper()
	q := NewQueue(Options{Workers: workers, Now: time.Now})
	t.Cleanup(q.Close)
	return q
}

func runFor(t *testing.T, q *Queue, d time.Duration) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	begin := time.Now()
	q.Run(ctx)
	return time.Since(begin)
}

// Items that a Run has no time for come first in the next, in their order.
func TestFirstInFirstOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, tr := newQueue(t, 1), newTrack()
		q.Add(tr.jobs(5, time.Second, "a")...)
		if took := runFor(t, q, 2500*time.Millisecond); took != 2500*time.Millisecond {
			t.Errorf("the Run took %s", took)
		}
		if n := q.Len(); n != 2 {
			t.Errorf("%d items wait, want 2: one is at work", n)
		}
		q.Add(tr.jobs(5, time.Second, "a")...) // waiting items keep their places
		runFor(t, q, time.Minute)
		want := "a000 a001 a002 a003 a004 a000 a001"
		if got := tr.order(); got != want {
			t.Errorf("they were begun in the order %s, want %s", got, want)
		}
	})
}

// The order of items holds over all classes.
func TestWhoWaitedLongestGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, tr := newQueue(t, 1), newTrack()
		for i := range 3 {
			q.Add(&job{track: tr, key: fmt.Sprint("late", i), step: time.Second, timedOut: true}, &job{track: tr, key: fmt.Sprint("well", i), step: time.Second})
		}
		runFor(t, q, time.Minute)
		if got, want := tr.order(), "late0 well0 late1 well1 late2 well2"; got != want {
			t.Errorf("begun in the order %s, want %s", got, want)
		}
	})
}

// If an item adds others, as a list does, they are done in the same Run. Items that this
// Run did already are not done again.
func TestAnItemIsDoneOnceInARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, tr := newQueue(t, 2), newTrack()
		list := func() Item {
			return &job{track: tr, key: "list", then: func() { q.Add(tr.jobs(4, time.Second, "s")...) }}
		}
		q.Add(list())
		runFor(t, q, 1500*time.Millisecond) // enough for the list and two of its four jobs; the other two are running
		q.Add(list())
		runFor(t, q, time.Minute)
		for key, want := range map[string]int{"list": 2, "s000": 2, "s001": 2, "s002": 1, "s003": 1} {
			if got := tr.times(key); got != want {
				t.Errorf("%s was done %d times, want %d", key, got, want)
			}
		}
	})
}

// If an item that an earlier Run began is added again, Run waits for it and does not
// begin it a second time.
func TestWhatIsAtWorkIsJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, tr := newQueue(t, 1), newTrack()
		q.Add(tr.jobs(1, 10*time.Second, "a")...)
		runFor(t, q, time.Second)
		if took := runFor(t, q, time.Minute); took != 0 {
			t.Errorf("a Run that was given nothing took %s", took)
		}
		q.Add(tr.jobs(1, 10*time.Second, "a")...)
		if took := runFor(t, q, time.Minute); took != 9*time.Second {
			t.Errorf("the Run took %s, want the 9 s that were left", took)
		}
		if got := tr.order(); got != "a000" {
			t.Errorf("begun: %s", got)
		}
	})
}

// Items that timed out share a quarter of the workers, and one more for each of them that
// recovered.
func TestWhatTimedOutHasAShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, tr := newQueue(t, 8), newTrack()
		slow := tr.jobs(20, 10*time.Second, "slow")
		for _, item := range slow {
			item.(*job).timedOut = true                  //nolint:forcetypeassert // made above
			item.(*job).fails = context.DeadlineExceeded //nolint:forcetypeassert // made above
		}
		q.Add(slow...)
		q.Add(tr.jobs(48, time.Second, "quick")...)
		runFor(t, q, 9500*time.Millisecond)
		for i := range 48 {
			if tr.times(fmt.Sprintf("quick%03d", i)) != 1 {
				t.Fatalf("quick item %d was not done: %s", i, tr.order())
			}
		}
		if n := strings.Count(tr.order(), "slow"); n != 2 {
			t.Errorf("%d slow items were begun, want a quarter of 8", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		q, tr := newQueue(t, 8), newTrack()
		well := tr.jobs(64, time.Second, "well")
		for _, item := range well {
			item.(*job).timedOut = true //nolint:forcetypeassert // made above
		}
		q.Add(well...)
		if took := runFor(t, q, time.Minute); took > 12*time.Second { // 8 s if they had all workers at once
			t.Errorf("items that recovered took %s", took)
		}
	})
}

// Long work does not keep quick items waiting: items that continue after their Run, or
// run for long while others wait, share half as many places as there are workers.
func TestLongWorkLetsOthersGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, tr := newQueue(t, 10), newTrack()
		long := tr.jobs(20, 4*time.Second, "long")
		for _, item := range long {
			item.(*job).steps = 100 //nolint:forcetypeassert // made above
		}
		q.Add(long...)
		q.Add(tr.jobs(50, 100*time.Millisecond, "quick")...)
		for range 2 {
			runFor(t, q, 10*time.Second)
			q.Add(long...)
			time.Sleep(5 * time.Second)
		}
		for i := range 50 {
			if tr.times(fmt.Sprintf("quick%03d", i)) != 1 {
				t.Fatalf("quick item %d was not done in two Runs", i)
			}
		}
		// All are done in the end, five at a time, and none starts over more than once.
		for range 2 * 20 / 5 * 400 / 15 {
			q.Add(long...)
			runFor(t, q, 10*time.Second)
			time.Sleep(5 * time.Second)
		}
		for _, item := range long {
			if tr.times(item.Key()) == 0 {
				t.Errorf("%s was never done", item.Key())
			}
			if err := tr.err(item.Key()); err != nil {
				t.Errorf("%s: %v", item.Key(), err)
			}
		}
	})
}

// Long work is not stopped while nothing else waits.
func TestLongWorkAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, tr := newQueue(t, 1), newTrack()
		q.Add(&job{track: tr, key: "a", steps: 3 * 3600, step: time.Second})
		runFor(t, q, 10*time.Second)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if tr.times("a") != 1 || tr.order() != "a" {
			t.Errorf("done %d times, begun: %s", tr.times("a"), tr.order())
		}
	})
}

func TestAPanicIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, tr := newQueue(t, 1), newTrack()
		q.Add(&job{track: tr, key: "a", panics: true}, &job{track: tr, key: "b"})
		runFor(t, q, time.Minute)
		var bug *PanicError
		if err := tr.err("a"); !errors.As(err, &bug) || !strings.Contains(string(bug.Stack), "queue_test.go") {
			t.Errorf("the error is %v", err)
		}
		if tr.times("b") != 1 {
			t.Error("the other item was not done")
		}
	})
}

func TestRetain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, tr := newQueue(t, 1), newTrack()
		q.Add(tr.jobs(3, time.Second, "a")...)
		q.Retain(func(item Item) bool { return item.Key() != "a001" })
		runFor(t, q, time.Minute)
		if got := tr.order(); got != "a000 a002" {
			t.Errorf("begun: %s", got)
		}
	})
}

func TestCloseEndsWhatIsAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, tr := NewQueue(Options{Workers: 1, Now: time.Now}), newTrack()
		q.Add(tr.jobs(2, time.Hour, "a")...)
		runFor(t, q, time.Second)
		begin := time.Now()
		q.Close()
		if took := time.Since(begin); took != 0 {
			t.Errorf("Close took %s", took)
		}
		if err := tr.err("a000"); !errors.Is(err, context.Canceled) {
			t.Errorf("the error is %v", err)
		}
	})
}

// Whatever is added, and however long it takes: never more items run than allowed, no item
// runs twice at the same time, each Run ends in time, and in the end all are done.
func TestQueueProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		workers := rapid.IntRange(1, 6).Draw(rt, "workers")
		keys := rapid.IntRange(1, 30).Draw(rt, "keys")
		steps := rapid.SliceOfN(rapid.IntRange(1, 8), keys, keys).Draw(rt, "steps")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 3), 20, 20).Draw(rt, "pauses")
		late := rapid.SliceOfN(rapid.Bool(), keys, keys).Draw(rt, "timed out")
		synctest.Test(t, func(t *testing.T) {
			q, tr := newQueue(t, workers), newTrack()
			items := make([]Item, keys)
			for i := range items {
				items[i] = &job{track: tr, key: strconv.Itoa(i), steps: steps[i], step: 700 * time.Millisecond, timedOut: late[i]}
			}
			for _, pause := range pauses {
				q.Add(items...)
				if took := runFor(t, q, 3*time.Second); took > 3*time.Second {
					rt.Fatalf("a Run took %s", took)
				}
				time.Sleep(time.Duration(pause) * time.Second)
			}
			q.Add(items...)
			if took := runFor(t, q, time.Hour); took == time.Hour {
				rt.Fatal("a Run did not end when all was done")
			}
			if q.Len() > 0 || tr.atWork > 0 || q.atWork > 0 || q.longs > 0 || len(q.entries) > 0 {
				rt.Fatalf("left: %d wait, %d at work (%d, %d long), %d entries", q.Len(), tr.atWork, q.atWork, q.longs, len(q.entries))
			}
			if tr.most > 2*workers {
				rt.Fatalf("%d items were at work at a time with %d workers", tr.most, workers)
			}
			for _, item := range items {
				if tr.times(item.Key()) == 0 || tr.err(item.Key()) != nil {
					rt.Fatalf("%s was done %d times, the last with %v", item.Key(), tr.times(item.Key()), tr.err(item.Key()))
				}
			}
		})
	})
}

func TestCounts(t *testing.T) {
	at := time.Unix(100, 0)
	got := []bool{Counts(at, at), Counts(at, at.Add(1)), Counts(at, at.Add(-1)), Counts(time.Time{}, time.Time{})}
	if want := []bool{true, false, true, false}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// heedless is an item whose Done panics when it is told of a success.
type heedless struct{ told []error }

func (*heedless) Key() string                         { return "heedless" }
func (*heedless) TimedOut() bool                      { return false }
func (*heedless) Refresh(context.Context, Pace) error { return nil }
func (h *heedless) Done(err error) {
	h.told = append(h.told, err)
	if err == nil {
		panic("oops")
	}
}

func TestABugInDone(t *testing.T) {
	q := NewQueue(Options{Workers: 1, Now: time.Now})
	defer q.Close()
	h := &heedless{}
	q.Add(h)
	q.Run(t.Context())
	var bug *PanicError
	if len(h.told) != 2 || h.told[0] != nil || !errors.As(h.told[1], &bug) {
		t.Errorf("Done was told %v, want no error and then the bug", h.told)
	}
}
