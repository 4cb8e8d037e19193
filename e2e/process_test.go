//go:build e2e

package e2e

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// stopTime is what the program promises to need from a signal to its end.
const stopTime = 5 * time.Second

func TestSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			e := watch(t, simulate(t))
			e.scrape(t)
			stopped := stop(t, e.process, s)
			t.Logf("idle: %d ms", stopped.Milliseconds())
		})
		t.Run(s.String()+" while NCP hangs", func(t *testing.T) {
			n := simulate(t)
			asked := make(chan struct{}, 100)
			for _, server := range []*ncptest.Server{n.certificateManager, n.externalAccess} {
				server.OnRequest(func(ncptest.Request) { asked <- struct{}{} })
				server.SetFault(ncptest.Always(ncptest.Hang()))
			}
			e := watch(t, n, "--ncp.timeout=1h", "--scrape.timeout=1h")
			type result struct {
				answer
				err error
			}
			scraped := make(chan result, 1)
			go func() {
				a, err := get(t.Context(), e.url+"/metrics")
				scraped <- result{a, err}
			}()
			for range 2 { // both APIs
				select {
				case <-asked:
				case <-time.After(bound):
					t.Fatal("NCP was not asked")
				}
			}
			stopped := stop(t, e.process, s)
			t.Logf("with a scrape in flight: %d ms", stopped.Milliseconds())
			r := <-scraped
			if r.err != nil || r.status != http.StatusOK {
				t.Fatalf("the scrape in flight: HTTP %d, %v", r.status, r.err)
			}
			metrics := parse(t, r.body)
			metrics.want(t, success(certificateManager), 0)
			metrics.want(t, success(externalAccess), 0)
		})
	}
}

func stop(t testing.TB, p *process, s os.Signal) time.Duration {
	t.Helper()
	begun := time.Now()
	p.signal(t, s)
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	took := time.Since(begun)
	if took > stopTime {
		t.Errorf("it took %s to stop", took)
	}
	if out := p.out.String(); strings.Contains(out, "level=error") || !strings.Contains(out, "msg=Stopped") {
		t.Errorf("not a quiet end")
	}
	return took
}

// TestSecondSignal is for those who do not want to wait.
func TestSecondSignal(t *testing.T) {
	n := simulate(t)
	asked := make(chan struct{}, 100)
	n.certificateManager.OnRequest(func(ncptest.Request) { asked <- struct{}{} })
	n.certificateManager.SetFault(ncptest.Always(ncptest.Hang()))
	e := watch(t, n, "--ncp.timeout=1h", "--scrape.timeout=1h")
	go func() { _, _ = get(t.Context(), e.url+"/metrics") }() // it is cut off
	<-asked
	e.signal(t, syscall.SIGTERM)
	e.wait(t, regexp.MustCompile(`msg="Stopping`))
	// Which of the signals is the first that nobody catches is up to the scheduler.
	eventually(t, "the process ends", func() error {
		_ = e.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-e.ended:
			return nil
		default:
			return errNotYet
		}
	})
	if code := e.exit(t); code != -1 {
		t.Errorf("exit code %d, want the end by the signal", code)
	}
}

// TestStart measures the time from the start to the first answer.
func TestStart(t *testing.T) {
	n := simulate(t)
	var took []time.Duration
	for range 7 {
		e := watch(t, n)
		e.scrape(t)
		took = append(took, time.Since(e.begun))
		stop(t, e.process, syscall.SIGTERM)
	}
	slices.Sort(took)
	t.Logf("start to first metrics: %d ms at best, %d ms in the middle, %d ms at worst",
		took[0].Milliseconds(), took[len(took)/2].Milliseconds(), took[len(took)-1].Milliseconds())
	if took[len(took)/2] > 5*time.Second {
		t.Errorf("start to first metrics: %s", took[len(took)/2])
	}
}

func TestSize(t *testing.T) {
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	const most = 15_900_000
	t.Logf("%d bytes", info.Size())
	if info.Size() > most {
		t.Errorf("the binary has %d bytes, more than %d", info.Size(), most)
	}
}

func TestMemory(t *testing.T) {
	e := watch(t, simulate(t))
	e.scrape(t)
	const most = 25 << 10
	once := memory(t, e.process, "VmRSS")
	for range 20 {
		e.scrape(t)
	}
	later := memory(t, e.process, "VmRSS")
	t.Logf("resident: %d KiB after one scrape, %d KiB after 21", once, later)
	if max(once, later) > most {
		t.Errorf("resident: %d and %d KiB, more than %d", once, later, most)
	}
}

// TestSystemdSocket hands a listening socket over as systemd does.
func TestSystemdSocket(t *testing.T) {
	socket, address := socket(t)
	p := startCmd(t, append(demoKeys(), "LISTEN_FDS=1"), activated(t, socket, simulate(t).args()...))
	if got := p.address(t); got != address {
		t.Errorf("listens on %s, want %s", got, address)
	}
	exporter{p, "http://" + address}.scrape(t).want(t, success(externalAccess), 1)
	stop(t, p, syscall.SIGTERM)
}

// socket is one that listens.
func socket(t testing.TB) (file *os.File, address string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		t.Fatalf("a %T", listener)
	}
	if file, err = tcp.File(); err != nil {
		t.Fatal(err)
	}
	_ = listener.Close() // file is another handle of the socket
	t.Cleanup(func() { _ = file.Close() })
	return file, listener.Addr().String()
}

// activated is the program that serves on a socket, with the descriptors of a usual
// machine.
func activated(t testing.TB, socket *os.File, args ...string) *exec.Cmd {
	t.Helper()
	// LISTEN_PID is the shell's own, which becomes the program's.
	args = append([]string{"-c", `ulimit -n 1024; LISTEN_PID=$$ exec "$0" "$@"`, binary}, args...)
	cmd := exec.CommandContext(t.Context(), "sh", args...) //nolint:gosec // a fixed script
	cmd.ExtraFiles = []*os.File{socket}
	return cmd
}
