package subjects

import (
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/go-kit/log/level"
)

// sweep decides which subjects are read. A subject whose times in the list
// (lastSeenTime, updateTime) do not change should have nothing new, so it is read only
// once in the interval. But no document of NCP promises that these times are right. If
// such a read finds new rows, they are wrong, and every subject is read in each scrape
// from then on.
type sweep struct {
	interval    time.Duration // 0: every subject is read in each scrape
	lateArrival time.Duration
	disabled    bool // the times turned out wrong
}

// swept is what sweep knows of a subject.
type swept struct {
	// baseline are the times in the list before the last complete read.
	baseline times
	begun    bool // there is a baseline
	// settled says that the last read found everything that these times announce.
	// Before that, rows may still arrive.
	settled bool
	due     time.Time // when it is read next, if the times do not change
	// suspect says that the last read found new rows although the times had not
	// changed. The rows may have come after the list and before the read. Then the
	// times in the next list are different.
	suspect bool
}

// on says whether some subjects need not be read.
func (w *sweep) on() bool { return w.interval > 0 && !w.disabled }

// check compares the times of a new list with those before the last read. It disables
// the sweep if that read found new rows and the times are still the same.
func (w *sweep) check(s *subject, listed times) {
	if !s.swept.suspect {
		return
	}
	s.swept.suspect = false
	if w.on() && s.swept.baseline.equal(listed) {
		w.disabled = true
		_ = level.Warn(s.watcher.logger).Log("msg", "NCP's list does not tell when a subject has new authentications: "+
			"--collector.external-access.sweep-interval has no effect, every subject is read from now on", "subject_id", s.known.ID)
	}
}

// due says whether a subject must be read now.
func (w *sweep) due(s *subject, now time.Time) bool {
	k := &s.swept
	return !w.on() || !s.known.InList || s.known.Err != nil || !k.begun || !k.settled || !k.baseline.equal(s.listed) || !now.Before(k.due)
}

// read records a complete read of a subject. listed are the times in the list before
// it, found is the number of new rows, and newest is the time of the newest row.
func (w *sweep) read(s *subject, listed times, found int, newest time.Time) {
	if w.interval == 0 {
		return
	}
	k := &s.swept
	refreshed := s.known.Refreshed
	k.suspect = found > 0 && k.begun && k.settled && k.baseline.equal(listed)
	wait := w.interval
	if !k.begun {
		// After a start all subjects are read at about the same time. So the next
		// reads are spread over the interval.
		wait = time.Duration(float64(wait) * float64(xxhash.Sum64String(s.known.ID)>>11) / (1 << 53))
	}
	k.baseline, k.begun, k.due = listed, true, refreshed.Add(wait)
	// Rows may arrive late, but only within lateArrival. A subject that was never seen
	// has no rows.
	k.settled = listed.lastSeen.IsZero() && s.known.Entries == 0 ||
		!listed.lastSeen.IsZero() && (!newest.Before(listed.lastSeen) || refreshed.Sub(listed.lastSeen) > w.lateArrival)
}
