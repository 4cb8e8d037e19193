package ncptest

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeClock is a clock that a test moves.
type fakeClock struct{ nanos atomic.Int64 }

func newFakeClock() *fakeClock {
	c := &fakeClock{}
	c.nanos.Store(start().UnixNano())
	return c
}

func (c *fakeClock) now() time.Time { return time.Unix(0, c.nanos.Load()) }

func (c *fakeClock) pass(d time.Duration) time.Time { return time.Unix(0, c.nanos.Add(int64(d))) }

// picture is all that the API shows of an account.
func picture(s *Server) string {
	s.account.mu.RLock()
	defer s.account.mu.RUnlock()
	var b []byte
	for _, c := range s.account.changes {
		b = append(b, c.OrderID+" "+c.Status+" "+c.ChangedAt.UTC().String()+"\n"...)
	}
	for _, sub := range s.account.listed {
		b = append(sub.append(b), '\n')
		for _, r := range sub.rows {
			b = append(r.append(b), '\n')
		}
	}
	return string(b)
}

func named(d *Demo, name string) *subject {
	d.account.mu.RLock()
	defer d.account.mu.RUnlock()
	for _, sub := range d.account.listed {
		if strings.HasPrefix(sub.X509Subject, "CN="+name+",") {
			return sub
		}
	}
	return nil
}

func failures(sub *subject) int {
	n := 0
	for _, r := range sub.rows {
		if r.failed == yes {
			n++
		}
	}
	return n
}

func TestDemoDoesNotDependOnSteps(t *testing.T) {
	t.Parallel()
	move := func(seed uint64, steps ...time.Duration) string {
		clock := newFakeClock()
		d := NewDemo(Config{Now: clock.now, Seed: seed})
		for _, step := range steps {
			d.Advance(clock.pass(step))
		}
		return picture(d.Server)
	}
	many := make([]time.Duration, 600)
	for i := range many {
		many[i] = time.Second
	}
	atOnce := move(1, 10*time.Minute)
	if diff := cmp.Diff(atOnce, move(1, many...)); diff != "" {
		t.Error(diff)
	}
	if atOnce == move(2, 10*time.Minute) {
		t.Error("the seed changes nothing")
	}
	if atOnce != move(1, 10*time.Minute, -5*time.Minute) {
		t.Error("the account went back")
	}
}

func TestDemoStory(t *testing.T) { //nolint:cyclop // one story, told in order
	t.Parallel()
	clock := newFakeClock()
	d := NewDemo(Config{Now: clock.now})
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	statuses := func() map[string]int {
		var answer struct {
			Orders []struct{ Status string }
		}
		body := get(t, d.Server, "/api/v2/certificate/recentChanges?minutes=1440").body
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		counts := map[string]int{}
		for _, o := range answer.Orders {
			counts[o.Status]++
		}
		return counts
	}

	if diff := cmp.Diff(map[string]int{StatusNormal: 2, StatusOngoing: 6}, statuses()); diff != "" {
		t.Errorf("certificates at the start: %s", diff)
	}
	if p := getPage(t, d.Server, subjectsPath); p.TotalElements != 6 {
		t.Errorf("%d subjects at the start", p.TotalElements)
	}
	rows := 0
	for _, w := range d.workloads {
		rows += d.CredentialCount(w.SubjectID)
	}
	if rows < 500 || rows > 2000 {
		t.Errorf("%d rows at the start", rows)
	}
	if named(d, "fraud-scoring") != nil {
		t.Error("the new subject is there already")
	}
	if sub := named(d, "partner-portal"); sub.Enabled || failures(sub) == 0 || len(sub.rows) != 40 {
		t.Error("the disabled subject is not as it should be")
	}
	block, _ := pem.Decode([]byte(named(d, "payment-api").rows[0].cert.plain))
	if block == nil {
		t.Fatal("no certificate in the history")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || cert.Subject.CommonName != "payment-api" || cert.Issuer.CommonName != "Example Issuing CA G2" {
		t.Errorf("certificate: %v, %v", cert, err)
	}

	d.Advance(clock.pass(70 * time.Second))
	fresh := named(d, "fraud-scoring")
	if fresh == nil || fresh.rows[0].failed != yes || fresh.LastSeenTime == "" {
		t.Fatal("the new subject has not come with a failure")
	}

	d.Advance(clock.pass(150 * time.Second)) // 3:40 min
	if got := statuses(); got[StatusValidationTimedOut] != 1 || got[StatusNormal] != 5 {
		t.Errorf("certificates after 3:40 min: %v", got)
	}
	legacy := named(d, "legacy-batch")
	if n := failures(legacy); n*3 < len(legacy.rows)*2-3 || n == len(legacy.rows) {
		t.Errorf("legacy-batch failed %d of %d times", n, len(legacy.rows))
	}

	d.Advance(clock.pass(3 * 24 * time.Hour)) // a laptop that slept
	for _, w := range d.workloads {
		if w.interval == 0 {
			continue
		}
		rows := d.account.subjects[w.SubjectID].rows
		if len(rows) != demoRetention {
			t.Errorf("%s has %d rows", w.X509Subject, len(rows))
		}
		if newest := rows[len(rows)-1]; clock.now().Sub(time.Unix(0, newest.at)) > time.Minute {
			t.Errorf("%s has come to a halt", w.X509Subject)
		}
	}
	if n := len(d.account.changes); n > demoCertificates {
		t.Errorf("%d certificates", n)
	}
}

func TestDemoRun(t *testing.T) {
	t.Parallel()
	clock := newFakeClock()
	d := NewDemo(Config{Now: clock.now})
	id := d.workloads[0].SubjectID
	before := d.CredentialCount(id)
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() { d.Run(ctx) })
	clock.pass(time.Minute)
	deadline := time.Now().Add(4 * time.Second)
	for d.CredentialCount(id) == before && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if d.CredentialCount(id) == before {
		t.Error("Run does not move the account")
	}
	cancel()
	ended.Wait()
}

func BenchmarkNewDemo(b *testing.B) {
	b.ReportAllocs()
	for range b.N {
		NewDemo(Config{Now: frozen})
	}
}
