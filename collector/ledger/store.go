package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// schema is the version of the file's layout.
const schema = 1

// The buckets of the file, and the keys of the first.
const (
	bucketMeta     = "ncp_exporter"
	bucketAccounts = "subjects"
	bucketStatuses = "certificates"

	keySchema   = "schema"
	keySite     = "site"
	keySince    = "since"
	keySum      = "sum"
	keyStatuses = "statuses"
)

// FileProblem says what is wrong with a ledger file; a FileError's errors.Is
// target.
type FileProblem string //nolint:errname // it is the problem of an error, and Is compares with it

// What can be wrong with a ledger file.
const (
	// ErrUnusable is a file that cannot be made, opened or written here.
	ErrUnusable FileProblem = "it cannot be used"
	ErrLocked   FileProblem = "another process has it open (another ncp_exporter?): stop that one, or give this one a file of its own"
	ErrDamaged  FileProblem = "it is damaged: put back a copy, or move it away to begin a new ledger, with counters that begin with what the histories hold"
	ErrNewer    FileProblem = "a newer ncp_exporter wrote it: run that version, or move the file away to begin a new ledger"
	ErrSite     FileProblem = "it holds the counts of another site: give this one a file of its own, or move it away to begin a new ledger"
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

// lockTimeout is how long another process may hold the file, as it does for a
// moment after it was told to stop.
const lockTimeout = time.Second

// growBy is how much larger than it has to be the file grows, and fillPercent
// how full its pages are made: bbolt's own values let a small file be three
// times as large.
const (
	growBy      = 64 << 10
	fillPercent = 0.9
)

// file is a ledger on disk.
type file struct {
	db    *bolt.DB
	path  string
	info  os.FileInfo // of the file that is open
	begun bool        // it was made by this process
}

// openFile opens a ledger, or begins one where there is none.
func openFile(path, site string, now time.Time) (*file, error) {
	unusable := func(err error) error { return &FileError{Path: path, Problem: ErrUnusable, err: err} }
	f := &file{path: path}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path, site, now); err != nil {
			return nil, unusable(err)
		}
		f.begun = true
		info, err = os.Stat(path)
	}
	if err != nil {
		return nil, unusable(err)
	}
	if err := inspectFile(path, site, info); err != nil {
		return nil, err
	}
	if f.db, err = bolt.Open(path, 0o600, boltOptions()); err != nil {
		return nil, openError(path, err)
	}
	f.db.AllocSize = growBy
	if f.info, err = os.Stat(path); err != nil {
		_ = f.db.Close() // the error that matters is the first
		return nil, unusable(err)
	}
	return f, nil
}

func boltOptions() *bolt.Options {
	return &bolt.Options{
		Timeout: lockTimeout,
		// The list of free pages is made from the tree, which was inspected, and
		// not taken from a page that nothing vouches for.
		NoFreelistSync: true,
		FreelistType:   bolt.FreelistMapType,
		NoStatistics:   true,
	}
}

// create makes a new ledger under another name and gives it its own when it is
// whole: half a file, as a full disk leaves it, would stop every start to come.
func create(path, site string, now time.Time) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	half := path + ".new"
	if err := os.Remove(half); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer func() { _ = os.Remove(half) }() // it has another name by now, or is of no use
	db, err := bolt.Open(half, 0o600, boltOptions())
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error { return begin(tx, site, now) })
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link never takes the place of a file that somebody else
	// has made meanwhile; but not every file system has links.
	if err := os.Link(half, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return os.Rename(half, path)
	}
	return nil
}

// check finds out whether the file is still the one at its path.
func (f *file) check() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	if !os.SameFile(info, f.info) {
		return errors.New("another file has taken its place")
	}
	return nil
}

