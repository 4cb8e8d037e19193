package web

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"ncp_exporter/collector"
	"ncp_exporter/internal/account"
	"ncp_exporter/internal/config"
	"ncp_exporter/internal/logging"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens accounts that have no keys, so that none of them asks anybody.
func open(t testing.TB, now func() time.Time, logs *bytes.Buffer, names ...string) (*account.Set, *Probe) {
	t.Helper()
	var accounts []config.Account
	for _, name := range names {
		accounts = append(accounts, config.Account{
			Name: name, Site: "public", Collectors: map[string]bool{"external_access": true},
			Limits:    config.Limits{MaxConcurrency: 1},
			StateFile: config.StateFile{Path: filepath.Join(t.TempDir(), name), Given: true},
			Keys:      config.Keys{AccessKeyEnv: "NONE", SecretKeyEnv: "NONE"},
		})
	}
	limited, err := logging.New(logs, "info", "logfmt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(limited.Close)
	set, err := account.OpenSet(t.Context(), account.SetOptions{
		Shard:     config.Shard{Total: 1},
		LookupEnv: func(string) (string, bool) { return "", false },
		Logger:    log.NewNopLogger(),
		Scrape:    collector.HandlerOptions{Timeout: time.Second},
		Now:       now,
	}, accounts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	return set, NewProbe(set, limited.Clients)
}

func ask(t testing.TB, handler http.Handler, method, target string) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), method, target, http.NoBody))
	return rec
}

func TestProbe(t *testing.T) {
	_, probe := open(t, time.Now, &bytes.Buffer{}, "a", "b")
	for query, status := range map[string]int{
		"account=a":                           200,
		"target=a":                            200,
		"account=a&target=a":                  200,
		"account=a&collect[]=external_access": 200,
		"account=a&collect[]=no":              400,
		"":                                    400,
		"account=":                            400,
		"target=":                             400,
		"account=a&account=b":                 400,
		"account=a&account=a":                 400,
		"target=a&target=a":                   400,
		"account=a&target=b":                  400,
		"account=a&target=":                   400,
		"account=%zz":                         400,
		"account=a;target=b":                  400,
		"account=c":                           404,
		"account=A":                           404,
		"account=a%00":                        404,
		"account=../a":                        404,
		"target=https://a.example/":           404,
	} {
		rec := ask(t, probe, http.MethodGet, ProbePath+"?"+query)
		if rec.Code != status {
			t.Errorf("?%s: HTTP %d, want %d: %s", query, rec.Code, status, rec.Body)
		}
		if status != http.StatusOK && strings.Count(rec.Body.String(), "\n") != 1 {
			t.Errorf("?%s: not one line: %q", query, rec.Body)
		}
	}
}

// TestUnknownNames asks for ten thousand accounts that are not there, in 20 minutes.
func TestUnknownNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs bytes.Buffer
		set, probe := open(t, time.Now, &logs, "a")
		dir := t.TempDir()
		t.Chdir(dir)
		before := testutil.CollectAndCount(set)
		const names, minutes = 10_000, 20
		for n := range names {
			if rec := ask(t, probe, http.MethodGet, fmt.Sprintf("/probe?account=name-%d", n)); rec.Code != http.StatusNotFound {
				t.Fatalf("HTTP %d", rec.Code)
			}
			time.Sleep(minutes * time.Minute / names)
		}
		synctest.Wait() // the log is written
		if lines := strings.Count(logs.String(), "\n"); lines != minutes {
			t.Errorf("%d lines of the log in %d minutes:\n%s", lines, minutes, logs.String())
		}
		if n := testutil.CollectAndCount(set); n != before {
			t.Errorf("%d series, and %d before", n, before)
		}
		if n, sum := testutil.CollectAndCount(probe), testutil.ToFloat64(probe); n != 1 || sum != names {
			t.Errorf("%d series, which count %v", n, sum)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
			t.Errorf("files: %v, %v", files, err)
		}
		set.Close()
	})
}

