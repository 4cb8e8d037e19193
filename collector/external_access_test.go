package collector

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"ncp_exporter/ncpclient/ncptest"
)

const (
	authFamily    = "ncp_external_access_credential_authentications_total"
	lastFamily    = "ncp_external_access_credential_last_authentication_timestamp_seconds"
	entriesFamily = "ncp_external_access_credential_history_entries"
	infoFamily    = "ncp_external_access_subject_info"
	subjectFamily = "ncp_external_access_subjects"
	freshFamily   = "ncp_external_access_subject_refresh_success"
	successFamily = "ncp_scrape_collector_success"
)

// past is when the histories of these tests begin.
func past() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC) }

// history is n authentications, one a minute; every fifth failed.
func history(n int) []ncptest.Credential {
	rows := make([]ncptest.Credential, n)
	for i := range rows {
		rows[i] = ncptest.NewCredential(past().Add(time.Duration(i)*time.Minute), strconv.Itoa(i), i%5 == 4)
	}
	return rows
}

func put(w *ncptest.Server, ids ...string) {
	for _, id := range ids {
		w.PutSubject(ncptest.Subject{SubjectID: id, X509Subject: "CN=" + id, Enabled: true})
	}
}

func TestHistories(t *testing.T) {
	for _, order := range []ncptest.Order{ncptest.NewestFirst, ncptest.OldestFirst, ncptest.NoOrder} {
		t.Run(order.String(), func(t *testing.T) {
			w := newWorld(t, worldOptions{pageSize: 20, ncp: ncptest.Config{Order: order}})
			put(w.Server, "busy", "idle")
			w.AddCredentials("busy", history(250)...)
			for range 3 {
				expect(t, w.scrape(t), `
					ncp_external_access_credential_authentications_total{result="failure",subject_id="busy"} 50
					ncp_external_access_credential_authentications_total{result="failure",subject_id="idle"} 0
					ncp_external_access_credential_authentications_total{result="success",subject_id="busy"} 200
					ncp_external_access_credential_authentications_total{result="success",subject_id="idle"} 0
					ncp_external_access_credential_history_entries{subject_id="busy"} 250
					ncp_external_access_credential_history_entries{subject_id="idle"} 0
					ncp_external_access_credential_last_authentication_timestamp_seconds{result="failure",subject_id="busy"} 1.767337985678e+09
					ncp_external_access_credential_last_authentication_timestamp_seconds{result="success",subject_id="busy"} 1.767337925678e+09
					ncp_external_access_subject_info{enabled="true",subject_id="busy",x509_subject="CN=busy"} 1
					ncp_external_access_subject_info{enabled="true",subject_id="idle",x509_subject="CN=idle"} 1
					ncp_external_access_subject_refresh_success{subject_id="busy"} 1
					ncp_external_access_subject_refresh_success{subject_id="idle"} 1
					ncp_external_access_subjects 2
					ncp_external_access_uncounted_entries{reason="future_time"} 0
					ncp_external_access_uncounted_entries{reason="no_time"} 0
				`, authFamily, lastFamily, entriesFamily, infoFamily, freshFamily, subjectFamily, "ncp_external_access_uncounted_entries")
			}
		})
	}
}

