package ncpclient

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"ncp_exporter/ncpclient/ncptest"
)

func TestErrorEnvelopes(t *testing.T) {
	t.Parallel()
	const gateway, endpoint = "APIGW", "ENDPOINT"
	raw := func(status int, body string) http.Handler { return ncptest.Raw(status, "application/json", body) }
	for name, tt := range map[string]struct {
		fault   http.Handler
		reason  Reason
		status  int
		code    string
		message string
		origin  string
		cm      Reason // of Certificate Manager, if it differs
	}{
		"100":             {ncptest.GatewayError(400, "100", "Bad Request Exception"), ErrBadRequest, 400, "100", "Bad Request Exception", gateway, ""},
		"200":             {ncptest.GatewayError(401, "200", "Authentication Failed"), ErrKey, 401, "200", "Authentication Failed", gateway, ""},
		"210":             {ncptest.GatewayError(401, "210", "Permission Denied"), ErrPermission, 401, "210", "Permission Denied", gateway, ""},
		"300":             {ncptest.GatewayError(404, "300", "Not Found Exception"), ErrNotFound, 404, "300", "Not Found Exception", gateway, ""},
		"430":             {ncptest.GatewayError(413, "430", "Request Entity Too Large"), ErrBadRequest, 413, "430", "Request Entity Too Large", gateway, ""},
		"400":             {ncptest.GatewayError(429, "400", "Quota Exceeded"), ErrRateLimited, 429, "400", "Quota Exceeded", gateway, ""},
		"410":             {ncptest.Throttled("3"), ErrRateLimited, 429, "410", "Throttle Limited", gateway, ""},
		"420":             {ncptest.GatewayError(429, "420", "Rate Limited"), ErrRateLimited, 429, "420", "Rate Limited", gateway, ""},
		"900":             {ncptest.GatewayError(500, "900", "Unexpected Error"), ErrServer, 500, "900", "Unexpected Error", gateway, ""},
		"500":             {ncptest.GatewayError(503, "500", "Endpoint Error"), ErrServer, 503, "500", "Endpoint Error", gateway, ""},
		"510":             {ncptest.GatewayError(504, "510", "Endpoint Timeout"), ErrServer, 504, "510", "Endpoint Timeout", gateway, ""},
		"number, details": {ncptest.GatewayErrorDetails(401, 210, "Permission Denied", "no policy"), ErrPermission, 401, "210", "Permission Denied: no policy", gateway, ""},
		"flat":            {ncptest.FlatError(400, 9011, "bad size"), ErrBadRequest, 400, "9011", "bad size", endpoint, ""},
		"returnCode":      {ncptest.ReturnCode(400, "2000", "bad input"), ErrBadRequest, 400, "2000", "bad input", endpoint, ""},
		"responseError":   {ncptest.ResponseError(500, "25001", "internal"), ErrServer, 500, "25001", "internal", endpoint, ""},
		"Spring":          {ncptest.SpringError(401, "COMMON_999", "unauthorized"), ErrKey, 401, "COMMON_999", "unauthorized", endpoint, ""},
		"XML":             {ncptest.XMLError(401, "210", "Permission <Denied>"), ErrPermission, 401, "210", "Permission <Denied>", gateway, ""},
		"HTML":            {ncptest.HTMLPage(502), ErrServer, 502, "", "502 Bad Gateway", "", ""},
		"nothing":         {ncptest.EmptyBody(404), ErrNotFound, 404, "", "", "", ""},
		"empty 403":       {ncptest.EmptyForbidden(), ErrPermission, 403, "", "", endpoint, ErrMainAccountKey},
		"403 with a body": {ncptest.SpringError(403, "COMMON_403", "forbidden"), ErrPermission, 403, "COMMON_403", "forbidden", endpoint, ""},
		"200, returnCode": {ncptest.ReturnCode(200, "9999", "Internal error"), ErrRefused, 200, "9999", "Internal error", endpoint, ""},
		"200, gateway":    {ncptest.GatewayError(200, "900", "Unexpected Error"), ErrMalformedAnswer, 200, "900", "Unexpected Error", gateway, ""},

		"BOM":               {raw(400, "\ufeff {\"errorCode\":1,\"message\":\"m\"}"), ErrBadRequest, 400, "1", "m", "", ""},
		"error is a word":   {raw(401, `{"status":401,"error":"UNAUTHORIZED"}`), ErrKey, 401, "", "UNAUTHORIZED", "", ""},
		"null everywhere":   {raw(400, `{"error":null,"errorCode":null,"message":null}`), ErrBadRequest, 400, "", "", "", ""},
		"odd types":         {raw(400, `{"error":[1],"errorCode":{"a":1},"message":["x"],"code":true}`), ErrBadRequest, 400, "true", "", "", ""},
		"not an object":     {raw(400, `["x"]`), ErrBadRequest, 400, "", "", "", ""},
		"plain text":        {raw(400, "no healthy upstream"), ErrBadRequest, 400, "", "", "", ""},
		"half of a JSON":    {raw(400, `{"errorCode":"1","mess`), ErrBadRequest, 400, "", "", "", ""},
		"half of an XML":    {raw(400, `<error><errorCode>1</errorCode><mess`), ErrBadRequest, 400, "1", "", "", ""},
		"nested 100,000":    {raw(400, strings.Repeat(`{"error":`, 7000)), ErrBadRequest, 400, "", "", "", ""},
		"nested XML":        {raw(400, strings.Repeat(`<error>`, 9000)), ErrBadRequest, 400, "", "", "", ""},
		"lines and escapes": {raw(400, `{"errorCode":"1\n2","message":" a\r\n\u001b[31mb\u0000c\u2028d\u202ee "}`), ErrBadRequest, 400, "1 2", "a [31mb c d e", "", ""},
		"long": {
			raw(400, `{"errorCode":"`+strings.Repeat("1", 999)+`","message":"`+strings.Repeat("한", 999)+`"}`),
			ErrBadRequest, 400, strings.Repeat("1", 64) + "...", strings.Repeat("한", 66) + "...", "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := simulated(t, ncptest.Config{})
			sim.SetFault(ncptest.Always(tt.fault))
			_, err := externalAccessAt(t, sim.URL()).SubjectsPage(t.Context(), 0, 20)
			errs := map[string]error{APIExternalAccess: err, APICertificateManager: changesOf(t, certificateManagerAt(t, sim.URL()))}
			for api, err := range errs {
				reason := tt.reason
				if api == APICertificateManager && tt.cm != "" {
					reason = tt.cm
				}
				if tt.status == 200 { // that both say it is what counts here
					reason = asError(t, err).Reason
					if reason != ErrRefused && reason != ErrMalformedAnswer {
						t.Errorf("%s: reason %q", api, reason)
					}
				}
				e := wantReason(t, err, reason)
				if e.API != api || e.Status != tt.status || e.Code != tt.code || e.Message != tt.message || e.Origin != tt.origin || e.RequestID == "" {
					t.Errorf("%s: got\n%v\nwant status %d, code %q, message %q, origin %q", api, err, tt.status, tt.code, tt.message, tt.origin)
				}
				for _, want := range []string{api, string(e.Operation), fmt.Sprintf("HTTP %d", tt.status), e.RequestID, e.Origin, e.Code} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q does not say %q", err, want)
					}
				}
			}
		})
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		body    string
		headers []string
		want    string
	}{
		"inside":          {`{"error":{"requestId":"inner"},"requestId":"outer"}`, []string{"x-ncp-trace-id", "trace"}, "inner"},
		"outside":         {`{"error":{},"traceId":"outer"}`, nil, "outer"},
		"XML":             {`<e><requestId>x</requestId></e>`, nil, "x"},
		"trace header":    {"", []string{"x-ncp-trace-id", "trace", "x-request-id", "other"}, "trace"},
		"request header":  {"", []string{"x-ncp-apigw-request-id", "req"}, "req"},
		"common header":   {"", []string{"x-request-id", "other"}, "other"},
		"control in it":   {"", []string{"x-request-id", "a\tb"}, "a b"},
		"none":            {"", nil, ""},
		"an object as id": {`{"requestId":{"a":1}}`, nil, ""},
	} {
		resp := answer(nil, 500, tt.body, tt.headers...)
		e := newStatusError(APIExternalAccess, resp, 0)
		_ = resp.Body.Close()
		if e.RequestID != tt.want {
			t.Errorf("%s: %q, want %q", name, e.RequestID, tt.want)
		}
	}
}