// FuzzAccountName has any query: it is the account that is there, or an error.
func FuzzAccountName(f *testing.F) {
	_, probe := open(f, time.Now, &bytes.Buffer{}, "prod")
	for _, query := range []string{"account=prod", "target=prod", "account=prod&target=no", "account=%70rod", "account=prod%0a", "account=\xff", "account[]=prod"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		req := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: ProbePath, RawQuery: query}, Header: make(http.Header)}
		rec := httptest.NewRecorder()
		probe.ServeHTTP(rec, req.WithContext(t.Context()))
		values, err := url.ParseQuery(query)
		switch rec.Code {
		case http.StatusOK:
			if err != nil || values.Get("account") != "prod" && values.Get("target") != "prod" {
				t.Errorf("%q: HTTP 200", query)
			}
		case http.StatusBadRequest, http.StatusNotFound:
			if body := rec.Body.String(); strings.Count(body, "\n") != 1 || len(body) > 1000+len(query) {
				t.Errorf("%q: %q", query, body)
			}
		default:
			t.Errorf("%q: HTTP %d", query, rec.Code)
		}
	})
}

func TestMetricsAreNotOfAnAccount(t *testing.T) {
	set, probe := open(t, time.Now, &bytes.Buffer{}, "a", "b")
	metrics := Metrics(set, probe)
	for _, query := range []string{"?account=a", "?target=a", "?account="} {
		if rec := ask(t, metrics, http.MethodGet, "/metrics"+query); rec.Code != http.StatusBadRequest || !strings.Contains(rec.Body.String(), "/probe") {
			t.Errorf("%s: HTTP %d: %s", query, rec.Code, rec.Body)
		}
	}
	ask(t, probe, http.MethodGet, "/probe?account=b")
	body := ask(t, metrics, http.MethodGet, "/metrics").Body.String()
	for _, want := range []string{
		`ncp_exporter_account_ready{account="a"} 0`,
		`ncp_exporter_account_last_probe_timestamp_seconds{account="a"} 0`,
		"ncp_exporter_unknown_account_requests_total 0",
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	if strings.Contains(body, `last_probe_timestamp_seconds{account="b"} 0`) {
		t.Error("b was not asked for")
	}
}

func TestServiceDiscovery(t *testing.T) {
	set, _ := open(t, time.Now, &bytes.Buffer{}, "b", "a")
	for _, secure := range []bool{false, true} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/sd", http.NoBody)
		req.Host = "exporter.example:10420"
		if secure {
			req.TLS = &tls.ConnectionState{}
		}
		rec := httptest.NewRecorder()
		ServiceDiscovery(set, "/ncp").ServeHTTP(rec, req)
		var got []map[string]any
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || rec.Header().Get("Content-Type") != "application/json" {
			t.Fatalf("%v, %s: %s", err, rec.Header(), rec.Body)
		}
		var want []map[string]any
		for _, labels := range []map[string]any{
			{"__metrics_path__": "/ncp"},
			{"__metrics_path__": "/probe", "__param_account": "a", "account": "a"},
			{"__metrics_path__": "/probe", "__param_account": "b", "account": "b"},
		} {
			if secure {
				labels["__scheme__"] = "https"
			}
			want = append(want, map[string]any{"targets": []any{"exporter.example:10420"}, "labels": labels})
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("TLS %t (-want +got):\n%s", secure, diff)
		}
	}
}

func TestReload(t *testing.T) {
	var err error
	reloads := 0
	handler := Reload(func(context.Context) (account.Changes, error) {
		reloads++
		return account.Changes{Added: 1, Changed: 2, Removed: 3, Unchanged: 4}, err
	})
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut} {
		if rec := ask(t, handler, method, ReloadPath); rec.Code != http.StatusMethodNotAllowed || rec.Header().Get("Allow") != "POST" || !strings.Contains(rec.Body.String(), "POST") {
			t.Errorf("%s: HTTP %d: %s", method, rec.Code, rec.Body)
		}
	}
	if reloads > 0 {
		t.Error("reloaded without a POST")
	}
	if rec := ask(t, handler, http.MethodPost, ReloadPath); rec.Code != 200 || !strings.Contains(rec.Body.String(), "1 added, 2 changed, 3 removed, 4 unchanged") {
		t.Errorf("HTTP %d: %s", rec.Code, rec.Body)
	}
	err = errors.New("line 9: no")
	if rec := ask(t, handler, http.MethodPost, ReloadPath); rec.Code != 500 || !strings.Contains(rec.Body.String(), "line 9: no") {
		t.Errorf("HTTP %d: %s", rec.Code, rec.Body)
	}
}
