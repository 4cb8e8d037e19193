package main

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("docs", name)) //nolint:gosec // documents of this repository
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestSecurityNamesTests finds promises in docs/security.md whose test has gone.
func TestSecurityNamesTests(t *testing.T) {
	var all strings.Builder
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // files of this repository
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(document(t, "security.md"), -1)
	if len(named) < 20 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, test := range named {
		if !strings.Contains(all.String(), "\nfunc "+test[1]+"(") {
			t.Errorf("there is no test %s", test[1])
		}
	}
}

// TestSecurityWebConfig serves with the web.yml of docs/security.md.
func TestSecurityWebConfig(t *testing.T) {
	block := regexp.MustCompile("(?s)<!-- tested: web.yml -->\n```yaml\n(.*?)```").FindStringSubmatch(document(t, "security.md"))
	if block == nil {
		t.Fatal("docs/security.md has no web.yml")
	}
	cert := makeCertificate(t)
	config := filepath.Join(t.TempDir(), "web.yml")
	write(t, config, strings.NewReplacer("/etc/ncp_exporter/tls.crt", cert.certFile, "/etc/ncp_exporter/tls.key", cert.keyFile).Replace(block[1]))
	p := watch(t, simulate(t, ncptest.Config{}), "--web.config.file="+config)
	url := "https" + strings.TrimPrefix(p.url, "http") + "/metrics"
	if a := request(t, cert.client, http.MethodGet, url); a.status != http.StatusUnauthorized {
		t.Errorf("without a password: HTTP %d", a.status)
	}
	a := request(t, cert.client, http.MethodGet, url, "Authorization", basic("prometheus", "open sesame"))
	if a.status != http.StatusOK || !strings.Contains(a.header.Get("Strict-Transport-Security"), "max-age=") {
		t.Errorf("with the password: HTTP %d, headers %v", a.status, a.header)
	}
}
