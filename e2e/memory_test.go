//go:build e2e

package e2e

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// certificateText is 1.5 kB that can be read: a certificate, again and again, as
// in a chain. All rows share it, so that the account stays small in this process.
func certificateText() string {
	text := ncptest.NewCertificate(7, time.Now().Add(-24*time.Hour), time.Now().Add(24*time.Hour))
	return strings.Repeat(text, 1+1500/len(text))
}

func subjectID(i int) string { return fmt.Sprintf("c2dea79b-1f5c-4c0e-9a51-%012d", i) }

// populate puts subjects with histories of so many rows, from the past.
func populate(n ncp, subjects, rows int) {
	certificate := certificateText()
	const apart = 20 * time.Second
	begin := time.Now().Add(-max(48*time.Hour, time.Duration(rows)*apart))
	batch := make([]ncptest.Credential, rows)
	for i := range subjects {
		id := subjectID(i)
		n.externalAccess.PutSubject(ncptest.Subject{SubjectID: id, X509Subject: "CN=workload-" + id + ", OU=Platform, O=Example, C=KR", Enabled: i%10 > 0})
		for j := range batch {
			batch[j] = ncptest.NewCredential(begin.Add(time.Duration(j)*apart), fmt.Sprintf("%08X%08X", i, j), j%2 == 0)
			batch[j].X509CertificateData = certificate
		}
		n.externalAccess.AddCredentials(id, batch...)
	}
}

// empty is a simulated NCP for each API with nothing in its account.
func empty(t testing.TB) ncp {
	t.Helper()
	n := ncp{ncptest.New(ncptest.Config{LogSize: 1}), ncptest.New(ncptest.Config{LogSize: 1})}
	for _, s := range []*ncptest.Server{n.certificateManager, n.externalAccess} {
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
	}
	return n
}

// long gives a scrape a minute.
func long() []string { return []string{"X-Prometheus-Scrape-Timeout-Seconds", "60"} }

// zipped scrapes as Prometheus does, compressed, and counts the series of what
// comes without keeping it.
func (e exporter) zipped(t testing.TB) (series int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.url+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1")
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set(long()[0], long()[1])
	resp, err := client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	z, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "#") {
			series++
		}
	}
	if err := lines.Err(); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("HTTP %d, %v", resp.StatusCode, err)
	}
	return series
}

// peak is the most memory that the exporter ever had resident, in MiB, after so
// many scrapes of an account.
func peak(t testing.TB, subjects, rows, scrapes int, args ...string) float64 {
	t.Helper()
	n := empty(t)
	populate(n, subjects, rows)
	e := watch(t, n, args...)
	// The first read of many rows may take more than one scrape.
	eventually(t, "all is read", func() error {
		if e.scrape(t)[success(externalAccess)].value != 1 {
			return errNotYet
		}
		return nil
	})
	for range scrapes {
		e.zipped(t)
	}
	s := e.scrape(t, long()...)
	s.want(t, success(externalAccess), 1)
	last := subjectID(subjects - 1)
	s.want(t, seriesName(authentications, map[string]string{"subject_id": last, "result": "failure"}), float64((rows+1)/2))
	s.want(t, seriesName(authentications, map[string]string{"subject_id": last, "result": "success"}), float64(rows/2))
	return e.peak(t)
}

// peak is the most memory that was ever resident, in MiB.
func (e exporter) peak(t testing.TB) float64 {
	t.Helper()
	return float64(memory(t, e.process, "VmHWM")) / 1024
}

// The most that may ever be resident, in MiB.
const (
	mostForRows     = 128
	mostForSubjects = 88
)

// peakOfRows reads 400,000 rows with their certificates, and then finds nothing
// new in them.
func peakOfRows(t testing.TB) float64 {
	t.Helper()
	return peak(t, 100, 4_000, 3, "--collector.external-access.page-size=1000")
}

