//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// The files that are tried here on real servers, as they are committed.
const (
	rulesFile           = "../deploy/prometheus/ncp_exporter.rules.yml"
	alertmanagerFile    = "../deploy/prometheus/alertmanager.yml"
	prometheusFile      = "../deploy/compose/prometheus.yml"
	composeFile         = "../deploy/compose/compose.yaml"
	scaledRules         = "ncp_exporter.rules.yml" // as prometheusFile names it
	standInExporter     = "exporter:10420"
	standInAlertmanager = "alertmanager:9093"
)

// The rules wait for minutes and look back over days. Here time goes faster: each
// duration in them, and in what Alertmanager waits for, is divided by faster, so that
// an hour is 10 s. Scrapes are 3 minutes of that time apart, twice what the rules are
// made for and well within what they bear.
const (
	faster         = 360
	scrapeInterval = "500ms"
	evalInterval   = "250ms"
)

var (
	duration = regexp.MustCompile(`\b\d+[smhdw]\b`)
	// seconds are times without a unit: whatever a rule compares with 600 or more is
	// a number of seconds. The clock's 60 s are no time that passes.
	seconds = regexp.MustCompile(`(^|[\s(])(\d{3,})($|[\s)])`)
)

const leastSeconds = 600

// scale divides each duration in a text, or in an expression of PromQL.
func scale(t *testing.T, text string) string {
	t.Helper()
	text = duration.ReplaceAllStringFunc(text, func(s string) string {
		d, err := model.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		return model.Duration((time.Duration(d) / faster).Round(time.Millisecond)).String()
	})
	return seconds.ReplaceAllStringFunc(text, func(s string) string {
		m := seconds.FindStringSubmatch(s)
		n, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		if n < leastSeconds {
			return s
		}
		return m[1] + strconv.FormatFloat(n/faster, 'f', 3, 64) + m[3]
	})
}

// timed are the keys whose values are times, in rules and in Alertmanager's file.
func timed() []string {
	return []string{"expr", "for", "keep_firing_for", "interval", "group_wait", "group_interval", "repeat_interval"}
}

// scaled is a copy of a file in which time goes faster, and nothing else differs.
func scaled(t *testing.T, file string) []byte {
	t.Helper()
	var document yaml.Node
	committed, err := os.ReadFile(file) //nolint:gosec // a file of the repository
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(committed, &document); err != nil {
		t.Fatal(err)
	}
	changed := 0
	var walk func(*yaml.Node)
	walk = func(n *yaml.Node) {
		for i, child := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 1 && slices.Contains(timed(), n.Content[i-1].Value) {
				before := child.Value
				if child.Value = scale(t, before); child.Value != before {
					changed++
				}
			}
			walk(child)
		}
	}
	walk(&document)
	fast, err := yaml.Marshal(&document)
	if err != nil {
		t.Fatal(err)
	}
	if changed == 0 {
		t.Errorf("%s has no time in it", file)
	}
	if diff := cmp.Diff(timeless(t, committed), timeless(t, fast)); diff != "" {
		t.Errorf("the copy of %s differs in more than times (-committed +copy):\n%s", file, diff)
	}
	return fast
}

// timeless is a file without its times, found in another way than scale does: word
// by word.
func timeless(t *testing.T, text []byte) any {
	t.Helper()
	var content any
	if err := yaml.Unmarshal(text, &content); err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`[\w.]+`)
	times := regexp.MustCompile(`^((\d+(ms|[smhdw]))+|[6-9]\d\d|\d{4,}|\d+\.\d{3})$`)
	var walk func(any, string) any
	walk = func(v any, key string) any {
		switch v := v.(type) {
		case map[string]any:
			for k := range v {
				v[k] = walk(v[k], k)
			}
		case []any:
			for i := range v {
				v[i] = walk(v[i], key)
			}
		case string:
			if slices.Contains(timed(), key) {
				return words.ReplaceAllStringFunc(v, func(word string) string { return times.ReplaceAllString(word, "TIME") })
			}
		}
		return v
	}
	return walk(content, "")
}

