package ncpclient

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"unicode/utf8"
)

// A value that is far too long must not hide the rows beside it, and two long
// values that differ must not become equal: rows are told apart by them. So a long
// string is cut twice. cutReader keeps it from the memory while it is read, and
// leaves the hash of all of it; cutText makes a short text of what came.
const (
	// maxValue bounds a row, a string, or anything else that must be held as a whole.
	// A string that would go beyond is cut; what is still twice as long is an error.
	maxValue = 256 << 10
	// maxPassed is how much of a string is let through once strings are cut.
	maxPassed = 8 << 10
	// maxText bounds a text that is kept, with the hash of what was cut off.
	maxText = 8 << 10
	// hashLength is that of a hash in a text: 128 bits.
	hashLength = 32
	maxStep    = 32 << 10     // of one read
	maxHeld    = 4 * maxValue // more than a decoder ever holds
)

// cutMark stands before the hash of a string, in a string that was cut.
const cutMark = `\u0000sha256:`

// cutReader is the source of a decoder. It gives what it reads, until the decoder
// has to hold more than maxValue at one time; then it cuts long strings.
type cutReader struct {
	source   io.Reader
	err      error         // the first that ended it early
	consumed func() int64  // by the decoder
	unread   func() []byte // what the decoder holds
	given    int64         // to the decoder

	cutting bool
	state   stringState
	pending []byte // cut, and not given yet
}

func (c *cutReader) Read(p []byte) (int, error) {
	held := int64(0)
	if c.consumed != nil {
		held = c.given - c.consumed()
	}
	switch {
	case held > 2*maxValue:
		c.err = tooLarge("one value of it is larger than %d KiB", 2*maxValue>>10)
		return 0, c.err
	case held > maxValue && !c.cutting:
		c.cutting = true
		c.state = stringState{sum: sha256.New()}
		c.state.cut(nil, c.unread(), maxHeld) // to know what it is in the midst of
	case held <= maxValue && !c.state.dropping && len(c.pending) == 0:
		c.cutting = false
	}
	// In small steps, so that what the decoder holds does not jump over a bound.
	n, err := c.read(p[:min(len(p), maxStep)])
	c.given += int64(n)
	if err != nil && err != io.EOF && c.err == nil { //nolint:errorlint // io.EOF is never wrapped by a Reader
		c.err = err
	}
	return n, err
}

func (c *cutReader) read(p []byte) (int, error) {
	if !c.cutting {
		return c.source.Read(p)
	}
	for len(c.pending) == 0 {
		n, err := c.source.Read(p)
		c.pending = c.state.cut(c.pending[:0], p[:n], maxPassed)
		if err != nil && len(c.pending) == 0 {
			return 0, err
		}
	}
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

// stringState says where in a JSON document a reader is: outside of strings, or in
// one.
type stringState struct {
	inString bool
	escape   int // bytes of an escape that are to come; afterBackslash: not known yet
	passed   int // bytes of the string that were let through
	dropping bool
	sum      hash.Hash // of the string
}

const afterBackslash = -1

// cut appends b to dst, less what of each string is beyond so many bytes.
func (s *stringState) cut(dst, b []byte, most int) []byte {
	for len(b) > 0 {
		if !s.inString {
			quote := bytes.IndexByte(b, '"') + 1
			if quote == 0 {
				return append(dst, b...)
			}
			dst, b = append(dst, b[:quote]...), b[quote:]
			s.inString, s.passed, s.dropping = true, 0, false
			s.sum.Reset()
			continue
		}
		n, ended := s.scan(b, most)
		_, _ = s.sum.Write(b[:n]) // never fails
		if !s.dropping {
			dst = append(dst, b[:n]...)
			s.passed += n
			s.dropping = s.passed >= most && s.escape == 0
		}
		b = b[n:]
		if !ended {
			continue
		}
		if s.dropping {
			dst = append(dst, cutMark...)
			dst = hex.AppendEncode(dst, s.sum.Sum(nil)[:hashLength/2])
		}
		dst, b = append(dst, '"'), b[1:]
		s.inString, s.dropping = false, false
	}
	return dst
}

// scan gives the number of bytes of b up to the end of the string or, if that comes
// first, up to where the rest of it is to be dropped: never within an escape.
func (s *stringState) scan(b []byte, most int) (n int, ended bool) {
	for i, c := range b {
		switch {
		case s.escape == afterBackslash && c == 'u':
			s.escape = len("1234")
		case s.escape == afterBackslash:
			s.escape = 0
		case s.escape > 0:
			s.escape--
		case c == '"':
			return i, true
		case !s.dropping && s.passed+i >= most:
			return i, false
		case c == '\\':
			s.escape = afterBackslash
		}
	}
	return len(b), false
}

// cutText makes a text of maxText bytes at most of a JSON value and the text that
// it stands for: its beginning, and a hash of all of it, which is the same whether
// cutReader has cut it before or not.
func cutText(value []byte, s string) string {
	if len(s) <= maxText {
		return s
	}
	content := value
	if value[0] == '"' {
		content = value[1 : len(value)-1]
	}
	digest := content[max(0, len(content)-hashLength):]
	if !bytes.HasSuffix(content[:len(content)-len(digest)], []byte(cutMark)) {
		sum := sha256.Sum256(content)
		digest = hex.AppendEncode(nil, sum[:hashLength/2])
	}
	const mark = "...sha256:"
	end := maxText - len(mark) - hashLength
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark + string(digest)
}
