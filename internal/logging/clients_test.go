package logging

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log/level"
)

// TestClients has all three ways by which clients write into the log, which share one
// line a minute, and what is the program's own.
func TestClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		logs, err := New(&text, "debug", "logfmt")
		if err != nil {
			t.Fatal(err)
		}
		defer logs.Close()
		expect := func(what string, want string) {
			t.Helper()
			synctest.Wait()
			got := text.String()
			if text.Reset(); !strings.HasPrefix(got, "level="+want+" ") || strings.Count(got, "\n") != 1 || !strings.Contains(got, what) {
				t.Errorf("%s: want one line of level %s: %s", what, want, got)
			}
		}
		const handshake = "http: TLS handshake error from 192.0.2.1:1: EOF"
		for range 2 {
			logs.Server.Print(handshake)
			expect(handshake, "warn")
			for range 3 {
				logs.Server.Print(handshake)
				expect(handshake, "debug")
			}
			logs.Server.Print("http: URL query contains semicolon")
			expect("semicolon", "debug")
			_ = level.Warn(logs.Clients).Log("msg", "a stranger")
			expect("a stranger", "debug")
			logs.Slog.Error("Unable to parse configuration", "err", errors.New("no such file"))
			expect("no such file", "debug")
			logs.Slog.Info("Listening on")
			expect("Listening on", "info")
			logs.Server.Print("http: panic serving 192.0.2.1:1: a bug\ngoroutine 1")
			expect("a bug", "error") // clients do not hide it
			time.Sleep(quiet)
			_ = level.Warn(logs.Clients).Log("msg", "a stranger")
			expect("others_since_the_last_line=6", "warn")
			time.Sleep(quiet)
		}
	})
}
