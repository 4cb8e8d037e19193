//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// wire is what a proxy does to the connections through it.
type wire struct {
	name string
	// accept has a connection as soon as it is there, which is closed after that;
	// nil lets it through.
	accept func(p *proxy, conn *net.TCPConn)
	// answer has what NCP says, and ends the connection with an error; nil passes
	// it on.
	answer func(p *proxy, to *net.TCPConn, from *bufio.Reader) error
}

// proxy stands between the exporter and NCP, knows no HTTP, and does to the
// bytes whatever can happen to them.
type proxy struct {
	address, target string

	mu       sync.Mutex
	listener *net.TCPListener // nil: refuses
	wire     wire
	turned   chan struct{} // closed when the wire is another
	conns    map[net.Conn]struct{}
	running  sync.WaitGroup
}

// newProxy makes a proxy to the host of a URL, and gives the URL through it.
func newProxy(t *testing.T, target string) (p *proxy, through string) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p = &proxy{address: "127.0.0.1:0", target: u.Host, turned: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	p.listen(t)
	t.Cleanup(p.close)
	u.Host = p.address
	return p, u.String()
}

// listen takes connections again, at the same place as before.
func (p *proxy) listen(t *testing.T) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	listener, ok := l.(*net.TCPListener)
	if !ok {
		t.Fatalf("a %T", l)
	}
	p.mu.Lock()
	p.address, p.listener = l.Addr().String(), listener
	p.mu.Unlock()
	p.running.Go(func() {
		for {
			conn, err := listener.AcceptTCP()
			if err != nil {
				return
			}
			p.running.Go(func() { p.serve(conn) })
		}
	})
}

// set changes what the wire does, also to connections that are there.
func (p *proxy) set(w wire) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wire = w
	close(p.turned)
	p.turned = make(chan struct{})
}

// now is what the wire does, and what tells that it does something else.
func (p *proxy) now() (wire, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wire, p.turned
}

// refuse has nobody listen, and cuts the connections that are there.
func (p *proxy) refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.listener.Close()
	for conn := range p.conns {
		_ = conn.Close()
	}
}

func (p *proxy) close() {
	p.refuse()
	p.set(wire{})
	p.running.Wait()
}

// open is how many connections there are.
func (p *proxy) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// keep counts a connection until it is closed by the function that comes back.
func (p *proxy) keep(conn net.Conn) (closed func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[conn] = struct{}{}
	return func() {
		_ = conn.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, conn)
	}
}

func (p *proxy) serve(client *net.TCPConn) {
	defer p.keep(client)()
	if w, _ := p.now(); w.accept != nil {
		w.accept(p, client)
		return
	}
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.target)
	if err != nil {
		return
	}
	server, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	defer server.Close() //nolint:errcheck // it may be closed already
	p.running.Go(func() {
		_, _ = io.Copy(server, client) // until either has gone
		_ = server.Close()
	})
	answers := bufio.NewReader(server)
	for {
		// At the first byte of an answer it is decided what becomes of it.
		if _, err := answers.Peek(1); err != nil {
			return
		}
		w, _ := p.now()
		if w.answer == nil {
			w.answer = pass
		}
		if err := w.answer(p, client, answers); err != nil {
			return
		}
	}
}

// pass hands on what has come.
func pass(_ *proxy, to *net.TCPConn, from *bufio.Reader) error {
	_, err := io.CopyN(to, from, int64(from.Buffered()))
	return err
}

// gone waits until the other side closes a connection.
func gone(conn *net.TCPConn) { _, _ = io.Copy(io.Discard, conn) }

var errCut = errors.New("cut")

// hangs is a wire that takes all and says nothing.
func hangs() wire {
	return wire{name: "hangs", accept: func(_ *proxy, c *net.TCPConn) { gone(c) }, answer: silence}
}

func silence(_ *proxy, to *net.TCPConn, _ *bufio.Reader) error {
	gone(to) // the exporter gives up, and not we
	return errCut
}

