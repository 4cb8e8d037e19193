package collector

import (
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/subjects"
)

// The values of labels, in alphabetical order: that is how they are exposed.
var (
	exposedResults = [...]ledger.Result{ledger.Failure, ledger.Success, ledger.Unknown} //nolint:gochecknoglobals // a constant in all but syntax
	exposedEnabled = [...]string{"false", "true", "unknown"}                            //nolint:gochecknoglobals // a constant in all but syntax
)

// Label pairs and label names that all subjects share. With thousands of subjects,
// a copy for each would be a large part of the memory.
var (
	resultPairs = [ledger.NumResults]*dto.LabelPair{ //nolint:gochecknoglobals // a constant in all but syntax
		ledger.Success: label("result", ledger.Success.String()),
		ledger.Failure: label("result", ledger.Failure.String()),
		ledger.Unknown: label("result", ledger.Unknown.String()),
	}
	enabledPairs = map[string]*dto.LabelPair{ //nolint:gochecknoglobals // a constant in all but syntax
		"false":   label("enabled", "false"),
		"true":    label("enabled", "true"),
		"unknown": label("enabled", "unknown"),
	}
	nameSubjectID   = "subject_id"   //nolint:gochecknoglobals // a constant in all but syntax
	nameX509Subject = "x509_subject" //nolint:gochecknoglobals // a constant in all but syntax
)

const nameSerialNumber = "serial_number"

func label(name, value string) *dto.LabelPair {
	return &dto.LabelPair{Name: &name, Value: &value}
}

// cachedSubject keeps the metrics of a subject as they were given last, and the
// labels that they share.
type cachedSubject struct {
	labels       *labels
	resultLabels [ledger.NumResults]*labels
	infoLabels   *labels // nil before the first list
	begun        *origin // of the counters
	failed       *origin // of the counter of failures, while it has an exemplar

	authentications, last               [ledger.NumResults]cachedMetric
	entries, refreshed, refreshedAt     cachedMetric
	info, lastSeen, notBefore, notAfter cachedMetric
}

func newCachedSubject(id string) *cachedSubject {
	pair := &dto.LabelPair{Name: &nameSubjectID, Value: &id}
	c := &cachedSubject{labels: &labels{pair}}
	for result := range resultPairs {
		c.resultLabels[result] = &labels{resultPairs[result], pair}
	}
	return c
}

// labelsOfInfo gives the labels of subject_info. It makes new ones only if a value
// changed, as most do not.
func (c *cachedSubject) labelsOfInfo(s *subjects.Subject) *labels {
	enabled, dn := enabledValue(s.Enabled), LabelValue(s.X509Subject)
	if l := c.infoLabels; l == nil || (*l)[0].GetValue() != enabled || (*l)[2].GetValue() != dn {
		c.infoLabels = &labels{enabledPairs[enabled], (*c.labels)[0], {Name: &nameX509Subject, Value: &dn}}
		c.info = cachedMetric{}
	}
	return c.infoLabels
}

// origin is what a counter has beside its value. It never changes, and is the same
// pointer while it tells the same: cachedMetric compares pointers.
type origin struct {
	created  *timestamppb.Timestamp
	exemplar *dto.Exemplar // nil if there is none
}

// createdAt gives the origin of counters that began at a time.
func (c *cachedSubject) createdAt(created time.Time) *origin {
	if c.begun == nil || !c.begun.created.AsTime().Equal(created) {
		c.begun = &origin{created: timestamppb.New(created)}
	}
	return c.begun
}

// maxExemplar is how many characters the names and values of an exemplar may have.
const maxExemplar = 128

// failedAt gives the origin of the counter of failures, with the newest of them as
// exemplar, if its serial number is not too long for that.
func (c *cachedSubject) failedAt(begun *origin, serial string, at time.Time) *origin {
	if serial == "" || utf8.RuneCountInString(nameSerialNumber+serial) > maxExemplar {
		return begun
	}
	if f := c.failed; f == nil || f.created != begun.created || !f.exemplar.GetTimestamp().AsTime().Equal(at) {
		one := 1.0
		c.failed = &origin{begun.created, &dto.Exemplar{Label: []*dto.LabelPair{label(nameSerialNumber, serial)}, Value: &one, Timestamp: timestamppb.New(at)}}
	}
	return c.failed
}

// cachedMetric keeps the metric of one series that was given last.
type cachedMetric struct{ last *constMetric }

// gauge gives the metric of a value. If the value did not change, it is the last one.
func (c *cachedMetric) gauge(f *family, labels *labels, value float64) prometheus.Metric {
	return c.counter(f, labels, value, nil)
}

// counter is like gauge, for a counter.
func (c *cachedMetric) counter(f *family, labels *labels, value float64, begun *origin) prometheus.Metric {
	if c.last == nil || c.last.value != value || c.last.origin != begun {
		c.last = &constMetric{family: f, labels: labels, value: value, origin: begun}
	}
	return c.last
}

// labels are the label pairs of a metric, sorted by name, as a registry wants them. They
// never change, as metrics share them.
type labels []*dto.LabelPair

// constMetric is a constant metric that can be given in many scrapes. The library's
// own makes its labels anew for each series, which is slow for thousands of subjects.
// It never changes, as an earlier scrape may still be reading it.
type constMetric struct {
	family *family
	labels *labels
	origin *origin // of a counter; nil for a gauge
	value  float64
}

// Desc gives the description.
func (m *constMetric) Desc() *prometheus.Desc { return m.family.desc }

// Write fills in what a registry exposes. The registry must not change it.
func (m *constMetric) Write(out *dto.Metric) error {
	m.fill(out, new(dto.Gauge), new(dto.Counter))
	return nil
}

// fill is like Write, with memory for the value, which may have been used before.
func (m *constMetric) fill(out *dto.Metric, gauge *dto.Gauge, counter *dto.Counter) {
	out.Label, out.Gauge, out.Counter = *m.labels, nil, nil
	if m.family.kind == dto.MetricType_GAUGE {
		gauge.Value = &m.value
		out.Gauge = gauge
		return
	}
	counter.Value, counter.CreatedTimestamp, counter.Exemplar = &m.value, m.origin.created, m.origin.exemplar
	out.Counter = counter
}