// Whatever a server sends back of what it was sent, the errors do not tell.
func TestErrorsTellNoSecrets(t *testing.T) {
	t.Parallel()
	var signed sync.Map // all signatures that were sent
	echo := func(status int, form func(w http.ResponseWriter, access, signature string)) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			access, signature := r.Header.Get(headerAccessKey), r.Header.Get(headerSignature)
			signed.Store(signature, true)
			w.Header().Set("x-request-id", "id "+access)
			w.Header().Set("x-ncp-apigw-response-origin", access)
			w.Header().Set("Retry-After", signature)
			w.Header().Set("Location", "/?"+access+signature)
			w.WriteHeader(status)
			form(w, access, signature)
		})
	}
	for name, form := range map[string]func(w http.ResponseWriter, access, signature string){
		"JSON": func(w http.ResponseWriter, access, signature string) {
			say(w, `{"errorCode":%q,"message":"you sent %s and %s","details":%q,"requestId":%q}`, access, access, signature, signature+access, signature)
		},
		"escaped": func(w http.ResponseWriter, access, signature string) {
			var b strings.Builder
			for _, r := range access + " " + signature {
				fmt.Fprintf(&b, `\u%04x`, r)
			}
			say(w, `{"returnCode":"%s","returnMessage":"%s"}`, b.String(), b.String())
		},
		"at the cut": func(w http.ResponseWriter, access, signature string) {
			say(w, `{"returnCode":"%s%s","returnMessage":"%s%s"}`,
				strings.Repeat("x", maxToken-5), access, strings.Repeat("x", maxMessage-5), signature)
		},
		"XML": func(w http.ResponseWriter, access, signature string) {
			say(w, "<e><message>")
			_ = xml.EscapeText(w, []byte(access+" "+signature))
			say(w, "</message></e>")
		},
		"HTML": func(w http.ResponseWriter, access, signature string) {
			say(w, "<html><title>%s %s</title>%s", access, signature, access)
		},
		"text":        func(w http.ResponseWriter, access, signature string) { say(w, "%s %s\n", access, signature) },
		"JSON string": func(w http.ResponseWriter, access, _ string) { say(w, "%q", access) },
		"broken JSON": func(w http.ResponseWriter, access, _ string) { say(w, `{"returnCode":%s`, access) },
		"in another key": func(w http.ResponseWriter, access, _ string) {
			say(w, `{"returnCode":"0","orders":{%q:1}}`, access)
		},
		"ids": func(w http.ResponseWriter, access, _ string) {
			say(w, `{"returnCode":"0","orders":[{"orderId":%q,"certificateId":{}}],"content":[%q],"pageNo":%q}`, access, access, access)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := simulated(t, ncptest.Config{})
			for _, status := range []int{200, 302, 400, 401, 403, 404, 429, 500} {
				sim.SetFault(ncptest.Always(echo(status, form)))
				_, err := externalAccessAt(t, sim.URL()).SubjectsPage(t.Context(), 0, 20)
				for _, err := range []error{err, changesOf(t, certificateManagerAt(t, sim.URL()))} {
					if err == nil && status == 200 {
						continue
					}
					e := asError(t, err)
					for _, text := range []string{err.Error(), fmt.Sprintf("%+v %#v", err, err), e.Code, e.Message, e.RequestID, e.Origin} {
						// Half of one is too much as well.
						secrets := []string{ncptest.DemoAccessKey[:8], ncptest.DemoSecretKey[:12]}
						signed.Range(func(s, _ any) bool { secrets = append(secrets, fmt.Sprint(s)[:12]); return true })
						for _, secret := range secrets {
							if strings.Contains(text, secret) {
								t.Errorf("%d: %q in %s", status, secret, text)
							}
						}
						if !utf8.ValidString(text) || strings.ContainsAny(text, "\n\r") {
							t.Errorf("%d: %q", status, text)
						}
					}
				}
			}
		})
	}
}

func TestClockAndKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		offset time.Duration
		code   string
		want   Reason
	}{
		{0, "200", ErrKey},
		{5 * time.Minute, "200", ErrKey},
		{-5 * time.Minute, "200", ErrKey},
		{5*time.Minute + time.Second, "200", ErrClock},
		{-5*time.Minute - time.Second, "200", ErrClock},
		{24 * time.Hour, "200", ErrClock},
		{24 * time.Hour, "210", ErrPermission}, // it knew whose key it was
	} {
		t.Run(tt.offset.String()+" "+tt.code, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sim, transport := bubbled(t, ncptest.Config{Now: func() time.Time { return time.Now().Add(tt.offset) }})
				sim.SetFault(ncptest.Always(ncptest.GatewayError(401, tt.code, "no")))
				err := changesOf(t, certificateManagerAt(t, bubbleURL, through(transport)))
				wantReason(t, err, tt.want)
				if says := strings.Contains(err.Error(), tt.offset.Abs().String()); says != (tt.want == ErrClock) {
					t.Errorf("the offset is said: %t in %v", says, err)
				}
			})
		})
	}
}

// The gateway's own checks, as the simulated one has them.
func TestRefusalsOfTheGateway(t *testing.T) {
	t.Parallel()
	good := ncptest.Key{AccessKey: ncptest.DemoAccessKey, SecretKey: ncptest.DemoSecretKey}
	for name, tt := range map[string]struct {
		cfg    ncptest.Config
		cm, ea Reason // empty: no error
	}{
		"a good key":         {ncptest.Config{}, "", ""},
		"another secret":     {ncptest.Config{Keys: []ncptest.Key{{AccessKey: good.AccessKey, SecretKey: "x"}}}, ErrKey, ErrKey},
		"an unknown key":     {ncptest.Config{Keys: []ncptest.Key{{AccessKey: "x", SecretKey: "x"}}}, ErrKey, ErrKey},
		"sub-account":        {ncptest.Config{Keys: []ncptest.Key{{AccessKey: good.AccessKey, SecretKey: good.SecretKey, SubAccount: true}}}, ErrMainAccountKey, ""},
		"no permission":      {ncptest.Config{Keys: []ncptest.Key{{AccessKey: good.AccessKey, SecretKey: good.SecretKey, Denied: []ncptest.Operation{ncptest.Subjects}}}}, "", ErrPermission},
		"our clock is late":  {ncptest.Config{Now: func() time.Time { return time.Now().Add(time.Hour) }}, ErrClock, ErrClock},
		"our clock is early": {ncptest.Config{Now: func() time.Time { return time.Now().Add(-time.Hour) }}, ErrClock, ErrClock},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := simulated(t, tt.cfg)
			_, err := externalAccessAt(t, sim.URL()).SubjectsPage(t.Context(), 0, 20)
			check := func(err error, want Reason) {
				t.Helper()
				if want == "" && err == nil {
					return
				}
				wantReason(t, err, want)
			}
			check(err, tt.ea)
			check(changesOf(t, certificateManagerAt(t, sim.URL())), tt.cm)
		})
	}
	sim := simulated(t, ncptest.Config{})
	wrong, err := NewCertificateManager(newConfig(t, sim.URL()+"/api/v9", nil))
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, changesOf(t, wrong), ErrNotFound)
	nobody := certificateManagerAt(t, sim.URL())
	if err := sim.Close(); err != nil {
		t.Fatal(err)
	}
	wantReason(t, changesOf(t, nobody), ErrUnreachable)
}

