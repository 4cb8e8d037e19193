package ncpclient

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ncp_exporter/ncpclient/ncptest"
)

// pairs lays keys open for a comparison, as they cannot be printed.
func pairs(profiles map[string]Keys) map[string][2]string {
	open := make(map[string][2]string)
	for name, keys := range profiles {
		open[name] = [2]string{keys.AccessKey, keys.SecretKey}
	}
	return open
}

func TestParseProfiles(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		in   string
		want map[string][2]string
	}{
		"sections":       {twoProfiles, map[string][2]string{"DEFAULT": {"profile-ak", "profile-sk"}, "main": {"main-ak", "main-sk"}}},
		"sectionless":    {"ncloud_access_key_id=a\nncloud_secret_access_key=s", map[string][2]string{"DEFAULT": {"a", "s"}}},
		"= in a secret":  {"[x]\nncloud_secret_access_key = a=b==\nncloud_access_key_id==k=", map[string][2]string{"x": {"=k=", "a=b=="}}},
		"CRLF and BOM":   {"\ufeff[x]\r\nncloud_access_key_id = a\r\nncloud_secret_access_key=s\r\n", map[string][2]string{"x": {"a", "s"}}},
		"BOM, no header": {"\ufeffncloud_access_key_id=a", map[string][2]string{"DEFAULT": {"a", ""}}},
		"comments": {
			"# [no]\n;ncloud_access_key_id=no\n [x] ; yes\n\t# ncloud_access_key_id = no\nncloud_access_key_id = a#b;c\n",
			map[string][2]string{"x": {"a#b;c", ""}},
		},
		"blanks and case": {"[ x y ]\n\t NCLOUD_Access_Key_ID\t=\ta \n\n  ncloud_secret_access_key=s", map[string][2]string{"x y": {"a", "s"}}},
		"other lines": {
			"[x]\nncloud_api_url = https://elsewhere.example\nnothing\n=\n[broken\nncloud_access_key_id=a",
			map[string][2]string{"x": {"a", ""}},
		},
		"empty section":   {"[x]\n[y]\n[]", map[string][2]string{"x": {}, "y": {}, "": {}}},
		"section resumed": {"[x]\nncloud_access_key_id=a\n[y]\n[x]\nncloud_secret_access_key=s", map[string][2]string{"x": {"a", "s"}, "y": {}}},
		"said twice":      {"ncloud_access_key_id=a\nncloud_access_key_id=b", map[string][2]string{"DEFAULT": {"b", ""}}},
		"nothing":         {"", map[string][2]string{}},
	} {
		if diff := cmp.Diff(tt.want, pairs(parseProfiles(tt.in))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// rotations are the ways in which the content of a file is replaced.
func rotations() map[string]func(tb testing.TB, path, content string) {
	return map[string]func(testing.TB, string, string){
		"renamed over": func(tb testing.TB, path, content string) {
			tb.Helper()
			if err := os.Rename(writeFile(tb, "new", content), path); err != nil {
				tb.Fatal(err)
			}
		},
		"renamed over, of the same time": func(tb testing.TB, path, content string) {
			tb.Helper()
			old, err := os.Stat(path)
			if err != nil {
				tb.Fatal(err)
			}
			fresh := writeFile(tb, "new", content)
			if err := os.Chtimes(fresh, old.ModTime(), old.ModTime()); err != nil {
				tb.Fatal(err)
			}
			if err := os.Rename(fresh, path); err != nil {
				tb.Fatal(err)
			}
		},
		"rewritten in place": func(tb testing.TB, path, content string) {
			tb.Helper()
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				tb.Fatal(err)
			}
			touch(tb, path, time.Hour)
		},
		"gone for a while": func(tb testing.TB, path, content string) {
			tb.Helper()
			if err := os.Remove(path); err != nil {
				tb.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				tb.Fatal(err)
			}
		},
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	for name, rotate := range rotations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ak, sk := writeFile(t, "ak", "\ufeff \tak-1\r\n"), writeFile(t, "sk", "\n sk-1 ")
			profile := writeFile(t, "configure", twoProfiles)
			touch(t, profile, 2*time.Hour)
			touch(t, sk, 2*time.Hour)
			files, err := FindCredentials(CredentialSources{AccessKeyFile: ak, SecretKeyFile: sk})
			if err != nil {
				t.Fatal(err)
			}
			section, err := FindCredentials(CredentialSources{ProfileFile: profile, APIProfile: "main"})
			if err != nil {
				t.Fatal(err)
			}
			check := func(c Credentials, want Keys) {
				t.Helper()
				if got, err := c.Keys(t.Context()); err != nil || got != want {
					t.Errorf("%v: %v, keys as they should be: %t", c, err, got == want)
				}
			}
			check(files, Keys{"ak-1", "sk-1"})
			check(section, Keys{"main-ak", "main-sk"})
			rotate(t, sk, "\n sk-2 ") // the same length, and one of two files
			rotate(t, profile, strings.ReplaceAll(twoProfiles, "main-sk", "main-s2"))
			check(files, Keys{"ak-1", "sk-2"})
			check(section, Keys{"main-ak", "main-s2"})
		})
	}
}

