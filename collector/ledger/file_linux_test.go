package ledger

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// mount mounts something on itself, until the test ends.
func mount(t *testing.T, path string) {
	t.Helper()
	if err := syscall.Mount(path, path, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(path, syscall.MNT_DETACH) })
}

func remount(t *testing.T, path string, flags uintptr) {
	t.Helper()
	if err := syscall.Mount("", path, "", syscall.MS_BIND|syscall.MS_REMOUNT|flags, ""); err != nil {
		t.Fatal(err)
	}
}

// A file that is mounted by itself, as into a container, can be written but not
// replaced.
func TestMountedFile(t *testing.T) {
	path := aFile(t)
	var told error
	options := testOptions()
	options.OnSaveError = func(err error) { told = err }
	l := mustOpen(t, path, options)
	mount(t, path)
	l.Apply("another", read())
	l.Commit()
	if l.Persistent() || told == nil || !strings.Contains(told.Error(), "mount its directory") {
		t.Errorf("persistent: %v, error %v", l.Persistent(), told)
	}
	mustClose(t, l)
	wantRefusal(t, path, testOptions(), mustRead(t, path), ErrUnusable)
	if _, err := Open(t.Context(), path, testOptions()); !strings.Contains(err.Error(), "mount its directory "+filepath.Dir(path)) {
		t.Errorf("error %v, want the way out", err)
	}
}

// Where no file can be made beside it, a file is refused; while it is open, counts
// go on in memory until there can be one.
func TestReadOnlyDirectory(t *testing.T) {
	path := aFile(t)
	dir := filepath.Dir(path)
	mount(t, dir)
	l := mustOpen(t, path, testOptions())
	remount(t, dir, syscall.MS_RDONLY)
	l.Apply("another", read())
	l.Commit()
	if _, known := l.Totals("another"); !known || l.Persistent() {
		t.Errorf("known: %v, persistent: %v", known, l.Persistent())
	}
	mustClose(t, l)
	before := mustRead(t, path)
	wantRefusal(t, path, testOptions(), before, ErrUnusable)
	_, err := Open(t.Context(), path, testOptions())
	if want := "no file can be made in " + dir; !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	remount(t, dir, 0)
	l = mustOpen(t, path, testOptions())
	defer mustClose(t, l)
	l.Apply("another", read())
	l.Commit()
	if !l.Persistent() || bytes.Equal(before, mustRead(t, path)) {
		t.Error("the file is not written although it can be")
	}
}

// To open a pipe would wait for somebody who writes to it.
func TestPipes(t *testing.T) {
	pipe, path := filepath.Join(t.TempDir(), "pipe"), filepath.Join(t.TempDir(), "ledger.db")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), syscall.Mkfifo(path+".lock", 0o600)); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, pipe, testOptions(), nil, ErrUnusable)
	wantRefusal(t, path, testOptions(), nil, ErrUnusable)
}

// childFile names the file that TestChild writes, in a process of its own.
const childFile = "LEDGER_TEST_CHILD_FILE"

func TestChild(t *testing.T) {
	path, is := os.LookupEnv(childFile)
	if !is {
		t.Skip("only as the child of another test")
	}
	runtime.LockOSThread() // strace counts the calls of a thread
	l := mustOpen(t, path, testOptions())
	l.Apply("another", read())
	l.Commit()
	if !l.Persistent() {
		t.Error("it was not written")
	}
	mustClose(t, l)
}

// A process that is killed as it begins one of the steps of a write leaves the old
// contents until the new file has its name. The order of the steps is what is
// tested: nothing gets the name before it is on disk, and then the name is too.
func TestKilledAtEachStep(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("there is no strace")
	}
	run := func(path, inject string) ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-o", os.DevNull, "-e", "inject="+inject, os.Args[0], "-test.run=^TestChild$") //nolint:gosec // the test itself
		cmd.Env = append(os.Environ(), childFile+"="+path)
		return cmd.CombinedOutput()
	}
	if out, err := run(aFile(t), "sync:signal=SIGKILL"); err != nil { // nobody calls it
		t.Skipf("strace can trace nothing here: %v\n%s", err, out)
	}
	for _, tt := range []struct {
		name, call string
		written    bool
	}{
		{"before it writes", "write:signal=SIGKILL:when=1", false},
		{"before the file is on disk", "fsync:signal=SIGKILL:when=1", false},
		{"before it has its name", "/^rename:signal=SIGKILL:when=1", false},
		{"before the name is on disk", "fsync:signal=SIGKILL:when=2", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := aFile(t)
			if out, err := run(path, tt.call); err == nil {
				t.Fatalf("there is no such step: %s", out)
			}
			l := mustOpen(t, path, testOptions())
			defer mustClose(t, l)
			if _, written := l.Totals("another"); written != tt.written {
				t.Errorf("the new contents are there: %v, want %v", written, tt.written)
			}
			if left := names(t, filepath.Dir(path)); len(left) != 3 { // the directory, the ledger, the lock
				t.Errorf("the next start left %v", left)
			}
		})
	}
}

// The file can be read and verified with the commands of docs/counting.md.
func TestStandardTools(t *testing.T) {
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skip("there is no jq")
	}
	path := aFile(t)
	for _, tt := range []struct{ command, want string }{
		{`jq -r 'select(.subject and .failure.count > 0) | .subject' "$1"`, "subject-002\nsubject-003\n"},
		{`jq -r 'select(.sha256) | .sha256' "$1"; head -n -1 "$1" | sha256sum | cut -d ' ' -f 1`, ""},
	} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", tt.command, "sh", path).Output() //nolint:gosec // the test's own
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Fields(string(out))
		if tt.want != "" && string(out) != tt.want || tt.want == "" && (len(lines) != 2 || lines[0] != lines[1]) {
			t.Errorf("%s says\n%s", tt.command, out)
		}
	}
}
