package ncpclient

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// text is a member in whatever form it comes, as the guides drift: a string, or the
// literal of anything else, so that an id that comes as a number keeps all its
// digits. null is empty.
type text string

func (t *text) set(b jsontext.Value) {
	content := b // nearly always the text is a part of the value
	switch {
	case string(b) == "null":
		content = nil
	case len(b) > maxText || b[0] == '"' && (bytes.IndexByte(b, '\\') >= 0 || !utf8.Valid(b)):
		*t = text(cutText(b, unquote(b)))
		return
	case b[0] == '"':
		content = b[1 : len(b)-1]
	}
	if string(content) != string(*t) { // no copy of what the row before had as well
		*t = text(content)
	}
}

// unquote is what a text makes of a value, in its whole length.
func unquote(b jsontext.Value) (s string) {
	switch {
	case string(b) == "null":
		return ""
	case bytes.HasPrefix(b, []byte(`"`)):
		_ = json.Unmarshal(b, &s) // it is valid
		return s
	default:
		return string(b)
	}
}

const unknownCount = -1

// parseCount is a number of rows, or unknownCount.
func parseCount(s string) int {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
	if err != nil || n < 0 {
		return unknownCount
	}
	return int(n)
}

// parseFlag is true, false, or nil for anything else.
func parseFlag(s string) *bool {
	value, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(s)))
	if err != nil {
		return nil
	}
	return &value
}

// maxIDBytes bounds an id: it becomes a label and part of a URL.
const maxIDBytes = 256

// UsableID says whether an id of NCP can stand in a label and in a path: it is
// printable, on one line, not too long and no step in a path.
func UsableID(id string) bool {
	return id != "" && len(id) <= maxIDBytes && id != "." && id != ".." && cleanText(id, maxIDBytes) == id
}

// What an answer may take of memory, which its size on the wire says little of.
//
// maxRowText bounds the text of an answer: so many bytes for each row that it may
// have. The rows that it does have may each be far longer.
const maxRowText = 200

// tooLarge is an answer that cannot be right.
func tooLarge(format string, args ...any) *Error {
	return &Error{Reason: ErrTooLarge, err: fmt.Errorf(format, args...)}
}

// rowBudget is what the rows of an answer may still take.
type rowBudget struct {
	most, rows, text int
	// anyField says whether any of them had a field that is read.
	anyField bool
}

func newRowBudget(rows int) *rowBudget {
	return &rowBudget{most: rows, rows: rows, text: rows * maxRowText}
}

// take counts a row with so many bytes of text.
func (b *rowBudget) take(text int) error {
	b.rows--
	b.text -= text
	switch {
	case b.rows < 0:
		return tooLarge("it has more than %d rows", b.most)
	case b.text < 0:
		return tooLarge("the text of its rows is longer than %d KiB", b.most*maxRowText>>10)
	}
	return nil
}

