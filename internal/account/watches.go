package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/common/model"

	"ncp_exporter/collector"
	"ncp_exporter/collector/subjects"
	"ncp_exporter/ncpclient"
)

// Watch is a row of the table of what is watched: one collector.
type Watch struct {
	Name       string // of the collector
	API        string // ncpclient.APICertificateManager or APIExternalAccess
	What       string // is watched, in words
	Note       string // what else the help of its flag says
	Flag       string // that switches it on or off
	Default    bool   // of the flag
	PartOf     string // the collector without which it is off too
	Beside     string // the collector with which it is on, unless its flag says otherwise
	PerSubject bool   // each shard has its part; else it is for shard 0 alone
	Calls      []Call
	// unavailable says why it cannot be watched at this site; "" if it can. nil is
	// everywhere.
	unavailable func(*Setup) string
	collector   func(*Account, clients) collector.Collector
	// probe makes each of Calls once. A call that needs an id which an earlier
	// one did not give is skipped.
	probe func(context.Context, prober) []Answer
}

// Call is an operation that a collector calls.
type Call struct {
	Operation ncpclient.Operation
	Path      string // of the request, below the base URL
	Needs     string // what the key must be, or be allowed to
	Policy    string // NCP's own policy of Sub Account that allows it; "" if none does
	Finding   string // the name in the report of --check
	Probe     string // what --check asks for
}

// Table is what can be watched of an account. Flags, wiring, the series that are
// there from the start, --check and the docs range over it.
func Table() []Watch {
	return []Watch{
		{
			Name: ncpclient.APICertificateManager, API: ncpclient.APICertificateManager,
			What: "changes of the validation status of certificates in Certificate Manager",
			Note: "It is off on the sites gov and fin, which have no recentChanges, unless --ncp.certificate-manager.url is given.",
			Flag: "collector.certificate-manager", Default: true,
			Calls: []Call{{
				Operation: ncpclient.OpRecentChanges, Path: "/certificate/recentChanges",
				Needs:   "a key of the main account",
				Finding: "certificate_manager", Probe: "the changes inside the look-back window",
			}},
			unavailable: withoutRecentChanges,
			collector: func(a *Account, c clients) collector.Collector {
				manager := a.Config.CertificateManager
				return collector.NewCertificateManager(c.certificateManager, a.ledger, collector.CertificateManagerOptions{
					Window:         manager.Window,
					PerCertificate: manager.PerCertificate,
					Now:            time.Now,
				})
			},
			probe: probeRecentChanges,
		},
		{
			Name: ncpclient.APIExternalAccess, API: ncpclient.APIExternalAccess,
			What: "logins of the subjects of External Access",
			Flag: "collector.external-access", Default: true, PerSubject: true,
			Calls: []Call{{
				Operation: ncpclient.OpSubjects, Path: "/subjects",
				Needs:   "the permission to view the list of subjects of External Access",
				Policy:  "NCP_EXTERNAL_ACCESS_VIEWER",
				Finding: "external_access_subjects", Probe: "the first page; not asked if the subjects are named by flag",
			}, {
				Operation: ncpclient.OpCredentials, Path: "/subjects/{subjectId}/credentials",
				Needs:   "the permission to view the credentials of a subject of External Access",
				Policy:  "NCP_EXTERNAL_ACCESS_VIEWER",
				Finding: "external_access_credentials", Probe: "one row of one subject, or of each subject that is named by flag",
			}},
			collector: func(a *Account, c clients) collector.Collector {
				access := a.Config.ExternalAccess
				logger := log.With(a.Logger, "collector", ncpclient.APIExternalAccess)
				return collector.NewExternalAccess(subjects.NewWatcher(logger, c.externalAccess, a.ledger, subjects.Options{
					IDs:         access.Subjects,
					Filter:      a.filter(),
					PageSize:    access.PageSize,
					Concurrency: a.Config.Limits.MaxConcurrency,
					Sweep:       access.SweepInterval,
					LateArrival: access.LateArrival,
					Shard:       subjects.NewShard(a.Shard.Number, a.Shard.Total),
					Journal:     a.Journal,
					Now:         time.Now,
				}), a.ledger, collector.ExternalAccessOptions{FailureInfo: access.FailureInfo, Now: time.Now})
			},
			probe: probeSubjects,
		},
		{
			Name: "certificate_inventory", API: ncpclient.APICertificateManager,
			What: "when each certificate of Certificate Manager expires",
			Note: "Default: on where changes of the validation status are watched, else off. Version 1 of the API is used where version 2 refuses the key or does not exist.",
			Flag: "collector.certificate-inventory", Beside: ncpclient.APICertificateManager,
			Calls: []Call{{
				Operation: ncpclient.OpCertificates, Path: "/certificate/certificates",
				Needs:   "a key of the main account, or the permission to view the list of certificates of Certificate Manager (version 1 of the API is used then)",
				Policy:  "NCP_CERTIFICATE_MANAGER_VIEWER",
				Finding: "certificate_inventory", Probe: "the first page",
			}},
			collector: func(_ *Account, c clients) collector.Collector {
				return collector.NewCertificateInventory(c.certificateManager, time.Now)
			},
			probe: probeInventory,
		},
		{
			Name: "external_access_trust_anchors", API: ncpclient.APIExternalAccess,
			What: "when trust anchors and their CRLs expire",
			Flag: "collector.external-access.trust-anchors", Default: true, PartOf: ncpclient.APIExternalAccess,
			Calls: []Call{{
				Operation: ncpclient.OpTrustAnchors, Path: "/trust-anchors",
				Needs:   "the permission to view the list of trust anchors of External Access",
				Policy:  "NCP_EXTERNAL_ACCESS_VIEWER",
				Finding: "external_access_trust_anchors", Probe: "the list",
			}, {
				Operation: ncpclient.OpCRLs, Path: "/trust-anchors/{trustAnchorId}/crls",
				Needs:   "the permission to view the CRLs of a trust anchor of External Access",
				Policy:  "NCP_EXTERNAL_ACCESS_VIEWER",
				Finding: "external_access_crls", Probe: "those of one trust anchor",
			}},
			collector: func(a *Account, c clients) collector.Collector {
				return collector.NewTrustAnchors(c.externalAccess, a.Config.Limits.MaxConcurrency, time.Now)
			},
			probe: probeTrustAnchors,
		},
	}
}

