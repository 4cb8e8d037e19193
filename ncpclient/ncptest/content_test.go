package ncptest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// history is n rows, one a second, the last at start, serials from 0.
func history(n int) []Credential {
	rows := make([]Credential, n)
	for i := range rows {
		rows[i] = NewCredential(start().Add(-time.Duration(n-1-i)*time.Second), strconv.Itoa(i), i%10 == 0)
	}
	return rows
}

func TestDocumentedAnswers(t *testing.T) {
	t.Parallel()
	s := run(t, Config{Now: frozen, LyingTotal: 9})
	s.SetChanges(
		Change{OrderID: "410", CertificateID: 55991, Status: StatusOngoing},
		Change{OrderID: "447", CertificateID: 55990, Status: StatusOngoing},
	)
	seen := time.Date(2024, 12, 12, 9, 9, 5, 705e6, time.UTC)
	s.AddCredentials("s1", NewCredential(seen, "***************099216805457609290***************", false))
	for path, want := range map[string][]byte{changesPath: DocumentedRecentChanges(), credentialsPath: DocumentedCredentials()} {
		if diff := cmp.Diff(strings.TrimSpace(string(want)), get(t, s, path).body); diff != "" {
			t.Errorf("%s:\n%s", path, diff)
		}
	}
}

func TestRecentChangesWindow(t *testing.T) {
	t.Parallel()
	s := run(t, Config{Now: frozen})
	ago := func(d time.Duration, id int64) Change {
		return Change{OrderID: "1", CertificateID: id, Status: StatusNormal, ChangedAt: start().Add(-d)}
	}
	s.SetChanges(ago(time.Hour, 9007199254740993), ago(time.Hour+time.Second, 2), ago(0, 3), ago(-time.Second, 4), ago(0, 3))
	s.AddChanges(Change{OrderID: `"x"`, CertificateID: 5, Status: "é\n"})
	want := `{"returnCode":"0","returnMessage":"Success","totalCount":4,"orders":[` +
		`{"orderId":"1","certificateId":9007199254740993,"status":"Normal"},` +
		`{"orderId":"1","certificateId":3,"status":"Normal"},` +
		`{"orderId":"1","certificateId":3,"status":"Normal"},` +
		`{"orderId":"\"x\"","certificateId":5,"status":"é\n"}]}`
	if diff := cmp.Diff(want, get(t, s, changesPath).body); diff != "" {
		t.Error(diff)
	}
	if got := get(t, s, "/api/v2/certificate/recentChanges?seconds=3601").body; !strings.Contains(got, `"totalCount":5`) {
		t.Errorf("a second more: %s", got)
	}
}

func TestSubjects(t *testing.T) {
	t.Parallel()
	s := run(t, Config{Now: frozen})
	for i := range 45 {
		s.PutSubject(Subject{SubjectID: strconv.Itoa(i)})
	}
	sizes := make([]int, 0, 4)
	var ids []string
	for page := range 4 {
		p := getPage(t, s, fmt.Sprintf("%s?page=%d", subjectsPath, page))
		if p.PageNo != page || p.TotalElements != 45 || p.PageSize != 20 {
			t.Errorf("page %d: %+v", page, p)
		}
		sizes = append(sizes, len(p.Content))
		for _, row := range p.Content {
			ids = append(ids, row.SubjectID)
		}
	}
	if diff := cmp.Diff([]int{20, 20, 5, 0}, sizes); diff != "" {
		t.Error(diff)
	}
	for i, id := range ids {
		if id != strconv.Itoa(i) {
			t.Fatalf("subject %d is %q", i, id)
		}
	}

	for i := 1; i < 45; i++ {
		s.RemoveSubject(strconv.Itoa(i))
	}
	s.RemoveSubject("never there")
	s.PutSubject(Subject{SubjectID: "0", SubjectNRN: "nrn:0", X509Subject: `CN="a\b"`, Enabled: true, CreateTime: "c"})
	s.AddCredentials("0", history(2)...)
	want := `{"pageNo":0,"totalElements":1,"pageSize":20,"content":[{"subjectId":"0","subjectNrn":"nrn:0","x509Subject":"CN=\"a\\b\"",` +
		`"enabled":true,"createTime":"c","updateTime":null,"lastSeenTime":"2026-11-22T18:00:00.000+09:00"}]}`
	if diff := cmp.Diff(want, get(t, s, subjectsPath).body); diff != "" {
		t.Error(diff)
	}
}

