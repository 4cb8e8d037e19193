package collector

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/collector/ledger"
)

// NewStateMetrics gives the metric that says whether the counts outlive the process.
func NewStateMetrics(l *ledger.Ledger) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ncp_exporter_state_persistent",
		Help: "1 if the ledger, which keeps what was counted, is on disk; 0 if it is in memory only, and lost when the process ends.",
	}, func() float64 { return boolValue(l.Persistent()) })
}

// NewShardMetrics gives the metric that says which part of the subjects this exporter
// watches.
func NewShardMetrics(number, total int) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "ncp_exporter_shard_info",
		Help:        "Always 1. The labels are the number of this shard, from 0, and how many shards share the subjects.",
		ConstLabels: prometheus.Labels{"shard": strconv.Itoa(number), "total_shards": strconv.Itoa(total)},
	}, func() float64 { return 1 })
}