// begin writes the frame of a new ledger.
func begin(tx *bolt.Tx, site string, now time.Time) error {
	meta, err := tx.CreateBucket([]byte(bucketMeta))
	if err != nil {
		return err
	}
	for _, pair := range [][2]string{{keySchema, strconv.Itoa(schema)}, {keySite, site}, {keySince, now.UTC().Format(time.RFC3339Nano)}} {
		if err := meta.Put([]byte(pair[0]), []byte(pair[1])); err != nil {
			return err
		}
	}
	for _, name := range []string{bucketAccounts, bucketStatuses} {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	return putNewSum(tx)
}

// putNewSum makes the sum from all that is there.
func putNewSum(tx *bolt.Tx) error {
	all, err := sum(tx)
	if err != nil {
		return err
	}
	return putSum(tx, all)
}

// sum is a checksum over all that a file holds: that every record is right does
// not say that none is missing. It is the sum of the checksums of the records, so
// that a write needs those alone that it changes.
func sum(tx *bolt.Tx) (uint64, error) {
	var all uint64
	for _, name := range []string{bucketMeta, bucketAccounts, bucketStatuses} {
		bucket := tx.Bucket([]byte(name))
		if bucket == nil {
			return 0, errors.New("a part of it is missing")
		}
		err := bucket.ForEach(func(key, value []byte) error {
			if name != bucketMeta || string(key) != keySum {
				all += weight(name, key, value)
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return all, nil
}

// weight is the part of a record in the sum; 0 for one that is not there.
func weight(bucket string, key, value []byte) uint64 {
	if value == nil {
		return 0
	}
	return uint64(checksum(bucket+"/"+string(key), value)) + 1
}

func putSum(tx *bolt.Tx, all uint64) error {
	return tx.Bucket([]byte(bucketMeta)).Put([]byte(keySum), binary.BigEndian.AppendUint64(nil, all))
}

// put writes a record, or deletes it if value is nil, and returns by how much
// that changes the sum.
func put(tx *bolt.Tx, bucket, key string, value []byte) (uint64, error) {
	b, k := tx.Bucket([]byte(bucket)), []byte(key)
	b.FillPercent = fillPercent
	changed := weight(bucket, k, value) - weight(bucket, k, b.Get(k))
	if value == nil {
		return changed, b.Delete(k)
	}
	return changed, b.Put(k, value)
}

func openError(path string, err error) error {
	var refused syscall.Errno
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return &FileError{Path: path, Problem: ErrLocked}
	case errors.As(err, &refused):
		return &FileError{Path: path, Problem: ErrUnusable, err: err}
	default: // not the system, but what the file holds
		return &FileError{Path: path, Problem: ErrDamaged, err: err}
	}
}

// inspectFile says what is wrong with the file that is found at the path of a
// ledger.
func inspectFile(path, site string, info os.FileInfo) error {
	switch {
	case info.IsDir():
		return &FileError{Path: path, Problem: ErrUnusable, err: errors.New("it is a directory")}
	case info.Mode().IsRegular() && info.Size() == 0:
		return &FileError{Path: path, Problem: ErrDamaged, err: errors.New("it is empty")}
	}
	return inspect(path, site, info.Size())
}

// inspect reads all of an existing file without a right to write it, so that
// one which is refused stays as it was. A damaged file makes bbolt panic, or
// fault on a page that is not there.
func inspect(path, site string, size int64) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var (
		db   *bolt.DB
		file *os.File
	)
	defer func() {
		if p := recover(); p != nil {
			err = &FileError{Path: path, Problem: ErrDamaged, err: fmt.Errorf("%v", p)}
		}
		if db != nil {
			_ = db.Close() // only read
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{
		ReadOnly: true, Timeout: lockTimeout, NoStatistics: true,
		OpenFile: func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
			file, err = os.OpenFile(name, flag, mode) //nolint:gosec // the operator's path
			return file, err
		},
	})
	if err != nil {
		return openError(path, err)
	}
	return db.View(func(tx *bolt.Tx) error {
		if tx.Size() > size {
			return &FileError{Path: path, Problem: ErrDamaged, err: fmt.Errorf("%d of its %d bytes are missing", tx.Size()-size, tx.Size())}
		}
		damaged := func(err error) error { return &FileError{Path: path, Problem: ErrDamaged, err: err} }
		pageSize := int64(db.Info().PageSize)
		pages := &tree{file: file, pageSize: uint64(pageSize), pages: uint64(tx.Size() / pageSize), used: make(map[uint64]bool)} //nolint:gosec // neither is negative
		if err := pages.check(uint64(tx.Cursor().Bucket().RootPage()), nil, nil); err != nil {
			return damaged(err)
		}
		if problem := frameProblem(tx, site); problem != nil {
			problem.Path = path
			return problem
		}
		if _, err := readAll(tx); err != nil {
			return damaged(err)
		}
		return nil
	})
}

// frameProblem checks what a file says of itself.
func frameProblem(tx *bolt.Tx, site string) *FileError {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil {
		return &FileError{Problem: ErrDamaged, err: errors.New("it is no ledger of ncp_exporter")}
	}
	version, err := strconv.Atoi(string(meta.Get([]byte(keySchema))))
	switch {
	case err != nil || version < 1:
		return &FileError{Problem: ErrDamaged, err: errors.New("its schema version cannot be read")}
	case version > schema:
		return &FileError{Problem: ErrNewer, err: fmt.Errorf("schema %d, this one knows up to %d", version, schema)}
	}
	switch now, err := sum(tx); {
	case err != nil:
		return &FileError{Problem: ErrDamaged, err: err}
	case !bytes.Equal(binary.BigEndian.AppendUint64(nil, now), meta.Get([]byte(keySum))):
		return &FileError{Problem: ErrDamaged, err: errors.New("its checksum is wrong")}
	}
	if written := string(meta.Get([]byte(keySite))); written != site {
		return &FileError{Problem: ErrSite, err: fmt.Errorf("%s, not %s", written, site)}
	}
	return nil
}

// readAll reads everything, and checks every record.
func readAll(tx *bolt.Tx) (contents, error) {
	all := contents{accounts: make(map[string]account)}
	var err error
	all.since, err = time.Parse(time.RFC3339Nano, string(tx.Bucket([]byte(bucketMeta)).Get([]byte(keySince))))
	if err != nil {
		return all, errors.New("the time at which it was begun cannot be read")
	}
	accounts, changes := tx.Bucket([]byte(bucketAccounts)), tx.Bucket([]byte(bucketStatuses))
	if accounts == nil || changes == nil {
		return all, errors.New("a part of it is missing")
	}
	err = accounts.ForEach(func(key, record []byte) error {
		a, err := decodeAccount(string(key), record)
		if err != nil {
			return fmt.Errorf("subject %q: %w", key, err)
		}
		all.accounts[string(key)] = a
		return nil
	})
	if err != nil {
		return all, err
	}
	return all, changes.ForEach(func(key, record []byte) error {
		all.statuses, err = decodeStatuses(string(key), record)
		if err != nil {
			return fmt.Errorf("certificates: %w", err)
		}
		return nil
	})
}

func (f *file) load() (contents, error) {
	var all contents
	err := f.db.View(func(tx *bolt.Tx) (err error) {
		all, err = readAll(tx)
		return err
	})
	return all, err
}

func (f *file) write(c change) error {
	if err := f.check(); err != nil || c.empty() {
		return err
	}
	return f.db.Update(func(tx *bolt.Tx) error {
		all := binary.BigEndian.Uint64(tx.Bucket([]byte(bucketMeta)).Get([]byte(keySum)))
		for id, a := range c.accounts {
			var record []byte
			if a != nil {
				record = encodeAccount(id, a)
			}
			changed, err := put(tx, bucketAccounts, id, record)
			if err != nil {
				return err
			}
			all += changed
		}
		if c.statuses != nil {
			changed, err := put(tx, bucketStatuses, keyStatuses, encodeStatuses(keyStatuses, c.statuses))
			if err != nil {
				return err
			}
			all += changed
		}
		return putSum(tx, all)
	})
}

func (f *file) close() error { return f.db.Close() }
