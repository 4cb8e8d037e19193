package ledger

import "maps"

// statuses counts how often certificates come into a status. Like account it
// is a value.
type statuses struct {
	last    map[string]string // as last seen; nil before the first look
	changes map[string]uint64
}

// count returns the statuses after a whole answer. The first one is the
// baseline: what it holds changed before anybody looked.
func (s statuses) count(current map[string]string) statuses {
	next := statuses{last: maps.Clone(current), changes: maps.Clone(s.changes)}
	if next.last == nil {
		next.last = make(map[string]string)
	}
	if next.changes == nil {
		next.changes = make(map[string]uint64)
	}
	if s.last == nil {
		return next
	}
	for certificate, status := range current {
		if before, known := s.last[certificate]; !known || before != status {
			next.changes[status]++
		}
	}
	return next
}
