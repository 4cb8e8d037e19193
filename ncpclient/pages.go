package ncpclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// DefaultPageSize is the number of rows a page that the API documents as its
// own default, so one that no server refuses.
const DefaultPageSize = 20

// Page is one page of a list.
type Page[T any] struct {
	// Size is the number of rows of a whole page as the server makes them,
	// which may be fewer than were asked for. Pages after the first must be
	// asked for with this size, or their rows overlap or leave a gap.
	Size int
	// Total is the number of rows of the whole list (totalElements); -1 if the
	// answer does not say.
	Total int
	Rows  []T
	// Date is the server's clock when it answered; zero if it does not say.
	Date time.Time
}

// A rowDecoder reads the rows of one page, one by one, and adds them to it.
type rowDecoder[T any] func(*jsontext.Decoder, *rowBudget, *Page[T]) error

// pageNames are what an API calls the parts of a page, and of the question for
// one.
type pageNames struct {
	page, size string // of the question; empty if there is no such parameter
	// firstUnnamed asks for the first page without its number: it is not known
	// whether pages count from 0 or from 1.
	firstUnnamed           bool
	rows, pageNo, pageSize string
	totals                 []string // one of them is there
}

// pager is what is known of the pages of an API.
type pager struct {
	names pageNames
	// sizeRefused is set once the server has refused a page size that was
	// larger than DefaultPageSize, fromOne once it is known that its pages count
	// from 1.
	sizeRefused, fromOne atomic.Bool
}

func (p *pager) offset() int {
	if p.fromOne.Load() {
		return 1
	}
	return 0
}

func getPage[T any](ctx context.Context, a *api, p *pager, op Operation, path []string, number, size int, rows func() rowDecoder[T]) (Page[T], error) {
	if number < 0 || size < 1 {
		return Page[T]{}, fmt.Errorf("page %d with %d rows cannot be asked for: pages count from 0 and hold at least 1 row", number, size)
	}
	get := func(size int) (page Page[T], err error) {
		query := url.Values{}
		if p.names.page != "" {
			query.Set(p.names.size, strconv.Itoa(size))
		}
		if p.names.page != "" && (number > 0 || !p.names.firstUnnamed) {
			query.Set(p.names.page, strconv.Itoa(number+p.offset()))
		}
		err = a.get(ctx, op, path, query, func(resp *http.Response, body io.Reader) (err error) {
			page, err = decodePage(p.names, resp, body, number, size, rows())
			return err
		})
		return page, err
	}
	// Only the first page may change the size: later pages are counted in it.
	mayFallBack := number == 0 && size > DefaultPageSize && p.names.size != ""
	if mayFallBack && p.sizeRefused.Load() {
		return get(DefaultPageSize)
	}
	page, err := get(size)
	var e *Error
	if !mayFallBack || !errors.As(err, &e) || e.Status != http.StatusBadRequest {
		return page, err
	}
	// A 400 may be about the size or about anything else (an unknown subject):
	// only if the smaller page comes it was the size.
	smaller, smallerErr := get(DefaultPageSize)
	if smallerErr != nil {
		return page, err
	}
	p.sizeRefused.Store(true)
	return smaller, nil
}

// minPageRows is how many rows a page may have even if far fewer were asked for:
// a server may not know of the size. Small rows take far more memory than they
// took on the wire, and ten such pages may come at one time.
const minPageRows = 20_000

