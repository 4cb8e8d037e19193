package ncpclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The guides drift: numbers come as strings and strings as numbers. These
// types take a field in whatever form it comes, and none of them fails.

// text is a string, or the literal of anything else: an id that comes as a
// number keeps all its digits. null is empty.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	switch {
	case bytes.Equal(b, []byte("null")):
		*t = ""
	case len(b) > 1 && b[0] == '"' && bytes.IndexByte(b, '\\') < 0 && utf8.Valid(b):
		*t = text(b[1 : len(b)-1]) // nearly every string: no need to decode it twice
	case len(b) > 0 && b[0] == '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*t = text(s)
	default:
		*t = text(b)
	}
	return nil
}

// integer is a count, or unknownCount where there is none to be read.
type integer int

const unknownCount = -1

func (n *integer) UnmarshalJSON(b []byte) error {
	*n = unknownCount
	if v, err := strconv.ParseInt(strings.TrimSpace(strings.Trim(string(b), `"`)), 10, 32); err == nil && v >= 0 {
		*n = integer(v)
	}
	return nil
}

// flag is true, false or unknown.
type flag struct{ known, value bool }

func (f *flag) UnmarshalJSON(b []byte) error {
	*f = flag{}
	if v, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(strings.Trim(string(b), `"`)))); err == nil {
		*f = flag{known: true, value: v}
	}
	return nil
}

// kst is the zone of NCP's times that name none.
var kst = time.FixedZone("KST", 9*60*60) //nolint:gochecknoglobals // a constant in all but syntax

// timeLayouts are the forms of ISO 8601 that are accepted, after the blank
// between date and time has become a T. A fraction of a second is taken by
// time.Parse behind any of them.
var timeLayouts = [...]string{ //nolint:gochecknoglobals // a constant in all but syntax
	"2006-01-02T15:04:05Z07:00",
	"2006-01-02T15:04:05Z0700",
	"2006-01-02T15:04:05Z07",
	"2006-01-02T15:04:05", // KST
	"2006-01-02T15:04Z07:00",
}

// The times that can be meant: placeholders such as 0001-01-01 and 1970-01-01
// are older than NCP, and no clock is centuries off.
const (
	minYear = 2000
	maxYear = 2200
)

// ParseTime reads a time as NCP writes it: ISO 8601 with a zone as Z, +09:00,
// +0900 or +09 or without one (then it is KST), with or without a fraction, or
// a number of seconds or milliseconds since 1970. It returns the zero time for
// anything else, as a row with such a time must be survived.
func ParseTime(s string) time.Time {
	s = strings.TrimSpace(s)
	if zone := strings.IndexByte(s, '['); zone > 0 && strings.HasSuffix(s, "]") {
		s = s[:zone] // 2024-12-12T18:09:05+09:00[Asia/Seoul]
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		switch len(s) {
		case len("1733994545"):
			return plausible(time.Unix(n, 0))
		case len("1733994545705"):
			return plausible(time.UnixMilli(n))
		default:
			return time.Time{}
		}
	}
	if len(s) > 40 || len(s) < len("2006-01-02T15:04Z") {
		return time.Time{}
	}
	if s[10] == ' ' || s[10] == 't' {
		s = s[:10] + "T" + s[11:]
	}
	if last := len(s) - 1; s[last] == 'z' {
		s = s[:last] + "Z"
	}
	s = strings.Replace(s, " +", "+", 1)
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, s, kst); err == nil {
			return plausible(t)
		}
	}
	return time.Time{}
}

func plausible(t time.Time) time.Time {
	if y := t.UTC().Year(); y < minYear || y > maxYear {
		return time.Time{}
	}
	return t.UTC()
}

// maxIDBytes bounds an id: it becomes a label and part of a URL.
const maxIDBytes = 256

// UsableID says whether an id of NCP can stand in a label and in a path: it is
// printable, on one line, not too long and no step in a path.
func UsableID(id string) bool {
	return id != "" && len(id) <= maxIDBytes && id != "." && id != ".." && cleanText(id, maxIDBytes) == id
}

// decodeObject reads one JSON object from r as a stream: for each member whose
// name is in arrays, element is called at each element of its array, which may
// be null or missing; all other members are returned as they are. What follows
// the object is an error.
func decodeObject(r io.Reader, arrays map[string]func(*json.Decoder) error) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(skipBOM(r))
	if err := expect(d, json.Delim('{')); err != nil {
		return nil, err
	}
	members := make(map[string]json.RawMessage)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, unexpectedEOF(err)
		}
		name, _ := token.(string)
		element, isArray := arrays[name]
		if !isArray {
			var raw json.RawMessage
			if err := d.Decode(&raw); err != nil {
				return nil, unexpectedEOF(err)
			}
			members[name] = raw
			continue
		}
		null, err := decodeArray(d, element)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		members[name] = json.RawMessage("[]")
		if null {
			members[name] = json.RawMessage("null")
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, unexpectedEOF(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON document")
	}
	return members, nil
}

func decodeArray(d *json.Decoder, element func(*json.Decoder) error) (null bool, err error) {
	token, err := d.Token()
	switch {
	case err != nil:
		return false, unexpectedEOF(err)
	case token == nil:
		return true, nil
	case token != json.Delim('['):
		return false, fmt.Errorf("an array was expected, not %v", describeToken(token))
	}
	for d.More() {
		if err := element(d); err != nil {
			return false, unexpectedEOF(err)
		}
	}
	_, err = d.Token()
	return false, unexpectedEOF(err)
}

func expect(d *json.Decoder, want json.Delim) error {
	token, err := d.Token()
	if err != nil {
		return unexpectedEOF(err)
	}
	if token != want {
		return fmt.Errorf("a JSON object was expected, not %s", describeToken(token))
	}
	return nil
}

// describeToken names a token by its kind: what it holds is a stranger's.
func describeToken(token json.Token) string {
	switch token := token.(type) {
	case json.Delim:
		return fmt.Sprintf("%q", token.String())
	case string:
		return "a string"
	case nil:
		return "null"
	default:
		return fmt.Sprintf("a %T", token)
	}
}

// unexpectedEOF makes the end of the input an error of its own: inside a
// document it means that the rest is missing.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// skipBOM drops a byte order mark.
func skipBOM(r io.Reader) io.Reader {
	var head [len(utf8BOM)]byte
	n, err := io.ReadFull(r, head[:])
	if err == nil && string(head[:]) == utf8BOM {
		return r
	}
	return io.MultiReader(bytes.NewReader(head[:n]), r)
}
