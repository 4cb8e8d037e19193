package logging

import (
	"context"
	stdlog "log"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// quiet is how long after a line another one of the same limit is for debugging only.
const quiet = time.Minute

// limited lets one line a minute pass as it is; the others have level debug. A line
// that passes says how many did not.
type limited struct {
	next log.Logger

	mu     sync.Mutex
	passed time.Time
	others int // since then
}

func limit(next log.Logger) log.Logger {
	return log.With(&limited{next: next}, "ts", log.DefaultTimestampUTC)
}

// Log writes a line. Its first key is its level.
func (l *limited) Log(keyvals ...any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !l.passed.IsZero() && now.Sub(l.passed) < quiet {
		l.others++
		keyvals = slices.Clone(keyvals)
		keyvals[1] = level.DebugValue()
		return l.next.Log(keyvals...)
	}
	if l.others > 0 {
		keyvals = append(slices.Clone(keyvals), "others_since_the_last_line", l.others)
	}
	l.passed, l.others = now, 0
	return l.next.Log(keyvals...)
}

// serverLog takes the lines of an http.Server.
type serverLog struct{ clients, own log.Logger }

// newServerLog is for http.Server.ErrorLog. Nearly all that it says is caused by
// clients; the rest must not get lost among that.
func newServerLog(clients, own log.Logger) *stdlog.Logger {
	return stdlog.New(serverLog{clients, own}, "", 0)
}

// Write logs one line of net/http.
func (s serverLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	to := level.Warn(s.clients)
	if strings.HasPrefix(text, "http: panic") || strings.HasPrefix(text, "http: Accept error") {
		to = level.Error(s.own)
	}
	return len(line), to.Log("msg", text)
}

// errorsOfClients is a slog.Handler whose errors count as caused by clients: the
// toolkit has one for each request while the web configuration cannot be read.
type errorsOfClients struct {
	slog.Handler
	clients log.Logger
}

func (e errorsOfClients) Handle(ctx context.Context, record slog.Record) error {
	if record.Level < slog.LevelError {
		return e.Handler.Handle(ctx, record)
	}
	keyvals := []any{"msg", record.Message}
	record.Attrs(func(a slog.Attr) bool {
		keyvals = append(keyvals, a.Key, a.Value.String())
		return true
	})
	return level.Error(e.clients).Log(keyvals...)
}
