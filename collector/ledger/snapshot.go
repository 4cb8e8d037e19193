package ledger

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// A ledger's file is a snapshot of all that is counted, in lines of JSON:
//
//	{"format":"ncp_exporter ledger","version":2,"owner":{...},"since":"..."}
//	{"certificates":{...}}
//	{"subject":"..."}    one for each subject, in the order of their ids
//	{"sha256":"..."}     of all bytes before this line
//
// A snapshot that is read must be, to the byte, the one that would be written. Version
// 1 is the same without the certificates of failures.
const (
	snapshotFormat  = "ncp_exporter ledger"
	snapshotVersion = 2

	// maxHeader is more than a header ever takes. It bounds what is read of a
	// file that is none of ours.
	maxHeader = 64 << 10
)

// Owner is whose logins a ledger counts: two owners never share a file.
type Owner struct {
	// Account is the name of the NCP account; empty if it has none.
	Account string `json:"account"`
	// BaseURL is where the histories come from.
	BaseURL string `json:"base_url"`
}

func (o Owner) String() string {
	if o.Account == "" {
		return o.BaseURL
	}
	return fmt.Sprintf("account %q at %s", o.Account, o.BaseURL)
}

// mayTake says whether an account goes on with the ledger of another owner: one
// that was kept before accounts had names, or under the account's earlier name.
func (o Owner) mayTake(other Owner, formerly string) bool {
	return o.BaseURL == other.BaseURL &&
		(other.Account == o.Account || other.Account == "" || other.Account == formerly)
}

type headerLine struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Owner   Owner     `json:"owner"`
	Since   time.Time `json:"since"`
}

type certificatesLine struct {
	Certificates statuses `json:"certificates"`
}

// subjectLine is read by its fields; accountEncoder writes them.
type subjectLine struct {
	Subject       string    `json:"subject"`
	Success       tally     `json:"success"`
	Failure       tally     `json:"failure"`
	Unknown       tally     `json:"unknown"`
	CountingSince time.Time `json:"counting_since,omitzero"`
	Watermark     time.Time `json:"watermark,omitzero"`
	Horizon       time.Time `json:"horizon,omitzero"`
	MissingSince  time.Time `json:"missing_since,omitzero"`
	WholeReadAt   time.Time `json:"whole_read_at,omitzero"`
	Order         string    `json:"order,omitempty"`
	Fingerprints  []byte    `json:"fingerprints,omitempty"` // see appendFingerprints
}

type tally struct {
	Count  uint64    `json:"count"`
	Newest time.Time `json:"newest,omitzero"`
	// Of the certificate of the newest row; only of failures.
	Issuer       string `json:"issuer,omitempty"`
	SerialNumber string `json:"serial_number,omitempty"`
}

// checksumLength is the length of a checksumLine.
const checksumLength = len(`{"sha256":""}`+"\n") + 2*sha256.Size

func checksumLine(sum hash.Hash) []byte {
	return fmt.Appendf(nil, "{\"sha256\":\"%x\"}\n", sum.Sum(nil))
}

func (l *subjectLine) account() (account, error) {
	fingerprints, err := parseFingerprints(l.Fingerprints)
	a := account{
		created: instantOf(l.CountingSince), watermark: instantOf(l.Watermark), horizon: instantOf(l.Horizon), missingSince: instantOf(l.MissingSince), wholeAt: instantOf(l.WholeReadAt),
		fingerprints: fingerprints, failedBy: certificateOf(l.Failure.Issuer, l.Failure.SerialNumber),
	}
	known := slices.Index(orderNames[:], l.Order)
	if known < 0 {
		return a, fmt.Errorf("its order is %q", l.Order)
	}
	a.order = order(known)
	for result, t := range map[Result]tally{Success: l.Success, Failure: l.Failure, Unknown: l.Unknown} {
		a.count[result], a.newest[result] = t.Count, instantOf(t.Newest)
	}
	return a, err
}

// accountEncoder writes subjectLines. It does so without reflection and in the
// same memory, because a scrape waits while ten thousand of them are written.
// readAccount compares what it writes with what was read, so the two cannot differ
// in a field.
type accountEncoder struct{ line, fingerprints []byte }