func TestErrorUnwraps(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	e := &Error{Reason: ErrServer, err: cause}
	if wrapped := fmt.Errorf("x: %w", e); !errors.Is(wrapped, ErrServer) || !errors.Is(wrapped, cause) || errors.Is(wrapped, ErrKey) {
		t.Error("an error is not what it is")
	}
	if e := (&Error{Reason: ErrKey}); !errors.Is(e, ErrKey) || e.RetryAfter != 0 {
		t.Error("an error without a cause is not its reason")
	}
}

// withMembers are the answers of all operations, with nothing in their lists and
// these members beside.
func withMembers(members string) map[string]string {
	return map[string]string{
		"recentChanges": `{"returnCode":"0","totalCount":0,"orders":[],` + members + `}`,
		"subjects":      `{"pageNo":0,"totalElements":0,"pageSize":20,"content":[],` + members + `}`,
		"credentials":   `{"content":[],` + members + `,"totalElements":0}`,
		"trustAnchors":  `{` + members + `,"content":[]}`,
		"crls":          `{"content":null,` + members + `}`,
		"certificates":  `{"returnCode":"0","totalCount":0,"sslCertificateList":[],` + members + `}`,
	}
}

// callAll calls each operation with the answer of it.
func callAll(t *testing.T, answers map[string]string) map[string]error {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for op, last := range map[string]string{
			"recentChanges": "/recentChanges", "subjects": "/subjects", "credentials": "/credentials",
			"trustAnchors": "/trust-anchors", "crls": "/crls", "certificates": "/certificates",
		} {
			if strings.HasSuffix(r.URL.Path, last) {
				_, _ = io.WriteString(w, answers[op])
			}
		}
	})
	server := served(t, handler)
	cm, ea := certificateManagerAt(t, server), externalAccessAt(t, server)
	errs := make(map[string]error)
	_, errs["recentChanges"] = cm.RecentChanges(t.Context(), time.Hour)
	_, errs["certificates"] = cm.Certificates(t.Context(), 20)
	_, errs["subjects"] = ea.Subjects(t.Context(), 20)
	_, errs["credentials"] = ea.CredentialsPage(t.Context(), "x", 0, 20)
	_, errs["trustAnchors"] = ea.TrustAnchors(t.Context())
	_, errs["crls"] = ea.CRLs(t.Context(), "x")
	return errs
}

