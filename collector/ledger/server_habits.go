package ledger

import "sync"

// Server is what the pages of an API have shown of how it makes them. It is
// learnt once, for all histories of the API: no document tells it. It is not
// kept on disk; a restart costs one or two calls to learn it again.
//
// It is safe for concurrent use.
type Server struct {
	// learner is held by the read that asks for smaller pages to learn from: the others
	// go on without.
	learner sync.Mutex

	mu      sync.Mutex
	largest int // rows of the largest page that came
	// offset is by how much the total was larger than the rows that came, at the
	// last end of a history.
	offset  int
	rows    int // at that end
	same    int // ends in a row that had the same offset and say that it is no chance
	changes int // how often the offset was not that of the end before
}

const (
	// minEnds is how many ends in a row must have the same offset until totals are
	// relied on, and again so many for each time that it changed. A history that
	// moves may make a right one look wrong, and chance a wrong one right.
	minEnds = 3
	// maxChanges is how many times the offset may change until totals are ignored.
	maxChanges = 3
)

// sawPage learns from the number of rows of a page.
func (s *Server) sawPage(rows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.largest = max(s.largest, rows)
}

// sawEnd learns from the end of a history: its rows, and the total that a page of
// so many rows told. It says nothing if the total may be that of the page as well
// as that of the history.
func (s *Server) sawEnd(rows, total, page int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if total < 0 || total == rows && rows == page {
		return
	}
	if total == page { // of the last page: it is as much too small until there is another
		s.same = 0
		s.changes++
		return
	}
	offset := total - rows
	switch {
	case s.same == 0:
		s.same = 1
	case offset != s.offset:
		s.same = 1
		s.changes++
	case offset == 0 || s.rows != rows: // else it may be wrong by as much at the same history again
		s.same++
	}
	s.offset, s.rows = offset, rows
}

// learning says whether totals have been right so far, and may be relied on soon.
func (s *Server) learning() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes == 0 && s.same < minEnds
}

// fullPage is the number of rows of a full page, as far as it is known, if size
// are asked for. The server may make its pages smaller without saying so.
func (s *Server) fullPage(size int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(size, s.largest)
}

// rowsOf is the number of rows that a total stands for; negative if it says
// nothing. sure says whether an end has confirmed that.
func (s *Server) rowsOf(total int) (rows int, sure bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if total < 0 || s.changes >= maxChanges {
		return -1, false
	}
	if s.same < minEnds*(1+s.changes) {
		return total, false
	}
	return max(0, total-s.offset), true
}