// peakOfSubjects has 10,000 subjects that are quiet. Without a limit of the rate
// it is quick, and takes the more memory.
func peakOfSubjects(t testing.TB) float64 {
	t.Helper()
	return peak(t, manySubjects, 3, 6, "--ncp.rate-limit=0")
}

func TestMemoryOfRows(t *testing.T) {
	t.Parallel()
	if got := peakOfRows(t); got > mostForRows {
		t.Errorf("%.0f MiB were resident, more than %d", got, mostForRows)
	} else {
		t.Logf("%.0f MiB", got)
	}
}

// TestMemoryOfOneHistory reads one history of a million rows for the first time.
func TestMemoryOfOneHistory(t *testing.T) {
	t.Parallel()
	checkPeak(t, peakOfOneHistory(t))
}

func peakOfOneHistory(t testing.TB) float64 {
	t.Helper()
	return peak(t, 1, 1_000_000, 1, "--collector.external-access.page-size=1000", "--ncp.rate-limit=0")
}

func TestMemoryOfSubjects(t *testing.T) {
	t.Parallel()
	if got := peakOfSubjects(t); got > mostForSubjects {
		t.Errorf("%.0f MiB were resident, more than %d", got, mostForSubjects)
	} else {
		t.Logf("%.0f MiB", got)
	}
}

// BenchmarkMemory is the tests above, for the table.
func BenchmarkMemory(b *testing.B) {
	for name, peak := range map[string]func(testing.TB) float64{
		"rows=400000": peakOfRows, "subjects=10000": peakOfSubjects, "rows=1000000": peakOfOneHistory, "accounts=100": peakOfAccounts,
		"scrapes=200": peakOfLimitedScrapes, "connections=2000": peakOfConnections,
	} {
		b.Run(name, func(b *testing.B) {
			most := 0.0
			for b.Loop() {
				most = max(most, peak(b))
			}
			b.ReportMetric(most, "peak-MiB")
		})
	}
}

// soaked is how an exporter stood around one scrape of many.
type soaked struct{ heap, resident, goroutines float64 }

// soak scrapes 2,000 times while subjects log in, come and go, certificates
// change, histories are trimmed and some answers are faults. It tells how things
// stood at the 200th scrape, the heap at the 500th, and at the last.
//
// What a single scrape tells of memory is chance: it depends on how far the
// garbage collector has come. So each value stands for 100 scrapes. Of the heap
// it is the size at which the next collection begins, which follows from what
// the last one found in use, where it was least: what some scrape was in the
// middle of is no leak.
func soak(t testing.TB) (early, late soaked) {
	t.Helper()
	const scrapes, window, subjects = 2_000, 100, 20
	n := empty(t)
	// Every subject was seen, and is in the ledger, by the 200th scrape.
	populate(n, subjects, 150)
	for _, s := range []*ncptest.Server{n.certificateManager, n.externalAccess} {
		s.SetFault(ncptest.OneIn(200, 4,
			ncptest.GatewayError(500, "900", "unexpected"), ncptest.Throttled(""), ncptest.CutShort(), ncptest.CutClean(),
			ncptest.HTMLPage(200), ncptest.Reset(), ncptest.NotJSON(), ncptest.EmptyForbidden()))
	}
	// A short late-arrival, as rows are remembered for that long; no retries, as
	// their waits would make the test long.
	// With Go's own GOGC a heap of this size is not collected before it has 4 MB,
	// whatever is in use of it: the garbage would hide a leak.
	e := launch(t, append(demoKeys(), "GOGC=25"),
		append(n.args(), "--ncp.rate-limit=0", "--ncp.max-retries=0", "--collector.external-access.late-arrival=1s")...)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	var heap, resident, goroutines []float64
	around := func() soaked { return soaked{slices.Min(heap), medianOf(resident), medianOf(goroutines)} }
	failed := 0
	for i := range scrapes {
		churn(n, random, i, subjects)
		s := e.plain(t)
		heap = append(heap, s["go_memstats_next_gc_bytes{}"].value)
		resident = append(resident, s["process_resident_memory_bytes{}"].value)
		goroutines = append(goroutines, s["go_goroutines{}"].value)
		if len(heap) > window {
			heap, resident, goroutines = heap[1:], resident[1:], goroutines[1:]
		}
		if i == 200+window/2 {
			early = around()
		}
		if i == 500 { // by then every fault was seen, and has its series
			early.heap = slices.Min(heap)
		}
		if s[success(externalAccess)].value == 0 {
			failed++
		}
	}
	if failed == 0 || failed == scrapes {
		t.Errorf("%d of %d scrapes failed: that is no churn", failed, scrapes)
	}
	return early, around()
}

