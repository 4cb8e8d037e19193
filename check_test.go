package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/subjects"
	"ncp_exporter/ncpclient/ncptest"
)

// checkedNCP is a simulated NCP that --check asks, and all that was sent to it that
// nobody may read.
type checkedNCP struct {
	*ncptest.Server
	url string
	// externalAccess is another base URL, if that is to be asked elsewhere.
	externalAccess string

	mu      sync.Mutex
	secrets []string
}

// toCheck simulates an NCP whose keys are like nothing else in an output.
func toCheck(t *testing.T, cfg ncptest.Config) *checkedNCP {
	t.Helper()
	if len(cfg.Keys) == 0 {
		cfg.Keys = []ncptest.Key{{}}
	}
	cfg.Keys[0].AccessKey, cfg.Keys[0].SecretKey = "Zq7AccessNeedle4Xw", "Jk5SecretNeedle9Yv"
	n := &checkedNCP{Server: ncptest.New(cfg), secrets: []string{"accessneedle", "secretneedle"}}
	n.SetChanges(ncptest.Change{OrderID: "410", CertificateID: 55991, Status: ncptest.StatusOngoing})
	n.PutSubject(ncptest.Subject{SubjectID: "subject-1", X509Subject: "CN=one", Enabled: true})
	n.AddCredentials("subject-1", ncptest.NewCredential(time.Date(2024, 12, 12, 9, 0, 0, 0, time.UTC), "1", false))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		n.secrets = append(n.secrets, strings.ToLower(r.Header.Get("X-Ncp-Apigw-Signature-V2")))
		n.mu.Unlock()
		n.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	n.url = server.URL
	return n
}

func (n *checkedNCP) env() env {
	return env{"NCLOUD_ACCESS_KEY_ID": "Zq7AccessNeedle4Xw", "NCLOUD_SECRET_ACCESS_KEY": "Jk5SecretNeedle9Yv"}
}

func (n *checkedNCP) urls() []string {
	return []string{"--ncp.certificate-manager.url=" + n.url + "/api/v2", "--ncp.external-access.url=" + orElse(n.externalAccess, n.url+"/api/v1")}
}

// check runs --check in both formats, and looks for what must never be seen.
func (n *checkedNCP) check(t *testing.T, e env, args ...string) (code int, r report, text string) {
	t.Helper()
	args = append(append(n.urls(), "--check"), args...)
	code, text, stderr := attempt(t, e, args...)
	jsonCode, asJSON, jsonStderr := attempt(t, e, append(args, "--format=json")...)
	if err := json.Unmarshal([]byte(asJSON), &r); err != nil {
		t.Fatalf("no JSON: %v\n%s", err, asJSON)
	}
	if stderr+jsonStderr != "" {
		t.Errorf("on stderr: %s%s", stderr, jsonStderr)
	}
	if code != jsonCode || r.OK != (code == 0) {
		t.Errorf("exit codes %d and %d, ok %t", code, jsonCode, r.OK)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, output := range []string{text, asJSON} {
		for _, secret := range n.secrets {
			if secret != "" && strings.Contains(strings.ToLower(output), secret) {
				t.Errorf("%q is shown:\n%s", secret, output)
			}
		}
		for _, never := range []string{"%!", "<nil>", "panic", "\x1b", "\x00"} {
			if strings.Contains(output, never) {
				t.Errorf("%q is shown:\n%s", never, output)
			}
		}
	}
	return code, r, text
}

// said is all that the report says of something; it begins with its status.
func (r report) said(name string) string {
	for _, f := range r.Checks {
		if f.Name == name {
			return f.Status + " " + f.What + "|" + f.Detail + "|do: " + f.Remedy
		}
	}
	return "absent"
}

// others wants all findings to be ok but these.
func (r report) others(t *testing.T, but ...string) {
	t.Helper()
	for _, f := range r.Checks {
		if f.Status != statusOK && !slices.Contains(but, f.Name) {
			t.Errorf("%s: %s", f.Name, r.said(f.Name))
		}
		if (f.Status == statusOK) != (f.Remedy == "") || f.Detail == "" {
			t.Errorf("%s is %s, with the detail %q and the remedy %q", f.Name, f.Status, f.Detail, f.Remedy)
		}
	}
}

func wantAll(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not told: %s", w, text)
		}
	}
}

