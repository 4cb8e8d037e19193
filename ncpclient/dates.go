package ncpclient

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxDateYear bounds the date on which something runs out: 9999-12-31 is how
// "never" is written.
const maxDateYear = 9999

// dateLayouts are the forms of a date that ParseTime, which reads the times of
// logins, does not take. Those without a zone are KST.
var dateLayouts = [...]string{ //nolint:gochecknoglobals // a constant in all but syntax
	"2006-01-02", "2006/01/02", "2006.01.02", "20060102",
	"2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02 15:04:05 MST",
	"2006/01/02 15:04:05", "2006.01.02 15:04:05", "2006/01/02 15:04", "2006.01.02 15:04",
	"20060102150405", "20060102150405Z07:00", "20060102150405Z0700", "20060102T150405Z0700", "20060102T150405",
	"Jan _2 15:04:05 2006 MST",      // OpenSSL's
	"Mon Jan _2 15:04:05 MST 2006",  // Java's
	"Mon, 02 Jan 2006 15:04:05 MST", // HTTP's
	"Mon, 02 Jan 2006 15:04:05 -0700",
}

// ParseDate reads when something begins or runs out, in whatever form NCP writes
// it: what ParseTime reads, other common forms, a date alone (then it is the
// first moment of that day), seconds or smaller units since 1970, a list of the
// parts of a date. It returns the zero time for anything else, placeholders such
// as 1970-01-01 among them: a date that is wrong is worse than none.
func ParseDate(s string) time.Time {
	s = strings.TrimSpace(s)
	if len(s) > 64 {
		return time.Time{}
	}
	if t := parseTime(s, maxDateYear); !t.IsZero() {
		return t
	}
	if strings.HasPrefix(s, "[") {
		return dateOfParts(s)
	}
	for _, layout := range dateLayouts {
		t, err := time.ParseInLocation(layout, s, kst)
		// A name that Go does not know is taken for UTC, whatever it means.
		if zone, _ := t.Zone(); err == nil && slices.Contains([]string{"", "KST", "UTC", "GMT"}, zone) {
			return plausible(t, maxDateYear)
		}
	}
	return dateOfNumber(s)
}

// dateOfNumber takes the unit from the size: all that are meant here lie between
// 2001 and 2286, as with ten digits of seconds.
func dateOfNumber(s string) time.Time {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || strings.ContainsAny(s, "xXpP_nN") { // no hexadecimal, no NaN and no Inf
		return time.Time{}
	}
	for _, unit := range []float64{1, 1e3, 1e6, 1e9} {
		if seconds := n / unit; seconds >= 1e9 && seconds < 1e10 {
			return plausible(time.UnixMilli(int64(math.Round(seconds*1e3))), maxDateYear)
		}
	}
	return time.Time{}
}

// dateOfParts reads [2025,12,31,9,0,0], as Java's serializers write a date.
func dateOfParts(s string) time.Time {
	var parts []int
	if json.Unmarshal([]byte(s), &parts) != nil || len(parts) < 3 || len(parts) > 7 {
		return time.Time{}
	}
	parts = append(parts, 0, 0, 0, 0)[:7]
	t := time.Date(parts[0], time.Month(parts[1]), parts[2], parts[3], parts[4], parts[5], 0, kst)
	y, m, d := t.Date()
	if y != parts[0] || int(m) != parts[1] || d != parts[2] || t.Hour() != parts[3] || t.Minute() != parts[4] {
		return time.Time{} // the 31st of February
	}
	return plausible(t, maxDateYear)
}