// decodeDocument calls read for the one JSON value of r, as a stream. Anything
// behind that value is an error.
func decodeDocument(r io.Reader, read func(*jsontext.Decoder) error) (err error) {
	body := &cutReader{source: skipBOM(r)}
	defer func() {
		if err != nil && body.err != nil {
			err = body.err // and not what the JSON looked like without the rest
		}
	}()
	// As lenient as encoding/json: the last of two members with one name counts,
	// and what is no UTF-8 becomes U+FFFD.
	d := jsontext.NewDecoder(body, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	body.consumed, body.unread = d.InputOffset, d.UnreadBuffer
	if err := read(d); err != nil {
		return syntaxError(err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON document")
	}
	return nil
}

// decodeObject reads one JSON object with its list, which may be null or missing.
// It returns the list, as [] or null, the members of these names, and those of an
// error envelope.
func decodeObject(r io.Reader, list string, element func(*jsontext.Decoder) error, names ...string) (m members, err error) {
	err = decodeDocument(r, func(d *jsontext.Decoder) (err error) {
		m, err = decodeMembers(d, list, element, names)
		return err
	})
	return m, err
}

// decodeList reads a bare array, which may be null, or, as the guides drift, an
// object that has it as its content. An object without one is an error envelope.
func decodeList(resp *http.Response, r io.Reader, element func(*jsontext.Decoder) error) error {
	return decodeDocument(r, func(d *jsontext.Decoder) error {
		if d.PeekKind() != '{' {
			_, err := decodeArray(d, element)
			return err
		}
		m, err := decodeMembers(d, "content", element, nil)
		if err != nil {
			return err
		}
		if _, ok := m["content"]; !ok {
			return refusal(resp, m, errors.New("the answer is not a list"))
		}
		return checkEnvelope(resp, m, false)
	})
}

func decodeMembers(d *jsontext.Decoder, list string, element func(*jsontext.Decoder) error, names []string) (members, error) {
	token, err := d.ReadToken()
	switch {
	case err != nil:
		return nil, err
	case token.Kind() != '{':
		return nil, fmt.Errorf("a JSON object was expected, not %q", token.Kind())
	}
	m := make(members)
	for d.PeekKind() != '}' {
		token, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		name := token.String()
		switch {
		case name == list:
			if m[name], err = decodeArray(d, element); err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
		case slices.Contains(names, name) || isEnvelopeMember(name, d.PeekKind()):
			m[name], err = decodeMember(d)
		default:
			err = d.SkipValue()
		}
		if err != nil {
			return nil, err
		}
	}
	_, err = d.ReadToken()
	return m, err
}

// decodeMember is a value as it came; of a long string it is the beginning.
func decodeMember(d *jsontext.Decoder) (json.RawMessage, error) {
	raw, err := d.ReadValue()
	if err != nil || raw.Kind() != '"' || len(raw) <= maxText {
		return json.RawMessage(raw.Clone()), err
	}
	return json.Marshal(cutText(raw, unquote(raw)))
}

// decodeArray reads an array and leaves [] of it, or null.
func decodeArray(d *jsontext.Decoder, element func(*jsontext.Decoder) error) (json.RawMessage, error) {
	token, err := d.ReadToken()
	switch {
	case err != nil:
		return nil, err
	case token.Kind() == 'n':
		return json.RawMessage("null"), nil
	case token.Kind() != '[':
		return nil, fmt.Errorf("an array was expected, not %q", token.Kind())
	}
	for d.PeekKind() != ']' {
		if err := element(d); err != nil {
			return nil, err
		}
	}
	_, err = d.ReadToken()
	return json.RawMessage("[]"), err
}

// field is a member of a row that is read. All others are skipped without a copy.
type field struct {
	name string
	into interface{ set(value jsontext.Value) }
}

// decodeRow reads one element of an array into fields; those that it does not
// have are set as if they were null. A row that is no object has no field: it has
// no id and no time, so it is not counted, and it hides no other row. The length of
// what was read is taken from left.
func decodeRow(d *jsontext.Decoder, fields []field, left *rowBudget) error {
	seen, length, err := decodeFields(d, fields)
	if err != nil {
		return err
	}
	if err := left.take(length); err != nil {
		return err
	}
	left.anyField = left.anyField || seen != 0
	for i, f := range fields {
		if seen&(1<<i) == 0 {
			f.into.set(jsontext.Value("null"))
		}
	}
	return nil
}

// decodeFields returns a bit for each field that the row has, and their length.
func decodeFields(d *jsontext.Decoder, fields []field) (seen uint, length int, err error) {
	if d.PeekKind() != '{' {
		return 0, 0, d.SkipValue()
	}
	if _, err := d.ReadToken(); err != nil {
		return 0, 0, err
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadValue()
		if err != nil {
			return 0, 0, err
		}
		i := find(fields, name)
		if i < 0 {
			if err := d.SkipValue(); err != nil {
				return 0, 0, err
			}
			continue
		}
		value, err := d.ReadValue()
		if err != nil {
			return 0, 0, err
		}
		fields[i].into.set(value)
		seen |= 1 << i
		if _, reused := fields[i].into.(*held); !reused { // it takes no more room with each row
			length += min(len(value), maxText)
		}
	}
	_, err = d.ReadToken()
	return seen, length, err
}

// find is the index of the field with a name, which is a JSON string; -1 if
// there is none. As with encoding/json upper and lower case are the same.
func find(fields []field, quoted jsontext.Value) int {
	name := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name = []byte(unquote(quoted))
	}
	return slices.IndexFunc(fields, func(f field) bool {
		return string(name) == f.name || bytes.EqualFold(name, []byte(f.name))
	})
}

// syntaxError makes the end of the input an error of its own: inside a document
// it means that the rest is missing. Of other errors only the place is kept:
// jsontext quotes the document, which may repeat the keys that were sent.
func syntaxError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return io.ErrUnexpectedEOF
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return fmt.Errorf("no valid JSON after byte %d", syntax.ByteOffset)
	}
	return err
}

// skipBOM drops a byte order mark.
func skipBOM(r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	if head, _ := b.Peek(len(utf8BOM)); string(head) == utf8BOM { // an error comes again
		_, _ = b.Discard(len(utf8BOM))
	}
	return b
}
