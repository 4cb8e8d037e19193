package subjects

import (
	"context"
	"fmt"
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
	rows, unnamed, err := l.rows(ctx)
	if err != nil {
		return err
	}
	if unnamed > 0 && len(rows) == 0 {
		// To take this for a list would drop every subject.
		return fmt.Errorf("none of the %d subjects that NCP lists has a usable id", unnamed)
	}
	l.watcher.apply(rows, unnamed)
	return nil
}

// Done keeps the outcome.
func (l *list) Done(err error) {
	l.watcher.mu.Lock()
	defer l.watcher.mu.Unlock()
	l.err, l.readAt = err, l.watcher.options.Now()
	l.inForce = l.inForce && err == nil
}

// rows are the subjects to watch, and the number of those that cannot be.
func (l *list) rows(ctx context.Context) (rows []ncpclient.Subject, unnamed int, err error) {
	options := &l.watcher.options
	if len(options.IDs) > 0 {
		for _, id := range options.IDs {
			rows = append(rows, ncpclient.Subject{ID: id})
		}
		return rows, 0, nil
	}
	all, err := l.watcher.client.Subjects(ctx, options.PageSize)
	l.notePageSize()
	seen := make(map[string]bool, len(all.Rows))
	for _, s := range all.Rows {
		switch {
		case s.ID == "":
			unnamed++
		case !seen[s.ID]: // rows shift when subjects are added
			seen[s.ID] = true
			rows = append(rows, s)
		}
	}
	return rows, unnamed, err
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
	watched := make(map[string]*subject, len(w.watched))
	var due []*subject
	for i, row := range rows {
		ids[i] = row.ID
		if !w.options.Shard.Owns(row.ID) {
			continue
		}
		s := w.watched[row.ID]
		if s == nil {
			s = w.newSubject(row.ID)
		}
		if len(w.options.IDs) == 0 {
			w.sweep.check(s, timesOf(row))
			s.list(row)
		}
		watched[row.ID] = s
		if w.sweep.due(s, now) {
			due = append(due, s)
		} else {
			s.unmoved = now
		}
	}
	w.watched, w.list.unnamed = watched, unnamed
	w.sortIDs()
	// Those that waited longest for a whole read come first.
	slices.SortStableFunc(due, func(a, b *subject) int { return a.upToDate().Compare(b.upToDate()) })
	w.mu.Unlock()
	// Those of other shards too: the account of a subject that moved is kept as
	// long as there is that subject.
	w.ledger.Listed(ids)
	w.queue.Retain(func(item refresh.Item) bool {
		s, ok := item.(*subject)
		return !ok || watched[s.Key()] == s
	})
	for _, s := range due {
		w.queue.Add(s)
	}
}
