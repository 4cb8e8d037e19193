package collector

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/ncpclient"
)

// RecentChangesClient is what CertificateManager needs of ncpclient.
type RecentChangesClient interface {
	RecentChanges(ctx context.Context, window time.Duration) ([]ncpclient.CertificateChange, error)
}

// CertificateManagerOptions are the settings of CertificateManager.
type CertificateManagerOptions struct {
	// Window is how far back recentChanges looks.
	Window time.Duration
	// PerCertificate adds one series for each certificate in the window.
	PerCertificate bool
	// Now is the clock.
	Now func() time.Time
}

// CertificateManager makes gauges of Certificate Manager's recentChanges.
type CertificateManager struct {
	client  RecentChangesClient
	ledger  *ledger.Ledger
	options CertificateManagerOptions
	*poll[certificateStatus]

	changed, status, changes, window *prometheus.Desc

	// cached are the metrics of the certificates as they were given last. Making one
	// is expensive, and most do not change.
	mu     sync.Mutex
	cached map[certificateStatus]prometheus.Metric
}

// certificateStatus holds the label values of the series of a certificate.
type certificateStatus struct {
	certificate
	status ncpclient.ValidationStatus
}

// certificate identifies a certificate. The order is not enough: it can hold many.
type certificate struct{ orderID, certificateID string }

// NewCertificateManager makes the collector certificate_manager.
func NewCertificateManager(client RecentChangesClient, l *ledger.Ledger, options CertificateManagerOptions) *CertificateManager {
	c := &CertificateManager{
		client:  client,
		ledger:  l,
		options: options,
		changed: prometheus.NewDesc("ncp_certificate_manager_recently_changed_certificates",
			"Certificates whose validation status changed inside the look-back window, by their current status (Certificate Manager recentChanges, orders[].status).",
			[]string{"status"}, nil),
		status: prometheus.NewDesc("ncp_certificate_manager_certificate_status",
			"1 for each certificate whose validation status changed inside the look-back window, with its current status (Certificate Manager recentChanges, orders[].status).",
			[]string{"order_id", "certificate_id", "status"}, nil),
		changes: prometheus.NewDesc("ncp_certificate_manager_status_changes_total",
			"Changes of validation status between scrapes, by the new status. The first answer is the baseline and counts no change (Certificate Manager recentChanges, orders[].status).",
			[]string{"status"}, nil),
		window: prometheus.NewDesc("ncp_certificate_manager_lookback_window_seconds",
			"How far back the exporter asks for changes (Certificate Manager recentChanges, minutes or seconds of the query).",
			nil, nil),
	}
	c.poll = newPoll(ncpclient.APICertificateManager, options.Now, c.ask, "changes")
	return c
}

// statuses are the values of the label status, the most serious first. If NCP lists
// a certificate several times, its most serious status counts.
var statuses = [...]ncpclient.ValidationStatus{ //nolint:gochecknoglobals // a constant in all but syntax
	ncpclient.StatusValidationTimedOut,
	ncpclient.StatusOngoing,
	ncpclient.StatusUnknown,
	ncpclient.StatusNormal,
}

func severity(s ncpclient.ValidationStatus) int {
	for i, status := range statuses {
		if s == status {
			return len(statuses) - i
		}
	}
	return 0
}

// ask calls recentChanges, and counts the changes of status in the ledger.
func (c *CertificateManager) ask(ctx context.Context) (*[]certificateStatus, error) {
	changes, err := c.client.RecentChanges(ctx, c.options.Window)
	if err != nil {
		return nil, err
	}
	changes, err = usable(changes, "changed certificates", func(c ncpclient.CertificateChange) string { return c.OrderID })
	if changes == nil {
		return nil, err
	}
	certificates := mostSerious(changes)
	current := make(map[string]string, len(certificates))
	for _, c := range certificates {
		current[c.orderID+"/"+c.certificateID] = string(c.status)
	}
	c.ledger.ApplyStatuses(c.options.Window.String(), current)
	c.ledger.Commit()
	return &certificates, err
}

// mostSerious gives each certificate once, with its most serious status.
func mostSerious(changes []ncpclient.CertificateChange) []certificateStatus {
	certificates := make([]certificateStatus, 0, len(changes))
	places := make(map[certificate]int, len(changes))
	for _, change := range changes {
		cert := certificate{change.OrderID, change.CertificateID}
		place, repeated := places[cert]
		switch {
		case !repeated:
			places[cert] = len(certificates)
			certificates = append(certificates, certificateStatus{cert, change.Status})
		case severity(change.Status) > severity(certificates[place].status):
			certificates[place].status = change.Status
		}
	}
	return certificates
}

// Describe gives all descriptions.
func (c *CertificateManager) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.changed, c.status, c.changes, c.window} {
		ch <- d
	}
}

// Collect gives the counters, and the gauges if the last Update read an answer.
func (c *CertificateManager) Collect(emit func(prometheus.Metric)) {
	for _, status := range statuses {
		emit(prometheus.MustNewConstMetricWithCreatedTimestamp(c.changes, prometheus.CounterValue,
			float64(c.ledger.StatusChanges(string(status))), c.ledger.Since(), string(status)))
	}
	certificates := c.latest()
	if certificates == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	emit(prometheus.MustNewConstMetric(c.window, prometheus.GaugeValue, c.options.Window.Seconds()))
	counts := make(map[ncpclient.ValidationStatus]int, len(statuses))
	cached := make(map[certificateStatus]prometheus.Metric, len(*certificates))
	for _, says := range *certificates {
		counts[says.status]++
		if !c.options.PerCertificate {
			continue
		}
		metric, again := c.cached[says]
		if !again {
			metric = prometheus.MustNewConstMetric(c.status, prometheus.GaugeValue, 1,
				LabelValue(says.orderID), LabelValue(says.certificateID), string(says.status))
		}
		cached[says] = metric
		emit(metric)
	}
	c.cached = cached
	for _, status := range statuses {
		emit(prometheus.MustNewConstMetric(c.changed, prometheus.GaugeValue, float64(counts[status]), string(status)))
	}
}

// Certificates gives the certificates whose status changed inside the look-back
// window, the most serious first. known is false if they could not be read. It does
// not call NCP.
func (c *CertificateManager) Certificates() (changes []ncpclient.CertificateChange, known bool) {
	certificates := c.latest()
	if certificates == nil {
		return nil, false
	}
	for _, cert := range *certificates {
		changes = append(changes, ncpclient.CertificateChange{OrderID: cert.orderID, CertificateID: cert.certificateID, Status: cert.status})
	}
	slices.SortStableFunc(changes, func(a, b ncpclient.CertificateChange) int { return severity(b.Status) - severity(a.Status) })
	return changes, true
}
