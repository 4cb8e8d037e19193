package logging

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

func write(logger log.Logger, from, to int) {
	for i := from; i < to; i++ {
		_ = level.Info(logger).Log("msg", "line", "number", i)
	}
}

// TestLinesInOrder writes lines by both libraries, in both formats.
func TestLinesInOrder(t *testing.T) {
	for _, format := range []string{"logfmt", "json"} {
		var text bytes.Buffer
		logger, err := New(&text, "info", format)
		if err != nil {
			t.Fatal(err)
		}
		const all = 200
		write(logger.Logger, 0, all/2)
		for i := all / 2; i < all; i++ {
			logger.Slog.Info("line", "number", i)
		}
		logger.Close()
		lines := strings.Split(strings.TrimSpace(text.String()), "\n")
		if len(lines) != all {
			t.Fatalf("%s: %d lines, want %d", format, len(lines), all)
		}
		for i, line := range lines {
			line = strings.ReplaceAll(strings.ReplaceAll(line, `"`, ""), "number:", "number=")
			if !strings.Contains(line, fmt.Sprintf("number=%d", i)) {
				t.Fatalf("%s: line %d is %s", format, i, line)
			}
		}
	}
}

// gate is a reader that reads nothing before it opens.
type gate struct {
	opened chan struct{}
	bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) { <-g.opened; return g.Buffer.Write(p) }

func TestNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := &gate{opened: make(chan struct{})}
		logger, err := New(reader, "info", "logfmt")
		if err != nil {
			t.Fatal(err)
		}
		const all = 20_000
		write(logger.Logger, 0, 1) // is being written
		synctest.Wait()
		write(logger.Logger, 1, all)
		close(reader.opened)
		synctest.Wait()
		write(logger.Logger, all, all+1)
		logger.Close()
		lines := strings.Split(strings.TrimSpace(reader.String()), "\n")
		kept := len(lines) - 2
		if size := len(strings.Join(lines[1:kept], "\n")); size > maxBuffered {
			t.Errorf("%d bytes waited, more than %d", size, maxBuffered)
		}
		notice := fmt.Sprintf(`msg="%d lines of the log were lost: nobody read it"`, all-kept)
		if kept < 1000 || !strings.HasPrefix(lines[kept], "level=warn ts=") || !strings.HasSuffix(lines[kept], notice) {
			t.Errorf("after %d lines: %s, want %s", kept, lines[kept], notice)
		}
		for i, line := range append(lines[:kept:kept], lines[kept+1]) {
			number := i
			if i == kept {
				number = all
			}
			if !strings.HasSuffix(line, fmt.Sprintf("number=%d", number)) {
				t.Fatalf("line %d is %s", i, line)
			}
		}
	})
}

// TestGap has a line that does not fit, and one that would.
func TestGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := &gate{opened: make(chan struct{})}
		logger, err := New(reader, "info", "logfmt")
		if err != nil {
			t.Fatal(err)
		}
		write(logger.Logger, 0, 1) // is being written
		synctest.Wait()
		_ = level.Info(logger.Logger).Log("msg", strings.Repeat("x", maxBuffered))
		write(logger.Logger, 1, 2)
		close(reader.opened)
		logger.Close()
		lines := strings.Split(strings.TrimSpace(reader.String()), "\n")
		if len(lines) != 2 || !strings.HasSuffix(lines[0], "number=0") || !strings.Contains(lines[1], "2 lines of the log were lost") {
			t.Errorf("%q", lines)
		}
	})
}

// TestCloseEnds ends a log that nobody reads.
func TestCloseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		logger, err := New(w, "info", "logfmt")
		if err != nil {
			t.Fatal(err)
		}
		write(logger.Logger, 0, 10)
		begin := time.Now()
		logger.Close()
		if took := time.Since(begin); took != closeTimeout {
			t.Errorf("it took %s", took)
		}
		write(logger.Logger, 10, 20) // what still runs may log
		_ = r.Close()
	})
}

// TestFlush waits for a reader, and for one that does not read only once.
func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := &gate{opened: make(chan struct{})}
		logger, err := New(reader, "info", "logfmt")
		if err != nil {
			t.Fatal(err)
		}
		flush := func(want time.Duration) {
			t.Helper()
			begin := time.Now()
			logger.Flush()
			if took := time.Since(begin); took != want {
				t.Errorf("it took %s, want %s", took, want)
			}
		}
		flush(0)
		write(logger.Logger, 0, 1)
		flush(closeTimeout)
		write(logger.Logger, 1, 2)
		flush(0)
		time.AfterFunc(time.Second, func() { close(reader.opened) })
		time.Sleep(2 * time.Second)
		for n := 2; n < 50; n++ {
			write(logger.Logger, n, n+1)
			flush(0)
			if !strings.HasSuffix(reader.String(), fmt.Sprintf("number=%d\n", n)) {
				t.Fatalf("line %d was not written", n)
			}
		}
		logger.Close()
		logger.Flush()
	})
}
