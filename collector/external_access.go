package collector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/ncpclient"
)

// SubjectsClient is what ExternalAccess needs of ncpclient.
type SubjectsClient interface {
	Subjects(ctx context.Context, size int) iter.Seq2[ncpclient.Page[ncpclient.Subject], error]
	CredentialsPage(ctx context.Context, subjectID string, number, size int) (ncpclient.Page[ncpclient.Credential], error)
	PageSizeRefused() bool
}

// ExternalAccessOptions are the settings of ExternalAccess.
type ExternalAccessOptions struct {
	// SubjectIDs are the subjects to watch; empty is all that NCP lists.
	SubjectIDs []string
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

// ExternalAccess counts the authentications in the histories of External
// Access subjects.
type ExternalAccess struct {
	client  SubjectsClient
	ledger  *ledger.Ledger
	logger  log.Logger
	options ExternalAccessOptions
	sweep   sweep
	room    chan struct{} // bounds the subjects being read
	*background

	authentications, last, entries, uncounted, countingSince *prometheus.Desc
	subjects, info, lastSeen, refreshed, refreshedWhen       *prometheus.Desc
	sweeping, notBefore, notAfter, unreadable                *prometheus.Desc

	sayPageSize sync.Once
	validities  validities

	mu sync.Mutex
	// since is the time from which on a read counts for the Update at hand.
	since    time.Time
	updating bool
	// listed says whether it is known which subjects there are, nameless how
	// many more there are that cannot be watched.
	listed   bool
	nameless int
	watched  map[string]*subject
	// turns counts the turns that subjects had, so that it is known which of
	// them waited longest; round is the turn at which the list was read.
	turns, round uint64
}

// NewExternalAccess makes the collector external_access.
func NewExternalAccess(logger log.Logger, client SubjectsClient, l *ledger.Ledger, options ExternalAccessOptions) *ExternalAccess {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("ncp_external_access_"+name, help, labels, nil)
	}
	logger = log.With(logger, "collector", ncpclient.APIExternalAccess)
	c := &ExternalAccess{
		client:     client,
		ledger:     l,
		logger:     logger,
		options:    options,
		sweep:      sweep{interval: options.Sweep, lateArrival: options.LateArrival, logger: logger},
		room:       make(chan struct{}, 2*options.Concurrency),
		background: newBackground(),
		watched:    make(map[string]*subject),
		authentications: desc("credential_authentications_total",
			"X.509 authentications of a subject, each counted once (External Access subjects/{subjectId}/credentials, content[].failed).",
			"subject_id", "result"),
		last: desc("credential_last_authentication_timestamp_seconds",
			"When a subject authenticated last, by result (External Access subjects/{subjectId}/credentials, content[].seenTime).",
			"subject_id", "result"),
		entries: desc("credential_history_entries",
			"Rows that NCP holds in a subject's history now (External Access subjects/{subjectId}/credentials, totalElements).",
			"subject_id"),
		uncounted: desc("uncounted_entries",
			"Rows that cannot be counted, as last read: no_time, future_time (External Access subjects/{subjectId}/credentials, content[].seenTime).",
			"reason"),
		countingSince: desc("counting_since_timestamp_seconds",
			"When the ledger of the authentications counted (External Access subjects/{subjectId}/credentials) was begun; it moves when the ledger is lost."),
		subjects: desc("subjects",
			"Subjects watched (External Access subjects, content[].subjectId, or the subjects named by flag)."),
		info: desc("subject_info",
			"1 for each subject that NCP lists (External Access subjects, content[].x509Subject and enabled).",
			"subject_id", "x509_subject", "enabled"),
		lastSeen: desc("subject_last_seen_timestamp_seconds",
			"When NCP saw the subject last (External Access subjects, content[].lastSeenTime).",
			"subject_id"),
		refreshed: desc("subject_refresh_success",
			"1 if the last read of the subject's history was whole (External Access subjects/{subjectId}/credentials).",
			"subject_id"),
		refreshedWhen: desc("subject_refresh_timestamp_seconds",
			"When the last whole read of the subject's history ended (External Access subjects/{subjectId}/credentials).",
			"subject_id"),
		notBefore: desc("subject_certificate_not_before_timestamp_seconds",
			"From when on the certificate of the subject's newest row is valid (External Access subjects/{subjectId}/credentials, content[].x509CertificateData).",
			"subject_id"),
		notAfter: desc("subject_certificate_not_after_timestamp_seconds",
			"When the certificate of the subject's newest row runs out (External Access subjects/{subjectId}/credentials, content[].x509CertificateData).",
			"subject_id"),
		unreadable: desc("unreadable_certificates",
			"Subjects whose newest row, as last read, has no certificate that can be read (External Access subjects/{subjectId}/credentials, content[].x509CertificateData)."),
		sweeping: desc("sweeping",
			"1 while a subject whose times stand still is read only once in --collector.external-access.sweep-interval, 0 if each scrape reads every subject (External Access subjects, content[].lastSeenTime and updateTime)."),
	}
	c.lastKnown()
	return c
}

