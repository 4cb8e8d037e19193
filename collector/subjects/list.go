package subjects

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"ncp_exporter/collector/refresh"
	"ncp_exporter/ncpclient"
)

// list is the item that reads the list of subjects.
type list struct {
	watcher *Watcher
	logger  log.Logger

	// The lock of the Watcher guards the fields below.
	readAt  time.Time // when the last read ended
	err     error     // of that read
	inForce bool      // the list of an earlier Update is still used, as subjects on it wait
	number  uint64    // how many lists were applied
	unnamed int       // subjects on the list that have no usable id, so cannot be watched

	sayPageSize sync.Once
}

// known says whether the subjects are known to an Update for which reads count that
// ended at since or later. w.mu is held.
func (l *list) known(since time.Time) bool {
	return l.inForce || l.err == nil && refresh.Counts(l.readAt, since)
}

// Key is empty, which no id of a subject is.
func (*list) Key() string { return "" }

// TimedOut is always false, so that the list never waits for one of the few places for
// items that timed out: without a list, only the subjects of the last one are read.
func (*list) TimedOut() bool { return false }

// Refresh reads the list, and adds the subjects that are due to the queue.
func (l *list) Refresh(ctx context.Context, _ refresh.Pace) error {
	rows, err := l.rows(ctx)
	if err != nil {
		return err
	}
	named := slices.DeleteFunc(rows, func(s ncpclient.Subject) bool { return s.ID == "" })
	if len(rows) > 0 && len(named) == 0 {
		// An empty list would drop every subject and its series.
		return fmt.Errorf("none of the %d subjects that NCP lists has a usable id", len(rows))
	}
	l.watcher.apply(named, len(rows)-len(named))
	return nil
}

// Done records how the read ended.
func (l *list) Done(err error) {
	l.watcher.mu.Lock()
	defer l.watcher.mu.Unlock()
	l.err, l.readAt = err, l.watcher.options.Now()
	l.inForce = l.inForce && err == nil
}

// rows gives all subjects. A subject may be there twice.
func (l *list) rows(ctx context.Context) (rows []ncpclient.Subject, err error) {
	options := &l.watcher.options
	if len(options.IDs) == 0 {
		all, err := l.watcher.client.Subjects(ctx, options.PageSize)
		l.notePageSize()
		return all.Rows, err
	}
	for _, id := range options.IDs {
		rows = append(rows, ncpclient.Subject{ID: id})
	}
	return rows, nil
}

// notePageSize logs, once, that NCP wants smaller pages.
func (l *list) notePageSize() {
	if l.watcher.client.PageSizeRefused() {
		l.sayPageSize.Do(func() {
			_ = level.Warn(l.logger).Log("msg", "NCP refuses the page size, the API's default is used instead",
				"refused", l.watcher.options.PageSize, "used", ncpclient.DefaultPageSize)
		})
	}
}

// apply takes over a complete list. A subject that is no longer on it is dropped.
// Subjects that may have something new are added to the queue.
func (w *Watcher) apply(rows []ncpclient.Subject, unnamed int) {
	w.mu.Lock()
	now := w.options.Now()
	ids := make([]string, len(rows))
	var due []*subject
	w.list.number++
	listed, before := 0, len(w.watched)
	for i, row := range rows {
		ids[i] = row.ID
		s := w.watched[row.ID]
		switch {
		case s == nil && !w.options.Shard.Owns(row.ID):
			continue
		case s == nil:
			s = w.newSubject(row.ID)
			w.watched[row.ID] = s
		case s.list == w.list.number:
			continue // it is there twice: rows shift to the next page when subjects are added
		}
		s.list = w.list.number
		listed++
		if len(w.options.IDs) == 0 {
			w.sweep.check(s, timesOf(row))
			s.listedAs(row)
		}
		if w.sweep.due(s, now) {
			due = append(due, s)
		} else {
			s.unmoved = now
		}
	}
	if listed < len(w.watched) || listed > before {
		maps.DeleteFunc(w.watched, func(_ string, s *subject) bool { return s.list != w.list.number })
		w.sortIDs()
	}
	w.list.unnamed = unnamed
	// The subjects whose last complete read is longest ago come first.
	slices.SortStableFunc(due, func(a, b *subject) int { return a.upToDate().Compare(b.upToDate()) })
	w.mu.Unlock()
	// These are also the subjects of other shards. So the ledger keeps what was counted
	// of a subject that now belongs to another shard, as long as NCP lists it.
	w.ledger.Listed(ids)
	w.queue.Retain(func(item refresh.Item) bool {
		s, ok := item.(*subject)
		return !ok || w.watches(s)
	})
	for _, s := range due {
		w.queue.Add(s)
	}
}

func (w *Watcher) watches(s *subject) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.watched[s.known.ID] == s
}
