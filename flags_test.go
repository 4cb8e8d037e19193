package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ncp_exporter/collector"
	"ncp_exporter/internal/account"
	"ncp_exporter/internal/config"
)

// attempt runs a program that is expected to end by itself.
func attempt(t *testing.T, e env, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	t.Chdir(t.TempDir()) // for the ledger
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	var out, errOut bytes.Buffer
	code = run(ctx, args, e.lookup, &out, &errOut)
	if ctx.Err() != nil {
		t.Fatalf("the program did not end by itself; it said:\n%s", &errOut)
	}
	return code, out.String(), errOut.String()
}

func TestEveryFlagHasAVariable(t *testing.T) {
	code, help, _ := attempt(t, nil, "--help")
	if code != 0 {
		t.Fatalf("--help: exit code %d", code)
	}
	words := strings.Join(strings.Fields(help), " ") // help is wrapped
	app := newApp(io.Discard, func(int) {})
	flags(app, env{}.lookup)
	seen := 0
	for _, f := range app.Model().Flags {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			continue
		}
		seen++
		name := "--" + f.Name
		if f.IsBoolFlag() {
			name = "--[no-]" + f.Name
		}
		if !strings.Contains(words, name) {
			t.Errorf("--help does not show %s", name)
		}
		if !strings.Contains(words, "($"+config.Variable(f.Name)+")") {
			t.Errorf("--help does not show %s, the variable of %s", config.Variable(f.Name), name)
		}
		if f.Help == "" {
			t.Errorf("%s has no help", name)
		}
	}
	if seen < 30 {
		t.Errorf("only %d flags were looked at", seen)
	}
	for _, name := range []string{"NCP_EXPORTER_HELP", "NCP_EXPORTER_VERSION"} {
		if strings.Contains(words, name) {
			t.Errorf("--help offers %s, which sets nothing", name)
		}
	}
}

// TestTextsNameFlags finds flags that a text names and the program does not have.
func TestTextsNameFlags(t *testing.T) {
	app := newApp(io.Discard, func(int) {})
	flags(app, env{}.lookup)
	seen := make(map[string]bool)
	for _, dir := range []string{"account", "check", "config", "landing", "peers"} {
		files, err := filepath.Glob(filepath.Join("internal", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file) //nolint:gosec // files of this repository
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range regexp.MustCompile(`--(?:no-)?([a-z]+[a-z.-]*[a-z])`).FindAllStringSubmatch(string(text), -1) {
				seen[match[1]] = true
			}
		}
	}
	for name := range seen {
		beginning := name == "no" || name == "ncp" // "--no-" and "--ncp.", which a name is put behind
		if !beginning && app.GetFlag(name) == nil {
			t.Errorf("a text names --%s, which is no flag", name)
		}
	}
	if len(seen) < 15 {
		t.Errorf("only %d flags are named", len(seen))
	}
	for _, w := range account.Table() {
		if flag := app.GetFlag(w.Flag); flag == nil || !flag.Model().IsBoolFlag() {
			t.Errorf("%s is switched by %s, which is no flag for that", w.Name, w.Flag)
		}
	}
}

