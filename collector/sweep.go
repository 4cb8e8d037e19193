package collector

import (
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"ncp_exporter/ncpclient"
)

// sweep says which subjects are to be read. A subject whose times in the list
// (lastSeenTime, updateTime) stand still has nothing new, if these times are
// right, and is read only once in the interval. Whether they are right is not
// known: if such a read finds new rows, they are not, and every subject is read
// from then on.
type sweep struct {
	interval    time.Duration // 0: every subject is read each time
	lateArrival time.Duration
	logger      log.Logger
	distrust    bool
}

// swept is what a sweep knows of a subject.
type swept struct {
	// as are the times that the list told before the last whole read.
	as *ncpclient.Subject
	// settled says that the last read found all that these times tell of. Until
	// then rows may still arrive.
	settled bool
	due     time.Time // the next read, if the times stand still
	// doubtful says that the last read found new rows although the times stood
	// still. They may have come between the list and the read: if so, the next
	// list tells.
	doubtful bool
}

// on says whether there are subjects that need not be read.
func (w *sweep) on() bool { return w.interval > 0 && !w.distrust }

// check compares a new row of the list with what the last read found.
func (w *sweep) check(s *subject, row ncpclient.Subject) {
	if !s.swept.doubtful {
		return
	}
	s.swept.doubtful = false
	if w.on() && sameTimes(s.swept.as, &row) {
		w.distrust = true
		_ = level.Warn(w.logger).Log("msg", "NCP's list does not tell when a subject has new authentications: "+
			"--collector.external-access.sweep-interval has no effect, every subject is read from now on", "subject_id", s.id)
	}
}

// due says whether a subject is to be read.
func (w *sweep) due(s *subject, now time.Time) bool {
	k := &s.swept
	return !w.on() || s.listed == nil || s.err != nil || !k.settled || !sameTimes(k.as, s.listed) || !now.Before(k.due)
}

// read takes note of a whole read that was begun under this row of the list,
// and found that many new rows, the newest of all being of that time.
func (w *sweep) read(s *subject, listed *ncpclient.Subject, fresh int, newest time.Time) {
	k := &s.swept
	if w.interval == 0 || listed == nil {
		return
	}
	k.doubtful = fresh > 0 && k.settled && sameTimes(k.as, listed)
	wait := w.interval
	if k.as == nil {
		// After a start all are read at about the same time. The next reads are
		// spread over the interval.
		wait = time.Duration(float64(wait) * float64(xxhash.Sum64String(s.id)>>11) / (1 << 53))
	}
	k.as, k.due = listed, s.refreshed.Add(wait)
	// A row may be late to arrive. A subject that was never seen has none.
	k.settled = listed.LastSeen.IsZero() && s.entries == 0 ||
		!listed.LastSeen.IsZero() && (!newest.Before(listed.LastSeen) || s.refreshed.Sub(listed.LastSeen) > w.lateArrival)
}

func sameTimes(a, b *ncpclient.Subject) bool {
	return a != nil && b != nil && a.LastSeen.Equal(b.LastSeen) && a.UpdateTime.Equal(b.UpdateTime)
}
