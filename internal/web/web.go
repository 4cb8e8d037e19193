// Package web is the paths of an exporter of several accounts.
package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ncp_exporter/internal/account"
)

// The paths.
const (
	ProbePath  = "/probe"
	SDPath     = "/sd"
	ReloadPath = "/-/reload"
)

// Probe serves /probe: the scrape of one account.
type Probe struct {
	set     *account.Set
	logger  log.Logger
	unknown prometheus.Counter
}

// NewProbe makes a Probe of the accounts of a set. logger is for what clients cause.
func NewProbe(set *account.Set, logger log.Logger) *Probe {
	return &Probe{set: set, logger: logger, unknown: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ncp_exporter_unknown_account_requests_total",
		Help: "Requests of /probe for an account that the configuration does not have.",
	})}
}

func (p *Probe) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	name, err := accountOf(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	handler := p.set.Handler(name)
	if handler == nil {
		p.unknown.Inc()
		_ = level.Warn(p.logger).Log("msg", "Asked for an account that the configuration does not have", "name", fmt.Sprintf("%.64q", name))
		http.Error(w, fmt.Sprintf("There is no account %.64q; %s lists those that there are.", name, SDPath), http.StatusNotFound)
		return
	}
	handler.ServeHTTP(w, req)
}

// accountOf gives the account that a request names, once or by both parameters.
func accountOf(req *http.Request) (string, error) {
	query, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return "", fmt.Errorf("the query cannot be read; it must be of the form %s?account=NAME", ProbePath)
	}
	accounts, targets := query["account"], query["target"]
	switch names := slices.Concat(accounts, targets); {
	case len(names) == 0 || names[0] == "":
		return "", fmt.Errorf("no account is named: ask for %s?account=NAME", ProbePath)
	case len(accounts) > 1 || len(targets) > 1 || names[0] != names[len(names)-1]:
		return "", fmt.Errorf("more than one account is named: ask for one, by %s?account=NAME", ProbePath)
	default:
		return names[0], nil
	}
}

// Describe makes a Probe a prometheus.Collector.
func (p *Probe) Describe(ch chan<- *prometheus.Desc) { p.unknown.Describe(ch) }

// Collect gives the count of requests for unknown accounts.
func (p *Probe) Collect(ch chan<- prometheus.Metric) { p.unknown.Collect(ch) }

// Metrics serves the metrics of the exporter itself: those of the collectors.
func Metrics(collectors ...prometheus.Collector) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors...)
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true})
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if query := req.URL.Query(); query.Has("account") || query.Has("target") {
			http.Error(w, "The metrics of an account are at "+ProbePath+"?account=NAME; here are those of the exporter itself.", http.StatusBadRequest)
			return
		}
		metrics.ServeHTTP(w, req)
	})
}

// target is a group of Prometheus' http_sd.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// ServiceDiscovery tells Prometheus (http_sd) what to scrape: each account, and the
// exporter itself. The address is the one by which it was asked.
func ServiceDiscovery(set *account.Set, telemetryPath string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		group := func(path string) target {
			t := target{[]string{req.Host}, map[string]string{"__metrics_path__": path}}
			if req.TLS != nil {
				t.Labels["__scheme__"] = "https"
			}
			return t
		}
		groups := []target{group(telemetryPath)}
		for _, name := range set.Names() {
			t := group(ProbePath)
			t.Labels["__param_account"], t.Labels["account"] = name, name
			groups = append(groups, t)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(groups) // the client is gone
	})
}

// Reload serves /-/reload.
func Reload(reload func(context.Context) (account.Changes, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "To reload the configuration, send a POST request.", http.StatusMethodNotAllowed)
			return
		}
		changes, err := reload(req.Context())
		if err != nil {
			http.Error(w, "The configuration was not reloaded, the one before stays in force:\n"+err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintf(w, "The configuration was reloaded: accounts: %s.\n", changes) // the client is gone
	})
}