// TestVariablesSetFlags sets each flag by its variable and looks whether it
// arrives: a value that is not its default in one run, by its effect on settings.
func TestVariablesSetFlags(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string {
		path := filepath.Join(dir, name)
		write(t, path, "")
		return path
	}
	webConfig, key, secret, profiles := file("web.yml"), file("access"), file("secret"), file("configure")
	for name, value := range map[string]string{
		"WEB_LISTEN_ADDRESS": "127.0.0.1:1\n127.0.0.1:2", "WEB_CONFIG_FILE": webConfig, "WEB_SYSTEMD_SOCKET": "true", "WEB_TELEMETRY_PATH": "/m/", "WEB_MAX_REQUESTS": "12", "WEB_ENABLE_LIFECYCLE": "true",
		"NCP_SITE": "gov", "NCP_CERTIFICATE_MANAGER_URL": "https://cm.example/api/v2", "NCP_EXTERNAL_ACCESS_URL": "https://ea.example/api/v1",
		"NCP_CREDENTIALS_FILE": profiles, "NCP_PROFILE": "p", "NCP_CERTIFICATE_MANAGER_PROFILE": "main", "NCP_EXTERNAL_ACCESS_PROFILE": "sub",
		"NCP_ACCESS_KEY_FILE": key, "NCP_SECRET_KEY_FILE": secret, "NCP_KEY_DIRECTORY": "keys", "NCP_SERVER_ROLE": "true", "NCP_SERVER_ROLE_URL": "http://127.0.0.1:3",
		"NCP_TIMEOUT": "6s", "NCP_MAX_CONCURRENCY": "7", "NCP_RATE_LIMIT": "0.5", "NCP_MAX_RETRIES": "0",
		"COLLECTOR_CERTIFICATE_MANAGER": "false", "COLLECTOR_CERTIFICATE_MANAGER_WINDOW": "7d", "COLLECTOR_CERTIFICATE_MANAGER_PER_CERTIFICATE": "false",
		"COLLECTOR_EXTERNAL_ACCESS": "false", "COLLECTOR_EXTERNAL_ACCESS_TRUST_ANCHORS": "false", "COLLECTOR_CERTIFICATE_INVENTORY": "true",
		"COLLECTOR_EXTERNAL_ACCESS_SUBJECT": "b\na\nb", "COLLECTOR_EXTERNAL_ACCESS_SUBJECT_INCLUDE": "b|CN=b", "COLLECTOR_EXTERNAL_ACCESS_SUBJECT_EXCLUDE": "c", "COLLECTOR_EXTERNAL_ACCESS_PAGE_SIZE": "1",
		"COLLECTOR_EXTERNAL_ACCESS_INITIAL_HISTORY": "skip", "COLLECTOR_EXTERNAL_ACCESS_LATE_ARRIVAL": "2h", "COLLECTOR_EXTERNAL_ACCESS_SWEEP_INTERVAL": "1h", "COLLECTOR_EXTERNAL_ACCESS_FAILURE_INFO": "1w",
		"SHARD": "ncp-exporter-2", "TOTAL_SHARDS": "3", "SCRAPE_MAX_AGE": "30s",
		"SCRAPE_TIMEOUT": "11s", "SCRAPE_TIMEOUT_OFFSET": "0s", "STATE_FILE": "l.db", "DEMO": "true", "DEMO_ACCOUNTS": "3", "CHECK": "true", "HEALTH_CHECK": "false", "FORMAT": "json", "LOG_LEVEL": "debug", "LOG_FORMAT": "json", "LOG_AUTHENTICATIONS": "all",
	} {
		t.Setenv("NCP_EXPORTER_"+name, value)
	}
	// Nobody means these; they must not stop the start.
	t.Setenv("NCP_EXPORTER_VERSION", "1.2.3")
	t.Setenv("NCP_EXPORTER_PORT", "tcp://10.0.0.1:10420") // Kubernetes, for a Service ncp-exporter
	t.Setenv("NCP_EXPORTER_LOG_FORMAT_", "nonsense")

	app := newApp(io.Discard, func(int) {})
	unvalidated := flags(app, os.LookupEnv)
	for _, f := range app.Model().Flags {
		ofFile := strings.HasPrefix(f.Name, "config.") // they exclude others: see TestVariablesOfTheFile
		if _, set := os.LookupEnv(config.Variable(f.Name)); !set && !f.Hidden && f.Name != "help" && !ofFile {
			t.Errorf("this test does not set %s", config.Variable(f.Name))
		}
	}
	got, err := parse(app, unvalidated, nil, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	toolkit := got.Web.Toolkit
	if diff := cmp.Diff([]string{"127.0.0.1:1", "127.0.0.1:2"}, *toolkit.WebListenAddresses); diff != "" || *toolkit.WebConfigFile != webConfig || !*toolkit.WebSystemdSocket {
		t.Errorf("the flags of the toolkit: %s, %s, %t", diff, *toolkit.WebConfigFile, *toolkit.WebSystemdSocket)
	}
	want := config.Config{
		Web:    config.Web{Toolkit: toolkit, TelemetryPath: "/m", Lifecycle: true},
		Scrape: collector.HandlerOptions{Timeout: 11 * time.Second, TimeoutOffset: 0, MaxRequests: 12},
		Shard:  config.Shard{Number: 2, Total: 3},
		Log:    config.Log{Level: "debug", Format: "json", Authentications: "all"},
		Check:  config.Check{Run: true, Format: "json"},
		Account: config.Account{
			Demo: true,
			Site: "gov",
			Keys: config.Keys{
				AccessKeyFile: key, SecretKeyFile: secret, CredentialsFile: profiles, Profile: "p",
				Directory: "keys", ServerRole: true, ServerRoleURL: "http://127.0.0.1:3",
			},
			Limits: config.Limits{Timeout: 6 * time.Second, MaxConcurrency: 7, RateLimit: 0.5, MaxRetries: 0},
			MaxAge: 30 * time.Second,
			Collectors: map[string]bool{
				certificateManager: false, inventory: true, externalAccess: false, trustAnchors: false,
			},
			CertificateManager: config.CertificateManager{
				URL: "https://cm.example/api/v2", Profile: "main", Window: 7 * 24 * time.Hour,
			},
			ExternalAccess: config.ExternalAccess{
				URL: "https://ea.example/api/v1", Profile: "sub", Subjects: []string{"a", "b"}, SubjectInclude: "b|CN=b", SubjectExclude: "c", PageSize: 1,
				InitialHistory: "skip", LateArrival: 2 * time.Hour, SweepInterval: time.Hour, FailureInfo: 7 * 24 * time.Hour,
			},
			StateFile: config.StateFile{Path: "l.db.demo", Given: true},
		},
		DemoAccounts: 3,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

// TestVariablesOfTheFile sets the flags that are about a file of accounts. NCLOUD_SITE
// is of one account, so it says nothing of those in the file; the flag does.
func TestVariablesOfTheFile(t *testing.T) {
	for name, value := range map[string]string{"CONFIG_FILE": "a.yml", "CONFIG_CHECK": "true", "CONFIG_AUTO_RELOAD_INTERVAL": "30s"} {
		t.Setenv("NCP_EXPORTER_"+name, value)
	}
	t.Setenv("NCLOUD_SITE", "gov")
	for site, args := range map[string][]string{"public": nil, "fin": {"--ncp.site=fin"}, "gov": {"--ncp.site=gov"}} {
		app := newApp(io.Discard, func(int) {})
		got, err := parse(app, flags(app, os.LookupEnv), args, os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		if got.File != "a.yml" || !got.Check.File || got.AutoReload != 30*time.Second || got.Account.Site != site {
			t.Errorf("%q: file %q, check %t, interval %s, site %s", args, got.File, got.Check.File, got.AutoReload, got.Account.Site)
		}
	}
	t.Setenv("NCP_EXPORTER_NCP_SITE", "fin")
	app := newApp(io.Discard, func(int) {})
	if got, err := parse(app, flags(app, os.LookupEnv), nil, os.LookupEnv); err != nil || got.Account.Site != "fin" {
		t.Errorf("NCP_EXPORTER_NCP_SITE: %s, %v", got.Account.Site, err)
	}
}

// TestConfigCheck asks nobody and says on stdout what is wrong, with the flags as
// defaults.
func TestConfigCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accounts.yml")
	for _, test := range []struct {
		text, want string
		code       int
	}{
		{"accounts:\n  one:\n    keys: {profile: one}\n", path + ": 1 account, all valid\n", 0},
		{"accounts:\n  one:\n    keys: {profile: one}\n  two:\n    keys: {profile: two}\n", path + ": 2 accounts, all valid\n", 0},
		{
			"accounts:\n  one:\n    site: govt\n    timeout: 1d\n    keys: {profile: one}\n",
			"--config.file " + path + ": line 3: accounts.one.site is \"govt\", but must be public, gov or fin\n" +
				"--config.file " + path + ": line 4: accounts.one.timeout is \"1d\", but must be a duration from 1ms to 1h, such as 90s or 1h\n", 1,
		},
	} {
		write(t, path, test.text)
		if code, stdout, stderr := attempt(t, nil, "--config.check", "--config.file="+path); code != test.code || stdout != test.want || stderr != "" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", test.text, code, stdout, stderr)
		}
	}
}

// TestFieldsOfAccounts wants the file to have a switch for each collector, which the
// flags' defaults reach, and each switch to be of a collector.
func TestFieldsOfAccounts(t *testing.T) {
	for _, w := range account.Table() {
		app := newApp(io.Discard, func(int) {})
		cfg, err := parse(app, flags(app, env{}.lookup), []string{"--" + w.Flag, "--config.file=a.yml"}, env{}.lookup)
		if err != nil {
			t.Fatal(err)
		}
		off := 0
		for _, field := range []string{"certificate_manager: {enabled", "certificate_manager: {inventory", "external_access: {enabled", "external_access: {trust_anchors"} {
			text := "accounts: {one: {keys: {profile: a}, " + field + ": false}}}"
			accounts, err := config.ParseFile("a.yml", []byte(text), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if !accounts[0].Collectors[w.Name] {
				off++
			}
		}
		if off != 1 {
			t.Errorf("%d fields switch %s off, want 1", off, w.Name)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"--version"}, {"--version", "--log.level=nonsense"}} {
		code, stdout, stderr := attempt(t, nil, args...)
		if code != 0 || !strings.Contains(stdout, config.Program) || stderr != "" {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil { //nolint:gosec // below a TempDir
		t.Fatal(err)
	}
}

// TestBadStart wants one line of error that names what is wrong and what would be
// right, and nothing else that looks like one.
func TestBadStart(t *testing.T) {
	const needle = "n33dle"
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		write(t, path, content)
		return path
	}
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	profiles := file("configure", "[main]\nncloud_access_key_id = "+needle+"A\nncloud_secret_access_key = "+needle+"S\n[half]\nncloud_access_key_id="+needle+"\n")
	empty := file("empty", "\n")
	full := file("full", needle+"\n")
	blank := file("blank", needle+" "+needle+"\n")
	certificate := file("cert.pem", "no certificate")
	keys := env{"NCLOUD_ACCESS_KEY_ID": needle + "A", "NCLOUD_SECRET_ACCESS_KEY": needle + "S"}

	for name, test := range map[string]struct {
		args []string
		vars env // of the program's own flags
		env  env // of NCP
		want []string
	}{
		"unknown flag":            {args: []string{"--nope"}, want: []string{"--nope", "--help"}},
		"secret as a flag":        {args: []string{"--ncp.secret-key=" + needle}, want: []string{"--ncp.secret-key", "--help"}},
		"argument":                {args: []string{"serve"}, want: []string{"serve", "--help"}},
		"flag without value":      {args: []string{"--ncp.max-retries"}, want: []string{"--ncp.max-retries", "--help"}},
		"flag given twice":        {args: []string{"--log.level=info", "--log.level=warn"}, want: []string{"log.level", "--help"}},
		"bool variable":           {vars: env{"NCP_EXPORTER_DEMO": "perhaps"}, want: []string{"NCP_EXPORTER_DEMO", "--demo", "perhaps", "true or false"}},
		"site":                    {args: []string{"--ncp.site=mars"}, want: []string{"--ncp.site", "mars", "public, gov or fin"}},
		"site variable":           {vars: env{"NCP_EXPORTER_NCP_SITE": "mars"}, want: []string{"NCP_EXPORTER_NCP_SITE", "mars", "public, gov or fin"}},
		"site of NCP":             {env: env{"NCLOUD_SITE": "mars"}, want: []string{"NCLOUD_SITE", "mars", "public, gov or fin"}},
		"URL without scheme":      {args: []string{"--ncp.external-access.url=example.com/api/v1"}, want: []string{"--ncp.external-access.url", "https://"}},
		"URL in the clear":        {args: []string{"--ncp.certificate-manager.url=http://example.com/api/v2"}, want: []string{"--ncp.certificate-manager.url", "https", "loopback"}},
		"URL with a password":     {args: []string{"--ncp.external-access.url=https://u:" + needle + "@example.com/api/v1"}, want: []string{"--ncp.external-access.url", "without user"}},
		"broken URL with one":     {args: []string{"--ncp.external-access.url=https://u:" + needle + "%zz@example.com"}, want: []string{"--ncp.external-access.url", "https://"}},
		"URL with a query":        {vars: env{"NCP_EXPORTER_NCP_EXTERNAL_ACCESS_URL": "https://example.com/api/v1?key=" + needle}, want: []string{"NCP_EXPORTER_NCP_EXTERNAL_ACCESS_URL", "query"}},
		"role URL with password":  {args: []string{"--ncp.server-role", "--ncp.server-role.url=http://u:" + needle + "@127.0.0.1"}, want: []string{"--ncp.server-role.url", "http://"}},
		"window not whole":        {args: []string{"--collector.certificate-manager.window=1500ms"}, want: []string{"--collector.certificate-manager.window", "1500ms", "1s to 168h"}},
		"window zero":             {args: []string{"--collector.certificate-manager.window=0s"}, want: []string{"--collector.certificate-manager.window", "1s to 168h"}},
		"window too wide":         {args: []string{"--collector.certificate-manager.window=169h"}, want: []string{"--collector.certificate-manager.window", "1s to 168h"}},
		"window no duration":      {vars: env{"NCP_EXPORTER_COLLECTOR_CERTIFICATE_MANAGER_WINDOW": "day"}, want: []string{"NCP_EXPORTER_COLLECTOR_CERTIFICATE_MANAGER_WINDOW", "day", "1s to 168h"}},
		"page size":               {args: []string{"--collector.external-access.page-size=0"}, want: []string{"--collector.external-access.page-size", `"0"`, "at least 1"}},
		"page size no number":     {args: []string{"--collector.external-access.page-size=ten"}, want: []string{"--collector.external-access.page-size", "ten", "at least 1"}},
		"page size beyond int":    {args: []string{"--collector.external-access.page-size=99999999999999999999"}, want: []string{"--collector.external-access.page-size", "at least 1"}},
		"empty subject":           {args: []string{"--collector.external-access.subject= "}, want: []string{"--collector.external-access.subject", "cannot be the id of a subject"}},
		"initial history":         {args: []string{"--collector.external-access.initial-history=maybe"}, want: []string{"--collector.external-access.initial-history", "maybe", "count or skip"}},
		"late arrival":            {args: []string{"--collector.external-access.late-arrival=0s"}, want: []string{"--collector.external-access.late-arrival", "from 1s"}},
		"sweep interval":          {args: []string{"--collector.external-access.sweep-interval=often"}, want: []string{"--collector.external-access.sweep-interval", "often", "from 0s to 30d"}},
		"failure info":            {args: []string{"--collector.external-access.failure-info=-1h"}, want: []string{"--collector.external-access.failure-info", "-1h", "from 0s to 1y"}},
		"max age":                 {args: []string{"--scrape.max-age=2h"}, want: []string{"--scrape.max-age", "2h", "from 0s to 1h"}},
		"shard":                   {args: []string{"--shard=first"}, want: []string{"--shard", "first", "ncp-exporter-2"}},
		"shard negative":          {args: []string{"--shard=-1"}, want: []string{"--shard", `"-1"`, "from 0 to 999"}},
		"shard of no pod":         {vars: env{"NCP_EXPORTER_SHARD": "ncp-exporter-"}, want: []string{"NCP_EXPORTER_SHARD", "ncp-exporter-", "from 0 to 999"}},
		"shard too high":          {args: []string{"--shard=2", "--total-shards=2"}, want: []string{"--shard", "is 2", "--total-shards", "count from 0"}},
		"total shards":            {args: []string{"--total-shards=0"}, want: []string{"--total-shards", "1 to 1000"}},
		"timeout":                 {args: []string{"--ncp.timeout=0s"}, want: []string{"--ncp.timeout", "from 1ms"}},
		"timeout negative":        {args: []string{"--scrape.timeout=-1s"}, want: []string{"--scrape.timeout", "from 1ms"}},
		"timeout offset":          {args: []string{"--scrape.timeout-offset=1"}, want: []string{"--scrape.timeout-offset", `"1"`, "from 0s to 1h"}},
		"concurrency":             {args: []string{"--ncp.max-concurrency=0"}, want: []string{"--ncp.max-concurrency", "1 to 1000"}},
		"rate":                    {args: []string{"--ncp.rate-limit=NaN"}, want: []string{"--ncp.rate-limit", "NaN", "0 = no limit"}},
		"requests":                {args: []string{"--web.max-requests=-1"}, want: []string{"--web.max-requests", "0 to 1000000"}},
		"retries":                 {args: []string{"--ncp.max-retries=-1"}, want: []string{"--ncp.max-retries", "0 to 100"}},
		"telemetry path root":     {args: []string{"--web.telemetry-path=/"}, want: []string{"--web.telemetry-path", "/metrics"}},
		"telemetry path taken":    {args: []string{"--web.telemetry-path=/-/ready"}, want: []string{"--web.telemetry-path", "/metrics"}},
		"telemetry path dots":     {args: []string{"--web.telemetry-path=/a/../b"}, want: []string{"--web.telemetry-path", "/metrics"}},
		"telemetry path pattern":  {args: []string{"--web.telemetry-path=/{x}"}, want: []string{"--web.telemetry-path", "/metrics"}},
		"format":                  {args: []string{"--check", "--format=xml"}, want: []string{"--format", "xml", "text or json"}},
		"format without check":    {vars: env{"NCP_EXPORTER_FORMAT": "json"}, want: []string{"NCP_EXPORTER_FORMAT", "json", "--check"}},
		"check without flags":     {args: []string{"--check", "--ncp.max-retries=-1"}, want: []string{"--ncp.max-retries", "0 to 100"}},
		"config check alone":      {args: []string{"--config.check"}, want: []string{"--config.check", "--config.file"}},
		"auto-reload alone":       {args: []string{"--config.auto-reload-interval=30s"}, want: []string{"--config.auto-reload-interval", "--config.file"}},
		"auto-reload too rarely":  {args: []string{"--config.auto-reload-interval=25h"}, want: []string{"--config.auto-reload-interval", "from 0s to 1d"}},
		"demo accounts":           {args: []string{"--demo", "--demo.accounts=101"}, want: []string{"--demo.accounts", "101", "1 to 100"}},
		"demo accounts alone":     {args: []string{"--demo.accounts=2"}, want: []string{"--demo.accounts", "is 2", "--demo"}},
		"log level":               {args: []string{"--log.level=loud"}, want: []string{"--log.level", "loud", "debug, info, warn or error"}},
		"log authentications":     {args: []string{"--log.authentications=some"}, want: []string{"--log.authentications", "some", "none, failures or all"}},
		"pattern":                 {args: []string{"--collector.external-access.subject-include=CN=("}, want: []string{"--collector.external-access.subject-include", "CN=(", "RE2"}},
		"log level empty":         {args: []string{"--log.level="}, want: []string{"--log.level", "debug, info, warn or error"}},
		"log format":              {vars: env{"NCP_EXPORTER_LOG_FORMAT": "xml"}, want: []string{"NCP_EXPORTER_LOG_FORMAT", "xml", "logfmt or json"}},
		"no keys":                 {want: []string{"NCLOUD_ACCESS_KEY_ID", "NCLOUD_SECRET_ACCESS_KEY", "--ncp.access-key-file", "--ncp.secret-key-file", "configure", "--ncp.server-role", "--demo"}},
		"no secret key":           {env: env{"NCLOUD_ACCESS_KEY_ID": needle}, want: []string{"NCLOUD_ACCESS_KEY_ID", "NCLOUD_SECRET_ACCESS_KEY"}},
		"no access key":           {env: env{"NCLOUD_SECRET_KEY": needle}, want: []string{"NCLOUD_SECRET_KEY", "NCLOUD_ACCESS_KEY_ID"}},
		"key with a blank":        {env: env{"NCLOUD_ACCESS_KEY_ID": needle, "NCLOUD_SECRET_ACCESS_KEY": needle + " " + needle}, want: []string{"NCLOUD_SECRET_ACCESS_KEY", "secret key", "blank"}},
		"unfilled variable":       {env: env{"NCLOUD_ACCESS_KEY_ID": needle, "NCLOUD_SECRET_ACCESS_KEY": "${" + needle + "}"}, want: []string{"NCLOUD_SECRET_ACCESS_KEY", "secret key", "holds", "$"}},
		"proxy with a percent":    {env: env{"NCLOUD_ACCESS_KEY_ID": "a", "NCLOUD_SECRET_ACCESS_KEY": "b", "HTTPS_PROXY": "http://user:" + needle + "%@proxy.example:3128"}, want: []string{"HTTPS_PROXY", "%25"}},
		"proxy without a host":    {env: env{"NCLOUD_ACCESS_KEY_ID": "a", "NCLOUD_SECRET_ACCESS_KEY": "b", "https_proxy": "http://:3128"}, want: []string{"https_proxy", "http://user:password@host:port"}},
		"no proxy":                {env: env{"NCLOUD_ACCESS_KEY_ID": "a", "NCLOUD_SECRET_ACCESS_KEY": "b", "NO_PROXY": "10.*"}, want: []string{"NO_PROXY", "10.*", "10.0.0.0/8"}},
		"half key files":          {args: []string{"--ncp.access-key-file=" + full}, want: []string{"--ncp.access-key-file", "--ncp.secret-key-file"}},
		"other half of key files": {vars: env{"NCP_EXPORTER_NCP_SECRET_KEY_FILE": full}, want: []string{"--ncp.access-key-file", "--ncp.secret-key-file"}},
		"empty key file":          {args: []string{"--ncp.access-key-file=" + full, "--ncp.secret-key-file=" + empty}, want: []string{empty, "secret key is empty"}},
		"key file with a blank":   {args: []string{"--ncp.access-key-file=" + blank, "--ncp.secret-key-file=" + full}, want: []string{blank, "access key", "blank"}},
		"absent key file":         {args: []string{"--ncp.access-key-file=" + full, "--ncp.secret-key-file=" + dir + "/absent"}, want: []string{dir + "/absent", "no such file"}},
		"absent credentials file": {args: []string{"--ncp.credentials-file=" + dir + "/absent"}, want: []string{dir + "/absent", "no such file"}},
		"directory of keys":       {args: []string{"--ncp.credentials-file=" + dir}, want: []string{dir, "directory"}},
		"absent profile":          {args: []string{"--ncp.credentials-file=" + profiles, "--ncp.profile=nobody"}, want: []string{profiles, "nobody", "half, main"}},
		"half profile":            {args: []string{"--ncp.credentials-file=" + profiles, "--ncp.external-access.profile=half", "--no-collector.certificate-manager"}, want: []string{profiles, "half", "secret key is empty"}},
		"both collectors off":     {args: []string{"--no-collector.certificate-manager", "--no-collector.external-access"}, env: keys, want: []string{"--collector.certificate-manager", "--collector.external-access"}},
		"both off by site":        {args: []string{"--ncp.site=fin", "--no-collector.external-access"}, env: keys, want: []string{"--collector.certificate-manager", "--collector.external-access"}},
		"address in use":          {args: []string{"--web.listen-address=" + taken.Addr().String()}, env: keys, want: []string{"--web.listen-address", taken.Addr().String(), "in use"}},
		"address without port":    {args: []string{"--web.listen-address=127.0.0.1"}, env: keys, want: []string{"--web.listen-address", "127.0.0.1", "missing port"}},
		"empty key directory":     {args: []string{"--ncp.key-directory=" + dir}, vars: env{"HOME": dir}, want: []string{"no NCP keys found", "access-key", "secret-key", dir}},
		"no systemd socket":       {args: []string{"--web.systemd-socket"}, env: keys, want: []string{"--web.systemd-socket", "socket activation"}},
		"absent web config":       {args: []string{"--web.config.file=" + dir + "/absent"}, env: keys, want: []string{"--web.config.file", dir + "/absent", "no such file"}},
		"web config no YAML":      {args: []string{"--web.config.file=" + file("no.yml", "\tx:")}, env: keys, want: []string{"--web.config.file", "yaml"}},
		"web config fields":       {args: []string{"--web.config.file=" + file("fields.yml", "tls_server_config:\n  one: 1\n  two: 2\n")}, env: keys, want: []string{"--web.config.file", "one", "two"}},
		"web config certificate":  {args: []string{"--web.config.file=" + file("cert.yml", "tls_server_config:\n  cert_file: "+certificate+"\n  key_file: "+certificate+"\n")}, env: keys, want: []string{"--web.config.file", "PEM"}},
		"web config password":     {args: []string{"--web.config.file=" + file("user.yml", "basic_auth_users:\n  alice: "+needle+"\n")}, env: keys, want: []string{"--web.config.file", "hashedSecret"}},
	} {
		t.Run(name, func(t *testing.T) {
			for name, value := range test.vars {
				t.Setenv(name, value) // the flags library asks the process itself
			}
			e := env{"NCLOUD_ACCESS_KEY_ID": "", "NCLOUD_SECRET_ACCESS_KEY": ""}
			for name, value := range test.env {
				e[name] = value
			}
			for name, value := range test.vars {
				e[name] = value
			}
			args := test.args
			if !strings.Contains(strings.Join(args, " "), "--web.listen-address") {
				args = append([]string{"--web.listen-address=127.0.0.1:0"}, args...)
			}
			code, stdout, stderr := attempt(t, e, args...)
			if code != 1 || stdout != "" {
				t.Errorf("exit code %d, stdout %q, want 1 and nothing", code, stdout)
			}
			var errorLines []string
			for line := range strings.Lines(stderr) {
				switch {
				case strings.HasPrefix(line, "level=info "):
				case strings.HasPrefix(line, "level=error ts="), strings.HasPrefix(line, config.Program+": error: "):
					errorLines = append(errorLines, line)
				default:
					t.Errorf("a line that does not belong here: %q", line)
				}
			}
			if len(errorLines) != 1 {
				t.Fatalf("%d lines of error, want 1:\n%s", len(errorLines), stderr)
			}
			for _, want := range test.want {
				if !strings.Contains(errorLines[0], want) {
					t.Errorf("the error does not tell %q: %s", want, errorLines[0])
				}
			}
			for _, never := range []string{needle, "panic", "goroutine", ".go:", "%!", "<nil>"} {
				if strings.Contains(stderr, never) {
					t.Errorf("%q is shown: %s", never, stderr)
				}
			}
		})
	}
}

// TestIdentityBesideAFile gives each flag that says which account it is, or with
// which keys, beside a file of accounts.
func TestIdentityBesideAFile(t *testing.T) {
	for flag, value := range map[string]string{
		"demo": "true", "ncp.server-role": "true", "ncp.access-key-file": "k", "ncp.secret-key-file": "k", "ncp.credentials-file": "k", "ncp.profile": "k",
		"ncp.certificate-manager.profile": "k", "ncp.external-access.profile": "k",
		"ncp.certificate-manager.url": "https://h.example/api/v2", "ncp.external-access.url": "https://h.example/api/v1", "collector.external-access.subject": "s",
	} {
		t.Run(flag, func(t *testing.T) {
			t.Setenv(config.Variable(flag), value)
			if strings.HasSuffix(flag, "-key-file") { // alone they are another error
				t.Setenv(config.Variable("ncp.access-key-file"), value)
				t.Setenv(config.Variable("ncp.secret-key-file"), value)
			}
			code, stdout, stderr := attempt(t, nil, "--config.file=a.yml")
			if code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "--config.file") ||
				!strings.Contains(stderr, config.FlagName(flag)) && !strings.HasSuffix(flag, "-key-file") {
				t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
			}
		})
	}
}
