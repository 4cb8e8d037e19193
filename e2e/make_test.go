//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// `make test` works on a machine with Go and make alone: without a C compiler it says
// so, and runs the tests without the race detector. A test that fails is a failure both
// ways.
func TestMakeTestWithoutCCompiler(t *testing.T) {
	t.Parallel()
	tools := t.TempDir()
	for _, tool := range []string{"go", "make", "sh", "head"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(tools, tool)); err != nil {
			t.Fatal(err)
		}
	}
	run := func(path, flags string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "make", "-C", "..", "test", "PACKAGES=./internal/reload")
		cmd.Env = append(os.Environ(), "PATH="+path, "CC=", "CGO_ENABLED=", "GOFLAGS="+flags)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	const without = "The race detector does not work here"
	if out, err := run(tools, ""); err != nil || !strings.Contains(out, without) || !strings.Contains(out, "ok ") || strings.Contains(out, "test -race") {
		t.Errorf("without a C compiler: %v:\n%s", err, out)
	}
	if out, err := run(tools, "-exec=false"); err == nil || !strings.Contains(out, without) {
		t.Errorf("tests that fail pass without a C compiler: %v:\n%s", err, out)
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no C compiler here: the other way was not tried")
	}
	if out, err := run(os.Getenv("PATH"), ""); err != nil || strings.Contains(out, without) || !strings.Contains(out, "go test -race -timeout 20m ./internal/reload\nok ") {
		t.Errorf("with a C compiler: %v:\n%s", err, out)
	}
	if out, err := run(os.Getenv("PATH"), "-exec=false"); err == nil {
		t.Errorf("tests that fail pass with a C compiler:\n%s", out)
	}
}
