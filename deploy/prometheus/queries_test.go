//go:build e2e

package prometheus

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The story of the queries of docs/metrics.md, in minutes. Two exporters, a and b, watch
// one account; b is scraped a minute later. Another account has the same ids.
//
//	31  two logins of s1 fail
//	61  b loses its ledger: its counters start with what the history holds, which is more
//	80  s1 and certificate 7 get other names
//
// Nothing happens after that.
var story = [][2]string{ //nolint:gochecknoglobals // a table
	{`up{instance="a"}`, `1x300`},
	{`ncp_external_access_counting_since_timestamp_seconds{instance="a"}`, `-1000000x300`},
	{`ncp_external_access_counting_since_timestamp_seconds{instance="b"}`, `-1000000x60 3600x239`},
	{`ncp_external_access_credential_authentications_total{instance="a",subject_id="s1",result="failure"}`, `3x30 5x269`},
	{`ncp_external_access_credential_authentications_total{instance="b",subject_id="s1",result="failure"}`, `3x31 5x28 400x239`},
	{`ncp_external_access_credential_authentications_total{instance="a",subject_id="s1",result="success"}`, `0+0.13333333x300`},
	{`ncp_external_access_credential_authentications_total{instance="b",subject_id="s1",result="success"}`, `0+0.13333333x60 9000+0.13333333x239`},
	{`ncp_external_access_subject_info{instance="a",subject_id="s1",x509_subject="CN=old",enabled="true"}`, `1x79 stale`},
	{`ncp_external_access_subject_info{instance="b",subject_id="s1",x509_subject="CN=old",enabled="true"}`, `1x80 stale`},
	{`ncp_external_access_subject_info{instance="a",subject_id="s1",x509_subject="CN=new",enabled="true"}`, `_x79 1x220`},
	{`ncp_external_access_subject_info{instance="b",subject_id="s1",x509_subject="CN=new",enabled="true"}`, `_x80 1x219`},
	{`ncp_external_access_credential_last_authentication_timestamp_seconds{instance="a",subject_id="s1",result="success"}`, `0+60x300`},
	{`ncp_external_access_credential_last_authentication_timestamp_seconds{instance="b",subject_id="s1",result="success"}`, `-60+60x300`},
	{`ncp_external_access_subject_certificate_not_after_timestamp_seconds{instance="a",subject_id="s1"}`, `864000x300`},
	{`ncp_external_access_subject_certificate_not_after_timestamp_seconds{instance="b",subject_id="s1"}`, `864000x300`},
	{`ncp_external_access_subject_refresh_timestamp_seconds{instance="a",subject_id="s1"}`, `0+60x300`},
	{`ncp_external_access_subject_refresh_timestamp_seconds{instance="b",subject_id="s1"}`, `-60+60x300`},
	{`ncp_external_access_subject_refresh_success{instance="a",subject_id="s1"}`, `1x300`},
	{`ncp_external_access_subject_refresh_success{instance="b",subject_id="s1"}`, `1x60 0x239`},
	{`ncp_scrape_collector_success{instance="a",collector="external_access"}`, `1x300`},
	{`ncp_scrape_collector_success{instance="b",collector="external_access"}`, `1x60 0x239`},
	{`ncp_api_requests_total{instance="a",api="external_access",operation="subjects",code="200"}`, `0+60x300`},
	{`ncp_api_requests_total{instance="b",api="external_access",operation="subjects",code="200"}`, `0+60x300`},
	{`ncp_api_clock_offset_seconds{instance="a",api="external_access"}`, `0x300`},
	{`ncp_api_clock_offset_seconds{instance="b",api="external_access"}`, `-90x300`},
	{`ncp_certificate_manager_certificate_status{instance="a",order_id="4",certificate_id="7",status="validation_timed_out"}`, `1x300`},
	{`ncp_certificate_manager_certificate_status{instance="b",order_id="4",certificate_id="7",status="validation_timed_out"}`, `1x300`},
	{`ncp_certificate_manager_certificate_status{instance="a",order_id="4",certificate_id="8",status="ongoing"}`, `1x300`},
	{`ncp_certificate_manager_certificate_status{instance="b",order_id="4",certificate_id="8",status="ongoing"}`, `1x300`},
	// Without a name: the list does not have it, or is not read.
	{`ncp_external_access_credential_authentications_total{instance="a",subject_id="s2",result="failure"}`, `0x30 1x270`},
	{`ncp_certificate_manager_certificate_status{instance="a",order_id="5",certificate_id="9",status="validation_timed_out"}`, `1x300`},
	{`ncp_certificate_manager_certificate_info{instance="a",certificate_id="7",name="x",common_name="old.example.com"}`, `1x79 stale`},
	{`ncp_certificate_manager_certificate_info{instance="b",certificate_id="7",name="x",common_name="old.example.com"}`, `1x80 stale`},
	{`ncp_certificate_manager_certificate_info{instance="a",certificate_id="7",name="y",common_name="new.example.com"}`, `_x79 1x220`},
	{`ncp_certificate_manager_certificate_info{instance="b",certificate_id="7",name="y",common_name="new.example.com"}`, `_x80 1x219`},
}

// twoNames is a minute in which the exporters tell different names. Either may be taken,
// so here answers are counted.
const twoNames = 80

