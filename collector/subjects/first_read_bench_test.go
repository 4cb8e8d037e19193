package subjects

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/ncpclient"
	"ncp_exporter/ncpclient/ncptest"
)

// firstReadRows is the length of BenchmarkFirstRead's history.
var firstReadRows = flag.Int("first-read-rows", 100_000, "rows of BenchmarkFirstRead's history") //nolint:gochecknoglobals // a flag of the test binary

// BenchmarkFirstRead compares the first complete read of a long history, over pages
// of 1,000 rows with their certificates, with a bare loop that fetches and decodes the
// same pages with the same client, also one after the other. The two run in turns, so
// that noise on the machine disturbs both. The ledger must reach at least 0.6 of the
// loop's rows a second. For a million rows:
//
//	go test -run '^$' -bench FirstRead -benchtime 3x ./collector/subjects -first-read-rows 1000000
func BenchmarkFirstRead(b *testing.B) {
	const subject, size = "c2dea79b-0000-0000-0000-c162618da1f0", 1000
	rows := *firstReadRows
	server := ncptest.New(ncptest.Config{})
	begin := time.Now().Add(-30 * 24 * time.Hour)
	certificate := "-----BEGIN CERTIFICATE-----\n" + strings.Repeat("MIIDazCCAlOgAwIBAgIUQ3VydG9wc2VjcmV0bm90cmVhbGx5\n", 29) + "-----END CERTIFICATE-----\n"
	batch := make([]ncptest.Credential, 0, size)
	for i := range rows {
		c := ncptest.NewCredential(begin.Add(time.Duration(i)*time.Second), fmt.Sprintf("%024X", i), i%5 == 0)
		c.X509CertificateData = certificate
		if batch = append(batch, c); len(batch) == size || i == rows-1 {
			server.AddCredentials(subject, batch...)
			batch = batch[:0]
		}
	}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	transport := ncpclient.NewTransport(10, nil)
	b.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := server.Close(); err != nil {
			b.Error(err)
		}
	})
	client, err := ncpclient.NewExternalAccess(ncpclient.Config{
		BaseURL:     server.ExternalAccessURL(),
		Credentials: ncpclient.StaticCredentials(ncpclient.Keys{AccessKey: ncptest.DemoAccessKey, SecretKey: ncptest.DemoSecretKey}, "test"),
		Transport:   transport,
		Timeout:     time.Minute,
	})
	if err != nil {
		b.Fatal(err)
	}
	timed := func(read func(ctx context.Context) int) time.Duration {
		runtime.GC() // so that neither collects the garbage of the other
		begin := time.Now()
		if got := read(b.Context()); got != rows {
			b.Fatalf("%d rows were read, want %d", got, rows)
		}
		return time.Since(begin)
	}
	counted := func(ctx context.Context) int {
		l := ledger.New(ledger.Options{LateArrival: time.Hour, Now: time.Now})
		read, err := l.Plan(subject).Read(ctx, &history{client: client, subjectID: subject, pace: func() error { return nil }, now: time.Now}, size)
		if err != nil {
			b.Fatal(err)
		}
		l.Apply(subject, read)
		l.Commit()
		totals, _ := l.Totals(subject)
		return int(totals.Count[ledger.Success] + totals.Count[ledger.Failure]) //nolint:gosec // at most a million
	}
	bare := func(ctx context.Context) int {
		n := 0
		for number := 0; ; number++ {
			page, err := client.CredentialsPage(ctx, subject, number, size)
			if err != nil {
				b.Fatal(err)
			}
			if n += len(page.Rows); len(page.Rows) == 0 { // the ledger asks for a page behind the last one too
				return n
			}
		}
	}
	timed(bare)
	var ours, theirs []time.Duration
	for b.Loop() {
		ours = append(ours, timed(counted))
		theirs = append(theirs, timed(bare))
	}
	ourTime, theirTime := median(ours), median(theirs)
	b.ReportMetric(float64(rows)/ourTime.Seconds(), "rows/s")
	b.ReportMetric(theirTime.Seconds()/ourTime.Seconds(), "ledger/bare")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
