package subjects

import (
	"strconv"

	"github.com/cespare/xxhash/v2"
	"github.com/dgryski/go-rendezvous"
)

// Shard is one of several exporters that share the subjects. The zero value
// takes all.
type Shard struct {
	name  string
	nodes *rendezvous.Rendezvous // nil: there is only one
}

// NewShard is shard number (from 0) of total. Which subjects it takes depends only
// on these two; with one shard more, 1/total of the subjects move, all of them to
// the new one.
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

// Owns says whether a subject is this shard's.
func (s Shard) Owns(subjectID string) bool {
	return s.nodes == nil || s.nodes.Lookup(subjectID) == s.name
}
