//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ncp_exporter/grafana"
)

// past writes days of samples for a Prometheus that has not scraped them: one sample a
// minute in the last eight hours, and one in four minutes before. A situation is a job.
type past struct {
	now   time.Time
	lines map[string][]string // by the name of the metric
}

const (
	dense    = 8 * time.Hour
	allDays  = 31 * 24 * time.Hour
	deadFor  = 30 * time.Minute
	timedOut = 5 * time.Hour
	isOn     = 50 * time.Minute
	failsFor = 3 * time.Hour
)

// add writes a series from one time before now to another one.
func (p *past) add(name, labels string, from, to time.Duration, value func(ago time.Duration) float64) {
	for ago := from; ago >= to; {
		step := time.Minute
		if ago > dense {
			step = 4 * time.Minute
		}
		p.lines[name] = append(p.lines[name], fmt.Sprintf("%s{%s} %s %d", name, labels, formatFloat(value(ago)), p.now.Add(-ago).Unix()))
		ago -= step
	}
}

func always1(time.Duration) float64 { return 1 }

// at is a time before now, as a timestamp.
func (p *past) at(ago time.Duration) float64 { return float64(p.now.Add(-ago).Unix()) }

// account is one with two certificates that are not validated, a subject that has failed
// for three hours, last 20 minutes ago, and one that failed last eight days ago. manager
// and access are until when these were read; the exporter itself was until its own time.
func (p *past) account(job string, exporter, manager, access time.Duration) {
	of := fmt.Sprintf("job=%q,instance=%q", job, job+":1")
	p.add("up", of, allDays, 0, func(ago time.Duration) float64 {
		if ago < exporter {
			return 0
		}
		return 1
	})
	p.add("ncp_exporter_build_info", of+`,version="1"`, allDays, exporter, always1)
	for collector, until := range map[string]time.Duration{certificateManager: manager, externalAccess: access} {
		p.add("ncp_scrape_collector_success", fmt.Sprintf("%s,collector=%q", of, collector), allDays, exporter, func(ago time.Duration) float64 {
			if ago < until {
				return 0
			}
			return 1
		})
	}
	p.add("job_instance_collector:ncp_scrape_collector_success:avg15m", of, 2*time.Hour, 0, always1)
	p.add("ncp_certificate_manager_lookback_window_seconds", of, allDays, manager, always1)
	p.add("ncp_external_access_subjects", of, allDays, access, func(time.Duration) float64 { return 2 })
	for status, since := range map[string]time.Duration{"validation_timed_out": timedOut, "ongoing": isOn} {
		certificate := fmt.Sprintf(`order_id="1",certificate_id="%d"`, len(status))
		p.add("ncp_certificate_manager_recently_changed_certificates", fmt.Sprintf("%s,status=%q", of, status), since, manager, always1)
		p.add("ncp_certificate_manager_certificate_status", fmt.Sprintf("%s,%s,status=%q", of, certificate, status), since, manager, always1)
		p.add("job_certificate:ncp_certificate_manager_certificate_status:"+strings.TrimPrefix(status, "validation_"),
			fmt.Sprintf("job=%q,%s", job, certificate), since, 0, always1)
		p.add("ncp_certificate_manager_certificate_info", fmt.Sprintf(`%s,certificate_id="%d",name="n",common_name="%s.example.com"`, of, len(status), status), allDays, manager, always1)
	}
	p.subject(job, "s1", access, failsFor, 20*time.Minute)
	p.subject(job, "s2", access, 9*24*time.Hour, 8*24*time.Hour)
	p.add("job_subject:ncp_external_access_credential_failing_since_timestamp_seconds:last1d", fmt.Sprintf(`job=%q,subject_id="s1"`, job),
		failsFor, 0, func(time.Duration) float64 { return p.at(failsFor) })
	// Two hosts in turn, one with a certificate that expired three days ago.
	p.add("ncp_external_access_subject_certificate_not_after_timestamp_seconds", of+`,subject_id="s1"`, allDays, access, func(ago time.Duration) float64 {
		if int(ago.Minutes())%2 == 0 {
			return p.at(-50 * 24 * time.Hour)
		}
		return p.at(3 * 24 * time.Hour)
	})
}