// normal takes out of a report what is another each time.
func (n *checkedNCP) normal(text string) string {
	text = strings.ReplaceAll(text, n.url, "http://127.0.0.1:40123")
	text = regexp.MustCompile(`"seconds": [0-9.]+`).ReplaceAllString(text, `"seconds": 0.012`)
	text = regexp.MustCompile(`request id [0-9a-f]{16}`).ReplaceAllString(text, "request id 0123456789abcdef")
	return regexp.MustCompile(`/[^ ":]*/Test[^ ":]*/\d+/`).ReplaceAllString(text, "/somewhere/")
}

func TestCheckGolden(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  ncptest.Config
		args func(dir string) []string
		code int
	}{
		"well": {args: func(string) []string { return nil }},
		"failures": {
			cfg: ncptest.Config{Keys: []ncptest.Key{{SubAccount: true, Denied: []ncptest.Operation{ncptest.Credentials}}}},
			args: func(dir string) []string {
				write(t, filepath.Join(dir, "damaged.db"), "no ledger")
				return []string{"--state.file=" + filepath.Join(dir, "damaged.db"), "--web.config.file=" + filepath.Join(dir, "absent.yml")}
			},
			code: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			golden, err := filepath.Abs(filepath.Join("testdata", "check", name))
			if err != nil {
				t.Fatal(err)
			}
			n := toCheck(t, test.cfg)
			args := test.args(t.TempDir())
			code, _, text := n.check(t, n.env(), args...)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			_, asJSON, _ := attempt(t, n.env(), append(append(n.urls(), "--check", "--format=json"), args...)...)
			for file, got := range map[string]string{golden + ".txt": n.normal(text), golden + ".json": n.normal(asJSON)} {
				if *update {
					write(t, file, got)
					continue
				}
				want, err := os.ReadFile(file) //nolint:gosec // below testdata
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Errorf("%s (-want +got), `make docs` writes it:\n%s", filepath.Base(file), diff)
				}
			}
		})
	}
}