// TestScale wants no time to be forgotten, nor anything to be taken for one.
func TestScale(t *testing.T) {
	for from, to := range map[string]string{
		"sum_over_time((max_over_time(a:max9d[1d]) > bool 0)[9d:1d]) >= 4": "sum_over_time((max_over_time(a:max9d[4m]) > bool 0)[36m:4m]) >= 4",
		"rate(a:increase15m[15m] offset 7d) < 600":                         "rate(a:increase15m[2s500ms] offset 28m) < 1.667",
		"a > 60 or a < -60":                          "a > 60 or a < -60",
		"a{b=\"1\"} - (21600) > 0.1 and x_3600 == 1": "a{b=\"1\"} - (60.000) > 0.1 and x_3600 == 1",
		"4h": "40s",
	} {
		if got := scale(t, from); got != to {
			t.Errorf("%s becomes\n%s, want\n%s", from, got, to)
		}
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"rules.yml": scaled(t, rulesFile), "alertmanager.yml": scaled(t, alertmanagerFile)} {
		write(t, filepath.Join(dir, name), content)
	}
	for _, command := range [][]string{
		{"promtool", "check", "rules", filepath.Join(dir, "rules.yml")},
		{"amtool", "check-config", filepath.Join(dir, "alertmanager.yml")},
		{"amtool", "check-config", alertmanagerFile},
	} {
		out, err := exec.CommandContext(t.Context(), tool(t, command[0]), command[1:]...).CombinedOutput() //nolint:gosec // ours
		if err != nil {
			t.Errorf("%v: %v\n%s", command, err, out)
		}
	}
}

// TestCommittedConfiguration has the servers' own tools read the files that people
// are given, beside each other as compose mounts them.
func TestCommittedConfiguration(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{rulesFile, prometheusFile} {
		content, err := os.ReadFile(file) //nolint:gosec // a file of the repository
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, filepath.Base(file)), content)
	}
	out, err := exec.CommandContext(t.Context(), tool(t, "promtool"), "check", "config", filepath.Join(dir, "prometheus.yml")).CombinedOutput() //nolint:gosec // ours
	if err != nil || !strings.Contains(string(out), "rules found") {
		t.Errorf("promtool check config: %v\n%s", err, out)
	}
	for severity, receiver := range map[string]string{"critical": "wake-somebody", "warning": "working-hours", "info": "list"} {
		out, err := exec.CommandContext(t.Context(), tool(t, "amtool"), "config", "routes", "test", "--config.file="+alertmanagerFile, //nolint:gosec // ours
			"--verify.receivers="+receiver, "severity="+severity, "alertname=NCPTest", "job=ncp").CombinedOutput()
		if err != nil {
			t.Errorf("%s does not go to %s: %v\n%s", severity, receiver, err, out)
		}
	}
}

// TestComposeEnvironment starts the binary with what compose.yaml gives it: without
// .env, and with one that holds keys.
func TestComposeEnvironment(t *testing.T) {
	text, err := os.ReadFile(composeFile)
	if err != nil {
		t.Fatal(err)
	}
	for demo, env := range map[string][]string{
		"true":  nil,
		"false": append(demoKeys(), "NCP_EXPORTER_SCRAPE_MAX_AGE=50s"),
	} {
		data := t.TempDir()
		var compose struct {
			Services map[string]struct{ Environment map[string]string }
		}
		replaced := strings.NewReplacer("${NCP_EXPORTER_DEMO:-true}", demo, " /data/", " "+data+"/").Replace(string(text))
		if err := yaml.Unmarshal([]byte(replaced), &compose); err != nil {
			t.Fatal(err)
		}
		for name, value := range compose.Services["exporter"].Environment {
			env = append(env, name+"="+value)
		}
		var args []string
		if demo == "false" {
			args = wellNCP(t).args()
		}
		e := launch(t, env, args...)
		s := e.scrape(t)
		s.want(t, success(externalAccess), 1)
		s.want(t, "ncp_exporter_state_persistent{}", 1)
		ledger := filepath.Join(data, map[string]string{"true": "demo-true.db.demo", "false": "demo-false.db"}[demo])
		if _, err := os.Stat(ledger); err != nil {
			t.Error(err)
		}
	}
}

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil { //nolint:gosec // a file of the test
		t.Fatal(err)
	}
}

