package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"ncp_exporter/ncpclient"
)

var update = flag.Bool("update", false, "write what is expected instead of comparing it") //nolint:gochecknoglobals // a flag of the tests

// flagDefaults are the flags as they are when none is given, as far as a file needs
// them.
func flagDefaults() Config {
	return Config{
		Shard: Shard{Total: 1},
		Account: Account{
			Site:   "public",
			Keys:   Keys{ServerRoleURL: "http://127.0.0.1:9"},
			Limits: Limits{Timeout: 5 * time.Second, MaxConcurrency: 10, RateLimit: 50, MaxRetries: 3},
			Collectors: map[string]bool{
				ncpclient.APICertificateManager: true, ncpclient.APIExternalAccess: true, trustAnchors: true,
			},
			CertificateManager: CertificateManager{Window: 24 * time.Hour, PerCertificate: true},
			ExternalAccess:     ExternalAccess{PageSize: 100, InitialHistory: InitialHistoryCount, LateArrival: time.Hour},
			StateFile:          StateFile{Path: "/var/lib/ncp_exporter/ncp_exporter.db", Given: true},
		},
	}
}

// TestFilesOfAccounts compares what is said of each file in testdata/accounts with
// the file of the same name that ends in .txt. A file is good if there is none.
func TestFilesOfAccounts(t *testing.T) {
	t.Setenv("HOME", "/home/somebody")
	t.Chdir("testdata/accounts")
	files, err := filepath.Glob("*.yml")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			accounts, err := LoadFile(file, flagDefaults())
			golden := strings.TrimSuffix(file, ".yml") + ".txt"
			if strings.HasPrefix(file, "good-") {
				if err != nil || len(accounts) == 0 {
					t.Errorf("%d accounts, error %v", len(accounts), err)
				}
				return
			}
			if err == nil || accounts != nil {
				t.Fatalf("%d accounts, error %v, want an error", len(accounts), err)
			}
			text := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden) //nolint:gosec // a file of this test
			if diff := cmp.Diff(string(want), text); diff != "" {
				t.Errorf("problems (-want +got): %v\n%s", err, diff)
			}
			if strings.Contains(strings.ToLower(text), "n33dle") {
				t.Errorf("a secret is shown:\n%s", text)
			}
		})
	}
}

// TestExampleOfTheContract has each value of the accounts that the docs show first.
func TestExampleOfTheContract(t *testing.T) {
	flags := flagDefaults()
	accounts, err := LoadFile("testdata/accounts/good-contract.yml", flags)
	if err != nil {
		t.Fatal(err)
	}
	account := func(name, ledger string, change func(*Account)) Account {
		a := flagDefaults().Account
		a.Name, a.Keys = name, Keys{}
		a.StateFile = StateFile{Path: "/var/lib/ncp_exporter/" + ledger, Given: true}
		change(&a)
		return a
	}
	want := []Account{
		account("agency", "accounts/agency", func(a *Account) {
			a.Site, a.Limits.RateLimit = "gov", 10
			a.Keys = Keys{AccessKeyEnv: "AGENCY_ACCESS", SecretKeyEnv: "AGENCY_SECRET"}
		}),
		account("batch", "accounts/batch", func(a *Account) {
			a.Keys = Keys{ServerRole: true, ServerRoleURL: "http://127.0.0.1:9"}
			delete(a.Collectors, ncpclient.APICertificateManager)
		}),
		account("prod", "ncp_exporter.db", func(a *Account) {
			a.CertificateManager.Keys = Keys{CredentialsFile: "testdata/accounts/keys/configure", Profile: "prod-main"}
			a.ExternalAccess.Keys = Keys{AccessKeyFile: "testdata/accounts/keys/prod.access-key", SecretKeyFile: "testdata/accounts/keys/prod.secret-key"}
		}),
	}
	if len(accounts) != len(want) {
		t.Fatalf("%d accounts, want %d", len(accounts), len(want))
	}
	for i := range want {
		if diff := cmp.Diff(plain(want[i]), plain(accounts[i])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want[i].Name, diff)
		}
		if !want[i].Equal(accounts[i]) {
			t.Errorf("%s is not equal to what is wanted", want[i].Name)
		}
	}
	if diff := cmp.Diff(plain(flagDefaults().Account), plain(flags.Account)); diff != "" {
		t.Errorf("the flags were changed (-want +got):\n%s", diff)
	}
}

// plain is an account without its Equal, so that differences are shown by field.
func plain(a Account) any {
	type account Account
	return account(a)
}

