package collector

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/subjects"
	"ncp_exporter/ncpclient"
)

// ExternalAccess makes metrics of what a subjects.Watcher knows: the subjects of
// External Access, and how often each authenticated.
type ExternalAccess struct {
	watcher *subjects.Watcher
	since   func() time.Time // when the ledger began
	descs   externalAccessDescs
	options ExternalAccessOptions

	mu    sync.Mutex
	rows  uint64 // counted of all subjects, as last shown
	shown int    // subjects, likewise
	// cached are the metrics of each subject as they were given last. Making them is
	// expensive, and most do not change.
	cached map[string]*cachedSubject
}

// ExternalAccessOptions are the settings of an ExternalAccess.
type ExternalAccessOptions struct {
	// FailureInfo is how long the certificate of a failure is shown; 0 is not at all.
	FailureInfo time.Duration
	// Now is the clock.
	Now func() time.Time
}

// NewExternalAccess makes the collector external_access.
func NewExternalAccess(watcher *subjects.Watcher, l *ledger.Ledger, options ExternalAccessOptions) *ExternalAccess {
	return &ExternalAccess{watcher: watcher, since: l.Since, descs: newExternalAccessDescs(), options: options, cached: make(map[string]*cachedSubject)}
}

type externalAccessDescs struct {
	subjectDescs

	subjects, uncounted, countingSince *prometheus.Desc
	sweeping, unreadable               *prometheus.Desc
}

// subjectDescs are those of each subject.
type subjectDescs struct {
	authentications, lastAuthentication, entries *family
	info, lastSeen, refreshed, refreshedAt       *family
	notBefore, notAfter                          *family
	lastFailure, firstRead                       *prometheus.Desc // few have them
}

func newExternalAccessDescs() externalAccessDescs {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("ncp_external_access_"+name, help, labels, nil)
	}
	each := func(name, help string, labels ...string) *family {
		return newFamily(dto.MetricType_GAUGE, "ncp_external_access_"+name, help, labels...)
	}
	return externalAccessDescs{
		subjectDescs: subjectDescs{
			authentications: newFamily(dto.MetricType_COUNTER, "ncp_external_access_credential_authentications_total",
				"X.509 authentications of a subject, each counted once (External Access subjects/{subjectId}/credentials, content[].failed).",
				"subject_id", "result"),
			lastAuthentication: each("credential_last_authentication_timestamp_seconds",
				"When a subject last authenticated, by result (External Access subjects/{subjectId}/credentials, content[].seenTime).",
				"subject_id", "result"),
			entries: each("credential_history_entries",
				"Rows that NCP holds in a subject's history now (External Access subjects/{subjectId}/credentials, totalElements).",
				"subject_id"),
			info: each("subject_info",
				"1 for each subject that NCP lists (External Access subjects, content[].x509Subject and enabled).",
				"subject_id", "x509_subject", "enabled"),
			lastSeen: each("subject_last_seen_timestamp_seconds",
				"When NCP last saw the subject (External Access subjects, content[].lastSeenTime).",
				"subject_id"),
			refreshed: each("subject_refresh_success",
				"1 if the last read of the subject's history was complete, else 0 (External Access subjects/{subjectId}/credentials).",
				"subject_id"),
			refreshedAt: each("subject_refresh_timestamp_seconds",
				"When the last complete read of the subject's history ended (External Access subjects/{subjectId}/credentials).",
				"subject_id"),
			notBefore: each("subject_certificate_not_before_timestamp_seconds",
				"When the certificate of the subject's newest row becomes valid (External Access subjects/{subjectId}/credentials, content[].x509CertificateData).",
				"subject_id"),
			notAfter: each("subject_certificate_not_after_timestamp_seconds",
				"When the certificate of the subject's newest row expires (External Access subjects/{subjectId}/credentials, content[].x509CertificateData).",
				"subject_id"),
			lastFailure: desc("credential_last_failure_info",
				"1 for the certificate of a subject's newest failed row, if that is younger than --collector.external-access.failure-info (External Access subjects/{subjectId}/credentials, content[].issuer and serialNumber).",
				"subject_id", "issuer", "serial_number"),
			firstRead: desc("first_read_progress_ratio",
				"How much of a subject's history was read, from 0 to 1, while it is read for the first time and that takes longer than a scrape (External Access subjects/{subjectId}/credentials, totalElements).",
				"subject_id"),
		},
		uncounted: desc("uncounted_entries",
			"Rows that cannot be counted, as last read: no_time has no readable time, future_time is in the future (External Access subjects/{subjectId}/credentials, content[].seenTime).",
			"reason"),
		countingSince: desc("counting_since_timestamp_seconds",
			"When the ledger began to count authentications (External Access subjects/{subjectId}/credentials). It changes if the ledger is lost."),
		subjects: desc("subjects",
			"Subjects watched (External Access subjects, content[].subjectId, or the subjects named by flag)."),
		unreadable: desc("unreadable_certificates",
			"Subjects whose newest row, as last read, has no readable certificate (External Access subjects/{subjectId}/credentials, content[].x509CertificateData)."),
		sweeping: desc("sweeping",
			"1 if a subject whose times in the list do not change is read only once in --collector.external-access.sweep-interval, 0 if each scrape reads every subject (External Access subjects, content[].lastSeenTime and updateTime)."),
	}
}

