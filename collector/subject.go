package collector

import (
	"errors"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/ncpclient"
)

// subject is what the last reads told of a subject. It is guarded by the lock
// of its collector.
type subject struct {
	id     string
	place  int                // on the list
	listed *ncpclient.Subject // nil if it was named by flag
	turn   uint64             // its last one; 0 before the first
	// wholeTurn is its last one that ended with a whole read.
	wholeTurn uint64

	err       error // of the last read; nil if it was whole, or if there was none
	entries   int
	uncounted ledger.Uncounted
	refreshed time.Time // the end of the last whole read; zero before the first
	confirmed time.Time // when the list last said that there is nothing to read
	swept     swept
	shown     shown

	labels, infoLabels []*dto.LabelPair
	resultLabels       [ledger.NumResults][]*dto.LabelPair
	made               struct {
		authentications, last                             [ledger.NumResults]kept
		entries, refreshed, refreshedWhen, info, lastSeen kept
		notBefore, notAfter                               kept
	}
}

// results are the values of the label result.
var results = [ledger.NumResults]string{ //nolint:gochecknoglobals // a constant in all but syntax
	ledger.Success: "success",
	ledger.Failure: "failure",
	ledger.Unknown: "unknown",
}

func newSubject(id string) *subject {
	s := &subject{id: id}
	pair := label("subject_id", id)
	s.labels = []*dto.LabelPair{pair}
	for result, name := range results {
		s.resultLabels[result] = []*dto.LabelPair{label("result", name), pair}
	}
	return s
}

// list takes over what the list tells of the subject.
func (s *subject) list(row ncpclient.Subject) {
	enabled := "unknown"
	if row.Enabled != nil {
		enabled = strconv.FormatBool(*row.Enabled)
	}
	dn := labelValue(row.X509Subject)
	if len(s.infoLabels) == 0 || s.infoLabels[0].GetValue() != enabled || s.infoLabels[2].GetValue() != dn {
		s.infoLabels = []*dto.LabelPair{label("enabled", enabled), s.labels[0], label("x509_subject", dn)}
		s.made.info = kept{}
	}
	s.listed = &row
}

// fresh says whether the history was read, or needed no reading, at that time
// or later.
func (s *subject) fresh(since time.Time) bool {
	return !s.refreshed.IsZero() && !s.refreshed.Before(since) || !s.confirmed.IsZero() && !s.confirmed.Before(since)
}

// hung says whether the last read ended as NCP did not answer in time.
func (s *subject) hung() bool { return errors.Is(s.err, ncpclient.ErrTimeout) }
