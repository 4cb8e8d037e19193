package ncpclient

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ncp_exporter/ncpclient/ncptest"
)

func TestWindowIsSentOnce(t *testing.T) {
	t.Parallel()
	const week = 7 * 24 * time.Hour
	sim := simulated(t, ncptest.Config{})
	api := certificateManagerAt(t, sim.URL())
	for window, want := range map[time.Duration]string{
		time.Second:        "seconds=1",
		59 * time.Second:   "seconds=59",
		time.Minute:        "minutes=1",
		61 * time.Second:   "seconds=61",
		time.Hour:          "minutes=60",
		24 * time.Hour:     "minutes=1440",
		week - time.Second: "seconds=604799",
		week - time.Minute: "minutes=10079",
		week:               "minutes=10080",
	} {
		sim.ResetStats()
		if _, err := api.RecentChanges(t.Context(), window); err != nil {
			t.Errorf("%s: %v", window, err)
			continue
		}
		if requests := sim.Requests(); len(requests) != 1 || requests[0].Query != want {
			t.Errorf("%s: sent %+v, want %q", window, requests, want)
		}
	}
	sim.ResetStats()
	for _, window := range []time.Duration{0, -time.Second, -week, 1, time.Second - 1, time.Second + 1, 90*time.Second + time.Millisecond, week + 1, week + time.Second, 1 << 62} {
		if _, err := api.RecentChanges(t.Context(), window); err == nil || !strings.Contains(err.Error(), "1s to 168h0m0s") {
			t.Errorf("%s: %v", window, err)
		}
	}
	if got := len(sim.Requests()); got != 0 {
		t.Errorf("%d requests for windows that cannot be", got)
	}
}

func TestWindowPicksTheChanges(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{})
	now := time.Now()
	sim.SetChanges(
		ncptest.Change{OrderID: "410", CertificateID: 55991, Status: ncptest.StatusOngoing, ChangedAt: now.Add(-time.Minute)},
		ncptest.Change{OrderID: "410", CertificateID: 55992, Status: ncptest.StatusNormal, ChangedAt: now.Add(-2 * time.Hour)},
	)
	api := certificateManagerAt(t, sim.URL())
	for window, want := range map[time.Duration]int{30 * time.Second: 0, time.Hour: 1, 24 * time.Hour: 2} {
		if changes, err := api.RecentChanges(t.Context(), window); err != nil || len(changes) != want {
			t.Errorf("%s: %+v, %v", window, changes, err)
		}
	}
}

