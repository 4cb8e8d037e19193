package ncpclient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Keys is an access key and its secret key. Printed with any verb, it shows
// neither.
type Keys struct {
	AccessKey string
	SecretKey string
}

const redacted = "keys [redacted]"

// Format keeps the keys out of every text, whatever the verb. A type that holds
// keys in an unexported field needs a Format of its own, as fmt looks into such a
// field without calling its methods.
func (Keys) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, redacted) } // nothing to do if the output fails

// MarshalText keeps the keys out of JSON and of logs.
func (Keys) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Credentials gives the keys that requests are signed with. Its methods are
// called from many goroutines.
type Credentials interface {
	// Keys returns the keys in force now.
	Keys(ctx context.Context) (Keys, error)
	// Invalidate says that NCP refused these keys: if they are still those in
	// force, the next call of Keys reads them again.
	Invalidate(refused Keys)
	// String says where the keys come from, without the keys.
	String() string
}

// ErrNoKeys is returned when none of the places holds keys.
var ErrNoKeys = errors.New("no NCP keys found")

// CredentialSources say where FindCredentials looks for keys.
type CredentialSources struct {
	// AccessKeyFile and SecretKeyFile hold one value each; both or none.
	AccessKeyFile, SecretKeyFile string
	// LookupEnv reads the environment, such as os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// AccessKeyEnv and SecretKeyEnv are variables that are read instead of those of
	// NCP's own tools, if they are not empty; both or none.
	AccessKeyEnv, SecretKeyEnv string
	// ProfileFile is a file as NCP's own tools write it (~/.ncloud/configure),
	// and Profile the section of it that is used when the environment has no
	// keys. A ProfileFile that does not exist is no error unless
	// ProfileRequired is set.
	ProfileFile     string
	Profile         string
	ProfileRequired bool
	// APIProfile, if not empty, is the section that comes before all others.
	APIProfile string
	// KeyDirectory, if not empty, may hold KeyDirectoryFiles, with one value each. It
	// is no error that neither is there.
	KeyDirectory string
	// ServerRole, if not nil, is asked when no other place has keys.
	ServerRole Credentials
}

// KeyDirectoryFiles are the files with the access key and the secret key in
// CredentialSources.KeyDirectory.
var KeyDirectoryFiles = [2]string{"access-key", "secret-key"} //nolint:gochecknoglobals // a constant

// FindCredentials looks for keys in APIProfile, the key files, the
// environment, the profile, the key directory and the server role, in that order. The first place
// that names keys is used; if its keys are incomplete or unusable that is an
// error and no reason to go on to the next.
func FindCredentials(s CredentialSources) (Credentials, error) {
	switch {
	case s.APIProfile != "":
		return newProfileCredentials(s.ProfileFile, s.APIProfile)
	case s.AccessKeyFile != "" && s.SecretKeyFile != "":
		return newKeyFileCredentials(s.AccessKeyFile, s.SecretKeyFile)
	case s.AccessKeyFile != "":
		return nil, errors.New("a file with the access key is given, but none with the secret key")
	case s.SecretKeyFile != "":
		return nil, errors.New("a file with the secret key is given, but none with the access key")
	}
	if c, err := s.environmentCredentials(); c != nil || err != nil {
		return c, err
	}
	if s.ProfileRequired || s.ProfileFile != "" {
		c, err := newProfileCredentials(s.ProfileFile, s.Profile)
		if s.ProfileRequired || !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
	}
	if c, err := s.directoryCredentials(); c != nil || err != nil {
		return c, err
	}
	if s.ServerRole != nil {
		return s.ServerRole, nil
	}
	return nil, ErrNoKeys
}

func (s CredentialSources) directoryCredentials() (Credentials, error) {
	if s.KeyDirectory == "" {
		return nil, nil //nolint:nilnil // no credentials here and no error either
	}
	var paths [2]string
	gone := 0
	for i, name := range KeyDirectoryFiles {
		paths[i] = filepath.Join(s.KeyDirectory, name)
		if _, err := os.Stat(paths[i]); errors.Is(err, fs.ErrNotExist) {
			gone++
		}
	}
	if gone == len(paths) {
		return nil, nil //nolint:nilnil // as above
	}
	return newKeyFileCredentials(paths[0], paths[1])
}

// The variables that NCP's own tools read, in their order.
var (
	accessKeyVariables = [...]string{"NCLOUD_ACCESS_KEY_ID", "NCLOUD_ACCESS_KEY"}     //nolint:gochecknoglobals // constants
	secretKeyVariables = [...]string{"NCLOUD_SECRET_ACCESS_KEY", "NCLOUD_SECRET_KEY"} //nolint:gochecknoglobals // constants
)

func (s CredentialSources) environmentCredentials() (Credentials, error) {
	lookup := s.LookupEnv
	if lookup == nil {
		return nil, nil //nolint:nilnil // no credentials here and no error either
	}
	first := func(names []string) (name, value string) {
		for _, name := range names {
			if v, _ := lookup(name); Tidy(v) != "" {
				return name, Tidy(v)
			}
		}
		return "", ""
	}
	accessKeys, secretKeys := accessKeyVariables[:], secretKeyVariables[:]
	if s.AccessKeyEnv != "" {
		accessKeys, secretKeys = []string{s.AccessKeyEnv}, []string{s.SecretKeyEnv}
	}
	accessName, access := first(accessKeys)
	secretName, secret := first(secretKeys)
	switch {
	case access == "" && secret == "":
		return nil, nil //nolint:nilnil // no credentials here and no error either
	case secret == "":
		return nil, fmt.Errorf("%s is set, but %s is not", accessName, strings.Join(secretKeys, " or "))
	case access == "":
		return nil, fmt.Errorf("%s is set, but %s is not", secretName, strings.Join(accessKeys, " or "))
	}
	keys := Keys{AccessKey: access, SecretKey: secret}
	if err := keys.check(); err != nil {
		return nil, fmt.Errorf("%s and %s: %w", accessName, secretName, err)
	}
	return StaticCredentials(keys, "environment ("+accessName+")"), nil
}

// notInKeys are signs that no key has; they tell of a variable that was not filled in, of
// an example that was copied, or of a quote that is left alone.
const notInKeys = "\"'`$<>{}\\,;"

// check finds what cannot be keys, without showing it.
func (k Keys) check() error {
	for _, key := range [...]struct{ name, value string }{{"access key", k.AccessKey}, {"secret key", k.SecretKey}} {
		if key.value == "" {
			return fmt.Errorf("the %s is empty", key.name)
		}
		if strings.ContainsFunc(key.value, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return fmt.Errorf("the %s holds a blank or a character that no key has", key.name)
		}
		if i := strings.IndexAny(key.value, notInKeys); i >= 0 {
			return fmt.Errorf("the %s holds %q, which no key has: give the key alone", key.name, key.value[i:i+1])
		}
		if strings.HasPrefix(strings.ToLower(key.value), "ncloud_") {
			return fmt.Errorf("the %s begins with the name of a variable: give the key alone", key.name)
		}
	}
	return nil
}

// StaticCredentials are keys that never change. source says where they come
// from.
func StaticCredentials(keys Keys, source string) Credentials {
	return &staticCredentials{keys: keys, source: source}
}

type staticCredentials struct {
	keys   Keys
	source string
}

func (s *staticCredentials) Keys(context.Context) (Keys, error) { return s.keys, nil }
func (s *staticCredentials) Invalidate(Keys)                    {}
func (s *staticCredentials) String() string                     { return s.source }
func (s *staticCredentials) Format(f fmt.State, _ rune)         { _, _ = fmt.Fprint(f, s.source) } // see Keys.Format
