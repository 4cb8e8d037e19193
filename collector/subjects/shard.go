package subjects

import (
	"strconv"

	"github.com/cespare/xxhash/v2"
	"github.com/dgryski/go-rendezvous"
)

// Shard is one of several exporters that share the subjects. The zero value owns all
// of them.
type Shard struct {
	name  string
	nodes *rendezvous.Rendezvous // nil if there is only one shard
}

// NewShard makes shard number (from 0) of total. Only these two decide which subjects
// it owns. If a shard is added, only the subjects move that the new one owns.
func NewShard(number, total int) Shard {
	if total <= 1 {
		return Shard{}
	}
	names := make([]string, total)
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return Shard{name: names[number], nodes: rendezvous.New(names, xxhash.Sum64String)}
}

// Owns says whether this shard watches a subject.
func (s Shard) Owns(subjectID string) bool {
	return s.nodes == nil || s.nodes.Lookup(subjectID) == s.name
}
