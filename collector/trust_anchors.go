package collector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"ncp_exporter/ncpclient"
)

// TrustAnchorsClient is what TrustAnchors needs of ncpclient.
type TrustAnchorsClient interface {
	TrustAnchors(ctx context.Context) ([]ncpclient.TrustAnchor, error)
	CRLs(ctx context.Context, trustAnchorID string) ([]ncpclient.CRL, error)
}

// TrustAnchors tells when trust anchors expire: the certificate authorities whose
// certificates may log in.
type TrustAnchors struct {
	*poll[trustAnchor]
	client      TrustAnchorsClient
	concurrency int

	notAfter, enabled, nextUpdate, unreadable *prometheus.Desc
}

type trustAnchor struct {
	ncpclient.TrustAnchor
	nextUpdate time.Time // of the CRL that must be replaced first; zero if it is not known
}

// NewTrustAnchors makes the collector external_access_trust_anchors. concurrency is
// for how many trust anchors it asks for CRLs at the same time.
func NewTrustAnchors(client TrustAnchorsClient, concurrency int, now func() time.Time) *TrustAnchors {
	c := &TrustAnchors{
		client:      client,
		concurrency: concurrency,
		notAfter: prometheus.NewDesc("ncp_external_access_trust_anchor_not_after_timestamp_seconds",
			"When the certificate of a trust anchor expires (External Access trust-anchors, source.sourceData.notAfterDate).",
			[]string{"trust_anchor_id", "name"}, nil),
		enabled: prometheus.NewDesc("ncp_external_access_trust_anchor_enabled",
			"1 if certificates of the trust anchor may log in, else 0 (External Access trust-anchors, enabled).",
			[]string{"trust_anchor_id", "name"}, nil),
		nextUpdate: prometheus.NewDesc("ncp_external_access_trust_anchor_crl_next_update_timestamp_seconds",
			"When the next list of revoked certificates (CRL) of a trust anchor must be replaced, if that can be read. Disabled lists do not count (External Access trust-anchors/{trustAnchorId}/crls, nextUpdate or the list itself).",
			[]string{"trust_anchor_id", "name"}, nil),
		unreadable: prometheus.NewDesc("ncp_external_access_unreadable_trust_anchors",
			"Trust anchors of which it is not known when they expire (External Access trust-anchors, source.sourceData.notAfterDate).",
			nil, nil),
	}
	c.poll = newPoll("external_access_trust_anchors", now, c.ask, "trust_anchors")
	return c
}

func (c *TrustAnchors) ask(ctx context.Context) (*[]trustAnchor, error) {
	rows, err := c.client.TrustAnchors(ctx)
	if err != nil {
		return nil, err
	}
	id := func(a ncpclient.TrustAnchor) string { return a.ID }
	rows, err = usable(rows, "trust anchors", id)
	if rows == nil {
		return nil, err
	}
	rows = distinct(rows, id)
	anchors := make([]trustAnchor, len(rows))
	for i, row := range rows {
		anchors[i].TrustAnchor = row
	}
	return &anchors, errors.Join(c.askCRLs(ctx, anchors), err)
}

// askCRLs reads the CRLs of all anchors. If one fails, the others are still read.
func (c *TrustAnchors) askCRLs(ctx context.Context, anchors []trustAnchor) error {
	var (
		group  errgroup.Group
		mu     sync.Mutex
		failed int
		first  error // of the first anchor in the list: a random one would look new in the log each time
		at     int   // index of that anchor
	)
	group.SetLimit(max(1, c.concurrency))
	for i := range anchors {
		group.Go(func() error {
			crls, err := c.client.CRLs(ctx, anchors[i].ID)
			if err != nil && !errors.Is(err, ncpclient.ErrNotFound) { // an anchor without CRLs may get a 404
				mu.Lock()
				defer mu.Unlock()
				failed++
				if first == nil || i < at {
					first, at = err, i
				}
				return nil
			}
			for _, crl := range crls {
				off := crl.Enabled != nil && !*crl.Enabled
				if due := crl.NextUpdate; !off && !due.IsZero() && (anchors[i].nextUpdate.IsZero() || due.Before(anchors[i].nextUpdate)) {
					anchors[i].nextUpdate = due
				}
			}
			return nil
		})
	}
	_ = group.Wait() // none returns an error
	if failed > 0 {
		return fmt.Errorf("the CRLs of %d of %d trust anchors could not be read, the first: %w", failed, len(anchors), first)
	}
	return nil
}

// Describe gives all descriptions.
func (c *TrustAnchors) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.notAfter, c.enabled, c.nextUpdate, c.unreadable} {
		ch <- d
	}
}

// Collect gives the gauges, if the last Update read the list.
func (c *TrustAnchors) Collect(emit func(prometheus.Metric)) {
	anchors := c.latest()
	if anchors == nil {
		return
	}
	unreadable := 0
	for _, a := range *anchors {
		gauge := func(d *prometheus.Desc, value float64) {
			emit(prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, LabelValue(a.ID), LabelValue(a.Name)))
		}
		if a.NotAfter.IsZero() {
			unreadable++
		} else {
			gauge(c.notAfter, timestamp(a.NotAfter))
		}
		if a.Enabled != nil {
			gauge(c.enabled, boolValue(*a.Enabled))
		}
		if !a.nextUpdate.IsZero() {
			gauge(c.nextUpdate, timestamp(a.nextUpdate))
		}
	}
	emit(prometheus.MustNewConstMetric(c.unreadable, prometheus.GaugeValue, float64(unreadable)))
}

// Expiring gives the trust anchors that are not disabled and their CRLs, if the last
// Update read them. It does not call NCP.
func (c *TrustAnchors) Expiring() []Expiry {
	anchors := c.latest()
	if anchors == nil {
		return nil
	}
	var all []Expiry
	for _, anchor := range *anchors {
		if anchor.Enabled != nil && !*anchor.Enabled {
			continue
		}
		all = append(all, Expiry{"trust anchor", anchor.ID, anchor.Name, anchor.NotAfter}, Expiry{"CRL", anchor.ID, anchor.Name, anchor.nextUpdate})
	}
	return slices.DeleteFunc(all, func(e Expiry) bool { return e.NotAfter.IsZero() })
}
