// Package subjects watches the subjects of External Access: which subjects there are,
// when the history of each is read, and what the reads found. It knows NCP, but no
// metrics.
//
// A scrape calls Update. The reads are items of a refresh.Queue, in this order: the
// subjects that the last scrape had no time for, the list of subjects, the subjects on
// it.
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
	Quirks() []string
}

// Options are the settings of a Watcher.
type Options struct {
	// IDs are the subjects to watch; if empty, all that NCP lists.
	IDs []string
	// PageSize is how many rows are asked for on each page.
	PageSize int
	// Concurrency is how many subjects are read at the same time.
	Concurrency int
	// Sweep is how often a subject is read whose times in the list do not change; 0:
	// every subject is read in each scrape. See sweep.
	Sweep time.Duration
	// LateArrival is how much later than its seenTime a row may appear in a history.
	LateArrival time.Duration
	// Filter says which subjects are watched at all. Of those in IDs it knows only the id.
	Filter Filter
	// Shard says which of the subjects this exporter watches.
	Shard Shard
	// Journal is which authentications are logged.
	Journal Journal
	// Now is the clock.
	Now func() time.Time
}

// Watcher watches subjects, and counts their authentications in a ledger.
type Watcher struct {
	logger       log.Logger
	client       Client
	ledger       *ledger.Ledger
	options      Options
	queue        *refresh.Queue
	certificates certificates
	journaling   sync.Mutex

	mu      sync.Mutex
	list    list
	sweep   sweep
	watched map[string]*subject
	ids     []string // the keys of watched, sorted
	// since: reads that ended then or later count for the last Update.
	since    time.Time
	updating bool
}

// NewWatcher makes a Watcher. Before the first list it watches the subjects that are in
// the ledger, so that their counters are there right after a restart.
func NewWatcher(logger log.Logger, client Client, l *ledger.Ledger, options Options) *Watcher {
	w := &Watcher{
		logger:  logger,
		client:  client,
		ledger:  l,
		options: options,
		queue:   refresh.NewQueue(refresh.Options{Workers: options.Concurrency, Now: options.Now}),
		sweep:   sweep{interval: options.Sweep, lateArrival: options.LateArrival},
		watched: make(map[string]*subject),
	}
	w.list.watcher = w
	for _, id := range l.Subjects() {
		if options.Shard.Owns(id) && !options.Filter.excludes(ncpclient.Subject{ID: id}) && (len(options.IDs) == 0 || slices.Contains(options.IDs, id)) {
			w.watched[id] = w.newSubject(id)
		}
	}
	w.sortIDs()
	return w
}

func (w *Watcher) newSubject(id string) *subject {
	return &subject{watcher: w, known: &Known{ID: id}}
}

// Update reads the list of subjects and the history of each. It returns soon after ctx
// ends. It returns nil only if everything was read at since or later. Reads that began
// continue after it; subjects that still wait come first in the next Update.
func (w *Watcher) Update(ctx context.Context, since time.Time) error {
	left := w.queue.Len()
	w.mu.Lock()
	// While subjects of the last list wait, that list is still used.
	w.list.inForce = left > 0 && w.list.known(w.since)
	w.since, w.updating = since, true
	w.mu.Unlock()

	w.queue.Add(&w.list)
	w.queue.Run(ctx)
	// If the list still waits, the next Update adds it again, behind these subjects.
	w.queue.Retain(func(item refresh.Item) bool { return item != &w.list })

	w.mu.Lock()
	w.updating = false // what is read from now on is committed when it was read
	err := w.outcome(ctx)
	w.mu.Unlock()
	// All that the outcome tells of, or it would say that a subject was read whose new
	// rows are not shown. Also if ctx ended: what was read is complete for its subject.
	w.ledger.Commit()
	return err
}

// Close ends the reads that continue, and writes what was counted. Update is not
// called after it.
func (w *Watcher) Close() {
	w.queue.Close()
	w.ledger.Commit()
}

// State tells what is known of all subjects.
type State struct {
	// Listed says whether the list counts for the last Update.
	Listed   bool
	Subjects []Subject // sorted by id
	// Sweeping says whether some subjects need not be read in each scrape.
	Sweeping bool
}

// Subject is one subject of a State.
type Subject struct {
	*Known
	// Fresh says whether what is known of the history is complete and counts for the
	// last Update.
	Fresh bool
	// FirstRead is the first read of the history, while it goes on; else nil.
	FirstRead *FirstRead
	ledger.Counts
}

// State gives what is known now. It does not call NCP.
func (w *Watcher) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	state := State{Listed: w.list.known(w.since), Sweeping: w.sweep.on(), Subjects: make([]Subject, len(w.ids))}
	for i, id := range w.ids {
		s := w.watched[id]
		state.Subjects[i] = Subject{
			Known: s.known, Fresh: s.known.Err == nil && refresh.Counts(s.upToDate(), w.since),
			Counts: w.ledger.Counts(id),
		}
		if s.firstRead != nil && s.firstRead.running {
			state.Subjects[i].FirstRead = s.firstRead
		}
	}
	return state
}

// sortIDs sets ids after a change of watched.
func (w *Watcher) sortIDs() {
	w.ids = slices.Sorted(maps.Keys(w.watched))
}

// Quirks are the ways in which the server differs from what it says, one line each.
func (w *Watcher) Quirks() []string { return w.client.Quirks() }
