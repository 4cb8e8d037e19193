package ncpclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// fileCredentials are keys in files that are read again when one of them
// changes, and after Invalidate.
type fileCredentials struct {
	paths  []string
	source string
	parse  func(contents []string) (Keys, error)

	// reading is a mutex that a context can end the wait for. It is held by a
	// goroutine that touches the files, which may take for ever on a file server
	// that is gone; nothing else is locked meanwhile.
	reading chan struct{}
	late    atomic.Bool // the read that goes on, if one does, takes longer than maxFileWait
	read    atomic.Pointer[readKeys]
}

type readKeys struct {
	keys  Keys
	files []os.FileInfo // as they were then; nil after Invalidate
}

const (
	maxFileWait        = time.Second // of a call, which has the last keys
	maxFirstFileWait   = 10 * time.Second
	maxCredentialsFile = 1 << 20
)

// newFileCredentials reads the files once, so that an error in one shows at the
// start.
func newFileCredentials(source string, paths []string, parse func([]string) (Keys, error)) (Credentials, error) {
	f := &fileCredentials{paths: paths, source: source, parse: parse, reading: make(chan struct{}, 1)}
	f.read.Store(&readKeys{})
	ctx, cancel := context.WithTimeout(context.Background(), maxFirstFileWait)
	defer cancel()
	if err := f.refresh(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *fileCredentials) String() string             { return f.source }
func (f *fileCredentials) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, f.source) } // see Keys.Format

func (f *fileCredentials) Invalidate(refused Keys) {
	if now := f.read.Load(); now.keys == refused {
		// If it fails, a read has just put newer keys there.
		f.read.CompareAndSwap(now, &readKeys{keys: refused})
	}
}

// Keys reads the files again if they changed. Files that cannot be read at the
// moment, as while they are being replaced, or that take too long leave the last
// keys in force.
func (f *fileCredentials) Keys(ctx context.Context) (Keys, error) {
	if !f.late.Load() || len(f.reading) == 0 {
		ctx, cancel := context.WithTimeout(ctx, maxFileWait)
		defer cancel()
		// The error comes back with the first 401 that the old keys bring.
		_ = f.refresh(ctx)
	}
	return f.read.Load().keys, nil
}

// refresh reads the files if they changed. Its time ends with ctx; a read that
// goes on then puts the keys there later.
func (f *fileCredentials) refresh(ctx context.Context) error {
	select {
	case f.reading <- struct{}{}:
		f.late.Store(false)
	case <-ctx.Done():
		return fmt.Errorf("%s: another read of it goes on: %w", f.source, ctx.Err())
	}
	done := make(chan error, 1)
	go func() {
		err := f.readIfChanged()
		<-f.reading
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	f.late.Store(errors.Is(ctx.Err(), context.DeadlineExceeded))
	return fmt.Errorf("%s: it cannot be read in time; it may be on a file server that is gone: %w", f.source, ctx.Err())
}

func (f *fileCredentials) readIfChanged() error {
	before := f.read.Load()
	if slices.EqualFunc(f.paths, before.files, isUnchanged) {
		return nil
	}
	now := readKeys{files: make([]os.FileInfo, len(f.paths))}
	contents := make([]string, len(f.paths))
	for i, path := range f.paths {
		var err error
		if contents[i], now.files[i], err = readSmallFile(path); err != nil {
			return err
		}
	}
	var err error
	if now.keys, err = f.parse(contents); err != nil {
		return fmt.Errorf("%s: %w", f.source, err)
	}
	f.read.Store(&now)
	return nil
}

func isUnchanged(path string, was os.FileInfo) bool {
	now, err := os.Stat(path)
	return err == nil && os.SameFile(now, was) && now.Size() == was.Size() && now.ModTime().Equal(was.ModTime())
}

// readSmallFile reads a file. What is none, such as a named pipe, is not even opened,
// as that may block. Links are followed.
func readSmallFile(path string) (string, os.FileInfo, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", nil, err
	case !info.Mode().IsRegular():
		return "", nil, fmt.Errorf("%s is a directory, a device, a socket or a named pipe, not a file of keys", path)
	case info.Size() > maxCredentialsFile:
		return "", nil, fmt.Errorf("%s is larger than any file of keys (%d bytes)", path, maxCredentialsFile)
	}
	b, err := os.ReadFile(path) //nolint:gosec // the path is the user's own
	return decodeText(b), info, err
}

// newKeyFileCredentials reads one value from each of two files, as Kubernetes
// mounts secrets.
func newKeyFileCredentials(accessKeyPath, secretKeyPath string) (Credentials, error) {
	return newFileCredentials("files "+accessKeyPath+" and "+secretKeyPath, []string{accessKeyPath, secretKeyPath},
		func(contents []string) (Keys, error) {
			keys := Keys{AccessKey: Tidy(contents[0]), SecretKey: Tidy(contents[1])}
			return keys, keys.check()
		})
}

const defaultProfile = "DEFAULT"

// newProfileCredentials reads the keys of a profile from a file as NCP's own
// tools write it.
func newProfileCredentials(path, profile string) (Credentials, error) {
	profile = cmp.Or(profile, defaultProfile)
	return newFileCredentials("profile "+profile+" of "+path, []string{path},
		func(contents []string) (Keys, error) { return profileKeys(contents[0], profile) })
}

func profileKeys(content, profile string) (Keys, error) {
	profiles := parseProfiles(content)
	section, ok := profiles[profile]
	if !ok {
		names := strings.Join(slices.Sorted(maps.Keys(profiles)), ", ")
		return Keys{}, fmt.Errorf("there is no profile %q; the file has: %s", profile, cleanText(cmp.Or(names, "none"), maxMessage))
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
		if section, ok := strings.CutPrefix(strings.TrimSpace(line), "["); ok {
			if name, _, ok := strings.Cut(section, "]"); ok {
				profile = strings.TrimSpace(name)
				keys := profiles[profile]
				profiles[profile] = keys // it is there even if it is empty
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
			keys.AccessKey = Tidy(value)
		case "ncloud_secret_access_key":
			keys.SecretKey = Tidy(value)
		default:
			continue
		}
		profiles[profile] = keys
	}
	return profiles
}
