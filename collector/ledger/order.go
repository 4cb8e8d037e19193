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

// sequence finds the order of rows from the rows themselves: those of
// consecutive pages, appended behind or put before what is there.
type sequence struct {
	found       order
	first, last instant
	any         bool
}

// then appends rows behind those before.
func (s *sequence) then(rows []seenRow) {
	for _, r := range rows {
		if !s.any {
			s.first, s.last, s.any = r.seen, r.seen, true
			continue
		}
		s.found = s.found.and(stepOrder(s.last, r.seen))
		s.last = r.seen
	}
}

// before puts rows before those that are there.
func (s *sequence) before(rows []seenRow) {
	var ahead sequence
	ahead.then(rows)
	if !ahead.any {
		return
	}
	if !s.any {
		*s = ahead
		return
	}
	s.found = s.found.and(ahead.found).and(stepOrder(ahead.last, s.first))
	s.first = ahead.first
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

// and is the order of a whole of two parts.
func (o order) and(other order) order {
	switch {
	case o == orderUnclear:
		return other
	case other == orderUnclear || o == other:
		return o
	default:
		return noOrder
	}
}
