package ncptest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
)

// TrustAnchor is a row of the list of trust anchors. Times go out as they are;
// "" is null.
type TrustAnchor struct {
	ID       string
	Name     string
	Enabled  bool
	NotAfter string
	CRLs     []CRL
	// Raw, if set, is the row as it goes out, whatever the other fields say.
	Raw json.RawMessage
}

// CRL is a row of a trust anchor's lists of revoked certificates. Its fields are
// made up: no document tells them.
type CRL struct {
	ID         string
	Enabled    bool
	NextUpdate string
	Raw        json.RawMessage
}

// SetTrustAnchors replaces all trust anchors.
func (s *Server) SetTrustAnchors(anchors ...TrustAnchor) {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	s.account.anchors = slices.Clone(anchors)
}

// list answers the operations whose answer is a bare array.
func (ex *exchange) list(w http.ResponseWriter, r *http.Request) {
	account := &ex.server.account
	account.mu.RLock()
	anchors := account.anchors
	account.mu.RUnlock()
	var rows [][]byte
	if ex.route.op == TrustAnchors {
		for i := range anchors {
			rows = append(rows, anchors[i].row())
		}
	} else {
		i := slices.IndexFunc(anchors, func(a TrustAnchor) bool { return a.ID == ex.route.anchorID })
		if i < 0 {
			SpringError(http.StatusNotFound, "COMMON_404", "The trust anchor does not exist.").ServeHTTP(w, r)
			return
		}
		for _, crl := range anchors[i].CRLs {
			rows = append(rows, crl.row())
		}
	}
	ex.send(w, func(b []byte) []byte { return appendArray(b, rows) })
}

func appendArray(b []byte, rows [][]byte) []byte {
	b = append(b, '[')
	b = append(b, bytes.Join(rows, []byte{','})...)
	return append(b, ']')
}

func (a *TrustAnchor) row() []byte {
	return rowOf(a.Raw, map[string]any{
		"trustAnchorId":  a.ID,
		"trustAnchorNrn": "nrn:PUB:ExternalAccess:KR:2600042:TrustAnchor/" + a.ID,
		"name":           a.Name,
		"enabled":        a.Enabled,
		"source": map[string]any{
			"sourceType": "CERTIFICATE_BUNDLE",
			"sourceData": map[string]any{"x509CertificateData": "{x509CertificateData}", "notAfterDate": orNull(a.NotAfter)},
		},
	})
}

func (c *CRL) row() []byte {
	return rowOf(c.Raw, map[string]any{"crlId": c.ID, "enabled": c.Enabled, "nextUpdate": orNull(c.NextUpdate)})
}

// rowOf is a row in JSON: as it was given, or as it is made.
func rowOf(raw json.RawMessage, made map[string]any) []byte {
	if raw != nil {
		return raw
	}
	row, err := json.Marshal(made)
	if err != nil { // cannot be: it holds texts and truths alone
		return []byte("null")
	}
	return row
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}
