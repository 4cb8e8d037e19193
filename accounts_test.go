package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

// accountsFile writes a file of accounts, each with a simulated NCP.
type accountsFile struct {
	t    *testing.T
	path string
}

func newAccountsFile(t *testing.T) accountsFile {
	t.Helper()
	return accountsFile{t, filepath.Join(t.TempDir(), "accounts.yml")}
}

// put writes the accounts. extra are lines of an account by its name.
func (f accountsFile) put(ncps map[string]*ncptest.Server, extra map[string]string) {
	f.t.Helper()
	var text strings.Builder
	text.WriteString("accounts:\n")
	for _, name := range slices.Sorted(maps.Keys(ncps)) {
		fmt.Fprintf(&text, "  %s:\n    keys: {access_key_env: %s_ACCESS, secret_key_env: %[2]s_SECRET}\n", name, strings.ToUpper(name))
		fmt.Fprintf(&text, "    certificate_manager: {url: %q}\n    external_access: {url: %q}\n%s",
			ncps[name].CertificateManagerURL(), ncps[name].ExternalAccessURL(), extra[name])
	}
	write(f.t, f.path+".new", text.String())
	if err := os.Rename(f.path+".new", f.path); err != nil {
		f.t.Fatal(err)
	}
}

// keysOf are the variables with the keys of accounts.
func keysOf(names ...string) env {
	e := make(env)
	for _, name := range names {
		e[strings.ToUpper(name)+"_ACCESS"], e[strings.ToUpper(name)+"_SECRET"] = ncptest.DemoAccessKey, ncptest.DemoSecretKey
	}
	return e
}

// probe scrapes an account.
func (p *process) probe(account string) series {
	p.t.Helper()
	a := p.get("/probe?account=" + account)
	if a.status != http.StatusOK {
		p.t.Fatalf("/probe?account=%s: HTTP %d: %s", account, a.status, a.body)
	}
	return parseSeries(p.t, a.body)
}

