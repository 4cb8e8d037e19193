package ledger

import "maps"

// statuses counts how often certificates come into a status. Like account it
// is a value.
type statuses struct {
	last    map[string]string // as last seen; nil before the first look
	changes map[string]uint64
}

// add returns the statuses after a whole answer, and whether they differ. The
// first answer is the baseline: what it holds changed before anybody looked.
func (s statuses) add(current map[string]string) (statuses, bool) {
	if s.last != nil && maps.Equal(s.last, current) {
		return s, false
	}
	next := statuses{last: make(map[string]string, len(current)), changes: maps.Clone(s.changes)}
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
