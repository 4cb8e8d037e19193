package collector

import (
	"context"
	"errors"
	"fmt"
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
	*background

	changed, status, changes, window *prometheus.Desc

	mu sync.Mutex
	// certificates is the last answer, in its order, which came at readAt; nil
	// while there is none.
	certificates []certificateStatus
	readAt       time.Time
	// made are the series of the certificates as they were given last. Making one
	// is dear, and most are the same again.
	made map[certificateStatus]prometheus.Metric
}

// certificateStatus is what the series of a certificate says.
type certificateStatus struct {
	certificate
	status ncpclient.ValidationStatus
}

// certificate names a certificate: one order can hold many.
type certificate struct{ orderID, certificateID string }

// NewCertificateManager makes the collector certificate_manager.
func NewCertificateManager(client RecentChangesClient, l *ledger.Ledger, options CertificateManagerOptions) *CertificateManager {
	return &CertificateManager{
		client:     client,
		ledger:     l,
		options:    options,
		background: newBackground(),
		changed: prometheus.NewDesc("ncp_certificate_manager_recently_changed_certificates",
			"Certificates whose validation status changed inside the look-back window, by their status now (Certificate Manager recentChanges, orders[].status).",
			[]string{"status"}, nil),
		status: prometheus.NewDesc("ncp_certificate_manager_certificate_status",
			"1 for each certificate whose validation status changed inside the look-back window, with its status now (Certificate Manager recentChanges, orders[].status).",
			[]string{"order_id", "certificate_id", "status"}, nil),
		changes: prometheus.NewDesc("ncp_certificate_manager_status_changes_total",
			"Changes of validation status seen between scrapes, by the new status; the first look is the baseline (Certificate Manager recentChanges, orders[].status).",
			[]string{"status"}, nil),
		window: prometheus.NewDesc("ncp_certificate_manager_lookback_window_seconds",
			"How far back the exporter asks for changes (Certificate Manager recentChanges, minutes or seconds of the query).",
			nil, nil),
	}
}

// Name is the value of the label collector.
func (*CertificateManager) Name() string { return ncpclient.APICertificateManager }

// statuses are the values of the label status, the most serious first: that is
// the one that a certificate counts under if it comes with several.
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

// Update asks recentChanges.
func (c *CertificateManager) Update(ctx context.Context, since time.Time) error {
	carried := c.readSince(since)
	err := c.do(ctx, string(ncpclient.OpRecentChanges), c.read)
	var underWay *underWayError
	if carried && errors.As(err, &underWay) {
		return nil
	}
	return err
}

// readSince says whether an answer came after that time. An older one is
// forgotten.
func (c *CertificateManager) readSince(since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.readAt.After(since) {
		c.certificates = nil
	}
	return c.certificates != nil
}

// Close ends what goes on.
func (c *CertificateManager) Close() { c.close() }

// read asks recentChanges and keeps the answer, or that there is none.
func (c *CertificateManager) read(ctx context.Context) error {
	changes, err := c.client.RecentChanges(ctx, c.options.Window)
	if err != nil {
		c.set(nil)
		return err
	}
	all := len(changes)
	changes = slices.DeleteFunc(changes, func(c ncpclient.CertificateChange) bool { return c.OrderID == "" })
	if all > 0 && len(changes) == 0 {
		// To take this for an answer would say that all is well.
		c.set(nil)
		return fmt.Errorf("none of the %d changed certificates that NCP lists has usable ids", all)
	}
	certificates := distinct(changes)
	current := make(map[string]string, len(certificates))
	for _, c := range certificates {
		current[c.orderID+"/"+c.certificateID] = string(c.status)
	}
	c.ledger.ApplyStatuses(c.options.Window.String(), current)
	c.ledger.Commit()
	c.set(certificates)
	if nameless := all - len(changes); nameless > 0 {
		return fmt.Errorf("%d of the %d changed certificates that NCP lists have no usable ids and are not shown", nameless, all)
	}
	return nil
}

// distinct gives each certificate once, with its most serious status.
func distinct(changes []ncpclient.CertificateChange) []certificateStatus {
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

func (c *CertificateManager) set(certificates []certificateStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certificates, c.readAt = certificates, c.options.Now()
}

// Describe gives all descriptions.
func (c *CertificateManager) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.changed, c.status, c.changes, c.window} {
		ch <- d
	}
}

// Collect gives the counters, and the gauges if the last Update succeeded.
func (c *CertificateManager) Collect(ch chan<- prometheus.Metric) {
	for _, status := range statuses {
		ch <- prometheus.MustNewConstMetricWithCreatedTimestamp(c.changes, prometheus.CounterValue,
			float64(c.ledger.StatusChanges(string(status))), c.ledger.Since(), string(status))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.certificates == nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(c.window, prometheus.GaugeValue, c.options.Window.Seconds())
	counts := make(map[ncpclient.ValidationStatus]int, len(statuses))
	made := make(map[certificateStatus]prometheus.Metric, len(c.certificates))
	for _, says := range c.certificates {
		counts[says.status]++
		if !c.options.PerCertificate {
			continue
		}
		metric, again := c.made[says]
		if !again {
			metric = prometheus.MustNewConstMetric(c.status, prometheus.GaugeValue, 1,
				labelValue(says.orderID), labelValue(says.certificateID), string(says.status))
		}
		made[says] = metric
		ch <- metric
	}
	c.made = made
	for _, status := range statuses {
		ch <- prometheus.MustNewConstMetric(c.changed, prometheus.GaugeValue, float64(counts[status]), string(status))
	}
}
