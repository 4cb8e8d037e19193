package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

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
	n.SetTrustAnchors(ncptest.TrustAnchor{ID: "anchor-1", Name: "ca", Enabled: true, NotAfter: "2034-12-31", CRLs: []ncptest.CRL{{Enabled: true, NextUpdate: "2034-01-01"}}})
	n.SetCertificates(ncptest.Certificate{No: 41207, Name: "www", StatusCode: "1", NotAfter: "2034-12-31 09:00:00"})
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
	return []string{"--ncp.certificate-manager.url=" + n.url + "/api/v2", "--ncp.external-access.url=" + cmp.Or(n.externalAccess, n.url+"/api/v1")}
}

// The names of the findings. Machines rely on them.
const (
	findCollectors   = "collectors"
	findChanges      = "certificate_manager"
	findSubjects     = "external_access_subjects"
	findHistories    = "external_access_credentials"
	findInventory    = "certificate_inventory"
	findTrustAnchors = "external_access_trust_anchors"
	findCRLs         = "external_access_crls"
	findClock        = "clock"
	findLedger       = "ledger"
	findWebConfig    = "web_config"
)

// ofExternalAccess are the findings of that API.
func ofExternalAccess() []string {
	return []string{findSubjects, findHistories, findTrustAnchors, findCRLs}
}

// report is what --check says to machines.
type report struct {
	OK     bool
	Checks []struct {
		Name, Status, What, Detail, Remedy string
		Seconds                            float64
	}
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
		if f.Status != "ok" && !slices.Contains(but, f.Name) {
			t.Errorf("%s: %s", f.Name, r.said(f.Name))
		}
		if (f.Status == "ok") != (f.Remedy == "") || f.Detail == "" {
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
				if diff := gocmp.Diff(string(want), got); diff != "" {
					t.Errorf("%s (-want +got), `make docs` writes it:\n%s", filepath.Base(file), diff)
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

	n = toCheck(t, ncptest.Config{})
	n.SetTrustAnchors()
	code, r, _ = n.check(t, n.env())
	if code != 0 {
		t.Errorf("exit code %d: an account without trust anchors is no failure", code)
	}
	r.others(t, findCRLs)
	wantAll(t, r.said(findCRLs), "warn", "not asked", "permission of its own")
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
	if n.Count(ncptest.RecentChanges) > 0 || r.said(findChanges) != "absent" {
		t.Errorf("shard 1 asks Certificate Manager: %s", r.said(findChanges))
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
		if n.Count(ncptest.RecentChanges) > 0 || r.said(findChanges) != "absent" {
			t.Errorf("%s: Certificate Manager was asked", site)
		}
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
