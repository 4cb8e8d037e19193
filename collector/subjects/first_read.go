package subjects

import (
	"fmt"
	"time"

	"github.com/go-kit/log/level"
)

// FirstRead is how far the first read of a history is. It never changes, as Known.
type FirstRead struct {
	Begun time.Time
	Rows  int // that came
	// Ratio is how much of the work is done, from 0 to 1; 0 if NCP does not tell how
	// many rows there are. It never becomes less, also if the read has to start over.
	Ratio float64
	Left  time.Duration // about how long it will take; 0 if that is not known

	running bool // it did not fail
	told    bool // the log tells of it
}

func (f *FirstRead) String() string {
	if f.Ratio == 0 {
		return fmt.Sprintf("%d rows so far", f.Rows)
	}
	return fmt.Sprintf("%.0f %%, about %s left", 100*f.Ratio, max(f.Left.Round(time.Second), time.Second))
}

// tellAfter is how long a first read takes before the log tells of it.
const tellAfter = 2 * time.Second

// firstReadGoesOn is told of each page of a first read.
func (s *subject) firstReadGoesOn(rows, total int) {
	w := s.watcher
	now := w.options.Now()
	w.mu.Lock()
	id, next := s.known.ID, FirstRead{Begun: now}
	if s.firstRead != nil {
		next = *s.firstRead
	}
	took := now.Sub(next.Begun)
	next.running, next.Rows = true, max(next.Rows, rows)
	if rows < total { // else the total is not right
		next.Ratio = max(next.Ratio, float64(rows)/float64(total))
	}
	if next.Ratio > 0 {
		next.Left = time.Duration(float64(took) * (1 - next.Ratio) / next.Ratio)
	}
	tell := took >= tellAfter && !next.told
	next.told = next.told || tell
	s.firstRead = &next
	w.mu.Unlock()
	if tell {
		_ = level.Info(w.logger).Log("msg", "A history is read for the first time; counters of the subject follow when all of it was read",
			"subject_id", id, "progress", next.String())
	}
}

// firstReadEnded is told that a history was read whole. w.mu is held.
func (s *subject) firstReadEnded() {
	first, w := s.firstRead, s.watcher
	s.firstRead = nil
	if first != nil && first.told {
		_ = level.Info(w.logger).Log("msg", "A history was read for the first time", "subject_id", s.known.ID,
			"rows", s.known.Entries, "took", w.options.Now().Sub(first.Begun).Round(time.Millisecond))
	}
}