func TestSeveralAccounts(t *testing.T) {
	ncps := map[string]*ncptest.Server{"prod": simulate(t, ncptest.Config{}), "dev": simulate(t, ncptest.Config{}), "bare": simulate(t, ncptest.Config{})}
	ncps["dev"].PutSubject(ncptest.Subject{SubjectID: "subject-2", Enabled: true})
	file := newAccountsFile(t)
	file.put(ncps, nil)
	ledgers := filepath.Join(t.TempDir(), "ledger.db")
	keys := keysOf("prod", "dev")
	keys["NCLOUD_PROFILE"] = "forgotten"
	p := launch(t, keys, "--config.file="+file.path, "--state.file="+ledgers, "--ncp.max-retries=0")

	prod, dev, bare := p.probe("prod"), p.probe("dev"), p.probe("bare")
	prod.want(t, success(externalAccess), "1")
	prod.want(t, "ncp_external_access_subjects", "1")
	dev.want(t, "ncp_external_access_subjects", "2")
	bare.want(t, success(externalAccess), "0")
	bare.want(t, success(certificateManager), "0")
	for name := range prod {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			t.Errorf("/probe shows %s of the process", name)
		}
	}
	for _, series := range []string{"ncp_exporter_state_persistent", "ncp_exporter_account_settings_timestamp_seconds"} {
		if prod[series] == "" || prod[series] == "0" {
			t.Errorf("%s is %q", series, prod[series])
		}
	}
	own := p.scrape()
	own.want(t, `ncp_exporter_account_ready{account="prod"}`, "1")
	own.want(t, `ncp_exporter_account_ready{account="bare"}`, "0")
	own.want(t, "ncp_exporter_config_last_reload_successful", "1")
	if own["go_goroutines"] == "" || own[`ncp_exporter_account_last_probe_timestamp_seconds{account="dev"}`] == "0" {
		t.Error("/metrics lacks what is of the process, or of the accounts")
	}
	for _, account := range []string{"prod", "dev"} {
		if _, err := os.Stat(filepath.Join(filepath.Dir(ledgers), "accounts", account)); err != nil {
			t.Error(err)
		}
	}
	for _, test := range []struct {
		method, path string
		status       int
		says         string
	}{
		{http.MethodGet, "/probe", 400, "account"},
		{http.MethodGet, "/probe?account=none", 404, "none"},
		{http.MethodGet, "/probe?account=prod&collect[]=no", 400, "no such collector"},
		{http.MethodGet, "/metrics?account=prod", 400, "/probe"},
		{http.MethodGet, "/sd", 200, strings.TrimPrefix(p.url, "http://")},
		{http.MethodPost, "/-/reload", 404, ""}, // without --web.enable-lifecycle
		{http.MethodGet, "/", 200, `href="./?account=prod"`},
		{http.MethodGet, "/", 200, "The account cannot be used now"},
		{http.MethodGet, "/?account=prod", 200, "subject-1"},
		{http.MethodGet, "/?account=prod", 200, `href="./probe?account=prod"`},
		{http.MethodGet, "/?account=bare", 200, "BARE_ACCESS"},
		{http.MethodGet, "/?account=none", 404, "none"},
		{http.MethodPost, "/probe?account=prod", 405, ""},
	} {
		if a := request(t, plain(), test.method, p.url+test.path); a.status != test.status || !strings.Contains(a.body, test.says) {
			t.Errorf("%s %s: HTTP %d, want %d and %q:\n%s", test.method, test.path, a.status, test.status, test.says, a.body)
		}
	}
	if n := p.logs.count(`variables=NCLOUD_PROFILE`); n != 1 {
		t.Errorf("%d lines say that NCLOUD_PROFILE is not used", n)
	}
	if n := p.logs.count(`account=prod`); n == 0 {
		t.Error("no line of the log names its account")
	}
	if code := p.stopped(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestServiceDiscoveryOverTLS(t *testing.T) {
	cert := makeCertificate(t)
	config := filepath.Join(t.TempDir(), "web.yml")
	write(t, config, "tls_server_config:\n  cert_file: "+cert.certFile+"\n  key_file: "+cert.keyFile+"\n")
	p := launch(t, nil, "--demo", "--demo.accounts=2", "--state.file=", "--web.config.file="+config)
	a := request(t, cert.client, http.MethodGet, "https"+strings.TrimPrefix(p.url, "http")+"/sd")
	var groups []struct{ Labels map[string]string }
	if err := json.Unmarshal([]byte(a.body), &groups); err != nil || len(groups) != 3 {
		t.Fatalf("%v: %s", err, a.body)
	}
	for _, g := range groups {
		if g.Labels["__scheme__"] != "https" {
			t.Errorf("no __scheme__ in %v", g.Labels)
		}
	}
}

func TestDemoOfSeveralAccounts(t *testing.T) {
	p := launch(t, nil, "--demo", "--demo.accounts=3")
	for _, account := range []string{"demo-1", "demo-2", "demo-3"} {
		s := p.probe(account)
		s.want(t, success(certificateManager), "1")
		s.want(t, success(externalAccess), "1")
		if sd := p.get("/sd").body; !strings.Contains(sd, `"account":"`+account+`"`) {
			t.Errorf("%s is not in %s", account, sd)
		}
	}
	if code := p.stopped(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestTelemetryPathOfSeveralAccounts(t *testing.T) {
	for _, path := range []string{"/probe", "/sd"} {
		logs := newLines()
		if code := run(t.Context(), []string{"--demo", "--demo.accounts=2", "--web.telemetry-path=" + path}, env{}.lookup, io.Discard, logs); code != 1 || logs.count("telemetry-path") != 1 {
			t.Errorf("%s: exit code %d: %s", path, code, logs)
		}
	}
}

// TestCheckOfSeveralAccounts has one account that works and one whose key is refused.
func TestCheckOfSeveralAccounts(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	ncps := map[string]*ncptest.Server{"good": simulate(t, ncptest.Config{}), "bad": simulate(t, ncptest.Config{Keys: []ncptest.Key{{AccessKey: "x", SecretKey: "y"}}})}
	file := newAccountsFile(t)
	file.put(ncps, nil)
	args := []string{"--check", "--config.file=" + file.path, "--state.file=" + filepath.Join(t.TempDir(), "ledger.db")}
	var out bytes.Buffer
	if code := run(t.Context(), append(args, "--format=json"), keysOf("good", "bad").lookup, &out, io.Discard); code != 1 {
		t.Errorf("exit code %d", code)
	}
	var r struct {
		OK     bool
		Checks []struct{ Account, Name, Status, Remedy string }
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	found := make(map[string]int)
	for _, c := range r.Checks {
		found[c.Account+" "+c.Status]++
		if strings.Contains(c.Remedy, "--ncp.") {
			t.Errorf("a flag is named for a setting of the file: %s", c.Remedy)
		}
		if (c.Account == "") != (c.Name == findWebConfig) {
			t.Errorf("%s is of the account %q", c.Name, c.Account)
		}
	}
	if r.OK || found["good fail"] > 0 || found["bad fail"] < 3 || found["good ok"] < 5 || found[" ok"] != 1 {
		t.Errorf("%v, %v:\n%s", r.OK, found, out.String())
	}
	out.Reset()
	run(t.Context(), args, keysOf("good", "bad").lookup, &out, io.Discard)
	wantAll(t, out.String(), "ok    good: external_access_subjects: ", "FAIL  bad: external_access_subjects: ")
}
