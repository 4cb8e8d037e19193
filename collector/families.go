package collector

import (
	"cmp"
	"slices"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// family is a metric that each subject has. With thousands of subjects nearly all series
// of a scrape are of a few families. They bypass the registry, which would make a copy of
// all series at once, and a hash of each to see whether it came before. What the registry
// checks holds for them anyway: constMetric says how.
type family struct {
	desc       *prometheus.Desc
	name, help string
	kind       dto.MetricType // a gauge or a counter
}

func newFamily(kind dto.MetricType, name, help string, labels ...string) *family {
	return &family{prometheus.NewDesc(name, help, labels, nil), name, help, kind}
}

// familyMetrics are the metrics of one family in a scrape, in the order of their labels.
type familyMetrics struct {
	family  *family
	metrics []*constMetric
}

// split gives the series of families by name, and all other metrics.
func (s Scrape) split() (families []familyMetrics, others Scrape) {
	var rest []prometheus.Metric
	counts := make(map[*family]int)
	s.eachConst(func(m *constMetric) { counts[m.family]++ }, func(m prometheus.Metric) { rest = append(rest, m) })
	of := make(map[*family]*familyMetrics, len(counts))
	families = make([]familyMetrics, 0, len(counts))
	for f, n := range counts {
		families = append(families, familyMetrics{f, make([]*constMetric, 0, n)})
	}
	slices.SortFunc(families, func(a, b familyMetrics) int { return cmp.Compare(a.family.name, b.family.name) })
	for i := range families {
		of[families[i].family] = &families[i]
	}
	s.eachConst(func(m *constMetric) { of[m.family].metrics = append(of[m.family].metrics, m) }, func(prometheus.Metric) {})
	return families, Scrape{parts: [][]prometheus.Metric{rest}}
}

// eachConst tells the metrics that bypass the registry from those that do not. Among
// these are series with a value that is not valid UTF-8: the registry says so, and leaves
// them out.
func (s Scrape) eachConst(yield func(*constMetric), other func(prometheus.Metric)) {
	var last *labels // often those of the next series too
	valid := false
	for _, part := range s.parts {
		for _, m := range part {
			c, isConst := m.(*constMetric)
			if isConst && c.labels != last {
				last, valid = c.labels, c.labels.valid()
			}
			if isConst && valid {
				yield(c)
			} else {
				other(m)
			}
		}
	}
}

func (l labels) valid() bool {
	return !slices.ContainsFunc(l, func(pair *dto.LabelPair) bool { return !utf8.ValidString(pair.GetValue()) })
}

// encodable turns series into what an encoder takes. It uses the same memory for one
// family after the other.
type encodable struct {
	metrics  []dto.Metric
	pointers []*dto.Metric
	gauges   []dto.Gauge
	counters []dto.Counter
}

// newEncodable has room for the largest of these.
func newEncodable(families []familyMetrics) *encodable {
	most := make(map[dto.MetricType]int)
	for _, s := range families {
		most[s.family.kind] = max(most[s.family.kind], len(s.metrics))
	}
	gauges, counters := most[dto.MetricType_GAUGE], most[dto.MetricType_COUNTER]
	e := &encodable{
		metrics: make([]dto.Metric, max(gauges, counters)), pointers: make([]*dto.Metric, max(gauges, counters)),
		gauges: make([]dto.Gauge, gauges), counters: make([]dto.Counter, counters),
	}
	for i := range e.metrics {
		e.pointers[i] = &e.metrics[i]
	}
	return e
}

// of gives the series of a family. They are overwritten when it is called again.
func (e *encodable) of(s familyMetrics) *dto.MetricFamily {
	f := s.family
	for i, m := range s.metrics {
		if f.kind == dto.MetricType_COUNTER {
			m.fill(&e.metrics[i], nil, &e.counters[i])
		} else {
			m.fill(&e.metrics[i], &e.gauges[i], nil)
		}
	}
	return &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: &f.kind, Metric: e.pointers[:len(s.metrics)]}
}
