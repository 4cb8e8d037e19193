package collector

import (
	"time"

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

func label(name, value string) *dto.LabelPair {
	return &dto.LabelPair{Name: &name, Value: &value}
}

// cachedSubject keeps the metrics of a subject as they were given last, and the
// labels that they share.
type cachedSubject struct {
	labels       *labels
	resultLabels [ledger.NumResults]*labels
	infoLabels   *labels                // nil before the first list
	created      *timestamppb.Timestamp // of the counters

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

// createdAt gives the time when the counters began, as the same pointer while it does
// not change: cachedMetric compares pointers.
func (c *cachedSubject) createdAt(created time.Time) *timestamppb.Timestamp {
	if c.created == nil || !c.created.AsTime().Equal(created) {
		c.created = timestamppb.New(created)
	}
	return c.created
}

// cachedMetric keeps the metric of one series that was given last.
type cachedMetric struct{ last *constMetric }

// gauge gives the metric of a value. If the value did not change, it is the last one.
func (c *cachedMetric) gauge(d *prometheus.Desc, labels *labels, value float64) prometheus.Metric {
	return c.counter(d, labels, value, nil)
}

// counter is like gauge, for a counter that began at created.
func (c *cachedMetric) counter(d *prometheus.Desc, labels *labels, value float64, created *timestamppb.Timestamp) prometheus.Metric {
	if c.last == nil || c.last.value != value || c.last.created != created {
		c.last = &constMetric{desc: d, labels: labels, value: value, created: created}
	}
	return c.last
}

// labels are the label pairs of a metric, sorted by name and in valid UTF-8, as a
// registry wants them. They never change, as metrics share them.
type labels []*dto.LabelPair

// constMetric is a constant metric that can be given in many scrapes. The library's
// own makes its labels anew for each series, which is slow for thousands of subjects.
// It never changes, as an earlier scrape may still be reading it.
type constMetric struct {
	desc    *prometheus.Desc
	labels  *labels
	created *timestamppb.Timestamp // of a counter; nil for a gauge
	value   float64
}

// Desc gives the description.
func (m *constMetric) Desc() *prometheus.Desc { return m.desc }

// Write fills in what a registry exposes. The registry must not change it.
func (m *constMetric) Write(out *dto.Metric) error {
	out.Label = *m.labels
	if m.created == nil {
		out.Gauge = &dto.Gauge{Value: &m.value}
		return nil
	}
	out.Counter = &dto.Counter{Value: &m.value, CreatedTimestamp: m.created}
	return nil
}
