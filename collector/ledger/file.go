package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/moby/sys/mountinfo"
	"github.com/rboyer/safeio"
)

// FileProblem says what is wrong with a ledger file; a FileError's errors.Is
// target.
type FileProblem string //nolint:errname // it is the problem of an error, and Is compares with it

// What can be wrong with a ledger file.
const (
	// ErrUnusable is a file that cannot be made, opened or replaced here.
	ErrUnusable FileProblem = "it cannot be used"
	ErrLocked   FileProblem = "another process has it open (another ncp_exporter?): stop that one, or give this one a file of its own"
	ErrDamaged  FileProblem = "it is damaged: put back a copy, or move it away to begin a new ledger, with counters that begin with what the histories hold"
	ErrNewer    FileProblem = "a newer ncp_exporter wrote it: run that version, or move the file away to begin a new ledger"
	ErrOwner    FileProblem = "it holds the counts of another account or site: give this one a file of its own, or move it away to begin a new ledger"
	ErrOldKind  FileProblem = "it is a bbolt database, as ncp_exporter kept its ledger before the first release, and cannot be read: move it away to begin a new ledger, with counters that begin with what the histories hold"
)

func (p FileProblem) Error() string { return string(p) }

// FileError is a ledger file that was not opened. The file is as it was.
type FileError struct {
	Path    string
	Problem FileProblem
	err     error
}

func (e *FileError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("the ledger %s: %s", e.Path, e.Problem)
	}
	return fmt.Sprintf("the ledger %s: %s (%s)", e.Path, e.Problem, e.err)
}

// Unwrap gives the problem and the cause to errors.Is.
func (e *FileError) Unwrap() []error {
	if e.err == nil {
		return []error{e.Problem}
	}
	return []error{e.Problem, e.err}
}

// fileError makes a FileError of the ledger at a path; of ErrUnusable, if the
// error names no other problem.
func fileError(path string, err error) error {
	var e *FileError
	if !errors.As(err, &e) {
		e = &FileError{Problem: ErrUnusable, err: err}
	}
	e.Path = path
	return e
}

const (
	// lockTimeout is how long another process may hold the file, as it does for
	// a moment after it was told to stop.
	lockTimeout = time.Second
	lockRetry   = 10 * time.Millisecond

	defaultMode fs.FileMode = 0o600
)

// file is a ledger on disk, locked. A new file takes the place of the old one
// at each write, so the lock is on another file beside it.
type file struct {
	path  string // links followed
	owner Owner
	lock  *flock.Flock
	info  fs.FileInfo // of the file that was read or written last; nil if there is none
	begun bool        // it was made by this process
	stale bool        // it names another owner
}

// openFile opens a ledger, or begins one where there is none.
func openFile(ctx context.Context, path string, options Options) (*file, *state, error) {
	path, found, err := locate(path)
	if err != nil {
		return nil, nil, err
	}
	if !found {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, nil, err
		}
	}
	if err := replaceable(path); err != nil {
		return nil, nil, err
	}
	f := &file{path: path, owner: options.Owner, lock: flock.New(lockPath(path))}
	if err := acquire(ctx, f.lock, f.lock.TryLockContext); err != nil {
		return nil, nil, err
	}
	s, err := f.load(options)
	if err != nil {
		_ = f.lock.Close() // the error that matters is the first
		return nil, nil, err
	}
	return f, s, nil
}

// load reads the file, or begins it.
func (f *file) load(options Options) (*state, error) {
	f.removeRemains()
	s, owner, err := readFile(f.path, options)
	if errors.Is(err, fs.ErrNotExist) {
		f.begun = true
		s = &state{since: options.Now(), accounts: make(map[string]*account)}
		return s, f.write(s, true)
	}
	if err != nil {
		return nil, err
	}
	f.stale = owner != f.owner
	f.info, err = identify(f.path)
	return s, err
}

