package ncpclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// CertificateManager is a client of Certificate Manager.
type CertificateManager struct {
	api       *api
	inventory inventory
}

// NewCertificateManager makes a client of the Certificate Manager at
// cfg.BaseURL. RecentChanges wants that of version 2; Certificates takes version 1
// too.
func NewCertificateManager(cfg Config) (*CertificateManager, error) {
	a, err := newAPI(APICertificateManager, cfg)
	if err != nil {
		return nil, err
	}
	c := &CertificateManager{api: a}
	c.inventory.init(a)
	return c, nil
}

// RateLimit is the limit in force, in requests a second: Config.RateLimit, or
// less for a while after NCP answered 429; +Inf if there is no limit.
func (c *CertificateManager) RateLimit() float64 { return c.api.sender.inForce() }

// TakeOver goes on with what NCP's answers of 429 did to an earlier client of the same
// API: its pause and its lowered rate. It comes before the first call.
func (c *CertificateManager) TakeOver(from *CertificateManager) {
	c.api.sender.takeOver(from.api.sender)
}

// ValidationStatus is the state of a certificate's validation.
type ValidationStatus string

// The states that the guide names, and StatusUnknown for all others.
const (
	StatusNormal             ValidationStatus = "normal"
	StatusOngoing            ValidationStatus = "ongoing"
	StatusValidationTimedOut ValidationStatus = "validation_timed_out"
	StatusUnknown            ValidationStatus = "unknown"
)

// parseValidationStatus reads orders[].status, without regard to case and outer blanks.
func parseValidationStatus(s string) ValidationStatus {
	s = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(s)), " ", "_")
	switch status := ValidationStatus(s); status {
	case StatusNormal, StatusOngoing, StatusValidationTimedOut:
		return status
	default:
		return StatusUnknown
	}
}

// CertificateChange is the present state of a certificate whose validation
// status changed inside the window. Both ids are empty if the row has none that
// can be used: one such row must not hide the others.
type CertificateChange struct {
	OrderID       string // orders[].orderId
	CertificateID string // orders[].certificateId, with all its digits
	Status        ValidationStatus
}

// The window that RecentChanges accepts.
const (
	MinRecentChangesWindow = time.Second
	MaxRecentChangesWindow = 7 * 24 * time.Hour
)

// isEmptyList says whether an error of Certificate Manager means an empty list.
func isEmptyList(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Code == "2200" || e.Code == "1006")
}

// RecentChanges asks Certificate Manager (GET /certificate/recentChanges) for
// the certificates whose validation status changed inside the window before
// now, a whole number of seconds from 1 s to 7 days. The order of the answer
// is NCP's, and a certificate may repeat.
func (c *CertificateManager) RecentChanges(ctx context.Context, window time.Duration) ([]CertificateChange, error) {
	query, err := windowQuery(window)
	if err != nil {
		return nil, err
	}
	var changes []CertificateChange
	err = c.api.get(ctx, OpRecentChanges, "certificate/recentChanges", query,
		func(resp *http.Response, body io.Reader) (err error) {
			changes, err = decodeRecentChanges(resp, body)
			return err
		})
	if isEmptyList(err) {
		return nil, nil
	}
	return changes, err
}

// windowQuery gives exactly one of minutes and seconds: with both, NCP answers
// with no error and no rows, as if nothing had happened.
func windowQuery(window time.Duration) (url.Values, error) {
	if window < MinRecentChangesWindow || window > MaxRecentChangesWindow || window%time.Second != 0 {
		return nil, fmt.Errorf("the window of recentChanges must be a whole number of seconds from %s to %s, not %s",
			MinRecentChangesWindow, MaxRecentChangesWindow, window)
	}
	if window%time.Minute == 0 {
		return url.Values{"minutes": {strconv.Itoa(int(window / time.Minute))}}, nil
	}
	return url.Values{"seconds": {strconv.Itoa(int(window / time.Second))}}, nil
}

const maxChanges = 50_000 // of an answer, which has no pages

func decodeRecentChanges(resp *http.Response, body io.Reader) ([]CertificateChange, error) {
	var changes []CertificateChange
	var orderID, certificateID, status text
	fields := []field{{"orderId", &orderID}, {"certificateId", &certificateID}, {"status", &status}}
	row := func() CertificateChange {
		change := CertificateChange{
			OrderID:       string(orderID),
			CertificateID: string(certificateID),
			Status:        parseValidationStatus(string(status)),
		}
		if !UsableID(change.OrderID) || !UsableID(change.CertificateID) {
			change.OrderID, change.CertificateID = "", ""
		}
		return change
	}
	m, err := decodeObject(body, "orders", rowDecoder[CertificateChange]{fields, row}.into(&changes, newRowBudget(maxChanges)), "totalCount")
	if err != nil {
		return nil, err
	}
	if err := checkEnvelope(resp, m, true); err != nil {
		return nil, err
	}
	if total := parseCount(m.text("totalCount")); total > 0 && len(changes) == 0 {
		// An empty list here would say that all is well.
		return nil, fmt.Errorf("totalCount is %d, but there are no orders", total)
	}
	return changes, nil
}