// answers are what each query says: by minute, the series and their values, rounded to a
// tenth, as newer versions of Prometheus extrapolate a little.
func answers() map[string]map[int]map[string]float64 {
	type samples map[string]float64
	always := func(s samples) map[int]map[string]float64 {
		return map[int]map[string]float64{60: s, 65: s, 90: s, 91: s, 140: s}
	}
	const (
		subject  = `{job="ncp", subject_id="s1"}`
		another  = `{job="ncp", subject_id="s2"}`
		old      = `{job="ncp", subject_id="s1", x509_subject="CN=old"}`
		renamed  = `{job="ncp", subject_id="s1", x509_subject="CN=new"}`
		timedOut = `{job="ncp", order_id="4", certificate_id="7", common_name="old.example.com"}`
		moved    = `{job="ncp", order_id="4", certificate_id="7", common_name="new.example.com"}`
		nameless = `{job="ncp", order_id="4", certificate_id="7"}`
		unnamed  = `{job="ncp", order_id="5", certificate_id="9"}`
	)
	failed := samples{subject: 2, another: 1}
	return map[string]map[int]map[string]float64{
		"Which validations timed out, and of which domain?": {
			60: {timedOut: 1, unnamed: 1}, 79: {timedOut: 1, unnamed: 1}, twoNames: {nameless: 1, unnamed: 1}, 81: {moved: 1, unnamed: 1}, 140: {moved: 1, unnamed: 1},
		},
		"Which validations are still ongoing?": always(samples{`{job="ncp", order_id="4", certificate_id="8"}`: 1}),
		"Who failed to log in within the last hour, and how often?": {
			25: nil, 60: failed, 61: failed, 65: failed, 89: failed, 95: nil, 124: nil, 126: nil, 140: nil,
		},
		"The same, with the name of the subject": {60: {old: 2, another: 1}, 79: {old: 2, another: 1}, twoNames: {subject: 1, another: 1}, 81: {renamed: 2, another: 1}, 140: nil},
		"What share of the logins of the last hour failed?": {
			61: {subject: 0.2, another: 1}, 89: {subject: 0.2, another: 1}, 95: {subject: 0}, 140: {subject: 0},
		},
		"For how long has nobody logged in as a subject, in seconds?": always(samples{subject: 0}),
		"Which client certificates expire next, in days?":             {0: {subject: 10}, 90: {subject: 9.9}},
		"Which exporter could not read everything in its last scrape?": {
			60: nil,
			90: {
				`ncp_scrape_collector_success{job="ncp", instance="b", collector="external_access"}`:    0,
				`ncp_external_access_subject_refresh_success{job="ncp", instance="b", subject_id="s1"}`: 0,
			},
		},
		"How old are the numbers of each subject, in seconds?": always(samples{subject: 0}),
		"How many requests a second are sent to NCP?":          always(samples{`{job="ncp", api="external_access"}`: 2}),
		"Whose clock is wrong, by how many seconds?":           always(samples{`ncp_api_clock_offset_seconds{job="ncp", instance="b", api="external_access"}`: -90}),
	}
}

var queryBlock = regexp.MustCompile("(?s)\n\\*\\*([^*\n]+)\\*\\*[^\n]*\n\n```promql\n(.*?)```\n")

// TestQueries asks Prometheus each query of docs/metrics.md, over two exporters of one
// account, a change of names and the loss of a ledger.
func TestQueries(t *testing.T) {
	t.Parallel()
	test := unitTest{Name: "queries of docs/metrics.md", Interval: "1m"}
	for _, series := range story {
		name, rest, _ := strings.Cut(series[0], "{")
		for _, job := range []string{"ncp", "other"} {
			values := series[1]
			if job == "other" { // nothing happens there
				values = "0x300"
			}
			test.InputSeries = append(test.InputSeries, map[string]any{"series": name + `{job="` + job + `",` + rest, "values": values})
		}
	}
	text := read(t, "../../docs/metrics.md")
	expected := answers()
	for _, block := range queryBlock.FindAllStringSubmatch(text, -1) {
		question, expr := block[1], block[2]
		at, ok := expected[question]
		if !ok {
			t.Errorf("nothing is expected of %q", question)
		}
		delete(expected, question)
		for minute, samples := range at {
			var want []map[string]any
			named := false // metrics that the query selects keep their name
			for series, value := range samples {
				named = !strings.HasPrefix(series, "{")
				want = append(want, map[string]any{"labels": series, "value": value})
			}
			ours := "(" + expr + `) and on (job) up{job="ncp"}`
			if minute == twoNames {
				ours = "count without (x509_subject, common_name) (" + ours + ")"
			}
			if !named {
				ours = "round(" + ours + ", 0.1)"
			}
			test.Expressions = append(test.Expressions, map[string]any{"expr": ours, "eval_time": fmt.Sprintf("%dm", minute), "exp_samples": want})
		}
	}
	for question := range expected {
		t.Errorf("docs/metrics.md does not ask %q", question)
	}
	if n := strings.Count(text, "```promql"); n != len(answers()) {
		t.Errorf("%d queries are found, and %d are asked", n, len(answers()))
	}
	file := unitTests{EvaluationInterval: "1m", Tests: []unitTest{test}}
	out, err := yaml.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "queries_test.yml")
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := promtool(t, "test", "rules", path); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}