// subject is one that fails each minute from first to last.
func (p *past) subject(job, id string, until, first, last time.Duration) {
	of := fmt.Sprintf("job=%q,instance=%q,subject_id=%q", job, job+":1", id)
	from := allDays
	if first < dense {
		from = dense
	}
	p.add("ncp_external_access_subject_info", fmt.Sprintf(`%s,x509_subject="CN=%s",enabled="true"`, of, id), from, until, always1)
	failures := func(ago time.Duration) float64 { return max(0, math.Floor((first-max(ago, last)).Minutes())+1) }
	p.add("ncp_external_access_credential_authentications_total", of+`,result="failure"`, from, until, failures)
	p.add("ncp_external_access_credential_authentications_total", of+`,result="success"`, from, until, func(ago time.Duration) float64 { return (allDays - ago).Minutes() })
	p.add("ncp_external_access_credential_last_authentication_timestamp_seconds", of+`,result="success"`, from, until, p.at)
	p.add("ncp_external_access_credential_last_authentication_timestamp_seconds", of+`,result="failure"`, first, until, func(ago time.Duration) float64 {
		return p.at(max(ago, last))
	})
	p.add("ncp_external_access_credential_last_failure_info", of+`,issuer="CN=CA, O=x",serial_number="17"`, min(first, 24*time.Hour), until, always1)
}

// serve starts a Prometheus with all that.
func (p *past) serve(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "past.om")) //nolint:gosec // a file of the test
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	for name, lines := range p.lines {
		_, _ = fmt.Fprintf(w, "# TYPE %s unknown\n%s\n", name, strings.Join(lines, "\n")) // Flush tells
	}
	_, _ = fmt.Fprintln(w, "# EOF")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	out, err := exec.CommandContext(t.Context(), tool(t, "promtool"), "tsdb", "create-blocks-from", "--max-block-duration=2048h", "openmetrics", //nolint:gosec // ours
		filepath.Join(dir, "past.om"), data).CombinedOutput()
	if err != nil {
		t.Fatalf("promtool tsdb create-blocks-from: %v\n%s", err, out)
	}
	write(t, filepath.Join(dir, "prometheus.yml"), []byte("global: {}\n"))
	server := start(t, nil, tool(t, "prometheus"), "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+data, "--storage.tsdb.retention.time=60d", "--web.listen-address=127.0.0.1:0")
	prometheus := "http://" + server.address(t)
	eventually(t, "Prometheus has read its data", func() error {
		if a, err := get(t.Context(), prometheus+"/-/ready"); err != nil || a.status != http.StatusOK {
			return errors.Join(errNotYet, err)
		}
		return nil
	})
	return prometheus
}