// Name is the value of the label collector.
func (*ExternalAccess) Name() string { return ncpclient.APIExternalAccess }

// Update reads the list of subjects and the history of each.
func (c *ExternalAccess) Update(ctx context.Context, since time.Time) error {
	return c.watcher.Update(ctx, since)
}

// Close ends the reads that continue, and writes what they have counted.
func (c *ExternalAccess) Close() { c.watcher.Close() }

// Quirks are the ways in which NCP differs from what it says, one line each.
func (c *ExternalAccess) Quirks() []string { return c.watcher.Quirks() }

// Came gives how many subjects there are, and the authentications counted of them, for the
// log.
func (c *ExternalAccess) Came() []any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return []any{"subjects", c.shown, "authentications", c.rows}
}

// State gives what is known of the subjects. It does not call NCP.
func (c *ExternalAccess) State() subjects.State { return c.watcher.State() }

// Describe gives all descriptions.
func (c *ExternalAccess) Describe(ch chan<- *prometheus.Desc) {
	d := &c.descs
	for _, desc := range []*prometheus.Desc{
		d.authentications.desc, d.lastAuthentication.desc, d.entries.desc, d.info.desc, d.lastSeen.desc, d.refreshed.desc, d.refreshedAt.desc,
		d.notBefore.desc, d.notAfter.desc, d.lastFailure, d.firstRead, d.subjects, d.uncounted, d.countingSince, d.sweeping, d.unreadable,
	} {
		ch <- desc
	}
}

// Collect gives the counters of all known subjects, and the gauges of what was read
// for the last Update. The series of a family come in the order of their labels, as
// they are exposed: nothing sorts them.
func (c *ExternalAccess) Collect(emit func(prometheus.Metric)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.watcher.State()
	cached := c.cachedOf(state.Subjects)
	c.rows, c.shown = 0, len(state.Subjects)
	for _, result := range exposedResults {
		for i := range state.Subjects {
			c.rows += state.Subjects[i].Totals().Count[result]
			c.collectResult(emit, cached[i], &state.Subjects[i], result)
		}
	}
	var uncounted ledger.Uncounted
	unreadable := 0
	for i := range state.Subjects {
		s := &state.Subjects[i]
		c.collectHistory(emit, cached[i], s)
		uncounted.NoTime += s.Uncounted.NoTime
		uncounted.FutureTime += s.Uncounted.FutureTime
		if s.Certificate.Err != nil {
			unreadable++
		}
	}
	if !state.Listed {
		return
	}
	for i := range state.Subjects {
		c.collectListed(emit, cached[i], &state.Subjects[i])
	}
	for _, enabled := range exposedEnabled {
		for i := range state.Subjects {
			if s := &state.Subjects[i]; s.InList && enabledValue(s.Enabled) == enabled {
				emit(cached[i].info.gauge(c.descs.info, cached[i].labelsOfInfo(s), 1))
			}
		}
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		emit(prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...))
	}
	gauge(c.descs.subjects, float64(len(state.Subjects)))
	gauge(c.descs.countingSince, timestamp(c.since()))
	gauge(c.descs.uncounted, float64(uncounted.FutureTime), "future_time")
	gauge(c.descs.uncounted, float64(uncounted.NoTime), "no_time")
	gauge(c.descs.unreadable, float64(unreadable))
	gauge(c.descs.sweeping, boolValue(state.Sweeping))
}

