// Package logging makes the loggers of the program.
package logging

import (
	"fmt"
	"io"
	stdlog "log"
	"log/slog"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	slgk "github.com/tjhop/slog-gokit"
)

// Log is the log of the program. It never waits for somebody to read it: lines that
// nobody reads for long are lost, and a later line says how many.
type Log struct {
	Logger log.Logger
	// Clients is for what strangers, probes and broken clients cause: at most one line a
	// minute, the other ones are for debugging.
	Clients log.Logger
	Server  *stdlog.Logger // for an http.Server
	Slog    *slog.Logger   // for libraries; its lines look the same
	Flush   func()         // waits until the lines so far were written, if somebody reads them soon
	Close   func()         // writes what is left, if somebody reads it soon
}

// New makes the log. The level is debug, info, warn or error, the format logfmt or
// json. Close it before the program ends.
func New(w io.Writer, minLevel, format string) (Log, error) {
	allowed, err := level.Parse(minLevel)
	if err != nil {
		return Log{}, fmt.Errorf("log level %q: %w", minLevel, err)
	}
	// slog levels have the names of go-kit's.
	var slogLevel slog.Level
	if err := slogLevel.UnmarshalText([]byte(minLevel)); err != nil {
		return Log{}, fmt.Errorf("log level %q: %w", minLevel, err)
	}
	formatted := log.NewLogfmtLogger
	if format == "json" {
		formatted = log.NewJSONLogger
	}
	lines := newBuffer(w, func(lost int) {
		direct := log.With(formatted(w), "ts", log.DefaultTimestampUTC)
		_ = level.Warn(direct).Log("msg", fmt.Sprintf("%d lines of the log were lost: nobody read it", lost))
	})
	filtered := level.NewFilter(formatted(lines), level.Allow(allowed))
	clients := limit(filtered)
	return Log{
		Logger:  log.With(filtered, "ts", log.DefaultTimestampUTC),
		Clients: clients,
		Server:  newServerLog(clients, limit(filtered)),
		Slog:    slog.New(errorsOfClients{slgk.NewGoKitHandler(sameKeys{filtered}, slogLevel), clients}),
		Flush:   lines.sync,
		Close:   lines.close,
	}, nil
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