// look asks what a panel asks of some jobs at a range, as Grafana would now.
func (p *past) look(t *testing.T, prometheus, jobs string, span time.Duration, target grafana.Target) []result {
	t.Helper()
	seconds := int(span.Seconds())
	step := max(15, seconds/1000)
	expr := strings.NewReplacer(
		"$__rate_interval", fmt.Sprintf("%ds", max(60, step+15)), "$__range_s", strconv.Itoa(seconds), "$__range", fmt.Sprintf("%ds", seconds),
		"$job", jobs, "$instance", ".*", "$account", ".*", "$subject", ".*").Replace(target.Expr)
	if regexp.MustCompile(`\$[{_a-z]`).MatchString(expr) {
		t.Errorf("a variable without a value: %s", expr)
	}
	now := strconv.FormatInt(p.now.Unix(), 10)
	parameters, path := url.Values{"query": {expr}, "time": {now}}, "/api/v1/query"
	if !target.Instant {
		path = "/api/v1/query_range"
		parameters = url.Values{"query": {expr}, "start": {strconv.FormatInt(p.now.Add(-span).Unix(), 10)}, "end": {now}, "step": {strconv.Itoa(step)}}
	}
	a, err := get(t.Context(), prometheus+path+"?"+parameters.Encode())
	if err != nil || a.status != http.StatusOK {
		t.Fatalf("%s: HTTP %d, %v: %s", expr, a.status, err, a.body)
	}
	var answer struct{ Data struct{ Result []result } }
	if err := json.Unmarshal([]byte(a.body), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Data.Result
}

// truth is what the dashboards must say of a situation: the number of a stat, or "" where
// it is not known; the certificates that are not validated, and the seconds for which each
// is; and who failed, by range.
type truth struct {
	stats        map[string]string
	certificates map[string]float64
	whoFailed    map[time.Duration][]string
}

var ranges = []time.Duration{5 * time.Minute, time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour} //nolint:gochecknoglobals // a table

// who gives the same subjects to each range, but for those that failed long ago.
func who(recent, old []string) map[time.Duration][]string {
	result := make(map[time.Duration][]string)
	for _, span := range ranges {
		switch {
		case span < 20*time.Minute:
		case span < 8*24*time.Hour:
			result[span] = recent
		default:
			result[span] = slices.Concat(recent, old)
		}
	}
	return result
}

// TestDashboardsTellThePast looks at 31 days of each situation at ranges from 5 minutes to
// 30 days, and wants what was true then: nothing that changes with the range but what says
// so, no all-clear where nothing can be read, and what the rules keep.
func TestDashboardsTellThePast(t *testing.T) {
	t.Parallel()
	p := &past{now: time.Now().Truncate(time.Minute), lines: make(map[string][]string)}
	p.account("demo", 0, 0, 0)
	p.account("dead_ncp", 0, deadFor, deadFor)
	p.account("killed", deadFor, deadFor, deadFor)
	p.account("one_dead", 0, deadFor, 0)
	empty := `job="empty",instance="empty:1"`
	for name, value := range map[string]float64{
		"up": 1, "ncp_exporter_build_info": 1, "ncp_certificate_manager_lookback_window_seconds": 86400, "ncp_external_access_subjects": 0,
		"job_instance_collector:ncp_scrape_collector_success:avg15m": 1,
	} {
		p.add(name, empty, allDays, 0, func(time.Duration) float64 { return value })
	}
	p.add("ncp_scrape_collector_success", empty+`,collector="external_access"`, allDays, 0, always1)
	for _, status := range []string{"validation_timed_out", "ongoing"} {
		p.add("ncp_certificate_manager_recently_changed_certificates", fmt.Sprintf("%s,status=%q", empty, status), allDays, 0, func(time.Duration) float64 { return 0 })
	}
	for _, collector := range []string{certificateManager, externalAccess} { // scraped for hours, and never read
		p.add("ncp_scrape_collector_success", fmt.Sprintf(`job="never",instance="never:1",collector=%q`, collector), failsFor, 0, func(time.Duration) float64 { return 0 })
	}
	crowd := `job="crowd",instance="crowd:1"`
	p.add("ncp_external_access_subjects", crowd, dense, 0, func(time.Duration) float64 { return 300 })
	p.add("job_instance_collector:ncp_scrape_collector_success:avg15m", crowd, dense, 0, always1)
	var failed []string
	for i := range 300 {
		id, first := fmt.Sprintf("c%03d", i), -time.Hour // never
		if i < 66 {
			first = 30 * time.Minute // once
			failed = append(failed, id)
		}
		p.subject("crowd", id, 0, first, first)
	}
	p.add("ALERTS", `alertname="NCPAuthenticationFailed",alertstate="firing",severity="info",job="crowd"`, dense, 0, always1)
	prometheus := p.serve(t)

	const unread = "not read"
	known := map[string]float64{"timed_out.example.com": timedOut.Seconds(), "ongoing.example.com": isOn.Seconds()}
	unreadable := map[string]float64{"timed_out.example.com": timedOut.Seconds(), "ongoing.example.com": isOn.Seconds(), unread: deadFor.Seconds()}
	notRead := []string{"CN=s1", "Not read: some may be missing"}
	for jobs, want := range map[string]truth{
		"demo": {
			map[string]string{"Timed out": "1", "Ongoing": "1", "NCP": "1"}, known, who([]string{"CN=s1"}, []string{"CN=s2"}),
		},
		"dead_ncp": {
			map[string]string{"Timed out": "1", "Ongoing": "1", "NCP": "0"}, unreadable, who(notRead, []string{"CN=s2"}),
		},
		"killed": {
			map[string]string{"Timed out": "1", "Ongoing": "1", "NCP": "0"}, unreadable, who(notRead, []string{"CN=s2"}),
		},
		"one_dead": {
			map[string]string{"Timed out": "1", "Ongoing": "1", "NCP": "0"}, unreadable, who([]string{"CN=s1"}, []string{"CN=s2"}),
		},
		"empty": {
			map[string]string{"Timed out": "0", "Ongoing": "0", "Failing in range": "0", "NCP": "1"}, nil, nil,
		},
		"nothing": {
			map[string]string{"Timed out": "", "Ongoing": "", "Failing in range": "", "NCP": ""}, nil, nil,
		},
		"never": {
			map[string]string{"Timed out": "", "Ongoing": "", "Failing in range": "", "NCP": "0"},
			map[string]float64{unread: failsFor.Seconds()},
			who(notRead[1:], nil),
		},
		"crowd": {map[string]string{"Critical": "0", "Warnings": "0"}, nil, who(withCN(failed), nil)},
		"empty|killed": { // two jobs, of which one is well
			map[string]string{"Timed out": "1", "Ongoing": "1", "NCP": "0"}, unreadable, who(notRead, []string{"CN=s2"}),
		},
	} {
		for _, span := range ranges {
			t.Run(fmt.Sprintf("%s/%s", jobs, span), func(t *testing.T) { p.check(t, prometheus, jobs, span, want) })
		}
	}
}

func withCN(ids []string) []string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = "CN=" + id
	}
	return names
}

