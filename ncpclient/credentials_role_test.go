package ncpclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// metadata is the metadata service of an NCP server, and its clock.
type metadata struct {
	mu      sync.Mutex
	now     time.Time
	life    time.Duration
	version int
	asked   int    // for keys
	status  int    // of all answers, if not 0
	role    string // the body that names the role
	body    string // in place of the keys, if not empty
}

func newMetadata(life time.Duration) *metadata {
	return &metadata{now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), life: life, version: 1, role: "role/1\n"}
}

func (m *metadata) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	const path = "/latest/meta-data/iam/security-credentials"
	switch {
	case m.status != 0:
		w.WriteHeader(m.status)
	case r.RequestURI == path:
		say(w, "%s", m.role)
	case r.RequestURI == path+"/role%2F1":
		m.asked++
		if m.body != "" {
			say(w, "%s", m.body)
			return
		}
		say(w, `{"Code":"Success","AccessKeyId":"ak-%d","SecretAccessKey":"sk-%d","Expiration":%q}`,
			m.version, m.version, m.now.Add(m.life).Format(time.RFC3339))
	default:
		http.NotFound(w, r)
	}
}

func (m *metadata) set(change func(*metadata)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

func (m *metadata) clock() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

func (m *metadata) askedFor() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

func roleAt(tb testing.TB, url string, now func() time.Time) Credentials {
	tb.Helper()
	c, err := ServerRoleCredentials(url, now)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestServerRoleRenewsItsKeys(t *testing.T) {
	t.Parallel()
	m := newMetadata(time.Hour)
	c := roleAt(t, served(t, m)+"/", m.clock)
	check := func(when string, version, asked int) {
		t.Helper()
		want := Keys{fmt.Sprintf("ak-%d", version), fmt.Sprintf("sk-%d", version)}
		got, err := c.Keys(t.Context())
		if err != nil || got != want || m.askedFor() != asked {
			t.Fatalf("%s: %v, keys as they should be: %t, asked %d times, want %d", when, err, got == want, m.askedFor(), asked)
		}
	}
	later := func(d time.Duration) { m.set(func(m *metadata) { m.now = m.now.Add(d) }) }

	check("first", 1, 1)
	m.set(func(m *metadata) { m.version = 2 })
	later(54 * time.Minute)
	check("well before the end", 1, 1)
	later(2 * time.Minute)
	check("shortly before the end", 2, 2)
	check("renewed", 2, 2)

	c.Invalidate(Keys{"ak-1", "sk-1"})
	check("a late 401 to the old keys", 2, 2)
	c.Invalidate(Keys{"ak-2", "sk-2"})
	m.set(func(m *metadata) { m.version = 3 })
	check("after a 401", 3, 3)
	c.Invalidate(Keys{"ak-3", "sk-3"})
	check("after a 401 that is not the keys' fault", 3, 4)
	check("and that is asked once", 3, 4)

	later(57 * time.Minute)
	m.set(func(m *metadata) { m.status = 500 })
	check("the service fails, the keys still hold", 3, 4)
	later(3 * time.Minute)
	if _, err := c.Keys(t.Context()); err == nil || !strings.Contains(err.Error(), "HTTP 500") {
		t.Fatalf("the keys have expired: %v", err)
	}
	m.set(func(m *metadata) { m.status, m.version = 0, 4 })
	check("well again", 4, 5)

	// Keys that live shorter than the margin are not asked for at each call.
	m.set(func(m *metadata) { m.life, m.version = 4*time.Minute, 5 })
	later(time.Hour)
	check("short-lived", 5, 6)
	later(time.Minute)
	check("short-lived, before half its life", 5, 6)
	later(time.Minute)
	check("short-lived, at half its life", 5, 7)
}

func TestServerRoleRefusals(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*metadata)
		want   string
	}{
		"no such service":    {func(m *metadata) { m.status = 404 }, "HTTP 404"},
		"no role":            {func(m *metadata) { m.role = " \n" }, "no role"},
		"a page for a role":  {func(m *metadata) { m.role = strings.Repeat("x", 300) }, "no role"},
		"not JSON":           {func(m *metadata) { m.body = "s3cret" }, "not JSON"},
		"null":               {func(m *metadata) { m.body = "null" }, "is empty"},
		"no secret":          {func(m *metadata) { m.body = `{"AccessKeyId":"s3cret"}` }, "the secret key is empty"},
		"a key with a blank": {func(m *metadata) { m.body = `{"AccessKeyId":"s3cret other","SecretAccessKey":"s3cret"}` }, "access key"},
		"a redirect":         {func(m *metadata) { m.status = 302 }, "HTTP 302"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMetadata(time.Hour)
			tt.change(m)
			_, err := roleAt(t, served(t, m), m.clock).Keys(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	for _, url := range []string{"", "169.254.169.254", "https://169.254.169.254", "http://", "http://s3cret@h", "http://h\x7f"} {
		if _, err := ServerRoleCredentials(url, time.Now); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// Without an Expiration that can be read the keys are still renewed.
func TestServerRoleWithoutExpiration(t *testing.T) {
	t.Parallel()
	m := newMetadata(0)
	m.body = `{"AccessKeyId":"ak","SecretAccessKey":"sk","Expiration":null}`
	c := roleAt(t, served(t, m), m.clock)
	for _, want := range []int{1, 1, 2} {
		if _, err := c.Keys(t.Context()); err != nil || m.askedFor() != want {
			t.Fatalf("asked %d times, want %d: %v", m.askedFor(), want, err)
		}
		m.set(func(m *metadata) { m.now = m.now.Add(3 * time.Minute) })
	}
}

// The metadata service hangs: who waits for it can still be called off.
func TestServerRoleWaitsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	hanging := served(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	c := roleAt(t, hanging, time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range 3 { // one asks, two wait for it
		wg.Go(func() {
			if _, err := c.Keys(ctx); errors.Is(err, context.Canceled) {
				failed.Add(1)
			}
		})
	}
	c.Invalidate(Keys{"a", "b"}) // does not wait
	cancel()
	wg.Wait()
	if failed.Load() != 3 {
		t.Errorf("%d of 3 calls were called off", failed.Load())
	}
}

func TestServerRoleIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := roleAt(t, "http://169.254.169.254", time.Now)
		role, ok := c.(*serverRole)
		if !ok {
			t.Fatalf("%T", c)
		}
		role.http.Transport = roundTripFunc(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		start := time.Now()
		if _, err := c.Keys(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != metadataTimeout {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

// The keys of a role work, and are renewed when NCP refuses them.
func TestServerRoleOnTheWire(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{Keys: []ncptest.Key{{AccessKey: "ak-1", SecretKey: "sk-1"}}})
	m := newMetadata(time.Hour)
	c := roleAt(t, served(t, m), m.clock)
	api := certificateManagerAt(t, sim.URL(), retries(1), func(cfg *Config) { cfg.Credentials = c })
	if err := changesOf(t, api); err != nil {
		t.Fatal(err)
	}
	sim.SetKeys(ncptest.Key{AccessKey: "ak-2", SecretKey: "sk-2"})
	m.set(func(m *metadata) { m.version = 2 })
	if err := changesOf(t, api); err != nil {
		t.Fatal(err)
	}
	if sim.Unsigned() != 1 || m.askedFor() != 2 {
		t.Errorf("%d refused, keys asked for %d times", sim.Unsigned(), m.askedFor())
	}
}
