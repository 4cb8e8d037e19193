package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// TestCheckThroughADeadProxy asks for the inventory alone. The name of the host
// has an empty label: no name server would be asked for it.
func TestCheckThroughADeadProxy(t *testing.T) {
	program := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRunCheckForProxy$") //nolint:gosec // this test
	program.Env = append(os.Environ(), "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=", "CHECK_THROUGH_PROXY=1")
	output, err := program.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, output)
	}
	wantAll(t, string(output), "FAIL  certificate_inventory: ", "the proxy 127.0.0.1:1 cannot be reached", "exit code 1")
}

// TestRunCheckForProxy is the program of TestCheckThroughADeadProxy: net/http reads
// the proxy once in the life of a process.
func TestRunCheckForProxy(t *testing.T) {
	if os.Getenv("CHECK_THROUGH_PROXY") == "" {
		t.Skip("runs in a process of its own")
	}
	keys := env{"NCLOUD_ACCESS_KEY_ID": "Zq7AccessNeedle4Xw", "NCLOUD_SECRET_ACCESS_KEY": "Jk5SecretNeedle9Yv"}
	code, stdout, _ := attempt(t, keys, "--check", "--no-collector.certificate-manager", "--no-collector.external-access",
		"--collector.certificate-inventory", "--ncp.certificate-manager.url=https://ncp..example/api/v2")
	fmt.Printf("%s\nexit code %d\n", stdout, code)
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
		"refused":        {closed.URL, []string{"connection refused", "nobody listens at 127.0.0.1:", "--ncp.external-access.url"}},
		"no such host":   {"https://externalaccess..example", []string{"no such host", "--ncp.site (now public)", "DNS", "HTTPS_PROXY"}},
		"not TLS":        {strings.Replace(inTheClear.URL, "http:", "https:", 1), []string{"does not speak TLS", "check the port"}},
		"untrusted":      {untrusted.URL, []string{"signed by unknown authority", "SSL_CERT_FILE"}},
		"expired":        {expired.URL, []string{"certificate has expired", "clock"}},
		"another's":      {misnamed.URL, []string{"cannot validate certificate for 127.0.0.1", "--ncp.external-access.url"}},
		"old TLS":        {old.URL, []string{"protocol version", "TLS 1.2"}},
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
			r.others(t, ofExternalAccess()...) // the other API works
			wantAll(t, r.said(findSubjects), append(test.want, "fail GET "+test.base+"/api/v1/subjects?")...)
			wantAll(t, r.said(findHistories), "fail", "see "+findSubjects)
			if regexp.MustCompile(`lookup .* on `).MatchString(r.said(findSubjects)) {
				t.Errorf("a name server was asked: %s", r.said(findSubjects))
			}
		})
	}
}
