package collector

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

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

	authentications, last, entries, uncounted, since   *prometheus.Desc
	subjects, info, lastSeen, refreshed, refreshedWhen *prometheus.Desc

	sayPageSize sync.Once

	mu sync.Mutex
	// listed says whether the last Update knows which subjects there are.
	listed  bool
	watched map[string]*subject
}

// subject is what the last reads told of a subject.
type subject struct {
	listed *ncpclient.Subject // nil if it was named by flag
	// fresh says whether its history was read whole in the last Update.
	fresh     bool
	entries   int
	uncounted ledger.Uncounted
	refreshed time.Time // the end of the last whole read; zero before the first
}

// NewExternalAccess makes the collector external_access.
func NewExternalAccess(logger log.Logger, client SubjectsClient, l *ledger.Ledger, options ExternalAccessOptions) *ExternalAccess {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("ncp_external_access_"+name, help, labels, nil)
	}
	return &ExternalAccess{
		client:  client,
		ledger:  l,
		logger:  log.With(logger, "collector", ncpclient.APIExternalAccess),
		options: options,
		watched: lastKnown(l, options.SubjectIDs),
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
		since: desc("counting_since_timestamp_seconds",
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
	}
}

// lastKnown are the subjects whose counters are shown until the first list
// comes: those of the ledger, so that a restart leaves no gap.
func lastKnown(l *ledger.Ledger, named []string) map[string]*subject {
	watched := make(map[string]*subject)
	for _, id := range l.Subjects() {
		if len(named) == 0 || slices.Contains(named, id) {
			watched[id] = &subject{}
		}
	}
	return watched
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

// Update reads the list of subjects and the history of each.
func (c *ExternalAccess) Update(ctx context.Context) error {
	c.begin()
	list, nameless, err := c.list(ctx)
	if err != nil {
		return err
	}
	if nameless > 0 && len(list) == 0 {
		// To take this for a list would drop every subject.
		return fmt.Errorf("none of the %d subjects that NCP lists has a usable id", nameless)
	}
	c.watch(list)
	c.longestWaitingFirst(list)
	// What was read of the others is kept even if the deadline cuts some off.
	defer c.ledger.Commit()

	var (
		group  errgroup.Group
		mu     sync.Mutex
		failed SubjectError
	)
	group.SetLimit(c.options.Concurrency)
	for _, s := range list {
		group.Go(func() error {
			err := c.read(ctx, s.ID)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed.Failed++
				if failed.err == nil {
					failed.SubjectID, failed.err = s.ID, err
				}
			}
			return nil // a subject that fails disturbs no other
		})
	}
	_ = group.Wait() // no subject returns its error
	switch {
	case failed.err != nil:
		failed.Watched = len(list)
		return &failed
	case nameless > 0:
		return fmt.Errorf("%d of the %d subjects that NCP lists have no usable id and are not watched", nameless, nameless+len(list))
	}
	return nil
}

// begin marks all that the last Update read as of yesterday.
func (c *ExternalAccess) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listed = false
	for _, s := range c.watched {
		s.fresh = false
	}
}

// list gives the subjects to watch, and how many more there are that cannot be
// watched, as they have no usable id.
func (c *ExternalAccess) list(ctx context.Context) (list []ncpclient.Subject, nameless int, err error) {
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
func (c *ExternalAccess) watch(list []ncpclient.Subject) {
	named := len(c.options.SubjectIDs) > 0
	c.mu.Lock()
	defer c.mu.Unlock()
	watched := make(map[string]*subject, len(list))
	for _, s := range list {
		state := c.watched[s.ID]
		if state == nil {
			state = &subject{}
		}
		if !named {
			state.listed = &s
		}
		watched[s.ID] = state
	}
	c.watched, c.listed = watched, true
	c.ledger.Listed(slices.Collect(maps.Keys(watched)))
}

// longestWaitingFirst gives every subject its turn when there are more than one
// scrape has time for.
func (c *ExternalAccess) longestWaitingFirst(list []ncpclient.Subject) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortStableFunc(list, func(a, b ncpclient.Subject) int {
		return c.watched[a.ID].refreshed.Compare(c.watched[b.ID].refreshed)
	})
}

