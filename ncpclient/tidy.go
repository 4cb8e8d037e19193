package ncpclient

import (
	"strings"
	"unicode"
	"unicode/utf16"
)

// Tidy takes off what people and their tools leave around a value: blanks, line ends, a
// byte order mark, and one pair of quotes, which `docker run --env-file` keeps.
func Tidy(value string) string {
	trim := func(s string) string {
		return strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' || r == '\u200b' })
	}
	value = trim(value)
	if n := len(value); n >= 2 && value[0] == value[n-1] && strings.IndexByte(`"'`, value[0]) >= 0 {
		value = trim(value[1 : n-1])
	}
	return value
}

// decodeText gives a file's text, also if it was written by PowerShell, as UTF-16 with a
// byte order mark.
func decodeText(b []byte) string {
	if len(b) < 2 || b[0]^b[1] != 0xff^0xfe || b[0]|b[1] != 0xff {
		return string(b)
	}
	low := 0 // where the low byte of each unit is
	if b[0] == 0xfe {
		low = 1
	}
	units := make([]uint16, 0, len(b)/2)
	for i := 2; i+1 < len(b); i += 2 {
		units = append(units, uint16(b[i+low])|uint16(b[i+1-low])<<8)
	}
	return string(utf16.Decode(units))
}