// lastKnown watches the subjects of the ledger until the first list comes, so
// that a restart leaves no gap in their counters.
func (c *ExternalAccess) lastKnown() {
	for _, id := range c.ledger.Subjects() {
		if c.options.Shard.Owns(id) && (len(c.options.SubjectIDs) == 0 || slices.Contains(c.options.SubjectIDs, id)) {
			c.watched[id] = newSubject(id)
		}
	}
}

// Name is the value of the label collector.
func (*ExternalAccess) Name() string { return ncpclient.APIExternalAccess }

// SubjectError says that the histories of some subjects could not be read.
type SubjectError struct {
	Failed, Watched int
	SubjectID       string // the first that failed
	err             error  // of that subject
}

func (e *SubjectError) Error() string {
	return fmt.Sprintf("%d of %d subjects could not be read, the first: %s", e.Failed, e.Watched, e.err)
}

func (e *SubjectError) Unwrap() error { return e.err }

// UnreadError says that there was no time for some subjects.
type UnreadError struct {
	Unread, Watched int
	err             error // of the scrape's context
}

func (e *UnreadError) Error() string {
	return fmt.Sprintf("the scrape had to be answered before %d of %d subjects were read; they come first in the next", e.Unread, e.Watched)
}

func (e *UnreadError) Unwrap() error { return e.err }

// listJob is the name of the job that reads the list; subjects have theirs.
const listJob = "the list of subjects"

// Update reads the list of subjects and the history of each. If the last one
// had no time for some of its list, these come first, under that list: a list
// that is long to read must not take the time of those on it.
func (c *ExternalAccess) Update(ctx context.Context, since time.Time) error {
	c.mu.Lock()
	c.since, c.updating = since, true
	begin := c.turns
	var rest []*subject
	if c.listed {
		// The others must not wait for those that may take long.
		rest = slices.DeleteFunc(c.waiting(c.round), func(s *subject) bool { return c.underWay(s.job()) || s.hung() })
	}
	c.listed = len(rest) > 0
	c.mu.Unlock()
	// What was read is kept even if the deadline cuts the rest off.
	defer c.ledger.Commit()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.updating = false
	}()
	c.readAll(ctx, rest)
	if ctx.Err() == nil || len(rest) == 0 {
		if err := c.do(ctx, listJob, c.list); err != nil {
			return err
		}
		c.mu.Lock()
		waiting := c.waiting(begin)
		c.mu.Unlock()
		c.readAll(ctx, waiting)
	}
	return c.outcome(ctx)
}

// outcome says what could not be read.
func (c *ExternalAccess) outcome(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var failed SubjectError
	unread := 0
	for id, s := range c.watched {
		switch {
		case s.err != nil:
			failed.Failed++
			// Always the same of them, or the log would tell news where there are none.
			if failed.err == nil || id < failed.SubjectID {
				failed.SubjectID, failed.err = id, s.err
			}
		case !s.fresh(c.since):
			unread++
		}
	}
	switch {
	case failed.err != nil:
		failed.Watched = len(c.watched)
		return &failed
	case unread > 0:
		return &UnreadError{unread, len(c.watched), ctx.Err()}
	case c.nameless > 0:
		return fmt.Errorf("%d of the %d subjects that NCP lists have no usable id and are not watched", c.nameless, c.nameless+len(c.watched))
	}
	return nil
}

// Close ends what goes on, and keeps what it has read.
func (c *ExternalAccess) Close() {
	c.close()
	c.ledger.Commit()
}

// list reads which subjects there are.
func (c *ExternalAccess) list(ctx context.Context) error {
	list, nameless, err := c.readList(ctx)
	if err == nil && nameless > 0 && len(list) == 0 {
		// To take this for a list would drop every subject.
		err = fmt.Errorf("none of the %d subjects that NCP lists has a usable id", nameless)
	}
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.listed = false
		return err
	}
	c.watch(list, nameless)
	return nil
}

