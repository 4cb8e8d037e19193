package config

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ncp_exporter/ncpclient"
)

// CheckFile is --config.check: it says on a line each what is wrong with the file of
// the accounts, or that nothing is, and returns the exit code.
func CheckFile(c Config, stdout io.Writer) (code int) {
	accounts, err := LoadFile(c.File, c)
	report := fmt.Sprintf("%s: %d accounts, all valid", c.File, len(accounts))
	if len(accounts) == 1 {
		report = c.File + ": 1 account, all valid"
	}
	if err != nil {
		code, report = 1, err.Error()
	}
	if _, err := fmt.Fprintln(stdout, report); err != nil {
		return 1
	}
	return code
}

// validate says what does not go together in the accounts of a file.
func (f *fileParser) validate() {
	var keys, ledgers uses
	for i := range f.accounts {
		a := &f.accounts[i]
		path := "accounts." + a.Name
		for _, place := range keyPlaces() {
			of := path + "." + place.path
			if f.lines[of] > 0 {
				f.validateKind(of)
			}
			kind, source := keySource(*place.of(a))
			if first, taken := keys.take(a.Name, of, source); taken {
				f.add(f.lines[of], "%s has the same %s as %s (line %d): one NCP account would be counted under two names", of, kind, first, f.lines[first])
			}
		}
		f.validateWatched(*a, path)
		if a.StateFile.Path == "" {
			continue
		}
		ledger := followed(a.StateFile.Path)
		// Nor may one be the lock file that is beside another.
		if first, taken := ledgers.take(a.Name, path, ledger, ledger+".lock"); taken {
			f.add(cmp.Or(f.lines[path+".state_file"], f.lines[path+".formerly"], f.lines[path]),
				"%s has the same ledger file as %s (line %d): give each account a state_file of its own", path, first, f.lines[first])
		}
	}
}

// uses are which accounts use what: the name of the account, and where it says so.
type uses map[string]use

type use struct{ account, path string }

// take notes that an account uses things, unless another account does already.
// Nothing is known of an empty thing.
func (u *uses) take(account, path string, things ...string) (first string, taken bool) {
	if *u == nil {
		*u = make(uses)
	}
	for _, thing := range things {
		if other, ok := (*u)[thing]; ok && other.account != account {
			return other.path, true
		}
	}
	for _, thing := range things {
		if thing != "" {
			(*u)[thing] = use{account, path}
		}
	}
	return "", false
}

// validateKind says what is wrong with the keys at a path: one kind must be there,
// and complete.
func (f *fileParser) validateKind(path string) {
	given := func(name string) bool { return f.lines[path+"."+name] > 0 }
	var all, found []string
	for _, kind := range keyKinds() {
		name := strings.Join(kind.required, " and ")
		all = append(all, name)
		if !slices.ContainsFunc(kind.required, given) && !given(kind.optional) {
			continue
		}
		found = append(found, name)
		for _, required := range kind.required {
			if !given(required) {
				f.add(f.lines[path], "%s needs %s too", path, required)
			}
		}
	}
	if len(found) != 1 {
		f.add(f.lines[path], "%s must say exactly one of: %s", path, strings.Join(all, "; "))
	}
}

// validateWatched says whether an account watches something, and has keys for it.
func (f *fileParser) validateWatched(a Account, path string) {
	manager := a.Collectors[ncpclient.APICertificateManager] || a.Collectors[inventory]
	access := a.Collectors[ncpclient.APIExternalAccess]
	if !manager && !access {
		f.add(f.lines[path], "%s watches nothing: certificate_manager and external_access are both off", path)
	}
	for _, api := range []struct {
		name    string
		watched bool
	}{{"certificate_manager", manager}, {"external_access", access}} {
		if api.watched && f.lines[path+".keys"] == 0 && f.lines[path+"."+api.name+".keys"] == 0 {
			f.add(f.lines[path], "%s has no keys for %s: it needs keys, or %s.keys", path, api.name, api.name)
		}
	}
}

// keySource gives the kind of keys, and what tells their place from all others: to
// which NCP account the keys belong, nobody can know without asking.
func keySource(k Keys) (kind, source string) {
	switch {
	case k.AccessKeyFile != "":
		return "access_key_file", "file " + followed(k.AccessKeyFile)
	case k.AccessKeyEnv != "":
		return "access_key_env", "variable " + k.AccessKeyEnv
	case k.Profile != "":
		return "profile", "profile " + followed(cmp.Or(k.CredentialsFile, DefaultCredentialsFile())) + " " + k.Profile
	case k.ServerRole:
		return "server_role", "role"
	default:
		return "", ""
	}
}

// DefaultCredentialsFile is where NCP's own tools keep keys; empty if this user has
// no home.
func DefaultCredentialsFile() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".ncloud", "configure")
}

// followed is the file that a path leads to, with all links followed that exist.
func followed(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	for parent, rest := path, ""; ; parent, rest = filepath.Dir(parent), filepath.Join(filepath.Base(parent), rest) {
		if target, err := filepath.EvalSymlinks(parent); err == nil {
			return filepath.Join(target, rest)
		}
		if parent == filepath.Dir(parent) {
			return path
		}
	}
}
