package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"slices"
)

// Records are written as a format byte, integers and texts of variable length,
// and a checksum over all of it and the key that it is kept under.
//
// An account takes at most 100 bytes and 11 for each mark; those of a busy hour
// take 8.

const recordFormat = 1

// errRecord is a record that cannot be read.
var errRecord = errors.New("a record is damaged")

func seal(key string, b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, checksum(key, b))
}

func checksum(key string, b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // made once by the package
	return crc32.Update(crc32.Checksum([]byte(key), table), table, b)
}

// unseal checks a record and returns what is inside.
func unseal(key string, b []byte) (*fields, error) {
	if len(b) < 5 {
		return nil, fmt.Errorf("%w: too short", errRecord)
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if checksum(key, body) != sum {
		return nil, fmt.Errorf("%w: wrong checksum", errRecord)
	}
	if body[0] != recordFormat {
		return nil, fmt.Errorf("%w: unknown format %d", errRecord, body[0])
	}
	return &fields{rest: body[1:]}, nil
}

// fields reads the fields of a record one by one; the first error stays.
type fields struct {
	rest []byte
	err  error
}

func (f *fields) fail(what string) {
	if f.err == nil {
		f.err = fmt.Errorf("%w: %s", errRecord, what)
	}
	f.rest = nil
}

func (f *fields) uint() uint64 {
	v, n := binary.Uvarint(f.rest)
	if n <= 0 || n > 1 && f.rest[n-1] == 0 { // a 0 at the end is a longer form of the same
		f.fail("a number is cut off")
		return 0
	}
	f.rest = f.rest[n:]
	return v
}

func (f *fields) instant() instant {
	v, n := binary.Varint(f.rest)
	if n <= 0 || n > 1 && f.rest[n-1] == 0 {
		f.fail("a time is cut off")
		return 0
	}
	f.rest = f.rest[n:]
	return instant(v)
}

// bytes are the next n bytes; they belong to the record.
func (f *fields) bytes(n uint64) []byte {
	if n > uint64(len(f.rest)) {
		f.fail("it is cut off")
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) text() string { return string(f.bytes(f.uint())) }

func (f *fields) done() error {
	if len(f.rest) > 0 {
		f.fail("something follows it")
	}
	return f.err
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func encodeAccount(key string, a *account) []byte {
	b := make([]byte, 1, 128+markBytes*len(a.marks))
	b[0] = recordFormat
	for i := range NumResults {
		b = binary.AppendUvarint(b, a.count[i])
		b = binary.AppendVarint(b, int64(a.newest[i]))
	}
	for _, t := range []instant{a.created, a.watermark, a.line, a.gone} {
		b = binary.AppendVarint(b, int64(t))
	}
	b = binary.AppendUvarint(b, uint64(len(a.marks)))
	ago := uint32(0)
	for _, m := range a.marks {
		b = binary.AppendUvarint(b, uint64(m.ago-ago))
		b = append(b, m.id[:]...)
		ago = m.ago
	}
	return seal(key, b)
}

// The least and the most that a mark takes: its id, and its distance from the
// mark before it.
const (
	minMarkBytes = 6 + 1
	markBytes    = 6 + binary.MaxVarintLen32
)

func decodeAccount(key string, record []byte) (account, error) {
	f, err := unseal(key, record)
	if err != nil {
		return account{}, err
	}
	var a account
	for i := range NumResults {
		a.count[i] = f.uint()
		a.newest[i] = f.instant()
	}
	for _, t := range []*instant{&a.created, &a.watermark, &a.line, &a.gone} {
		*t = f.instant()
	}
	n := f.uint()
	if n > uint64(len(f.rest))/minMarkBytes {
		f.fail("marks are missing")
		n = 0
	}
	if n > 0 {
		a.marks = make([]mark, n)
	}
	ago := uint64(0)
	for i := range a.marks {
		ago += f.uint()
		id := f.bytes(uint64(len(mark{}.id)))
		if f.err != nil || ago > math.MaxUint32 {
			f.fail("a mark is older than any")
			break
		}
		a.marks[i] = mark{ago: uint32(ago), id: [6]byte(id)}
	}
	if !slices.IsSortedFunc(a.marks, compareMarks) {
		f.fail("marks are not in order")
	}
	return a, f.done()
}

func encodeStatuses(key string, s *statuses) []byte {
	b := []byte{recordFormat, 0}
	if s.last != nil {
		b[1] = 1
	}
	b = appendText(b, s.scope)
	b = binary.AppendUvarint(b, uint64(len(s.changes)))
	for _, status := range slices.Sorted(maps.Keys(s.changes)) {
		b = appendText(b, status)
		b = binary.AppendUvarint(b, s.changes[status])
	}
	b = binary.AppendUvarint(b, uint64(len(s.last)))
	for _, certificate := range slices.Sorted(maps.Keys(s.last)) {
		b = appendText(b, certificate)
		b = appendText(b, s.last[certificate])
	}
	return seal(key, b)
}

func decodeStatuses(key string, record []byte) (statuses, error) {
	f, err := unseal(key, record)
	if err != nil {
		return statuses{}, err
	}
	var s statuses
	looked := f.bytes(1)
	s.scope = f.text()
	if n := f.uint(); n > 0 {
		s.changes = make(map[string]uint64)
		for range min(n, uint64(len(f.rest))) {
			status := f.text()
			s.changes[status] = f.uint()
		}
	}
	if len(looked) == 1 && looked[0] == 1 {
		s.last = make(map[string]string)
	}
	for range min(f.uint(), uint64(len(f.rest))) {
		certificate := f.text()
		status := f.text()
		if s.last == nil {
			f.fail("certificates before the first look")
			break
		}
		s.last[certificate] = status
	}
	if f.err == nil && !bytes.Equal(encodeStatuses(key, &s), record) {
		f.fail("it is not as it is written")
	}
	return s, f.done()
}