// The certificate of the newest failure is shown while that is young, one for each
// subject, and not while it is unknown how the subject does.
func TestCertificateOfTheLastFailure(t *testing.T) {
	const family = "ncp_external_access_credential_last_failure_info"
	now := past().Add(24 * time.Hour)
	clock := func() time.Time { return now }
	row := func(ago time.Duration, issuer, serial string, failed bool) ncptest.Credential {
		c := ncptest.NewCredential(now.Add(-ago), serial, failed)
		c.Issuer = issuer
		return c
	}
	w := newWorld(t, worldOptions{failureInfo: time.Hour, now: clock})
	off := newWorld(t, worldOptions{now: clock})
	for _, server := range []*ncptest.Server{w.Server, off.Server} {
		put(server, "a", "b", "old", "well")
		server.AddCredentials("a", row(3*time.Minute, "CN=x", "1", true), row(2*time.Minute, "CN=\"y\"", "***2", true), row(time.Minute, "CN=x", "3", false))
		server.AddCredentials("b", row(59*time.Minute, "CN=x", "1", true))
		server.AddCredentials("old", row(time.Hour, "CN=x", "4", true))
		server.AddCredentials("well", row(time.Minute, "CN=x", "5", false))
	}
	expect(t, w.scrape(t), `
		ncp_external_access_credential_last_failure_info{issuer="CN=\"y\"",serial_number="***2",subject_id="a"} 1
		ncp_external_access_credential_last_failure_info{issuer="CN=x",serial_number="1",subject_id="b"} 1
	`, family)
	expect(t, off.scrape(t), "", family)
	w.AddCredentials("a", row(0, "CN=z", "6", true))
	now = now.Add(time.Minute)
	expect(t, w.scrape(t), `
		ncp_external_access_credential_last_failure_info{issuer="CN=z",serial_number="6",subject_id="a"} 1
	`, family)
	w.SetFault(ncptest.ForSubject("a", ncptest.GatewayError(500, "900", "Unexpected Error")))
	expect(t, w.scrape(t), "", family)
}

// The counter of failures has the newest failure as its exemplar, while its certificate
// is shown, if an exemplar has room for it.
func TestExemplarOfFailures(t *testing.T) {
	now := past().Add(24 * time.Hour)
	w := newWorld(t, worldOptions{failureInfo: time.Hour, now: func() time.Time { return now }})
	put(w.Server, "s")
	want := func(serial string, at time.Time) {
		t.Helper()
		s := w.scrape(t)
		for _, m := range slices.Concat(s.parts...) {
			var out dto.Metric
			if err := m.Write(&out); err != nil {
				t.Fatal(err)
			}
			e := out.GetCounter().GetExemplar()
			failures := strings.Contains(m.Desc().String(), authFamily) && out.GetLabel()[0].GetValue() == "failure"
			switch {
			case !failures || serial == "":
				if e != nil {
					t.Errorf("%s has the exemplar %s", m.Desc(), e)
				}
			case len(e.GetLabel()) != 1 || e.GetLabel()[0].GetName() != "serial_number" || e.GetLabel()[0].GetValue() != serial || !e.GetTimestamp().AsTime().Equal(at):
				t.Errorf("the exemplar is %s, want %s at %s", e, serial, at)
			}
		}
	}
	fail := func(serial string, at time.Time) { w.AddCredentials("s", ncptest.NewCredential(at, serial, true)) }
	want("", now)
	begin := now
	fail("***1", begin)
	want("***1", begin)
	w.AddCredentials("s", ncptest.NewCredential(begin.Add(time.Second), "well", false))
	want("***1", begin)
	fail("***1", begin.Add(2*time.Second))
	want("***1", begin.Add(2*time.Second))
	fail("2", begin.Add(3*time.Second))
	want("2", begin.Add(3*time.Second))
	now = now.Add(2 * time.Hour)
	want("", now)
	longest := strings.Repeat("é", 128-len("serial_number"))
	fail(longest, now)
	want(longest, now)
	fail(longest+"1", now.Add(time.Second))
	want("", now)
	fail("", now.Add(2*time.Second))
	want("", now)
}

func TestNewRowsAreCountedOnce(t *testing.T) {
	w := newWorld(t, worldOptions{pageSize: 20})
	put(w.Server, "s")
	rows := history(300)
	for n := 0; n < len(rows); n += 30 {
		w.AddCredentials("s", rows[n:n+30]...)
		w.TrimCredentials("s", 50)
		s := w.scrape(t)
		wantValue(t, s, float64(n+30)*4/5, authFamily, "result", "success")
		wantValue(t, s, float64(n+30)/5, authFamily, "result", "failure")
	}
}

func TestManySubjects(t *testing.T) {
	w := newWorld(t, worldOptions{pageSize: 20})
	for i := range 45 {
		id := fmt.Sprintf("s%02d", i)
		put(w.Server, id)
		w.AddCredentials(id, history(i)...)
	}
	s := w.scrape(t)
	wantValue(t, s, 45, subjectFamily)
	for i := range 45 {
		wantValue(t, s, float64(i), entriesFamily, "subject_id", fmt.Sprintf("s%02d", i))
	}
	if got := w.Count(ncptest.Subjects); got != 3 {
		t.Errorf("%d subject pages were asked for, want 3", got)
	}
}

