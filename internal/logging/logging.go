// Package logging makes the loggers of the program.
package logging

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	slgk "github.com/tjhop/slog-gokit"
)

// New makes the logger of the program, and one for the libraries that log with
// log/slog; their lines look the same. The level is debug, info, warn or error,
// the format logfmt or json.
func New(w io.Writer, minLevel, format string) (log.Logger, *slog.Logger, error) {
	allowed, err := level.Parse(minLevel)
	if err != nil {
		return nil, nil, fmt.Errorf("log level %q: %w", minLevel, err)
	}
	w = log.NewSyncWriter(w)
	base := log.NewLogfmtLogger(w)
	if format == "json" {
		base = log.NewJSONLogger(w)
	}
	filtered := level.NewFilter(base, level.Allow(allowed))
	// slog levels have the names of go-kit's.
	var slogLevel slog.Level
	if err := slogLevel.UnmarshalText([]byte(minLevel)); err != nil {
		return nil, nil, fmt.Errorf("log level %q: %w", minLevel, err)
	}
	return log.With(filtered, "ts", log.DefaultTimestampUTC),
		slog.New(slgk.NewGoKitHandler(sameKeys{filtered}, slogLevel)),
		nil
}

// sameKeys gives lines that come from log/slog the keys of all others: the
// time is ts and comes second, and the place in the library's code means
// nothing to a reader.
type sameKeys struct{ next log.Logger }

func (s sameKeys) Log(keyvals ...any) error {
	line := make([]any, 0, len(keyvals))
	for i := 0; i+1 < len(keyvals); i += 2 {
		switch keyvals[i] {
		case slog.TimeKey, "caller":
		case level.Key():
			line = append(line, keyvals[i], keyvals[i+1], "ts", log.DefaultTimestampUTC())
		default:
			line = append(line, keyvals[i], keyvals[i+1])
		}
	}
	return s.next.Log(line...)
}
