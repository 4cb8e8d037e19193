package ncpclient

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Certificate is a certificate in Certificate Manager.
type Certificate struct {
	ID         string // certificateNo; empty if the row has none that can be used
	Name       string // certificateName
	CommonName string // commonName, or domainAddress of version 1
	Status     CertificateStatus
	// NotAfter is when it expires (notAfter, or validEndDate of version 1); zero
	// if there is no such date. Unreadable says that there is one that cannot be
	// read, or none where there should be.
	NotAfter   time.Time
	Unreadable bool
	// InUse says whether a service uses it (usedInstanceNoList); nil if the answer
	// does not say.
	InUse *bool
}

// CertificateStatus is the state of a certificate (statusCode), by the guide's
// name for it.
type CertificateStatus string

// The states that decide on something here.
const (
	CertificateUnknown CertificateStatus = "unknown"
	CertificateDeleted CertificateStatus = "deleted"
	CertificateRevoked CertificateStatus = "revoke"

	certificateNormal = "normal"
)

// certificateStatuses are the states of the guide. Two codes share a name.
var certificateStatuses = [...]struct { //nolint:gochecknoglobals // a constant in all but syntax
	code string
	name CertificateStatus
}{
	{"0", "ongoing"},
	{"1", certificateNormal},
	{"2", certificateNormal + "_unregistered_private_key"},
	{"3", certificateNormal + "_global_edge_dedicated"},
	{"-1", "failed"},
	{"-2", "expire"},
	{"-3", "validation_failed"},
	{"-4", "validation_expire"},
	{"-5", CertificateRevoked},
	{"-6", CertificateDeleted},
	{"-7", "request_revoke"},
	{"-11", "failed_lint"},
	{"-12", "failed_ct"},
	{"-20", "failed"},
}

// CertificateStatuses are all states, each once.
func CertificateStatuses() []CertificateStatus {
	all := make([]CertificateStatus, 0, len(certificateStatuses))
	for _, s := range certificateStatuses[:len(certificateStatuses)-1] {
		all = append(all, s.name)
	}
	return append(all, CertificateUnknown)
}

// parseCertificateStatus takes the code and, as the guides drift, the name.
func parseCertificateStatus(texts ...string) CertificateStatus {
	words := strings.NewReplacer(" ", "_", "(", "", ")", "", "-", "_")
	for _, text := range texts {
		text = strings.ToLower(strings.TrimSpace(text))
		for _, s := range certificateStatuses {
			if text == s.code || words.Replace(text) == string(s.name) {
				return s.name
			}
		}
	}
	return CertificateUnknown
}

// inventory is how the list of certificates is asked for.
type inventory struct {
	versions []inventoryVersion
	works    atomic.Int32 // the first of them that worked last time
	list     listReader[Certificate]
}

type inventoryVersion struct {
	api   *api
	path  string
	pages *pager
}

// init finds the address of version 1 beside that of version 2. Both share the
// limits of their API.
func (i *inventory) init(a *api) {
	rows, totals := "sslCertificateList", []string{"totalCount", "totalRows"}
	pages := &pager{names: pageNames{page: "page", size: "pageSize", firstUnnamed: true, rows: rows, totals: totals}}
	i.list.pager, i.list.now, i.list.key = pages, a.cfg.Now, func(c Certificate) string { return c.ID }
	v2 := inventoryVersion{a, "certificate/certificates", pages}
	v1 := inventoryVersion{a, "certificates", &pager{names: pageNames{rows: rows, totals: totals}}}
	switch {
	case strings.HasSuffix(a.base.Path, "/v2"):
		v1.path = "../v1/certificates"
		i.versions = []inventoryVersion{v2, v1}
	case strings.HasSuffix(a.base.Path, "/v1"):
		i.versions = []inventoryVersion{v1}
	default:
		i.versions = []inventoryVersion{v2}
	}
}