func TestSubjectsNamedByFlag(t *testing.T) {
	w := newWorld(t, worldOptions{subjects: []string{"b"}})
	put(w.Server, "a", "b")
	w.AddCredentials("b", history(5)...)
	s := w.scrape(t)
	wantValue(t, s, 1, subjectFamily)
	wantValue(t, s, 4, authFamily, "subject_id", "b", "result", "success")
	wantAbsent(t, s, authFamily, "subject_id", "a")
	wantAbsent(t, s, infoFamily)
	if got := w.Count(ncptest.Subjects); got != 0 {
		t.Errorf("the list was asked for %d times, want never: the key may have no permission for it", got)
	}
}

func TestSubjectsComeAndGo(t *testing.T) {
	w := newWorld(t, worldOptions{})
	put(w.Server, "a", "b")
	w.AddCredentials("a", history(5)...)
	w.scrape(t)
	w.RemoveSubject("a")
	put(w.Server, "c")
	w.AddCredentials("c", history(10)...)
	s := w.scrape(t)
	wantAbsent(t, s, authFamily, "subject_id", "a")
	wantAbsent(t, s, infoFamily, "subject_id", "a")
	wantAbsent(t, s, freshFamily, "subject_id", "a")
	wantValue(t, s, 2, authFamily, "subject_id", "c", "result", "failure")
	wantValue(t, s, 2, subjectFamily)
	wantValue(t, s, 1, successFamily, "collector", "external_access")

	// If a subject comes back, its counters continue.
	put(w.Server, "a")
	w.AddCredentials("a", history(6)...)
	wantValue(t, w.scrape(t), 5, authFamily, "subject_id", "a", "result", "success")
}

func TestASubjectThatFailsByItself(t *testing.T) {
	w := newWorld(t, worldOptions{})
	put(w.Server, "good", "bad", "never")
	w.AddCredentials("good", history(5)...)
	w.AddCredentials("bad", history(5)...)
	w.SetFault(ncptest.ForSubject("never", ncptest.EmptyBody(500)))
	w.scrape(t)
	w.SetFault(ncptest.FirstOf(
		ncptest.ForSubject("bad", ncptest.GatewayError(500, "900", "unexpected")),
		ncptest.ForSubject("never", ncptest.EmptyBody(500)),
	))
	w.AddCredentials("good", history(10)[5:]...)
	s := w.scrape(t)
	wantValue(t, s, 0, successFamily, "collector", "external_access")
	wantValue(t, s, 8, authFamily, "subject_id", "good", "result", "success")
	wantValue(t, s, 10, entriesFamily, "subject_id", "good")
	wantValue(t, s, 1, freshFamily, "subject_id", "good")
	wantValue(t, s, 4, authFamily, "subject_id", "bad", "result", "success")
	wantAbsent(t, s, entriesFamily, "subject_id", "bad")
	wantAbsent(t, s, lastFamily, "subject_id", "bad")
	wantValue(t, s, 0, freshFamily, "subject_id", "bad")
	wantValue(t, s, 1, infoFamily, "subject_id", "bad")
	// Half a history is never counted: nothing was read completely, so nothing counts.
	wantAbsent(t, s, authFamily, "subject_id", "never")
	wantAbsent(t, s, "ncp_external_access_subject_refresh_timestamp_seconds", "subject_id", "never")

	w.SetFault(nil)
	s = w.scrape(t)
	wantValue(t, s, 1, successFamily, "collector", "external_access")
	wantValue(t, s, 5, entriesFamily, "subject_id", "bad")
	wantValue(t, s, 0, authFamily, "subject_id", "never", "result", "failure")
}

func TestHalfAHistoryIsNotCounted(t *testing.T) {
	w := newWorld(t, worldOptions{pageSize: 20})
	put(w.Server, "s")
	w.AddCredentials("s", history(50)...)
	w.SetFault(ncptest.ForPage(ncptest.Credentials, 2, ncptest.EmptyBody(500)))
	wantAbsent(t, w.scrape(t), authFamily)
	w.SetFault(nil)
	wantValue(t, w.scrape(t), 40, authFamily, "result", "success")

	w.AddCredentials("s", history(100)[50:]...)
	w.SetFault(ncptest.ForPage(ncptest.Credentials, 2, ncptest.EmptyBody(500)))
	wantValue(t, w.scrape(t), 40, authFamily, "result", "success")
	w.SetFault(nil)
	wantValue(t, w.scrape(t), 80, authFamily, "result", "success")
}