// collectResult gives the series that have the label result. From the first complete
// read on, success and failure are always there, even at 0, so that increase() sees
// the first of each. Unknown is there only after it was seen.
func (c *ExternalAccess) collectResult(emit func(prometheus.Metric), cached *cachedSubject, s *subjects.Subject, result ledger.Result) {
	labels := cached.resultLabels[result]
	totals := s.Totals()
	if count := totals.Count[result]; s.Counted() && (count > 0 || result != ledger.Unknown) {
		begun := cached.createdAt(totals.Created)
		if result == ledger.Failure {
			if by, recent := c.recentFailure(s); recent {
				begun = cached.failedAt(begun, by.SerialNumber, totals.Newest[result])
			}
		}
		emit(cached.authentications[result].counter(c.descs.authentications, labels, float64(count), begun))
	}
	if newest := totals.Newest[result]; s.Fresh && !newest.IsZero() {
		emit(cached.last[result].gauge(c.descs.lastAuthentication, labels, timestamp(newest)))
	}
}

// collectHistory gives the gauges of a history that was read for the last Update, or is
// being read for the first time.
func (c *ExternalAccess) collectHistory(emit func(prometheus.Metric), cached *cachedSubject, s *subjects.Subject) {
	if first := s.FirstRead; first != nil && first.Ratio > 0 {
		emit(prometheus.MustNewConstMetric(c.descs.firstRead, prometheus.GaugeValue, first.Ratio, s.ID))
	}
	if !s.Fresh {
		return
	}
	emit(cached.entries.gauge(c.descs.entries, cached.labels, float64(s.Entries)))
	if !s.Certificate.NotAfter.IsZero() {
		emit(cached.notBefore.gauge(c.descs.notBefore, cached.labels, timestamp(s.Certificate.NotBefore)))
		emit(cached.notAfter.gauge(c.descs.notAfter, cached.labels, timestamp(s.Certificate.NotAfter)))
	}
	if by, recent := c.recentFailure(s); recent {
		emit(prometheus.MustNewConstMetric(c.descs.lastFailure, prometheus.GaugeValue, 1, s.ID, LabelValue(by.Issuer), LabelValue(by.SerialNumber)))
	}
}

// recentFailure gives the certificate of the newest failure, if it is to be shown.
func (c *ExternalAccess) recentFailure(s *subjects.Subject) (by ledger.Certificate, recent bool) {
	totals := s.Totals()
	by = totals.FailedBy
	return by, by != ledger.Certificate{} && c.options.Now().Sub(totals.Newest[ledger.Failure]) < c.options.FailureInfo
}

// collectListed gives the gauges that a subject has even if its history was not read.
func (c *ExternalAccess) collectListed(emit func(prometheus.Metric), cached *cachedSubject, s *subjects.Subject) {
	emit(cached.refreshed.gauge(c.descs.refreshed, cached.labels, boolValue(s.Err == nil && !s.Refreshed.IsZero())))
	if !s.Refreshed.IsZero() {
		emit(cached.refreshedAt.gauge(c.descs.refreshedAt, cached.labels, timestamp(s.Refreshed)))
	}
	if !s.LastSeen.IsZero() {
		emit(cached.lastSeen.gauge(c.descs.lastSeen, cached.labels, timestamp(s.LastSeen)))
	}
}

// cachedOf gives the cached metrics of these subjects, in their order. It drops those
// of all other subjects.
func (c *ExternalAccess) cachedOf(all []subjects.Subject) []*cachedSubject {
	cached := make([]*cachedSubject, len(all))
	for i := range all {
		if cached[i] = c.cached[all[i].ID]; cached[i] == nil {
			cached[i] = newCachedSubject(all[i].ID)
			c.cached[all[i].ID] = cached[i]
		}
	}
	if len(c.cached) > len(all) {
		c.cached = make(map[string]*cachedSubject, len(all))
		for i := range all {
			c.cached[all[i].ID] = cached[i]
		}
	}
	return cached
}

func enabledValue(enabled *bool) string {
	if enabled == nil {
		return "unknown"
	}
	return strconv.FormatBool(*enabled)
}

// Expiring gives the certificate of the newest row of each subject. It does not call
// NCP.
func (c *ExternalAccess) Expiring() []Expiry {
	var all []Expiry
	for _, s := range c.State().Subjects {
		if !s.Certificate.NotAfter.IsZero() {
			all = append(all, Expiry{"client certificate", s.ID, LabelValue(s.X509Subject), s.Certificate.NotAfter})
		}
	}
	return all
}
