package ncpclient

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// TrustAnchor is a certificate authority whose certificates log in.
type TrustAnchor struct {
	ID       string // empty if the row has none that can be used
	Name     string
	Enabled  *bool     // nil if the answer does not say
	NotAfter time.Time // source.sourceData.notAfterDate; zero if it cannot be read
}

// CRL is a list of revoked certificates of a trust anchor.
type CRL struct {
	Enabled    *bool     // nil if the answer does not say
	NextUpdate time.Time // zero if it cannot be read
}

// maxListed bounds a list that has no pages: people put there by hand what it holds.
const maxListed = 10_000

// TrustAnchors asks for all trust anchors (GET /trust-anchors).
func (c *ExternalAccess) TrustAnchors(ctx context.Context) ([]TrustAnchor, error) {
	return getList(ctx, c.api, OpTrustAnchors, "trust-anchors", func(row leaves) TrustAnchor {
		name := cmp.Or(row["/name"], row["/trustanchorname"])
		anchor := TrustAnchor{
			Name:     cutText([]byte(name), name),
			Enabled:  parseFlag(row["/enabled"]),
			NotAfter: parseDate(cmp.Or(row["/source/sourcedata/notafterdate"], row["/notafterdate"], row["/source/notafterdate"])),
		}
		if id := cmp.Or(row["/trustanchorid"], row["/id"]); UsableID(id) {
			anchor.ID = id
		}
		if anchor.NotAfter.IsZero() {
			// Not documented, but what the expiry date is of.
			v, _ := certificateValidity(row["/source/sourcedata/x509certificatedata"], "")
			anchor.NotAfter = v.NotAfter
		}
		return anchor
	})
}

// CRLs asks for the lists of revoked certificates of a trust anchor (GET
// /trust-anchors/{id}/crls). No field of them is documented: the earliest date
// whose name says that it is of the next update is taken, or else what the list
// itself says.
func (c *ExternalAccess) CRLs(ctx context.Context, trustAnchorID string) ([]CRL, error) {
	if !UsableID(trustAnchorID) {
		return nil, fmt.Errorf("%q cannot be a trust anchor's id", cleanText(trustAnchorID, maxToken))
	}
	return getList(ctx, c.api, OpCRLs, "trust-anchors/"+url.PathEscape(trustAnchorID)+"/crls", func(row leaves) CRL {
		crl := CRL{Enabled: parseFlag(row["/enabled"])}
		for name, value := range row {
			last := name[strings.LastIndexByte(name, '/')+1:]
			if strings.HasPrefix(last, "nextupdate") {
				crl.NextUpdate = earlier(crl.NextUpdate, parseDate(value))
			}
		}
		if !crl.NextUpdate.IsZero() {
			return crl
		}
		for _, value := range row {
			if len(value) > maxDate {
				crl.NextUpdate = earlier(crl.NextUpdate, nextUpdateIn(value))
			}
		}
		return crl
	})
}

// earlier is the first of two times. The zero time is none. What it gives does not
// depend on the order in which the members of a row are looked at.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// getList calls an operation that answers with a bare array.
func getList[T any](ctx context.Context, a *api, op Operation, path string, read func(leaves) T) (rows []T, err error) {
	err = a.get(ctx, op, path, nil, func(resp *http.Response, body io.Reader) error {
		rows = nil
		left := newRowBudget(maxListed)
		return decodeList(resp, body, func(d *jsontext.Decoder) error {
			raw, err := d.ReadValue()
			if err != nil {
				return err
			}
			if err := left.take(min(len(raw), maxText)); err != nil {
				return err
			}
			rows = append(rows, read(leavesOf(raw)))
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// leaves are the strings, numbers, truths and arrays of a value, wherever in its
// objects they stand, by their JSON pointer in lower case: for answers of which
// little is known.
type leaves map[string]string

const maxLeaves = 200 // of one row

// leavesOf takes a value that is valid JSON.
func leavesOf(raw jsontext.Value) leaves {
	row := make(leaves)
	d := jsontext.NewDecoder(bytes.NewReader(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for len(row) < maxLeaves {
		switch d.PeekKind() {
		case '{', '}', 'n':
			_, _ = d.ReadToken()
		case '"', '0', 't', 'f', '[':
			value, _ := d.ReadValue()
			if at, length := d.StackIndex(d.StackDepth()); at == '{' && length%2 == 1 {
				continue // the name of a member
			}
			row[strings.ToLower(string(d.StackPointer()))] = unquote(value)
		default:
			return row // the end
		}
	}
	return row
}