// OffFlag is the flag that switches it off.
func (w Watch) OffFlag() string { return "--no-" + w.Flag }

// Off says why something is not watched; "" if it is.
func (s *Setup) Off(w Watch) string {
	switch flag := s.switchedOff(w); {
	case flag != "":
		return flag
	case s.Shard.Number > 0 && !w.PerSubject:
		return "shard 0 does it"
	case w.unavailable != nil:
		return w.unavailable(s)
	default:
		return ""
	}
}

// switchedOff gives the flag that switches something off; "" if none does.
func (s *Setup) switchedOff(w Watch) string {
	on, said := s.Config.Collectors[w.Name]
	for _, other := range Table() {
		switch other.Name {
		case w.PartOf:
			if !s.Config.Collectors[other.Name] {
				return other.OffFlag()
			}
		case w.Beside:
			on = on || !said && s.switchedOff(other) == "" && other.unavailable(s) == ""
		}
	}
	if !on {
		return w.OffFlag()
	}
	return ""
}

// Watched are the rows of the table that are on.
func (s *Setup) Watched() []Watch {
	return slices.DeleteFunc(Table(), func(w Watch) bool { return s.Off(w) != "" })
}

func withoutRecentChanges(s *Setup) string {
	if strings.HasSuffix(strings.TrimRight(s.Config.CertificateManager.URL, "/"), "/v1") {
		return "this site has no recentChanges; give --ncp.certificate-manager.url if yours has"
	}
	return ""
}

func probeRecentChanges(ctx context.Context, p prober) []Answer {
	window := p.Config.CertificateManager.Window
	return []Answer{p.ask(ctx, ncpclient.OpRecentChanges, func(ctx context.Context, c clients) (string, error) {
		changes, err := c.certificateManager.RecentChanges(ctx, window)
		return fmt.Sprintf("answers: %d rows of certificates that changed within %s", len(changes), model.Duration(window)), err
	})}
}

func probeInventory(ctx context.Context, p prober) []Answer {
	return []Answer{p.ask(ctx, ncpclient.OpCertificates, func(ctx context.Context, c clients) (string, error) {
		page, err := c.certificateManager.FirstCertificates(ctx, 100)
		return fmt.Sprintf("answers: %d certificates", max(page.Total, len(page.Rows))), err
	})}
}

func probeTrustAnchors(ctx context.Context, p prober) []Answer {
	var id string
	list := p.ask(ctx, ncpclient.OpTrustAnchors, func(ctx context.Context, c clients) (string, error) {
		anchors, err := c.externalAccess.TrustAnchors(ctx)
		for _, anchor := range anchors {
			id = cmp.Or(id, anchor.ID)
		}
		return fmt.Sprintf("answers: %d trust anchors", len(anchors)), err
	})
	if id == "" {
		return []Answer{list, p.skip(ncpclient.OpCRLs, list, "trust anchor")}
	}
	return []Answer{list, p.ask(ctx, ncpclient.OpCRLs, func(ctx context.Context, c clients) (string, error) {
		crls, err := c.externalAccess.CRLs(ctx, id)
		if errors.Is(err, ncpclient.ErrNotFound) { // one that has none may be told so
			err = nil
		}
		return fmt.Sprintf("answers: %d CRLs of this trust anchor", len(crls)), err
	})}
}