func TestFrozenLastSeen(t *testing.T) {
	t.Parallel()
	s := run(t, Config{FrozenLastSeen: true})
	s.PutSubject(Subject{SubjectID: "s1", LastSeenTime: "still"})
	s.AddCredentials("s1", history(1)...)
	if body := get(t, s, subjectsPath).body; !strings.Contains(body, `"lastSeenTime":"still"`) {
		t.Error(body)
	}
}

func TestRowForms(t *testing.T) {
	t.Parallel()
	s := run(t, Config{Order: OldestFirst})
	failed := true
	s.AddCredentials("s1",
		Credential{SerialNumber: "no time"},
		Credential{SerialNumber: "2", SeenTime: "2024-12-12T18:00:00+0900", Failed: &failed, X509CertificateData: "a\nb"},
		Credential{SerialNumber: "after 2", SeenTime: "yesterday"},
		Credential{SerialNumber: "3", SeenTime: "2024-12-12T18:00:01"},
		Credential{SerialNumber: "1", SeenTime: "2024-12-12T08:59:59Z"},
		Credential{Raw: json.RawMessage(`{"anything":[]}`), At: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)},
	)
	row := func(serial, cert, rest string) string {
		return `{"issuer":"","serialNumber":"` + serial + `","x509CertificateData":"` + cert + `",` + rest + `}`
	}
	want := `{"pageNo":0,"totalElements":6,"pageSize":20,"content":[` + strings.Join([]string{
		row("no time", "", `"failed":null,"seenTime":null`),
		row("1", "", `"failed":null,"seenTime":"2024-12-12T08:59:59Z"`),
		row("2", `a\nb`, `"failed":true,"seenTime":"2024-12-12T18:00:00+0900"`),
		row("after 2", "", `"failed":null,"seenTime":"yesterday"`),
		row("3", "", `"failed":null,"seenTime":"2024-12-12T18:00:01"`),
		`{"anything":[]}`,
	}, ",") + `]}`
	if diff := cmp.Diff(want, get(t, s, credentialsPath).body); diff != "" {
		t.Error(diff)
	}
	dropped := s.RemoveCredentials("s1", func(c Credential) bool { return c.Failed != nil && *c.Failed || c.Raw != nil })
	if dropped != 2 || s.CredentialCount("s1") != 4 {
		t.Errorf("dropped %d, left %d", dropped, s.CredentialCount("s1"))
	}
}

