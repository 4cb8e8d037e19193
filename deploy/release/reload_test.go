package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReload runs what the unit runs before it tells the exporter to reload, with what its
// variables are: a reload is refused for one account, as SIGHUP would end the exporter, and
// for a wrong file.
func TestReload(t *testing.T) {
	root := installed(t)
	read := func(path string) string {
		text, err := os.ReadFile(filepath.Join(root, path)) //nolint:gosec // made by the test
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	reloads := regexp.MustCompile(`(?m)^ExecReload=(.*)$`).FindAllStringSubmatch(read(service), -1)
	if len(reloads) != 2 || reloads[1][1] != "/bin/sh -c 'kill -HUP $MAINPID'" {
		t.Fatalf("a reload runs %q, want a check and then the signal", reloads)
	}
	_, env := unit(t, root, t.TempDir())
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
