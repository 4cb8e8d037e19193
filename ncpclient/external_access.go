package ncpclient

import (
	"context"
	"fmt"
	"net/url"
	"time"
)

// ExternalAccess is a client of the External Access API.
type ExternalAccess struct {
	api      *api
	pages    *pager
	subjects listReader[Subject]
}

// NewExternalAccess makes a client of the External Access API at cfg.BaseURL.
func NewExternalAccess(cfg Config) (*ExternalAccess, error) {
	a, err := newAPI(APIExternalAccess, cfg)
	if err != nil {
		return nil, err
	}
	pages := &pager{names: externalAccessNames()}
	return &ExternalAccess{api: a, pages: pages, subjects: listReader[Subject]{
		pager: pages, now: a.cfg.Now, key: func(s Subject) string { return s.ID },
	}}, nil
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

// TakeOver goes on with what NCP's answers of 429 did to an earlier client of the same
// API: its pause and its lowered rate. It comes before the first call.
func (c *ExternalAccess) TakeOver(from *ExternalAccess) { c.api.sender.takeOver(from.api.sender) }

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

// SubjectsPage asks for one page of the subjects (GET /subjects). A first page
// that the server refuses for its size is asked for again with DefaultPageSize.
func (c *ExternalAccess) SubjectsPage(ctx context.Context, number, size int) (Page[Subject], error) {
	return getPage(ctx, c.api, c.pages, OpSubjects, "subjects", number, size, decodeSubjects)
}

// CredentialsPage is one page of a subject's history.
type CredentialsPage struct {
	Page[Credential]
	// Presented is the certificate of the newest row; nil if no row has a time.
	Presented *PresentedCertificate
}

// CredentialsPage asks for one page of a subject's authentications (GET
// /subjects/{subjectId}/credentials). A first page that the server refuses for
// its size is asked for again with DefaultPageSize.
func (c *ExternalAccess) CredentialsPage(ctx context.Context, subjectID string, number, size int) (CredentialsPage, error) {
	if !UsableID(subjectID) {
		return CredentialsPage{}, fmt.Errorf("%q cannot be a subject id", cleanText(subjectID, maxToken))
	}
	var presented *PresentedCertificate
	page, err := getPage(ctx, c.api, c.pages, OpCredentials, "subjects/"+url.PathEscape(subjectID)+"/credentials", number, size,
		func(clock time.Time) rowDecoder[Credential] {
			presented = new(PresentedCertificate) // and not that of a try before
			return decodeCredentials(clock, presented)
		})
	if err != nil || presented.SeenTime.IsZero() {
		return CredentialsPage{Page: page}, err
	}
	return CredentialsPage{page, presented}, nil
}

// Subjects gives all subjects, with pages of so many rows. See List for what is
// certain, and listReader for how it is read.
func (c *ExternalAccess) Subjects(ctx context.Context, size int) (List[Subject], error) {
	return c.subjects.read(size, func(number, size int) (Page[Subject], error) {
		return c.SubjectsPage(ctx, number, size)
	})
}

// Quirks are the ways in which the server is known to differ from what it says or
// what it was asked for: one line each, to be said once. They only ever become more.
func (c *ExternalAccess) Quirks() []string {
	quirks := c.subjects.said()
	if c.PageSizeRefused() {
		quirks = append(quirks, fmt.Sprintf("it refuses the page size that it was asked for, so pages have %d rows", DefaultPageSize))
	}
	return quirks
}

// PageSizeRefused says whether the server has refused the page size that was
// asked for, so that DefaultPageSize is used instead.
func (c *ExternalAccess) PageSizeRefused() bool { return c.pages.sizeRefused.Load() }

// decodeSubjects leaves the ID of a row empty if it could not be used: one such
// row must not hide the others.
func decodeSubjects(time.Time) rowDecoder[Subject] {
	var id, x509Subject, enabled, updateTime, lastSeenTime text
	return rowDecoder[Subject]{[]field{
		{"subjectId", &id},
		{"x509Subject", &x509Subject},
		{"enabled", &enabled},
		{"updateTime", &updateTime},
		{"lastSeenTime", &lastSeenTime},
	}, func() Subject {
		s := Subject{
			X509Subject: string(x509Subject),
			Enabled:     parseFlag(string(enabled)),
			UpdateTime:  parseTime(string(updateTime)),
			LastSeen:    parseTime(string(lastSeenTime)),
		}
		if UsableID(string(id)) {
			s.ID = string(id)
		}
		return s
	}}
}

// decodeCredentials keeps one certificate of a page (x509CertificateData), that
// of its newest row: they are most of the answer's bytes, and there is no room for
// all of them. A row that claims to be of the future, by the server's clock, is not the
// newest.
func decodeCredentials(clock time.Time, newest *PresentedCertificate) rowDecoder[Credential] {
	var issuer, serialNumber, failed, seenTime text
	var certificate held
	return rowDecoder[Credential]{[]field{
		{"issuer", &issuer},
		{"serialNumber", &serialNumber},
		{"failed", &failed},
		{"seenTime", &seenTime},
		{"x509CertificateData", &certificate},
	}, func() Credential {
		row := Credential{
			Issuer:       string(issuer),
			SerialNumber: string(serialNumber),
			Failed:       parseFlag(string(failed)),
			SeenTime:     parseTime(string(seenTime)),
		}
		future := !clock.IsZero() && row.SeenTime.After(clock.Add(maxClockOffset))
		if future || !row.SeenTime.After(newest.SeenTime) {
			return row
		}
		newest.SeenTime, newest.SerialNumber = row.SeenTime, row.SerialNumber
		newest.raw, certificate = certificate, newest.raw // the older one's room is for the next row's
		return row
	}}
}