// churn is what happens in the account before a scrape.
func churn(n ncp, random *rand.Rand, scrape, subjects int) {
	for range 5 {
		id := subjectID(random.IntN(subjects))
		if n.externalAccess.CredentialCount(id) == 0 {
			continue // it has gone
		}
		n.externalAccess.AddCredentials(id, ncptest.NewCredential(time.Now(), fmt.Sprintf("%X", random.Uint64()), random.IntN(3) == 0))
		n.externalAccess.TrimCredentials(id, 100+random.IntN(100))
	}
	id := subjectID(random.IntN(subjects))
	if n.externalAccess.CredentialCount(id) > 0 && random.IntN(2) == 0 {
		n.externalAccess.RemoveSubject(id)
	} else {
		n.externalAccess.AddCredentials(id, ncptest.NewCredential(time.Now(), fmt.Sprintf("%X", random.Uint64()), false))
	}
	changes := make([]ncptest.Change, 30)
	for i := range changes {
		changes[i] = ncptest.Change{
			OrderID: strconv.Itoa(scrape/10 + i/5), CertificateID: int64(scrape/10 + i),
			Status: []string{ncptest.StatusNormal, ncptest.StatusOngoing, ncptest.StatusValidationTimedOut}[random.IntN(3)],
		}
	}
	n.certificateManager.SetChanges(changes...)
}

func medianOf(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// plain is a quick scrape: uncompressed, as the memory of a compressor comes and
// goes with chance, and of series without a label and those of success only.
func (e exporter) plain(t testing.TB) scrape {
	t.Helper()
	s := make(scrape)
	for line := range strings.Lines(e.metrics(t, "Accept-Encoding", "identity").body) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "{") && !strings.HasPrefix(line, "ncp_scrape_collector_success{") || strings.HasPrefix(line, "#") {
			continue
		}
		series, text, _ := strings.Cut(line, " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(series, "}") {
			series += "{}"
		}
		s[series] = sample{value: value}
	}
	return s
}

func TestSoak(t *testing.T) {
	for what, ratio := range grown(soak(t)) {
		t.Logf("%s: %.3f", what, ratio)
		if ratio > mostGrown[what] {
			t.Errorf("%s: %.3f times as much at the end, more than %v", what, ratio, mostGrown[what])
		}
	}
}

// mostGrown are the limits. The heap is here to find what leaks slowly: it has 2
// MB, of which the rows of one second, more or less, are some hundredths.
var mostGrown = map[string]float64{"heap-end/500th": 1.1, "resident-end/200th": 1.05, "goroutines-end/200th": 1.05} //nolint:gochecknoglobals // a constant in all but syntax

// grown is the end over the beginning.
func grown(early, late soaked) map[string]float64 {
	return map[string]float64{
		"heap-end/500th":       late.heap / early.heap,
		"resident-end/200th":   late.resident / early.resident,
		"goroutines-end/200th": late.goroutines / early.goroutines,
	}
}

// BenchmarkSoak is the test above, for the table.
func BenchmarkSoak(b *testing.B) {
	var most map[string]float64
	for b.Loop() {
		most = grown(soak(b))
	}
	for what, ratio := range most {
		b.ReportMetric(ratio, what)
	}
}
