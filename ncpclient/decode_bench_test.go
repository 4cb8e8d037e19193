package ncpclient

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// certificatePage is a page of rows as NCP documents them, with certificates of
// 1.5 kB whose lines end in an escape.
func certificatePage(rows int) []byte {
	certificate := "-----BEGIN CERTIFICATE-----" + strings.Repeat(`\n`+strings.Repeat("M", 64), 23) + `\n-----END CERTIFICATE-----\n`
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"pageNo":0,"totalElements":%d,"pageSize":%d,"content":[`, rows, rows)
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"issuer":"CN=QA_Root_CA, OU=IAM Service, O=NAVER Cloud Corp., L=Seongnam-si, ST=Gyeonggi-do, C=KR","serialNumber":"%d",`+
			`"x509CertificateData":"%s","failed":%t,"seenTime":"2024-12-12T18:09:05.%03d+09:00"}`, 1_000_000+i, certificate, i%2 == 0, i%1000)
	}
	b.WriteString("]}")
	return b.Bytes()
}

func BenchmarkDecodeCredentials(b *testing.B) {
	page := certificatePage(1000)
	resp := &http.Response{StatusCode: http.StatusOK}
	b.SetBytes(int64(len(page)))
	b.ReportAllocs()
	for b.Loop() {
		got, err := decodeHistory(resp, bytes.NewReader(page), 0, 1000)
		if err != nil || len(got.Rows) != 1000 {
			b.Fatalf("%d rows, %v", len(got.Rows), err)
		}
	}
}