// TestCheckAnswers is about all that NCP may answer to either API: what is said of
// that one, and that nothing else is called wrong for it.
func TestCheckAnswers(t *testing.T) {
	at := func(offset time.Duration) func() time.Time {
		return func() time.Time { return time.Now().Add(offset) }
	}
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers := fmt.Sprint(r.Header)
		w.Header().Set("X-Request-Id", r.Header.Get("X-Ncp-Apigw-Signature-V2"))
		ncptest.GatewayError(http.StatusBadRequest, r.Header.Get("X-Ncp-Iam-Access-Key"), headers).ServeHTTP(w, r)
	})
	both := []string{findCertificateManager, findSubjects, findHistories}
	for name, test := range map[string]struct {
		cfg   ncptest.Config
		env   env
		fault ncptest.Fault
		args  []string
		bad   []string // findings that are not ok
		of    string   // the finding that is looked at; the first of bad
		want  []string // in it
	}{
		"well":             {of: findHistories, want: []string{"ok GET http://127.0.0.1:", "/subjects/subject-1/credentials?page=0&size=1", "keys from environment (NCLOUD_ACCESS_KEY_ID)", "1 rows"}},
		"well, the list":   {of: findSubjects, want: []string{"subjects?page=0&size=100", "1 subjects"}},
		"well, window":     {of: findCertificateManager, args: []string{"--collector.certificate-manager.window=90s"}, want: []string{"recentChanges?seconds=90", "within 1m30s"}},
		"wrong secret":     {env: env{"NCLOUD_SECRET_ACCESS_KEY": "Xx3SecretNeedle"}, bad: both, want: []string{"fail", "HTTP 401", "check both keys (environment (NCLOUD_ACCESS_KEY_ID))", "--ncp.site"}},
		"no keys":          {env: env{"NCLOUD_ACCESS_KEY_ID": "", "NCLOUD_SECRET_ACCESS_KEY": ""}, bad: append([]string{findClock}, both...), of: findSubjects, want: []string{"no NCP keys found", "do: set NCLOUD_ACCESS_KEY_ID", "--ncp.access-key-file"}},
		"half the keys":    {env: env{"NCLOUD_SECRET_ACCESS_KEY": ""}, bad: append([]string{findClock}, both...), of: findCertificateManager, want: []string{"no keys: NCLOUD_ACCESS_KEY_ID is set, but NCLOUD_SECRET_ACCESS_KEY"}},
		"a key less":       {args: []string{"--ncp.credentials-file=/dev/null", "--ncp.certificate-manager.profile=main"}, bad: []string{findCertificateManager}, want: []string{`no profile "main"`, "docs/configuration.md"}},
		"clock ahead":      {cfg: ncptest.Config{Now: at(-7*time.Minute - 30*time.Second)}, bad: append([]string{findClock}, both...), want: []string{"fail", "is 7m3", "ahead of NCP's", "NTP"}},
		"clock behind":     {cfg: ncptest.Config{Now: at(2 * time.Hour)}, bad: append([]string{findClock}, both...), of: findCertificateManager, want: []string{"HTTP 401", "NTP"}},
		"clock drifts":     {cfg: ncptest.Config{Now: at(2*time.Minute + 500*time.Millisecond)}, bad: []string{findClock}, want: []string{"warn", "behind NCP's", "do: set"}},
		"sub-account":      {cfg: ncptest.Config{Keys: []ncptest.Key{{SubAccount: true}}}, bad: []string{findCertificateManager}, want: []string{"HTTP 403, from ENDPOINT", "a key of the main account (--ncp.certificate-manager.profile)", "--no-collector.certificate-manager"}},
		"empty 403":        {fault: ncptest.ForOp(ncptest.RecentChanges, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })), bad: []string{findCertificateManager}, want: []string{"neither NCP's gateway nor its endpoint"}},
		"no list":          {cfg: ncptest.Config{Keys: []ncptest.Key{{Denied: []ncptest.Operation{ncptest.Subjects}}}}, bad: []string{findSubjects, findHistories}, want: []string{"code 210", "permission to view External Access: the list"}},
		"no histories":     {cfg: ncptest.Config{Keys: []ncptest.Key{{Denied: []ncptest.Operation{ncptest.Credentials}}}}, bad: []string{findHistories}, want: []string{"code 210", "the credentials of a subject, which is another"}},
		"no changes":       {cfg: ncptest.Config{Keys: []ncptest.Key{{Denied: []ncptest.Operation{ncptest.RecentChanges}}}}, bad: []string{findCertificateManager}, want: []string{"code 210", "main account"}},
		"wrong version":    {args: []string{"--shard=1", "--total-shards=2"}, fault: ncptest.ForOp(ncptest.Subjects, ncptest.GatewayError(404, "300", "Not Found Exception")), bad: []string{findSubjects, findHistories}, want: []string{"HTTP 404", "check --ncp.site (now public) and --ncp.external-access.url"}},
		"rate limited":     {fault: ncptest.ForOp(ncptest.RecentChanges, ncptest.Throttled("17")), bad: []string{findCertificateManager}, want: []string{"HTTP 429", "asks to wait 17s", "--ncp.rate-limit (now 50)"}},
		"server error":     {fault: ncptest.ForOp(ncptest.RecentChanges, ncptest.GatewayError(503, "500", "Endpoint Error")), bad: []string{findCertificateManager}, want: []string{"HTTP 503", "request id", "check again later"}},
		"refused in a 200": {fault: ncptest.ForOp(ncptest.RecentChanges, ncptest.ReturnCode(200, "9999", "Internal")), bad: []string{findCertificateManager}, want: []string{"code 9999", "support"}},
		"redirect":         {fault: ncptest.ForOp(ncptest.RecentChanges, ncptest.Redirect("https://login.example/")), bad: []string{findCertificateManager}, want: []string{"HTTP 302", "not how NCP answers", "--ncp.certificate-manager.url"}},
		"login page":       {fault: ncptest.ForOp(ncptest.Subjects, ncptest.HTMLPage(200)), bad: []string{findSubjects, findHistories}, want: []string{"HTTP 200", "not how NCP answers", "--ncp.external-access.url"}},
		"huge":             {fault: ncptest.ForOp(ncptest.Credentials, ncptest.Huge(40<<20)), bad: []string{findHistories}, want: []string{"HTTP 200", "not how NCP answers"}},
		"time-out":         {fault: ncptest.ForOp(ncptest.RecentChanges, ncptest.Hang()), args: []string{"--ncp.timeout=300ms"}, bad: []string{findCertificateManager}, want: []string{"took longer", "firewall", "--ncp.timeout (now 300ms)"}},
		"all of the time":  {fault: ncptest.ForOp(ncptest.Credentials, ncptest.Hang()), args: []string{"--scrape.timeout=500ms"}, bad: []string{findHistories}, want: []string{"--scrape.timeout (now 500ms)"}},
		"reset":            {fault: ncptest.ForOp(ncptest.RecentChanges, ncptest.Reset()), bad: []string{findCertificateManager}, want: []string{"check the way to 127.0.0.1"}},
		"page size":        {cfg: ncptest.Config{RefusePageSizeAbove: 50}, of: findSubjects, want: []string{"ok", "20 a page as it refuses 100"}},
		"echo":             {fault: ncptest.Always(echo), bad: both, want: []string{"redacted"}},
		"echo, by name":    {fault: ncptest.Always(echo), args: []string{"--collector.external-access.subject=nobody"}, bad: []string{findCertificateManager, findHistories}, of: findHistories, want: []string{"1 of 1 named subjects", "--collector.external-access.subject"}},
		"named":            {args: []string{"--collector.external-access.subject=subject-1"}, of: findHistories, want: []string{"ok", "subjects/subject-1/credentials", "each of 1 named"}},
		"named wrongly":    {fault: ncptest.ForSubject("subject-2", ncptest.GatewayError(404, "300", "Not Found Exception")), args: []string{"--collector.external-access.subject=subject-1", "--collector.external-access.subject=subject-2"}, bad: []string{findHistories}, want: []string{"/subjects/subject-2/", "1 of 2 named", "NCP does not know this subject"}},
		"not watched":      {args: []string{"--no-collector.certificate-manager"}, of: findCollectors, want: []string{"certificate_manager is not (--no-collector.certificate-manager)"}},
		"nor the other":    {args: []string{"--no-collector.external-access"}, of: findCollectors, want: []string{"external_access is not (--no-collector.external-access)"}},
		"nothing":          {args: []string{"--no-collector.certificate-manager", "--no-collector.external-access"}, bad: []string{findCollectors}, want: []string{"fail", "nothing to watch"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := toCheck(t, test.cfg)
			n.SetFault(test.fault)
			e := n.env()
			for name, value := range test.env {
				e[name] = value
			}
			_, r, _ := n.check(t, e, test.args...)
			r.others(t, test.bad...)
			if test.of == "" {
				test.of = test.bad[0]
			}
			wantAll(t, r.said(test.of), test.want...)
			for _, op := range []ncptest.Operation{ncptest.RecentChanges, ncptest.Subjects} {
				// A refused page size is asked for smaller, a dead connection once more.
				if once := n.Count(op); once > 2 && name != "page size" && name != "reset" && !strings.HasPrefix(name, "echo") {
					t.Errorf("%s was asked %d times in two checks", op, once)
				}
			}
		})
	}
}