// read reads what is new in the history of one subject and has it counted.
func (c *ExternalAccess) read(ctx context.Context, id string) error {
	history := pages{client: c.client, subjectID: id, now: c.options.Now}
	read, err := c.ledger.Plan(id).Read(ctx, history, c.options.PageSize)
	c.notePageSize()
	if err != nil {
		return fmt.Errorf("subject %s: %w", id, err)
	}
	c.ledger.Apply(id, read)
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.watched[id]; s != nil {
		s.fresh, s.entries, s.uncounted, s.refreshed = true, read.Entries, read.Uncounted, c.options.Now()
	}
	return nil
}

// pages gives the history of a subject to the ledger.
type pages struct {
	client    SubjectsClient
	subjectID string
	now       func() time.Time
}

func (p pages) Page(ctx context.Context, number, size int) (ledger.Page, error) {
	page, err := p.client.CredentialsPage(ctx, p.subjectID, number, size)
	if err != nil {
		return ledger.Page{}, err
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
		c.authentications, c.last, c.entries, c.uncounted, c.since,
		c.subjects, c.info, c.lastSeen, c.refreshed, c.refreshedWhen,
	} {
		ch <- d
	}
}

// results are the values of the label result.
var results = [ledger.NumResults]string{ //nolint:gochecknoglobals // a constant in all but syntax
	ledger.Success: "success",
	ledger.Failure: "failure",
	ledger.Unknown: "unknown",
}

// Collect gives the counters of the subjects that were last known, and the
// gauges of what the last Update read.
func (c *ExternalAccess) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	var uncounted ledger.Uncounted
	// In order, as that is how they are shown: sorting ids is cheaper than
	// sorting series.
	for _, id := range slices.Sorted(maps.Keys(c.watched)) {
		s := c.watched[id]
		c.collectSubject(ch, gauge, id, s)
		uncounted.NoTime += s.uncounted.NoTime
		uncounted.FutureTime += s.uncounted.FutureTime
	}
	if !c.listed {
		return
	}
	gauge(c.subjects, float64(len(c.watched)))
	gauge(c.since, timestamp(c.ledger.Since()))
	gauge(c.uncounted, float64(uncounted.NoTime), "no_time")
	gauge(c.uncounted, float64(uncounted.FutureTime), "future_time")
}

func (c *ExternalAccess) collectSubject(ch chan<- prometheus.Metric, gauge func(*prometheus.Desc, float64, ...string), id string, s *subject) {
	totals, counted := c.ledger.Totals(id)
	for result, name := range results {
		// Success and failure are there from the first whole read on, at 0 if
		// need be; unknown only once it was seen.
		if counted && (totals.Count[result] > 0 || ledger.Result(result) != ledger.Unknown) {
			ch <- prometheus.MustNewConstMetricWithCreatedTimestamp(c.authentications, prometheus.CounterValue,
				float64(totals.Count[result]), totals.Created, id, name)
		}
		if newest := totals.Newest[result]; s.fresh && !newest.IsZero() {
			gauge(c.last, timestamp(newest), id, name)
		}
	}
	if s.fresh {
		gauge(c.entries, float64(s.entries), id)
	}
	if !c.listed {
		return
	}
	fresh := 0.0
	if s.fresh {
		fresh = 1
	}
	gauge(c.refreshed, fresh, id)
	if !s.refreshed.IsZero() {
		gauge(c.refreshedWhen, timestamp(s.refreshed), id)
	}
	if s.listed == nil {
		return
	}
	enabled := "unknown"
	if s.listed.Enabled != nil {
		enabled = strconv.FormatBool(*s.listed.Enabled)
	}
	gauge(c.info, 1, id, labelValue(s.listed.X509Subject), enabled)
	if !s.listed.LastSeen.IsZero() {
		gauge(c.lastSeen, timestamp(s.listed.LastSeen), id)
	}
}