// All gauges go when the list of subjects cannot be read; all counters stay.
func TestTheListFails(t *testing.T) {
	w := newWorld(t, worldOptions{})
	put(w.Server, "s")
	w.AddCredentials("s", history(5)...)
	w.scrape(t)
	w.SetFault(ncptest.ForOp(ncptest.Subjects, ncptest.HTMLPage(503)))
	expect(t, w.scrape(t), `
		ncp_external_access_credential_authentications_total{result="failure",subject_id="s"} 1
		ncp_external_access_credential_authentications_total{result="success",subject_id="s"} 4
		ncp_scrape_collector_success{collector="certificate_manager"} 1
		ncp_scrape_collector_success{collector="external_access"} 0
	`, authFamily, lastFamily, entriesFamily, infoFamily, freshFamily, subjectFamily, successFamily,
		"ncp_external_access_uncounted_entries", "ncp_external_access_counting_since_timestamp_seconds",
		"ncp_external_access_subject_last_seen_timestamp_seconds", "ncp_external_access_subject_refresh_timestamp_seconds")
}

func TestOddRows(t *testing.T) {
	w := newWorld(t, worldOptions{})
	put(w.Server, "s")
	raw := func(s string) ncptest.Credential { return ncptest.Credential{Raw: json.RawMessage(s)} }
	w.AddCredentials("s",
		raw(`{"issuer":"CN=A","serialNumber":1,"failed":null,"seenTime":"2026-01-02T00:00:00Z"}`),
		raw(`{"issuer":"CN=A","serialNumber":2,"seenTime":"2026-01-02 00:00:00"}`),
		raw(`{"issuer":"CN=A","serialNumber":2,"failed":"TRUE","seenTime":"2026-01-02T09:00:00+0900","x509CertificateData":"junk"}`),
		raw(`{"issuer":"CN=A","serialNumber":"2","failed":true,"seenTime":"2026-01-02T00:00:00.000Z"}`), // the same again
		raw(`{"issuer":"CN=A","failed":false,"seenTime":null}`),
		raw(`{"issuer":"CN=A","failed":false,"seenTime":"soon"}`),
		raw(`{"failed":false,"seenTime":"2100-01-01T00:00:00Z"}`),
		raw(`null`), raw(`17`), raw(`{}`))
	expect(t, w.scrape(t), `
		ncp_external_access_credential_authentications_total{result="failure",subject_id="s"} 1
		ncp_external_access_credential_authentications_total{result="success",subject_id="s"} 0
		ncp_external_access_credential_authentications_total{result="unknown",subject_id="s"} 2
		ncp_external_access_uncounted_entries{reason="future_time"} 1
		ncp_external_access_uncounted_entries{reason="no_time"} 5
	`, authFamily, "ncp_external_access_uncounted_entries")
}

func TestHostileNames(t *testing.T) {
	w := newWorld(t, worldOptions{})
	dn := "CN=\"x\", O=a\\b\n<script>{}=\u2028" + strings.Repeat("é", 2000)
	w.PutSubject(ncptest.Subject{SubjectID: "a/b?c#d%2e e", X509Subject: dn})
	w.PutSubject(ncptest.Subject{SubjectID: "..", X509Subject: "CN=up"})
	w.PutSubject(ncptest.Subject{SubjectID: "good", X509Subject: "CN=good"})
	w.AddCredentials("a/b?c#d%2e e", history(5)...)
	w.AddCredentials("good", history(5)...)
	s := w.scrape(t)
	wantValue(t, s, 4, authFamily, "subject_id", "a/b?c#d%2e e", "result", "success")
	wantValue(t, s, 4, authFamily, "subject_id", "good", "result", "success")
	wantValue(t, s, 2, subjectFamily)
	wantValue(t, s, 1, infoFamily, "subject_id", "a/b?c#d%2e e", "x509_subject", LabelValue(dn), "enabled", "false")
	wantValue(t, s, 0, successFamily, "collector", "external_access")
	if !strings.Contains(w.log.String(), "1 of the 3 subjects that NCP lists have no usable id") {
		t.Errorf("the log does not tell of the subject that is left out:\n%s", w.log)
	}
}