// edit changes a document of YAML by its maps.
func edit(t *testing.T, text []byte, change func(map[string]any)) []byte {
	t.Helper()
	var content map[string]any
	if err := yaml.Unmarshal(text, &content); err != nil {
		t.Fatal(err)
	}
	change(content)
	changed, err := yaml.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// webhook is the receiver of all notifications.
type webhook struct {
	*httptest.Server

	mu  sync.Mutex
	got []notification
}

// notification is what Alertmanager sends to a webhook.
type notification struct {
	Receiver string
	Status   string
	Alerts   []alert
}

// alert is an alert as Alertmanager tells it, and as Prometheus does.
type alert struct {
	Status      string
	State       string
	Labels      map[string]string
	Annotations map[string]string
	StartsAt    time.Time
	EndsAt      time.Time
}

func newWebhook(t *testing.T) *webhook {
	t.Helper()
	w := new(webhook)
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var n notification
		if err == nil {
			err = json.NewDecoder(bytes.NewReader(body)).Decode(&n)
		}
		if err != nil || n.Receiver != strings.TrimPrefix(r.URL.Path, "/") {
			http.Error(rw, "no notification for this receiver", http.StatusBadRequest)
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.got = append(w.got, n)
	}))
	t.Cleanup(w.Close)
	return w
}

// find looks for a notification of an alert that has these labels, sent to receiver.
func (w *webhook) find(receiver, status string, labels map[string]string) *alert {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.got {
		for _, a := range n.Alerts {
			if n.Receiver == receiver && a.Status == status && a.has(labels) {
				return &a
			}
		}
	}
	return nil
}

// told are the alerts that were sent, for messages.
func (w *webhook) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var text strings.Builder
	for _, n := range w.got {
		for _, a := range n.Alerts {
			fmt.Fprintf(&text, "%s %s %v\n", n.Receiver, a.Status, a.Labels)
		}
	}
	return text.String()
}

func (a *alert) has(labels map[string]string) bool {
	for name, value := range labels {
		if a.Labels[name] != value {
			return false
		}
	}
	return true
}

// check wants what a person reads to be whole.
func (a *alert) check(t *testing.T) {
	t.Helper()
	name := a.Labels["alertname"]
	for _, annotation := range []string{"summary", "description", "runbook_url"} {
		text := a.Annotations[annotation]
		if text == "" || regexp.MustCompile(`<no value>|<error|\{\{|%!|NaN`).MatchString(text) {
			t.Errorf("%s: the %s is %q", name, annotation, text)
		}
	}
	if !strings.Contains(a.Annotations["description"], a.Labels["job"]) {
		t.Errorf("%s: the description does not tell the job %s: %s", name, a.Labels["job"], a.Annotations["description"])
	}
	if url := a.Annotations["runbook_url"]; url != "docs/runbooks.md#"+strings.ToLower(name) {
		t.Errorf("%s: the runbook is %s", name, url)
	}
	for _, label := range []string{"account", "order_id", "certificate_id", "subject_id", "x509_subject", "instance", "collector", "api", "reason"} {
		if value := a.Labels[label]; value != "" && !strings.Contains(a.Annotations["description"], value) {
			t.Errorf("%s: the description does not tell the %s %s: %s", name, label, value, a.Annotations["description"])
		}
	}
}

