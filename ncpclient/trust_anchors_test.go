package ncpclient

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ncp_exporter/ncpclient/ncptest"
)

func TestLists(t *testing.T) {
	t.Parallel()
	at := time.Date(2034, 12, 31, 9, 9, 5, 705e6, time.UTC)
	row := `{"trustAnchorId":"a","name":"n","enabled":true,"source":{"sourceType":"X","sourceData":{"x509CertificateData":"x","notAfterDate":"2034-12-31T18:09:05.705+09:00"}}}`
	anchor := TrustAnchor{ID: "a", Name: "n", Enabled: ptr(true), NotAfter: at}
	pemRow, err := json.Marshal(map[string]any{"id": "p", "source": map[string]any{"sourceData": map[string]any{"x509CertificateData": ncptest.NewCertificate(1, validFrom(), validTo())}}})
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string][]TrustAnchor{
		`[]`: nil, `null`: nil, `{"content":[]}`: nil, `{"content":null}`: nil, `{"returnCode":"0","content":[]}`: nil,
		`[` + row + `]`: {anchor},
		`{"totalElements":1,"content":[` + row + `]}`:                         {anchor},
		`[null,1,"x",[],[{}],{},{"source":[]},{"source":{"sourceData":"x"}}]`: {{}, {}, {}, {}, {}, {}, {}, {}},
		`[{"TRUSTANCHORID":1,"Enabled":"false","name":null}]`:                 {{ID: "1", Enabled: ptr(false)}},
		`[{"trustAnchorId":"..","name":"` + strings.Repeat("x", 1000) + `"}]`: {{Name: strings.Repeat("x", 1000)}},
		`[{"a":{"trustAnchorId":"no"},"x":[{"name":"no"}]}]`:                  {{}},
		`[` + string(pemRow) + `]`:                                            {{ID: "p", NotAfter: validTo()}},
	} {
		sim := simulated(t, ncptest.Config{})
		sim.SetFault(ncptest.Always(ncptest.Raw(200, "application/json", body)))
		got, err := externalAccessAt(t, sim.URL()).TrustAnchors(t.Context())
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%.80s: %v, %s", body, err, diff)
		}
	}
	for body, reason := range map[string]Reason{
		`{}`: ErrMalformedAnswer, ``: ErrMalformedAnswer, `1`: ErrMalformedAnswer, `"x"`: ErrMalformedAnswer, `[1`: ErrMalformedAnswer, `[] []`: ErrMalformedAnswer, `[1,]`: ErrMalformedAnswer,
		`{"error":{"errorCode":"210","message":"no"}}`: ErrRefused, `{"returnCode":"2000","content":[]}`: ErrRefused, `<html>`: ErrMalformedAnswer,
		`[` + strings.Repeat(`1,`, maxListed) + `1]`: ErrTooLarge, `[` + strings.Repeat("1", 8*maxValue) + `]`: ErrTooLarge,
	} {
		sim := simulated(t, ncptest.Config{})
		sim.SetFault(ncptest.Always(ncptest.Raw(200, "application/json", body)))
		_, err := externalAccessAt(t, sim.URL()).TrustAnchors(t.Context())
		if wantReason(t, err, reason); err == nil {
			t.Errorf("%.80s: taken", body)
		}
	}
	// One hostile row has no more leaves than others.
	many := leavesOf([]byte(`{"a":` + strings.Repeat(`{"x":1,"a":`, 5000) + `1` + strings.Repeat(`}`, 5000) + `}`))
	if len(many) > maxLeaves {
		t.Errorf("%d leaves", len(many))
	}
}

func TestCRLs(t *testing.T) {
	t.Parallel()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	crl := func(nextUpdate time.Time) (der, asPEM []byte) {
		der, err := x509.CreateRevocationList(nil, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: validFrom(), NextUpdate: nextUpdate},
			&x509.Certificate{KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}, key)
		if err != nil {
			t.Fatal(err)
		}
		asPEM, err = json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})))
		if err != nil {
			t.Fatal(err)
		}
		return der, asPEM
	}
	der, asPEM := crl(validTo())
	_, laterPEM := crl(validTo().AddDate(1, 0, 0))
	for row, want := range map[string]CRL{
		`{"crlId":"1","enabled":true,"nextUpdate":"2026-01-02T03:04:05Z"}`:                      {ptr(true), validTo()},
		`{"source":{"sourceData":{"NextUpdateDate":"2026-01-02 12:04:05"}},"enabled":false}`:    {ptr(false), validTo()},
		`{"nextUpdate":"2026-01-02T03:04:05Z","nextUpdateTime":"2027-01-02T03:04:05Z"}`:         {nil, validTo()},
		`{"a":` + string(asPEM) + `,"b":` + string(laterPEM) + `,"c":` + string(laterPEM) + `}`: {nil, validTo()}, // always the earliest
		`{"anything":` + string(asPEM) + `}`:                                                    {nil, validTo()},
		`{"crlData":"` + base64.StdEncoding.EncodeToString(der) + `","nextUpdate":null}`:        {nil, validTo()},
		`{"crlData":"` + base64.StdEncoding.EncodeToString(der[:60]) + `","nextUpdate":"soon"}`: {},
		`{"nrn":"` + strings.Repeat("A", 100) + `"}`:                                            {},
		`null`: {}, `1`: {}, `{}`: {},
	} {
		sim := simulated(t, ncptest.Config{})
		sim.SetTrustAnchors(ncptest.TrustAnchor{ID: "a/b", CRLs: []ncptest.CRL{{Raw: json.RawMessage(row)}}})
		got, err := externalAccessAt(t, sim.URL()).CRLs(t.Context(), "a/b")
		if diff := cmp.Diff([]CRL{want}, got); diff != "" || err != nil {
			t.Errorf("%.80s: %v, %s", row, err, diff)
		}
	}
	sim := simulated(t, ncptest.Config{})
	api := externalAccessAt(t, sim.URL())
	if _, err := api.CRLs(t.Context(), "nobody"); err == nil {
		t.Error("the CRLs of nobody are there")
	} else {
		wantReason(t, err, ErrNotFound)
	}
	if _, err := api.CRLs(t.Context(), ".."); err == nil || len(sim.Requests()) != 1 {
		t.Errorf("an id that leads elsewhere was asked for: %v", err)
	}
}