// encode returns a line, which is valid until the next.
func (e *accountEncoder) encode(id string, a *account) ([]byte, error) {
	b, err := jsontext.AppendQuote(append(e.line[:0], `{"subject":`...), id)
	for _, r := range []struct {
		name   string
		result Result
	}{{`,"success"`, Success}, {`,"failure"`, Failure}, {`,"unknown"`, Unknown}} {
		b = append(append(b, r.name...), `:{"count":`...)
		b = strconv.AppendUint(b, a.count[r.result], 10)
		b = appendInstant(b, `,"newest"`, a.newest[r.result])
		if r.result == Failure && a.failedBy != nil {
			b, err = appendText(b, `,"issuer":`, a.failedBy.Issuer, err)
			b, err = appendText(b, `,"serial_number":`, a.failedBy.SerialNumber, err)
		}
		b = append(b, '}')
	}
	if err != nil {
		return nil, err
	}
	b = appendInstant(b, `,"counting_since"`, a.created)
	b = appendInstant(b, `,"watermark"`, a.watermark)
	b = appendInstant(b, `,"horizon"`, a.horizon)
	b = appendInstant(b, `,"missing_since"`, a.missingSince)
	b = appendInstant(b, `,"whole_read_at"`, a.wholeAt)
	if name := orderNames[a.order]; name != "" {
		b = append(append(append(b, `,"order":"`...), name...), '"')
	}
	if len(a.fingerprints) > 0 {
		e.fingerprints = appendFingerprints(e.fingerprints[:0], a.fingerprints)
		b = append(b, `,"fingerprints":"`...)
		b = base64.StdEncoding.AppendEncode(b, e.fingerprints)
		b = append(b, '"')
	}
	b = append(b, "}\n"...)
	e.line = b
	return e.line, nil
}

// appendText adds a field, unless it is empty or there was an error before.
func appendText(b []byte, name, text string, err error) ([]byte, error) {
	if text == "" || err != nil {
		return b, err
	}
	return jsontext.AppendQuote(append(b, name...), text)
}

func appendInstant(b []byte, name string, i instant) []byte {
	if i == 0 {
		return b
	}
	b = append(append(b, name...), `:"`...)
	return append(i.time().AppendFormat(b, time.RFC3339Nano), '"')
}

// appendFingerprints writes each as the milliseconds since the one before it, a
// number of variable length, and the 6 bytes of its identity.
func appendFingerprints(b []byte, all []fingerprint) []byte {
	ago := uint32(0)
	for _, m := range all {
		b = binary.AppendUvarint(b, uint64(m.ago-ago))
		b = append(b, m.id[:]...)
		ago = m.ago
	}
	return b
}

func parseFingerprints(b []byte) ([]fingerprint, error) {
	var all []fingerprint
	ago := uint64(0)
	for len(b) > 0 {
		var m fingerprint
		since, n := binary.Uvarint(b)
		if n <= 0 || len(b)-n < len(m.id) || since > math.MaxUint32-ago {
			return nil, errors.New("its fingerprints cannot be read")
		}
		ago += since
		m.ago = uint32(ago) //nolint:gosec // it is at most MaxUint32, see above
		b = b[n+copy(m.id[:], b[n:]):]
		if len(all) > 0 && compareFingerprints(all[len(all)-1], m) > 0 {
			return nil, errors.New("its fingerprints are not in order")
		}
		all = append(all, m)
	}
	return all, nil
}

func writeLine(w io.Writer, line any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // a URL stays readable
	return encoder.Encode(line)
}

// writeSnapshot writes a snapshot piece by piece: it is never in memory whole.
func writeSnapshot(w io.Writer, owner Owner, s *state) error {
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10)
	if err := writeLines(out, owner, s); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := w.Write(checksumLine(sum))
	return err
}

