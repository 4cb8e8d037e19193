package ncpclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
)

// fileCredentials are keys in files that are read again when one of them
// changes, and after Invalidate.
type fileCredentials struct {
	paths  []string
	source string
	parse  func(contents []string) (Keys, error)

	mu    sync.Mutex
	keys  Keys
	files []os.FileInfo // as they were when keys was read; nil after Invalidate
}

// newFileCredentials reads the files once, so that an error in one shows at the
// start.
func newFileCredentials(source string, paths []string, parse func([]string) (Keys, error)) (Credentials, error) {
	f := &fileCredentials{paths: paths, source: source, parse: parse}
	if err := f.read(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *fileCredentials) String() string             { return f.source }
func (f *fileCredentials) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, f.source) } // see Keys.Format

func (f *fileCredentials) Invalidate(refused Keys) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keys == refused {
		f.files = nil
	}
}

// Keys reads the files again if they changed. Files that cannot be read at the
// moment, as while they are being replaced, leave the last keys in force.
func (f *fileCredentials) Keys(context.Context) (Keys, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed() {
		// The error comes back with the first 401 that the old keys bring.
		_ = f.read()
	}
	return f.keys, nil
}

func (f *fileCredentials) changed() bool {
	if f.files == nil {
		return true
	}
	for i, path := range f.paths {
		info, err := os.Stat(path)
		if err != nil || !os.SameFile(info, f.files[i]) || info.Size() != f.files[i].Size() || !info.ModTime().Equal(f.files[i].ModTime()) {
			return true
		}
	}
	return false
}

func (f *fileCredentials) read() error {
	infos := make([]os.FileInfo, len(f.paths))
	contents := make([]string, len(f.paths))
	for i, path := range f.paths {
		var err error
		if contents[i], infos[i], err = readSmallFile(path); err != nil {
			return err
		}
	}
	keys, err := f.parse(contents)
	if err != nil {
		return err
	}
	f.keys, f.files = keys, infos
	return nil
}

// maxCredentialsFile is far more than any file of keys has.
const maxCredentialsFile = 1 << 20

func readSmallFile(path string) (string, os.FileInfo, error) {
	file, err := os.Open(path) //nolint:gosec // the path is the user's own
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return "", nil, err
	}
	if info.IsDir() {
		return "", nil, fmt.Errorf("%s is a directory, not a file of keys", path)
	}
	b, err := io.ReadAll(io.LimitReader(file, maxCredentialsFile+1))
	if err != nil {
		return "", nil, err
	}
	if len(b) > maxCredentialsFile {
		return "", nil, fmt.Errorf("%s is larger than any file of keys (%d bytes)", path, maxCredentialsFile)
	}
	return string(b), info, nil
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// newKeyFileCredentials reads one value from each of two files, as Kubernetes
// mounts secrets.
func newKeyFileCredentials(accessKeyPath, secretKeyPath string) (Credentials, error) {
	return newFileCredentials("files "+accessKeyPath+" and "+secretKeyPath, []string{accessKeyPath, secretKeyPath},
		func(contents []string) (Keys, error) {
			keys := Keys{AccessKey: trimFile(contents[0]), SecretKey: trimFile(contents[1])}
			if err := keys.check(); err != nil {
				return Keys{}, fmt.Errorf("%s and %s: %w", accessKeyPath, secretKeyPath, err)
			}
			return keys, nil
		})
}

func trimFile(s string) string { return strings.TrimSpace(strings.TrimPrefix(s, utf8BOM)) }

// defaultProfile is the section that keys without a section belong to.
const defaultProfile = "DEFAULT"

// newProfileCredentials reads the keys of a profile from a file as NCP's own
// tools write it.
func newProfileCredentials(path, profile string) (Credentials, error) {
	if profile == "" {
		profile = defaultProfile
	}
	return newFileCredentials("profile "+profile+" of "+path, []string{path},
		func(contents []string) (Keys, error) {
			keys, err := profileKeys(contents[0], profile)
			if err != nil {
				return Keys{}, fmt.Errorf("%s: %w", path, err)
			}
			return keys, nil
		})
}

func profileKeys(content, profile string) (Keys, error) {
	profiles := parseProfiles(content)
	section, ok := profiles[profile]
	if !ok {
		names := make([]string, 0, len(profiles))
		for name := range profiles {
			names = append(names, cleanText(name, maxToken))
		}
		slices.Sort(names)
		if len(names) == 0 {
			return Keys{}, fmt.Errorf("there is no profile %q; the file has none", profile)
		}
		return Keys{}, fmt.Errorf("there is no profile %q; the file has: %s", profile, strings.Join(names, ", "))
	}
	if err := section.check(); err != nil {
		return Keys{}, fmt.Errorf("profile %q (ncloud_access_key_id, ncloud_secret_access_key): %w", profile, err)
	}
	return section, nil
}

// parseProfiles reads the INI file of NCP's tools: sections in brackets, lines
// of name = value cut at the first "=" only, as secrets may hold more. Lines
// before the first section are the default profile's; all else is ignored.
func parseProfiles(content string) map[string]Keys {
	profiles := make(map[string]Keys)
	profile := defaultProfile
	for line := range strings.Lines(strings.TrimPrefix(content, utf8BOM)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			if end := strings.IndexByte(line, ']'); end > 0 {
				profile = strings.TrimSpace(line[1:end])
				if _, known := profiles[profile]; !known {
					profiles[profile] = Keys{} // it is there even if it is empty
				}
			}
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		keys := profiles[profile]
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "ncloud_access_key_id":
			keys.AccessKey = strings.TrimSpace(value)
		case "ncloud_secret_access_key":
			keys.SecretKey = strings.TrimSpace(value)
		default:
			continue
		}
		profiles[profile] = keys
	}
	return profiles
}