// An error that comes with HTTP 200 beside an empty list is not taken for an empty
// list: it would drop every series, and all would seem well.
func TestErrorsBesideAnEmptyList(t *testing.T) {
	t.Parallel()
	for members, code := range map[string]string{
		`"error":{"errorCode":"210","message":"Permission Denied"}`:   "210",
		`"error":{"errorCode":200,"message":"Authentication Failed"}`: "200",
		`"error":{"message":"m"}`:                                     "",
		`"error":"UNAUTHORIZED"`:                                      "",
		`"error":{"message":"` + strings.Repeat("x", 300) + `"}`:      "",
		`"errorCode":9011,"message":"m"`:                              "9011",
		`"errorCode":"200"`:                                           "200",
		`"code":"COMMON_999","message":"m"`:                           "COMMON_999",
		`"code":500,"message":"m"`:                                    "500",
		`"responseError":{"returnCode":"1","returnMessage":"m"}`:      "1",
		`"responseError":"m"`:                                         "",
		`"status":401`:                                                "",
		`"status":"503","timestamp":"x"`:                              "",
		`"timestamp":"x","status":401,"error":"UNAUTHORIZED","message":"m","code":"COMMON_999"`: "COMMON_999",
		`"returnCode":"2000","returnMessage":"bad"`:                                             "2000",
		`"returnCode":-1`: "-1",
	} {
		for op, err := range callAll(t, withMembers(members)) {
			if e := asError(t, err); e.Reason != ErrRefused || e.Code != code || e.Status != http.StatusOK {
				t.Errorf("%s with %s: code %q, %v", op, members, e.Code, err)
			}
		}
	}
}