func writeLines(w io.Writer, owner Owner, s *state) error {
	head := headerLine{Format: snapshotFormat, Version: snapshotVersion, Owner: owner, Since: s.since.UTC()}
	if err := writeLine(w, &head); err != nil {
		return err
	}
	if err := writeLine(w, &certificatesLine{s.statuses}); err != nil {
		return err
	}
	var encoder accountEncoder
	for _, id := range slices.Sorted(maps.Keys(s.accounts)) {
		line, err := encoder.encode(id, s.accounts[id])
		if err != nil {
			return fmt.Errorf("subject %q: %w", id, err)
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// readSnapshot reads a snapshot of so many bytes. Its error is a FileError
// without a path, or that of the reader.
func readSnapshot(r io.ReaderAt, size int64) (*state, Owner, error) {
	if err := checkHeader(r, size); err != nil {
		return nil, Owner{}, err
	}
	lines := size - int64(checksumLength)
	if err := checkSum(r, lines); err != nil {
		return nil, Owner{}, err
	}
	s, owner, err := readLines(bufio.NewReaderSize(io.NewSectionReader(r, 0, lines), 64<<10))
	if err != nil {
		return nil, Owner{}, damaged("%w", err)
	}
	return s, owner, nil
}

func damaged(format string, args ...any) error {
	return &FileError{Problem: ErrDamaged, err: fmt.Errorf(format, args...)}
}

// checkHeader finds out what kind of file it is. What it does not know in a
// header may be the next version's.
func checkHeader(r io.ReaderAt, size int64) error {
	start := make([]byte, min(size, maxHeader))
	if n, err := r.ReadAt(start, 0); n < len(start) {
		return err
	}
	line, _, whole := bytes.Cut(start, []byte("\n"))
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	err := json.Unmarshal(line, &head)
	switch {
	case size == 0:
		return damaged("it is empty")
	case isBolt(start):
		return &FileError{Problem: ErrOldKind}
	case !whole || err != nil || head.Format != snapshotFormat:
		return damaged("its first line is not that of a ledger")
	case head.Version < 1:
		return damaged("its version cannot be read")
	case head.Version > snapshotVersion:
		return &FileError{Problem: ErrNewer, err: fmt.Errorf("version %d, this one knows up to %d", head.Version, snapshotVersion)}
	case size < int64(len(line)+1+checksumLength):
		return damaged("it is cut off")
	}
	return nil
}

// isBolt knows a bbolt database by the magic number of its first page, which is
// in the byte order of the machine.
func isBolt(b []byte) bool {
	const at, magic = 16, 0xED0CDAED
	return len(b) >= at+4 && (binary.LittleEndian.Uint32(b[at:]) == magic || binary.BigEndian.Uint32(b[at:]) == magic)
}

// checkSum compares the checksum of the first bytes of a file with the line
// behind them, so that nothing else is made of bytes that are damaged.
func checkSum(r io.ReaderAt, lines int64) error {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(r, 0, lines)); err != nil {
		return err
	}
	got := make([]byte, checksumLength)
	if n, err := r.ReadAt(got, lines); n < len(got) {
		return err
	}
	switch {
	case bytes.Equal(got, checksumLine(sum)):
		return nil
	case bytes.HasPrefix(got, []byte(`{"sha256":"`)):
		return damaged("its checksum is wrong")
	default:
		return damaged("it is cut off: its last line, the checksum, is missing")
	}
}

func readLines(r *bufio.Reader) (*state, Owner, error) {
	var head headerLine
	var certificates certificatesLine
	if err := readExactly(r, &head); err != nil {
		return nil, Owner{}, fmt.Errorf("its first line: %w", err)
	}
	if err := readExactly(r, &certificates); err != nil {
		return nil, Owner{}, fmt.Errorf("its line of certificates: %w", err)
	}
	s := &state{since: head.Since, accounts: make(map[string]*account), statuses: certificates.Certificates}
	for last := ""; ; {
		id, a, err := readAccount(r)
		switch {
		case errors.Is(err, io.EOF):
			return s, head.Owner, nil
		case err != nil:
			return nil, Owner{}, fmt.Errorf("subject %q, after %q: %w", id, last, err)
		case len(s.accounts) > 0 && id <= last:
			return nil, Owner{}, fmt.Errorf("subject %q comes after %q", id, last)
		}
		s.accounts[id], last = &a, id
	}
}

// readText reads the text of a line, with its end.
func readText(r *bufio.Reader) ([]byte, error) {
	text, err := r.ReadBytes('\n')
	if errors.Is(err, io.EOF) && len(text) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return text, err
}

// readExactly reads a line that must be as it would be written.
func readExactly(r *bufio.Reader, line any) error {
	text, err := readText(r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, line); err != nil {
		return err
	}
	var again bytes.Buffer
	if err := writeLine(&again, line); err != nil {
		return err
	}
	return wantSame(again.Bytes(), text)
}

func readAccount(r *bufio.Reader) (string, account, error) {
	text, err := readText(r)
	if err != nil {
		return "", account{}, err
	}
	var line subjectLine
	if err := json.Unmarshal(text, &line); err != nil {
		return "", account{}, err
	}
	a, err := line.account()
	if err != nil {
		return line.Subject, account{}, err
	}
	again, err := new(accountEncoder).encode(line.Subject, &a)
	if err != nil {
		return line.Subject, account{}, err
	}
	return line.Subject, a, wantSame(again, text)
}

func wantSame(again, text []byte) error {
	if !bytes.Equal(again, text) {
		return errors.New("it is not as it would be written")
	}
	return nil
}
