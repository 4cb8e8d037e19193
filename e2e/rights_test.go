//go:build e2e && linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Whatever file the exporter has no right to: one line names the file, the user that it
// runs as, and what to do. As root nothing is denied, so it runs as another user.
func TestRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run it as another user")
	}
	t.Parallel()
	dir, err := os.MkdirTemp("", "ncp_exporter-rights-") //nolint:usetesting // the directory above one of the test is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a directory for temporary things
	program, err := os.ReadFile(binary)         //nolint:gosec // ours
	if err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(dir, "ncp_exporter")
	for path, mode := range map[string]os.FileMode{dir: 0o755, inside: 0o755, filepath.Join(dir, "secret"): 0o600, filepath.Join(dir, "root"): 0o700} {
		var err error
		switch filepath.Base(path) {
		case "ncp_exporter":
			err = os.WriteFile(path, program, mode) //nolint:gosec // ours
		case "secret":
			err = os.WriteFile(path, []byte("accounts: {}\n"), mode)
		case "root":
			err = os.Mkdir(path, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(dir, "secret")
	keys := []string{"NCLOUD_ACCESS_KEY_ID=a", "NCLOUD_SECRET_ACCESS_KEY=b"}
	for name, test := range map[string]struct {
		env, args []string
		want      string
	}{
		"key files":    {nil, []string{"--ncp.access-key-file=" + secret, "--ncp.secret-key-file=" + secret}, "secret: permission denied"},
		"credentials":  {nil, []string{"--ncp.credentials-file=" + secret}, "secret: permission denied"},
		"config file":  {nil, []string{"--config.file=" + secret}, "secret: permission denied"},
		"config check": {nil, []string{"--config.file=" + secret, "--config.check"}, "secret: permission denied"},
		"web config":   {keys, []string{"--web.config.file=" + secret}, "secret: permission denied"},
		"health":       {keys, []string{"--web.config.file=" + secret, "--health-check"}, "secret: permission denied"},
		"ledger":       {keys, []string{"--state.file=" + filepath.Join(dir, "root", "l")}, "root/l: permission denied"},
		"new ledger":   {keys, []string{"--state.file=" + filepath.Join(dir, "l")}, "no file can be made in " + dir},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), inside, append([]string{"--web.listen-address=127.0.0.1:0"}, test.args...)...) //nolint:gosec // ours
			cmd.Dir = dir
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532, Groups: []uint32{2000}}}
			p := startCmd(t, test.env, cmd)
			if code := p.exit(t); code != 1 {
				t.Errorf("exit code %d", code)
			}
			said := 0
			for line := range strings.Lines(p.out.String()) {
				if strings.Contains(line, test.want) {
					said++
					if !strings.Contains(line, "runs as uid 65532 with the groups 2000 65532: give one of them the right") {
						t.Errorf("it does not say who it is: %s", line)
					}
				}
			}
			if said != 1 {
				t.Errorf("%d lines say %q", said, test.want)
			}
		})
	}
}