// A member that is named like one of an error, and tells of none, refuses nothing.
func TestSuccessBesideAList(t *testing.T) {
	t.Parallel()
	for _, members := range []string{
		`"status":"OK"`, `"status":200`, `"status":"200"`, `"status":null`, `"status":"ACTIVE"`, `"status":{"a":500}`,
		`"code":"200","message":"Success"`, `"code":0,"message":"OK"`, `"code":"SUCCESS","message":"Success"`, `"code":"0000","message":"m"`,
		`"code":"KR"`, `"message":"3 rows"`, `"code":null,"message":"m"`, `"message":"code"`,
		`"error":null`, `"error":""`, `"error":{}`, `"error":false`, `"error":[]`, `"error":"none"`, `"error":{"code":"0","message":"Success"}`, `"errors":[]`,
		`"errorCode":null`, `"errorCode":""`, `"errorCode":"0"`, `"errorCode":0,"message":"Success"`, `"errorMessage":""`,
		`"responseError":null`, `"responseError":{}`, `"responseError":{"returnCode":"0","returnMessage":"Success"}`,
		`"x":{"error":{"errorCode":"210"},"status":500}`, `"requestId":"r","timestamp":1733994545`,
	} {
		for op, err := range callAll(t, withMembers(members)) {
			if err != nil {
				t.Errorf("%s with %s: %v", op, members, err)
			}
		}
	}
	for _, members := range []string{`"returnCode":"0","returnMessage":"Success"`, `"returnCode":0`, `"returnCode":" 0 "`} {
		for op, err := range callAll(t, withMembers(members)) {
			if err != nil {
				t.Errorf("%s with %s: %v", op, members, err)
			}
		}
	}
}

// Each reason has what is wrong and what to do, and none is forgotten: the table
// of them in README is made from these.
func TestReasonsHaveTitleAndRemedy(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	if declared := strings.Count(string(source), " Reason = \""); declared != len(Reasons()) {
		t.Errorf("%d reasons are declared, %d are listed", declared, len(Reasons()))
	}
	titles := make(map[string]bool)
	for _, r := range Reasons() {
		titles[r.Title()] = true
		if r.Title() == "" || r.Remedy() == "" || r.Title()+": "+r.Remedy() != r.Error() {
			t.Errorf("%q: title %q, remedy %q", r, r.Title(), r.Remedy())
		}
	}
	if len(titles) != len(Reasons()) {
		t.Errorf("%d titles of %d reasons", len(titles), len(Reasons()))
	}
}

// checkClean says that a foreign text comes out fit for one line.
func checkClean(tb rapid.TB, s string, limit int) {
	tb.Helper()
	got := cleanText(s, limit)
	if len(got) > limit+len("...") || !utf8.ValidString(got) || strings.TrimSpace(got) != got {
		tb.Fatalf("cleanText(%q, %d) = %q", s, limit, got)
	}
	if i := strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }); i >= 0 {
		tb.Fatalf("cleanText(%q, %d) = %q", s, limit, got)
	}
	if again := cleanText(got, len(got)); again != got {
		tb.Fatalf("cleanText is not settled: %q, then %q", got, again)
	}
}

func TestCleanText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"plain", "plain"},
		{" a \t b\r\n", "a b"},
		{"a\x00b\x7f", "a b"},
		{"\xff\xfe", ""},
		{"한글é", "한글é"},
		{"a\u202eb\u200bc\u2028d", "a b c d"},
		{"0123456789", "0123456789"},
		{"0123456789x", "0123456789..."},
		{"012345678한", "012345678..."},
	} {
		if got := cleanText(tt.in, 10); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) { checkClean(t, rapid.String().Draw(t, "s"), rapid.IntRange(0, 40).Draw(t, "limit")) })
}
