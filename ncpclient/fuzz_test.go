package ncpclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"ncp_exporter/ncpclient/ncptest"
)

func FuzzParseTime(f *testing.F) {
	for _, seed := range []string{
		"2024-12-12T18:09:05.705+09:00", "2024-12-12T09:09:05Z", "2024-12-12 18:09:05 +0900", "2024-12-12T18:09:05", "2024-12-12T18:09+09",
		"2024-12-12t18:09:05,7z", "2024-12-12T18:09:05+09:00[Asia/Seoul]", "1733994545", "1733994545705", "-1733994545", "", "null", "[]",
		"0001-01-01T00:00:00Z", "2024-02-30T00:00:00Z", "2024-12-31T23:59:60Z",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := parseTime(s)
		if got.IsZero() {
			return
		}
		if got.Location() != time.UTC || got.Year() < minYear || got.Year() > maxTimeYear {
			t.Fatalf("%q: %s", s, got)
		}
		if again := parseTime(got.Format(time.RFC3339Nano)); !again.Equal(got) {
			t.Fatalf("%q: %s, and read again %s", s, got, again)
		}
	})
}

func FuzzParseProfiles(f *testing.F) {
	for _, seed := range []string{
		twoProfiles, "", "\ufeff[x]\r\nncloud_access_key_id=a\r\n", "ncloud_secret_access_key = a=b==", "[", "]", "[]", "[[x]]", "=", "#", ";[x]", "[x", "x]",
		"[a]\n[a]\nncloud_access_key_id", "\x00", "[\xff]\nncloud_access_key_id=\xff", "\r\r\r", "NCLOUD_ACCESS_KEY_ID=\t",
	} {
		f.Add(seed, "DEFAULT")
	}
	f.Fuzz(func(t *testing.T, content, profile string) {
		for name, keys := range parseProfiles(content) {
			if strings.ContainsAny(name+keys.AccessKey+keys.SecretKey, "\n") || strings.TrimSpace(keys.AccessKey) != keys.AccessKey {
				t.Fatalf("profile %q holds what is not in one line", name)
			}
			if !strings.Contains(content, keys.AccessKey) || !strings.Contains(content, keys.SecretKey) {
				t.Fatalf("profile %q holds what is not in the file", name)
			}
		}
		keys, err := profileKeys(content, profile)
		if (err == nil) != (keys.AccessKey != "" && keys.SecretKey != "") {
			t.Fatalf("half a pair: %v", err)
		}
		if err == nil {
			// What is taken for keys can be sent.
			r := &http.Request{Header: http.Header{}}
			r.Header.Set(headerAccessKey, keys.AccessKey)
			if err := r.Header.Write(&bytes.Buffer{}); err != nil || keys.check() != nil {
				t.Fatal("keys that cannot be sent")
			}
			return
		}
		if text := err.Error(); strings.ContainsAny(text, "\n\r\x00") || !utf8.ValidString(text) {
			t.Fatalf("not one line: %q", text)
		}
	})
}

// checkAnswerError says that an answer that was refused is refused for a
// reason, in one line.
func checkAnswerError(t *testing.T, resp *http.Response, err error) {
	t.Helper()
	e := newDecodeError(resp, err)
	if e.Reason != ErrMalformedAnswer && e.Reason != ErrRefused && e.Reason != ErrTooLarge {
		t.Fatalf("reason %q", e.Reason)
	}
	if text := e.Error(); strings.ContainsAny(text, "\n\r\x00") || !utf8.ValidString(text) || len(text) > 2000 {
		t.Fatalf("not one line: %q", text)
	}
	if errors.Is(err, ErrMalformedAnswer) && e.Code != "" {
		t.Fatalf("a code, and yet no envelope: %v", e)
	}
}

