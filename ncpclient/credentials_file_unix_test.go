//go:build unix

package ncpclient

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// To open a named pipe blocks until somebody writes to it. What is no file is
// refused before, at the start and later.
func TestKeysAreReadFromFilesOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(pipe, link); err != nil {
		t.Fatal(err)
	}
	good := writeFile(t, "good", "key")
	for _, path := range []string{pipe, link, "/dev/zero"} {
		for _, s := range []CredentialSources{
			{AccessKeyFile: path, SecretKeyFile: good},
			{AccessKeyFile: good, SecretKeyFile: path},
			{ProfileFile: path},
			{ProfileFile: path, APIProfile: "x"},
		} {
			if c, err := FindCredentials(s); err == nil || c != nil || !strings.Contains(err.Error(), path+" is a directory, a device, a socket or a named pipe") {
				t.Errorf("%+v: %v, %v", s, c, err)
			}
		}
	}
	// A link to a file is a file, until it is one to a pipe.
	key := filepath.Join(dir, "key")
	if err := os.Symlink(good, key); err != nil {
		t.Fatal(err)
	}
	c, err := FindCredentials(CredentialSources{AccessKeyFile: key, SecretKeyFile: good})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link, key); err != nil {
		t.Fatal(err)
	}
	if keys, err := c.Keys(t.Context()); err != nil || keys != (Keys{"key", "key"}) {
		t.Errorf("a pipe in place of the file: %v, the last keys: %t", err, keys == Keys{"key", "key"})
	}
}