// TestEveryFieldArrives wants each field of a file that gives them all to differ
// from its default, and two loads to be equal.
func TestEveryFieldArrives(t *testing.T) {
	const file = "testdata/accounts/good-all-fields.yml"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	load := func(text string) Account {
		t.Helper()
		accounts, err := ParseFile(file, []byte(text), flagDefaults())
		if err != nil {
			t.Fatal(err)
		}
		return accounts[slices.IndexFunc(accounts, func(a Account) bool { return a.Name == "everything-1" })]
	}
	all := load(string(text))
	if !all.Equal(load(string(text))) {
		t.Error("two loads of the same text differ")
	}
	want := flagDefaults().Account
	want.Name, want.Formerly, want.Site, want.Keys, want.MaxAge = "everything-1", "something", "fin", Keys{}, time.Minute
	want.Limits = Limits{Timeout: 7 * time.Second, MaxConcurrency: 3, RateLimit: 0.5}
	want.Collectors = map[string]bool{inventory: true, ncpclient.APIExternalAccess: true}
	want.CertificateManager = CertificateManager{URL: "https://cm.example/api/v2", Keys: Keys{Profile: "main"}, Window: 7 * 24 * time.Hour}
	want.ExternalAccess = ExternalAccess{
		URL: "http://127.0.0.1:1/api/v1", Keys: Keys{AccessKeyFile: "/run/keys/access", SecretKeyFile: "testdata/keys/secret"}, //nolint:gosec // no credentials
		Subjects: []string{"a", "b"}, SubjectInclude: "a|CN=.*", SubjectExclude: "CN=test.*", PageSize: 20, InitialHistory: InitialHistorySkip, LateArrival: 2 * time.Hour, SweepInterval: time.Hour, FailureInfo: 3 * time.Hour,
	}
	want.StateFile = StateFile{Path: "/var/lib/ncp/everything.db", Given: true}
	if diff := cmp.Diff(plain(want), plain(all)); diff != "" {
		t.Errorf("account (-want +got):\n%s", diff)
	}
	for _, field := range fields() {
		name := field.path[strings.LastIndexByte(field.path, '.')+1:]
		if !strings.Contains(string(text), name+": ") && name != "access_key_env" && name != "secret_key_env" && name != "server_role" {
			t.Errorf("%s does not have %s", file, field.path)
		}
	}
	changed := strings.NewReplacer("rate_limit: 0.5", "rate_limit: 0.6").Replace(string(text))
	if all.Equal(load(changed)) {
		t.Error("another rate limit makes no other account")
	}
}

