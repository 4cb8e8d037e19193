package collector

import (
	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/collector/ledger"
)

// NewStateMetrics tells whether the counts outlive the process.
func NewStateMetrics(l *ledger.Ledger) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ncp_exporter_state_persistent",
		Help: "1 if the ledger of what was counted is on disk, 0 if it ends with the process.",
	}, func() float64 {
		if l.Persistent() {
			return 1
		}
		return 0
	})
}
