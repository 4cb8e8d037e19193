package ncpclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// ExternalAccess is a client of the External Access API.
type ExternalAccess struct {
	api *api
	// sizeRefused is set once the server has refused a page size that was
	// larger than DefaultPageSize.
	sizeRefused atomic.Bool
}

// NewExternalAccess makes a client of the External Access API at cfg.BaseURL.
func NewExternalAccess(cfg Config) (*ExternalAccess, error) {
	a, err := newAPI(APIExternalAccess, cfg)
	if err != nil {
		return nil, err
	}
	return &ExternalAccess{api: a}, nil
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
	return getPage(ctx, c, OpSubjects, []string{"subjects"}, number, size, decodeSubjects)
}

// CredentialsPage asks for one page of a subject's authentications (GET
// /subjects/{subjectId}/credentials). A first page that the server refuses for
// its size is asked for again with DefaultPageSize.
func (c *ExternalAccess) CredentialsPage(ctx context.Context, subjectID string, number, size int) (Page[Credential], error) {
	if !UsableID(subjectID) {
		return Page[Credential]{}, fmt.Errorf("%q cannot be a subject id", cleanText(subjectID, maxToken))
	}
	return getPage(ctx, c, OpCredentials, []string{"subjects", subjectID, "credentials"}, number, size, decodeCredentials)
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
func (c *ExternalAccess) PageSizeRefused() bool { return c.sizeRefused.Load() }

func getPage[T any](ctx context.Context, c *ExternalAccess, op Operation, path []string, number, size int, rows func() rowDecoder[T]) (Page[T], error) {
	if number < 0 || size < 1 {
		return Page[T]{}, fmt.Errorf("page %d with %d rows cannot be asked for: pages count from 0 and hold at least 1 row", number, size)
	}
	get := func(size int) (page Page[T], err error) {
		query := url.Values{"page": {strconv.Itoa(number)}, "size": {strconv.Itoa(size)}}
		err = c.api.get(ctx, op, path, query, func(resp *http.Response, body io.Reader) (err error) {
			page, err = decodePage(resp, body, number, size, rows())
			return err
		})
		return page, err
	}
	// Only the first page may change the size: later pages are counted in it.
	mayFallBack := number == 0 && size > DefaultPageSize
	if mayFallBack && c.sizeRefused.Load() {
		return get(DefaultPageSize)
	}
	page, err := get(size)
	var e *Error
	if !mayFallBack || !errors.As(err, &e) || e.Status != http.StatusBadRequest {
		return page, err
	}
	// A 400 may be about the size or about anything else (an unknown subject):
	// only if the smaller page comes it was the size.
	smaller, smallerErr := get(DefaultPageSize)
	if smallerErr != nil {
		return page, err
	}
	c.sizeRefused.Store(true)
	return smaller, nil
}

// minPageRows is how many rows a page may have even if far fewer were asked for:
// a server may not know of the size. Small rows take far more memory than they
// took on the wire, and ten such pages may come at one time.
const minPageRows = 20_000

func decodePage[T any](resp *http.Response, body io.Reader, number, size int, row rowDecoder[T]) (Page[T], error) {
	page := Page[T]{Number: number, Size: size, Total: unknownCount}
	// A million rows do not fit into the largest answer that is read, and ten
	// times as many with their text still fit into 32 bits.
	left := newRowBudget(max(minPageRows, 10*min(size, 1_000_000)))
	page.Date, _ = http.ParseTime(resp.Header.Get("Date"))
	members, err := decodeObject(body, map[string]func(*jsontext.Decoder) error{
		"content": func(d *jsontext.Decoder) error {
			return row(d, left, &page)
		},
	})
	if err != nil {
		return Page[T]{}, err
	}
	if err := checkEnvelope(resp, members, false); err != nil {
		return Page[T]{}, err
	}
	var total, pageNo, pageSize integer = unknownCount, unknownCount, unknownCount
	for name, field := range map[string]*integer{"totalElements": &total, "pageNo": &pageNo, "pageSize": &pageSize} {
		if raw, ok := members[name]; ok {
			_ = field.UnmarshalJSON(raw)
		}
	}
	content, hasContent := members["content"]
	switch {
	case (!hasContent || string(content) == "null") && total != 0:
		// An error envelope, or anything else: never an empty list.
		return Page[T]{}, refusal(resp, members, errors.New("the answer is not a page"))
	case total > 0 && number == 0 && len(page.Rows) == 0:
		return Page[T]{}, fmt.Errorf("totalElements is %d, but the first page has no rows", total)
	case pageNo != unknownCount && int(pageNo) != number:
		return Page[T]{}, fmt.Errorf("page %d was asked for, but page %d came", number, pageNo)
	}
	page.Total = int(total)
	if pageSize > 0 {
		page.Size = int(pageSize)
	}
	if n := len(page.Rows); n > 0 && n < page.Size && number == 0 && n < page.Total {
		page.Size = n // the server clamps without saying so
	}
	return page, nil
}

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
