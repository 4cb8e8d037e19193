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
	labels       []*dto.LabelPair
	resultLabels [ledger.NumResults][]*dto.LabelPair
	infoPairs    []*dto.LabelPair
	created      *timestamppb.Timestamp // of the counters

	authentications, last               [ledger.NumResults]cachedMetric
	entries, refreshed, refreshedAt     cachedMetric
	info, lastSeen, notBefore, notAfter cachedMetric
}

func newCachedSubject(id string) *cachedSubject {
	pair := &dto.LabelPair{Name: &nameSubjectID, Value: &id}
	c := &cachedSubject{labels: []*dto.LabelPair{pair}}
	for result := range results {
		c.resultLabels[result] = []*dto.LabelPair{resultPairs[result], pair}
	}
	return c
}

// infoLabels are the labels of the subject's info, sorted by name.
func (c *cachedSubject) infoLabels(s *subjects.Subject) []*dto.LabelPair {
	enabled, dn := enabledValue(s.Enabled), LabelValue(s.X509Subject)
	if len(c.infoPairs) == 0 || c.infoPairs[0].GetValue() != enabled || c.infoPairs[2].GetValue() != dn {
		c.infoPairs = []*dto.LabelPair{enabledPairs[enabled], c.labels[0], {Name: &nameX509Subject, Value: &dn}}
		c.info = cachedMetric{}
	}
	return c.infoPairs
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
func (c *cachedMetric) gauge(d *prometheus.Desc, labels []*dto.LabelPair, value float64) prometheus.Metric {
	return c.counter(d, labels, value, nil)
}

// counter is gauge for a counter, with the time when it began.
func (c *cachedMetric) counter(d *prometheus.Desc, labels []*dto.LabelPair, value float64, created *timestamppb.Timestamp) prometheus.Metric {
	if c.last == nil || c.last.value != value || c.last.created != created {
		c.last = &constMetric{desc: d, labels: labels, value: value, created: created}
	}
	return c.last
}

// constMetric is a constant metric that costs little to give again and again: its
// labels are made once for a subject, not at each scrape for each series. It never
// changes, as a scrape may still be showing it.
type constMetric struct {
	desc    *prometheus.Desc
	labels  []*dto.LabelPair // sorted by name, valid UTF-8
	created *timestamppb.Timestamp // of a counter; nil for a gauge
	value   float64
}

// Desc is the description.
func (m *constMetric) Desc() *prometheus.Desc { return m.desc }

// Write gives the metric to a registry, which does not change it.
func (m *constMetric) Write(out *dto.Metric) error {
	out.Label = m.labels
	if m.created == nil {
		out.Gauge = &dto.Gauge{Value: &m.value}
		return nil
	}
	out.Counter = &dto.Counter{Value: &m.value, CreatedTimestamp: m.created}
	return nil
}
