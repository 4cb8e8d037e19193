package ncpclient

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseTime(t *testing.T) {
	t.Parallel()
	want := time.Date(2024, 12, 12, 9, 9, 5, 705_000_000, time.UTC)
	whole := want.Truncate(time.Second)
	for in, want := range map[string]time.Time{
		"2024-12-12T18:09:05.705+09:00":       want, // the documented example
		"2024-12-12T09:09:05.705Z":            want,
		"2024-12-12T18:09:05.705+0900":        want,
		"2024-12-12T18:09:05.705+09":          want,
		"2024-12-12T18:09:05.705":             want, // KST
		"2024-12-12 18:09:05.705":             want,
		"2024-12-12T18:09:05,705+09:00":       want,
		"2024-12-12T01:09:05.705-08:00":       want,
		" 2024-12-12T18:09:05.705+09:00\n":    want,
		"2024-12-12T18:09:05+09:00":           whole,
		"2024-12-12T18:09:05":                 whole,
		"2024-12-12T09:09:05Z":                whole,
		"1733994545":                          whole,
		"1733994545705":                       want,
		"2024-12-12T18:09:05.705123456+09:00": want.Add(123_456),
		"2024-12-13T00:00:00+14:00":           time.Date(2024, 12, 12, 10, 0, 0, 0, time.UTC),
		"2000-01-01T00:00:00Z":                time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		"2199-12-31T23:59:59Z":                time.Date(2199, 12, 31, 23, 59, 59, 0, time.UTC), // far ahead is the caller's to judge

		"":                              {},
		" ":                             {},
		"null":                          {},
		"-":                             {},
		"0":                             {},
		"2024":                          {},
		"2024-12-12":                    {},
		"18:09:05":                      {},
		"today":                         {},
		"2024-12-12t18:09:05z":          {}, // forms that no document of NCP shows
		"2024-12-12T18:09+09:00":        {},
		"20241212180905":                {},
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
		if got := parseTime(in); !got.Equal(want) || got.IsZero() != want.IsZero() {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// Any instant, in any of the forms and zones, comes back as the same instant.
func TestParseTimeReadsWhatIsWritten(t *testing.T) {
	t.Parallel()
	from := time.Date(minYear, 1, 2, 0, 0, 0, 0, time.UTC)
	until := time.Date(maxTimeYear, 12, 30, 0, 0, 0, 0, time.UTC)
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
		{"2006-01-02T15:04:05-0700", time.Second, time.Minute},
		{"2006-01-02T15:04:05.0-07", 100 * time.Millisecond, time.Hour},
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
		if got := parseTime(text); !got.Equal(at) || got.Location() != time.UTC {
			t.Fatalf("%q: %s, want %s", text, got, at)
		}
	})
}

func TestDates(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 12, 31, 9, 0, 0, 0, kst)
	day := time.Date(2025, 12, 31, 0, 0, 0, 0, kst)
	for text, want := range map[string]time.Time{
		"2025-12-31T09:00:00+09:00": at, "2025-12-31T09:00:00+0900": at, "2025-12-31T00:00:00Z": at, "2025-12-31T09:00:00": at, "2025-12-31T09:00:00.000": at,
		"2025-12-31 09:00:00": at, "2025-12-31 09:00:00.0": at, "2025-12-31 09:00:00+0900": at, "2025-12-31 09:00:00+09:00": at, "20251231090000": at, "  2025-12-31 09:00:00\n": at,
		"1767139200": at, "1767139200000": at, "2025-12-31": day, "20251231": day, "9999-12-31T23:59:59Z": time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), "9999-12-31": time.Date(9999, 12, 31, 0, 0, 0, 0, kst),
	} {
		if got := parseDate(text); !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	for _, junk := range []string{
		"", " ", "null", "-", "N/A", "0", "-1", "0000-00-00 00:00:00", "0001-01-01T00:00:00Z", "1970-01-01", "1970-01-01 09:00:00", "1970-01-01T00:00:00Z", "2025-02-30", "2025-13-01",
		"31/12/2025", "Wed Dec 31 09:00:00 PST 2025", "[]", "[2025]", "[2025,2,30]", "[2025,12,31,25,0]", "[1970,1,1]", "[2025,12,31,9,0,0,0,0]", "[\"2025\"]", "{}", "true", "1e999", "NaN", "Inf", "0x6955",
		"1_767_139_200", "10000-01-01", "99991231235959999", "soon", "2025-12-31T", "86400", "1e5",
		// Forms that no document of NCP shows.
		"2025-12-31 09:00:00 KST", "2025-12-31T09:00", "2025/12/31 09:00:00", "2025.12.31", "20251231T090000", "1767139200.0", "1.7671392E9", "1767139200000000",
		"Dec 31 00:00:00 2025 GMT", "Wed, 31 Dec 2025 00:00:00 GMT", "[2025,12,31,9,0]", "2025-12-31T09:00:00+09:00[Asia/Seoul]",
	} {
		if got := parseDate(junk); !got.IsZero() {
			t.Errorf("%q: %s", junk, got)
		}
	}
}

func FuzzParseDate(f *testing.F) {
	for _, seed := range []string{"2025-12-31 09:00:00", "20251231", "20251231090000", "1767139200", "9999-12-31", "", "1e12"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := parseDate(s)
		if got.IsZero() {
			return
		}
		if got.Location() != time.UTC || got.Year() < minYear || got.Year() > maxDateYear {
			t.Fatalf("%q: %s", s, got)
		}
		if again := parseDate(got.Format(time.RFC3339Nano)); !again.Equal(got) {
			t.Fatalf("%q: %s, and read again %s", s, got, again)
		}
		if asTime := parseTime(s); !asTime.IsZero() && !asTime.Equal(got) {
			t.Fatalf("%q: %s, and as a time %s", s, got, asTime)
		}
	})
}
