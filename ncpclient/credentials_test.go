package ncpclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// env is an environment for FindCredentials.
func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// writeFile makes a file in a directory of the test's own.
func writeFile(tb testing.TB, name, content string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

const twoProfiles = `[DEFAULT]
ncloud_access_key_id = profile-ak
ncloud_secret_access_key = profile-sk
[main]
ncloud_access_key_id = main-ak
ncloud_secret_access_key = main-sk
`

func TestOrderOfSources(t *testing.T) {
	t.Parallel()
	directory := filepath.Dir(writeFile(t, "access-key", "dir-ak\n"))
	if err := os.WriteFile(filepath.Join(directory, "secret-key"), []byte("dir-sk\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Every place holds keys; each step takes the first of those left away.
	s := CredentialSources{
		AccessKeyFile: writeFile(t, "ak", "file-ak\n"),
		SecretKeyFile: writeFile(t, "sk", "file-sk\n"),
		LookupEnv: env("NCLOUD_ACCESS_KEY_ID", "env-ak", "NCLOUD_ACCESS_KEY", "old-env-ak",
			"NCLOUD_SECRET_ACCESS_KEY", "env-sk", "NCLOUD_SECRET_KEY", "old-env-sk"),
		ProfileFile:  writeFile(t, "configure", twoProfiles),
		APIProfile:   "main",
		KeyDirectory: directory,
		ServerRole:   StaticCredentials(Keys{"role-ak", "role-sk"}, "role"),
	}
	for _, step := range []struct {
		want     Keys
		source   string
		takeAway func()
	}{
		{Keys{"main-ak", "main-sk"}, "profile main of", func() { s.APIProfile = "" }},
		{Keys{"file-ak", "file-sk"}, "files ", func() { s.AccessKeyFile, s.SecretKeyFile = "", "" }},
		{Keys{"env-ak", "env-sk"}, "environment (NCLOUD_ACCESS_KEY_ID)", func() {
			s.LookupEnv = env("NCLOUD_ACCESS_KEY", "old-env-ak", "NCLOUD_SECRET_KEY", "old-env-sk")
		}},
		{Keys{"old-env-ak", "old-env-sk"}, "environment (NCLOUD_ACCESS_KEY)", func() {
			s.LookupEnv = env("NCLOUD_ACCESS_KEY_ID", "", "NCLOUD_ACCESS_KEY", "a", "NCLOUD_SECRET_ACCESS_KEY", " s ")
		}},
		{Keys{"a", "s"}, "environment (NCLOUD_ACCESS_KEY)", func() { s.LookupEnv = env("NCLOUD_ACCESS_KEY", " ") }},
		{Keys{"profile-ak", "profile-sk"}, "profile DEFAULT of", func() { s.Profile = "main" }},
		{Keys{"main-ak", "main-sk"}, "profile main of", func() { s.ProfileFile += ".gone" }},
		{Keys{"dir-ak", "dir-sk"}, "files " + directory, func() { s.KeyDirectory = t.TempDir() }},
		{Keys{"role-ak", "role-sk"}, "role", func() { s.ServerRole = nil }},
	} {
		c, err := FindCredentials(s)
		if err != nil {
			t.Fatalf("%s: %v", step.source, err)
		}
		if keys, err := c.Keys(t.Context()); err != nil || keys != step.want || !strings.Contains(c.String(), step.source) {
			t.Errorf("%s: keys %t, %v, from %q", step.source, keys == step.want, err, c)
		}
		step.takeAway()
	}
	if c, err := FindCredentials(s); !errors.Is(err, ErrNoKeys) || c != nil {
		t.Errorf("nothing left: %v, %v", c, err)
	}
	s.LookupEnv = nil
	if _, err := FindCredentials(s); !errors.Is(err, ErrNoKeys) {
		t.Errorf("no environment: %v", err)
	}
	s.ProfileRequired = true
	if _, err := FindCredentials(s); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), s.ProfileFile) {
		t.Errorf("a profile file that must be there: %v", err)
	}
}

func TestIncompleteKeys(t *testing.T) {
	t.Parallel()
	ok := writeFile(t, "ok", "s3cret-ok")
	role := StaticCredentials(Keys{"role-ak", "role-sk"}, "role")
	profile := func(content string) CredentialSources {
		return CredentialSources{ProfileFile: writeFile(t, "configure", content)}
	}
	environment := func(pairs ...string) CredentialSources { return CredentialSources{LookupEnv: env(pairs...)} }
	for name, tt := range map[string]struct {
		in   CredentialSources
		want []string
	}{
		"access key file alone":     {CredentialSources{AccessKeyFile: ok}, []string{"none with the secret key"}},
		"secret key file alone":     {CredentialSources{SecretKeyFile: ok}, []string{"none with the access key"}},
		"access key file missing":   {CredentialSources{AccessKeyFile: "/nowhere/ak", SecretKeyFile: ok}, []string{"/nowhere/ak"}},
		"secret key file missing":   {CredentialSources{AccessKeyFile: ok, SecretKeyFile: "/nowhere/sk"}, []string{"/nowhere/sk"}},
		"half a key directory":      {CredentialSources{KeyDirectory: filepath.Dir(writeFile(t, "secret-key", "s3cret"))}, []string{"access-key", "no such file"}},
		"secret key file empty":     {CredentialSources{AccessKeyFile: ok, SecretKeyFile: writeFile(t, "sk", " \r\n")}, []string{"the secret key is empty"}},
		"access key file empty":     {CredentialSources{AccessKeyFile: writeFile(t, "ak", ""), SecretKeyFile: ok}, []string{"the access key is empty"}},
		"two lines in a key file":   {CredentialSources{AccessKeyFile: writeFile(t, "ak", "s3cret\nother"), SecretKeyFile: ok}, []string{"the access key holds a blank"}},
		"a key file is a directory": {CredentialSources{AccessKeyFile: t.TempDir(), SecretKeyFile: ok}, []string{"is a directory"}},
		"a key file of 2 MiB":       {CredentialSources{AccessKeyFile: writeFile(t, "ak", strings.Repeat("x", 2<<20)), SecretKeyFile: ok}, []string{"larger than any file of keys"}},
		"environment, no secret":    {environment("NCLOUD_ACCESS_KEY_ID", "s3cret"), []string{"NCLOUD_ACCESS_KEY_ID is set", "NCLOUD_SECRET_ACCESS_KEY or NCLOUD_SECRET_KEY is not"}},
		"named variables, no secret": {
			CredentialSources{LookupEnv: env("A_ACCESS", "s3cret"), AccessKeyEnv: "A_ACCESS", SecretKeyEnv: "A_SECRET"},
			[]string{"A_ACCESS is set", "A_SECRET is not"},
		},
		"environment, no access key": {environment("NCLOUD_SECRET_KEY", "s3cret"), []string{"NCLOUD_SECRET_KEY is set", "NCLOUD_ACCESS_KEY_ID or NCLOUD_ACCESS_KEY is not"}},
		"environment, blank in key":  {environment("NCLOUD_ACCESS_KEY", "s3cret other", "NCLOUD_SECRET_KEY", "s3cret"), []string{"NCLOUD_ACCESS_KEY", "access key", "blank"}},
		"profile without secret":     {profile("[DEFAULT]\nncloud_access_key_id = s3cret"), []string{"DEFAULT", "the secret key is empty"}},
		"profile without access key": {profile("[DEFAULT]\nncloud_secret_access_key = s3cret"), []string{"DEFAULT", "the access key is empty"}},
		"profile with nothing":       {profile("[DEFAULT]\n[other]"), []string{"DEFAULT", "the access key is empty"}},
		"profile of other encoding":  {profile("[DEFAULT]\nncloud_access_key_id=s3cret\x00\nncloud_secret_access_key=s3cret"), []string{"DEFAULT", "access key holds"}},
		"no such profile": {
			CredentialSources{ProfileFile: writeFile(t, "configure", twoProfiles+"[a\x1b[31m]"), APIProfile: "absent"},
			[]string{`"absent"`, "DEFAULT, a [31m, main"},
		},
		"empty file": {profile(""), []string{`"DEFAULT"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.in.ServerRole = role // never taken in place of what is incomplete
			for range 8 {           // the same text each time
				c, err := FindCredentials(tt.in)
				if err == nil || c != nil {
					t.Fatalf("found %v, %v", c, err)
				}
				for _, want := range tt.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q does not say %q", err, want)
					}
				}
				if strings.Contains(err.Error(), "s3cret") || strings.ContainsAny(err.Error(), "\n\x00\x1b") {
					t.Errorf("%q", err)
				}
			}
		})
	}
}

func TestKeysAreNeverPrinted(t *testing.T) {
	t.Parallel()
	keys := Keys{AccessKey: "s3cret-ak", SecretKey: "s3cret-sk"}
	file, err := FindCredentials(CredentialSources{AccessKeyFile: writeFile(t, "ak", keys.AccessKey), SecretKeyFile: writeFile(t, "sk", keys.SecretKey)})
	if err != nil {
		t.Fatal(err)
	}
	static := StaticCredentials(keys, "test")
	role := &serverRole{base: MetadataURL, keys: keys}
	api := certificateManagerAt(t, "https://h.example")
	for name, v := range map[string]any{
		"keys": keys, "pointer": &keys, "slice": []Keys{keys}, "map": map[string]Keys{"x": keys}, "struct": struct{ K Keys }{keys},
		"static": static, "file": file, "role": role, "config": Config{Credentials: static}, "client": api,
		"error": fmt.Errorf("x: %w", &Error{err: fmt.Errorf("%v", keys)}),
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10v"} {
			text := fmt.Sprintf(verb, v)
			for _, secret := range []string{"s3cret", fmt.Sprintf("%x", "s3cret"), fmt.Sprintf("%X", "s3cret")} {
				if strings.Contains(text, secret) {
					t.Errorf("%s with %s: %s", name, verb, text)
				}
			}
		}
		// A client and its functions have no JSON; what has none shows nothing.
		if b, err := json.Marshal(v); err == nil && strings.Contains(string(b), "s3cret") {
			t.Errorf("%s in JSON: %s", name, b)
		}
	}
}

func TestStaticKeysStay(t *testing.T) {
	t.Parallel()
	want := Keys{"a", "s"}
	c := StaticCredentials(want, "my vault")
	c.Invalidate(want)
	if got, err := c.Keys(t.Context()); got != want || err != nil || c.String() != "my vault" {
		t.Errorf("%v from %q", err, c)
	}
}

// touch gives a file another time, as a clock that moves does by itself: two
// writes within its resolution would look like one.
func touch(tb testing.TB, path string, age time.Duration) {
	tb.Helper()
	at := time.Now().Add(-age)
	if err := os.Chtimes(path, at, at); err != nil {
		tb.Fatal(err)
	}
}
