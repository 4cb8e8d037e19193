package subjects

import (
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// sweep says which subjects are to be read. A subject whose times in the list
// (lastSeenTime, updateTime) stand still has nothing new, if these times are
// right, and is read only once in the interval. Nobody has documented that they
// are right. If such a read finds new rows they are not, and every subject is read
// in each scrape from then on.
type sweep struct {
	interval    time.Duration // 0: every subject is read each time
	lateArrival time.Duration
	logger      log.Logger
	disabled    bool // the times turned out wrong
}

// swept is what a sweep knows of a subject.
type swept struct {
	// baseline are the times that the list told before the last whole read.
	baseline times
	begun    bool // there is a baseline
	// settled says that the last read found all that these times tell of. Until
	// then rows may still arrive.
	settled bool
	due     time.Time // the next read, if the times stand still
	// suspect says that the last read found new rows although the times stood
	// still. They may have come between the list and the read: if so, the next
	// list tells.
	suspect bool
}

// on says whether there are subjects that need not be read.
func (w *sweep) on() bool { return w.interval > 0 && !w.disabled }

// check compares new times of the list with what the last read found.
func (w *sweep) check(s *subject, listed times) {
	if !s.swept.suspect {
		return
	}
	s.swept.suspect = false
	if w.on() && s.swept.baseline.equal(listed) {
		w.disabled = true
		_ = level.Warn(w.logger).Log("msg", "NCP's list does not tell when a subject has new authentications: "+
			"--collector.external-access.sweep-interval has no effect, every subject is read from now on", "subject_id", s.known.ID)
	}
}

// due says whether a subject is to be read.
func (w *sweep) due(s *subject, now time.Time) bool {
	k := &s.swept
	return !w.on() || !s.known.InList || s.known.Err != nil || !k.begun || !k.settled || !k.baseline.equal(s.listed) || !now.Before(k.due)
}

// read takes note of a whole read that began after the list had told these times.
// It found so many new rows; the newest of all rows is of that time.
func (w *sweep) read(s *subject, listed times, found int, newest time.Time) {
	if w.interval == 0 {
		return
	}
	k := &s.swept
	refreshed := s.known.Refreshed
	k.suspect = found > 0 && k.begun && k.settled && k.baseline.equal(listed)
	wait := w.interval
	if !k.begun {
		// After a start all are read at about the same time. The next reads are
		// spread over the interval.
		wait = time.Duration(float64(wait) * float64(xxhash.Sum64String(s.known.ID)>>11) / (1 << 53))
	}
	k.baseline, k.begun, k.due = listed, true, refreshed.Add(wait)
	// A row may be late to arrive. A subject that was never seen has none.
	k.settled = listed.lastSeen.IsZero() && s.known.Entries == 0 ||
		!listed.lastSeen.IsZero() && (!newest.Before(listed.lastSeen) || refreshed.Sub(listed.lastSeen) > w.lateArrival)
}