// Rows that arrive while the pages are read move others to later pages. Rows that are
// dropped move others to earlier pages.
func TestPagesShift(t *testing.T) {
	for _, order := range []ncptest.Order{ncptest.NewestFirst, ncptest.OldestFirst} {
		t.Run(order.String(), func(t *testing.T) {
			w := newWorld(t, worldOptions{pageSize: 20, ncp: ncptest.Config{Order: order}})
			put(w.Server, "s")
			rows := history(400)
			w.AddCredentials("s", rows[:200]...)
			var mu sync.Mutex
			added := 200
			w.OnRequest(func(r ncptest.Request) {
				mu.Lock()
				defer mu.Unlock()
				if r.Op == ncptest.Credentials && r.Page > 0 && added < 300 {
					w.AddCredentials("s", rows[added:added+7]...)
					added += 7
				}
			})
			w.scrape(t)
			w.OnRequest(nil)
			s := w.scrape(t)
			wantValue(t, s, 1, successFamily, "collector", "external_access")
			success, _ := value(t, s, authFamily, "result", "success")
			failure, _ := value(t, s, authFamily, "result", "failure")
			if success+failure != float64(added) {
				t.Errorf("%v rows were counted, want %d", success+failure, added)
			}
		})
	}
	t.Run("dropped once", func(t *testing.T) {
		w := newWorld(t, worldOptions{pageSize: 20, ncp: ncptest.Config{Order: ncptest.OldestFirst}})
		put(w.Server, "s")
		w.AddCredentials("s", history(200)...)
		var once sync.Once
		w.OnRequest(func(r ncptest.Request) {
			if r.Op == ncptest.Credentials && r.Page == 3 {
				once.Do(func() { w.TrimCredentials("s", 195) })
			}
		})
		s := w.scrape(t)
		wantValue(t, s, 1, successFamily, "collector", "external_access")
		success, _ := value(t, s, authFamily, "result", "success")
		failure, _ := value(t, s, authFamily, "result", "failure")
		// The five dropped rows were in no complete read.
		if success+failure != 195 {
			t.Errorf("%v rows were counted, want the 195 of the whole read", success+failure)
		}
	})
}

func TestLists(t *testing.T) {
	tests := []struct {
		name   string
		lie    ncptest.Config
		counts bool
	}{
		{"clamped pages", ncptest.Config{MaxPageSize: 30}, true},
		{"refused page size", ncptest.Config{RefusePageSizeAbove: 50}, true},
		{"endless", ncptest.Config{EndlessPages: true, LiesOnlyFor: ncptest.Credentials}, false},
		{"repeated", ncptest.Config{RepeatPage: true, LiesOnlyFor: ncptest.Credentials}, false},
		{"total too high", ncptest.Config{LyingTotal: 5, LiesOnlyFor: ncptest.Credentials}, true},
		{"total too low", ncptest.Config{LyingTotal: -5, LiesOnlyFor: ncptest.Credentials}, true},
		{"an envelope for a page", ncptest.Config{EnvelopeOnPage: true, LiesOnlyFor: ncptest.Credentials}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, worldOptions{ncp: tt.lie})
			put(w.Server, "s")
			w.AddCredentials("s", history(250)...)
			s := w.scrape(t)
			if tt.counts {
				wantValue(t, s, 200, authFamily, "result", "success")
				wantValue(t, s, 1, successFamily, "collector", "external_access")
				return
			}
			wantAbsent(t, s, authFamily)
			wantValue(t, s, 0, freshFamily, "subject_id", "s")
			wantValue(t, s, 0, successFamily, "collector", "external_access")
		})
	}
}

func TestThePageSizeIsSaidOnce(t *testing.T) {
	w := newWorld(t, worldOptions{ncp: ncptest.Config{RefusePageSizeAbove: 50}})
	put(w.Server, "a", "b")
	w.scrape(t)
	w.scrape(t)
	if n := strings.Count(w.log.String(), "it refuses the page size"); n != 1 {
		t.Errorf("the log tells of the page size %d times, want once:\n%s", n, w.log)
	}
}

