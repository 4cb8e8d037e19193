package collector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/subjects"
)

// results are the values of the label result.
var results = [ledger.NumResults]string{ //nolint:gochecknoglobals // a constant in all but syntax
	ledger.Success: "success",
	ledger.Failure: "failure",
	ledger.Unknown: "unknown",
}

// The values of labels in the order in which they are exposed.
var (
	exposedResults = [...]ledger.Result{ledger.Failure, ledger.Success, ledger.Unknown} //nolint:gochecknoglobals // a constant in all but syntax
	exposedEnabled = [...]string{"false", "true", "unknown"}                            //nolint:gochecknoglobals // a constant in all but syntax
)

// The label pairs that subjects share, and the names of the others. Of thousands
// of subjects they would be much of what is kept.
var (
	resultPairs = [ledger.NumResults]*dto.LabelPair{ //nolint:gochecknoglobals // a constant in all but syntax
		ledger.Success: label("result", results[ledger.Success]),
		ledger.Failure: label("result", results[ledger.Failure]),
		ledger.Unknown: label("result", results[ledger.Unknown]),
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

// cachedSubject is what the series of a subject have in common, and its series as
// they were given last.
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
	for result := range results {
		c.resultLabels[result] = &labels{resultPairs[result], pair}
	}
	return c
}

// labelsOfInfo are the labels of the subject's info. New ones are made only if they
// changed.
func (c *cachedSubject) labelsOfInfo(s *subjects.Subject) *labels {
	enabled, dn := enabledValue(s.Enabled), LabelValue(s.X509Subject)
	if l := c.infoLabels; l == nil || (*l)[0].GetValue() != enabled || (*l)[2].GetValue() != dn {
		c.infoLabels = &labels{enabledPairs[enabled], (*c.labels)[0], {Name: &nameX509Subject, Value: &dn}}
		c.info = cachedMetric{}
	}
	return c.infoLabels
}

// createdAt is when the counters began.
func (c *cachedSubject) createdAt(created time.Time) *timestamppb.Timestamp {
	if c.created == nil || !c.created.AsTime().Equal(created) {
		c.created = timestamppb.New(created)
	}
	return c.created
}

// cachedMetric holds the metric of one series that was given last.
type cachedMetric struct{ last *constMetric }

// gauge gives the metric of a value, the last again if the value is the same.
func (c *cachedMetric) gauge(d *prometheus.Desc, labels *labels, value float64) prometheus.Metric {
	return c.counter(d, labels, value, nil)
}

// counter is gauge for a counter, with the time when it began.
func (c *cachedMetric) counter(d *prometheus.Desc, labels *labels, value float64, created *timestamppb.Timestamp) prometheus.Metric {
	if c.last == nil || c.last.value != value || c.last.created != created {
		c.last = &constMetric{desc: d, labels: labels, value: value, created: created}
	}
	return c.last
}

// labels are the label pairs of a metric: sorted by name, in valid UTF-8, and never
// changed.
type labels []*dto.LabelPair

// constMetric is a constant metric that costs little to give again and again: its
// labels are made once for a subject, not at each scrape for each series. It never
// changes, as a scrape may still be showing it.
type constMetric struct {
	desc    *prometheus.Desc
	labels  *labels
	created *timestamppb.Timestamp // of a counter; nil for a gauge
	value   float64
}

// Desc is the description.
func (m *constMetric) Desc() *prometheus.Desc { return m.desc }

// Write gives the metric to a registry, which does not change it.
func (m *constMetric) Write(out *dto.Metric) error {
	out.Label = *m.labels
	if m.created == nil {
		out.Gauge = &dto.Gauge{Value: &m.value}
		return nil
	}
	out.Counter = &dto.Counter{Value: &m.value, CreatedTimestamp: m.created}
	return nil
}
