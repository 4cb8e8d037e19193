package collector

import (
	"cmp"
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/ncpclient"
)

// InventoryClient is what CertificateInventory needs of ncpclient.
type InventoryClient interface {
	Certificates(ctx context.Context, size int) (ncpclient.List[ncpclient.Certificate], error)
	Quirks() []string
}

// CertificateInventory tells when each certificate of Certificate Manager expires.
type CertificateInventory struct {
	*poll[ncpclient.Certificate]
	client InventoryClient

	info, notAfter, inUse, byStatus, unreadable *prometheus.Desc
}

// inventoryPage is how many rows are asked for on each page.
const inventoryPage = 100

// NewCertificateInventory makes the collector certificate_inventory.
func NewCertificateInventory(client InventoryClient, now func() time.Time) *CertificateInventory {
	const source = " (Certificate Manager certificates, sslCertificateList[]."
	c := &CertificateInventory{
		client: client,
		info: prometheus.NewDesc("ncp_certificate_manager_certificate_info",
			"1 for each certificate that is not deleted"+source+"certificateName, and commonName, or domainAddress of version 1).",
			[]string{"certificate_id", "name", "common_name"}, nil),
		notAfter: prometheus.NewDesc("ncp_certificate_manager_certificate_not_after_timestamp_seconds",
			"When a certificate expires, if it is neither deleted nor revoked"+source+"notAfter, or validEndDate of version 1).",
			[]string{"certificate_id", "name", "common_name"}, nil),
		inUse: prometheus.NewDesc("ncp_certificate_manager_certificate_in_use",
			"1 if a service uses the certificate, else 0; absent if the answer does not say"+source+"usedInstanceNoList).",
			[]string{"certificate_id"}, nil),
		byStatus: prometheus.NewDesc("ncp_certificate_manager_certificates",
			"All certificates, by their status, with the names of NCP's guide"+source+"statusCode).",
			[]string{"status"}, nil),
		unreadable: prometheus.NewDesc("ncp_certificate_manager_unreadable_certificate_dates",
			"Certificates of which it is not known when they expire: their date cannot be read, or they are valid but have no date"+source+"notAfter, or validEndDate of version 1).",
			nil, nil),
	}
	c.poll = newPoll("certificate_inventory", now, c.ask, "certificates")
	return c
}

func (c *CertificateInventory) ask(ctx context.Context) (*[]ncpclient.Certificate, error) {
	list, err := c.client.Certificates(ctx, inventoryPage)
	if err = cmp.Or(err, list.Doubt); err != nil {
		return nil, err
	}
	id := func(c ncpclient.Certificate) string { return c.ID }
	all, err := usable(list.Rows, "certificates", id)
	if all == nil {
		return nil, err
	}
	all = distinct(all, id)
	return &all, err
}

// Describe gives all descriptions.
func (c *CertificateInventory) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.info, c.notAfter, c.inUse, c.byStatus, c.unreadable} {
		ch <- d
	}
}

// Collect gives the gauges, if the last Update read the list.
func (c *CertificateInventory) Collect(emit func(prometheus.Metric)) {
	certificates := c.latest()
	if certificates == nil {
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		emit(prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...))
	}
	counts, unreadable := make(map[ncpclient.CertificateStatus]int), 0
	for _, cert := range *certificates {
		counts[cert.Status]++
		if cert.Status == ncpclient.CertificateDeleted {
			continue
		}
		id, name, commonName := LabelValue(cert.ID), LabelValue(cert.Name), LabelValue(cert.CommonName)
		gauge(c.info, 1, id, name, commonName)
		if cert.Status == ncpclient.CertificateRevoked {
			continue // nobody has to renew it
		}
		if cert.Unreadable {
			unreadable++
		}
		if !cert.NotAfter.IsZero() {
			gauge(c.notAfter, timestamp(cert.NotAfter), id, name, commonName)
		}
		if cert.InUse != nil {
			gauge(c.inUse, boolValue(*cert.InUse), id)
		}
	}
	for _, status := range ncpclient.CertificateStatuses() {
		gauge(c.byStatus, float64(counts[status]), string(status))
	}
	gauge(c.unreadable, float64(unreadable))
}

// Expiring gives the certificates that are neither deleted nor revoked, if the last
// Update read them. It does not call NCP.
func (c *CertificateInventory) Expiring() []Expiry {
	certificates := c.latest()
	if certificates == nil {
		return nil
	}
	var all []Expiry
	for _, cert := range *certificates {
		if cert.Status == ncpclient.CertificateDeleted || cert.Status == ncpclient.CertificateRevoked || cert.NotAfter.IsZero() {
			continue
		}
		all = append(all, Expiry{"certificate", cert.ID, nameOf(cert), cert.NotAfter})
	}
	return all
}

// Names are what people call each certificate, by its id, if the last Update read them.
func (c *CertificateInventory) Names() map[string]string {
	names := make(map[string]string)
	if certificates := c.latest(); certificates != nil {
		for _, cert := range *certificates {
			names[cert.ID] = nameOf(cert)
		}
	}
	return names
}

func nameOf(cert ncpclient.Certificate) string { return LabelValue(cmp.Or(cert.CommonName, cert.Name)) }

// Quirks are the ways in which NCP differs from what it says, one line each.
func (c *CertificateInventory) Quirks() []string { return c.client.Quirks() }
