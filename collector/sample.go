package collector

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// sample is a constant metric that costs little to give again and again: its
// labels are made once for a subject, not at each scrape for each series. It
// never changes, as a scrape may still be showing it.
type sample struct {
	desc    *prometheus.Desc
	labels  []*dto.LabelPair // sorted by name, valid UTF-8
	value   float64
	created *timestamppb.Timestamp // of a counter; nil for a gauge
}

// Desc is the description.
func (s *sample) Desc() *prometheus.Desc { return s.desc }

// Write gives the metric to a registry, which does not change it.
func (s *sample) Write(out *dto.Metric) error {
	out.Label = s.labels
	if s.created == nil {
		out.Gauge = &dto.Gauge{Value: &s.value}
		return nil
	}
	out.Counter = &dto.Counter{Value: &s.value, CreatedTimestamp: s.created}
	return nil
}

// kept holds the sample of one series that was given last.
type kept struct{ last *sample }

// gauge gives the sample of a value, the last again if the value is the same.
func (k *kept) gauge(d *prometheus.Desc, labels []*dto.LabelPair, value float64) prometheus.Metric {
	if k.last == nil || k.last.value != value {
		k.last = &sample{desc: d, labels: labels, value: value}
	}
	return k.last
}

// counter is gauge for a counter, whose beginning does not move.
func (k *kept) counter(d *prometheus.Desc, labels []*dto.LabelPair, value float64, created *timestamppb.Timestamp) prometheus.Metric {
	if k.last == nil || k.last.value != value {
		k.last = &sample{desc: d, labels: labels, value: value, created: created}
	}
	return k.last
}

// label is one pair of a sample's labels.
func label(name, value string) *dto.LabelPair {
	return &dto.LabelPair{Name: &name, Value: &value}
}