// readList gives the subjects to watch, and how many more there are that cannot
// be watched, as they have no usable id.
func (c *ExternalAccess) readList(ctx context.Context) (list []ncpclient.Subject, nameless int, err error) {
	if len(c.options.SubjectIDs) > 0 {
		for _, id := range c.options.SubjectIDs {
			list = append(list, ncpclient.Subject{ID: id})
		}
		return list, 0, nil
	}
	var seen map[string]bool
	err = walkWhole(c.client.Subjects(ctx, c.options.PageSize),
		func() { list, seen, nameless = nil, make(map[string]bool), 0 },
		func(page ncpclient.Page[ncpclient.Subject]) {
			for _, s := range page.Rows {
				switch {
				case s.ID == "":
					nameless++
				case !seen[s.ID]: // rows shift when subjects are added
					seen[s.ID] = true
					list = append(list, s)
				}
			}
		})
	c.notePageSize()
	return list, nameless, err
}

// watch takes over the list: a subject that is no longer on it is forgotten.
func (c *ExternalAccess) watch(list []ncpclient.Subject, nameless int) {
	named := len(c.options.SubjectIDs) > 0
	ids := make([]string, len(list))
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.options.Now()
	c.turns++
	c.round = c.turns
	watched := make(map[string]*subject, len(c.watched))
	for i, row := range list {
		ids[i] = row.ID
		if !c.options.Shard.Owns(row.ID) {
			continue
		}
		s := c.watched[row.ID]
		if s == nil {
			s = newSubject(row.ID)
		}
		if !named {
			c.sweep.check(s, row)
			s.list(row)
		}
		if !c.sweep.due(s, now) {
			c.turns++
			s.turn, s.wholeTurn, s.confirmed = c.turns, c.turns, now
		}
		s.place = i
		watched[row.ID] = s
	}
	c.watched, c.listed, c.nameless = watched, true, nameless
	// Those of other shards too: the account of a subject that moved is kept as
	// long as there is that subject.
	c.ledger.Listed(ids)
}

// waiting are the subjects whose last turn was not after that one, those that
// waited longest for a whole read first.
func (c *ExternalAccess) waiting(turn uint64) []*subject {
	var waiting []*subject
	for _, s := range c.watched {
		if s.turn <= turn {
			waiting = append(waiting, s)
		}
	}
	slices.SortFunc(waiting, func(a, b *subject) int {
		return cmp.Or(cmp.Compare(a.wholeTurn, b.wholeTurn), cmp.Compare(a.place, b.place))
	})
	return waiting
}

// readAll reads these subjects, in their order, until the last is read or ctx
// ends.
func (c *ExternalAccess) readAll(ctx context.Context, subjects []*subject) {
	q := newQueue(max(1, c.options.Concurrency/4))
	var group sync.WaitGroup
	c.mu.Lock()
	for _, s := range subjects {
		switch {
		case c.underWay(s.job()): // since an Update before; it needs no place
			group.Go(func() { c.read(ctx, s) })
		case s.hung():
			q.hung = append(q.hung, s)
		default:
			q.well = append(q.well, s)
		}
	}
	c.mu.Unlock()
	// Each of them gets a try.
	slices.SortFunc(q.hung, func(a, b *subject) int { return cmp.Compare(a.turn, b.turn) })
	for range min(c.options.Concurrency, len(q.well)+len(q.hung)) {
		group.Go(func() {
			for {
				s, done := q.next()
				if s == nil || ctx.Err() != nil {
					done(false)
					return
				}
				c.read(ctx, s)
				c.mu.Lock()
				well := s.err == nil
				c.mu.Unlock()
				done(well)
			}
		})
	}
	group.Wait()
}

// queue hands out the subjects that wait. Those whose last read hung have a
// share of the places only, which grows with each that is well again: they must
// not hold up the others at each scrape anew.
type queue struct {
	mu          sync.Mutex
	changed     sync.Cond
	well, hung  []*subject
	share, busy int // places of the hung, and how many are taken
}

func newQueue(share int) *queue {
	q := &queue{share: share}
	q.changed.L = &q.mu
	return q
}

// next gives the subject whose turn it is, nil if there is none. done is to be
// called when its turn is over.
func (q *queue) next() (s *subject, done func(well bool)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case len(q.hung) > 0 && q.busy < q.share:
			s, q.hung = q.hung[0], q.hung[1:]
			q.busy++
			return s, q.hungDone
		case len(q.well) > 0:
			s, q.well = q.well[0], q.well[1:]
			return s, func(bool) {}
		case len(q.hung) == 0:
			return nil, func(bool) {}
		}
		q.changed.Wait()
	}
}

