//go:build e2e

package e2e

import (
	"context"
	"net/http/httptrace"
	"sync"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// 50 scrapes at once are answered from one refresh, all of them whole.
func TestOverlap(t *testing.T) {
	const scrapes, subjects, latency = 50, 30, 200 * time.Millisecond
	n := empty(t)
	populate(n, subjects, 3)
	n.certificateManager.SetChanges(ncptest.Change{OrderID: "1", CertificateID: 1, Status: ncptest.StatusOngoing})
	e := watch(t, n, "--ncp.rate-limit=0", "--web.max-requests=0", "--scrape.timeout="+bound.String())
	e.scrape(t) // the first learns how the server counts and ends
	n.certificateManager.ResetStats()
	n.externalAccess.ResetStats()
	// NCP answers when all have been sent, and then takes its time, so that the
	// last is read before the refresh ends.
	sent := make(chan struct{})
	for _, s := range []*ncptest.Server{n.certificateManager, n.externalAccess} {
		s.Configure(func(c *ncptest.Config) { c.Latency = latency })
		s.OnRequest(func(ncptest.Request) { <-sent })
	}
	var sending, answered sync.WaitGroup
	sending.Add(scrapes)
	answers := make(chan answer, scrapes)
	for range scrapes {
		answered.Go(func() {
			done := sync.OnceFunc(sending.Done)
			defer done() // if it cannot be sent
			ctx := httptrace.WithClientTrace(context.WithoutCancel(t.Context()), &httptrace.ClientTrace{
				WroteRequest: func(httptrace.WroteRequestInfo) { done() },
			})
			a, err := get(ctx, e.url+"/metrics")
			if err != nil {
				t.Error(err)
			}
			answers <- a
		})
	}
	sending.Wait()
	close(sent)
	answered.Wait()
	close(answers)
	for a := range answers {
		s := parse(t, a.body)
		s.want(t, success(certificateManager), 1)
		s.want(t, success(externalAccess), 1)
		s.want(t, seriesName("ncp_external_access_subjects", nil), subjects)
	}
	for _, asked := range []struct {
		server *ncptest.Server
		op     ncptest.Operation
		want   int
	}{{n.certificateManager, ncptest.RecentChanges, 1}, {n.externalAccess, ncptest.Subjects, 1}, {n.externalAccess, ncptest.Credentials, subjects}} {
		if got := asked.server.Count(asked.op); got != asked.want {
			t.Errorf("%d calls of %s, want %d", got, asked.op, asked.want)
		}
	}
}
