package ncpclient

import (
	"strconv"
	"strings"
	"time"
)

// kst is the zone of NCP's times that name none.
var kst = time.FixedZone("KST", 9*60*60) //nolint:gochecknoglobals // a constant in all but syntax

// dateLayouts are the forms of a date that NCP and its sibling APIs write: first those
// of a time, of which there are timeLayouts. A blank in place of the T is accepted, and
// so is a fraction of a second, which time.Parse takes behind any of them.
var dateLayouts = []string{ //nolint:gochecknoglobals // a constant in all but syntax
	"2006-01-02T15:04:05Z07:00",
	"2006-01-02T15:04:05Z0700",
	"2006-01-02T15:04:05Z07",
	"2006-01-02T15:04:05",
	"2006-01-02",
	"20060102",
	"20060102150405",
}

const timeLayouts = 4

const (
	// minYear: placeholders such as 0001-01-01 and 1970-01-01 are older than NCP.
	minYear = 2000
	// maxTimeYear bounds the time of a login: no clock is centuries off.
	maxTimeYear = 2200
	// maxDateYear bounds an expiry date: 9999-12-31 is how "never" is written.
	maxDateYear = 9999
	// maxDate is longer than any date.
	maxDate = 40
)

// parseTime reads a time as NCP writes it: ISO 8601 with a zone or without one
// (then it is KST), or a number of seconds or milliseconds since 1970. It returns
// the zero time for anything else, as a row with such a time must be survived.
func parseTime(s string) time.Time {
	return plausible(parseLayouts(strings.TrimSpace(s), dateLayouts[:timeLayouts]), maxTimeYear)
}

// parseDate reads when something begins or expires: what parseTime reads, a date
// alone (then it is the first moment of that day in KST), or the digits of one. It
// returns the zero time for anything else, placeholders such as 1970-01-01 among
// them: a date that is wrong is worse than none.
func parseDate(s string) time.Time {
	return plausible(parseLayouts(strings.TrimSpace(s), dateLayouts), maxDateYear)
}

func parseLayouts(s string, layouts []string) time.Time {
	if len(s) > maxDate {
		return time.Time{}
	}
	if len(s) <= len("1733994545705") { // most are longer, and ParseInt makes an error of each
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			switch len(s) {
			case len("1733994545"):
				return time.Unix(n, 0)
			case len("1733994545705"):
				return time.UnixMilli(n)
			}
		}
	}
	if date := len("2006-01-02"); len(s) > date && s[date] == ' ' {
		s = s[:date] + "T" + s[date+1:]
	}
	for _, layout := range layouts {
		if t, err := time.ParseInLocation(layout, s, kst); err == nil {
			return t
		}
	}
	return time.Time{}
}

// plausible is t in UTC, or the zero time if it cannot be meant.
func plausible(t time.Time, maxYear int) time.Time {
	if y := t.UTC().Year(); y < minYear || y > maxYear {
		return time.Time{}
	}
	return t.UTC()
}
