package collector

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"ncp_exporter/collector/refresh"
)

// warnInterval is how long a failure of one kind is not warned of again.
const warnInterval = time.Minute

// collectorLog writes the lines about a collector. Anybody who can scrape decides how
// often there is an update, and how long it may take; so there are few lines.
type collectorLog struct {
	logger log.Logger

	failing bool
	said    string               // the kind of failure last warned of since the last success
	warned  map[string]time.Time // when each kind was last warned of
	known   []string             // quirks that were logged
}

// ended writes a line when a collector begins to fail, fails for another reason, or has
// recovered. What tells nothing new has level debug: more failures of the same kind, also
// if they come and go, and those of a scrape that was too hasty to get an answer.
func (l *collectorLog) ended(err error, hasty bool, now time.Time) {
	if err == nil {
		if l.failing {
			leveled := level.Debug
			if l.said != "" {
				leveled = level.Info
			}
			_ = leveled(l.logger).Log("msg", "Collector recovered")
		}
		l.failing, l.said = false, ""
		return
	}
	l.failing = true
	leveled := level.Debug
	if !hasty && l.isNews(failureKind(err), now) {
		leveled = level.Warn
	}
	fields := []any{"msg", "Collector failed", "err", err}
	var about interface{ LogFields() []any }
	if errors.As(err, &about) {
		fields = append(fields, about.LogFields()...)
	}
	var bug *refresh.PanicError
	if errors.As(err, &bug) {
		_ = level.Debug(l.logger).Log("msg", "Stack of the bug", "stack", string(bug.Stack))
	}
	_ = leveled(l.logger).Log(fields...)
}

// read writes, for who debugs, what an update asked, what came of it, and how long it took.
func (l *collectorLog) read(c Collector, u *update) {
	fields := []any{"msg", "Collector read everything", "took", u.ended.Sub(u.began), "calls", u.calls, "series", len(u.metrics)}
	if about, ok := c.(interface{ Came() []any }); ok {
		fields = append(fields, about.Came()...)
	}
	_ = level.Debug(l.logger).Log(fields...)
}

// isNews says whether to warn of a failure, and takes it that this is done then.
func (l *collectorLog) isNews(failure string, now time.Time) bool {
	if at, ok := l.warned[failure]; l.said == failure || ok && now.Sub(at) < warnInterval {
		return false
	}
	if l.warned == nil {
		l.warned = make(map[string]time.Time)
	}
	maps.DeleteFunc(l.warned, func(_ string, at time.Time) bool { return now.Sub(at) >= warnInterval })
	l.warned[failure], l.said = now, failure
	return true
}

// quirks says once in which way a server differs from what it says.
func (l *collectorLog) quirks(quirks []string) {
	for _, quirk := range quirks {
		if !slices.Contains(l.known, quirk) {
			l.known = append(l.known, quirk)
			_ = level.Warn(l.logger).Log("msg", "NCP's answers are not what they say; they are read as they come", "quirk", quirk)
		}
	}
}

// failureKind is equal for errors that mean the same to a reader. Texts of errors are
// not: they may hold ids and times that differ each time. So an error may have a Kind.
func failureKind(err error) string {
	var kind interface{ Kind() string }
	if errors.As(err, &kind) {
		return kind.Kind()
	}
	return err.Error()
}
