package logging

import (
	"bytes"
	"io"
	"sync"
	"time"
)

const (
	// maxBuffered is how many bytes of lines may wait to be written.
	maxBuffered = 256 << 10
	// closeTimeout is how long the end of the program waits for somebody to read them.
	closeTimeout = 300 * time.Millisecond
)

// buffer writes lines in the background, so that a log that nobody reads stops
// nothing: what does not fit is dropped and counted.
type buffer struct {
	to     io.Writer
	lost   func(lines int) // writes how many lines were lost
	filled chan struct{}   // there is something to write; closed at the end
	done   chan struct{}

	mu      sync.Mutex
	waiting bytes.Buffer
	dropped int
	closed  bool
	written chan struct{} // closed when what waits now was written; nil if nobody asked
	stuck   bool          // nobody reads
}

func newBuffer(to io.Writer, lost func(lines int)) *buffer {
	b := &buffer{to: to, lost: lost, filled: make(chan struct{}, 1), done: make(chan struct{})}
	go b.run()
	return b
}

// Write takes one line.
func (b *buffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed: // the program ends
		return len(line), nil
	case b.dropped > 0 || b.waiting.Len()+len(line) > maxBuffered:
		b.dropped++ // what follows a gap must not come before its notice
	default:
		b.waiting.Write(line)
	}
	select {
	case b.filled <- struct{}{}:
	default: // it is told already
	}
	return len(line), nil
}

func (b *buffer) run() {
	defer close(b.done)
	for range b.filled {
		b.flush()
	}
	b.flush()
}

func (b *buffer) flush() {
	b.mu.Lock()
	lines, dropped, written := b.waiting, b.dropped, b.written
	b.waiting, b.dropped, b.written = bytes.Buffer{}, 0, nil
	b.mu.Unlock()
	_, _ = lines.WriteTo(b.to) // there is no other place to say that it failed
	b.mu.Lock()
	b.stuck = false
	if written != nil {
		close(written)
	}
	b.mu.Unlock()
	if dropped > 0 {
		b.lost(dropped)
	}
}

// sync returns when the lines so far were written. It waits for a reader once.
func (b *buffer) sync() {
	b.mu.Lock()
	if b.closed || b.stuck {
		b.mu.Unlock()
		return
	}
	if b.written == nil {
		b.written = make(chan struct{})
	}
	written := b.written
	select {
	case b.filled <- struct{}{}:
	default: // it is told already
	}
	b.mu.Unlock()
	select {
	case <-written:
	case <-time.After(closeTimeout):
		b.mu.Lock()
		defer b.mu.Unlock()
		select {
		case <-written:
		default:
			b.stuck = true
		}
	}
}

func (b *buffer) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	close(b.filled)
	select {
	case <-b.done:
	case <-time.After(closeTimeout):
	}
}
