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

// list is the item that reads which subjects there are.
type list struct {
	watcher *Watcher
	logger  log.Logger

	// What follows is guarded by the lock of the Watcher.
	readAt  time.Time // the end of its last read
	err     error     // of that read
	inForce bool      // the subjects of an earlier Update's list still wait
	number  uint64    // how many lists were read
	unnamed int       // subjects on it that cannot be watched, as they have no usable id

	sayPageSize sync.Once
}

// known says whether it is known, for an Update for which counts what was read since
// that time, which subjects there are.
func (l *list) known(since time.Time) bool {
	return l.inForce || l.err == nil && refresh.Counts(l.readAt, since)
}

// Key is empty, as no subject's is.
func (*list) Key() string { return "" }

// TimedOut is false: nothing can be read before the list.
func (*list) TimedOut() bool { return false }

// Refresh reads the list and adds the subjects that are to be read.
func (l *list) Refresh(ctx context.Context, _ refresh.Pace) error {
	rows, err := l.rows(ctx)
	if err != nil {
		return err
	}
	named := slices.DeleteFunc(rows, func(s ncpclient.Subject) bool { return s.ID == "" })
	if len(rows) > 0 && len(named) == 0 {
		// To take this for a list would drop every subject.
		return fmt.Errorf("none of the %d subjects that NCP lists has a usable id", len(rows))
	}
	l.watcher.apply(named, len(rows)-len(named))
	return nil
}

// Done keeps the outcome.
func (l *list) Done(err error) {
	l.watcher.mu.Lock()
	defer l.watcher.mu.Unlock()
	l.err, l.readAt = err, l.watcher.options.Now()
	l.inForce = l.inForce && err == nil
}

// rows are the subjects that there are. One may be there twice.
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

// notePageSize says once that the server wants smaller pages.
func (l *list) notePageSize() {
	if l.watcher.client.PageSizeRefused() {
		l.sayPageSize.Do(func() {
			_ = level.Warn(l.logger).Log("msg", "NCP refuses the page size, the API's default is used instead",
				"refused", l.watcher.options.PageSize, "used", ncpclient.DefaultPageSize)
		})
	}
}

// apply takes over a whole list: a subject that is no longer on it is forgotten,
// and those that have or may have something new are to be read.
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
			continue // rows shift when subjects are added
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
	// Those that waited longest for a whole read come first.
	slices.SortStableFunc(due, func(a, b *subject) int { return a.upToDate().Compare(b.upToDate()) })
	w.mu.Unlock()
	// Those of other shards too: the account of a subject that moved is kept as
	// long as there is that subject.
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
