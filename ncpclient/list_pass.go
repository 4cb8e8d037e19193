package ncpclient

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// pass is one read of a list from its first page to its end.
type pass[T any] struct {
	*listReader[T]
	*listMemory
	missing []string // rows that were there before and that no pass has seen yet
	// again is set in all passes but the first: something is missing, so nothing is
	// believed, and the pass ends when all of it has come.
	again bool

	rows     []T
	keys     []string // of all that came, with repeated ones
	got      map[string]bool
	size     int // of the first page
	pages    int // with rows that were new
	total    int // of the last of these pages
	most     int // pages that the first total lets the list have
	idle     int // pages in a row that brought nothing new
	lastPage []string
	short    bool // the last page was

	totalsOfPage bool // all totals were those of their page
	totalMoved   bool // the total changed
	rowsMoved    bool // a row came on two pages
	proven       bool // the end was seen
	believed     bool // the end was not seen: the list ended here before
	slack        int  // how many more rows the total may speak of at this end
}

const (
	// maxListPages and maxListRows bound a list.
	maxListPages = 10_000
	maxListRows  = 500_000
)

// read reads the pages until the list ends.
func (p *pass[T]) read(size int, get func(number, size int) (Page[T], error)) error {
	for number := 0; ; number++ {
		page, err := get(number, size)
		switch {
		case number > 0 && errors.Is(err, ErrPageRefused):
			p.ends(1)
			return nil
		case err != nil:
			return err
		case number == 0:
			p.size, p.total, p.most = len(page.Rows), page.Total, pageLimit(len(page.Rows), page.Total)
			size = p.size // as the server makes its pages, with a word about it or without
		case number > p.most || len(p.keys) > maxListRows:
			return fmt.Errorf("page %d, after %d rows: %w", number, len(p.keys), ErrEndless)
		}
		if p.take(number, page) {
			return nil
		}
	}
}

// take adds a page, and says whether the list ends there.
func (p *pass[T]) take(number int, page Page[T]) (ends bool) { //nolint:cyclop // one case after another
	n := len(page.Rows)
	if n == 0 {
		p.ends(max(0, p.size-1))
		return true
	}
	fresh := p.add(number, page)
	full := n >= p.size
	if number == 0 {
		full = n >= page.Asked || page.Size > 0 && n >= page.Size
	}
	switch {
	case !fresh && p.idle == 2:
		p.ends(1)
		return true
	case !fresh:
		return false // rows that came at the front may have pushed a whole page back
	case p.short && number > 1: // there are rows behind it: pages became smaller, or rows came
		p.rowsMoved, p.totalMoved = true, true
	case p.short && full:
		p.note(fmt.Sprintf("pages have %d rows at most, and the answers do not say so", n))
	}
	p.short = !full
	switch {
	case p.endedHereBefore(number, full):
		p.believed = true
		return true
	case p.again && len(p.known) > 0 && !slices.ContainsFunc(p.missing, func(key string) bool { return !p.got[key] }):
		return true
	case number > 0 && p.short && !p.again && page.Total <= len(p.keys):
		p.ends(p.size - 1)
		return true
	default:
		return false
	}
}

// add takes the rows of a page, and says whether it brought any that are new.
func (p *pass[T]) add(number int, page Page[T]) bool {
	keys := make([]string, len(page.Rows))
	repeated := 0
	for i, row := range page.Rows {
		if keys[i] = p.key(row); keys[i] == "" {
			keys[i] = fmt.Sprintf("\x00%v", row)
		}
		if p.got[keys[i]] {
			repeated++
		}
	}
	same := slices.Equal(keys, p.lastPage)
	p.lastPage = keys
	if repeated == len(keys) {
		p.idle++
		p.rowsMoved = p.rowsMoved || !same
		return false
	}
	ofPage := p.totalsOfPage && page.Total == len(page.Rows)
	p.totalMoved = p.totalMoved || number > 0 && page.Total != p.total && !ofPage
	p.rowsMoved = p.rowsMoved || repeated > 0 || p.idle > 0
	for i, row := range page.Rows {
		if !p.got[keys[i]] || keys[i][0] == 0 {
			p.rows = append(p.rows, row)
		}
		p.got[keys[i]] = true
	}
	p.keys = append(p.keys, keys...)
	p.pages++
	p.total, p.totalsOfPage, p.idle = page.Total, ofPage, 0
	return true
}

// ends takes note of an end that was seen.
func (p *pass[T]) ends(slack int) {
	p.proven, p.slack = true, slack
	p.rowsMoved = p.rowsMoved || p.idle == 1 // it was no repeated last page
}

// moved says whether there is a sign that the list changed while it was read.
func (p *pass[T]) moved() bool { return p.rowsMoved || p.totalMoved }

// pageLimit is the number of pages that a list may have whose first page has so many
// rows. A total that speaks of more than that page may still be wrong ten times over.
func pageLimit(rows, total int) int {
	if total <= rows {
		return maxListPages
	}
	return min(maxListPages, 100+10*(total/max(1, rows)))
}

// endedHereBefore says whether the list is as long as when its end was last seen. If
// other rows made up for some that are gone, those are missing, and the next pass
// believes nothing. A full page may have new ones behind it, if the total would not
// tell.
func (p *pass[T]) endedHereBefore(number int, full bool) bool {
	rows := len(p.keys)
	return !p.again && rows == p.end.rows && p.total == p.end.total &&
		(number == 0 && !full || p.pager.totalsOfList.Load() && p.total >= rows)
}

// agrees says whether two passes prove that a row that came in neither is gone. They
// do if both saw the end, the same rows, and none on two pages. For a row that is
// there was missed only if others moved past it: rows that moved to a page that was
// to come were seen twice, and a row that was removed from a page that was read is
// not in the second pass.
func (p *pass[T]) agrees(other *pass[T]) bool {
	return other != nil && p.proven && other.proven && !p.rowsMoved && !other.rowsMoved && maps.Equal(p.got, other.got)
}

// judge compares the total with the rows of a list that did not move. If the total
// speaks of more rows than the end leaves room for, there is a doubt, until it was
// wrong in the same way for quirkTimes.
func (p *pass[T]) judge() error {
	if !p.proven && !p.believed || p.moved() || p.total < 0 {
		return nil
	}
	wrong, quirk := p.total-len(p.keys), ""
	switch {
	case p.pages > 1 && p.totalsOfPage:
		quirk = "the total is the number of rows of the page"
	case wrong > 0:
		quirk = fmt.Sprintf("the total is %d more than the rows that come", wrong)
	case wrong < 0:
		quirk = fmt.Sprintf("the total is %d less than the rows that come", -wrong)
	}
	if quirk != p.quirk {
		p.quirk, p.times = quirk, 0
	}
	p.times++
	if p.usual() {
		p.note(quirk)
	}
	if p.believed || wrong <= p.slack || p.usual() && (p.pages > 1 || wrong == 1) {
		return nil
	}
	return fmt.Errorf("%d rows came, but the total is %d, and there is no sure sign that the list ends there", len(p.keys), p.total)
}

// remember keeps which rows there are: with a doubt those that were known before,
// too. got is not used any more.
func (p *pass[T]) remember(rows []T, got map[string]bool, doubt error) List[T] {
	maps.DeleteFunc(got, func(key string, _ bool) bool { return key[0] == 0 }) // of rows without a key
	if doubt != nil {
		maps.Copy(got, p.known)
	} else if p.proven && !p.moved() {
		p.end = listEnd{rows: len(p.keys), total: p.total, at: p.now()}
	}
	p.known = got
	return List[T]{Rows: rows, Doubt: doubt}
}
