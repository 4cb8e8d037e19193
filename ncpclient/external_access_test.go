package ncpclient

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ncp_exporter/ncpclient/ncptest"
)

// ptr is for the fields that may be nil.
func ptr[T any](v T) *T { return &v }

func TestDocumentedCredentials(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{})
	// The example is of ten rows and prints one; it is the last page of one row.
	body := strings.Replace(string(ncptest.DocumentedCredentials()), `"totalElements":10`, `"totalElements":1`, 1)
	sim.SetFault(ncptest.Always(ncptest.Raw(200, "application/json", body)))
	want := Page[Credential]{
		Size: 20, Asked: 20, Total: 1,
		Rows: []Credential{{
			Issuer:       "CN=QA_Root_CA, OU=IAM Service, O=NAVER Cloud Corp., L=Seongnam-si, ST=Gyeonggi-do, C=KR",
			SerialNumber: "***************099216805457609290***************",
			Failed:       ptr(false),
			SeenTime:     time.Date(2024, 12, 12, 9, 9, 5, 705_000_000, time.UTC),
		}},
	}
	got, err := externalAccessAt(t, sim.URL()).CredentialsPage(t.Context(), "x", 0, 20)
	if time.Since(got.Date).Abs() > time.Minute {
		t.Errorf("date %s", got.Date)
	}
	if v, err := got.Presented.Validity(); err == nil {
		t.Errorf("a placeholder was read: %v", v)
	}
	got.Date = time.Time{}
	if diff := cmp.Diff(want, got.Page); diff != "" || err != nil {
		t.Error(err, diff)
	}
	// As printed it holds fewer rows than a page and than it says.
	sim.SetFault(ncptest.Always(ncptest.Raw(200, "application/json", string(ncptest.DocumentedCredentials()))))
	got, err = externalAccessAt(t, sim.URL()).CredentialsPage(t.Context(), "x", 0, 20)
	if err != nil || got.Total != 10 || got.Size != 20 || len(got.Rows) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPageQueries(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{})
	sim.PutSubject(ncptest.Subject{SubjectID: "s-1"})
	api := externalAccessAt(t, sim.URL())
	if _, err := api.SubjectsPage(t.Context(), 3, 7); err != nil {
		t.Error(err)
	}
	if _, err := api.CredentialsPage(t.Context(), "s-1", 12, 1000); err != nil {
		t.Error(err)
	}
	var got []string
	for _, r := range sim.Requests() {
		got = append(got, fmt.Sprintf("%s %s %s", r.Op, r.SubjectID, r.Query))
	}
	if diff := cmp.Diff([]string{"subjects  page=3&size=7", "credentials s-1 page=12&size=1000"}, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range [][2]int{{-1, 20}, {0, 0}, {0, -1}} {
		if _, err := api.SubjectsPage(t.Context(), bad[0], bad[1]); err == nil {
			t.Errorf("page %d of size %d was asked for", bad[0], bad[1])
		}
	}
	if len(sim.Requests()) != 2 {
		t.Errorf("%d requests", len(sim.Requests()))
	}
}

func TestSubjectFields(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{})
	sim.PutSubject(ncptest.Subject{
		SubjectID: "s-1", X509Subject: `CN="a, b",O=한글`, Enabled: true, CreateTime: "2024-01-01T00:00:00+09:00",
		UpdateTime: "2025-01-01T00:00:00+09:00", LastSeenTime: "2026-01-01T00:00:00.5",
	})
	sim.PutSubject(ncptest.Subject{SubjectID: "s-2"})
	page, err := externalAccessAt(t, sim.URL()).SubjectsPage(t.Context(), 0, 20)
	want := []Subject{
		{ID: "s-1", X509Subject: `CN="a, b",O=한글`, Enabled: ptr(true), UpdateTime: time.Date(2024, 12, 31, 15, 0, 0, 0, time.UTC), LastSeen: time.Date(2025, 12, 31, 15, 0, 0, 5e8, time.UTC)},
		{ID: "s-2", Enabled: ptr(false)},
	}
	if diff := cmp.Diff(want, page.Rows); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

// rowsOf gives the rows of one page of credentials.
func rowsOf(rows string) string {
	return `{"pageNo":0,"totalElements":100,"pageSize":1,"content":[` + rows + `]}`
}