func TestCheckWithoutSubjects(t *testing.T) {
	n := toCheck(t, ncptest.Config{})
	n.RemoveSubject("subject-1")
	code, r, _ := n.check(t, n.env())
	if code != 0 {
		t.Errorf("exit code %d: an empty account is no failure", code)
	}
	r.others(t, findSubjects, findHistories)
	wantAll(t, r.said(findSubjects), "warn", "0 subjects", "--ncp.site")
	wantAll(t, r.said(findHistories), "warn", "not asked", "permission of its own")
}

func TestCheckOfAShard(t *testing.T) {
	n := toCheck(t, ncptest.Config{})
	for i := range 20 {
		n.PutSubject(ncptest.Subject{SubjectID: fmt.Sprint("subject-", i), Enabled: true})
	}
	shard := subjects.NewShard(1, 3)
	_, r, _ := n.check(t, n.env(), "--shard=1", "--total-shards=3")
	r.others(t)
	wantAll(t, r.said(findCollectors), "--shard=1 of 3", "shard 0 does it")
	if n.Count(ncptest.RecentChanges) > 0 || r.said(findCertificateManager) != "absent" {
		t.Errorf("shard 1 asks Certificate Manager: %s", r.said(findCertificateManager))
	}
	asked := regexp.MustCompile(`subjects/([^/]+)/`).FindStringSubmatch(r.said(findHistories))
	if asked == nil || !shard.Owns(asked[1]) {
		t.Errorf("another shard's subject was asked for: %s", r.said(findHistories))
	}
	_, r, _ = n.check(t, n.env(), "--shard=1", "--total-shards=3", "--collector.external-access.subject="+notOf(shard))
	wantAll(t, r.said(findHistories), "warn", "none of the subjects that are named is this shard's")
}

