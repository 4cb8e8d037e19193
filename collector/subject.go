package collector

import (
	"errors"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

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
	created            *timestamppb.Timestamp // of the counters, as last shown
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

// The values of labels in the order in which they are shown: series that come in
// it need no sorting.
var (
	shownResults = [...]ledger.Result{ledger.Failure, ledger.Success, ledger.Unknown} //nolint:gochecknoglobals // a constant in all but syntax
	shownEnabled = [...]string{"false", "true", "unknown"}                            //nolint:gochecknoglobals // a constant in all but syntax
)

// The pairs that subjects share, and the names of the others. Of thousands of
// subjects they would be much of what is kept.
var (
	resultPairs = [ledger.NumResults]*dto.LabelPair{ //nolint:gochecknoglobals // a constant in all but syntax
		ledger.Success: label("result", results[ledger.Success]),
		ledger.Failure: label("result", results[ledger.Failure]),
		ledger.Unknown: label("result", results[ledger.Unknown]),
	}
	enabledPairs = map[string]*dto.LabelPair{ //nolint:gochecknoglobals // a constant in all but syntax
		"false":   label("enabled", "false"),
		"true":    label("enabled", "true"),
		"unknown": label("enabled", "unknown"),
	}
	nameSubjectID   = "subject_id"   //nolint:gochecknoglobals // a constant in all but syntax
	nameX509Subject = "x509_subject" //nolint:gochecknoglobals // a constant in all but syntax
)

func newSubject(id string) *subject {
	s := &subject{id: id}
	pair := &dto.LabelPair{Name: &nameSubjectID, Value: &s.id}
	s.labels = []*dto.LabelPair{pair}
	for result := range results {
		s.resultLabels[result] = []*dto.LabelPair{resultPairs[result], pair}
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
		s.infoLabels = []*dto.LabelPair{enabledPairs[enabled], s.labels[0], {Name: &nameX509Subject, Value: &dn}}
		s.made.info = kept{}
	}
	// The labels have all but the times; the texts of each list must not be kept
	// as well.
	row.ID, row.X509Subject, row.Enabled = s.id, "", nil
	s.listed = &row
}

// since is when the counters began.
func (s *subject) since(created time.Time) *timestamppb.Timestamp {
	if s.created == nil || !s.created.AsTime().Equal(created) {
		s.created = timestamppb.New(created)
	}
	return s.created
}

// fresh says whether the history was read, or needed no reading, at that time
// or later.
func (s *subject) fresh(since time.Time) bool {
	return !s.refreshed.IsZero() && !s.refreshed.Before(since) || !s.confirmed.IsZero() && !s.confirmed.Before(since)
}

// hung says whether the last read ended as NCP did not answer in time.
func (s *subject) hung() bool { return errors.Is(s.err, ncpclient.ErrTimeout) }

// job is the name of the job that reads the history.
func (s *subject) job() string { return "subject " + s.id }
