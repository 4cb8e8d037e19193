package ncpclient

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// ExternalAccess is a client of the External Access API.
type ExternalAccess struct {
	api   *api
	pages pager
}

// NewExternalAccess makes a client of the External Access API at cfg.BaseURL.
func NewExternalAccess(cfg Config) (*ExternalAccess, error) {
	a, err := newAPI(APIExternalAccess, cfg)
	if err != nil {
		return nil, err
	}
	return &ExternalAccess{api: a, pages: pager{names: externalAccessNames()}}, nil
}

func externalAccessNames() pageNames {
	return pageNames{
		page: "page", size: "size",
		rows: "content", totals: []string{"totalElements"}, pageNo: "pageNo", pageSize: "pageSize",
	}
}

// RateLimit is the limit in force, in requests a second: Config.RateLimit, or
// less for a while after NCP answered 429; +Inf if there is no limit.
func (c *ExternalAccess) RateLimit() float64 { return c.api.sender.inForce() }

// DefaultPageSize is the number of rows a page that the API documents as its
// own default, so one that no server refuses.
const DefaultPageSize = 20

// Subject is one workload that logs in with X.509 certificates.
type Subject struct {
	ID          string    // subjectId; empty if the row has none that can be used
	X509Subject string    // x509Subject, its distinguished name
	Enabled     *bool     // enabled; nil if the answer does not say
	UpdateTime  time.Time // updateTime; zero if it cannot be read
	LastSeen    time.Time // lastSeenTime; zero if it cannot be read
}

// Credential is one row of a subject's history: an authentication.
type Credential struct {
	Issuer       string
	SerialNumber string // opaque: decimal, hex or masked
	// Failed is the field "failed": true is a failed authentication, nil if
	// the row does not say.
	Failed   *bool
	SeenTime time.Time // zero if it cannot be read
}

// Page is one page of a list.
type Page[T any] struct {
	// Number counts from 0, as it was asked for.
	Number int
	// Size is the number of rows of a whole page as the server makes them,
	// which may be fewer than were asked for. Pages after the first must be
	// asked for with this size, or their rows overlap or leave a gap.
	Size int
	// Total is the number of rows of the whole list (totalElements); -1 if the
	// answer does not say.
	Total int
	Rows  []T
	// Date is the server's clock when it answered; zero if it does not say.
	Date time.Time
	// Shown is the certificate of the newest row of a page of credentials; nil
	// if no row has a time, and on other pages.
	Shown *ShownCertificate
}

// SubjectsPage asks for one page of the subjects (GET /subjects). A first page
// that the server refuses for its size is asked for again with DefaultPageSize.
func (c *ExternalAccess) SubjectsPage(ctx context.Context, number, size int) (Page[Subject], error) {
	return getPage(ctx, c.api, &c.pages, OpSubjects, []string{"subjects"}, number, size, decodeSubjects)
}

// CredentialsPage asks for one page of a subject's authentications (GET
// /subjects/{subjectId}/credentials). A first page that the server refuses for
// its size is asked for again with DefaultPageSize.
func (c *ExternalAccess) CredentialsPage(ctx context.Context, subjectID string, number, size int) (Page[Credential], error) {
	if !UsableID(subjectID) {
		return Page[Credential]{}, fmt.Errorf("%q cannot be a subject id", cleanText(subjectID, maxToken))
	}
	return getPage(ctx, c.api, &c.pages, OpCredentials, []string{"subjects", subjectID, "credentials"}, number, size, decodeCredentials)
}

// Subjects gives all subjects, page by page; see Pages for how it ends.
func (c *ExternalAccess) Subjects(ctx context.Context, size int) iter.Seq2[Page[Subject], error] {
	return Pages(size, func(number, size int) (Page[Subject], error) {
		return c.SubjectsPage(ctx, number, size)
	})
}

// Credentials gives the whole history of a subject, page by page; see Pages
// for how it ends.
func (c *ExternalAccess) Credentials(ctx context.Context, subjectID string, size int) iter.Seq2[Page[Credential], error] {
	return Pages(size, func(number, size int) (Page[Credential], error) {
		return c.CredentialsPage(ctx, subjectID, number, size)
	})
}

// PageSizeRefused says whether the server has refused the page size that was
// asked for, so that DefaultPageSize is used instead.
func (c *ExternalAccess) PageSizeRefused() bool { return c.pages.sizeRefused.Load() }

// A rowDecoder reads the rows of one page, one by one, and adds them to it.
type rowDecoder[T any] func(*jsontext.Decoder, *rowBudget, *Page[T]) error

// decodeSubjects leaves the ID of a row empty if it could not be used: one such
// row must not hide the others.
func decodeSubjects() rowDecoder[Subject] {
	var id, x509Subject, updateTime, lastSeenTime text
	var enabled flag
	fields := []field{
		{"subjectId", &id},
		{"x509Subject", &x509Subject},
		{"enabled", &enabled},
		{"updateTime", &updateTime},
		{"lastSeenTime", &lastSeenTime},
	}
	return func(d *jsontext.Decoder, left *rowBudget, page *Page[Subject]) error {
		if err := decodeRow(d, fields, left); err != nil {
			return err
		}
		s := Subject{
			X509Subject: string(x509Subject),
			Enabled:     enabled.pointer(),
			UpdateTime:  ParseTime(string(updateTime)),
			LastSeen:    ParseTime(string(lastSeenTime)),
		}
		if UsableID(string(id)) {
			s.ID = string(id)
		}
		page.Rows = append(page.Rows, s)
		return nil
	}
}

// decodeCredentials keeps one certificate of a page (x509CertificateData), that
// of its newest row: they are most of the answer's bytes, and more of them than
// one may have room for. A row that claims to be of the future is not the newest.
func decodeCredentials() rowDecoder[Credential] {
	var issuer, serialNumber, seenTime text
	var failed flag
	var certificate held
	fields := []field{
		{"issuer", &issuer},
		{"serialNumber", &serialNumber},
		{"failed", &failed},
		{"seenTime", &seenTime},
		{"x509CertificateData", &certificate},
	}
	return func(d *jsontext.Decoder, left *rowBudget, page *Page[Credential]) error {
		if err := decodeRow(d, fields, left); err != nil {
			return err
		}
		row := Credential{
			Issuer:       string(issuer),
			SerialNumber: string(serialNumber),
			Failed:       failed.pointer(),
			SeenTime:     ParseTime(string(seenTime)),
		}
		page.Rows = append(page.Rows, row)
		future := !page.Date.IsZero() && row.SeenTime.After(page.Date.Add(maxClockOffset))
		if row.SeenTime.IsZero() || future || page.Shown != nil && !row.SeenTime.After(page.Shown.SeenTime) {
			return nil
		}
		if page.Shown == nil {
			page.Shown = &ShownCertificate{}
		}
		page.Shown.SeenTime, page.Shown.SerialNumber = row.SeenTime, row.SerialNumber
		page.Shown.raw, certificate = certificate, page.Shown.raw // the older one's room is for the next row's
		return nil
	}
}

func (f flag) pointer() *bool {
	if !f.known {
		return nil
	}
	return &f.value
}