// check compares the panels with what is true.
func (p *past) check(t *testing.T, prometheus, jobs string, span time.Duration, want truth) {
	t.Helper()
	all := dashboards(t)
	look := func(title string, query int) []result {
		t.Helper()
		return p.look(t, prometheus, jobs, span, panelOf(t, all[1:], title).Targets[query]) // of on call
	}
	for _, panel := range panels(all) {
		for i := range panel.Targets {
			p.look(t, prometheus, jobs, span, panel.Targets[i]) // no error
		}
	}
	for title, number := range want.stats {
		got := ""
		if values := look(title, 0); len(values) == 1 {
			got = formatFloat(values[0].numbers(t)[0])
		}
		if got != number {
			t.Errorf("%s is %q, want %q", title, got, number)
		}
	}
	checkCertificates(t, look, want)
	checkWhoFailed(t, look, span, want)
	for _, r := range look("What expires next", 0) { // as long as the alert tells it
		if r.Metric["what"] == "s1" && r.numbers(t)[0] != -3*24*3600 {
			t.Errorf("the certificate of s1 has %v s left, want that of the host whose has expired", r.numbers(t)[0])
		}
	}
}

// checkCertificates wants those that are not validated, and since when.
func checkCertificates(t *testing.T, look func(string, int) []result, want truth) {
	t.Helper()
	certificates := make(map[string]float64)
	for _, r := range look("Certificates not validated", 0) {
		name := r.Metric["name"]
		if r.Metric["status"] == "not read" {
			name = "not read"
		}
		certificates[strings.TrimPrefix(name, "validation_")] = r.numbers(t)[0]
	}
	for name, seconds := range want.certificates {
		if got, ok := certificates[name]; !ok || math.Abs(got-seconds) > 61 {
			t.Errorf("%s is told for %v s, want %v", name, got, seconds)
		}
	}
	if len(certificates) != len(want.certificates) {
		t.Errorf("the certificates are %v, want %v", certificates, want.certificates)
	}
}

// checkWhoFailed wants whose logins failed in span, since when, and as many
// failures in one panel as in the other.
func checkWhoFailed(t *testing.T, look func(string, int) []result, span time.Duration, want truth) {
	t.Helper()
	names, failures := []string{}, 0.0
	for _, r := range look(whoFailed, 7) {
		names = append(names, r.Metric["x509_subject"])
	}
	for _, r := range look(whoFailed, 1) {
		failures += r.numbers(t)[0]
	}
	slices.Sort(names)
	wanted := slices.Sorted(slices.Values(want.whoFailed[span]))
	if unread := "Not read: some may be missing"; span == ranges[0] && slices.Contains(want.whoFailed[ranges[1]], unread) {
		wanted = []string{unread}
	}
	if !slices.Equal(names, wanted) {
		t.Errorf("who failed: %q, want %q", names, wanted)
	}
	failed := slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, "Not read") })
	if counted := look("Failing in range", 0); len(counted) > 1 || len(counted) == 1 && int(counted[0].numbers(t)[0]) != len(failed) || len(counted) == 0 && len(failed) > 0 {
		t.Errorf("%v fail, but the table has %q", counted, failed)
	}
	if failures < float64(len(failed)) {
		t.Errorf("%v failures of %d subjects", failures, len(failed))
	}
	for _, r := range look(whoFailed, 3) {
		if since := r.numbers(t)[0]; since != failsFor.Seconds() {
			t.Errorf("a subject fails for %v s, want %v", since, failsFor.Seconds())
		}
	}
}
