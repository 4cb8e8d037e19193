// Package subjects watches the subjects of External Access: which there are, when
// the history of each is read, and what came of it. It knows NCP, and no metrics.
//
// A scrape calls Update. The reads are items of a refresh.Queue: first the
// subjects that the last scrape had no time for, then the list, then the
// subjects on it.
package subjects

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/refresh"
	"ncp_exporter/ncpclient"
)

// Client is what a Watcher needs of ncpclient.
type Client interface {
	Subjects(ctx context.Context, size int) (ncpclient.List[ncpclient.Subject], error)
	CredentialsPage(ctx context.Context, subjectID string, number, size int) (ncpclient.CredentialsPage, error)
	PageSizeRefused() bool
}

// Options are the settings of a Watcher.
type Options struct {
	// IDs are the subjects to watch; empty is all that NCP lists.
	IDs []string
	// PageSize is the number of rows a page that is asked for.
	PageSize int
	// Concurrency is how many subjects are read side by side.
	Concurrency int
	// Sweep is how often a subject is read whose times in the list stand still;
	// 0 reads every subject each time. See sweep.
	Sweep time.Duration
	// LateArrival is how much later than its seenTime a row may still appear.
	LateArrival time.Duration
	// Shard is which of the subjects this exporter takes.
	Shard Shard
	// Now is the clock.
	Now func() time.Time
}

// Watcher watches subjects and has their authentications counted in a ledger.
type Watcher struct {
	client       Client
	ledger       *ledger.Ledger
	options      Options
	queue        *refresh.Queue
	certificates certificates

	mu      sync.Mutex
	list    list
	sweep   sweep
	watched map[string]*subject
	ids     []string // of the watched, sorted
	// since is the time from which on a read counts for the last Update.
	since    time.Time
	updating bool
}

// NewWatcher makes a Watcher. Until it has read the first list it watches the
// subjects of the ledger, so that a restart leaves no gap in their counters.
func NewWatcher(logger log.Logger, client Client, l *ledger.Ledger, options Options) *Watcher {
	w := &Watcher{
		client:  client,
		ledger:  l,
		options: options,
		queue:   refresh.NewQueue(refresh.Options{Workers: options.Concurrency, Now: options.Now}),
		sweep:   sweep{interval: options.Sweep, lateArrival: options.LateArrival, logger: logger},
		watched: make(map[string]*subject),
	}
	w.list = list{watcher: w, logger: logger}
	for _, id := range l.Subjects() {
		if options.Shard.Owns(id) && (len(options.IDs) == 0 || slices.Contains(options.IDs, id)) {
			w.watched[id] = w.newSubject(id)
		}
	}
	w.sortIDs()
	return w
}

func (w *Watcher) newSubject(id string) *subject {
	return &subject{watcher: w, known: &Known{ID: id}}
}

// Update reads the list of subjects and the history of each. It returns soon
// after ctx ends, and nil only if all was read since that time or later. What it
// has no time for goes on, and comes first in the next Update.
func (w *Watcher) Update(ctx context.Context, since time.Time) error {
	left := w.queue.Len()
	w.mu.Lock()
	// While subjects of the last list wait, that list is still the one in force.
	w.list.inForce = left > 0 && w.list.known(w.since)
	w.since, w.updating = since, true
	w.mu.Unlock()

	w.queue.Add(&w.list)
	w.queue.Run(ctx)
	// The next Update puts it behind what is left of its subjects.
	w.queue.Retain(func(item refresh.Item) bool { return item != &w.list })
	w.ledger.Commit() // also if the deadline cut the rest off

	w.mu.Lock()
	defer w.mu.Unlock()
	w.updating = false
	return w.outcome(ctx)
}

// Close ends what goes on, and keeps what it has read. Update is not called
// after it.
func (w *Watcher) Close() {
	w.queue.Close()
	w.ledger.Commit()
}

// State is what is known of all subjects.
type State struct {
	// Listed says whether it is known which subjects there are.
	Listed   bool
	Subjects []Subject // sorted by id
	// Sweeping says whether there are subjects that need not be read each time.
	Sweeping bool
}

// Subject is one subject of a State.
type Subject struct {
	*Known
	// Fresh says whether the last read of the history was whole and counts for
	// the last Update.
	Fresh bool
	// Counted says whether the history was read whole once: then Totals tells
	// what was counted.
	Counted bool
	Totals  ledger.Totals
}

// State is what is known now. It asks NCP nothing.
func (w *Watcher) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	state := State{Listed: w.list.known(w.since), Sweeping: w.sweep.on(), Subjects: make([]Subject, len(w.ids))}
	for i, id := range w.ids {
		s := w.watched[id]
		totals, counted := w.ledger.Totals(id)
		state.Subjects[i] = Subject{
			Known: s.known, Fresh: s.known.Err == nil && refresh.Counts(s.upToDate(), w.since),
			Totals: totals, Counted: counted,
		}
	}
	return state
}

// sortIDs follows a change of the watched.
func (w *Watcher) sortIDs() {
	w.ids = slices.Sorted(maps.Keys(w.watched))
}