// removeRemains removes what a process left that was killed while it wrote. Only
// the holder of the lock writes.
func (f *file) removeRemains() {
	dir, name := filepath.Split(f.path)
	entries, _ := os.ReadDir(dir) // remains do no harm but for their size
	for _, e := range entries {
		// The name that safeio gives to a file until it is whole.
		number, ours := strings.CutPrefix(e.Name(), name+".tmp")
		if ours && number != "" && strings.Trim(number, "0123456789") == "" {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// write replaces the file by one that holds a state, as a whole or not at all.
// It leaves a file as it is that holds that state already.
func (f *file) write(s *state, changed bool) error {
	if !f.lock.Locked() {
		return errors.New("it is closed")
	}
	mode := defaultMode
	if f.info != nil {
		now, err := identify(f.path)
		switch {
		case err != nil:
			return err
		case !os.SameFile(now, f.info):
			return errors.New("another file has taken its place")
		case !changed && !f.stale && now.Size() == f.info.Size() && now.ModTime().Equal(f.info.ModTime()):
			return nil
		}
		mode = now.Mode().Perm()
	}
	out, err := safeio.OpenFile(f.path, mode)
	if err != nil {
		return explain(f.path, err)
	}
	defer func() { _ = out.Close() }() // removes what was not committed
	if err := writeSnapshot(out, f.owner, s); err != nil {
		return err
	}
	err = explain(f.path, out.Commit())
	// Also a Commit that failed may have put the new file in place.
	if now, lost := identify(f.path); lost == nil {
		f.info = now
	}
	f.stale = f.stale && err != nil
	return err
}

func (f *file) close() error { return f.lock.Close() }

// Probe says what Open would say of a file, and whether there is one. It makes
// no ledger, changes none and keeps none locked; while it reads one, an Open
// waits for it. Of the options it needs the owner and its earlier name.
func Probe(ctx context.Context, path string, options Options) (found bool, err error) {
	found, err = probe(ctx, path, options)
	if err != nil {
		return found, fileError(path, err)
	}
	return found, nil
}

func probe(ctx context.Context, path string, options Options) (bool, error) {
	path, found, err := locate(path)
	if err != nil {
		return found, err
	}
	if err := replaceable(path); err != nil {
		return found, err
	}
	// Unlike Open it makes no lock file: where there is none, nobody has a lock.
	lock := flock.New(lockPath(path), flock.SetFlag(os.O_RDONLY))
	if err := acquire(ctx, lock, lock.TryRLockContext); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	defer func() { _ = lock.Close() }() // it was only read
	if !found {
		return false, nil
	}
	_, _, err = readFile(path, options)
	return true, err
}

// locate finds the file that a path leads to, for a file that takes the place of
// a link would leave the old one where it is.
func locate(path string) (target string, found bool, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(path); err == nil {
			return path, false, errors.New("it is a link that leads nowhere")
		}
		return path, false, nil
	case err != nil:
		return path, false, err
	}
	if err := wantRegular(info); err != nil {
		return path, true, err
	}
	target, err = filepath.EvalSymlinks(path)
	return target, true, err
}

// wantRegular refuses what is no file with contents: to open a pipe could last
// for ever.
func wantRegular(info fs.FileInfo) error {
	switch {
	case info.IsDir():
		return errors.New("it is a directory")
	case !info.Mode().IsRegular():
		return errors.New("it is no regular file")
	}
	return nil
}

func lockPath(path string) string { return path + ".lock" }

// acquire waits for a lock, for as long as a process needs to end.
func acquire(ctx context.Context, lock *flock.Flock, try func(context.Context, time.Duration) (bool, error)) error {
	if info, err := os.Stat(lock.Path()); err == nil {
		if err := wantRegular(info); err != nil {
			return fmt.Errorf("its lock file %s: %w", lock.Path(), err)
		}
	}
	limited, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	_, err := try(limited, lockRetry)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return &FileError{Problem: ErrLocked}
	case err != nil:
		return fmt.Errorf("its lock file: %w", err)
	}
	return nil
}

// replaceable says whether a new file could be made beside a file and take its
// place. The directory is made with its parents at a start, where it is not
// there yet. Rights and read-only file systems have too many rules to be
// guessed, so it makes a file, and takes it away.
func replaceable(path string) error {
	dir, err := existing(filepath.Dir(path))
	if err != nil {
		return err
	}
	made, err := os.CreateTemp(dir, ".ncp_exporter-*")
	if err != nil {
		var cause *fs.PathError // the name, which is another each time, tells nothing
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return fmt.Errorf("no file can be made in %s, where each write makes a new one: %w", dir, err)
	}
	if err := errors.Join(made.Close(), os.Remove(made.Name())); err != nil {
		return err
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	// Where mounts cannot be listed, the first write that fails says the same.
	mounts, _ := mountinfo.GetMounts(mountinfo.SingleEntryFilter(absolute))
	if len(mounts) > 0 {
		return explain(path, syscall.EBUSY)
	}
	return nil
}

// existing is the first directory on the way up that is there.
func existing(dir string) (string, error) {
	for {
		_, err := os.Stat(dir)
		parent := filepath.Dir(dir)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || parent == dir {
			return dir, err
		}
		dir = parent
	}
}

// explain says what to do about a file whose place no other file can take.
func explain(path string, err error) error {
	if errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV) {
		return fmt.Errorf("no other file can take its place, as if it were mounted by itself: mount its directory %s instead: %w", filepath.Dir(path), err)
	}
	return err
}

// readFile reads a file that this process may write, too.
func readFile(path string, options Options) (*state, Owner, error) {
	opened, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // the operator's path
	if err != nil {
		return nil, Owner{}, err
	}
	defer func() { _ = opened.Close() }() // it was only read
	info, err := opened.Stat()
	if err != nil {
		return nil, Owner{}, err
	}
	s, owner, err := readSnapshot(opened, info.Size())
	if err != nil {
		return nil, Owner{}, err
	}
	if !options.Owner.mayTake(owner, options.Formerly) {
		return nil, Owner{}, &FileError{Problem: ErrOwner, err: fmt.Errorf("%s, not %s", owner, options.Owner)}
	}
	return s, owner, nil
}

// identify tells which file is at a path.
func identify(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err == nil {
		_ = os.SameFile(info, info) // Windows looks it up when it is first compared, which may be too late
	}
	return info, err
}
