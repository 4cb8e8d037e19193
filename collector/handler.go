package collector

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
)

// HandlerOptions are the settings of NewHandler.
type HandlerOptions struct {
	// Timeout is the deadline of a scrape that names none.
	Timeout time.Duration
	// TimeoutOffset is taken off the timeout that Prometheus names, so that
	// the answer is there before Prometheus hangs up.
	TimeoutOffset time.Duration
	// MaxRequests is how many scrapes may be in flight; 0 is any number. More are
	// answered with 503.
	MaxRequests int
}

// handler serves scrapes. Those that want the same at the same time get one answer,
// made once: to make it takes far more memory than to have it.
type handler struct {
	logger   log.Logger
	exporter *Exporter
	process  []prometheus.Collector
	options  HandlerOptions
	inFlight atomic.Int64

	mu     sync.Mutex
	shared map[string]*exposition // by what was asked for; those that may be joined
}

// NewHandler serves scrapes: the metrics of the exporter's collectors, asked
// for by this scrape, and those of the process (build info, requests to NCP,
// Go). collect[] in the query names the collectors that are wanted.
func NewHandler(logger log.Logger, exporter *Exporter, process []prometheus.Collector, options HandlerOptions) http.Handler {
	return &handler{logger: logger, exporter: exporter, process: process, options: options, shared: make(map[string]*exposition)}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	defer h.inFlight.Add(-1)
	if n := h.inFlight.Add(1); h.options.MaxRequests > 0 && n > int64(h.options.MaxRequests) {
		http.Error(w, fmt.Sprintf("%d scrapes are in flight already, and no more are allowed (--web.max-requests): try again later.", h.options.MaxRequests),
			http.StatusServiceUnavailable)
		return
	}
	names := req.URL.Query()["collect[]"]
	for _, name := range names {
		if all := h.exporter.Names(); !slices.Contains(all, name) {
			http.Error(w, fmt.Sprintf("collect[]=%q: there is no such collector; there are: %s", name, strings.Join(all, ", ")),
				http.StatusBadRequest)
			return
		}
	}
	if e := h.exposition(req, names, time.Now().Add(scrapeTimeout(req.Header, h.options))); e != nil {
		e.write(w)
	}
}

// maxScrapeTimeout bounds what a request can ask for.
const maxScrapeTimeout = time.Hour

// scrapeTimeout is the time that a scrape may take.
func scrapeTimeout(h http.Header, options HandlerOptions) time.Duration {
	seconds, err := strconv.ParseFloat(h.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64)
	if err != nil || math.IsNaN(seconds) || seconds <= 0 || seconds > maxScrapeTimeout.Seconds() {
		return options.Timeout
	}
	asked := time.Duration(seconds * float64(time.Second))
	// A timeout no longer than the offset still leaves time for an answer.
	return max(asked-options.TimeoutOffset, asked/2)
}

// errorLog is the logger of promhttp, which knows lines only.
type errorLog struct{ logger log.Logger }

func (e errorLog) Println(v ...any) {
	line := strings.Join(strings.Fields(fmt.Sprintln(v...)), " ")
	_ = level.Error(e.logger).Log("msg", "Metrics could not be shown", "err", line)
}
