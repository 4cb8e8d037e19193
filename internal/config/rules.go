package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/ncpclient"
)

// Rule says which values a setting takes, wherever the value comes from.
type Rule[T any] struct {
	Parse   func(string) (T, error) // its error is replaced by Allowed
	Allowed string                  // follows "must be"
	Secret  bool                    // a wrong value may hold a password, so it is not shown
}

var errNotAllowed = errors.New("not allowed")

// Rules are those of all values of a Config, by their names in it.
type Rules struct {
	TelemetryPath, Site, BaseURL, InitialHistory, CheckFormat, LogLevel, LogFormat           Rule[string]
	MaxRequests, MaxConcurrency, MaxRetries, PageSize, ShardNumber, TotalShards              Rule[int]
	RateLimit                                                                                Rule[float64]
	StateFile                                                                                Rule[StateFile]
	RequestTimeout, Window, LateArrival, SweepInterval, ScrapeTimeout, TimeoutOffset, MaxAge Rule[time.Duration]
}

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
		},
		InitialHistory: oneOf(InitialHistoryCount, InitialHistorySkip),
		CheckFormat:    oneOf(FormatText, FormatJSON),
		LogLevel:       oneOf("debug", "info", "warn", "error"),
		LogFormat:      oneOf("logfmt", "json"),

		MaxRequests:    number(0, 1_000_000),
		MaxConcurrency: number(1, 1000),
		MaxRetries:     number(0, 100),
		PageSize:       between(strconv.Atoi, 1, math.MaxInt32, "a whole number, at least 1"),
		ShardNumber:    between(parseShard, 0, maxShards-1, "a whole number from 0 to 999, or a name that ends in one, such as ncp-exporter-2"),
		TotalShards:    number(1, maxShards),
		RateLimit:      between(parseFloat, 0, 1e6, "a number of requests a second, such as 50 or 0.5; 0 = no limit"),
		StateFile:      Rule[StateFile]{Parse: parseStateFile},

		RequestTimeout: duration(time.Millisecond, time.Hour),
		Window:         between(parseSeconds, ncpclient.MinRecentChangesWindow, ncpclient.MaxRecentChangesWindow, "whole seconds from 1s to 168h, such as 90s, 24h or 7d"),
		LateArrival:    duration(time.Second, ledger.MaxLateArrival),
		SweepInterval:  duration(0, 30*24*time.Hour),
		ScrapeTimeout:  duration(time.Millisecond, time.Hour),
		TimeoutOffset:  duration(0, time.Hour),
		MaxAge:         duration(0, time.Hour),
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
	return Rule[string]{Parse: parse, Allowed: strings.Join(allowed[:last], ", ") + " or " + allowed[last]}
}

func between[T cmp.Ordered](parse func(string) (T, error), least, most T, allowed string) Rule[T] {
	bounded := func(text string) (T, error) {
		value, err := parse(text)
		if err == nil && !(least <= value && value <= most) { // so that NaN is refused too
			err = errNotAllowed
		}
		return value, err
	}
	return Rule[T]{Parse: bounded, Allowed: allowed}
}

func number(least, most int) Rule[int] {
	return between(strconv.Atoi, least, most, fmt.Sprintf("a whole number from %d to %d", least, most))
}

func duration(least, most time.Duration) Rule[time.Duration] {
	return between(parseDuration, least, most, fmt.Sprintf("a duration from %s to %s, such as 90s or 1h", model.Duration(least), model.Duration(most)))
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

func parseStateFile(path string) (StateFile, error) {
	return StateFile{Path: path, Given: path != DefaultStateFile}, nil
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
