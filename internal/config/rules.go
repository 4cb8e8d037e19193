package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/subjects"
	"ncp_exporter/ncpclient"
)

// Rule says which values a setting takes, wherever the value comes from.
type Rule[T any] struct {
	Parse   func(string) (T, error) // its error is replaced by Allowed
	Allowed string                  // follows "must be"
	Secret  bool                    // a wrong value may hold a password, so it is not shown
	Schema  map[string]any          // what JSON Schema can say of it, with its "type"
}

var errNotAllowed = errors.New("not allowed")

// Rules are those of all values of a Config, by their names in it.
type Rules struct {
	TelemetryPath, Site, BaseURL, InitialHistory, CheckFormat, LogLevel, LogFormat   Rule[string]
	Authentications, Pattern                                                         Rule[string]
	MaxRequests, MaxConcurrency, MaxRetries, PageSize, ShardNumber, TotalShards      Rule[int]
	DemoAccounts                                                                     Rule[int]
	RateLimit                                                                        Rule[float64]
	StateFile                                                                        Rule[StateFile]
	RequestTimeout, Window, LateArrival, SweepInterval, ScrapeTimeout, TimeoutOffset Rule[time.Duration]
	MaxAge, AutoReload, FailureInfo                                                  Rule[time.Duration]

	// Only in a file of accounts.
	AccountName, KeyFile, KeyVariable, Profile Rule[string]
	Switch, ServerRole                         Rule[bool]
	Subject                                    Rule[string]
}

// MaxAccounts is how many accounts a file, and the simulated NCP, may have.
const MaxAccounts = 100

// NewRules gives the rules.
func NewRules() Rules {
	const maxShards = 1000
	return Rules{
		TelemetryPath: Rule[string]{Parse: parsePath, Allowed: "a path such as /metrics, not / and not below /-/"},
		Site:          oneOf("public", "gov", "fin"),
		BaseURL: Rule[string]{
			Parse:   parseURL,
			Allowed: "a base URL including the version, such as https://externalaccess.apigw.ntruss.com/api/v1; https, or http to loopback; without user, query and fragment",
			Secret:  true,
			Schema:  map[string]any{"type": "string", "pattern": "^https?://[^@?#]+$"},
		},
		InitialHistory: oneOf(InitialHistoryCount, InitialHistorySkip),
		CheckFormat:    oneOf(FormatText, FormatJSON),
		LogLevel:       oneOf("debug", "info", "warn", "error"),
		LogFormat:      oneOf("logfmt", "json"),

		Pattern: Rule[string]{
			Parse:   func(text string) (string, error) { _, err := subjects.Pattern(text); return text, err },
			Allowed: "a regular expression (RE2)",
			Schema:  map[string]any{"type": "string"},
		},
		Authentications: oneOf(AuthenticationsNone, AuthenticationsFailures, AuthenticationsAll),

		MaxRequests:    number(0, 1_000_000),
		MaxConcurrency: number(1, 1000),
		MaxRetries:     number(0, 100),
		DemoAccounts:   number(1, MaxAccounts),
		PageSize:       numeric("integer", strconv.Atoi, 1, math.MaxInt32, "a whole number, at least 1"),
		ShardNumber:    between(parseShard, 0, maxShards-1, "a whole number from 0 to 999, or a name that ends in one, such as ncp-exporter-2"),
		TotalShards:    number(1, maxShards),
		RateLimit:      numeric("number", parseFloat, 0, 1e6, "a number of requests a second, such as 50 or 0.5; 0 = no limit"),
		StateFile: Rule[StateFile]{
			Parse:   func(path string) (StateFile, error) { return StateFile{Path: path}, nil },
			Allowed: "a path; empty = in memory",
			Schema:  map[string]any{"type": "string"},
		},

		RequestTimeout: duration(time.Millisecond, time.Hour),
		Window:         timed(parseSeconds, ncpclient.MinRecentChangesWindow, ncpclient.MaxRecentChangesWindow, "whole seconds from 1s to 168h, such as 90s, 24h or 7d"),
		LateArrival:    duration(time.Second, ledger.MaxLateArrival),
		SweepInterval:  duration(0, 30*24*time.Hour),
		FailureInfo:    duration(0, 365*24*time.Hour),
		ScrapeTimeout:  duration(time.Millisecond, time.Hour),
		TimeoutOffset:  duration(0, time.Hour),
		MaxAge:         duration(0, time.Hour),
		AutoReload:     duration(0, 24*time.Hour),

		AccountName: matching(`[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`, "1 to 63 small letters, digits and hyphens, with no hyphen at either end"),
		KeyFile:     secret(matching(`[^\x00-\x1f\x7f]+`, "the path of a file")),
		KeyVariable: secret(matching(`[A-Za-z_][A-Za-z0-9_]*`, "the name of an environment variable")),
		Profile:     secret(matching(`[^\x00-\x1f\x7f]+`, "the name of a profile of the credentials file")),
		Switch:      Rule[bool]{Parse: strconv.ParseBool, Allowed: "true or false", Schema: map[string]any{"type": "boolean"}},
		ServerRole:  Rule[bool]{Parse: parseTrue, Allowed: "true, or left out", Secret: true, Schema: map[string]any{"type": "boolean", "const": true}},
		Subject:     Rule[string]{Parse: parseSubject, Allowed: "the id of a subject", Schema: map[string]any{"type": "string", "minLength": 1}},
	}
}

