package ncpclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// MetadataURL is the address of the metadata service of an NCP server.
const MetadataURL = "http://169.254.169.254"

const (
	metadataTimeout = 2 * time.Second
	// roleKeysRenewal is how long before their end the keys of a role are
	// asked for anew.
	roleKeysRenewal = 5 * time.Minute
	maxMetadata     = 64 << 10
)

// serverRole takes the keys of an NCP server's role from its metadata service
// and keeps them until shortly before they expire.
type serverRole struct {
	base string
	http *http.Client
	now  func() time.Time

	refused atomic.Pointer[Keys] // the keys that NCP refused last

	lock    chan struct{} // a mutex that a context can end the wait for
	keys    Keys
	renewAt time.Time
	expires time.Time
}

// ServerRoleCredentials are the keys of the role of the NCP server that this
// process runs on. metadataURL is MetadataURL, or in tests another address.
func ServerRoleCredentials(metadataURL string, now func() time.Time) (Credentials, error) {
	u, err := url.Parse(metadataURL)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.User != nil {
		return nil, errors.New("the address of the metadata service must be of the form " + MetadataURL)
	}
	return &serverRole{
		base: strings.TrimRight(metadataURL, "/"),
		// Never through a proxy: the metadata service is on this machine's link.
		http: &http.Client{Transport: NewTransport(1, nil), Timeout: metadataTimeout, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
		now:  now,
		lock: make(chan struct{}, 1),
	}, nil
}

func (s *serverRole) String() string             { return "server role (" + s.base + ")" }
func (s *serverRole) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, s.String()) } // see Keys.Format

// Invalidate does not wait for the metadata service, as Keys may be doing.
func (s *serverRole) Invalidate(refused Keys) { s.refused.Store(&refused) }

func (s *serverRole) Keys(ctx context.Context) (Keys, error) {
	select {
	case s.lock <- struct{}{}:
		defer func() { <-s.lock }()
	case <-ctx.Done():
		return Keys{}, ctx.Err()
	}
	now := s.now()
	refused := s.refused.Load()
	if now.Before(s.renewAt) && (refused == nil || *refused != s.keys) {
		return s.keys, nil
	}
	keys, expires, err := s.ask(ctx)
	switch {
	case err == nil:
		s.keys, s.expires = keys, expires
		s.refused.CompareAndSwap(refused, nil)
		// Keys that live shorter than the margin are renewed at half their life.
		s.renewAt = expires.Add(-min(roleKeysRenewal, expires.Sub(now)/2))
	case s.keys != Keys{} && now.Before(s.expires):
		// Still good; the next call asks again.
	default:
		return Keys{}, fmt.Errorf("server role: %w", err)
	}
	return s.keys, nil
}

func (s *serverRole) ask(ctx context.Context) (Keys, time.Time, error) {
	const path = "/latest/meta-data/iam/security-credentials"
	role, err := s.get(ctx, path)
	if err != nil {
		return Keys{}, time.Time{}, err
	}
	id, _, _ := strings.Cut(strings.TrimSpace(string(role)), "\n")
	id = strings.TrimSpace(id)
	if !UsableID(id) {
		return Keys{}, time.Time{}, errors.New("the metadata service names no role: attach one to this server")
	}
	body, err := s.get(ctx, path+"/"+url.PathEscape(id))
	if err != nil {
		return Keys{}, time.Time{}, err
	}
	var answer members
	if err := json.Unmarshal(body, &answer); err != nil {
		// The error's text may quote what was read.
		return Keys{}, time.Time{}, errors.New("the metadata service's keys are not JSON")
	}
	keys := Keys{AccessKey: answer.text("AccessKeyId"), SecretKey: answer.text("SecretAccessKey")}
	if err := keys.check(); err != nil {
		return Keys{}, time.Time{}, err
	}
	expires := parseTime(answer.text("Expiration"))
	if expires.IsZero() {
		expires = s.now().Add(2 * roleKeysRenewal)
	}
	return keys, expires, nil
}

func (s *serverRole) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the metadata service: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking the metadata service: HTTP %d", resp.StatusCode)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxMetadata))
}
