package ncpclient

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

func TestTidy(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"":             "",
		"key":          "key",
		` "key" `:      "key",
		"'key'\r\n":    "key",
		"\ufeffkey\n":  "key",
		"\u00a0key\t":  "key",
		`" key "`:      "key",
		`""`:           "",
		`"`:            `"`,
		`"key`:         `"key`,
		`key'`:         `key'`,
		`"key'`:        `"key'`,
		`''key''`:      `'key'`,
		`a "b" c`:      `a "b" c`,
		"\u200bkey":    "key",
		"two\nlines\n": "two\nlines",
	} {
		if got := Tidy(value); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// asUTF16 is a text as PowerShell and Notepad write it.
func asUTF16(text string, high, low int) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		pair := [2]byte{}
		pair[high], pair[low] = byte(unit>>8), byte(unit&0xff)
		b = append(b, pair[:]...)
	}
	return string(b)
}

// TestKeysAsPeopleWriteThem has keys that are taken, and some that are refused with what
// is wrong.
func TestKeysAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	const access, secret = "Acc3ssN33dle", "S3cretN33dle+/=="
	dir := t.TempDir()
	files := 0
	file := func(text string) string {
		files++
		path := filepath.Join(dir, strconv.Itoa(files))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct{ form, refused string }{
		{"%s", ""},
		{"%s\n", ""},
		{" %s \r\n", ""},
		{`"%s"`, ""},
		{"'%s'\n", ""},
		{"\ufeff\"%s\"\r\n\r\n", ""},
		{`"%s`, `holds "\""`},
		{"%s'", `holds "'"`},
		{"$%s", `holds "$"`},
		{"<%s>", `holds "<"`},
		{"NCLOUD_KEY=%s", "the name of a variable"},
		{"%s # mine", "a blank"},
		{"%s\n%[1]s", "a blank"},
	} {
		first, second := fmt.Sprintf(test.form, access), fmt.Sprintf(test.form, secret)
		profile := "[p]\r\nncloud_access_key_id = " + first + "\r\nncloud_secret_access_key=" + second + "\r\n"
		sources := map[string]CredentialSources{
			"variables": {LookupEnv: func(name string) (string, bool) {
				return map[string]string{"NCLOUD_ACCESS_KEY": first, "NCLOUD_SECRET_KEY": second}[name], true
			}},
			"files": {AccessKeyFile: file(first), SecretKeyFile: file(second)},
		}
		if ascii := !strings.Contains(test.form, "\ufeff"); ascii {
			sources["files of UTF-16"] = CredentialSources{AccessKeyFile: file(asUTF16(first, 1, 0)), SecretKeyFile: file(asUTF16(second, 0, 1))}
			if !strings.Contains(test.form, "\n%") { // that is a line of its own
				sources["profile"] = CredentialSources{ProfileFile: file(profile), Profile: "p", ProfileRequired: true}
				sources["profile of UTF-16"] = CredentialSources{ProfileFile: file(asUTF16(profile, 1, 0)), Profile: "p", ProfileRequired: true}
			}
		}
		for name, from := range sources {
			found, err := FindCredentials(from)
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) || strings.Contains(err.Error(), "N33dle") {
					t.Errorf("%s, %q: %v, want an error that tells of %s", name, test.form, err, test.refused)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s, %q: %v", name, test.form, err)
				continue
			}
			if keys, err := found.Keys(t.Context()); err != nil || keys.AccessKey != access || keys.SecretKey != secret {
				t.Errorf("%s, %q: other keys, %v", name, test.form, err)
			}
		}
	}
}
