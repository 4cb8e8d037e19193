package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// tree is the tree of pages of a bbolt file. bbolt trusts its pages: a damaged
// one makes it panic, in goroutines of its own too, or write where it should
// not. So all that it will follow is checked before it opens a file to write.
//
// A page has a head (id 8 bytes, kind 2, count 2, overflow 4), then count
// elements of 16 bytes, then their keys and values; numbers are in the order of
// the machine. See bbolt's internal/common/page.go.
type tree struct {
	file     io.ReaderAt
	pageSize uint64
	pages    uint64 // of the file
	used     map[uint64]bool
}

const (
	pageHead    = 16
	elementSize = 16

	branchPage = 0x01
	leafPage   = 0x02

	bucketElement = 0x01 // a leaf's element that is a bucket
	bucketHead    = 16   // its root page, and a sequence
)

var errTree = errors.New("its pages do not fit together")

// check checks all pages under a root. Below other pages the first key is
// first, and all keys are before limit; both are nil for the root of a bucket.
func (t *tree) check(id uint64, first, limit []byte) error {
	head := make([]byte, pageHead)
	if id < 2 || id >= t.pages {
		return fmt.Errorf("%w: there is no page %d", errTree, id)
	}
	if err := t.read(id, head); err != nil {
		return err
	}
	span := 1 + uint64(binary.NativeEndian.Uint32(head[12:]))
	if binary.NativeEndian.Uint64(head) != id || span > t.pages-id {
		return fmt.Errorf("%w: page %d is another", errTree, id)
	}
	for i := id; i < id+span; i++ {
		if t.used[i] {
			return fmt.Errorf("%w: page %d is used twice", errTree, i)
		}
		t.used[i] = true
	}
	page := make([]byte, span*t.pageSize)
	if err := t.read(id, page); err != nil {
		return err
	}
	if err := t.checkPage(page, first, limit); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (t *tree) read(id uint64, b []byte) error {
	_, err := t.file.ReadAt(b, int64(id*t.pageSize)) //nolint:gosec // id is a page of the file
	return err
}

// element is an element of a page: a key with its value or, if child is not 0,
// with the page where the keys from it on are.
type element struct {
	key, value []byte
	bucket     bool
	child      uint64
}

func (t *tree) checkPage(page, first, limit []byte) error {
	elements, err := elementsOf(page)
	if err != nil {
		return err
	}
	for i, e := range elements {
		switch {
		case i == 0 && first != nil && !bytes.Equal(first, e.key),
			i > 0 && bytes.Compare(elements[i-1].key, e.key) >= 0,
			limit != nil && bytes.Compare(e.key, limit) >= 0:
			return fmt.Errorf("%w: its keys are not in order", errTree)
		}
	}
	if len(elements) == 0 && first != nil {
		return fmt.Errorf("%w: it is empty", errTree)
	}
	for i, e := range elements {
		behind := limit
		if i+1 < len(elements) {
			behind = elements[i+1].key
		}
		switch {
		case e.child != 0:
			err = t.check(e.child, e.key, behind)
		case e.bucket:
			err = t.checkBucket(e.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkBucket checks a bucket, whose page is in its own value if it is small.
func (t *tree) checkBucket(value []byte) error {
	if len(value) < bucketHead {
		return fmt.Errorf("%w: a bucket is cut off", errTree)
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return t.check(root, nil, nil)
	}
	return t.checkPage(value[bucketHead:], nil, nil)
}

func elementsOf(page []byte) ([]element, error) {
	if len(page) < pageHead {
		return nil, fmt.Errorf("%w: it is cut off", errTree)
	}
	kind, count := binary.NativeEndian.Uint16(page[8:]), binary.NativeEndian.Uint16(page[10:])
	if kind != leafPage && (kind != branchPage || count == 0) {
		return nil, fmt.Errorf("%w: it is of no known kind", errTree)
	}
	elements := make([]element, count)
	for i := range elements {
		head := pageHead + i*elementSize
		if head+elementSize > len(page) {
			return nil, fmt.Errorf("%w: it is cut off", errTree)
		}
		number := func(at int) uint64 { return uint64(binary.NativeEndian.Uint32(page[head+at:])) }
		e := &elements[i]
		var begin, keySize, valueSize uint64
		if kind == branchPage {
			begin, keySize = number(0), number(4)
			if e.child = binary.NativeEndian.Uint64(page[head+8:]); e.child == 0 {
				return nil, fmt.Errorf("%w: a branch leads nowhere", errTree)
			}
		} else {
			e.bucket = number(0) == bucketElement
			begin, keySize, valueSize = number(4), number(8), number(12)
		}
		rest := page[head:]
		if keySize == 0 || begin+keySize+valueSize > uint64(len(rest)) {
			return nil, fmt.Errorf("%w: an element reaches beyond it", errTree)
		}
		e.key, e.value = rest[begin:begin+keySize], rest[begin+keySize:begin+keySize+valueSize]
	}
	return elements, nil
}
