// Package collector turns the answers of NCP into metrics.
//
// A Collector asks one API; the Exporter runs all of them side by side for a
// scrape; Handler serves scrapes over HTTP.
package collector

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector asks NCP for one thing and makes metrics of the answer.
type Collector interface {
	// Name is the value of the label collector.
	Name() string
	// Update asks NCP. It returns soon after ctx ends, and nil only if all that
	// there was to read was read since that time or later: what an Update had no
	// time for goes on after it, and serves the next. It is not called again
	// before it returned.
	Update(ctx context.Context, since time.Time) error
	// Close ends what goes on. Update is not called after it.
	Close()
	// Describe gives the descriptions of all metrics.
	Describe(ch chan<- *prometheus.Desc)
	// Collect gives metrics: counters always; gauges only of what counts for the
	// last Update, which may still be at work.
	Collect(emit func(prometheus.Metric))
}

// Expiry is when something expires that a collector read.
type Expiry struct {
	Kind     string // "certificate", "trust anchor" or "client certificate"
	ID, Name string // the name may be empty
	NotAfter time.Time
}
