package ncpclient

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

func validFrom() time.Time { return time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC) }
func validTo() time.Time   { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func TestCertificateTexts(t *testing.T) {
	t.Parallel()
	const serial = "99216805457609290"
	leaf := ncptest.NewCertificate(99216805457609290, validFrom(), validTo())
	other := ncptest.NewCertificate(7, validFrom().AddDate(-1, 0, 0), validTo().AddDate(-1, 0, 0))
	block, _ := pem.Decode([]byte(leaf))
	der := block.Bytes
	std := base64.StdEncoding.EncodeToString(der)
	for name, tt := range map[string]struct{ text, serial string }{
		"PEM":                       {leaf, serial},
		"PEM, CRLF":                 {strings.ReplaceAll(leaf, "\n", "\r\n"), serial},
		"PEM, text before":          {"Certificate:\n    Data:\n" + leaf, serial},
		"base64":                    {std, serial},
		"base64, lines":             {std[:64] + "\n" + std[64:128] + "\r\n" + std[128:] + "\n", serial},
		"chain":                     {leaf + other, serial},
		"chain, leaf last":          {other + leaf, serial},
		"chain, masked":             {other + leaf, "******216805457609***"},
		"chain, in hex":             {other + leaf, "01:60:7D:C8:5F:7D:C5:4A"},
		"chain, junk before":        {strings.Replace(other, "MII", "ZZZ", 1) + leaf, ""},
		"a key before":              {"-----BEGIN PRIVATE KEY-----\nMC4CAQ==\n-----END PRIVATE KEY-----\n" + leaf, ""},
		"no serial":                 {leaf, ""},
		"chain, serial of neither":  {leaf + other, "12"},
		"chain, all of it masked":   {leaf + other, "*****"},
		"chain, hardly a digit":     {leaf + other, "**7**"},
		"chain, masked in between":  {leaf + other, "992168**290"},
		"chain, the serial is junk": {leaf + other, "\x00"},
	} {
		if name == "chain, in hex" {
			tt.serial = hexOf(99216805457609290)
		}
		v, err := certificateValidity(tt.text, tt.serial)
		if err != nil || v != (Validity{validFrom(), validTo()}) {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
	for _, junk := range []string{
		"", " ", "{x509CertificateData}", "null", "-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----", "AAAA", "MIIB", "%zz", "%",
		strings.Repeat("A", maxCertificateData), leaf[:len(leaf)/2] + "\x00", leaf + strings.Repeat("A", maxCertificateData),
		"-----BEGIN CERTIFICATE REQUEST-----\n" + std + "\n-----END CERTIFICATE REQUEST-----",
		ncptest.NewCertificate(1, validTo(), validFrom()), // ends before it begins
		std[:100], "30800000", "MIAGCSqGSIb3DQEHAqCAMIACAQExADCABgkqhkiG9w0BBwEAAAAAAAA=",
		// Forms that no document of NCP shows.
		strings.ReplaceAll(leaf, "\n", " "), strings.ReplaceAll(leaf, "\n", `\n`), url.PathEscape(leaf), base64.StdEncoding.EncodeToString([]byte(leaf)),
		strings.Split(leaf, "-----END")[0], strings.ReplaceAll(leaf, "CERTIFICATE", "TRUSTED CERTIFICATE"), hex.EncodeToString(der),
	} {
		if v, err := certificateValidity(junk, serial); !errors.Is(err, ErrUnreadableCertificate) {
			t.Errorf("%.60q: %v, %v", junk, v, err)
		}
	}
}

func hexOf(serial int64) string {
	var b strings.Builder
	for i, c := range fmt.Sprintf("%016X", serial) {
		if i > 0 && i%2 == 0 {
			b.WriteByte(':')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// A chain is issuers of issuers: the leaf is the one that issued no other.
func TestTheLeafOfAChain(t *testing.T) {
	t.Parallel()
	leaf := &tbsCertificate{SerialNumber: big.NewInt(1)}
	leaf.Subject.FullBytes, leaf.Issuer.FullBytes = []byte("leaf"), []byte("middle")
	if sameSerial(leaf.SerialNumber, "") || sameSerial(leaf.SerialNumber, "0x") || !sameSerial(leaf.SerialNumber, "0x01") {
		t.Error("a serial number is taken for another")
	}
	demo := ncptest.NewDemo(ncptest.Config{})
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = demo.Close() }()
	page, err := demoPage(t, demo)
	if err != nil || page.Presented == nil {
		t.Fatal(err)
	}
	if v, err := page.Presented.Validity(); err != nil || v.NotAfter.Before(time.Now()) {
		t.Errorf("%v, %v", v, err)
	}
	if text := fmt.Sprintf("%v %s %+v", page.Presented, page.Presented, page); strings.Contains(text, "BEGIN") {
		t.Errorf("a certificate is printed: %s", text)
	}
}

// demoPage is the first history of a demo.
func demoPage(t *testing.T, demo *ncptest.Demo) (CredentialsPage, error) {
	t.Helper()
	api := externalAccessAt(t, demo.URL())
	subjects, err := api.SubjectsPage(t.Context(), 0, 20)
	if err != nil {
		t.Fatal(err)
	}
	return api.CredentialsPage(t.Context(), subjects.Rows[0].ID, 0, 100)
}

// The certificate of the newest row is kept, wherever on the page that stands.
func TestTheNewestCertificateOfAPage(t *testing.T) {
	t.Parallel()
	row := func(minute int, serial int64, seen string) string {
		cert, err := json.Marshal(ncptest.NewCertificate(serial, validFrom(), validTo().Add(time.Duration(serial)*time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
		if seen == "" {
			seen = fmt.Sprintf("2024-12-12T18:%02d:05+09:00", minute)
		}
		return fmt.Sprintf(`{"serialNumber":"%d","x509CertificateData":%s,"seenTime":%q}`, serial, cert, seen)
	}
	for name, rows := range map[string]string{
		"newest first": row(9, 3, "") + "," + row(8, 2, "") + "," + row(7, 1, ""),
		"oldest first": row(7, 1, "") + "," + row(8, 2, "") + "," + row(9, 3, ""),
		"no order":     row(8, 2, "") + "," + row(9, 3, "") + "," + row(7, 1, ""),
		"a tie":        row(9, 3, "") + "," + row(9, 2, ""),
		"no time":      row(9, 3, "") + "," + row(0, 2, "yesterday"),
		"the future":   row(9, 3, "") + "," + row(0, 2, "2024-12-13T18:09:05+09:00"),
		"no row":       `1,null,"x",` + row(9, 3, ""),
	} {
		resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Date": {"Thu, 12 Dec 2024 09:10:00 GMT"}}}
		page, err := decodeHistory(resp, strings.NewReader(rowsOf(rows)), 0, 20)
		if err != nil || page.Presented == nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		v, err := page.Presented.Validity()
		if err != nil || page.Presented.SerialNumber != "3" || !v.NotAfter.Equal(validTo().Add(3*time.Hour)) {
			t.Errorf("%s: %s, %v, %v", name, page.Presented.SerialNumber, v, err)
		}
	}
	resp := &http.Response{StatusCode: http.StatusOK}
	// All of a long chain is looked at, and only what is far longer is not.
	long, err := json.Marshal(strings.Repeat("Certificate:\n", 2000) + ncptest.NewCertificate(3, validFrom(), validTo()))
	if err != nil {
		t.Fatal(err)
	}
	page, err := decodeHistory(resp, strings.NewReader(rowsOf(`{"seenTime":"2024-12-12T18:09:05Z","x509CertificateData":`+string(long)+`}`)), 0, 20)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := page.Presented.Validity(); err != nil || !v.NotAfter.Equal(validTo()) {
		t.Errorf("a text of %d bytes: %v, %v", len(long), v, err)
	}
	for _, rows := range []string{"", "1", `{"x509CertificateData":"x"}`, `{"seenTime":"x"}`} {
		if page, err := decodeHistory(resp, strings.NewReader(`{"totalElements":0,"content":[`+rows+`]}`), 1, 20); err != nil || page.Presented != nil {
			t.Errorf("%s: %v, %v", rows, page.Presented, err)
		}
	}
	for _, cert := range []string{`null`, `1`, `{}`, `[]`, `""`, `"\ud800"`, `"` + strings.Repeat("A", 200_000) + `"`} {
		page, err := decodeHistory(resp, strings.NewReader(rowsOf(`{"seenTime":"2024-12-12T18:09:05Z","x509CertificateData":`+cert+`}`)), 0, 20)
		if err != nil || page.Presented == nil {
			t.Errorf("%.40s: %v", cert, err)
			continue
		}
		if v, err := page.Presented.Validity(); !errors.Is(err, ErrUnreadableCertificate) {
			t.Errorf("%.40s: %v, %v", cert, v, err)
		}
	}
}

// A page of a thousand rows holds one certificate, or two at a time.
func TestAPageHoldsOneCertificate(t *testing.T) {
	t.Parallel()
	page := bytes.ReplaceAll(certificatePage(1000), []byte(strings.Repeat("M", 64)), []byte(strings.Repeat("M", 2000)))
	got, err := decodeHistory(&http.Response{StatusCode: http.StatusOK}, bytes.NewReader(page), 0, 1000)
	if err != nil || len(got.Rows) != 1000 || cap(got.Presented.raw) > 2*maxCertificateData {
		t.Errorf("%d rows, %d bytes, %v", len(got.Rows), cap(got.Presented.raw), err)
	}
}

func FuzzCertificateValidity(f *testing.F) {
	leaf := ncptest.NewCertificate(99216805457609290, validFrom(), validTo())
	block, _ := pem.Decode([]byte(leaf))
	for _, seed := range []string{leaf, leaf + leaf, base64.StdEncoding.EncodeToString(block.Bytes), url.PathEscape(leaf), "{x509CertificateData}", "", "%", "-----BEGIN CERTIFICATE-----", "MIIB"} {
		f.Add(seed, "99216805457609290")
		f.Add(seed, "***2168054***")
	}
	f.Fuzz(func(t *testing.T, text, serial string) {
		v, err := certificateValidity(text, serial)
		switch {
		case err != nil && (!errors.Is(err, ErrUnreadableCertificate) || v != Validity{}):
			t.Fatalf("%v, %v", v, err)
		case err == nil && (v.NotAfter.Before(v.NotBefore) || v.NotAfter.Unix() <= 0 || v.NotAfter.Location() != time.UTC):
			t.Fatalf("%q: %v", text, v)
		}
	})
}