// delays holds each answer back.
func delays(d time.Duration) wire {
	return wire{name: "delays", answer: func(p *proxy, to *net.TCPConn, from *bufio.Reader) error {
		_, turned := p.now()
		wait(d, turned)
		return pass(p, to, from)
	}}
}

// wait is over after a time, or when something happens.
func wait(d time.Duration, happens <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-happens:
	}
}

// throttles lets a few bytes a second through.
func throttles() wire {
	return wire{name: "throttles", answer: func(p *proxy, to *net.TCPConn, from *bufio.Reader) error {
		for {
			_, turned := p.now()
			if _, err := io.CopyN(to, from, 5); err != nil {
				return err
			}
			select {
			case <-turned:
				return nil // the rest comes as the wire is then
			default:
				wait(time.Second, turned)
			}
		}
	}}
}

// cuts closes a connection after some bytes of an answer.
func cuts(where string, after func(*bufio.Reader) int) wire {
	return wire{name: "cuts " + where, answer: func(_ *proxy, to *net.TCPConn, from *bufio.Reader) error {
		_, _ = io.CopyN(to, from, int64(after(from))) // cut anyway
		return errCut
	}}
}

func cutsHeader() wire { return cuts("the header", func(*bufio.Reader) int { return 20 }) }

func cutsBody() wire {
	return cuts("the body", func(r *bufio.Reader) int { return r.Buffered() - 5 })
}

// resets ends a connection with RST, as it comes or in the middle of an answer.
func resets(where string, after int) wire {
	reset := func(c *net.TCPConn) { _ = c.SetLinger(0) } // Close then sends it
	w := wire{name: "resets " + where, answer: func(_ *proxy, to *net.TCPConn, from *bufio.Reader) error {
		_, _ = io.CopyN(to, from, int64(after)) // cut anyway
		reset(to)
		return errCut
	}}
	if after == 0 {
		w.accept = func(_ *proxy, c *net.TCPConn) { reset(c) }
	}
	return w
}

// refuses is seen to by the test, as it is no matter of a connection.
func refuses() wire { return wire{name: "refuses"} }

func wires() []wire {
	return []wire{
		hangs(), delays(200 * time.Millisecond), delays(time.Hour), throttles(),
		cutsHeader(), cutsBody(), resets("at once", 0), resets("in the answer", 60), refuses(),
	}
}

// wired is an exporter that reaches NCP by a wire, and what it must have counted.
type wired struct {
	exporter
	ncp
	proxies []*proxy
	logins  map[string]int // by subject
	n       int
}

// The scrapes of these tests are short, so that many fit. What hangs is given up
// after two requests of a second each, which is later than they may last.
const scrapeTime = 2 * time.Second

func newWired(t *testing.T) *wired {
	t.Helper()
	w := &wired{ncp: empty(t), logins: make(map[string]int)}
	var throughs []string
	for _, target := range []string{w.certificateManager.CertificateManagerURL(), w.externalAccess.ExternalAccessURL()} {
		p, through := newProxy(t, target)
		w.proxies = append(w.proxies, p)
		throughs = append(throughs, through)
	}
	for i := range 15 {
		id := subjectID(i)
		w.externalAccess.PutSubject(ncptest.Subject{SubjectID: id, X509Subject: "CN=" + id, Enabled: true})
	}
	w.login()
	w.exporter = launch(t, demoKeys(), "--ncp.certificate-manager.url="+throughs[0], "--ncp.external-access.url="+throughs[1],
		"--ncp.rate-limit=0", "--ncp.timeout=1s")
	return w
}

// login adds one authentication of each subject.
func (w *wired) login() {
	w.n++
	for i := range 15 {
		w.externalAccess.AddCredentials(subjectID(i), ncptest.NewCredential(time.Now(), strconv.Itoa(w.n), false))
		w.logins[subjectID(i)]++
	}
	w.certificateManager.SetChanges(ncptest.Change{OrderID: "1", CertificateID: int64(w.n), Status: ncptest.StatusOngoing})
}