func TestPaging(t *testing.T) {
	t.Parallel()
	const rows = 250
	for _, order := range []Order{NewestFirst, OldestFirst, NoOrder} {
		for _, size := range []int{1, 20, 100, 250, 1000} {
			t.Run(fmt.Sprint(order, size), func(t *testing.T) {
				t.Parallel()
				s := run(t, Config{Order: order, Seed: 7, MaxPageSize: 100})
				s.AddCredentials("s1", history(rows)...)
				clamped := min(size, 100)
				var all []string
				for page := 0; ; page++ {
					p := getPage(t, s, fmt.Sprintf("%s?page=%d&size=%d", credentialsPath, page, size))
					if p.PageNo != page || p.PageSize != clamped || p.TotalElements != rows {
						t.Fatalf("page %d: %d, %d, %d", page, p.PageNo, p.PageSize, p.TotalElements)
					}
					if len(p.Content) == 0 {
						break
					}
					all = append(all, p.serials()...)
					if size == 1 && page == 30 {
						return // one row a page is slow, and enough was seen
					}
				}
				want := make([]string, rows)
				for i := range want {
					want[i] = strconv.Itoa(i)
				}
				switch order {
				case NewestFirst:
					slices.Reverse(want)
				case NoOrder:
					if slices.Equal(all, want) {
						t.Error("not shuffled")
					}
					slices.Sort(all)
					slices.Sort(want)
				case OldestFirst:
				}
				if diff := cmp.Diff(want, all); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func TestPageBounds(t *testing.T) {
	t.Parallel()
	s := run(t, Config{RefusePageSizeAbove: 50})
	s.AddCredentials("s1", history(3)...)
	if a := get(t, s, credentialsPath+"?size=51"); a.status != http.StatusBadRequest {
		t.Errorf("%v", a)
	}
	if p := getPage(t, s, credentialsPath+"?size=50"); len(p.Content) != 3 {
		t.Errorf("%d rows", len(p.Content))
	}
	s.Configure(func(c *Config) { c.RefusePageSizeAbove = 0 })
	for _, query := range []string{"?page=9223372036854775807&size=9223372036854775807", "?page=4611686018427387904&size=4", "?page=1&size=3"} {
		if p := getPage(t, s, credentialsPath+query); len(p.Content) != 0 || p.TotalElements != 3 {
			t.Errorf("%s: %+v", query, p)
		}
	}
	if p := getPage(t, s, credentialsPath+"?size=9223372036854775807"); len(p.Content) != 3 {
		t.Errorf("%+v", p)
	}
}

// A row that arrives between two pages moves the others, but shuffles nothing.
func TestRowsMove(t *testing.T) {
	t.Parallel()
	s := run(t, Config{})
	s.AddCredentials("s1", history(6)...)
	s.OnRequest(func(r Request) {
		if r.Page == 1 {
			s.AddCredentials("s1", NewCredential(start().Add(time.Second), "new", false))
		}
	})
	first := getPage(t, s, credentialsPath+"?page=0&size=3")
	second := getPage(t, s, credentialsPath+"?page=1&size=3")
	if diff := cmp.Diff([][]string{{"5", "4", "3"}, {"3", "2", "1"}}, [][]string{first.serials(), second.serials()}); diff != "" {
		t.Error(diff)
	}
}

func TestLies(t *testing.T) {
	t.Parallel()
	s := run(t, Config{Now: frozen})
	s.AddCredentials("s1", history(5)...)
	lie := func(change func(*Config)) {
		t.Helper()
		s.Configure(func(c *Config) {
			*c = Config{Keys: c.Keys, Now: c.Now}
			change(c)
		})
	}
	lie(func(c *Config) { c.LyingTotal = -3 })
	if p := getPage(t, s, credentialsPath); p.TotalElements != 2 || len(p.Content) != 5 {
		t.Errorf("%+v", p)
	}
	lie(func(c *Config) { c.LyingTotal = -30 })
	if p := getPage(t, s, credentialsPath); p.TotalElements != 0 {
		t.Errorf("%+v", p)
	}
	lie(func(c *Config) { c.LyingTotal, c.LiesOnlyFor = 1, Subjects })
	if p, q := getPage(t, s, credentialsPath), getPage(t, s, subjectsPath); p.TotalElements != 5 || q.TotalElements != 2 {
		t.Errorf("%+v, %+v", p, q)
	}
	lie(func(c *Config) { c.RepeatPage = true })
	first, ninth := getPage(t, s, credentialsPath+"?size=2"), getPage(t, s, credentialsPath+"?size=2&page=9")
	if ninth.PageNo != 9 || !slices.Equal(first.serials(), ninth.serials()) || len(ninth.Content) != 2 {
		t.Errorf("%+v", ninth)
	}
	lie(func(c *Config) { c.EndlessPages = true })
	seen := map[string]bool{}
	for page := range 3 {
		p := getPage(t, s, fmt.Sprintf("%s?page=%d&size=10", credentialsPath, page))
		for _, serial := range p.serials() {
			seen[serial] = true
		}
		if p.TotalElements != (page+2)*10 {
			t.Errorf("page %d: total %d", page, p.TotalElements)
		}
	}
	if len(seen) != 30 {
		t.Errorf("%d different rows", len(seen))
	}
	if p := getPage(t, s, subjectsPath+"?page=100000"); len(p.Content) != 20 || p.Content[0].SubjectID == "" {
		t.Errorf("%+v", p)
	}
	if p := getPage(t, s, subjectsPath+"?page=9223372036854775807"); len(p.Content) != 20 {
		t.Errorf("%+v", p)
	}
	lie(func(c *Config) { c.EnvelopeOnPage = true })
	if a := get(t, s, subjectsPath); a.status != http.StatusOK || !strings.HasPrefix(a.body, `{"returnCode":"9999"`) {
		t.Errorf("%v", a)
	}
}

// Whatever is added, trimmed and asked for in between, the rows stay in order and
// the shuffle keeps the same rows, each where it was relative to the others.
func TestHistoryModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := New(Config{})
		type modelRow struct{ at, n int }
		var model []modelRow
		next := 0
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			before := make([]uint64, 0)
			if sub := s.account.subjects["s1"]; sub != nil {
				sub.shuffle(3)
				for _, r := range sub.shuffled {
					before = append(before, r.added)
				}
			}
			if rapid.Bool().Draw(t, "add") {
				times := rapid.SliceOfN(rapid.IntRange(0, 20), 0, 12).Draw(t, "times")
				batch := make([]Credential, 0, len(times))
				for _, at := range times {
					batch = append(batch, Credential{SerialNumber: strconv.Itoa(next), At: time.Unix(int64(at), 0)})
					model = append(model, modelRow{at, next})
					next++
				}
				s.AddCredentials("s1", batch...)
				slices.SortStableFunc(model, func(a, b modelRow) int { return a.at - b.at })
			} else {
				keep := rapid.IntRange(0, 15).Draw(t, "keep")
				s.TrimCredentials("s1", keep)
				model = model[max(0, len(model)-keep):]
			}
			sub := s.account.subjects["s1"]
			if sub == nil {
				continue
			}
			got := make([]string, 0, len(sub.rows))
			want := make([]string, 0, len(model))
			after := make([]string, 0, len(sub.shuffled))
			for _, r := range sub.rows {
				got = append(got, r.serial)
			}
			for _, m := range model {
				want = append(want, strconv.Itoa(m.n))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
			for _, r := range sub.shuffled {
				after = append(after, r.serial)
			}
			if sub.shuffled != nil {
				place := map[string]int{}
				for i, serial := range after {
					place[serial] = i
				}
				last := -1
				for _, added := range before {
					if i, ok := place[strconv.FormatUint(added, 10)]; ok {
						if i < last {
							t.Fatal("reshuffled")
						}
						last = i
					}
				}
				slices.Sort(after)
				slices.Sort(want)
				if diff := cmp.Diff(want, after); diff != "" {
					t.Fatal(diff)
				}
			}
		}
	})
}

func TestAppendString(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		var back string
		if err := json.Unmarshal(appendString(nil, s), &back); err != nil || back != s {
			t.Fatalf("%q came back as %q, %v", s, back, err)
		}
	})
	if got := string(appendString(nil, "\xff")); !json.Valid([]byte(got)) {
		t.Errorf("%q", got)
	}
}

