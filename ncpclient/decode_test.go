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
)

func TestLenientFields(t *testing.T) {
	t.Parallel()
	yes, no := ptr(true), ptr(false)
	for in, want := range map[string]struct {
		text  text
		count int
		flag  *bool
	}{
		`"x"`:                   {"x", -1, nil},
		`""`:                    {"", -1, nil},
		`null`:                  {"", -1, nil},
		`true`:                  {"true", -1, yes},
		`false`:                 {"false", -1, no},
		`"TRUE"`:                {"TRUE", -1, yes},
		`" false "`:             {" false ", -1, no},
		`0`:                     {"0", 0, no},
		`"1"`:                   {"1", 1, yes},
		`" 45 "`:                {" 45 ", 45, nil},
		`-1`:                    {"-1", -1, nil},
		`1.5`:                   {"1.5", -1, nil},
		`1e3`:                   {"1e3", -1, nil},
		`1234567890123456789`:   {"1234567890123456789", -1, nil},
		`"1234567890123456789"`: {"1234567890123456789", -1, nil},
		`2147483647`:            {"2147483647", 2147483647, nil},
		`{"a":[1]}`:             {`{"a":[1]}`, -1, nil},
		`[]`:                    {"[]", -1, nil},
		`"\u0041\n"`:            {"A\n", -1, nil},
		`"\ud800"`:              {"\ufffd", -1, nil},
	} {
		for _, before := range []text{"before", "null", text(in), want.text} { // what was there before does not stay
			got := before
			if got.set([]byte(in)); got != want.text || parseCount(string(got)) != want.count {
				t.Errorf("%s: %q, want %+v", in, got, want)
			}
			if diff := cmp.Diff(want.flag, parseFlag(string(got))); diff != "" {
				t.Errorf("%s: %s", in, diff)
			}
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
		members, err := decodeObject(r, "rows", func(d *jsontext.Decoder) error {
			raw, err := d.ReadValue()
			if err != nil {
				return err
			}
			rows = append(rows, string(raw))
			return err
		}, "a")
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
		`{"b":{"a":1},"c":[[]],"a":2,"d":"x"}`: {nil, "a=2"},
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
		row := decodeCredentials(time.Time{}, new(PresentedCertificate))
		_, err := decodeObject(strings.NewReader(in), "rows", row.into(new([]Credential), newRowBudget(10)))
		if err == nil || strings.Contains(err.Error(), "s3") {
			t.Errorf("%s: %v", in, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