// scrapes is a scrape by a client that waits no longer than it says, as
// Prometheus does.
func (w *wired) scrapes(t *testing.T) scrape {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", formatFloat(scrapeTime.Seconds()))
	prometheus := client()
	prometheus.Timeout = scrapeTime
	resp, err := prometheus.Do(req)
	if err != nil {
		t.Fatalf("the scrape was not answered in time: %v", err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("HTTP %d, %v", resp.StatusCode, err)
	}
	return parse(t, string(body))
}

// during has the wire do something for some scrapes, while logins go on.
func (w *wired) during(t *testing.T, fault wire, scrapes int, proxies ...*proxy) {
	t.Helper()
	for _, p := range proxies {
		p.set(fault)
		if fault.name == refuses().name {
			p.refuse()
		}
	}
	for range scrapes {
		w.login()
		w.scrapes(t)
	}
	for _, p := range proxies {
		p.set(wire{})
		if fault.name == refuses().name {
			p.listen(t)
		}
	}
}

// well wants all to be right by the second scrape. The first may be answered from
// what NCP said before the last login, and what came late.
func (w *wired) well(t *testing.T) {
	t.Helper()
	w.login()
	w.scrapes(t)
	s := w.scrapes(t)
	s.want(t, success(certificateManager), 1)
	s.want(t, success(externalAccess), 1)
	for id, logins := range w.logins {
		s.want(t, seriesName(authentications, map[string]string{"subject_id": id, "result": "success"}), float64(logins))
		s.want(t, seriesName("ncp_external_access_credential_history_entries", map[string]string{"subject_id": id}), float64(logins))
	}
}

// goroutines is how many the exporter has at the end of a scrape.
func (w *wired) goroutines(t *testing.T) float64 {
	t.Helper()
	return w.scrapes(t)["go_goroutines{}"].value
}

// settled waits until the exporter has no more goroutines than when all was well.
func (w *wired) settled(t *testing.T, least float64) {
	t.Helper()
	eventually(t, fmt.Sprintf("no more than %v goroutines", least), func() error {
		if now := w.goroutines(t); now > least {
			return fmt.Errorf("there are %v", now)
		}
		return nil
	})
}

// most is how many goroutines the exporter has when all is well: it may keep a
// connection for each request in flight.
func (w *wired) most(t *testing.T) float64 {
	t.Helper()
	w.well(t)
	most := 0.0
	for range 5 {
		most = max(most, w.goroutines(t))
	}
	return most
}

func TestWire(t *testing.T) {
	for _, fault := range wires() {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			w := newWired(t)
			most := w.most(t)
			for i, proxies := range [][]*proxy{w.proxies[:1], w.proxies[1:], w.proxies} {
				w.during(t, fault, 1+i/2, proxies...)
				w.well(t)
			}
			w.settled(t, most)
			w.ends(t)
		})
	}
}

// Any sequence of faults, with the two APIs in step or not.
func TestWireStorm(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // the same each time
			w := newWired(t)
			most := w.most(t)
			for range 4 {
				var said []string
				for range 1 + random.IntN(3) {
					fault := wires()[random.IntN(len(wires()))]
					proxies := w.proxies[random.IntN(2):][:1]
					if random.IntN(2) == 0 {
						proxies = w.proxies
					}
					said = append(said, fault.name)
					w.during(t, fault, 1, proxies...)
				}
				w.well(t)
				if t.Failed() {
					t.Fatalf("after %q", said)
				}
			}
			w.settled(t, most)
			w.ends(t)
		})
	}
}

// ends stops the exporter, which lets go of every connection.
func (w *wired) ends(t *testing.T) {
	t.Helper()
	w.signal(t, os.Interrupt)
	w.exit(t)
	eventually(t, "the connections are closed", func() error {
		if n := w.proxies[0].open() + w.proxies[1].open(); n > 0 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
}