func (q *queue) hungDone(well bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy--
	if well {
		q.share++
	}
	q.changed.Broadcast()
}

// read has what is new in the history of one subject counted. Its outcome is
// kept with the subject.
func (c *ExternalAccess) read(ctx context.Context, s *subject) {
	leave := func() {}
	if !c.underWay(s.job()) {
		select {
		case c.room <- struct{}{}:
			leave = func() { <-c.room }
		case <-ctx.Done():
			return
		}
	}
	_ = c.do(ctx, s.job(), func(ctx context.Context) error { // kept with the subject
		defer leave()
		return c.readHistory(ctx, s)
	})
}

func (c *ExternalAccess) readHistory(ctx context.Context, s *subject) error {
	c.mu.Lock()
	c.turns++
	s.turn = c.turns
	turn, listed := c.turns, s.listed
	c.mu.Unlock()
	history := &pages{client: c.client, subjectID: s.id, now: c.options.Now}
	var read *ledger.Read
	err := safely(func() (err error) {
		read, err = c.ledger.Plan(s.id).Read(ctx, history, c.options.PageSize)
		return err
	})
	c.notePageSize()
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		s.err = fmt.Errorf("subject %s: %w", s.id, err)
		return err
	}
	c.ledger.Apply(s.id, read)
	c.show(s, history.shown, read.Entries)
	c.mu.Lock()
	s.wholeTurn, s.err, s.entries, s.uncounted, s.refreshed = turn, nil, read.Entries, read.Uncounted, c.options.Now()
	c.sweep.read(s, listed, read.New(), c.ledger.Watermark(s.id))
	updating := c.updating
	c.mu.Unlock()
	if !updating {
		c.ledger.Commit() // an Update does so at its end
	}
	return nil
}

// show takes over the certificate of the newest row that a whole read of so many
// rows came upon. One may not come upon the newest of all, if it was read before.
func (c *ExternalAccess) show(s *subject, newest *ncpclient.ShownCertificate, entries int) {
	c.mu.Lock()
	before, subjects := s.shown.seen, len(c.watched)
	c.mu.Unlock()
	var now shown
	switch {
	case newest != nil && !newest.SeenTime.Before(before):
		r := c.validities.read(newest, subjects)
		now = shown{newest.SeenTime, r.Validity, r.err}
	case newest != nil || entries > 0:
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.shown = now
}

// pages gives the history of a subject to the ledger. It keeps the certificate of
// the newest row that went by.
type pages struct {
	client    SubjectsClient
	subjectID string
	now       func() time.Time
	shown     *ncpclient.ShownCertificate
}

func (p *pages) Page(ctx context.Context, number, size int) (ledger.Page, error) {
	page, err := p.client.CredentialsPage(ctx, p.subjectID, number, size)
	if err != nil {
		return ledger.Page{}, err
	}
	if page.Shown != nil && (p.shown == nil || page.Shown.SeenTime.After(p.shown.SeenTime)) {
		p.shown = page.Shown
	}
	clock := page.Date
	if clock.IsZero() {
		clock = p.now()
	}
	return ledger.Page{Rows: ledgerRows(page.Rows), Size: page.Size, Total: page.Total, Clock: clock}, nil
}

// maxTries is how often a list is read until nothing moved meanwhile.
const maxTries = 3

// walkWhole walks through a list, from begin on again if the list changed in a
// way that may have hidden a row. Without an error, all of it was given to add.
func walkWhole[T any](pages iter.Seq2[ncpclient.Page[T], error], begin func(), add func(ncpclient.Page[T])) error {
	for try := 1; ; try++ {
		begin()
		err := walk(pages, add)
		moved := errors.Is(err, ncpclient.ErrListChanged) || errors.Is(err, ncpclient.ErrPageRepeated)
		if !moved || try == maxTries {
			return err
		}
	}
}

func walk[T any](pages iter.Seq2[ncpclient.Page[T], error], add func(ncpclient.Page[T])) error {
	for page, err := range pages {
		if err != nil {
			return err
		}
		add(page)
	}
	return nil
}

func ledgerRows(credentials []ncpclient.Credential) []ledger.Row {
	rows := make([]ledger.Row, len(credentials))
	for i, c := range credentials {
		result := ledger.Unknown
		if c.Failed != nil && *c.Failed {
			result = ledger.Failure
		} else if c.Failed != nil {
			result = ledger.Success
		}
		rows[i] = ledger.Row{Issuer: c.Issuer, SerialNumber: c.SerialNumber, Result: result, SeenTime: c.SeenTime}
	}
	return rows
}

// notePageSize says once that the server wants smaller pages.
func (c *ExternalAccess) notePageSize() {
	if c.client.PageSizeRefused() {
		c.sayPageSize.Do(func() {
			_ = level.Warn(c.logger).Log("msg", "NCP refuses the page size, the API's default is used instead",
				"refused", c.options.PageSize, "used", ncpclient.DefaultPageSize)
		})
	}
}

// Describe gives all descriptions.
func (c *ExternalAccess) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.authentications, c.last, c.entries, c.uncounted, c.countingSince, c.sweeping,
		c.subjects, c.info, c.lastSeen, c.refreshed, c.refreshedWhen,
		c.notBefore, c.notAfter, c.unreadable,
	} {
		ch <- d
	}
}