// station is a real Prometheus with our rules, and a real Alertmanager.
type station struct {
	prometheus   string
	alertmanager string
	webhook      *webhook
}

// watchdog starts a station for an exporter, and for more jobs. The servers run with
// the files that are committed, but for the targets, the addresses of the receivers,
// and the time. data is the directory of Prometheus's database.
func watchdog(t *testing.T, data string, e exporter, more ...any) *station {
	t.Helper()
	dir := t.TempDir()
	s := &station{webhook: newWebhook(t)}
	write(t, filepath.Join(dir, "alertmanager.yml"), edit(t, scaled(t, alertmanagerFile), func(c map[string]any) {
		for _, r := range c["receivers"].([]any) { //nolint:forcetypeassert // ours
			receiver := r.(map[string]any) //nolint:forcetypeassert // ours
			receiver["webhook_configs"] = []any{map[string]any{"url": fmt.Sprintf("%s/%s", s.webhook.URL, receiver["name"])}}
		}
	}))
	am := start(t, nil, tool(t, "prometheus-alertmanager"), "--config.file="+filepath.Join(dir, "alertmanager.yml"),
		"--storage.path="+filepath.Join(dir, "alertmanager"), "--web.listen-address=127.0.0.1:0", "--cluster.listen-address=")
	address := am.address(t)
	s.alertmanager = "http://" + address

	write(t, filepath.Join(dir, scaledRules), scaled(t, rulesFile))
	committed, err := os.ReadFile(prometheusFile)
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{standInAlertmanager: address, standInExporter: strings.TrimPrefix(e.url, "http://")} {
		if bytes.Count(committed, []byte(from)) != 1 {
			t.Fatalf("%s does not have %s as its one target", prometheusFile, from)
		}
		committed = bytes.ReplaceAll(committed, []byte(from), []byte(to))
	}
	write(t, filepath.Join(dir, "prometheus.yml"), edit(t, committed, func(c map[string]any) {
		c["global"] = map[string]any{"scrape_interval": scrapeInterval, "scrape_timeout": scrapeInterval, "evaluation_interval": evalInterval}
		c["scrape_configs"] = append(c["scrape_configs"].([]any), more...) //nolint:forcetypeassert // ours
	}))
	p := start(t, nil, tool(t, "prometheus"), "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+data, "--web.listen-address=127.0.0.1:0")
	s.prometheus = "http://" + p.address(t)
	return s
}

// job is a scrape configuration.
func job(name string, exporters ...exporter) any {
	targets := make([]string, len(exporters))
	for i, e := range exporters {
		targets[i] = strings.TrimPrefix(e.url, "http://")
	}
	return map[string]any{"job_name": name, "static_configs": []any{map[string]any{"targets": targets}}}
}

// hasty are the flags of an exporter that is scraped so often: Prometheus waits for
// no more than half a second, all of which is its time.
func hasty(args ...string) []string {
	return append([]string{"--scrape.timeout-offset=50ms"}, args...)
}

// alerts are those that Prometheus has now.
func (s *station) alerts(t *testing.T) []alert {
	t.Helper()
	var answer struct{ Data struct{ Alerts []alert } }
	s.ask(t, s.prometheus+"/api/v1/alerts", &answer)
	return answer.Data.Alerts
}

func (s *station) ask(t *testing.T, url string, answer any) {
	t.Helper()
	a, err := get(t.Context(), url)
	if err != nil || a.status != http.StatusOK {
		t.Fatalf("%s: HTTP %d, %v: %s", url, a.status, err, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), answer); err != nil {
		t.Fatalf("%s: %v: %s", url, err, a.body)
	}
}

// until waits for what takes its time: it asks a few times a second, for minutes if
// the machine has much else to do.
func until(t *testing.T, what string, happened func() error) {
	t.Helper()
	deadline := time.Now().Add(4 * time.Minute)
	for {
		err := happened()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s: %v", what, err)
		}
		time.Sleep(150 * time.Millisecond)
	}
}
