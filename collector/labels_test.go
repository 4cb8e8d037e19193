package collector

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Whatever NCP calls a subject, it is a label that Prometheus takes.
func FuzzLabelValue(f *testing.F) {
	for _, s := range []string{"", "CN=a", "\xff\xfe", "a\x00b", "line\nbreak", `"quoted"\`, strings.Repeat("é", 1000), strings.Repeat("\xc3", 3000)} {
		f.Add(s)
	}
	desc := prometheus.NewDesc("m", "A metric.", []string{"l"}, nil)
	f.Fuzz(func(t *testing.T, s string) {
		v := LabelValue(s)
		if !utf8.ValidString(v) || len(v) > maxLabelBytes {
			t.Errorf("%q becomes %q (%d bytes)", s, v, len(v))
		}
		if utf8.ValidString(s) && len(s) <= maxLabelBytes && v != s {
			t.Errorf("%q becomes %q, want it as it is", s, v)
		}
		m, err := prometheus.NewConstMetric(desc, prometheus.GaugeValue, 1, v)
		if err == nil {
			err = m.Write(&dto.Metric{})
		}
		if err != nil {
			t.Errorf("%q is no label: %v", v, err)
		}
	})
}
