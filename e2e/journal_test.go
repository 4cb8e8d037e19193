//go:build e2e

package e2e

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// TestAuthenticationsInTheLog ends the exporter while logins go on, by SIGKILL and by
// SIGINT: each login is in the log of some process, and twice only after a SIGKILL;
// those of the first history are in none.
func TestAuthenticationsInTheLog(t *testing.T) {
	const first, journal = 60, "--log.authentications=all"
	l := newLogins(t, ncptest.NewestFirst)
	state := filepath.Join(t.TempDir(), "ledger.db")
	for range first {
		l.login()
	}
	told, more := make(map[int]int), 0 // how often by login; how many were not told
	line := regexp.MustCompile(`(?m)^level=info ts=\S+ collector=external_access subject_id=(?:one|two|three) x509_subject="CN=(?:one|two|three)" msg=(?:Authentication result=(?:success|failure) issuer="CN=[^"]+" serial_number=(\d+) seen_time=\S+|"More [^"]*" number=(\d+))$`)
	read := func(e exporter, killed bool) {
		t.Helper()
		inThis := make(map[string]bool)
		for _, match := range line.FindAllStringSubmatch(e.out.String(), -1) {
			serial, _ := strconv.Atoi(match[1]) // 0 if there is none
			others, _ := strconv.Atoi(match[2])
			more += others
			if serial == 0 {
				continue
			}
			if told[serial]++; inThis[match[1]] || serial <= first || told[serial] > 1 && !killed {
				t.Errorf("login %d is told once more, %d times in all", serial, told[serial])
			}
			inThis[match[1]] = true
		}
	}
	e := l.watch(t, state, journal)
	e.scrape(t).want(t, success(externalAccess), 1)
	e.signal(t, os.Interrupt)
	_ = e.exit(t)
	read(e, false)

	stop := l.goOn()
	defer stop()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret hangs on it
	killed := false
	for i := range kills {
		e := l.watch(t, state, journal)
		end := os.Kill
		if i%3 == 0 {
			end = os.Interrupt
		}
		timer := time.AfterFunc(time.Duration(random.IntN(60))*time.Millisecond, func() { _ = e.cmd.Process.Signal(end) })
		for {
			if _, err := l.counted(t, e); err != nil {
				break // it has ended
			}
		}
		timer.Stop()
		_ = e.exit(t)
		read(e, killed)
		killed = end == os.Kill
	}
	stop()
	e = l.watch(t, state, journal)
	l.wantAll(t, e.scrape(t))
	e.signal(t, os.Interrupt)
	_ = e.exit(t)
	read(e, killed)
	missing := l.n - first - len(told)
	t.Logf("%d logins, %d of them told, %d not one by one", l.n, len(told), more)
	if missing > more || len(told) < kills {
		t.Errorf("%d logins were not told, and %d of them are told of", missing, more)
	}
}
