// Package collector turns the answers of NCP into metrics.
//
// A Collector asks one API. For each scrape the Exporter runs all collectors at the
// same time. NewHandler serves scrapes over HTTP.
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
	// Update asks NCP, and returns soon after ctx ends. It returns nil only if
	// everything that there is to read was read at the time since or later. Reads
	// that are not done when ctx ends may continue, and serve the next Update. There
	// is one Update at a time.
	Update(ctx context.Context, since time.Time) error
	// Close ends the reads that continue. Update is not called after it.
	Close()
	// Describe gives the descriptions of all metrics.
	Describe(ch chan<- *prometheus.Desc)
	// Collect gives metrics. Counters are always there; gauges only show what was read
	// for the last Update, so that no old value looks new. That Update may still be
	// running.
	Collect(emit func(prometheus.Metric))
}

// Expiry tells when something expires, as a collector read it.
type Expiry struct {
	Kind     string // "certificate", "trust anchor", "CRL" or "client certificate"
	ID, Name string // Name may be empty
	NotAfter time.Time
}
