package ledger

import "maps"

// statuses counts how often certificates come into a status. Like account it
// is a value. Its fields are those of the file.
type statuses struct {
	// Scope is what the answers are about: with another, they do not compare.
	Scope   string            `json:"scope"`
	Last    map[string]string `json:"last"` // as last seen; nil before the first look
	Changes map[string]uint64 `json:"changes"`
}

// add returns the statuses after a whole answer, and whether they differ. The
// first answer of a scope is the baseline: what it holds changed before anybody
// looked.
func (s statuses) add(scope string, current map[string]string) (statuses, bool) {
	if s.Scope != scope {
		s.Scope, s.Last = scope, nil
	}
	if s.Last != nil && maps.Equal(s.Last, current) {
		return s, false
	}
	next := statuses{Scope: scope, Last: make(map[string]string, len(current)), Changes: maps.Clone(s.Changes)}
	maps.Copy(next.Last, current)
	if s.Last == nil {
		return next, true
	}
	if next.Changes == nil {
		next.Changes = make(map[string]uint64)
	}
	for certificate, status := range current {
		if before, known := s.Last[certificate]; !known || before != status {
			next.Changes[status]++
		}
	}
	return next, true
}
