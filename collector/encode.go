package collector

import (
	"compress/gzip"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// metricNames are the metrics that a request asks for; all if there are none.
func metricNames(req *http.Request) []string { return req.URL.Query()["name[]"] }

// encode writes the metrics of a scrape and of the process, as the client wants them.
// It does what promhttp does, with two differences: the families of all subjects are
// made and written one after the other, never all at once, and compression is quick:
// the answer is some hundredths longer, for half of the time.
func (h *handler) encode(w http.ResponseWriter, req *http.Request, scrape Scrape) {
	families, others := scrape.split()
	registry := prometheus.NewRegistry()
	registry.MustRegister(h.process...)
	registry.MustRegister(others)
	gathered, err := registry.Gather()
	log := errorLog{h.logger, &h.loggedAt}
	if err != nil { // an invalid metric must not hide the others
		log.print(err)
		if len(gathered)+len(families) == 0 {
			http.Error(w, "There are no metrics to show: "+err.Error(), http.StatusInternalServerError)
			return
		}
	}
	encoding <- struct{}{}
	defer func() { <-encoding }()
	format := expfmt.NegotiateAccept(req.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...)
	w.Header().Set("Content-Type", string(format))
	w.Header()["Vary"] = []string{"Accept", "Accept-Encoding"}
	var out io.Writer = w
	if acceptsGzip(req.Header) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzipWriters.Get().(*gzip.Writer) //nolint:forcetypeassert // see New
		z.Reset(w)
		defer func() {
			_ = z.Close() // the exposition takes it all
			gzipWriters.Put(z)
		}()
		out = z
	}
	encoder := expfmt.NewEncoder(out, format)
	if err := encodeAll(encoder, families, gathered, metricNames(req)); err != nil {
		log.print(err)
	}
	if closer, ok := encoder.(expfmt.Closer); ok {
		_ = closer.Close() // the exposition takes it all
	}
}

// encodeAll writes families in the order of their names; all if none are named.
func encodeAll(encoder expfmt.Encoder, families []familyMetrics, others []*dto.MetricFamily, names []string) error {
	memory := newEncodable(families)
	var failed error
	put := func(family *dto.MetricFamily) {
		if len(names) == 0 || slices.Contains(names, family.GetName()) {
			if err := encoder.Encode(family); err != nil {
				failed = err // it must not hide the others
			}
		}
	}
	for _, s := range families {
		for len(others) > 0 && others[0].GetName() < s.family.name {
			put(others[0])
			others = others[1:]
		}
		put(memory.of(s))
	}
	for _, other := range others {
		put(other)
	}
	return failed
}

// encoding holds an element for each exposition that is being encoded. More at a time
// than there are processors would take memory for compressors, and not be quicker.
var encoding = make(chan struct{}, runtime.GOMAXPROCS(0)) //nolint:gochecknoglobals // the processors are all accounts'

var gzipWriters = sync.Pool{New: func() any { //nolint:gochecknoglobals // as is their memory
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // that level is valid
	return z
}}

// acceptsGzip says whether a client takes a compressed answer, and likes it no less than
// a plain one.
func acceptsGzip(header http.Header) bool {
	zipped, plain, wildcard := -1.0, -1.0, -1.0 // -1: the client does not name it
	for _, line := range header.Values("Accept-Encoding") {
		for part := range strings.SplitSeq(line, ",") {
			name, parameters, _ := strings.Cut(part, ";")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "gzip", "x-gzip":
				zipped = quality(parameters)
			case "identity":
				plain = quality(parameters)
			case "*":
				wildcard = quality(parameters)
			}
		}
	}
	if zipped < 0 {
		zipped = wildcard
	}
	return zipped > 0 && zipped >= plain
}

// quality is how much a client likes something, from 0 (not at all) to 1.
func quality(parameters string) float64 {
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil || !(q >= 0 && q <= 1) {
				return 0
			}
			return q
		}
	}
	return 1
}
