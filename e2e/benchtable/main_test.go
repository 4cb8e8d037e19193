package main

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	promises := []judged{
		{benchmark: "A", unit: "x/y", what: "a", limit: 1.3},
		{benchmark: "B/big", unit: "MiB", what: "b", limit: 100},
		{benchmark: "C", unit: "rate", what: "c", limit: 0.6, least: true},
	}
	const good = "goos: linux\nBenchmarkA-2 \t 3\t 12 ns/op\t 1.296 x/y\nBenchmarkB/small-2 1 1 ns/op 500 MiB\n" +
		"BenchmarkB/big/1-2 1 1 ns/op 99.5 MiB\nBenchmarkB/big/2-2 1 1 ns/op 2.0 MiB\nBenchmarkC 9 1 ns/op 0.95 rate\nPASS\n"
	for name, tt := range map[string]struct{ in, wantLine, wantErr string }{
		"good":         {good, "| A | a | 1.3 | ≤ 1.3 | ok |", ""},
		"the worst":    {good, "| B/big | b | 99.5 | ≤ 100 | ok |", ""},
		"at least":     {good, "| C | c | 0.95 | ≥ 0.6 | ok |", ""},
		"too much":     {strings.Replace(good, "2.0 MiB", "101 MiB", 1), "| B/big | b | 101 | ≤ 100 | **not ok** |", "1 of 3"},
		"too little":   {strings.Replace(good, "0.95", "0.5", 1), "| C | c | 0.5 | ≥ 0.6 | **not ok** |", "1 of 3"},
		"not measured": {strings.Replace(good, "x/y", "z", 1), "| A | a | not measured | ≤ 1.3 | **not ok** |", "1 of 3"},
		"failed":       {good + "--- FAIL: BenchmarkD\nFAIL\n", "| A | a | 1.3 | ≤ 1.3 | ok |", "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			err := run(strings.NewReader(tt.in), &out, promises)
			if !strings.Contains(out.String(), tt.wantLine+"\n") {
				t.Errorf("no line %s in\n%s", tt.wantLine, &out)
			}
			if (err == nil) != (tt.wantErr == "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("error %v, want %q", err, tt.wantErr)
			}
		})
	}
}
