package subjects

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ncp_exporter/collector/refresh"
	"ncp_exporter/ncpclient"
)

// list is the item that reads the list of subjects.
type list struct {
	watcher *Watcher

	// The lock of the Watcher guards the fields below.
	readAt  time.Time // when the last read ended
	err     error     // of that read
	inForce bool      // the list of an earlier Update is still used, as subjects on it wait
	number  uint64    // how many lists were applied
	doubt   error     // whether the last list is complete; nil if there is none
	unnamed int       // subjects on the list that have no usable id, so cannot be watched
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
	read, err := l.subjects(ctx)
	if err != nil {
		return err
	}
	named := slices.DeleteFunc(read.Rows, func(s ncpclient.Subject) bool { return s.ID == "" })
	if len(read.Rows) > 0 && len(named) == 0 {
		// An empty list would drop every subject and its series.
		return fmt.Errorf("none of the %d subjects that NCP lists has a usable id", len(read.Rows))
	}
	l.watcher.apply(named, len(read.Rows)-len(named), read.Doubt)
	return nil
}

// Done records how the read ended.
func (l *list) Done(err error) {
	l.watcher.mu.Lock()
	defer l.watcher.mu.Unlock()
	l.err, l.readAt = err, l.watcher.options.Now()
	l.inForce = l.inForce && err == nil
}

// subjects gives all subjects.
func (l *list) subjects(ctx context.Context) (read ncpclient.List[ncpclient.Subject], err error) {
	options := &l.watcher.options
	if len(options.IDs) == 0 {
		return l.watcher.client.Subjects(ctx, options.PageSize)
	}
	for _, id := range options.IDs {
		read.Rows = append(read.Rows, ncpclient.Subject{ID: id})
	}
	return read, nil
}

// apply takes over a list. A subject that is no longer on it is dropped, if the list
// is complete beyond doubt. Subjects that may have something new are added to the
// queue.
func (w *Watcher) apply(rows []ncpclient.Subject, unnamed int, doubt error) {
	w.mu.Lock()
	now := w.options.Now()
	ids := make([]string, len(rows), len(rows)+len(w.watched))
	var due []*subject
	on := func(s *subject) {
		s.list = w.list.number
		if w.sweep.due(s, now) {
			due = append(due, s)
		} else {
			s.unmoved = now
		}
	}
	w.list.number++
	changed := false
	for i, row := range rows {
		ids[i] = row.ID
		if !w.options.Filter.Takes(row) {
			delete(w.watched, row.ID)
			continue
		}
		s := w.watched[row.ID]
		switch {
		case s == nil && !w.options.Shard.Owns(row.ID):
			continue
		case s == nil:
			s = w.newSubject(row.ID)
			w.watched[row.ID] = s
			changed = true
		case s.list == w.list.number:
			continue // it is there twice: rows shift to the next page when subjects are added
		}
		if len(w.options.IDs) == 0 {
			w.sweep.check(s, timesOf(row))
			s.listedAs(row)
		}
		on(s)
	}
	for _, id := range w.ids {
		switch s := w.watched[id]; {
		case s == nil:
			changed = true
		case s.list == w.list.number:
		case doubt != nil:
			ids = append(ids, id)
			on(s)
		default:
			delete(w.watched, id)
			changed = true
		}
	}
	if changed {
		w.sortIDs()
	}
	w.list.unnamed, w.list.doubt = unnamed, doubt
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
