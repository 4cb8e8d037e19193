package ncpclient

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// ErrEndless is a list that goes on far beyond what it can rightly hold.
var ErrEndless = errors.New("the list does not end")

// List is a list that was read over all of its pages.
type List[T any] struct {
	// Rows are the rows that came, those with an id once each.
	Rows []T
	// Doubt says why rows may be there that did not come; nil if it is certain that
	// there are none but perhaps new ones. Only a list without a doubt shows that what
	// was there before is gone. It is one line, to be reported as an error.
	Doubt error
}

// listReader reads one list again and again, and remembers of it what makes the next
// read cheap and its end certain.
//
// # The end
//
// What a server says of a list is a hint: its total may be that of the page, wrong by
// one, or capped, and it may make pages smaller than it was asked for, with a word
// about it or without. So a list ends where a page is empty, where a page is shorter
// than those before it, where a page is refused with a 4xx, or where pages bring
// nothing new. If the last page leaves it open (it is full, or it is the first and may
// have been made smaller), the page behind it is asked for. That costs one call more,
// but not while the list stays as it is: the same rows with the same total end where
// they ended before. This is believed for a day.
//
// # Rows that move
//
// In a list that is sorted by the last login, who logs in while it is read moves to a
// page that was read already. So a read is enough if all rows came that were known
// before. Else the list is read again: until they have come, which most often takes
// its first page only, or until two reads in a row saw the same rows and none of them
// on two pages, which proves that the others are gone. The first read knows no rows:
// it is repeated when it sees a row on two pages or a total that changes, until
// nothing moves or the total agrees with the rows. After maxPasses reads there is a
// doubt.
type listReader[T any] struct {
	pager *pager
	key   func(T) string // of a row; empty if it has none
	now   func() time.Time

	mu     sync.Mutex // never held while a page is asked for
	memory listMemory
}

// listMemory is what a reader remembers of a list.
type listMemory struct {
	known  map[string]bool // the rows that were there
	end    listEnd
	quirk  string // how the total was wrong last time
	times  int    // in a row
	quirks []string
}

// listEnd is how a list ended when that was certain.
type listEnd struct {
	rows, total int
	at          time.Time
}

const (
	// maxPasses is how often a list is read until nothing is missing.
	maxPasses = 5
	// endValid is how long an end is believed while the list stays the same.
	endValid = 24 * time.Hour
	// quirkTimes is how often a total must be wrong in the same way to be how this
	// server counts.
	quirkTimes = 3
)

// read reads the list. Its error is that of a page, or ErrEndless.
func (r *listReader[T]) read(size int, get func(number, size int) (Page[T], error)) (List[T], error) {
	r.mu.Lock()
	m := r.memory
	r.mu.Unlock()
	list, err := r.readWith(&m, size, get)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.memory = m
	return list, err
}

func (r *listReader[T]) readWith(m *listMemory, size int, get func(number, size int) (Page[T], error)) (List[T], error) {
	if r.now().Sub(m.end.at) >= endValid {
		m.end = listEnd{}
	}
	var all []T // of all passes
	var got map[string]bool
	var before *pass[T]
	var missing []string
	for n := 1; ; n++ {
		p := &pass[T]{listReader: r, listMemory: m, missing: missing, again: n > 1, got: make(map[string]bool, len(m.known)), totalsOfPage: true}
		if err := p.read(size, get); err != nil {
			return List[T]{}, err
		}
		if n == 1 { // most often it is the only one, and lists are long
			all, got = p.rows, p.got
		} else {
			all, got = r.merge(all, got, p.rows)
		}
		first := len(m.known) == 0
		if first && before != nil && slices.Equal(p.keys, before.keys) {
			p.rowsMoved, p.totalMoved = false, false // it has rows twice, or a total that is never the same
		}
		missing = without(m.known, got)
		doubt := p.judge()
		switch {
		case doubt != nil:
			return p.remember(all, got, doubt), nil
		case len(missing) == 0 && (!first || !p.moved() || p.total == len(all) && !p.totalMoved):
			return p.remember(all, got, nil), nil
		case p.agrees(before) && (len(missing) == 0 || p.total <= len(p.keys) || m.usual()):
			return p.remember(p.rows, p.got, nil), nil
		case n == maxPasses:
			doubt = fmt.Errorf("the list changed each of the %d times that it was read, and %d rows that were there before did not come", n, len(missing))
			return p.remember(all, got, doubt), nil
		}
		before = p
	}
}

// merge adds the rows of another pass that did not come before. Of a row without a
// key that cannot be told.
func (r *listReader[T]) merge(all []T, got map[string]bool, rows []T) ([]T, map[string]bool) {
	all, got = slices.Clip(all), maps.Clone(got)
	for _, row := range rows {
		if key := r.key(row); key != "" && !got[key] {
			got[key] = true
			all = append(all, row)
		}
	}
	return all, got
}

// without gives the keys that are not in got.
func without(keys, got map[string]bool) (rest []string) {
	for key := range keys {
		if !got[key] {
			rest = append(rest, key)
		}
	}
	return rest
}

// usual says whether the last totals were wrong, and in the same way.
func (m *listMemory) usual() bool { return m.times >= quirkTimes && m.quirk != "" }

// note keeps what the server does in its own way, once.
func (m *listMemory) note(quirk string) {
	if !slices.Contains(m.quirks, quirk) {
		m.quirks = append(slices.Clip(m.quirks), quirk)
	}
}

// said are the quirks that are known by now.
func (r *listReader[T]) said() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.memory.quirks)
}
