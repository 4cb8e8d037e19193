package collector

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// unavailable stands for a collector that cannot be made now.
type unavailable struct {
	name string
	err  error
}

// NewUnavailable makes a collector that has no metrics and fails with this error: what
// would be watched, if its account could be used.
func NewUnavailable(name string, err error) Collector { return unavailable{name, err} }

func (u unavailable) Name() string                            { return u.name }
func (u unavailable) Update(context.Context, time.Time) error { return u.err }
func (unavailable) Close()                                    {}
func (unavailable) Describe(chan<- *prometheus.Desc)          {}
func (unavailable) Collect(func(prometheus.Metric))           {}
