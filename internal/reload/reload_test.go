package reload

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ncp_exporter/internal/account"
	"ncp_exporter/internal/config"
)

// world is a Reloader at work, and the files that it took.
type world struct {
	t       *testing.T
	file    string
	signals chan os.Signal
	*Reloader

	written sync.Mutex
	taken   []string // the contents that were loaded, good or bad
	logs    bytes.Buffer
}

// Write takes a line of the log.
func (w *world) Write(line []byte) (int, error) {
	w.written.Lock()
	defer w.written.Unlock()
	return w.logs.Write(line)
}

const interval = 30 * time.Second

// inBubble runs a Reloader of a file in a synctest bubble.
func inBubble(t *testing.T, file string, test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, file: file, signals: make(chan os.Signal, 1)}
		w.Reloader = New(Options{
			File: file,
			Load: func() ([]config.Account, error) {
				text, err := os.ReadFile(file) //nolint:gosec // below a TempDir
				w.written.Lock()
				defer w.written.Unlock()
				w.taken = append(w.taken, string(text))
				if strings.Contains(string(text), "bad") {
					err = errors.Join(errors.New("line 1: bad"), errors.New("line 2: worse"))
				}
				return nil, err
			},
			Apply:  func(context.Context, []config.Account) (account.Changes, error) { return account.Changes{}, nil },
			Logger: log.NewLogfmtLogger(w),
			Now:    time.Now,
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.Run(ctx, w.signals, interval)
		test(w)
	})
}

// look lets the Reloader look at the file, and wants these contents to have been taken
// since the test began.
func (w *world) look(looks int, want ...string) {
	w.t.Helper()
	time.Sleep(time.Duration(looks) * interval)
	synctest.Wait()
	w.written.Lock()
	defer w.written.Unlock()
	if got := strings.Join(w.taken, "|"); got != strings.Join(want, "|") {
		w.t.Errorf("taken were %q, want %q", got, strings.Join(want, "|"))
	}
}

func (w *world) successful(want float64) {
	w.t.Helper()
	if err := testutil.CollectAndCompare(w, strings.NewReader(`
# HELP ncp_exporter_config_last_reload_successful 1 if the configuration was loaded the last time that it was to be, else 0: then the one before is in force.
# TYPE ncp_exporter_config_last_reload_successful gauge
ncp_exporter_config_last_reload_successful `+map[float64]string{0: "0", 1: "1"}[want]+"\n"), "ncp_exporter_config_last_reload_successful"); err != nil {
		w.t.Error(err)
	}
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestChangedFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accounts.yml")
	put(t, file, "one")
	inBubble(t, file, func(w *world) {
		w.look(3)
		put(t, file, "tw") // in two steps
		w.look(1)
		put(t, file, "two")
		w.look(1)
		w.look(1, "two")
		w.look(3, "two")
		w.successful(1)

		put(t, file+".new", "three") // a rename
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		w.look(2, "two", "three")

		put(t, file, "bad")
		w.look(2, "two", "three", "bad")
		w.successful(0)
		w.written.Lock()
		if n := strings.Count(w.logs.String(), "level=error"); n != 2 {
			t.Errorf("%d lines for two errors:\n%s", n, w.logs.String())
		}
		w.written.Unlock()
		w.look(5, "two", "three", "bad") // again only when it changes
		put(t, file, "bad too")
		w.look(2, "two", "three", "bad", "bad too")
		put(t, file, "three") // as it was
		w.look(2, "two", "three", "bad", "bad too", "three")
		w.successful(1)
	})
}

// TestMountedFile swaps the directory that a symbolic link shows, as kubelet does.
func TestMountedFile(t *testing.T) {
	dir := t.TempDir()
	show := func(version, text string) {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, version, "accounts.yml"), text)
		if err := errors.Join(os.Symlink(version, filepath.Join(dir, "..data_tmp")), os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	show("..1", "one")
	file := filepath.Join(dir, "accounts.yml")
	if err := os.Symlink("..data/accounts.yml", file); err != nil {
		t.Fatal(err)
	}
	inBubble(t, file, func(w *world) {
		w.look(2)
		show("..2", "two")
		if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
			t.Fatal(err)
		}
		w.look(2, "two")
		if err := os.Remove(filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		w.look(3, "two", "") // it is gone: that is said once
		w.successful(0)
	})
}

func TestSignal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accounts.yml")
	put(t, file, "one")
	inBubble(t, file, func(w *world) {
		put(t, file, "two")
		w.signals <- syscall.SIGHUP
		w.look(0, "two")
		w.look(4, "two") // what a signal took is not taken again
		w.signals <- syscall.SIGHUP
		w.look(0, "two", "two")
	})
}

// TestAskedAgain has a client ask a hundred times in a minute, for each of three files.
func TestAskedAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accounts.yml")
	put(t, file, "one")
	inBubble(t, file, func(w *world) {
		lines := func() int {
			n := 0
			for line := range strings.Lines(w.logs.String()) {
				if !strings.HasPrefix(line, "level=debug") {
					n++
				}
			}
			w.logs.Reset()
			return n
		}
		for content, want := range map[string]int{"one": 1, "bad": 2, "two": 1} { // an error a line
			put(t, file, content)
			for range 100 {
				_, _ = w.Asked(t.Context()) // the log tells
				time.Sleep(time.Minute / 101)
			}
			if n := lines(); n != want {
				t.Errorf("%s: %d lines in a minute, want %d", content, n, want)
			}
			_, _ = w.Asked(t.Context())
			time.Sleep(time.Minute)
			_, _ = w.Asked(t.Context())
			if n := lines(); n < want {
				t.Errorf("%s: %d lines a minute later, want %d", content, n, want)
			}
			time.Sleep(time.Minute)
			for range 2 {
				_, _ = w.Reload(t.Context())
			}
			if n := lines(); n != 2*want {
				t.Errorf("%s: %d lines for two reloads that the operator wants, want %d", content, n, 2*want)
			}
			time.Sleep(time.Minute)
		}
	})
}
