package ncpclient

import (
	"errors"
	"fmt"
	"iter"
	"reflect"
)

// What a server does wrong with the pages of a list.
var (
	// ErrPageRepeated is a page with the same rows as the one before.
	ErrPageRepeated = errors.New("a page has the same rows as the page before it")
	// ErrEndless is a list that goes on well past its own total.
	ErrEndless = errors.New("the list does not end")
	// ErrListChanged is a list that lost rows while it was read, or that ended
	// before its total: rows may have been missed.
	ErrListChanged = errors.New("the list changed while it was read, or its total is wrong")
)

// maxUnknownPages bounds a list that does not tell its total.
const maxUnknownPages = 10_000

// PageLimit is the number of pages after which a list of total rows is held
// for endless. It leaves room for a list that grows while it is read.
func PageLimit(total, size int) int {
	if total < 0 {
		return maxUnknownPages
	}
	return 2*(total/max(1, size)) + 10
}

// Pages walks through a list from its first page to its last. The size of the
// first answer is the one that the others are asked for with.
//
// It ends with an error at the first page that fails, that repeats the one
// before (ErrPageRepeated), or at which the list should long have ended
// (ErrEndless), and with ErrListChanged if the list shrank or ended early, so
// that a walk without an error has seen every row that the list held when the
// walk began: rows that are added only push others to later pages.
func Pages[T any](size int, get func(number, size int) (Page[T], error)) iter.Seq2[Page[T], error] {
	return func(yield func(Page[T], error) bool) {
		var before Page[T]
		var first Page[T]
		seen := 0
		for number := 0; ; number++ {
			page, err := get(number, size)
			if number == 0 {
				first, size = page, page.Size
			}
			switch {
			case err != nil:
			case number > 0 && len(page.Rows) > 0 && page.Total <= before.Total && reflect.DeepEqual(page.Rows, before.Rows):
				// With a larger total it may be a whole page of new rows that pushed these.
				err = fmt.Errorf("page %d: %w", number, ErrPageRepeated)
			case number > PageLimit(first.Total, size):
				err = fmt.Errorf("page %d of a list of %d rows: %w", number, first.Total, ErrEndless)
			case page.Total < before.Total && number > 0:
				err = fmt.Errorf("page %d: the total fell from %d to %d: %w", number, before.Total, page.Total, ErrListChanged)
			}
			if err != nil {
				yield(Page[T]{}, err)
				return
			}
			seen += len(page.Rows)
			if !yield(page, nil) {
				return
			}
			if len(page.Rows) == 0 || len(page.Rows) < size && seen >= page.Total {
				if seen < first.Total {
					yield(Page[T]{}, fmt.Errorf("the list ended after %d of %d rows: %w", seen, first.Total, ErrListChanged))
				}
				return
			}
			if page.Total >= 0 && seen == page.Total {
				return
			}
			before = page
		}
	}
}
