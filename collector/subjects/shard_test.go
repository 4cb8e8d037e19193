package subjects

import (
	"fmt"
	"math"
	"testing"
)

// Each subject belongs to one shard, and each shard has about as many. If a shard is
// added, only the subjects that it takes over move.
func TestShards(t *testing.T) {
	const subjects = 10_000
	for total := 1; total <= 8; total++ {
		counts, moved := make([]int, total), 0
		for i := range subjects {
			id := fmt.Sprintf("c2dea79b-0000-0000-0000-%012x", i)
			owner, owners := -1, 0
			for n := range total {
				if NewShard(n, total).Owns(id) {
					owner, owners = n, owners+1
				}
			}
			if owners != 1 {
				t.Fatalf("%s has %d shards of %d", id, owners, total)
			}
			counts[owner]++
			if total > 1 && !NewShard(min(owner, total-2), total-1).Owns(id) {
				moved++
				if owner != total-1 {
					t.Fatalf("%s moved from one old shard to another", id)
				}
			} else if total > 1 && owner == total-1 {
				moved++
			}
		}
		for n, count := range counts {
			if share := float64(count) * float64(total) / subjects; math.Abs(share-1) > 0.1 {
				t.Errorf("shard %d of %d has %d of %d subjects", n, total, count, subjects)
			}
		}
		if want := float64(subjects) / float64(total); total > 1 && math.Abs(float64(moved)/want-1) > 0.1 {
			t.Errorf("%d subjects moved to shard %d, want about %.0f", moved, total-1, want)
		}
	}
}
