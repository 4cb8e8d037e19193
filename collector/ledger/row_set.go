package ledger

// rowSet is the set of the rows that a read came across, by 62 bits of their
// identities. It takes 11 to 22 bytes a row, which is why it is no map: one
// history may have millions.
type rowSet struct {
	slots []uint64 // open addressing; 0 is free
	len   int
	// before is the number of rows of the pass before, again how many of them
	// came in this pass too, and now the number of rows of this pass.
	before, again, now int
}

// The low bits of a slot.
const (
	inThisPass uint64 = 1 << iota
	inLastPass
	passBits = inThisPass | inLastPass
)

func rowKey(id identity) uint64 {
	var key uint64
	for _, b := range id[:8] {
		key = key<<8 | uint64(b)
	}
	if key &^= passBits; key == 0 {
		return passBits + 1
	}
	return key
}

// find is the slot that holds a row, or would hold it.
func (s *rowSet) find(key uint64) *uint64 {
	mask := uint64(len(s.slots) - 1) //nolint:gosec // a length
	for i := (key >> 2) & mask; ; i = (i + 1) & mask {
		if slot := s.slots[i]; slot == 0 || slot&^passBits == key {
			return &s.slots[i]
		}
	}
}

// in returns in which passes a row came; known is false if in none.
func (s *rowSet) in(key uint64) (passes uint64, known bool) {
	if s.len == 0 {
		return 0, false
	}
	slot := *s.find(key)
	return slot & passBits, slot != 0
}

// add notes that a row came in this pass.
func (s *rowSet) add(key uint64) {
	if 4*(s.len+1) > 3*len(s.slots) {
		s.grow()
	}
	slot := s.find(key)
	if *slot == 0 {
		*slot = key
		s.len++
	}
	if *slot&inThisPass != 0 {
		return
	}
	*slot |= inThisPass
	s.now++
	if *slot&inLastPass != 0 {
		s.again++
	}
}

func (s *rowSet) grow() {
	old := s.slots
	s.slots = make([]uint64, max(64, 2*len(old)))
	for _, slot := range old {
		if slot != 0 {
			*s.find(slot &^ passBits) = slot
		}
	}
}

// nextPass begins another pass over the history.
func (s *rowSet) nextPass() {
	for i, slot := range s.slots {
		s.slots[i] = slot&^passBits | (slot&inThisPass)<<1
	}
	s.before, s.again, s.now = s.now, 0, 0
}

// restartPass begins this pass again.
func (s *rowSet) restartPass() {
	for i := range s.slots {
		s.slots[i] &^= inThisPass
	}
	s.again, s.now = 0, 0
}
