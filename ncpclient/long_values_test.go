package ncpclient

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"ncp_exporter/ncpclient/ncptest"
)

// A value of a megabyte hides neither its own row nor those beside it, nor what
// stands behind it in its row.
func TestLongValuesHideNothing(t *testing.T) { //nolint:cyclop // one story, told from its begin to its end
	t.Parallel()
	for name, long := range map[string]string{
		"plain":      strings.Repeat("x", 1<<20),
		"escapes":    strings.Repeat(`\"\\\u0041\n`, 1<<17),
		"Korean":     strings.Repeat("한", 1<<18),
		"surrogates": strings.Repeat(`\ud83d\ude00`, 1<<17),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const before, after = `{"issuer":"a","serialNumber":"1","failed":true,"seenTime":"2024-12-12T18:09:05Z"}`, `{"issuer":"z","serialNumber":"2","failed":false,"seenTime":"2024-12-12T18:09:06Z"}`
			for _, member := range []string{"issuer", "serialNumber", "seenTime", "x509CertificateData", "unknown", "failed"} {
				row := fmt.Sprintf(`{"issuer":"i","serialNumber":"3","failed":true,%q:"%s","failed":false}`, member, long)
				page, err := decodeHistory(&http.Response{StatusCode: http.StatusOK}, strings.NewReader(`{"totalElements":3,"content":[`+before+","+row+","+after+`]}`), 0, 20)
				if err != nil || len(page.Rows) != 3 || page.Rows[0].Issuer != "a" || page.Rows[2].Issuer != "z" {
					t.Fatalf("%s: %d rows, %v", member, len(page.Rows), err)
				}
				got := page.Rows[1]
				if got.Failed == nil || *got.Failed || len(got.Issuer) > maxText || len(got.SerialNumber) > maxText || member != "issuer" && got.Issuer != "i" {
					t.Errorf("%s: what stands behind it is not read, or it is not cut: %d bytes", member, len(got.Issuer)+len(got.SerialNumber))
				}
			}
			// One name, one status, one member beside the rows.
			changes, err := decodeRecentChanges(&http.Response{StatusCode: http.StatusOK}, strings.NewReader(
				`{"returnMessage":"`+long+`","orders":[{"`+long+`":1,"orderId":1,"certificateId":2,"status":"`+long+`"},{"orderId":1,"certificateId":3,"status":"Validation timed out"}],"`+long+`":"`+long+`","returnCode":"0"}`))
			if err != nil || len(changes) != 2 || changes[0].CertificateID != "2" || changes[1].Status != StatusValidationTimedOut {
				t.Errorf("%v, %v", changes, err)
			}
			anchors := simulated(t, ncptest.Config{})
			anchors.SetFault(ncptest.Always(ncptest.Raw(200, "application/json",
				`[{"trustAnchorId":"a","name":"`+long+`","x":["`+long+`"],"enabled":true,"source":{"sourceData":{"notAfterDate":"2026-01-02T03:04:05Z"}}},{"trustAnchorId":"b"}]`)))
			rows, err := externalAccessAt(t, anchors.URL()).TrustAnchors(t.Context())
			if err != nil || len(rows) != 2 || !rows[0].NotAfter.Equal(validTo()) || rows[0].Enabled == nil || len(rows[0].Name) > maxText || rows[1].ID != "b" {
				t.Errorf("%d anchors, %v", len(rows), err)
			}
		})
	}
}

// Rows are told apart by their issuer: two long ones that differ anywhere stay two,
// and one is the same each time, in whatever pieces it comes.
func TestLongValuesStayDistinct(t *testing.T) {
	t.Parallel()
	issuer := func(t *rapid.T, content string, pieces int, padding string) string {
		body := io.Reader(strings.NewReader(`{"content":[{"padding":[` + padding + `0],"issuer":"` + content + `"}]}`))
		switch pieces {
		case 1:
			body = iotest.HalfReader(body)
		case 2:
			body = &chunks{r: body, size: 1 << 16}
		case 3:
			body = &chunks{r: body, size: 1000}
		}
		page, err := decodeHistory(&http.Response{StatusCode: http.StatusOK}, body, 0, 20)
		if err != nil || len(page.Rows) != 1 || len(page.Rows[0].Issuer) > maxText {
			t.Fatalf("%d rows, %v", len(page.Rows), err)
		}
		return page.Rows[0].Issuer
	}
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.SampledFrom([]int{2, maxText - 2, maxText, 5 << 10, maxPassed, maxPassed + 1, maxValue - 100, maxValue, maxValue + 100, 2 * maxValue}).Draw(t, "length")
		unit := rapid.SampledFrom([]string{"x", `\n`, `\u0041`, `\ud55c`, `\\`, "한"}).Draw(t, "unit")
		content := strings.Repeat(unit, length/len(unit)+1)
		at := rapid.IntRange(0, len(content)/len(unit)-1).Draw(t, "at") * len(unit)
		other := content[:at] + "y" + content[at+len(unit):]
		one := issuer(t, content, rapid.IntRange(0, 3).Draw(t, "pieces"), "")
		again := issuer(t, content, rapid.IntRange(0, 3).Draw(t, "other pieces"), strings.Repeat("0,", rapid.IntRange(0, 1000).Draw(t, "padding")))
		if one != again {
			t.Fatalf("%d bytes of %s are not the same twice: %.20q... and %.20q...", len(content), unit, one[len(one)-min(40, len(one)):], again[len(again)-min(40, len(again)):])
		}
		if two := issuer(t, other, rapid.IntRange(0, 3).Draw(t, "pieces of the other"), ""); one == two {
			t.Fatalf("%d bytes of %s became equal to others that differ at %d", len(content), unit, at)
		}
	})
}

// chunks gives what it reads in pieces of one size.
type chunks struct {
	r    io.Reader
	size int
}

func (c *chunks) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), c.size)]) }

// What cutReader gives is JSON whenever what it reads is, and is all of it where
// nothing is long.
func FuzzCutReader(f *testing.F) {
	for _, seed := range []string{`{"a":"b"}`, `["\\","\"","\u12aF","x\ud83d\ude00"]`, `"`, `"\`, `"\u00`, `{"a":["b",{"c":"\n\n\n\n\n\n\n\n"}]}`} {
		f.Add([]byte(seed), 3, 2)
	}
	f.Fuzz(func(t *testing.T, body []byte, most, piece int) {
		most, piece = max(0, min(most, 100)), max(1, min(piece, 100))
		state := stringState{sum: sha256.New()}
		var got []byte
		for rest := body; len(rest) > 0; {
			n := min(piece, len(rest))
			got = state.cut(got, rest[:n], most)
			rest = rest[n:]
		}
		if json.Valid(body) && !json.Valid(got) {
			t.Fatalf("%q became %q", body, got)
		}
		if !bytes.Contains(got, []byte(cutMark)) && !state.dropping && !bytes.Equal(got, body) {
			t.Fatalf("%q became %q without a mark", body, got)
		}
	})
}