func BenchmarkPage(b *testing.B) {
	for _, order := range []Order{NewestFirst, NoOrder} {
		b.Run(order.String(), func(b *testing.B) {
			s := run(b, Config{Order: order})
			s.AddCredentials("s1", withCertificate(history(100_000))...)
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			b.ResetTimer()
			for i := range b.N {
				url := fmt.Sprintf("%s%s?page=%d&size=1000", s.URL(), credentialsPath, i%100)
				if _, err := doWith(transport, signed(b.Context(), b, url, s.Key(), time.Now())); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The page alone, without a wire.
func BenchmarkRender(b *testing.B) {
	s := New(Config{})
	s.AddCredentials("s1", withCertificate(history(100_000))...)
	r := signed(b.Context(), b, "http://127.0.0.1"+credentialsPath+"?page=7&size=1000", s.Key(), time.Now())
	r.RequestURI = r.URL.RequestURI()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		w := nowhere{http.Header{}}
		s.ServeHTTP(w, r)
	}
}

type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header       { return n.header }
func (nowhere) WriteHeader(int)             {}
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkAddMillion(b *testing.B) {
	rows := withCertificate(history(1_000_000))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		s := New(Config{})
		s.AddCredentials("s1", rows...)
	}
}

func BenchmarkAddNewest(b *testing.B) {
	s := New(Config{})
	s.AddCredentials("s1", history(1_000_000)...)
	at := start()
	b.ResetTimer()
	for range b.N {
		at = at.Add(time.Second)
		s.AddCredentials("s1", NewCredential(at, "1", false))
	}
}

func withCertificate(rows []Credential) []Credential {
	cert := "-----BEGIN CERTIFICATE-----\n" + strings.Repeat(strings.Repeat("A", 64)+"\n", 22) + "-----END CERTIFICATE-----\n"
	for i := range rows {
		rows[i].X509CertificateData = cert
	}
	return rows
}
