package ncpclient

import (
	"testing"
	"time"
)

func TestDates(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 12, 31, 9, 0, 0, 0, kst)
	day := time.Date(2025, 12, 31, 0, 0, 0, 0, kst)
	for text, want := range map[string]time.Time{
		"2025-12-31T09:00:00+09:00": at, "2025-12-31T09:00:00+0900": at, "2025-12-31T00:00:00Z": at, "2025-12-31T09:00:00": at, "2025-12-31T09:00:00.000": at,
		"2025-12-31 09:00:00": at, "2025-12-31 09:00:00.0": at, "2025-12-31 09:00:00 +0900": at, "2025-12-31 09:00:00+09:00": at, "2025-12-31 09:00:00 KST": at,
		"2025-12-31 00:00:00 UTC": at, "2025-12-31T09:00": at, "2025-12-31 09:00": at, "2025/12/31 09:00:00": at, "2025.12.31 09:00:00": at, "2025/12/31 09:00": at,
		"20251231090000": at, "20251231000000Z": at, "20251231T000000Z": at, "20251231T090000": at, "20251231090000+0900": at, "  2025-12-31 09:00:00\n": at,
		"1767139200": at, "1767139200000": at, "1767139200.0": at, "1.7671392E9": at, "1.7671392e+12": at, "1767139200000000": at, "1767139200000000000": at,
		"Dec 31 00:00:00 2025 GMT": at, "Wed Dec 31 09:00:00 KST 2025": at, "Wed, 31 Dec 2025 00:00:00 GMT": at, "Wed, 31 Dec 2025 09:00:00 +0900": at,
		"[2025,12,31,9,0]": at, "[2025,12,31,9,0,0,0]": at, "[2025, 12, 31]": day, "2025-12-31": day, "20251231": day, "2025/12/31": day, "2025.12.31": day,
		"2025-12-31T09:00:00+09:00[Asia/Seoul]": at, "9999-12-31T23:59:59Z": time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), "9999-12-31": time.Date(9999, 12, 31, 0, 0, 0, 0, kst),
	} {
		if got := ParseDate(text); !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	for _, junk := range []string{
		"", " ", "null", "-", "N/A", "0", "-1", "0000-00-00 00:00:00", "0001-01-01T00:00:00Z", "1970-01-01", "1970-01-01 09:00:00", "1970-01-01T00:00:00Z", "2025-02-30", "2025-13-01",
		"31/12/2025", "Wed Dec 31 09:00:00 PST 2025", "[]", "[2025]", "[2025,2,30]", "[2025,12,31,25,0]", "[1970,1,1]", "[2025,12,31,9,0,0,0,0]", "[\"2025\"]", "{}", "true", "1e999", "NaN", "Inf", "0x6955",
		"1_767_139_200", "10000-01-01", "99991231235959999", "soon", "2025-12-31T", "86400", "1e5",
	} {
		if got := ParseDate(junk); !got.IsZero() {
			t.Errorf("%q: %s", junk, got)
		}
	}
}

func FuzzParseDate(f *testing.F) {
	for _, seed := range []string{"2025-12-31 09:00:00", "20251231", "1767139200.0", "[2025,12,31,9,0]", "Dec 31 00:00:00 2025 GMT", "9999-12-31", "", "1e12"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := ParseDate(s)
		if got.IsZero() {
			return
		}
		if got.Location() != time.UTC || got.Year() < minYear || got.Year() > maxDateYear {
			t.Fatalf("%q: %s", s, got)
		}
		if again := ParseDate(got.Format(time.RFC3339Nano)); !again.Equal(got) {
			t.Fatalf("%q: %s, and read again %s", s, got, again)
		}
		if asTime := ParseTime(s); !asTime.IsZero() && !asTime.Equal(got) {
			t.Fatalf("%q: %s, and as a time %s", s, got, asTime)
		}
	})
}