func FuzzDecodeRecentChanges(f *testing.F) {
	f.Add(ncptest.DocumentedRecentChanges())
	for _, seed := range []string{
		noChanges, "", "{}", "null", "[]", `{"returnCode":0,"orders":null}`, `{"returnCode":"0","totalCount":1}`, `{"returnCode":"9","returnMessage":"x"}`,
		`{"returnCode":"0","orders":[{"orderId":1234567890123456789,"certificateId":"x","status":" ONGOING "},null]}`,
		`{"orders":[[[]]],"returnCode":"0"}`, "\ufeff{}", `{"error":{"errorCode":"210"}}`, `{"returnCode":"0","orders":[{"orderId":"a\u0000","certificateId":2}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		resp := answer(nil, 200, "")
		defer func() { _ = resp.Body.Close() }()
		changes, err := decodeRecentChanges(resp, bytes.NewReader(body))
		if err != nil {
			checkAnswerError(t, resp, err)
			return
		}
		if !json.Valid(bytes.TrimPrefix(body, []byte(utf8BOM))) {
			t.Fatalf("not JSON, and yet taken: %q", body)
		}
		for _, c := range changes {
			usable := UsableID(c.OrderID) && UsableID(c.CertificateID)
			none := c.OrderID == "" && c.CertificateID == ""
			if !usable && !none || c.Status == "" {
				t.Fatalf("%+v", c)
			}
		}
	})
}

func FuzzDecodePage(f *testing.F) {
	f.Add(ncptest.DocumentedCredentials(), 0, 20)
	for _, seed := range []string{
		"", "{}", "[]", `{"totalElements":0}`, `{"content":null}`, `{"content":[null,"x",1,{}],"totalElements":"4","pageNo":"0","pageSize":-1}`,
		`{"content":[{"subjectId":1,"enabled":"true","failed":0,"seenTime":1733994545}]}`, `{"error":{"errorCode":"900"}}`, `{"returnCode":"0","content":[]}`,
		`{"content":[],"totalElements":99999999999999999999}`, `{"content":[{"issuer":[[[]]]}],"content":[{}]}`,
	} {
		f.Add([]byte(seed), 1, 100)
	}
	f.Fuzz(func(t *testing.T, body []byte, number, size int) {
		number, size = max(0, number), max(1, size)
		resp := answer(nil, 200, "")
		defer func() { _ = resp.Body.Close() }()
		check := func(rows int, page Page[struct{}], err error) {
			t.Helper()
			switch {
			case err != nil:
				if checkAnswerError(t, resp, err); rows != 0 {
					t.Fatal("an error, and rows")
				}
			case page.Size < 0 || page.Asked != size || page.Total < unknownCount:
				t.Fatalf("%+v of %d rows", page, rows)
			case !json.Valid(bytes.TrimPrefix(body, []byte(utf8BOM))):
				t.Fatalf("not JSON, and yet taken: %q", body)
			}
		}
		credentials, err := decodeHistory(resp, bytes.NewReader(body), number, size)
		check(len(credentials.Rows), Page[struct{}]{Size: credentials.Size, Asked: credentials.Asked, Total: credentials.Total}, err)
		subjects, err := decodePage(externalAccessNames(), resp, bytes.NewReader(body), number, size, decodeSubjects)
		check(len(subjects.Rows), Page[struct{}]{Size: subjects.Size, Asked: subjects.Asked, Total: subjects.Total}, err)
		for _, s := range subjects.Rows {
			if s.ID != "" && !UsableID(s.ID) {
				t.Fatalf("id %q", s.ID)
			}
		}
	})
}

func FuzzParseEnvelope(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"error":{"errorCode":"210","message":"m","details":"d","requestId":"r"}}`, `{"errorCode":9011,"message":"m"}`,
		`{"returnCode":"2000","returnMessage":"m"}`, `{"responseError":{"returnCode":"1","returnMessage":"m"}}`, `{"status":401,"error":"UNAUTHORIZED","message":"m","code":"COMMON_999"}`,
		`<?xml version="1.0" encoding="EUC-KR"?><error><errorCode>210</errorCode><message>m</message></error>`, "<html><title>502 Bad Gateway</title><br><p>x", "<", "<a", "<![CDATA[x]]>",
		"\ufeff{}", `{"error":[{}],"message":{}}`, `{"message":"` + ncptest.DemoAccessKey + `"}`, `<message>` + ncptest.DemoAccessKey + `</message>`, "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
	} {
		f.Add([]byte(seed), "id")
	}
	f.Fuzz(func(t *testing.T, body []byte, header string) {
		sent := &http.Request{Header: http.Header{}}
		sent.Header.Set(headerAccessKey, ncptest.DemoAccessKey)
		for _, status := range []int{400, 401, 403, 500} {
			resp := answer(sent, status, string(body), "x-request-id", header, "Retry-After", header)
			e := newStatusError(APICertificateManager, resp, 0)
			_ = resp.Body.Close()
			if e.Status != status || e.Reason == "" || e.RetryAfter < 0 {
				t.Fatalf("%+v", *e)
			}
			for limit, s := range map[int]string{maxToken: e.Code, maxMessage: e.Message, maxToken + 1: e.RequestID} {
				if len(s) > limit+len("...") {
					t.Fatalf("%d bytes: %q", len(s), s)
				}
			}
			text := e.Error()
			if strings.ContainsAny(text, "\n\r\x00") || !utf8.ValidString(text) || strings.Contains(text, ncptest.DemoAccessKey) {
				t.Fatalf("%q", text)
			}
		}
	})
}

