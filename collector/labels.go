package collector

import (
	"strings"
	"time"
	"unicode/utf8"
)

// maxLabelBytes bounds the value of a label that NCP fills, such as a
// distinguished name.
const maxLabelBytes = 1024

// LabelValue makes a stranger's text the value of a label: Prometheus takes
// valid UTF-8 only, and one bad value would cost the whole scrape.
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

// timestamp is a time as the value of a _timestamp_seconds metric.
func timestamp(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

// boolValue is a truth as the value of a gauge.
func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