func TestHostileRows(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 12, 12, 9, 9, 5, 0, time.UTC)
	const last = `,{"issuer":"I","serialNumber":"1","failed":true,"seenTime":"2024-12-12T18:09:05+09:00"}`
	good := Credential{"I", "1", ptr(true), at}
	for row, want := range map[string]Credential{
		`null`:              {},
		`"x"`:               {},
		`1`:                 {},
		`true`:              {},
		`[]`:                {},
		`[{"issuer":"no"}]`: {},
		`{}`:                {},
		`{"issuer":null,"serialNumber":null,"failed":null,"seenTime":null,"x509CertificateData":null}`: {},
		`{"issuer":1,"serialNumber":12345678901234567890123,"failed":"true","seenTime":1733994545}`:    {"1", "12345678901234567890123", ptr(true), at},
		`{"issuer":"I","serialNumber":"1","failed":"maybe","seenTime":"yesterday"}`:                    {"I", "1", nil, time.Time{}},
		`{"failed":0,"seenTime":""}`:                                                                         {"", "", ptr(false), time.Time{}},
		`{"failed":{},"seenTime":[],"issuer":{"CN":"x"},"serialNumber":[1]}`:                                 {`{"CN":"x"}`, "[1]", nil, time.Time{}},
		`{"x":{"failed":true},"x509CertificateData":{"a":[[]]}}`:                                             {},
		`{"failed":true,"failed":false}`:                                                                     {"", "", ptr(false), time.Time{}},
		`{"x509CertificateData":"` + strings.Repeat("A", 1<<16) + `","failed":false}`:                        {"", "", ptr(false), time.Time{}},
		`{"issuer":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,"issuer":"shallow enough"}`: {Issuer: "shallow enough"},
	} {
		sim := simulated(t, ncptest.Config{})
		sim.SetFault(ncptest.Always(ncptest.Raw(200, "application/json", rowsOf(row+last))))
		page, err := externalAccessAt(t, sim.URL()).CredentialsPage(t.Context(), "x", 0, 20)
		if err != nil {
			t.Errorf("%.80s: %v", row, err)
			continue
		}
		if diff := cmp.Diff([]Credential{want, good}, page.Rows); diff != "" {
			t.Errorf("%.80s: %s", row, diff)
		}
	}
	subjects := simulated(t, ncptest.Config{})
	subjects.SetFault(ncptest.Always(ncptest.Raw(200, "application/json",
		rowsOf(`null,"x",{},{"subjectId":"a\nb"},{"subjectId":".."},{"subjectId":12345678901234567890,"enabled":"no"},{"subjectId":"s-1","enabled":1}`))))
	page, err := externalAccessAt(t, subjects.URL()).SubjectsPage(t.Context(), 0, 20)
	want := []Subject{{}, {}, {}, {}, {}, {ID: "12345678901234567890"}, {ID: "s-1", Enabled: ptr(true)}}
	if diff := cmp.Diff(want, page.Rows); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestPageObjects(t *testing.T) {
	t.Parallel()
	const row = `{"serialNumber":"1"}`
	for name, tt := range map[string]struct {
		body              string
		rows, total, size int
		reason            Reason
		code              string
	}{
		"empty history":       {`{"pageNo":0,"totalElements":0,"pageSize":50,"content":[]}`, 0, 0, 50, "", ""},
		"null content":        {`{"pageNo":0,"totalElements":0,"pageSize":50,"content":null}`, 0, 0, 50, "", ""},
		"0 and no content":    {`{"totalElements":0}`, 0, 0, 0, "", ""},
		"total missing":       {`{"content":[` + row + `]}`, 1, -1, 0, "", ""},
		"total null":          {`{"totalElements":null,"content":[` + row + `]}`, 1, -1, 0, "", ""},
		"total negative":      {`{"totalElements":-3,"content":[` + row + `]}`, 1, -1, 0, "", ""},
		"all as strings":      {`{"pageNo":"0","totalElements":"1","pageSize":"50","content":[` + row + `]}`, 1, 1, 50, "", ""},
		"content first":       {`{"content":[` + row + `],"pageSize":20,"totalElements":1}`, 1, 1, 20, "", ""},
		"clamped, said":       {`{"totalElements":9,"pageSize":2,"content":[` + row + `,` + row + `]}`, 2, 9, 2, "", ""},
		"clamped, unsaid":     {`{"totalElements":9,"content":[` + row + `,` + row + `]}`, 2, 9, 0, "", ""},
		"clamped, denied":     {`{"totalElements":9,"pageSize":50,"content":[` + row + `,` + row + `]}`, 2, 9, 50, "", ""},
		"size 0":              {`{"totalElements":1,"pageSize":0,"content":[` + row + `]}`, 1, 1, 0, "", ""},
		"a returnCode of 0":   {`{"returnCode":"0","totalElements":1,"content":[` + row + `]}`, 1, 1, 0, "", ""},
		"total, no rows":      {`{"totalElements":3,"content":[]}`, 0, 3, 0, "", ""},
		"total beyond an int": {`{"totalElements":99999999999,"content":[` + row + `]}`, 1, -1, 0, "", ""},

		"a row of nothing":    {`{"totalElements":2,"content":[` + row + `,[]]}`, 2, 2, 0, "", ""},
		"rows of nothing":     {`{"totalElements":2,"content":[[],null]}`, 2, 2, 0, "", ""},
		"nothing but rows":    {`{"content":[[],{"other":1}]}`, 0, 0, 0, ErrMalformedAnswer, ""},
		"total, null rows":    {`{"totalElements":3,"content":null}`, 0, 0, 0, ErrMalformedAnswer, ""},
		"total, no content":   {`{"totalElements":3}`, 0, 0, 0, ErrMalformedAnswer, ""},
		"nothing":             {`{}`, 0, 0, 0, ErrMalformedAnswer, ""},
		"another page":        {`{"pageNo":1,"totalElements":1,"content":[` + row + `]}`, 0, 0, 0, ErrMalformedAnswer, ""},
		"content an object":   {`{"totalElements":1,"content":{}}`, 0, 0, 0, ErrMalformedAnswer, ""},
		"a bare array":        {`[` + row + `]`, 0, 0, 0, ErrMalformedAnswer, ""},
		"nested 100,000":      {`{"content":` + strings.Repeat("[", 1e5) + strings.Repeat("]", 1e5) + `}`, 0, 0, 0, ErrMalformedAnswer, ""},
		"nested in a field":   {`{"content":[{"issuer":` + strings.Repeat("[", 1e5) + strings.Repeat("]", 1e5) + `}]}`, 0, 0, 0, ErrMalformedAnswer, ""},
		"gateway's envelope":  {`{"error":{"errorCode":"900","message":"m"}}`, 0, 0, 0, ErrRefused, "900"},
		"flat envelope":       {`{"errorCode":9011,"message":"m"}`, 0, 0, 0, ErrRefused, "9011"},
		"returnCode":          {`{"returnCode":"9999","returnMessage":"m"}`, 0, 0, 0, ErrRefused, "9999"},
		"returnCode and rows": {`{"returnCode":"9999","totalElements":1,"content":[` + row + `]}`, 0, 0, 0, ErrRefused, "9999"},
		"responseError":       {`{"responseError":{"returnCode":"1"}}`, 0, 0, 0, ErrRefused, "1"},
		"Spring":              {`{"timestamp":"x","status":401,"error":"UNAUTHORIZED","message":"m","code":"COMMON_999"}`, 0, 0, 0, ErrRefused, "COMMON_999"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := simulated(t, ncptest.Config{})
			sim.SetFault(ncptest.Always(ncptest.Raw(200, "application/json", tt.body)))
			page, err := externalAccessAt(t, sim.URL()).CredentialsPage(t.Context(), "x", 0, 50)
			if tt.reason != "" {
				if e := wantReason(t, err, tt.reason); e.Code != tt.code || len(page.Rows) != 0 {
					t.Errorf("code %q with %d rows", e.Code, len(page.Rows))
				}
				return
			}
			if err != nil || len(page.Rows) != tt.rows || page.Total != tt.total || page.Size != tt.size {
				t.Errorf("%+v, %v", page, err)
			}
		})
	}
}