// Collect gives the counters of the subjects that were last known, and the
// gauges of what the last Update read.
func (c *ExternalAccess) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var uncounted ledger.Uncounted
	unreadable := 0
	// In the order in which they are shown: sorting ids is cheaper than sorting
	// series.
	subjects := make([]*subject, 0, len(c.watched))
	for _, id := range slices.Sorted(maps.Keys(c.watched)) {
		subjects = append(subjects, c.watched[id])
	}
	c.collectResults(ch, subjects)
	for _, s := range subjects {
		c.collectSubject(ch, s)
		uncounted.NoTime += s.uncounted.NoTime
		uncounted.FutureTime += s.uncounted.FutureTime
		if s.shown.err != nil {
			unreadable++
		}
	}
	if !c.listed {
		return
	}
	for _, enabled := range shownEnabled {
		for _, s := range subjects {
			if s.listed != nil && s.infoLabels[0] == enabledPairs[enabled] {
				ch <- s.made.info.gauge(c.info, s.infoLabels, 1)
			}
		}
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(c.subjects, float64(len(c.watched)))
	gauge(c.countingSince, timestamp(c.ledger.Since()))
	gauge(c.uncounted, float64(uncounted.FutureTime), "future_time")
	gauge(c.uncounted, float64(uncounted.NoTime), "no_time")
	gauge(c.unreadable, float64(unreadable))
	gauge(c.sweeping, boolValue(c.sweep.on()))
}

// collectResults gives the series that tell results apart.
func (c *ExternalAccess) collectResults(ch chan<- prometheus.Metric, subjects []*subject) {
	type state struct {
		ledger.Totals
		counted, fresh bool
	}
	states := make([]state, len(subjects))
	for i, s := range subjects {
		totals, counted := c.ledger.Totals(s.id)
		states[i] = state{totals, counted, c.shows(s)}
	}
	for _, result := range shownResults {
		for i, s := range subjects {
			now := &states[i]
			// Success and failure are there from the first whole read on, at 0 if
			// need be; unknown only once it was seen.
			if now.counted && (now.Count[result] > 0 || result != ledger.Unknown) {
				ch <- s.made.authentications[result].counter(c.authentications, s.resultLabels[result], float64(now.Count[result]), s.since(now.Created))
			}
			if newest := now.Newest[result]; now.fresh && !newest.IsZero() {
				ch <- s.made.last[result].gauge(c.last, s.resultLabels[result], timestamp(newest))
			}
		}
	}
}

// shows says whether there are gauges of a subject's history.
func (c *ExternalAccess) shows(s *subject) bool { return s.err == nil && s.fresh(c.since) }

func (c *ExternalAccess) collectSubject(ch chan<- prometheus.Metric, s *subject) {
	if c.shows(s) {
		ch <- s.made.entries.gauge(c.entries, s.labels, float64(s.entries))
	}
	if c.shows(s) && !s.shown.NotAfter.IsZero() {
		ch <- s.made.notBefore.gauge(c.notBefore, s.labels, timestamp(s.shown.NotBefore))
		ch <- s.made.notAfter.gauge(c.notAfter, s.labels, timestamp(s.shown.NotAfter))
	}
	if !c.listed {
		return
	}
	ch <- s.made.refreshed.gauge(c.refreshed, s.labels, boolValue(s.err == nil && !s.refreshed.IsZero()))
	if !s.refreshed.IsZero() {
		ch <- s.made.refreshedWhen.gauge(c.refreshedWhen, s.labels, timestamp(s.refreshed))
	}
	if s.listed == nil {
		return
	}
	if !s.listed.LastSeen.IsZero() {
		ch <- s.made.lastSeen.gauge(c.lastSeen, s.labels, timestamp(s.listed.LastSeen))
	}
}
