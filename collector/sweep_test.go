package collector

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ncp_exporter/collector/subjects"
	"ncp_exporter/ncpclient/ncptest"
)

const (
	sweepingFamily = "ncp_external_access_sweeping"
	distrustLine   = "NCP's list does not tell when a subject has new authentications"
)

// login is an authentication that failed just now.
func login(serial int) ncptest.Credential {
	return ncptest.NewCredential(time.Now(), strconv.Itoa(serial), true)
}

// newSweeping makes a world in a bubble, with a sweep interval of an hour and subjects
// that logged in long ago.
func newSweeping(t *testing.T, subjects int, o worldOptions) (*world, []string) {
	t.Helper()
	o.direct, o.sweep = true, time.Hour
	w := newWorld(t, o)
	ids := manySubjects(w, subjects)
	for _, id := range ids {
		w.AddCredentials(id, history(3)...)
	}
	return w, ids
}

// A scrape reads only the subjects that logged in since the last one. But each subject is
// read once in the interval.
func TestSweepReadsWhoMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const subjects = 240
		w, ids := newSweeping(t, subjects, worldOptions{})
		w.scrape(t)
		// A few more are to learn, once, how this server ends and counts.
		if got := w.Count(ncptest.Credentials); got < subjects || got > subjects+25 { // of subjects that are read side by side
			t.Fatalf("%d calls in the first scrape, want one for each of %d subjects", got, subjects)
		}
		reads := make(map[string]int)
		most := 0
		for minute := 1; minute <= 60; minute++ {
			time.Sleep(time.Minute)
			w.ResetStats()
			moved := ids[minute]
			w.AddCredentials(moved, login(minute))
			s := w.scrape(t)
			wantValue(t, s, 1, successFamily, "collector", eaCollector)
			wantValue(t, s, 1, sweepingFamily)
			wantValue(t, s, 1, authFamily, "subject_id", moved, "result", "failure")
			// The others are as fresh as the list: their gauges are there.
			if n := len(bySubject(t, s, entriesFamily)); n != subjects {
				t.Fatalf("%d subjects show their entries, want %d", n, subjects)
			}
			calls := 0
			for _, r := range w.Requests() {
				if r.Op == ncptest.Credentials {
					calls++
					reads[r.SubjectID]++
				}
			}
			if reads[moved] == 0 {
				t.Errorf("minute %d: %s logged in and was not read", minute, moved)
			}
			most = max(most, calls)
		}
		for _, id := range ids {
			if n := reads[id]; n < 1 || n > 3 { // after its login, and once or twice by the sweep
				t.Errorf("%s was read %d times in an hour", id, n)
			}
		}
		// The reads are spread over the interval: about 4 a minute.
		if most > 20 {
			t.Errorf("%d subjects were read in one scrape, want them spread", most)
		}
		if strings.Contains(w.log.String(), distrustLine) {
			t.Errorf("times that are right were not trusted:\n%s", w.log)
		}
	})
}

// If 1 % of the subjects are active, a scrape makes one call for each page of the list
// and one for each active subject.
func TestCallsWithSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const subjects, active = 2000, 20
		w, ids := newSweeping(t, subjects, worldOptions{})
		w.scrape(t)
		for round := range 3 {
			time.Sleep(time.Millisecond) // no sweep is due
			for i := range active {
				w.AddCredentials(ids[round*active+i], login(round))
			}
			w.ResetStats()
			s := w.scrape(t)
			wantValue(t, s, 1, successFamily, "collector", eaCollector)
			if got := w.Count(ncptest.Subjects); got != subjects/100 {
				t.Errorf("%d calls for the list, want %d", got, subjects/100)
			}
			if got := w.Count(ncptest.Credentials); got < active || got > active+2 { // one or two may be due in the millisecond
				t.Errorf("%d calls for histories, want %d", got, active)
			}
		}
	})
}

// If a sweep finds rows that the times did not announce, the times are not trusted any
// more.
func TestSweepFindsTheTimesWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ids := newSweeping(t, 20, worldOptions{})
		w.scrape(t)
		w.Configure(func(c *ncptest.Config) { c.FrozenLastSeen = true })
		w.AddCredentials(ids[7], login(1))
		found := 0.0
		for range 61 {
			time.Sleep(time.Minute)
			s := w.scrape(t)
			found, _ = value(t, s, authFamily, "subject_id", ids[7], "result", "failure")
		}
		if found != 1 {
			t.Fatalf("the login counts %v, want 1: each subject is read once in the interval", found)
		}
		w.ResetStats()
		s := w.scrape(t)
		wantValue(t, s, 0, sweepingFamily)
		if got := w.Count(ncptest.Credentials); got != 20 {
			t.Errorf("%d subjects were read, want all 20", got)
		}
		if n := strings.Count(w.log.String(), distrustLine); n != 1 || !strings.Contains(w.log.String(), ids[7]) {
			t.Errorf("want it said once, with the subject, not %d times:\n%s", n, w.log)
		}
	})
}

