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
	// Timeout is the time for a scrape whose request names no timeout.
	Timeout time.Duration
	// TimeoutOffset is subtracted from the timeout that Prometheus names, so that
	// the answer arrives before Prometheus gives up.
	TimeoutOffset time.Duration
	// MaxRequests is how many scrapes may be in flight; 0 = no limit. Others are
	// answered with 503.
	MaxRequests int
}

// handler serves scrapes. Scrapes that ask for the same thing at the same time share
// one answer, because making an answer takes far more memory than keeping it.
type handler struct {
	logger   log.Logger
	exporter *Exporter
	process  []prometheus.Collector
	options  HandlerOptions
	inFlight atomic.Int64
	size     atomic.Int64 // of the last exposition
	loggedAt atomic.Int64 // when an error of an exposition was, in nanoseconds

	mu     sync.Mutex
	shared map[string]*exposition // answers being made that others may share, by what was asked for
}

// NewHandler serves scrapes: the metrics of the exporter's collectors, which ask NCP
// for each scrape, and those of the process (build info, requests to NCP, Go).
// collect[] in the query names the wanted collectors; without it, all are.
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

// maxScrapeTimeout is the longest timeout that a request can ask for.
const maxScrapeTimeout = time.Hour

// scrapeTimeout gives the time that a scrape may take.
func scrapeTimeout(h http.Header, options HandlerOptions) time.Duration {
	seconds, err := strconv.ParseFloat(h.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64)
	if err != nil || math.IsNaN(seconds) || seconds <= 0 || seconds > maxScrapeTimeout.Seconds() {
		return options.Timeout
	}
	asked := time.Duration(seconds * float64(time.Second))
	// Even a timeout that is shorter than the offset must leave time for an answer.
	return max(asked-options.TimeoutOffset, asked/2)
}

// errorLog logs what of an exposition could not be made. More than one line a minute is
// for debugging, as scrapes cause them, and anybody can scrape.
type errorLog struct {
	logger   log.Logger
	loggedAt *atomic.Int64
}

func (e errorLog) print(err error) {
	line := strings.Join(strings.Fields(err.Error()), " ")
	leveled, last, now := level.Debug, e.loggedAt.Load(), time.Now().UnixNano()
	if now-last >= int64(time.Minute) && e.loggedAt.CompareAndSwap(last, now) {
		leveled = level.Error
	}
	_ = leveled(e.logger).Log("msg", "Metrics could not be shown", "err", line)
}