func TestEveryFaultHealsByItself(t *testing.T) {
	faults := map[string]http.Handler{
		"500":              ncptest.GatewayError(500, "900", "unexpected"),
		"403 with no body": ncptest.EmptyForbidden(),
		"429":              ncptest.Throttled(""),
		"other returnCode": ncptest.ReturnCode(200, "9999", "no"),
		"HTML":             ncptest.HTMLPage(200),
		"cut short":        ncptest.CutShort(),
		"half a document":  ncptest.CutClean(),
		"no returnCode":    ncptest.NoReturnCode(),
		"never":            ncptest.Hang(),
		"reset":            ncptest.Reset(),
		"nested":           ncptest.Nested(100000),
		"not JSON":         ncptest.NotJSON(),
		"redirect":         ncptest.Redirect("http://127.0.0.1:1/"),
	}
	both := map[string][]ncptest.Operation{
		"certificate_manager": {ncptest.RecentChanges},
		"external_access":     {ncptest.Subjects, ncptest.Credentials},
	}
	other := map[string]string{"certificate_manager": "external_access", "external_access": "certificate_manager"}
	for name, handler := range faults {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldOptions{timeout: faultTimeout(name)})
			put(w.Server, "s")
			w.AddCredentials("s", history(5)...)
			w.SetChanges(change("1", 1, "Ongoing"))
			w.scrape(t)
			for api, operations := range both {
				var fault []ncptest.Fault
				for _, op := range operations {
					fault = append(fault, ncptest.ForOp(op, handler))
				}
				w.SetFault(ncptest.FirstOf(fault...))
				s := w.scrape(t)
				wantValue(t, s, 0, successFamily, "collector", api)
				wantValue(t, s, 1, successFamily, "collector", other[api])
				wantValue(t, s, 4, authFamily, "result", "success")
				wantValue(t, s, 0, changesFamily, "status", "ongoing")
				if api == "external_access" {
					wantAbsent(t, s, subjectFamily)
					wantAbsent(t, s, entriesFamily)
					wantValue(t, s, 1, changedFamily, "status", "ongoing")
				} else {
					wantAbsent(t, s, changedFamily)
					wantAbsent(t, s, windowFamily)
					wantValue(t, s, 5, entriesFamily, "subject_id", "s")
				}
				w.SetFault(nil)
				s = w.scrape(t)
				wantValue(t, s, 1, successFamily, "collector", api)
				wantValue(t, s, 1, subjectFamily)
				wantValue(t, s, 1, changedFamily, "status", "ongoing")
			}
		})
	}
}

// faultTimeout gives the timeout of one request: short if the answer never comes, else
// so long that a slow machine does not cause a fault of its own.
func faultTimeout(fault string) time.Duration {
	if fault == "never" {
		return time.Second
	}
	return 30 * time.Second
}

// If there are more subjects than a scrape has time for, those that waited longest are
// read first, so that all are read in turn.
func TestTheLongestWaitingIsReadFirst(t *testing.T) {
	w := newWorld(t, worldOptions{concurrency: 1})
	var ids []string
	for i := range 9 {
		ids = append(ids, fmt.Sprintf("s%d", i))
	}
	put(w.Server, ids...)
	w.scrape(t)
	// From now on three subjects can be read in a scrape.
	var mu sync.Mutex
	var left int
	seen := make(map[string]int)
	w.SetFault(func(r ncptest.Request) http.Handler {
		mu.Lock()
		defer mu.Unlock()
		if r.Op != ncptest.Credentials {
			return nil
		}
		if left == 0 {
			return ncptest.EmptyBody(504)
		}
		left--
		seen[r.SubjectID]++
		return nil
	})
	for range 3 {
		mu.Lock()
		left = 3
		mu.Unlock()
		w.scrape(t)
	}
	for _, id := range ids {
		if seen[id] != 1 {
			t.Errorf("%s was read %d times in three scrapes of three subjects, want once: %v", id, seen[id], seen)
		}
	}
}