func FuzzCleanText(f *testing.F) {
	for _, seed := range []string{"", "plain", " a\t b\r\n", "\xff\xfe", "한글", "\u202e\u2028\u200b\ufffd", "a\x00b", strings.Repeat("한", 100)} {
		f.Add(seed, 10)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) { checkClean(t, s, max(0, min(limit, 1<<20))) })
}

func (t *text) UnmarshalJSON(b []byte) error {
	t.set(b)
	return nil
}

// What is read of a row is what encoding/json reads of it, in all of its
// leniency: names in any case, the last of several, rows that are no objects.
func FuzzDecodeRowIsLikeEncodingJSON(f *testing.F) {
	f.Add(ncptest.DocumentedCredentials())
	for _, seed := range []string{
		`{"content":[{"ISSUER":"a","issuer":"b","Failed":"TRUE"},{"serialNumber":1,"\u0069ssuer":"\ud800\n"},null,[1],"x",{"seenTime":{"a":[1, 2]}},{"i\u017fſuer":2}]}`,
		"{\"content\":[{\"issuer\":\"\xff\",\"\xffissuer\":1}],\"content\":[{},{\"issuer\":null,\"x509CertificateData\":{\"issuer\":3}}]}", "{\"content\":[{\"iſſuer\":true}]}",
		`{"content":[{"issuer":"a","serialNumber":"1","failed":true,"seenTime":"2024-12-12T18:09:05+09:00"},{"serialNumber":"1"}]}`,
		`{"content":[1e400,{"issuer":-0,"failed":1}]}`, `{"content":[{"issuer":01}]}`, `{"content":[{"issuer":"` + "\x01" + `"}]}`, `{"content":[{"a":"b",}]}`, `{"content":[[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var want []Credential
		token := func(d *json.Decoder) json.Token { token, _ := d.Token(); return token }
		body = bytes.TrimPrefix(body, []byte(utf8BOM))
		valid := json.Valid(body) && bytes.HasPrefix(bytes.TrimSpace(body), []byte("{"))
		for d := json.NewDecoder(bytes.NewReader(body)); valid && token(d) != nil; {
			for d.More() {
				if token(d) != "content" {
					var other json.RawMessage
					if err := d.Decode(&other); err != nil {
						t.Fatal(err)
					}
					continue
				}
				var rows []json.RawMessage
				if d.Decode(&rows) != nil {
					valid = false // no array: refused
				}
				for _, raw := range rows {
					var row struct {
						Issuer       text `json:"issuer"`
						SerialNumber text `json:"serialNumber"`
						Failed       text `json:"failed"`
						SeenTime     text `json:"seenTime"`
					}
					_ = json.Unmarshal(raw, &row)
					want = append(want, Credential{string(row.Issuer), string(row.SerialNumber), parseFlag(string(row.Failed)), parseTime(string(row.SeenTime))})
				}
			}
			break
		}
		var rows []Credential
		into := decodeCredentials(time.Time{}, new(PresentedCertificate)).into(&rows, newRowBudget(len(body)))
		_, err := decodeObject(bytes.NewReader(body), "content", into)
		if (err == nil) != valid {
			t.Fatalf("valid: %t, but %v: %q", valid, err, body)
		}
		if diff := cmp.Diff(want, rows); valid && diff != "" {
			t.Fatalf("%q: %s", body, diff)
		}
	})
}
