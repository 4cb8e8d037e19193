package subjects

import (
	"context"
	"errors"
	"fmt"

	"ncp_exporter/collector/refresh"
)

// outcome gives the error of an Update: what it could not read. w.mu is held.
func (w *Watcher) outcome(ctx context.Context) error {
	if w.list.err != nil && refresh.Counts(w.list.readAt, w.since) {
		return w.list.err
	}
	if !w.list.known(w.since) {
		return &refresh.UnderWayError{What: "the list of subjects: NCP", Err: ctx.Err()}
	}
	var failed FailedError
	unread := 0
	for _, id := range w.ids { // in the same order each time, so that the same subject is named
		s := w.watched[id]
		switch {
		case s.known.Err != nil && failed.Failed == 0:
			failed = FailedError{Failed: 1, SubjectID: id, err: s.known.Err}
		case s.known.Err != nil:
			failed.Failed++
		case !refresh.Counts(s.upToDate(), w.since):
			unread++
		}
	}
	switch {
	case failed.Failed > 0:
		failed.Watched = len(w.watched)
		return &failed
	case unread > 0:
		return &UnreadError{Unread: unread, Watched: len(w.watched), err: ctx.Err()}
	case w.list.doubt != nil:
		return w.list.doubt
	case w.list.unnamed > 0:
		return fmt.Errorf("%d of the %d subjects that NCP lists have no usable id and are not watched", w.list.unnamed, w.list.unnamed+len(w.watched))
	}
	return nil
}

// FailedError says that some histories could not be read.
type FailedError struct {
	Failed, Watched int
	SubjectID       string // the first that failed
	err             error  // of that subject
}

func (e *FailedError) Error() string {
	return fmt.Sprintf("%d of %d subjects could not be read, the first: subject %s: %s", e.Failed, e.Watched, e.SubjectID, e.err)
}

func (e *FailedError) Unwrap() error { return e.err }

// Kind is that of the subject's error: equal for errors that mean the same to a reader.
func (e *FailedError) Kind() string {
	var kind interface{ Kind() string }
	if errors.As(e.err, &kind) {
		return kind.Kind()
	}
	return e.Error()
}

// LogFields are added to the line that logs the error.
func (e *FailedError) LogFields() []any { return []any{"subject_id", e.SubjectID} }

// UnreadError says that there was not enough time for some subjects.
type UnreadError struct {
	Unread, Watched int
	err             error // of the scrape's context
}

func (e *UnreadError) Error() string {
	return fmt.Sprintf("the scrape had to be answered before %d of %d subjects were read; they come first in the next", e.Unread, e.Watched)
}

func (e *UnreadError) Unwrap() error { return e.err }

// Kind is the same whatever the number of unread subjects is.
func (*UnreadError) Kind() string { return "unread" }