func notOf(shard subjects.Shard) string {
	for i := 0; ; i++ {
		if id := fmt.Sprint("subject-", i); !shard.Owns(id) {
			return id
		}
	}
}

func TestCheckOfSites(t *testing.T) {
	n := toCheck(t, ncptest.Config{})
	for _, site := range []string{"gov", "fin"} {
		args := []string{"--check", "--format=json", "--ncp.site=" + site, "--ncp.external-access.url=" + n.url + "/api/v1"}
		code, stdout, _ := attempt(t, n.env(), args...)
		var r report
		if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != 0 {
			t.Fatalf("exit code %d, error %v", code, err)
		}
		wantAll(t, r.said(findCollectors), "--ncp.site="+site, "this site has no recentChanges")
		if n.Count(ncptest.RecentChanges) > 0 || r.said(findCertificateManager) != "absent" {
			t.Errorf("%s: Certificate Manager was asked", site)
		}
	}
}

// TestCheckOfTheWay is about what keeps NCP from being reached. No name in it
// can be resolved, and none is asked for.
func TestCheckOfTheWay(t *testing.T) {
	quiet := func(server *httptest.Server) *httptest.Server {
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		t.Cleanup(server.Close)
		return server
	}
	handler := http.NotFoundHandler()
	inTheClear := quiet(httptest.NewServer(handler))
	untrusted := quiet(httptest.NewUnstartedServer(handler))
	untrusted.StartTLS()
	tlsWith := func(certificate *x509.Certificate, config *tls.Config) *httptest.Server {
		server := quiet(httptest.NewUnstartedServer(handler))
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		certificate.SerialNumber = big.NewInt(1)
		der, err := x509.CreateCertificate(rand.Reader, certificate, certificate, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
		server.TLS = config
		server.StartTLS()
		return server
	}
	now, loopback := time.Now(), []net.IP{net.IPv4(127, 0, 0, 1)}
	expired := tlsWith(&x509.Certificate{NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-24 * time.Hour), IPAddresses: loopback}, &tls.Config{})
	misnamed := tlsWith(&x509.Certificate{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), DNSNames: []string{"other.example"}}, &tls.Config{})
	old := tlsWith(&x509.Certificate{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IPAddresses: loopback}, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}) //nolint:gosec // to be refused
	closed := httptest.NewServer(handler)
	closed.Close()

	for name, test := range map[string]struct {
		base string
		want []string
	}{
		"refused":        {closed.URL, []string{"the connection is refused", "nobody listens at 127.0.0.1:", "--ncp.external-access.url"}},
		"no such host":   {"https://externalaccess..example", []string{"cannot be resolved", "no such host", "--ncp.site (now public)", "DNS", "HTTPS_PROXY"}},
		"not TLS":        {strings.Replace(inTheClear.URL, "http:", "https:", 1), []string{"does not speak TLS", "check the port"}},
		"untrusted":      {untrusted.URL, []string{"signed by nobody who is trusted", "SSL_CERT_FILE"}},
		"expired":        {expired.URL, []string{"is valid from", "clock"}},
		"another's":      {misnamed.URL, []string{"is for other names", "--ncp.external-access.url"}},
		"old TLS":        {old.URL, []string{"TLS could not be agreed on", "TLS 1.2"}},
		"not NCP":        {inTheClear.URL, []string{"HTTP 404", "--ncp.site"}},
		"TLS in reverse": {strings.Replace(untrusted.URL, "https:", "http:", 1), []string{"HTTP 400", "--ncp.external-access.url"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := toCheck(t, ncptest.Config{})
			n.externalAccess = test.base + "/api/v1"
			code, r, _ := n.check(t, n.env())
			if code != 1 {
				t.Errorf("exit code %d", code)
			}
			r.others(t, findSubjects, findHistories) // the other API works
			wantAll(t, r.said(findSubjects), append(test.want, "fail GET "+test.base+"/api/v1/subjects?")...)
			wantAll(t, r.said(findHistories), "fail", "see "+findSubjects)
			if regexp.MustCompile(`lookup .* on `).MatchString(r.said(findSubjects)) {
				t.Errorf("a name server was asked: %s", r.said(findSubjects))
			}
		})
	}
}