func TestRecentChanges(t *testing.T) {
	t.Parallel()
	ok := func(members string) string { return `{"returnCode":"0","returnMessage":"Success"` + members + `}` }
	row := func(order, certificate, status string) string {
		return ok(fmt.Sprintf(`,"totalCount":1,"orders":[{"orderId":%s,"certificateId":%s,"status":%s}]`, order, certificate, status))
	}
	one := func(order, certificate string, status ValidationStatus) []CertificateChange {
		return []CertificateChange{{order, certificate, status}}
	}
	for name, tt := range map[string]struct {
		status int // 0 is 200
		body   string
		want   []CertificateChange
		reason Reason
		code   string
	}{
		"documented example": {0, string(ncptest.DocumentedRecentChanges()), []CertificateChange{{"410", "55991", StatusOngoing}, {"447", "55990", StatusOngoing}}, "", ""},
		"no changes":         {0, noChanges, nil, "", ""},
		"null orders":        {0, ok(`,"totalCount":0,"orders":null`), nil, "", ""},
		"missing orders":     {0, ok(`,"totalCount":0`), nil, "", ""},
		"nothing but 0":      {0, `{"returnCode":"0"}`, nil, "", ""},
		"number 0":           {0, `{"returnCode":0,"totalCount":0,"orders":[]}`, nil, "", ""},
		"0 with blanks":      {0, `{"returnCode":" 0 ","orders":[]}`, nil, "", ""},
		"BOM":                {0, "\ufeff" + noChanges, nil, "", ""},
		"unknown fields":     {0, ok(`,"x":{"orders":[{}]},"orders":[{"orderId":"1","certificateId":2,"status":"Normal","x":[null]}]`), one("1", "2", StatusNormal), "", ""},
		"orders come first":  {0, `{"orders":[{"orderId":"1","certificateId":2,"status":"Normal"}],"returnCode":"0"}`, one("1", "2", StatusNormal), "", ""},

		"19 digits":         {0, row(`1234567890123456789`, `9223372036854775807`, `"Normal"`), one("1234567890123456789", "9223372036854775807", StatusNormal), "", ""},
		"25 digits":         {0, row(`"x"`, `1234567890123456789012345`, `"Normal"`), one("x", "1234567890123456789012345", StatusNormal), "", ""},
		"ids as strings":    {0, row(`"0410"`, `"055991"`, `"Normal"`), one("0410", "055991", StatusNormal), "", ""},
		"status in capital": {0, row(`1`, `2`, `"ONGOING"`), one("1", "2", StatusOngoing), "", ""},
		"status in small":   {0, row(`1`, `2`, `"\t validation timed out\n"`), one("1", "2", StatusValidationTimedOut), "", ""},
		"status as printed": {0, row(`1`, `2`, `"Validation timed out"`), one("1", "2", StatusValidationTimedOut), "", ""},
		"another status":    {0, row(`1`, `2`, `"검증 완료"`), one("1", "2", StatusUnknown), "", ""},
		"empty status":      {0, row(`1`, `2`, `""`), one("1", "2", StatusUnknown), "", ""},
		"null status":       {0, row(`1`, `2`, `null`), one("1", "2", StatusUnknown), "", ""},
		"number as status":  {0, row(`1`, `2`, `1`), one("1", "2", StatusUnknown), "", ""},
		"duplicates": {
			0, ok(`,"orders":[{"orderId":"1","certificateId":2,"status":"Normal"},{"orderId":"1","certificateId":2,"status":"Normal"},{"orderId":"1","certificateId":2,"status":"Ongoing"}]`),
			[]CertificateChange{{"1", "2", StatusNormal}, {"1", "2", StatusNormal}, {"1", "2", StatusOngoing}},
			"", "",
		},

		"2200, HTTP 200":   {0, `{"returnCode":"2200","returnMessage":"no certificate found"}`, nil, "", ""},
		"2200, HTTP 400":   {400, `{"returnCode":"2200","returnMessage":"no certificate found"}`, nil, "", ""},
		"2200 as a number": {0, `{"returnCode":2200}`, nil, "", ""},
		"1006, HTTP 200":   {0, `{"returnCode":"1006","returnMessage":"No certificate exists.","orders":[]}`, nil, "", ""},
		"1006, HTTP 400":   {400, `{"responseError":{"returnCode":"1006","returnMessage":"No certificate exists."}}`, nil, "", ""},

		"another returnCode":   {0, `{"returnCode":"2101","returnMessage":"missing"}`, nil, ErrRefused, "2101"},
		"and rows":             {0, `{"returnCode":"9","orders":[{"orderId":"1","certificateId":2,"status":"Normal"}]}`, nil, ErrRefused, "9"},
		"00 is not 0":          {0, `{"returnCode":"00","orders":[]}`, nil, ErrRefused, "00"},
		"HTTP 400":             {400, `{"returnCode":"2100","returnMessage":"bad"}`, nil, ErrBadRequest, "2100"},
		"0 with HTTP 400":      {400, noChanges, nil, ErrBadRequest, "0"},
		"0 with HTTP 500":      {500, noChanges, nil, ErrServer, "0"},
		"no returnCode":        {0, `{"returnMessage":"Success","totalCount":0,"orders":[]}`, nil, ErrMalformedAnswer, ""},
		"null returnCode":      {0, `{"returnCode":null,"orders":[]}`, nil, ErrMalformedAnswer, ""},
		"object returnCode":    {0, `{"returnCode":{"a":"0"},"orders":[]}`, nil, ErrMalformedAnswer, ""},
		"returnCode elsewhere": {0, `{"x":{"returnCode":"0"},"orders":[]}`, nil, ErrMalformedAnswer, ""},
		"total, no orders":     {0, ok(`,"totalCount":3`), nil, ErrMalformedAnswer, ""},
		"total, null orders":   {0, ok(`,"totalCount":"3","orders":null`), nil, ErrMalformedAnswer, ""},
		"total, empty orders":  {0, ok(`,"totalCount":3,"orders":[]`), nil, ErrMalformedAnswer, ""},
		"orders is an object":  {0, ok(`,"orders":{}`), nil, ErrMalformedAnswer, ""},
		"orders is a string":   {0, ok(`,"orders":"none"`), nil, ErrMalformedAnswer, ""},
		"row is null":          {0, ok(`,"orders":[null]`), []CertificateChange{{Status: StatusUnknown}}, "", ""},
		"row is a string":      {0, ok(`,"orders":["x"]`), []CertificateChange{{Status: StatusUnknown}}, "", ""},
		"row without ids":      {0, ok(`,"orders":[{"status":"Normal"}]`), []CertificateChange{{Status: StatusNormal}}, "", ""},
		"null id":              {0, row(`null`, `2`, `"Normal"`), []CertificateChange{{Status: StatusNormal}}, "", ""},
		"id of two lines":      {0, row(`"1\n2"`, `2`, `"Normal"`), []CertificateChange{{Status: StatusNormal}}, "", ""},
		"id of 300 bytes":      {0, row(`"`+strings.Repeat("x", 300)+`"`, `2`, `"Normal"`), []CertificateChange{{Status: StatusNormal}}, "", ""},
		"nested 100,000":       {0, `{"returnCode":"0","orders":` + strings.Repeat("[", 1e5) + strings.Repeat("]", 1e5) + `}`, nil, ErrMalformedAnswer, ""},
		"nested in a row":      {0, ok(`,"orders":[{"orderId":` + strings.Repeat(`{"a":`, 1e5) + `1` + strings.Repeat("}", 1e5) + `}]`), nil, ErrMalformedAnswer, ""},
		"two documents":        {0, noChanges + noChanges, nil, ErrMalformedAnswer, ""},
		"empty":                {0, ``, nil, ErrMalformedAnswer, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := simulated(t, ncptest.Config{})
			sim.SetFault(ncptest.Always(ncptest.Raw(max(tt.status, http.StatusOK), "application/json", tt.body)))
			got, err := certificateManagerAt(t, sim.URL()).RecentChanges(t.Context(), time.Hour)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if tt.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e := wantReason(t, err, tt.reason); e.Code != tt.code || e.Status != max(tt.status, 200) {
				t.Errorf("code %q, status %d", e.Code, e.Status)
			}
		})
	}
}

// The server's own texts are not taken for an explanation when it gave no code.
func TestMissingReturnCodeIsSaid(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{})
	sim.SetFault(ncptest.Always(ncptest.NoReturnCode()))
	err := changesOf(t, certificateManagerAt(t, sim.URL()))
	if wantReason(t, err, ErrMalformedAnswer); !strings.Contains(err.Error(), "no returnCode") {
		t.Error(err)
	}
}

// With both parameters NCP would say that nothing happened, so the query is
// made in one place, and never with both.
func TestWindowQueryIsOneParameter(t *testing.T) {
	t.Parallel()
	for window := MinRecentChangesWindow; window <= MaxRecentChangesWindow; window += 7 * time.Second {
		query, err := windowQuery(window)
		if err != nil || len(query) != 1 {
			t.Fatalf("%s: %v, %v", window, query, err)
		}
		for name, unit := range map[string]time.Duration{"minutes": time.Minute, "seconds": time.Second} {
			if v := query.Get(name); v != "" && v != strconv.FormatInt(int64(window/unit), 10) {
				t.Fatalf("%s: %v", window, query)
			}
		}
	}
}
