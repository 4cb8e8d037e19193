package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// installAccounts installs the drop-in for several accounts where it says.
func installAccounts(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "usr/share/doc/ncp-exporter/accounts.conf")) //nolint:gosec // made by the test
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`copy this file to /(etc/systemd/system/ncp_exporter\.service\.d)/(accounts\.conf)`).FindSubmatch(text)
	if match == nil {
		t.Fatalf("accounts.conf does not say where it goes:\n%s", text)
	}
	at := filepath.Join(dir, string(match[1]))
	if err := os.MkdirAll(at, 0o750); err != nil { //nolint:gosec // below a TempDir
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at, string(match[2])), text, 0o600); err != nil { //nolint:gosec // in a directory of the test
		t.Fatal(err)
	}
}

// TestReload runs what the unit runs before it tells the exporter to reload, with what its
// variables are: a reload is refused for one account, as SIGHUP would end the exporter, and
// for a wrong file.
func TestReload(t *testing.T) {
	root := installed(t)
	installAccounts(t, root)
	read := func(path string) string {
		text, err := os.ReadFile(filepath.Join(root, path)) //nolint:gosec // made by the test
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	reloads := regexp.MustCompile(`(?m)^ExecReload=(.*)$`).FindAllStringSubmatch(read(service), -1)
	if len(reloads) != 2 || reloads[1][1] != "/bin/kill -HUP $MAINPID" {
		t.Fatalf("a reload runs %q, want a check and then the signal", reloads)
	}
	_, env := unit(t, root, t.TempDir(), t.TempDir())
	reload := func(env []string) error {
		words := strings.Fields(root + reloads[0][1])
		cmd := exec.CommandContext(t.Context(), words[0], words[1:]...) //nolint:gosec // made by the test
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		return err
	}
	if reload(env) == nil {
		t.Error("with one account, a reload is not refused")
	}
	_, unset, _ := strings.Cut(read("etc/systemd/system/ncp_exporter.service.d/accounts.conf"), "\nUnsetEnvironment=")
	env = slices.DeleteFunc(env, func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(strings.Fields(unset), name)
	})
	example := regexp.MustCompile(`(?m)^#(NCP_EXPORTER_CONFIG_FILE)=`).FindStringSubmatch(read("etc/default/ncp_exporter"))
	if example == nil {
		t.Fatal("the defaults do not tell how to have several accounts")
	}
	file := filepath.Join(t.TempDir(), "accounts.yml")
	env = append(env, example[1]+"="+file)
	for text, sound := range map[string]bool{"accounts: {prod: {keys: {server_role: true}}}": true, "accounts: {prod: {sites: gov}}": false} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := reload(env); (err == nil) != sound {
			t.Errorf("%s: the check before a reload says %v", text, err)
		}
	}
}
