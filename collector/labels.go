package collector

import (
	"strings"
	"time"
	"unicode/utf8"
)

// maxLabelBytes limits a label value that comes from NCP, such as a distinguished
// name.
const maxLabelBytes = 1024

// LabelValue makes a label value of a text from NCP: valid UTF-8, at most
// maxLabelBytes long. One value that is not valid UTF-8 would make Prometheus drop the
// whole scrape.
func LabelValue(s string) string {
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	if len(s) <= maxLabelBytes {
		return s
	}
	const mark = "..."
	cut := maxLabelBytes - len(mark)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + mark
}

// timestamp gives a time as the value of a _timestamp_seconds metric.
func timestamp(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

// boolValue gives 1 for true and 0 for false, as gauges do.
func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
