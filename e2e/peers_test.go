//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// mostForPeers is what the image has, in README: 64 MiB.
const mostForPeers = 64

func checkPeak(t *testing.T, got float64) {
	t.Helper()
	t.Logf("%.0f MiB were resident at most", got)
	if got > mostForPeers {
		t.Errorf("%.0f MiB were resident, more than %d", got, mostForPeers)
	}
}

// TestIdleConnections holds 2,000 connections open, half of which have had an answer.
func TestIdleConnections(t *testing.T) { checkPeak(t, peakOfConnections(t)) }

func peakOfConnections(t testing.TB) float64 {
	t.Helper()
	socket, address := socket(t)
	p := startCmd(t, append(demoKeys(), "LISTEN_FDS=1"), activated(t, socket, simulate(t).args()...))
	p.address(t)
	for i := range 2_000 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if i%2 > 0 {
			continue
		}
		_, err = io.WriteString(conn, "GET /-/healthy HTTP/1.1\r\nHost: exporter\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		_ = resp.Body.Close()
	}
	e := exporter{p, "http://" + address}
	e.scrape(t).want(t, success(externalAccess), 1)
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d descriptors are open", len(descriptors))
	if len(descriptors) > 300 {
		t.Error("more than 300")
	}
	most := e.peak(t)
	stop(t, p, syscall.SIGTERM)
	return most
}

// TestManyScrapes sends 200 scrapes of 1,000 subjects at once.
func TestManyScrapes(t *testing.T) {
	t.Run("limited", func(t *testing.T) { checkPeak(t, peakOfLimitedScrapes(t)) })
	t.Run("without a limit", func(t *testing.T) { checkPeak(t, peakOfScrapes(t, "--web.max-requests=0")) })
}

func peakOfLimitedScrapes(t testing.TB) float64 {
	t.Helper()
	return peakOfScrapes(t)
}

func peakOfScrapes(t testing.TB, args ...string) float64 {
	t.Helper()
	n := empty(t)
	populate(n, 1_000, 3)
	e := watch(t, n, append(args, "--ncp.rate-limit=0")...)
	e.scrape(t, long()...)
	var all sync.WaitGroup
	statuses := make(chan int, 200)
	for range cap(statuses) {
		all.Go(func() {
			a, err := get(t.Context(), e.url+"/metrics", long()...)
			if err != nil {
				t.Error(err)
			}
			statuses <- a.status
		})
	}
	all.Wait()
	close(statuses)
	counts := make(map[int]int)
	for status := range statuses {
		counts[status]++
	}
	t.Logf("answers by status: %v", counts)
	if counts[http.StatusOK] == 0 || counts[http.StatusOK]+counts[http.StatusServiceUnavailable] != cap(statuses) || args != nil && counts[http.StatusOK] != cap(statuses) {
		t.Error("some had another answer")
	}
	e.scrape(t, long()...).want(t, success(externalAccess), 1)
	return e.peak(t)
}

// fullPipe is a pipe that takes nothing more, and that nobody reads.
func fullPipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Write(func(fd uintptr) bool {
		for {
			if _, err := syscall.Write(int(fd), make([]byte, 1)); err != nil {
				return true // it is full
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestNobodyReadsTheLog has stderr full from the start.
func TestNobodyReadsTheLog(t *testing.T) {
	socket, address := socket(t)
	n := simulate(t)
	cmd := activated(t, socket, append(n.args(), "--log.level=debug", "--ncp.rate-limit=0")...)
	cmd.Stderr = fullPipe(t)
	p := startCmd(t, append(demoKeys(), "LISTEN_FDS=1"), cmd)
	e := exporter{p, "http://" + address}
	for range 20 {
		e.scrape(t).want(t, success(externalAccess), 1)
	}
	begun := time.Now()
	p.signal(t, syscall.SIGTERM)
	if code, took := p.exit(t), time.Since(begun); code != 0 || took > stopTime {
		t.Errorf("exit code %d after %s", code, took)
	}
}

// TestAKeyThatIsAPipe has key files that nobody ever writes: at the start they are
// refused, and later the last keys go on.
func TestAKeyThatIsAPipe(t *testing.T) {
	dir := t.TempDir()
	access, secret := filepath.Join(dir, "access"), filepath.Join(dir, "secret")
	for i, file := range []string{access, secret} {
		_, key, _ := strings.Cut(demoKeys()[i], "=")
		if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := append(simulate(t).args(), "--web.listen-address=127.0.0.1:0", "--ncp.access-key-file="+access, "--ncp.secret-key-file="+secret)
	p := start(t, nil, binary, args...)
	e := exporter{p, "http://" + p.address(t)}
	e.scrape(t).want(t, success(externalAccess), 1)
	if err := os.Remove(access); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(access, 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := get(t.Context(), e.url+"/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "1"); err != nil || a.status != http.StatusOK {
		t.Errorf("a scrape meanwhile: HTTP %d, %v", a.status, err)
	}
	begun := time.Now()
	p.signal(t, syscall.SIGTERM)
	if _, took := p.exit(t), time.Since(begun); took > stopTime {
		t.Errorf("it took %s to stop", took)
	}

	p = start(t, nil, binary, args...)
	if code := p.exit(t); code != 1 || !strings.Contains(p.out.String(), "not a file of keys") {
		t.Errorf("a start with it: exit code %d", code)
	}
}
