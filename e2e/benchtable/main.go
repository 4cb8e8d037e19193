// Command benchtable reads what `go test -bench` prints and holds the measures
// that are promised to their limits: a table, and exit code 1 if one of them is
// missed or was not measured. `make bench` runs it.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// judged is a promise. Of several results that it is about the worst counts.
type judged struct {
	benchmark string // its name, and that of a part of it if there is only one
	unit      string // of the measure
	what      string
	limit     float64
	least     bool // the limit is the least that is good, and not the most
}

func promises() []judged {
	return []judged{
		{benchmark: "Memory/rows=400000", unit: "peak-MiB", what: "400,000 rows with certificates: most resident memory, MiB", limit: 128},
		{benchmark: "Memory/subjects=10000", unit: "peak-MiB", what: "10,000 quiet subjects: most resident memory, MiB", limit: 88},
		{benchmark: "Memory/rows=1000000", unit: "peak-MiB", what: "first read of one history of 1,000,000 rows: most resident memory, MiB", limit: 64},
		{benchmark: "Memory/scrapes=200", unit: "peak-MiB", what: "200 scrapes at once of 1,000 subjects: most resident memory, MiB", limit: 64},
		{benchmark: "Memory/connections=2000", unit: "peak-MiB", what: "2,000 idle connections: most resident memory, MiB", limit: 64},
		{benchmark: "Memory/accounts=100", unit: "peak-MiB", what: "100 accounts of 50 subjects, scraped at the same instant: most resident memory, MiB", limit: 96},
		{benchmark: "Soak", unit: "heap-end/500th", what: "2,000 scrapes: heap at the end / at the 500th", limit: 1.1},
		{benchmark: "Soak", unit: "resident-end/200th", what: "2,000 scrapes: resident memory at the end / at the 200th", limit: 1.05},
		{benchmark: "Soak", unit: "goroutines-end/200th", what: "2,000 scrapes: goroutines at the end / at the 200th", limit: 1.05},
		{benchmark: "CPU/sweep=on", unit: "cpu/bare-handler", what: "10,000 quiet subjects: CPU of a scrape / of a bare handler", limit: 1.15},
		{benchmark: "Scrape", unit: "own-part/bare-handler", what: "1,000 series: own time of a scrape / time of a bare handler", limit: 1.3},
		{benchmark: "Latency", unit: "scrape/ideal", what: "200 subjects, 50 ms an answer: time of a scrape / ideal", limit: 1.1},
		{benchmark: "Sweep", unit: "calls/expected", what: "10,000 subjects, 1 % active: calls of a scrape / expected", limit: 1},
		{benchmark: "Sweep", unit: "s/scrape", what: "10,000 subjects, 1 % active: time of a scrape, s", limit: 2},
		{benchmark: "QuietCalls/newest-first", unit: "calls/scrape", what: "history of 100 to 1,000,000 rows, newest first: calls of a quiet scrape", limit: 1},
		{benchmark: "QuietCalls/oldest-first", unit: "calls/scrape", what: "the same, oldest first", limit: 2},
		{benchmark: "FirstRead", unit: "ledger/bare", what: "first read of 100,000 rows: rows a second / of a bare loop", limit: 0.6, least: true},
		{benchmark: "Commit", unit: "ms/commit", what: "1,000 of 10,000 subjects of 60 rows changed: time to write all, ms", limit: 50},
		{benchmark: "StoreSize", unit: "file/allowed", what: "size of the ledger / 2 KiB a subject and 16 B a row", limit: 1},
	}
}

func main() {
	if err := run(os.Stdin, os.Stdout, promises()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, promises []judged) error {
	values, failed, err := read(in)
	if err != nil {
		return err
	}
	bad := 0
	lines := [][5]string{{"benchmark", "measured", "value", "limit", ""}, {"---", "---", "--:", "--:", "---"}}
	for _, p := range promises {
		line := [5]string{p.benchmark, p.what, "not measured", "≤ " + number(p.limit), "**not ok**"}
		if p.least {
			line[3] = "≥ " + number(p.limit)
		}
		if value, measured := p.worst(values); measured {
			line[2] = number(value)
			if p.holds(value) {
				line[4] = "ok"
			}
		}
		if line[4] != "ok" {
			bad++
		}
		lines = append(lines, line)
	}
	for _, line := range lines {
		if _, err := fmt.Fprintf(out, "| %s |\n", strings.Join(line[:], " | ")); err != nil {
			return fmt.Errorf("writing the table: %w", err)
		}
	}
	switch {
	case failed:
		return errors.New("a benchmark failed")
	case bad > 0:
		return fmt.Errorf("%d of %d limits are missed", bad, len(promises))
	}
	return nil
}

func (p judged) holds(value float64) bool {
	if p.least {
		return value >= p.limit
	}
	return value <= p.limit
}

func (p judged) worst(values []value) (worst float64, measured bool) {
	for _, v := range values {
		if v.unit != p.unit || v.benchmark != p.benchmark && !strings.HasPrefix(v.benchmark, p.benchmark+"/") {
			continue
		}
		if !measured || p.least && v.value < worst || !p.least && v.value > worst {
			worst, measured = v.value, true
		}
	}
	return worst, measured
}

// value is one measure of a benchmark.
type value struct {
	benchmark, unit string
	value           float64
}

func read(in io.Reader) (values []value, failed bool, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "FAIL") || strings.HasPrefix(lines.Text(), "--- FAIL") {
			failed = true
		}
		name, isBenchmark := strings.CutPrefix(lines.Text(), "Benchmark")
		fields := strings.Fields(name)
		if !isBenchmark || len(fields) < 4 { // name, count, and pairs of a value and its unit
			continue
		}
		name = fields[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 { // the number of processors
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		for i := 2; i+1 < len(fields); i += 2 {
			number, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, false, fmt.Errorf("benchmark %s: %w", name, err)
			}
			values = append(values, value{name, fields[i+1], number})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, false, fmt.Errorf("reading the benchmarks: %w", err)
	}
	return values, failed, nil
}

// number writes three digits or all before the point.
func number(f float64) string {
	if f >= 100 {
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return strconv.FormatFloat(f, 'g', 3, 64)
}