func TestLedgersOfAccounts(t *testing.T) {
	const text = "accounts:\n  one:\n    keys: {profile: one}\n"
	for name, test := range map[string]struct {
		flag StateFile
		line string
		want StateFile
	}{
		"default":          {StateFile{Path: DefaultStateFile}, "", StateFile{Path: "data/accounts/one"}},
		"flag":             {StateFile{"/l/x.db", true}, "", StateFile{"/l/accounts/one", true}},
		"flag in memory":   {StateFile{"", true}, "", StateFile{"", true}},
		"relative":         {StateFile{"/l/x.db", true}, "state_file: y/z.db", StateFile{"/l/y/z.db", true}},
		"of the flags":     {StateFile{Path: DefaultStateFile}, "state_file: ncp_exporter.db", StateFile{"data/ncp_exporter.db", true}},
		"absolute":         {StateFile{"", true}, "state_file: /y.db", StateFile{"/y.db", true}},
		"in memory":        {StateFile{"/l/x.db", true}, "state_file: ''", StateFile{"", true}},
		"renamed":          {StateFile{"/l/x.db", true}, "formerly: uno", StateFile{"/l/accounts/one", true}},
		"renamed and told": {StateFile{"/l/x.db", true}, "formerly: uno\n    state_file: a", StateFile{"/l/a", true}},
	} {
		t.Run(name, func(t *testing.T) {
			flags := flagDefaults()
			flags.Account.StateFile = test.flag
			accounts, err := ParseFile("a.yml", []byte(text+"    "+test.line), flags)
			if err != nil {
				t.Fatal(err)
			}
			if got := accounts[0].StateFile; got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
	flags := flagDefaults()
	flags.Account.StateFile = StateFile{Given: true}
	if _, err := ParseFile("a.yml", []byte(text+"    state_file: x"), flags); err == nil || !strings.Contains(err.Error(), "line 4: accounts.one.state_file is relative") {
		t.Errorf("relative to nothing: %v", err)
	}
}

// TestLinksAreFollowed finds one ledger and one file of keys under two names.
func TestLinksAreFollowed(t *testing.T) {
	dir := t.TempDir()
	for _, made := range []error{
		os.Mkdir(filepath.Join(dir, "real"), 0o700),
		os.WriteFile(filepath.Join(dir, "real", "key"), nil, 0o600),
		os.Symlink("real", filepath.Join(dir, "link")),
	} {
		if made != nil {
			t.Fatal(made)
		}
	}
	flags := flagDefaults()
	flags.Account.StateFile.Path = filepath.Join(dir, "x.db")
	const text = `accounts:
  a:
    keys: {access_key_file: real/key, secret_key_file: s}
    state_file: real/not-there-yet
  b:
    keys: {access_key_file: link/key, secret_key_file: t}
    state_file: link/not-there-yet
`
	_, err := ParseFile(filepath.Join(dir, "a.yml"), []byte(text), flags)
	if got := lines(err); len(got) != 2 || !strings.Contains(got[0], "line 6: accounts.b.keys has the same access_key_file") || !strings.Contains(got[1], "line 7: accounts.b has the same ledger") {
		t.Errorf("problems: %q", got)
	}
}

func lines(err error) []string {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return nil
	}
	var all []string
	for _, one := range joined.Unwrap() {
		all = append(all, one.Error())
	}
	return all
}

func TestSizeOfAFile(t *testing.T) {
	many := func(n int) []byte {
		text := []byte("accounts:\n")
		for i := range n {
			text = fmt.Appendf(text, "  a%d: {keys: {profile: p%d}}\n", i, i)
		}
		return text
	}
	if accounts, err := ParseFile("a.yml", many(MaxAccounts), flagDefaults()); err != nil || len(accounts) != MaxAccounts {
		t.Errorf("%d accounts: %v", len(accounts), err)
	}
	if _, err := ParseFile("a.yml", many(MaxAccounts+1), flagDefaults()); err == nil || !strings.Contains(err.Error(), "line 1: accounts has 101 accounts, but must have 1 to 100") {
		t.Errorf("one more: %v", err)
	}
	_, err := ParseFile("a.yml", []byte(strings.Repeat("a: 1\n", 2*maxProblems)), flagDefaults())
	if all := lines(err); len(all) != maxProblems+1 || !strings.Contains(all[maxProblems], "there are 1001 more problems") {
		t.Errorf("%d problems, the last: %s", len(all), all[len(all)-1])
	}
	padded := append(many(1), []byte(strings.Repeat("#", maxFile))...)
	if _, err := ParseFile("a.yml", padded[:maxFile], flagDefaults()); err != nil {
		t.Errorf("1 MiB: %v", err)
	}
	path := filepath.Join(t.TempDir(), "large.yml")
	if err := os.WriteFile(path, padded, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadFile(path, flagDefaults()); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("more than 1 MiB: %v", err)
	}
}

func TestWhatIsNoFile(t *testing.T) {
	for path, want := range map[string]string{
		t.TempDir():                            "it is a directory, a device",
		filepath.Join(t.TempDir(), "none.yml"): "no such file",
		os.DevNull:                             "it is a directory, a device",
	} {
		_, err := LoadFile(path, flagDefaults())
		if err == nil || !strings.HasPrefix(err.Error(), "--config.file "+path+": "+want) || strings.Count(err.Error(), path) != 1 || len(lines(err)) != 1 {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

// FuzzFile wants of any file no panic, and accounts that are valid or errors that
// are one line each, name a line of the file, and show no key that was written
// into it.
func FuzzFile(f *testing.F) {
	files, err := filepath.Glob("testdata/accounts/*.yml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // files of this test
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	const needle = "N33DLEN33DLEN33DLE12"
	f.Add([]byte("accounts: {a: {keys: {access_key: " + needle + ", secret_key: " + needle + "}}}"))
	f.Add([]byte("accounts: {a: {keys: " + needle + ", external_access: {url: 'https://u:" + needle + "@h'}}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		accounts, err := ParseFile("a.yml", text, flagDefaults())
		if err == nil {
			if len(accounts) == 0 || len(accounts) > MaxAccounts {
				t.Fatalf("%d accounts", len(accounts))
			}
			return
		}
		all := lines(err)
		if len(all) == 0 {
			t.Fatalf("no list of problems: %v", err)
		}
		for _, line := range all {
			var number int
			if n, _ := fmt.Sscanf(line, "--config.file a.yml: line %d: ", &number); n != 1 || number < 1 || number > len(text)+2 {
				t.Errorf("no line of the file is named: %q", line)
			}
			if strings.ContainsFunc(line, unicode.IsControl) {
				t.Errorf("control characters: %q", line)
			}
		}
	})
}

// TestSecretsAreNotShown puts a key at each place of a file where somebody may do so
// by mistake.
func TestSecretsAreNotShown(t *testing.T) {
	const needle = "N33DLEN33DLEN33DLE12"
	texts := []string{
		"accounts: {a: {keys: {access_key: %s, secret_key: %[1]s}}}", "accounts: {a: {keys: %s}}", "%s: x", "accounts: {a: {%s: x}}",
		"accounts: {a: {keys: {%s}}}", "accounts: {a: {keys: {access_key_env: '%s+/', secret_key_env: S}}}", "accounts: {a: {keys: {profile: ['%s']}}}",
		"accounts: {a: {keys: {server_role: %s}}}", "accounts: {a: {keys: *%s}}", "accounts: {a: {keys: !%s x}}", "%%%s\n---\n", "accounts: &%s *%[1]s",
	}
	for _, field := range fields() {
		if strings.HasSuffix(field.path, ".url") {
			section, _, _ := strings.Cut(field.path, ".")
			texts = append(texts, "accounts: {a: {"+section+": {url: 'https://u:%s@h/'}}}")
		}
	}
	for _, text := range texts {
		_, err := ParseFile("a.yml", fmt.Appendf(nil, text, needle), flagDefaults())
		if err == nil || strings.Contains(err.Error(), needle) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