func TestCheckOfTheServerRole(t *testing.T) {
	n := toCheck(t, ncptest.Config{})
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/role") {
			_, _ = io.WriteString(w, `{"AccessKeyId":"Zq7AccessNeedle4Xw","SecretAccessKey":"Jk5SecretNeedle9Yv"}`)
			return
		}
		_, _ = io.WriteString(w, "role")
	}))
	args := []string{"--ncp.server-role", "--ncp.server-role.url=" + metadata.URL}
	none := env{"NCLOUD_ACCESS_KEY_ID": "", "NCLOUD_SECRET_ACCESS_KEY": ""}
	code, r, _ := n.check(t, none, args...)
	if r.others(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	metadata.Close()
	_, r, _ = n.check(t, none, args...)
	wantAll(t, r.said(findSubjects), "fail", "metadata service", "server role ("+metadata.URL+")", "that this server has a role")
}

func TestCheckOfTheLedger(t *testing.T) {
	n := toCheck(t, ncptest.Config{})
	begin := func(path, site string) *ledger.Ledger {
		l, err := ledger.Open(path, ledger.Options{Site: site, Now: time.Now, LateArrival: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	closed := func(path, site string) string {
		if err := begin(path, site).Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	dir := t.TempDir()
	whole := closed(filepath.Join(dir, "whole.db"), n.url+"/api/v1")
	other := closed(filepath.Join(dir, "other.db"), "https://other.example")
	newer := closed(filepath.Join(dir, "newer.db"), n.url+"/api/v1")
	db, err := bolt.Open(newer, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte("ncp_exporter")).Put([]byte("schema"), []byte("2")) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	held := filepath.Join(dir, "held.db")
	holder := begin(held, n.url+"/api/v1")
	defer func() { _ = holder.Close() }() // nothing is in it
	damaged, file := filepath.Join(dir, "damaged.db"), filepath.Join(dir, "file")
	write(t, damaged, "no ledger")
	write(t, file, "")

	for name, test := range map[string]struct {
		path string
		code int
		want []string
	}{
		"new":          {filepath.Join(dir, "not", "there", "l.db"), 0, []string{"ok", "there is none yet"}},
		"whole":        {whole, 0, []string{"ok", "counting goes on"}},
		"memory":       {"", 0, []string{"ok", "in memory"}},
		"held":         {held, 0, []string{"warn", "another process has it open", "nothing, if that is the exporter"}},
		"other site":   {other, 1, []string{"fail", "another site", "https://other.example", "would not start", "--ncp.site"}},
		"newer":        {newer, 1, []string{"fail", "schema 2", "would not start", "docs/upgrade.md"}},
		"damaged":      {damaged, 1, []string{"fail", "damaged", "would not start", "put back a copy"}},
		"directory":    {dir, 1, []string{"fail", "directory", "would not start", "may write"}},
		"below a file": {filepath.Join(file, "l.db"), 1, []string{"fail", "not a directory", "would not start"}},
		"odd name":     {filepath.Join(file, "\x1b[31m\n", "l.db"), 1, []string{"fail"}},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := os.ReadFile(test.path)
			code, r, text := n.check(t, n.env(), "--state.file="+test.path)
			r.others(t, findLedger)
			wantAll(t, r.said(findLedger), append(test.want, strings.NewReplacer("\x1b", " ", "\n", " ").Replace(test.path))...)
			if code != test.code {
				t.Errorf("exit code %d, want %d:\n%s", code, test.code, text)
			}
			if after, err := os.ReadFile(test.path); !bytes.Equal(before, after) || name == "new" && err == nil {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("default", func(t *testing.T) {
		stateFile := func() (report, string) {
			t.Helper()
			var out bytes.Buffer
			run(t.Context(), append(n.urls(), "--check", "--format=json"), n.env().lookup, &out, io.Discard)
			var r report
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			return r, r.said(findLedger)
		}
		t.Chdir(t.TempDir())
		_, said := stateFile()
		wantAll(t, said, "ok", "--state.file=data/ncp_exporter.db, which is /", "there is none yet")
		write(t, "data", "") // where the directory should be
		r, said := stateFile()
		wantAll(t, said, "warn", "count in memory", "give --state.file")
		if !r.OK {
			t.Error("the default path that cannot be used is no failure: the exporter starts")
		}
	})
}

func TestCheckOfTheWebConfig(t *testing.T) {
	n := toCheck(t, ncptest.Config{})
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yml"), filepath.Join(dir, "bad.yml")
	write(t, good, "basic_auth_users:\n  alice: "+passwordHash+"\n")
	write(t, bad, "basic_auth_users:\n  alice: Jk5SecretNeedle9Yv\n")
	for path, want := range map[string]string{"": "plain http", good: "it is valid", bad: "docs/security.md", filepath.Join(dir, "no.yml"): "no such file"} {
		_, r, _ := n.check(t, n.env(), "--web.config.file="+path)
		r.others(t, findWebConfig)
		wantAll(t, r.said(findWebConfig), want)
	}
}

// TestCheckTakesNoPort checks while an exporter has the port and the ledger.
func TestCheckTakesNoPort(t *testing.T) {
	ncp := simulate(t, ncptest.Config{})
	state := "--state.file=" + filepath.Join(t.TempDir(), "l.db")
	p := watch(t, ncp, state)
	code, stdout, stderr := attempt(t, demoKeys(), "--check", state, "--web.listen-address="+strings.TrimPrefix(p.url, "http://"),
		"--ncp.certificate-manager.url="+ncp.CertificateManagerURL(), "--ncp.external-access.url="+ncp.ExternalAccessURL())
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, stderr %q:\n%s", code, stderr, stdout)
	}
	wantAll(t, stdout, "WARN  ledger: ", "another process has it open", "All that will be watched works.")
	p.scrape().want(t, success(externalAccess), "1")
}

func TestUsableProxy(t *testing.T) {
	for address, usable := range map[string]bool{
		"http://proxy.example:3128":          true,
		"http://http.example":                true,
		"http://http://user:pw@proxy:port":   false, // as it comes for HTTPS_PROXY=http://user:pw@proxy:port
		"http://https://user:pw@proxy.x:y/z": false,
	} {
		proxy, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := usableProxy(proxy, nil); (err == nil) != usable || usable && got != proxy {
			t.Errorf("%s: %v, error %v", address, got, err)
		}
	}
	if proxy, err := usableProxy(nil, nil); proxy != nil || err != nil {
		t.Errorf("none: %v, %v", proxy, err)
	}
}
