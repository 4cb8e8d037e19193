package collector

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// HandlerOptions are the settings of NewHandler.
type HandlerOptions struct {
	// Timeout is the deadline of a scrape that names none.
	Timeout time.Duration
	// TimeoutOffset is taken off the timeout that Prometheus names, so that
	// the answer is there before Prometheus hangs up.
	TimeoutOffset time.Duration
}

// NewHandler serves scrapes: the metrics of the exporter's collectors, asked
// for by this scrape, and those of the process (build info, requests to NCP,
// Go). collect[] in the query names the collectors that are wanted.
func NewHandler(logger log.Logger, exporter *Exporter, process []prometheus.Collector, options HandlerOptions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		names := req.URL.Query()["collect[]"]
		for _, name := range names {
			if all := exporter.Names(); !slices.Contains(all, name) {
				http.Error(w, fmt.Sprintf("collect[]=%q: there is no such collector; there are: %s", name, strings.Join(all, ", ")),
					http.StatusBadRequest)
				return
			}
		}
		ctx, cancel := context.WithTimeout(req.Context(), scrapeTimeout(req.Header, options))
		defer cancel()
		// One registry for all: to gather from two checks each series twice.
		registry := prometheus.NewRegistry()
		registry.MustRegister(process...)
		registry.MustRegister(exporter.Scrape(ctx, names))
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{
			ErrorLog: errorLog{logger},
			// A metric that cannot be shown must not hide the others.
			ErrorHandling:     promhttp.ContinueOnError,
			EnableOpenMetrics: true,
		}).ServeHTTP(w, req)
	})
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