// A login after the list and before the read proves nothing against the times: they
// change in the next list.
func TestALoginBetweenListAndRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ids := newSweeping(t, 1, worldOptions{})
		w.scrape(t)
		time.Sleep(2 * time.Hour)
		done := false
		w.OnRequest(func(r ncptest.Request) {
			if r.Op == ncptest.Credentials && !done {
				done = true
				w.AddCredentials(ids[0], login(1))
			}
		})
		wantValue(t, w.scrape(t), 1, authFamily, "result", "failure")
		w.OnRequest(nil)
		time.Sleep(time.Minute)
		wantValue(t, w.scrape(t), 1, sweepingFamily)
	})
}

// The list may show the time of a login before its row is in the history.
func TestARowLaterThanItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ids := newSweeping(t, 1, worldOptions{ncp: ncptest.Config{FrozenLastSeen: true}})
		lastSeen := func(at time.Time) {
			w.PutSubject(ncptest.Subject{SubjectID: ids[0], Enabled: true, LastSeenTime: at.Format(time.RFC3339Nano)})
		}
		lastSeen(past().Add(2 * time.Minute))
		w.scrape(t)
		time.Sleep(time.Minute)
		row := login(1)
		lastSeen(time.Now())
		for range 20 {
			wantValue(t, w.scrape(t), 0, authFamily, "result", "failure")
			time.Sleep(time.Minute)
		}
		w.AddCredentials(ids[0], row)
		s := w.scrape(t)
		wantValue(t, s, 1, authFamily, "result", "failure")
		time.Sleep(time.Minute)
		w.ResetStats()
		wantValue(t, w.scrape(t), 1, sweepingFamily)
		if got := w.Count(ncptest.Credentials); got != 0 {
			t.Errorf("%d reads, want none: all that the time told of is there", got)
		}
	})
}

// Times that cannot be read say nothing. Such a subject is read in each scrape, unless it
// never logged in.
func TestNoTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := newSweeping(t, 0, worldOptions{ncp: ncptest.Config{FrozenLastSeen: true}})
		put(w.Server, "never", "odd")
		w.AddCredentials("odd", history(3)...)
		w.scrape(t)
		time.Sleep(time.Second)
		w.ResetStats()
		wantValue(t, w.scrape(t), 1, successFamily, "collector", eaCollector)
		for _, r := range w.Requests() {
			if r.Op == ncptest.Credentials && r.SubjectID != "odd" {
				t.Errorf("%s was read", r.SubjectID)
			}
		}
		if got := w.Count(ncptest.Credentials); got != 1 {
			t.Errorf("%d reads, want 1", got)
		}
	})
}

// Two shards count every login once, and neither asks for histories of the other.
func TestTwoShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := make(map[string]float64)
		for n := range 2 {
			w := newWorld(t, worldOptions{direct: true, shard: subjects.NewShard(n, 2)})
			for i, id := range manySubjects(w, 40) {
				w.AddCredentials(id, history(5*i)...)
			}
			s := w.scrape(t)
			for id, failures := range bySubject(t, s, authFamily) {
				if _, twice := all[id]; twice {
					t.Errorf("%s is counted by both", id)
				}
				all[id] = failures
			}
			if got, mine := w.Count(ncptest.Credentials), len(bySubject(t, s, authFamily)); got < mine || got > 3*mine {
				t.Errorf("%d calls for %d subjects", got, mine)
			}
			for _, r := range w.Requests() {
				if r.Op == ncptest.Credentials && !subjects.NewShard(n, 2).Owns(r.SubjectID) {
					t.Errorf("shard %d read %s", n, r.SubjectID)
				}
			}
		}
		if len(all) != 40 {
			t.Errorf("%d subjects are counted, want 40", len(all))
		}
		for i := range 40 {
			if id := fmt.Sprintf("subject-%04d", i); all[id] != float64(i) {
				t.Errorf("%s has %v failures, want %d", id, all[id], i)
			}
		}
	})
}
