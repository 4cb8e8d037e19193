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

	"github.com/go-json-experiment/json/jsontext"
)

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
			page, err = decodePageNamed(p.names, resp, body, number, size, rows())
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

func decodePageNamed[T any](names pageNames, resp *http.Response, body io.Reader, number, size int, row rowDecoder[T]) (Page[T], error) {
	page := Page[T]{Number: number, Size: size, Total: unknownCount}
	// A million rows do not fit into the largest answer that is read, and ten
	// times as many with their text still fit into 32 bits.
	left := newRowBudget(max(minPageRows, 10*min(size, 1_000_000)))
	page.Date, _ = http.ParseTime(resp.Header.Get("Date"))
	raw, err := decodeObject(body, map[string]func(*jsontext.Decoder) error{
		names.rows: func(d *jsontext.Decoder) error {
			return row(d, left, &page)
		},
	})
	if err != nil {
		return Page[T]{}, err
	}
	members := counts(raw)
	if err := checkEnvelope(resp, raw, false); err != nil {
		return Page[T]{}, err
	}
	var total, pageNo, pageSize integer = unknownCount, unknownCount, unknownCount
	for _, name := range names.totals {
		members.count(name, &total)
	}
	members.count(names.pageNo, &pageNo)
	members.count(names.pageSize, &pageSize)
	content, hasContent := members[names.rows]
	switch {
	case (!hasContent || string(content) == "null") && total != 0:
		// An error envelope, or anything else: never an empty list.
		return Page[T]{}, refusal(resp, raw, errors.New("the answer is not a page"))
	case total > 0 && number == 0 && len(page.Rows) == 0:
		return Page[T]{}, fmt.Errorf("the total is %d, but the first page has no rows", total)
	case pageNo != unknownCount && int(pageNo) != number:
		return Page[T]{}, fmt.Errorf("page %d was asked for, but page %d came", number, pageNo)
	}
	page.Total = int(total)
	if pageSize > 0 {
		page.Size = int(pageSize)
	}
	if n := len(page.Rows); n > 0 && n < page.Size && number == 0 && n < page.Total {
		page.Size = n // the server clamps without saying so
	}
	return page, nil
}

// counts are the members of a page object besides its rows.
type counts map[string]json.RawMessage

// count reads a member, if it is there.
func (c counts) count(name string, into *integer) {
	if raw, ok := c[name]; ok {
		_ = into.UnmarshalJSON(raw) // never fails
	}
}

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
