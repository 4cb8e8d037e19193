package collector

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/ncpclient/ncptest"
)

// asking is a request for an exposition.
func asking(t *testing.T, query, accept, encoding string) *http.Request {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics"+query, http.NoBody)
	req.Header.Set("Accept", accept)
	if encoding != "" {
		req.Header.Set("Accept-Encoding", encoding)
	}
	return req
}

func unzip(t *testing.T, r io.Reader) []byte {
	t.Helper()
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// The families that bypass the registry are exposed to the byte as promhttp exposes
// them out of a registry, which checks that none is there twice, out of order or wrong.
func TestExpositionIsThatOfPromhttp(t *testing.T) {
	w := newWorld(t, worldOptions{expiry: true, failureInfo: 1000 * 24 * time.Hour})
	for i := range 30 {
		id := fmt.Sprintf("subject-%d", i*7%30)
		w.PutSubject(ncptest.Subject{SubjectID: id, X509Subject: `CN="` + id + "\" \\ é\n", Enabled: i%3 == 0})
		rows := history(i)
		if i%4 == 1 {
			rows[0].Failed = nil
		}
		w.AddCredentials(id, rows...)
	}
	w.exporter.Scrape(t.Context(), nil)
	s := w.scrape(t)
	process := []prometheus.Collector{w.metrics, NewStateMetrics(ledger.New(ledger.Options{Now: time.Now}))}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(append(process, s)...)
	want := promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	var out strings.Builder
	ours := &handler{logger: log.NewLogfmtLogger(&out), process: process}
	for _, accept := range []string{
		"", "*/*", "text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;q=0.3",
		"application/openmetrics-text;version=0.0.1", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
		"text/html",
	} {
		for _, encoding := range []string{"", "gzip"} {
			t.Run(accept+" "+encoding, func(t *testing.T) {
				theirs, rec := httptest.NewRecorder(), httptest.NewRecorder()
				want.ServeHTTP(theirs, asking(t, "", accept, encoding))
				ours.encode(rec, asking(t, "", accept, encoding), s)
				if diff := cmp.Diff(theirs.Header(), rec.Header()); diff != "" {
					t.Errorf("headers (-promhttp +ours):\n%s", diff)
				}
				a, b := theirs.Body.Bytes(), rec.Body.Bytes()
				if encoding == "gzip" {
					a, b = unzip(t, theirs.Body), unzip(t, rec.Body)
				}
				if !bytes.Equal(a, b) {
					t.Errorf("promhttp has %d bytes, and here are %d that differ:\n%s", len(a), len(b), cmp.Diff(string(a), string(b)))
				}
				if n := bytes.Count(a, []byte(nameSubjectID)); n < 100 {
					t.Errorf("only %d series are about subjects", n)
				}
			})
		}
	}
	if out.Len() > 0 {
		t.Error(out.String())
	}
}

// name[] asks for some metrics only, as in other exporters.
func TestNamedMetrics(t *testing.T) {
	w := newWorld(t, worldOptions{})
	put(w.Server, "s")
	w.AddCredentials("s", history(5)...)
	h := NewHandler(log.NewNopLogger(), w.exporter, []prometheus.Collector{w.metrics}, HandlerOptions{Timeout: time.Minute})
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, asking(t, "?name[]="+authFamily+"&name[]=ncp_api_requests_total", "", ""))
	text := rec.Body.String()
	if !strings.Contains(text, authFamily+"{") || !strings.Contains(text, "ncp_api_requests_total{") {
		t.Errorf("not all that was asked for:\n%s", text)
	}
	for line := range strings.Lines(text) {
		if !strings.Contains(line, authFamily) && !strings.Contains(line, "ncp_api_requests_total") {
			t.Errorf("nobody asked for %s", line)
		}
	}
}

// A label that is not valid UTF-8 would make Prometheus drop the whole scrape: its series
// is left out, and the log says so.
func TestInvalidSubject(t *testing.T) {
	f := newFamily(dto.MetricType_GAUGE, "good_gauge", "A gauge.", nameSubjectID)
	var all []prometheus.Metric
	for _, id := range []string{"a", "b\xff", "c"} {
		all = append(all, &constMetric{family: f, labels: newCachedSubject(id).labels, value: 1})
	}
	var out strings.Builder
	h := &handler{logger: log.NewLogfmtLogger(&out)}
	rec := httptest.NewRecorder()
	h.encode(rec, asking(t, "", "", ""), Scrape{parts: [][]prometheus.Metric{all}})
	const want = "# HELP good_gauge A gauge.\n# TYPE good_gauge gauge\ngood_gauge{subject_id=\"a\"} 1\ngood_gauge{subject_id=\"c\"} 1\n"
	if rec.Code != http.StatusOK || rec.Body.String() != want {
		t.Errorf("status %d, body:\n%s", rec.Code, rec.Body)
	}
	if !strings.Contains(out.String(), "not utf8") {
		t.Errorf("the log is:\n%s", out.String())
	}
}

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"":                                  false,
		"gzip":                              true,
		"GZIP":                              true,
		"x-gzip":                            true,
		"gzip, deflate, br, zstd":           true,
		"br;q=1.0, gzip;q=0.8, *;q=0.1":     true,
		"gzip;q=0":                          false,
		"gzip; q=0.000":                     false,
		"gzip;q=0.001":                      true,
		"*":                                 true,
		"*;q=0":                             false,
		"*;q=0, gzip":                       true,
		"*, gzip;q=0":                       false,
		"identity":                          false,
		"identity, gzip":                    true,
		"identity;q=0.5, gzip;q=0.4":        false,
		"identity;q=0.5, *;q=0.4":           false,
		"gzip;q=often":                      false,
		"gzip;q=2":                          false,
		"gzip;q=NaN":                        false,
		"deflate":                           false,
		"deflate, zstd;q=1, gzippy, , ;q=1": false,
	} {
		if got := acceptsGzip(http.Header{"Accept-Encoding": {header}}); got != want {
			t.Errorf("%q: gzip is %t, want %t", header, got, want)
		}
	}
	if !acceptsGzip(http.Header{"Accept-Encoding": {"deflate", "gzip"}}) {
		t.Error("the second line of the header is not read")
	}
}

// An answer is not kept for longer than --scrape.max-age: with thousands of subjects it
// is much memory.
func TestAnswersAreNotKept(t *testing.T) {
	for _, maxAge := range []time.Duration{0, time.Hour} {
		e := NewExporter(log.NewNopLogger(), ExporterOptions{MaxAge: maxAge, Now: time.Now}, newFake("a", ok))
		defer e.Close()
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			s := e.Scrape(ctx, nil)
			cancel()
			if len(s.parts[0]) != 1 {
				t.Errorf("max-age %s: a scrape has %d metrics, want 1", maxAge, len(s.parts[0]))
			}
		}
		if kept := len(e.runners[0].last.metrics); (kept > 0) != (maxAge > 0) {
			t.Errorf("max-age %s: %d metrics are kept", maxAge, kept)
		}
	}
}
