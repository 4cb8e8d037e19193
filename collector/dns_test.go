package collector

import (
	"context"
	"net"
	"testing"
	"time"
)

// While the name of NCP's host cannot be resolved, scrapes are answered in time. The
// first one after that is complete.
func TestDNSFails(t *testing.T) {
	const timeout = 2 * time.Second
	for name, fail := range map[string]func(context.Context) error{
		"not found": func(context.Context) error { return &net.DNSError{Err: "no such host", IsNotFound: true} },
		"temporary": func(context.Context) error { return &net.DNSError{Err: "server misbehaving", IsTemporary: true} },
		"timeout":   func(context.Context) error { return &net.DNSError{Err: "i/o timeout", IsTimeout: true} },
		"hangs": func(ctx context.Context) error {
			<-ctx.Done()
			return &net.DNSError{Err: ctx.Err().Error(), IsTimeout: true}
		},
	} {
		t.Run(name, func(t *testing.T) {
			fails := make(chan struct{}) // until it is closed
			w := newWorld(t, worldOptions{retries: 3, timeout: 1500 * time.Millisecond, dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				select {
				case <-fails:
					return (&net.Dialer{}).DialContext(ctx, network, address)
				default:
					return nil, &net.OpError{Op: "dial", Net: network, Err: fail(ctx)}
				}
			}})
			put(w.Server, "s")
			w.AddCredentials("s", history(5)...)
			w.SetChanges(change("1", 1, "Ongoing"))
			for range 2 {
				s := w.within(t, timeout)
				for _, c := range []string{eaCollector, cmCollector} {
					wantValue(t, s, 0, successFamily, "collector", c)
				}
				wantAbsent(t, s, authFamily)
			}
			close(fails)
			s := w.within(t, timeout)
			if ok, _ := value(t, s, successFamily, "collector", eaCollector); ok == 0 { // it shared a request that still hung
				s = w.within(t, timeout)
			}
			for _, c := range []string{eaCollector, cmCollector} {
				wantValue(t, s, 1, successFamily, "collector", c)
			}
			wantValue(t, s, 4, authFamily, "subject_id", "s", "result", "success")
			wantValue(t, s, 1, authFamily, "subject_id", "s", "result", "failure")
			wantValue(t, s, 1, changedFamily, "status", "ongoing")
		})
	}
}