func TestRefusedPageSize(t *testing.T) { //nolint:cyclop // one story, told from its begin to its end
	t.Parallel()
	sizes := func(sim *ncptest.Server) (sizes []int) {
		for _, r := range sim.Requests() {
			sizes = append(sizes, r.Size)
		}
		return sizes
	}
	t.Run("falls back and stays so", func(t *testing.T) {
		t.Parallel()
		sim := simulated(t, ncptest.Config{RefusePageSizeAbove: 50})
		put(sim, 45)
		history(sim, 30)
		api := externalAccessAt(t, sim.URL())
		list, err := api.Subjects(t.Context(), 100)
		rows := list.Rows
		if err != nil || len(rows) != 45 || !api.PageSizeRefused() {
			t.Errorf("%d rows, refused %t, %v", len(rows), api.PageSizeRefused(), err)
		}
		history, err := api.CredentialsPage(t.Context(), "s-1", 0, 100)
		if err != nil || len(history.Rows) != 20 || history.Asked != 20 {
			t.Errorf("%d rows of %d, %v", len(history.Rows), history.Asked, err)
		}
		if _, err := api.CredentialsPage(t.Context(), "s-1", 0, 10); err != nil { // smaller ones are left as they are
			t.Error(err)
		}
		if diff := cmp.Diff([]int{100, 20, 20, 20, 20, 10}, sizes(sim)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("only on the first page", func(t *testing.T) {
		t.Parallel()
		sim := simulated(t, ncptest.Config{RefusePageSizeAbove: 50})
		put(sim, 250)
		api := externalAccessAt(t, sim.URL())
		_, err := api.SubjectsPage(t.Context(), 1, 100)
		wantReason(t, err, ErrBadRequest)
		if api.PageSizeRefused() || len(sizes(sim)) != 1 {
			t.Errorf("refused %t after %v", api.PageSizeRefused(), sizes(sim))
		}
	})
	t.Run("a default size is never the reason", func(t *testing.T) {
		t.Parallel()
		sim := simulated(t, ncptest.Config{RefusePageSizeAbove: 5})
		api := externalAccessAt(t, sim.URL())
		_, err := api.SubjectsPage(t.Context(), 0, 20)
		wantReason(t, err, ErrBadRequest)
		if api.PageSizeRefused() || len(sizes(sim)) != 1 {
			t.Errorf("refused %t after %v", api.PageSizeRefused(), sizes(sim))
		}
	})
	for name, fault := range map[string]http.Handler{
		"an unknown subject": ncptest.SpringError(400, "COMMON_404", "no such subject"),
		"another status":     ncptest.SpringError(404, "COMMON_404", "no such subject"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := simulated(t, ncptest.Config{})
			history(sim, 150)
			sim.SetFault(ncptest.ForSubject("unknown", fault))
			api := externalAccessAt(t, sim.URL())
			_, err := api.CredentialsPage(t.Context(), "unknown", 0, 100)
			if e := asError(t, err); e.Code != "COMMON_404" || api.PageSizeRefused() {
				t.Errorf("refused %t, %v", api.PageSizeRefused(), err)
			}
			if page, err := api.CredentialsPage(t.Context(), "s-1", 0, 100); err != nil || len(page.Rows) != 100 {
				t.Errorf("%d rows, %v", len(page.Rows), err)
			}
		})
	}
	t.Run("the smaller page fails too", func(t *testing.T) {
		t.Parallel()
		sim := simulated(t, ncptest.Config{RefusePageSizeAbove: 50})
		sim.SetFault(func(r ncptest.Request) http.Handler {
			if r.Size == DefaultPageSize {
				return ncptest.EmptyBody(500)
			}
			return nil
		})
		api := externalAccessAt(t, sim.URL())
		_, err := api.SubjectsPage(t.Context(), 0, 100)
		if wantReason(t, err, ErrBadRequest); api.PageSizeRefused() {
			t.Error("the size is held for refused")
		}
	})
}

func TestUnknownSubject(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{})
	_, err := externalAccessAt(t, sim.URL()).CredentialsPage(t.Context(), "unknown", 0, 100)
	wantReason(t, err, ErrNotFound)
}

func TestCallsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{})
	put(sim, 45)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	list, err := externalAccessAt(t, sim.URL()).Subjects(ctx, 20)
	wantReason(t, err, ErrLimited)
	if len(list.Rows) != 0 {
		t.Errorf("%d rows", len(list.Rows))
	}
}
