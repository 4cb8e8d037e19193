package subjects

import (
	"regexp"

	"ncp_exporter/ncpclient"
)

// Filter says which subjects are watched, by their ids and their X.509 subjects: those
// that Include matches (nil: all) and Exclude does not (nil: none).
type Filter struct{ Include, Exclude *regexp.Regexp }

// Pattern is a regular expression (RE2) that has to match the whole of a text, as
// Prometheus has it; nil if it is empty.
func Pattern(text string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(text); text == "" || err != nil {
		return nil, err
	}
	return regexp.Compile("^(?s:" + text + ")$")
}

// Takes says whether a subject is watched.
func (f Filter) Takes(s ncpclient.Subject) bool {
	return (f.Include == nil || matches(f.Include, s)) && !f.excludes(s)
}

func (f Filter) excludes(s ncpclient.Subject) bool { return f.Exclude != nil && matches(f.Exclude, s) }

func matches(pattern *regexp.Regexp, s ncpclient.Subject) bool {
	return pattern.MatchString(s.ID) || s.X509Subject != "" && pattern.MatchString(s.X509Subject)
}
