//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

// runCheck runs the binary with --check, to its end.
func runCheck(t *testing.T, env []string, args ...string) (code int, stdout string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"--check"}, args...)...) //nolint:gosec // the program
	var out, errOut bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &out, &errOut
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%v, %v", err, ctx.Err())
	}
	if errOut.Len() > 0 {
		t.Errorf("on stderr: %s", &errOut)
	}
	if left, err := os.ReadDir(cmd.Dir); err != nil || len(left) > 0 {
		t.Errorf("--check left %v, error %v", left, err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func TestCheck(t *testing.T) {
	n := simulate(t)
	if code, said := runCheck(t, nil, "--demo"); code != 0 || !strings.HasSuffix(said, "\nAll that will be watched works.\n") {
		t.Errorf("the demo: exit code %d:\n%s", code, said)
	}
	if code, said := runCheck(t, demoKeys(), n.args()...); code != 0 || strings.Contains(said, "WARN") {
		t.Errorf("all well: exit code %d:\n%s", code, said)
	}
	n.externalAccess.SetFault(ncptest.Always(ncptest.GatewayError(401, "210", "Permission Denied")))
	if code, said := runCheck(t, demoKeys(), n.args()...); code != 1 || strings.Count(said, "\nFAIL  ") != 4 {
		t.Errorf("no permission: exit code %d:\n%s", code, said)
	}
	code, said := runCheck(t, nil, append(n.args(), "--format=json")...)
	var report struct {
		OK     bool
		Checks []struct{ Name, Status, Remedy string }
	}
	if err := json.Unmarshal([]byte(said), &report); err != nil || code != 1 || report.OK || len(report.Checks) != 10 {
		t.Errorf("no keys: exit code %d, error %v:\n%s", code, err, said)
	}
	if _, there := os.LookupEnv("NCLOUD_ACCESS_KEY_ID"); there {
		t.Error("the keys of the developer are in the environment")
	}
}

// TestCheckThroughProxies asks a proxy on loopback, and it lets nothing through.
// The name of the host has an empty label: no name server would be asked for it,
// should it ever be asked without the proxy.
func TestCheckThroughProxies(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "ncp..example:443" {
			t.Errorf("the proxy was asked to %s %s", r.Method, r.Host)
		}
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	t.Cleanup(refusing.Close)
	address := strings.TrimPrefix(refusing.URL, "http://")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	const password = "s3cretNeedle"
	for name, test := range map[string]struct {
		proxy string
		want  []string
	}{
		"refuses": {"http://user:" + password + "@" + address, []string{"through the proxy " + address, "(Proxy Authentication Required)", "the proxy refuses", "user and password in HTTPS_PROXY"}},
		"is away": {"http://user:" + password + "@" + nobody, []string{"the proxy " + nobody + " cannot be reached", "NO_PROXY"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"--no-collector.certificate-manager", "--ncp.external-access.url=https://ncp..example/api/v1", "--state.file=" + filepath.Join(t.TempDir(), "l.db")}
			code, said := runCheck(t, append(demoKeys(), "HTTPS_PROXY="+test.proxy), args...)
			if code != 1 {
				t.Errorf("exit code %d", code)
			}
			for _, want := range test.want {
				if !strings.Contains(said, want) {
					t.Errorf("%q is not told:\n%s", want, said)
				}
			}
			if strings.Contains(said, password) {
				t.Errorf("the proxy's password is shown:\n%s", said)
			}
		})
	}
}
