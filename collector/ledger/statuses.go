package ledger

import "maps"

// statuses counts how often certificates come into a status. Like account it
// is a value.
type statuses struct {
	// scope is what the answers are about: with another, they do not compare.
	scope   string
	last    map[string]string // as last seen; nil before the first look
	changes map[string]uint64
}

// add returns the statuses after a whole answer, and whether they differ. The
// first answer of a scope is the baseline: what it holds changed before anybody
// looked.
func (s statuses) add(scope string, current map[string]string) (statuses, bool) {
	if s.scope != scope {
		s.scope, s.last = scope, nil
	}
	if s.last != nil && maps.Equal(s.last, current) {
		return s, false
	}
	next := statuses{scope: scope, last: make(map[string]string, len(current)), changes: maps.Clone(s.changes)}
	maps.Copy(next.last, current)
	if s.last == nil {
		return next, true
	}
	if next.changes == nil {
		next.changes = make(map[string]uint64)
	}
	for certificate, status := range current {
		if before, known := s.last[certificate]; !known || before != status {
			next.changes[status]++
		}
	}
	return next, true
}
