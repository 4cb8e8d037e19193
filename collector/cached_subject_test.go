package collector

import (
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"ncp_exporter/ncpclient/ncptest"
)

// Series come in the order in which they are exposed. Sorting the series of thousands of
// subjects would take longer than everything else that is done for them.
func TestSeriesComeInOrder(t *testing.T) {
	w := newWorld(t, worldOptions{})
	for i, id := range []string{"d", "b", "a", "c"} {
		w.PutSubject(ncptest.Subject{SubjectID: id, X509Subject: "CN=" + id, Enabled: i%2 == 0})
		rows := history(10)
		rows[i].Failed = nil
		w.AddCredentials(id, rows...)
	}
	before := make(map[string]string)
	for _, m := range slices.Concat(w.scrape(t).parts...) {
		family := m.Desc().String()
		if !strings.Contains(family, "ncp_external_access_") {
			continue
		}
		var out dto.Metric
		if err := m.Write(&out); err != nil {
			t.Fatal(err)
		}
		var values []string
		for _, pair := range out.GetLabel() {
			values = append(values, pair.GetValue())
		}
		now := strings.Join(values, "\x00")
		if now < before[family] {
			t.Errorf("%s: %q comes after %q", family, values, strings.Split(before[family], "\x00"))
		}
		before[family] = now
	}
	if len(before) < 7 { // as many as a subject has
		t.Errorf("there are %d families only", len(before))
	}
}