// What the files hold at the moment may be nothing, or nothing usable.
func TestLastKeysStayInForce(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "configure", twoProfiles)
	c, err := FindCredentials(CredentialSources{ProfileFile: path})
	if err != nil {
		t.Fatal(err)
	}
	want := Keys{"profile-ak", "profile-sk"}
	check := func(when string) {
		t.Helper()
		if got, err := c.Keys(t.Context()); err != nil || got != want {
			t.Errorf("%s: %v, keys as they should be: %t", when, err, got == want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("the file is gone")
	c.Invalidate(want)
	check("the file is gone, and NCP refused the keys")
	for _, content := range []string{"", "[DEFAULT]\nncloud_access_key_id = half", "[other]"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		check("half a file")
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(twoProfiles, "profile-sk", "rotated")), 0o600); err != nil {
		t.Fatal(err)
	}
	want.SecretKey = "rotated"
	check("the file is back")
}

// Files on a server that is gone hold nobody up: calls go on with the last keys,
// the first of them after a second, all others at once.
func TestFilesThatHang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := writeFile(t, "configure", "")
		back := make(chan struct{})
		gone := false
		version := 1
		c, err := newFileCredentials("test", []string{path}, func([]string) (Keys, error) {
			if gone {
				<-back
			}
			return Keys{"ak", strings.Repeat("s", version)}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		old := Keys{"ak", "s"}
		gone, version = true, 2
		c.Invalidate(old)
		for _, want := range []time.Duration{maxFileWait, 0, 0} {
			start := time.Now()
			keys, err := c.Keys(t.Context())
			if took := time.Since(start); err != nil || keys != old || took != want {
				t.Errorf("after %s, want %s: %v, the last keys: %t", took, want, err, keys == old)
			}
			c.Invalidate(old) // locks nothing
		}
		close(back)
		synctest.Wait()
		if keys, err := c.Keys(t.Context()); err != nil || keys.SecretKey != "ss" {
			t.Errorf("the server is back: %v", err)
		}
		// A wait ends with its context, and a call that was cancelled says nothing of
		// the files.
		back = make(chan struct{})
		c.Invalidate(Keys{"ak", "ss"})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		start := time.Now()
		if _, err := c.Keys(ctx); err != nil || time.Since(start) != time.Millisecond {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		close(back)
		synctest.Wait()
		// At the start there are no last keys.
		back = make(chan struct{})
		start = time.Now()
		_, err = newFileCredentials("test", []string{path}, func([]string) (Keys, error) { <-back; return old, nil })
		if err == nil || time.Since(start) != maxFirstFileWait || !strings.Contains(err.Error(), "cannot be read in time") {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		close(back)
	})
}

// Only the keys that are in force can be refused: a late 401 to an older pair
// makes nobody read the files again.
func TestInvalidateOfOldKeys(t *testing.T) {
	t.Parallel()
	ak, sk := writeFile(t, "ak", "ak-1"), writeFile(t, "sk", "sk-1")
	var reads int
	c, err := newFileCredentials("test", []string{ak, sk}, func([]string) (Keys, error) {
		reads++
		return Keys{"ak-1", "sk-1"}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for refused, want := range map[Keys]int{{"ak-0", "sk-0"}: 1, {"ak-1", "sk-0"}: 1} {
		c.Invalidate(refused)
		if _, err := c.Keys(t.Context()); err != nil || reads != want {
			t.Errorf("%d reads, want %d, %v", reads, want, err)
		}
	}
	c.Invalidate(Keys{"ak-1", "sk-1"})
	for range 3 {
		if _, err := c.Keys(t.Context()); err != nil || reads != 2 {
			t.Errorf("%d reads, want 2, %v", reads, err)
		}
	}
}

// Ten calls are under way when the key is rotated. The new one looks like the
// old one to os.Stat, so that only the 401 says it.
func TestKeysAreReadAgainAfter401(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{Keys: []ncptest.Key{{AccessKey: "ak-1", SecretKey: "sk-1"}}})
	ak, sk := writeFile(t, "ak", "ak-1"), writeFile(t, "sk", "sk-1")
	c, err := FindCredentials(CredentialSources{AccessKeyFile: ak, SecretKeyFile: sk})
	if err != nil {
		t.Fatal(err)
	}
	api := certificateManagerAt(t, sim.URL(), retries(1), func(cfg *Config) { cfg.Credentials = c })
	if err := changesOf(t, api); err != nil {
		t.Fatal(err)
	}
	infos := make(map[string]os.FileInfo)
	for path, content := range map[string]string{ak: "ak-2", sk: "sk-2"} {
		if infos[path], err = os.Stat(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, infos[path].ModTime(), infos[path].ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	sim.SetKeys(ncptest.Key{AccessKey: "ak-2", SecretKey: "sk-2"})
	sim.ResetStats()
	changesAtOnce(t, api, 10)
	if sim.Unsigned() == 0 {
		t.Error("nobody was refused: this proves nothing")
	}
	// The same files again: a 401 that new keys cannot mend is no endless loop.
	sim.SetKeys(ncptest.Key{AccessKey: "ak-3", SecretKey: "sk-3"})
	sim.ResetStats()
	wantReason(t, changesOf(t, api), ErrKey)
	if got := sim.Count(ncptest.RecentChanges); got != 1 {
		t.Errorf("%d requests with keys that are refused, want 1", got)
	}
}

// Keys that change all the time are tried once more in a call, not for ever.
func TestOneRenewalInACall(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{Keys: []ncptest.Key{{AccessKey: "none", SecretKey: "none"}}})
	path := writeFile(t, "configure", "")
	reads := 0
	c, err := newFileCredentials("test", []string{path}, func([]string) (Keys, error) {
		reads++
		return Keys{"ak", strings.Repeat("s", reads)}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = changesOf(t, certificateManagerAt(t, sim.URL(), retries(5), func(cfg *Config) { cfg.Credentials = c }))
	wantReason(t, err, ErrKey)
	if got := sim.Count(ncptest.RecentChanges); got != 2 {
		t.Errorf("%d requests, want 2", got)
	}
}
