package peers

import (
	stdlog "log"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// quiet is how long after a line another one of its kind is for debugging only.
const quiet = time.Minute

// ErrorLog is for http.Server.ErrorLog: what clients cause is a warning once a minute
// for each kind. now is the clock.
func ErrorLog(logger log.Logger, now func() time.Time) *stdlog.Logger {
	return stdlog.New(&errorLog{logger: logger, now: now, warned: make(map[string]time.Time)}, "", 0)
}

type errorLog struct {
	logger log.Logger
	now    func() time.Time

	mu     sync.Mutex
	warned map[string]time.Time // by kind
}

// Write logs one line of net/http. Its kind are its first words, such as "http: TLS
// handshake": what follows differs with each client, and there must be few kinds.
func (e *errorLog) Write(line []byte) (int, error) {
	words := strings.Fields(string(line))
	kind := strings.Join(words[:min(3, len(words))], " ")
	e.mu.Lock()
	last, leveled := e.warned[kind], level.Debug
	if now := e.now(); now.Sub(last) >= quiet {
		e.warned[kind], leveled = now, level.Warn
	}
	e.mu.Unlock()
	_ = leveled(e.logger).Log("msg", strings.TrimSpace(string(line)))
	return len(line), nil
}
