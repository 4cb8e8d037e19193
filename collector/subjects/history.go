package subjects

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/refresh"
	"ncp_exporter/ncpclient"
)

// Refresh reads what is new in the history, and counts it in the ledger.
func (s *subject) Refresh(ctx context.Context, pace refresh.Pace) error {
	w := s.watcher
	w.mu.Lock()
	known, listed, watched := s.known, s.listed, len(w.watched)
	w.mu.Unlock()
	id := known.ID
	history := &history{client: w.client, subjectID: id, pace: pace, now: w.options.Now}
	plan := w.ledger.Plan(id)
	plan.OnPage, plan.Tell = s.firstReadGoesOn, w.options.Journal.Of
	read, err := plan.Read(ctx, history, w.options.PageSize)
	if err != nil {
		return err
	}
	w.journal(known, read)
	w.ledger.Apply(id, read)
	certificate, newest := w.certificates.read(history.newest, watched)
	w.mu.Lock()
	defer w.mu.Unlock()
	s.news(func(k *Known) {
		k.Err, k.Entries, k.Uncounted, k.Refreshed = nil, read.Entries, read.Uncounted, w.options.Now()
		switch {
		case newest && !certificate.SeenTime.Before(k.Certificate.SeenTime):
			k.Certificate = certificate
		case !newest && read.Entries == 0: // if there are entries, this read may just not have reached its row
			k.Certificate = Certificate{}
		}
	})
	s.firstReadEnded()
	if known.InList {
		w.sweep.read(s, listed, read.New(), w.ledger.Watermark(id))
	}
	return nil
}

// Done records how a read ended.
func (s *subject) Done(err error) {
	w := s.watcher
	w.mu.Lock()
	if err != nil {
		s.news(func(k *Known) { k.Err = err })
		if s.firstRead != nil {
			stopped := *s.firstRead
			stopped.running = false
			s.firstRead = &stopped
		}
	}
	updating := w.updating
	w.mu.Unlock()
	if err == nil && !updating {
		w.ledger.Commit() // no Update is running that would commit at its end
	}
}

// history gives the pages of a subject's history to the ledger. From the rows that it
// reads it keeps the certificate of the newest one.
type history struct {
	client    Client
	subjectID string
	pace      refresh.Pace
	now       func() time.Time
	newest    *ncpclient.PresentedCertificate
}

func (h *history) Page(ctx context.Context, number, size int) (ledger.Page, error) {
	if number > 0 {
		if err := h.pace(); err != nil {
			return ledger.Page{}, fmt.Errorf("before page %d: %w", number, err)
		}
	}
	page, err := h.client.CredentialsPage(ctx, h.subjectID, number, size)
	if errors.Is(err, ncpclient.ErrPageRefused) {
		return ledger.Page{}, fmt.Errorf("%w: %w", ledger.ErrPastEnd, err)
	}
	if err != nil {
		return ledger.Page{}, err
	}
	if p := page.Presented; p != nil && (h.newest == nil || p.SeenTime.After(h.newest.SeenTime)) {
		h.newest = p
	}
	clock := page.Date
	if clock.IsZero() {
		clock = h.now()
	}
	return ledger.Page{Rows: ledgerRows(page.Rows), Size: page.Size, Total: page.Total, Clock: clock}, nil
}

func ledgerRows(credentials []ncpclient.Credential) []ledger.Row {
	rows := make([]ledger.Row, len(credentials))
	for i, c := range credentials {
		result := ledger.Unknown
		if c.Failed != nil && *c.Failed {
			result = ledger.Failure
		} else if c.Failed != nil {
			result = ledger.Success
		}
		rows[i] = ledger.Row{Issuer: c.Issuer, SerialNumber: c.SerialNumber, Result: result, SeenTime: c.SeenTime}
	}
	return rows
}