// Certificates gives all certificates, with pages of so many rows. It asks version
// 2 (GET /certificate/certificates) or, where the key or the site does not allow
// that, version 1 (GET /certificates), which has no pages. See List for what is
// certain, and listReader for how it is read.
func (c *CertificateManager) Certificates(ctx context.Context, size int) (List[Certificate], error) {
	return c.inventory.list.read(size, c.inventory.pagesOf(ctx))
}

// FirstCertificates gives the first page of the certificates, with so many rows.
func (c *CertificateManager) FirstCertificates(ctx context.Context, size int) (Page[Certificate], error) {
	return c.inventory.pagesOf(ctx)(0, size)
}

// pagesOf gives the pages of one read, all of the version that gives the first.
func (i *inventory) pagesOf(ctx context.Context) func(number, size int) (Page[Certificate], error) {
	var v inventoryVersion
	var first Page[Certificate]
	return func(number, size int) (page Page[Certificate], err error) {
		if number > 0 {
			return v.page(ctx, number, size, first)
		}
		for n := i.works.Load(); int(n) < len(i.versions); n++ {
			v = i.versions[n]
			if page, err = v.page(ctx, 0, size, first); err == nil {
				i.works.Store(n)
				break
			}
			i.works.Store(0) // version 2 has another chance
			if !errors.Is(err, ErrMainAccountKey) && !errors.Is(err, ErrPermission) && !errors.Is(err, ErrNotFound) {
				break // it is not about the version
			}
		}
		first = page
		return page, err
	}
}

// page asks for a page. Pages count from 1 when the second is the first again and the
// third is not: then it is no server that repeats its last page.
func (v inventoryVersion) page(ctx context.Context, number, size int, first Page[Certificate]) (Page[Certificate], error) {
	if number > 0 && v.pages.names.page == "" {
		return Page[Certificate]{}, nil // there is one only
	}
	get := func() (Page[Certificate], error) {
		page, err := getPage(ctx, v.api, v.pages, OpCertificates, v.path, number, size, decodeCertificates)
		if isEmptyList(err) {
			return Page[Certificate]{}, nil
		}
		return page, err
	}
	page, err := get()
	isFirst := func() bool { return err == nil && len(page.Rows) > 0 && reflect.DeepEqual(page.Rows, first.Rows) }
	if number != 1 || v.pages.first.Load() == 1 || !isFirst() {
		return page, err
	}
	v.pages.first.Store(1)
	if page, err = get(); isFirst() || err != nil && !errors.Is(err, ErrPageRefused) {
		v.pages.first.Store(0)
	}
	return page, err
}

// Quirks are the ways in which the server's list of certificates is known to differ
// from what it says of it, as those of ExternalAccess.
func (c *CertificateManager) Quirks() []string { return c.inventory.list.said() }

func decodeCertificates(time.Time) rowDecoder[Certificate] {
	var id, name, commonName, domain, code, status, notAfter, validEnd text
	var used inUse
	return rowDecoder[Certificate]{[]field{
		{"certificateNo", &id},
		{"certificateName", &name},
		{"commonName", &commonName},
		{"domainAddress", &domain},
		{"statusCode", &code},
		{"statusName", &status},
		{"notAfter", &notAfter},
		{"validEndDate", &validEnd},
		{"usedInstanceNoList", &used},
	}, func() Certificate {
		c := Certificate{
			Name:       string(name),
			CommonName: cmp.Or(string(commonName), string(domain)),
			Status:     parseCertificateStatus(string(code), string(status)),
			InUse:      used.is,
		}
		if UsableID(string(id)) {
			c.ID = string(id)
		}
		date := cmp.Or(string(notAfter), string(validEnd))
		c.NotAfter = parseDate(date)
		c.Unreadable = c.NotAfter.IsZero() && (strings.TrimSpace(date) != "" || strings.HasPrefix(string(c.Status), certificateNormal))
		return c
	}}
}

// inUse says whether a list, which may come as text, holds anything.
type inUse struct{ is *bool }

func (u *inUse) set(b jsontext.Value) {
	u.is = nil
	if kind := b.Kind(); kind != 'n' && kind != '{' {
		u.is = new(len(bytes.Trim(b, "[]\" \t\r\n")) > 0)
	}
}
