package ncpclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// DefaultPageSize is the number of rows a page that the API documents as its
// own default, so one that no server refuses.
const DefaultPageSize = 20

// Page is one page of a list, as the server gave it. What it says of the list is a
// hint and no proof: see List.
type Page[T any] struct {
	Rows  []T
	Total int       // the rows of the list (totalElements); -1 if the answer does not say
	Size  int       // the rows of a whole page; 0 if the answer does not say
	Asked int       // the size that was asked for, which may be DefaultPageSize instead
	Date  time.Time // the server's clock when it answered; zero if it does not say
}

// ErrPageRefused is a page behind the first that the server refuses, or in place of
// which it gives another: it may be that the list ends before it. The error unwraps
// to the *Error too.
var ErrPageRefused = errors.New("the server has no such page")

// A rowDecoder makes a row of the fields that were read of it. It is for one list: its
// fields remember the row before.
type rowDecoder[T any] struct {
	fields []field
	row    func() T
}

// into adds the rows of an array to a list, one by one.
func (r rowDecoder[T]) into(rows *[]T, left *rowBudget) func(*jsontext.Decoder) error {
	return func(d *jsontext.Decoder) error {
		if err := decodeRow(d, r.fields, left); err != nil {
			return err
		}
		*rows = append(*rows, r.row())
		return nil
	}
}

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

// pager is what was learnt of how an API makes its pages.
type pager struct {
	names pageNames
	// sizeRefused is set once the server has refused a page size that was
	// larger than DefaultPageSize.
	sizeRefused atomic.Bool
	// first is the number of the first page: 0, or 1 once that is known.
	first atomic.Int32
	// totalsOfList is set once a total was larger than its page.
	totalsOfList atomic.Bool
}

func getPage[T any](ctx context.Context, a *api, p *pager, op Operation, path string, number, size int, rows func(clock time.Time) rowDecoder[T]) (Page[T], error) {
	if number < 0 || size < 1 {
		return Page[T]{}, fmt.Errorf("page %d with %d rows cannot be asked for: pages count from 0 and hold at least 1 row", number, size)
	}
	get := func(size int) (page Page[T], err error) {
		query := url.Values{}
		if p.names.size != "" {
			query.Set(p.names.size, strconv.Itoa(size))
		}
		if p.names.page != "" && (number > 0 || !p.names.firstUnnamed) {
			query.Set(p.names.page, strconv.Itoa(number+int(p.first.Load())))
		}
		err = a.get(ctx, op, path, query, func(resp *http.Response, body io.Reader) (err error) {
			page, err = decodePage(p.names, resp, body, number, size, rows)
			return err
		})
		if (number > 0 || len(page.Rows) > 0) && page.Total > len(page.Rows) {
			p.totalsOfList.Store(true)
		}
		if number > 0 && refusesPage(err) {
			err = fmt.Errorf("page %d: %w: %w", number, ErrPageRefused, err)
		}
		return page, err
	}
	// Only the first page may change the size: later pages are counted in it.
	if number == 0 && p.sizeRefused.Load() {
		size = min(size, DefaultPageSize)
	}
	page, err := get(size)
	e, ok := errors.AsType[*Error](err)
	if number > 0 || size <= DefaultPageSize || p.names.size == "" || !ok || e.Status != http.StatusBadRequest {
		return page, err
	}
	// A 400 may be about the size or about anything else (an unknown subject):
	// only if the smaller page comes it was the size.
	if smaller, smallerErr := get(DefaultPageSize); smallerErr == nil {
		p.sizeRefused.Store(true)
		return smaller, nil
	}
	return page, err
}

// refusesPage says whether an error may be about the number of the page.
func refusesPage(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return errors.Is(err, errOtherPage) || ok && slices.Contains([]int{
		http.StatusBadRequest, http.StatusNotFound, http.StatusGone,
		http.StatusRequestedRangeNotSatisfiable, http.StatusUnprocessableEntity,
	}, e.Status)
}

var errOtherPage = errors.New("another page came than was asked for")

// minPageRows is how many rows a page may have even if far fewer were asked for:
// a server may not know of the size. Small rows take far more memory than they
// took on the wire, and ten such pages may come at one time.
const minPageRows = 20_000

func decodePage[T any](names pageNames, resp *http.Response, body io.Reader, number, size int, rows func(clock time.Time) rowDecoder[T]) (Page[T], error) {
	page := Page[T]{Asked: size}
	// A million rows do not fit into the largest answer that is read, and ten
	// times as many with their text still fit into 32 bits.
	left := newRowBudget(max(minPageRows, 10*min(size, 1_000_000)))
	page.Date, _ = http.ParseTime(resp.Header.Get("Date"))
	m, err := decodeObject(body, names.rows, rows(page.Date).into(&page.Rows, left), slices.Concat(names.totals, []string{names.pageNo, names.pageSize})...)
	if err != nil {
		return Page[T]{}, err
	}
	if err := checkEnvelope(resp, m, false); err != nil {
		return Page[T]{}, err
	}
	total, pageNo, pageSize := parseCount(m.text(names.totals...)), parseCount(m.text(names.pageNo)), parseCount(m.text(names.pageSize))
	content, hasContent := m[names.rows]
	nothing := !hasContent || string(content) == "null"
	foreign := total < 0 && pageNo < 0 && pageSize < 0 && len(page.Rows) > 0 && !left.anyField
	switch {
	case nothing && total != 0, foreign:
		// An error envelope, or anything else: never an empty list, and no rows.
		return Page[T]{}, refusal(resp, m, errors.New("the answer is not a page"))
	case pageNo != unknownCount && pageNo != number:
		return Page[T]{}, fmt.Errorf("%w: %d in place of %d", errOtherPage, pageNo, number)
	}
	page.Total, page.Size = total, max(0, pageSize)
	return page, nil
}
