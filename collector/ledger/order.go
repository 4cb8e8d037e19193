package ledger

// order is the order of the rows of a history by their times.
type order int

const (
	// orderUnclear is that of rows which all have the same time, or of none.
	orderUnclear order = iota
	newestFirst
	oldestFirst
	noOrder
)

// orderNames are the orders in the file of the ledger.
var orderNames = [...]string{ //nolint:gochecknoglobals // a constant in all but syntax
	orderUnclear: "",
	newestFirst:  "newest_first",
	oldestFirst:  "oldest_first",
	noOrder:      "none",
}

// sorted says whether rows of this order may be trusted to be where their times
// belong.
func (o order) sorted() bool { return o == newestFirst || o == oldestFirst }

// merge is the order of a whole of two parts.
func (o order) merge(other order) order {
	switch {
	case o == orderUnclear:
		return other
	case other == orderUnclear || o == other:
		return o
	default:
		return noOrder
	}
}

func stepOrder(from, to instant) order {
	switch {
	case to < from:
		return newestFirst
	case to > from:
		return oldestFirst
	default:
		return orderUnclear
	}
}

// sequence finds the order of rows from the rows themselves: those of
// consecutive pages, appended or prepended to what is there.
type sequence struct {
	found       order
	first, last instant
	any         bool
}

// append adds the rows of the next page. Rows that came before say nothing
// against the order, nor do those among them: they are there again because
// others arrived ahead of them. Nor do these, if it is newest first.
func (s *sequence) append(rows []seenRow) {
	page := sequenceOf(rows)
	s.found = s.found.merge(page.found)
	arrived := func(r seenRow) bool { return s.any && s.found == newestFirst && r.seen > s.first }
	behind := len(rows)
	for behind > 0 && !rows[behind-1].again && !arrived(rows[behind-1]) {
		behind--
	}
	if behind == len(rows) { // nothing is behind those that came before
		return
	}
	if s.any {
		s.found = s.found.merge(stepOrder(s.last, rows[behind].seen))
	} else {
		s.first, s.any = page.first, true
	}
	s.last = page.last
}

// prepend adds the rows of the page before. Rows that came before say nothing.
func (s *sequence) prepend(rows []seenRow) {
	page := sequenceOf(rows)
	s.found = s.found.merge(page.found)
	ahead := 0
	for ahead < len(rows) && !rows[ahead].again {
		ahead++
	}
	if ahead == 0 {
		return
	}
	if s.any {
		s.found = s.found.merge(stepOrder(rows[ahead-1].seen, s.first))
	} else {
		s.last, s.any = page.last, true
	}
	s.first = page.first
}

func sequenceOf(rows []seenRow) sequence {
	var s sequence
	for _, r := range rows {
		if s.any {
			s.found = s.found.merge(stepOrder(s.last, r.seen))
		} else {
			s.first, s.any = r.seen, true
		}
		s.last = r.seen
	}
	return s
}