func oneOf(allowed ...string) Rule[string] {
	parse := func(text string) (string, error) {
		if !slices.Contains(allowed, text) {
			return "", errNotAllowed
		}
		return text, nil
	}
	last := len(allowed) - 1
	return Rule[string]{
		Parse:   parse,
		Allowed: strings.Join(allowed[:last], ", ") + " or " + allowed[last],
		Schema:  map[string]any{"type": "string", "enum": allowed},
	}
}

// matching takes what matches a pattern as a whole.
func matching(pattern, allowed string) Rule[string] {
	pattern = "^" + pattern + "$"
	whole := regexp.MustCompile(pattern)
	parse := func(text string) (string, error) {
		if !whole.MatchString(text) {
			return "", errNotAllowed
		}
		return text, nil
	}
	return Rule[string]{Parse: parse, Allowed: allowed, Schema: map[string]any{"type": "string", "pattern": pattern}}
}

func secret[T any](rule Rule[T]) Rule[T] {
	rule.Secret = true
	return rule
}

func between[T cmp.Ordered](parse func(string) (T, error), least, most T, allowed string) Rule[T] {
	bounded := func(text string) (T, error) {
		value, err := parse(text)
		if inside := least <= value && value <= most; err == nil && !inside { // NaN is outside too
			err = errNotAllowed
		}
		return value, err
	}
	return Rule[T]{Parse: bounded, Allowed: allowed}
}

// numeric is a number of JSON of some type.
func numeric[T int | float64](kind string, parse func(string) (T, error), least, most T, allowed string) Rule[T] {
	rule := between(parse, least, most, allowed)
	rule.Schema = map[string]any{"type": kind, "minimum": least, "maximum": most}
	return rule
}

func number(least, most int) Rule[int] {
	return numeric("integer", strconv.Atoi, least, most, fmt.Sprintf("a whole number from %d to %d", least, most))
}

func timed(parse func(string) (time.Duration, error), least, most time.Duration, allowed string) Rule[time.Duration] {
	rule := between(parse, least, most, allowed)
	rule.Schema = map[string]any{"type": "string", "pattern": `^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w|y))+)$`}
	return rule
}

func duration(least, most time.Duration) Rule[time.Duration] {
	return timed(parseDuration, least, most, fmt.Sprintf("a duration from %s to %s, such as 90s or 1h", model.Duration(least), model.Duration(most)))
}

// parseDuration takes Go's durations and Prometheus's, which have days and weeks.
func parseDuration(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	d, err := model.ParseDuration(text)
	return time.Duration(d), err
}

func parseSeconds(text string) (time.Duration, error) {
	d, err := parseDuration(text)
	if err == nil && d%time.Second != 0 {
		err = errNotAllowed
	}
	return d, err
}

func parseFloat(text string) (float64, error) { return strconv.ParseFloat(text, 64) }

func parseTrue(text string) (bool, error) {
	if on, err := strconv.ParseBool(text); !on || err != nil {
		return false, errNotAllowed
	}
	return true, nil
}

func parseSubject(text string) (string, error) {
	id := strings.TrimSpace(text)
	if !ncpclient.UsableID(id) {
		return "", errNotAllowed
	}
	return id, nil
}

func parseURL(text string) (string, error) {
	_, err := ncpclient.ParseBaseURL(text)
	return text, err
}

// parseShard takes a number, and the name of a pod that ends in one.
func parseShard(text string) (int, error) {
	if i := strings.LastIndexByte(text, '-'); i > 0 {
		text = text[i+1:]
	}
	return strconv.Atoi(text)
}

func parsePath(text string) (string, error) {
	path := strings.TrimRight(text, "/")
	reserved := path == "/-" || strings.HasPrefix(path, "/-/")
	if len(path) < 2 || path[0] != '/' || reserved || strings.ContainsAny(path, " {}?#") || filepath.Clean(path) != path {
		return "", errNotAllowed
	}
	return path, nil
}