func decodePage[T any](names pageNames, resp *http.Response, body io.Reader, number, size int, row rowDecoder[T]) (Page[T], error) {
	page := Page[T]{Size: size, Total: unknownCount}
	// A million rows do not fit into the largest answer that is read, and ten
	// times as many with their text still fit into 32 bits.
	left := newRowBudget(max(minPageRows, 10*min(size, 1_000_000)))
	page.Date, _ = http.ParseTime(resp.Header.Get("Date"))
	members, err := decodeObject(body, map[string]func(*jsontext.Decoder) error{
		names.rows: func(d *jsontext.Decoder) error {
			return row(d, left, &page)
		},
	})
	if err != nil {
		return Page[T]{}, err
	}
	if err := checkEnvelope(resp, members, false); err != nil {
		return Page[T]{}, err
	}
	total, pageNo, pageSize := count(members, names.totals...), count(members, names.pageNo), count(members, names.pageSize)
	content, hasContent := members[names.rows]
	switch {
	case (!hasContent || string(content) == "null") && total != 0:
		// An error envelope, or anything else: never an empty list.
		return Page[T]{}, refusal(resp, members, errors.New("the answer is not a page"))
	case total > 0 && number == 0 && len(page.Rows) == 0:
		return Page[T]{}, fmt.Errorf("the total is %d, but the first page has no rows", total)
	case pageNo != unknownCount && pageNo != number:
		return Page[T]{}, fmt.Errorf("page %d was asked for, but page %d came", number, pageNo)
	}
	page.Total = total
	if pageSize > 0 {
		page.Size = pageSize
	}
	if n := len(page.Rows); n > 0 && n < page.Size && number == 0 && n < page.Total {
		page.Size = n // the server clamps without saying so
	}
	return page, nil
}

// count reads the first of these members that is there; unknownCount if none is.
func count(members map[string]json.RawMessage, names ...string) int {
	n := integer(unknownCount)
	for _, name := range names {
		if raw, ok := members[name]; ok {
			_ = n.UnmarshalJSON(raw) // never fails
			break
		}
	}
	return int(n)
}

// errListChanged is a list that lost rows while it was read, that ended before
// its total, or of which a page came twice: rows may have been missed.
var errListChanged = errors.New("the list changed while it was read, or its total is wrong")

// ErrEndless is a list that goes on well past its own total.
var ErrEndless = errors.New("the list does not end")

// List is all rows of a list.
type List[T any] struct {
	// Rows are in the order in which they came. One may be there twice if the list
	// changed while it was read.
	Rows []T
}

// maxListTries is how often a list is read until it does not change meanwhile.
const maxListTries = 3

// readList reads a list from its first page to its last, and anew if it changed
// in a way that may have hidden a row.
func readList[T any](size int, get func(number, size int) (Page[T], error)) (List[T], error) {
	for try := 1; ; try++ {
		var list List[T]
		var err error
		for page, pageErr := range walk(size, get) {
			list.Rows, err = append(list.Rows, page.Rows...), pageErr
		}
		switch {
		case err == nil:
			return list, nil
		case try == maxListTries || !errors.Is(err, errListChanged):
			return List[T]{}, err
		}
	}
}

// maxUnknownPages bounds a list that does not tell its total.
const maxUnknownPages = 10_000

// pageLimit is the number of pages after which a list of total rows is held
// for endless. It leaves room for a list that grows while it is read.
func pageLimit(total, size int) int {
	if total < 0 {
		return maxUnknownPages
	}
	return 2*(total/max(1, size)) + 10
}

// walk goes through a list from its first page to its last. The size of the
// first answer is the one that the others are asked for with.
//
// It ends with an error at the first page that fails, or at which the list
// should long have ended (ErrEndless), and with errListChanged if a page repeats
// the one before, or if the list shrank or ended early, so that a walk without an
// error has seen every row that the list held when the walk began: rows that are
// added only push others to later pages.
func walk[T any](size int, get func(number, size int) (Page[T], error)) iter.Seq2[Page[T], error] {
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
				err = fmt.Errorf("page %d has the rows of the page before it: %w", number, errListChanged)
			case number > pageLimit(first.Total, size):
				err = fmt.Errorf("page %d of a list of %d rows: %w", number, first.Total, ErrEndless)
			case page.Total < before.Total && number > 0:
				err = fmt.Errorf("page %d: the total fell from %d to %d: %w", number, before.Total, page.Total, errListChanged)
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
					yield(Page[T]{}, fmt.Errorf("the list ended after %d of %d rows: %w", seen, first.Total, errListChanged))
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
