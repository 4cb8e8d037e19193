package ncpclient

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseTime(t *testing.T) {
	t.Parallel()
	want := time.Date(2024, 12, 12, 9, 9, 5, 705_000_000, time.UTC)
	whole := want.Truncate(time.Second)
	for in, want := range map[string]time.Time{
		"2024-12-12T18:09:05.705+09:00":             want, // the documented example
		"2024-12-12T09:09:05.705Z":                  want,
		"2024-12-12T09:09:05.705z":                  want,
		"2024-12-12t09:09:05.705Z":                  want,
		"2024-12-12T18:09:05.705+0900":              want,
		"2024-12-12T18:09:05.705+09":                want,
		"2024-12-12T18:09:05.705":                   want, // KST
		"2024-12-12 18:09:05.705":                   want,
		"2024-12-12 18:09:05.705 +0900":             want,
		"2024-12-12T18:09:05,705+09:00":             want,
		"2024-12-12T01:09:05.705-08:00":             want,
		"2024-12-12T18:09:05.705+09:00[Asia/Seoul]": want,
		" 2024-12-12T18:09:05.705+09:00\n":          want,
		"2024-12-12T18:09:05+09:00":                 whole,
		"2024-12-12T18:09:05":                       whole,
		"2024-12-12T09:09:05Z":                      whole,
		"2024-12-12T18:09+09:00":                    whole.Truncate(time.Minute),
		"1733994545":                                whole,
		"1733994545705":                             want,
		"2024-12-12T18:09:05.705123456+09:00":       want.Add(123_456),
		"2024-12-13T00:00:00+14:00":                 time.Date(2024, 12, 12, 10, 0, 0, 0, time.UTC),
		"2000-01-01T00:00:00Z":                      time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		"2199-12-31T23:59:59Z":                      time.Date(2199, 12, 31, 23, 59, 59, 0, time.UTC), // far ahead is the caller's to judge

		"":                              {},
		" ":                             {},
		"null":                          {},
		"-":                             {},
		"0":                             {},
		"2024":                          {},
		"2024-12-12":                    {},
		"18:09:05":                      {},
		"today":                         {},
		"2024-13-12T18:09:05+09:00":     {},
		"2024-12-12T25:09:05+09:00":     {},
		"2024-02-30T18:09:05+09:00":     {},
		"2024-12-12T18:09:05+09:00x":    {},
		"2024-12-12X18:09:05+09:00":     {},
		"0001-01-01T00:00:00Z":          {},
		"1970-01-01T00:00:00Z":          {},
		"1999-12-31T23:59:59Z":          {},
		"9999-12-31T23:59:59Z":          {},
		"12/12/2024 18:09:05":           {},
		"Thu, 12 Dec 2024 18:09:05 GMT": {},
		"173399454":                     {}, // neither seconds nor milliseconds
		"-1733994545":                   {},
		"9999999999999":                 {},
		"99999999999999999999":          {},
		"[Asia/Seoul]":                  {},
		strings.Repeat("2", 1000):       {},
		"2024-12-12T18:09:05." + strings.Repeat("7", 100): {},
	} {
		if got := ParseTime(in); !got.Equal(want) || got.IsZero() != want.IsZero() {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// Any instant, in any of the forms and zones, comes back as the same instant.
func TestParseTimeReadsWhatIsWritten(t *testing.T) {
	t.Parallel()
	from := time.Date(minYear, 1, 2, 0, 0, 0, 0, time.UTC)
	until := time.Date(maxYear, 12, 30, 0, 0, 0, 0, time.UTC)
	layouts := []struct {
		layout string
		unit   time.Duration // of the time
		zone   time.Duration // of the offset; 0: KST only
	}{
		{"2006-01-02T15:04:05.000000000Z07:00", 1, time.Minute},
		{"2006-01-02T15:04:05.999999999Z07:00", 1, time.Minute},
		{"2006-01-02T15:04:05.000Z07:00", time.Millisecond, time.Minute},
		{"2006-01-02T15:04:05.000-07:00", time.Millisecond, time.Minute},
		{"2006-01-02 15:04:05.000000Z0700", time.Microsecond, time.Minute},
		{"2006-01-02T15:04:05Z07:00", time.Second, time.Minute},
		{"2006-01-02t15:04:05-0700", time.Second, time.Minute},
		{"2006-01-02T15:04:05.0-07", 100 * time.Millisecond, time.Hour},
		{"2006-01-02T15:04Z07:00", time.Minute, time.Minute},
		{"2006-01-02T15:04:05.999", time.Millisecond, 0},
		{"2006-01-02 15:04:05", time.Second, 0},
	}
	rapid.Check(t, func(t *rapid.T) {
		form := rapid.SampledFrom(layouts).Draw(t, "layout")
		at := from.Add(time.Duration(rapid.Int64Range(0, int64(until.Sub(from))).Draw(t, "at"))).Truncate(form.unit)
		zone := kst
		if form.zone > 0 {
			minutes := rapid.IntRange(-12*60, 14*60).Draw(t, "zone")
			zone = time.FixedZone("", int((time.Duration(minutes)*time.Minute).Truncate(form.zone)/time.Second))
		}
		text := at.In(zone).Format(form.layout)
		if got := ParseTime(text); !got.Equal(at) || got.Location() != time.UTC {
			t.Fatalf("%q: %s, want %s", text, got, at)
		}
	})
}

func TestLenientFields(t *testing.T) {
	t.Parallel()
	yes, no := flag{known: true, value: true}, flag{known: true}
	for in, want := range map[string]struct {
		text    text
		integer integer
		flag    flag
	}{
		`"x"`:                   {"x", -1, flag{}},
		`""`:                    {"", -1, flag{}},
		`null`:                  {"", -1, flag{}},
		`true`:                  {"true", -1, yes},
		`false`:                 {"false", -1, no},
		`"TRUE"`:                {"TRUE", -1, yes},
		`" false "`:             {" false ", -1, no},
		`0`:                     {"0", 0, no},
		`"1"`:                   {"1", 1, yes},
		`" 45 "`:                {" 45 ", 45, flag{}},
		`-1`:                    {"-1", -1, flag{}},
		`1.5`:                   {"1.5", -1, flag{}},
		`1e3`:                   {"1e3", -1, flag{}},
		`1234567890123456789`:   {"1234567890123456789", -1, flag{}},
		`"1234567890123456789"`: {"1234567890123456789", -1, flag{}},
		`2147483647`:            {"2147483647", 2147483647, flag{}},
		`{"a":[1]}`:             {`{"a":[1]}`, -1, flag{}},
		`[]`:                    {"[]", -1, flag{}},
		`"\u0041\n"`:            {"A\n", -1, flag{}},
		`"\ud800"`:              {"\ufffd", -1, flag{}},
	} {
		var got struct {
			T text
			N integer
			F flag
		}
		got.N = 7 // what was there before does not stay
		if err := json.Unmarshal([]byte(`{"T":`+in+`,"N":`+in+`,"F":`+in+`}`), &got); err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got.T != want.text || got.N != want.integer || got.F != want.flag {
			t.Errorf("%s: %+v, want %+v", in, got, want)
		}
	}
}

func TestUsableID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"410", "c2dea79b-0000-0000-0000-c162618da17d", "a/b", "a b", "...", "한글", strings.Repeat("x", 256)} {
		if !UsableID(id) {
			t.Errorf("%q is refused", id)
		}
	}
	for _, id := range []string{"", ".", "..", " a", "a  b", "a\tb", "\x00", "\xff", "\ufffd", "\u202e", strings.Repeat("x", 257)} {
		if UsableID(id) {
			t.Errorf("%q is taken", id)
		}
	}
}

func TestDecodeObject(t *testing.T) {
	t.Parallel()
	decode := func(r io.Reader) ([]string, map[string]json.RawMessage, error) {
		var rows []string
		members, err := decodeObject(r, map[string]func(*jsontext.Decoder) error{"rows": func(d *jsontext.Decoder) error {
			raw, err := d.ReadValue()
			if err != nil {
				return err
			}
			rows = append(rows, string(raw))
			return err
		}})
		return rows, members, err
	}
	for in, want := range map[string]struct {
		rows  []string
		named string // the members, joined
	}{
		`{}`:                                   {nil, ""},
		"{\n\"a\" : 1 }\n\n":                   {nil, "a=1"},
		"\ufeff {\"a\":1}":                     {nil, "a=1"},
		`{"rows":[]}`:                          {nil, "rows=[]"},
		`{"rows":null,"a":null}`:               {nil, "a=null rows=null"},
		`{"a":{"rows":[1]},"rows":[1,{},"]"]}`: {[]string{"1", "{}", `"]"`}, `a={"rows":[1]} rows=[]`},
		`{"rows":[1],"rows":[2]}`:              {[]string{"1", "2"}, "rows=[]"},
		`{"a":1,"a":2}`:                        {nil, "a=2"},
	} {
		rows, members, err := decode(strings.NewReader(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		var named []string
		for _, name := range []string{"a", "rows"} {
			if raw, ok := members[name]; ok {
				named = append(named, name+"="+string(raw))
			}
		}
		if diff := cmp.Diff(want.rows, rows); diff != "" || strings.Join(named, " ") != want.named {
			t.Errorf("%s: %v %s", in, named, diff)
		}
	}
	for _, in := range []string{
		``, ` `, `null`, `1`, `"x"`, `[]`, `x`, `{}x`, `{}{}`, `{"a":1}]`, `{"rows":{}}`, `{"rows":"x"}`, `{"rows":1}`, `{"rows":true}`,
		`{"rows":[1 2]}`, `{"rows":[1}`, `{a:1}`, `{"a" 1}`, `{"a":1,}`, "\ufeff", "\ufeff\ufeff{}", "\xef\xbb", `{"a":` + strings.Repeat("[", 100_000),
	} {
		if _, _, err := decode(strings.NewReader(in)); err == nil {
			t.Errorf("%.40q was taken", in)
		}
	}
	// Half of a document is not the same as a document that is wrong, and no
	// half is taken for a whole.
	const whole = `{"a":{"b":[1,2]},"rows":[{"c":"d"},2,null],"e":null}`
	for i := range len(whole) {
		if _, _, err := decode(strings.NewReader(whole[:i])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", whole[:i], err)
		}
	}
	broken := errors.New("broken")
	for i := range len(whole) {
		if _, _, err := decode(io.MultiReader(strings.NewReader(whole[:i]), failing{broken})); !errors.Is(err, broken) {
			t.Errorf("%s, then an error: %v", whole[:i], err)
		}
	}
}

// What is wrong with a document is said without a word of it.
func TestDecodeErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		`{"s3cret":{"s3cret":s3cret}}`, `{"rows":[{"s3cret":[s3cret]}]}`, `{"rows":[{"issuer":"\ud800s3cret\x"}]}`, `{"rows":["s3cret":1]}`,
		`{"rows":"s3cret"}`, `"s3cret"`, `s3cret`, `{} s3cret`, `{"s3cret`, `{"rows":[{"s3cret":{"s3cret`,
	} {
		row := decodeCredentials()
		_, err := decodeObject(strings.NewReader(in), map[string]func(*jsontext.Decoder) error{"rows": func(d *jsontext.Decoder) error {
			return row(d, newRowBudget(10), &Page[Credential]{})
		}})
		if err == nil || strings.Contains(err.Error(), "s3") {
			t.Errorf("%s: %v", in, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
