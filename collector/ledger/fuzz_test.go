package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func anAccount(t *rapid.T) account {
	instants := rapid.Custom(func(t *rapid.T) instant { return instant(rapid.Int64().Draw(t, "instant")) })
	a := account{created: instants.Draw(t, "created"), watermark: instants.Draw(t, "watermark"), line: instants.Draw(t, "line"), gone: instants.Draw(t, "gone")}
	for i := range a.count {
		a.count[i], a.newest[i] = rapid.Uint64().Draw(t, "count"), instants.Draw(t, "newest")
	}
	for range rapid.IntRange(0, 20).Draw(t, "marks") {
		m := mark{ago: rapid.Uint32().Draw(t, "ago")}
		copy(m.id[:], rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "id"))
		a.marks = append(a.marks, m)
	}
	slices.SortFunc(a.marks, compareMarks)
	return a
}

func TestAccountRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, a := rapid.String().Draw(t, "key"), anAccount(t)
		record := encodeAccount(key, &a)
		if limit := 100 + markBytes*len(a.marks); len(record) > limit {
			t.Errorf("a record of %d marks takes %d bytes, want at most %d", len(a.marks), len(record), limit)
		}
		got, err := decodeAccount(key, record)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, got, cmp.AllowUnexported(account{}, mark{})); diff != "" {
			t.Errorf("account (-written +read):\n%s", diff)
		}
		if _, err := decodeAccount(key+"x", record); !errors.Is(err, errRecord) {
			t.Errorf("error %v for the record of another subject", err)
		}
		damaged := bytes.Clone(record)
		damaged[rapid.IntRange(0, len(record)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := decodeAccount(key, damaged); !errors.Is(err, errRecord) {
			t.Errorf("error %v for a damaged record", err)
		}
		if _, err := decodeAccount(key, record[:rapid.IntRange(0, len(record)-1).Draw(t, "length")]); !errors.Is(err, errRecord) {
			t.Errorf("error %v for a record that is cut off", err)
		}
	})
}

func TestStatusesRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := statuses{}
		if rapid.Bool().Draw(t, "looked") {
			s.last = rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "last")
		}
		if changes := rapid.MapOf(rapid.String(), rapid.Uint64()).Draw(t, "changes"); len(changes) > 0 {
			s.changes = changes
		}
		got, err := decodeStatuses("k", encodeStatuses("k", &s))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, got, cmp.AllowUnexported(statuses{})); diff != "" {
			t.Errorf("statuses (-written +read):\n%s", diff)
		}
	})
}

// bodies are what a fuzz target begins with: sealed records, without their seals.
func bodies(records ...[]byte) [][]byte {
	for i, r := range records {
		records[i] = r[:len(r)-4]
	}
	return append(records, nil, []byte{recordFormat}, []byte{recordFormat + 1}, bytes.Repeat([]byte{0xff}, 40))
}

// A record that is accepted is, to the byte, the one that would be written:
// also one whose checksum is right, as a fuzzer seldom guesses that.
func FuzzDecodeAccount(f *testing.F) {
	a, _ := account{}.add(read(manyRows("s", 0, 5)...), testLateArrival)
	for _, body := range bodies(encodeAccount("s", &account{}), encodeAccount("s", &a)) {
		f.Add(body, true)
		f.Add(body, false)
	}
	f.Fuzz(func(t *testing.T, record []byte, sealed bool) {
		if sealed {
			record = seal("s", record)
		}
		a, err := decodeAccount("s", record)
		switch {
		case err != nil && !errors.Is(err, errRecord):
			t.Errorf("error %v is none of a record", err)
		case err == nil && !bytes.Equal(encodeAccount("s", &a), record):
			t.Errorf("%x is read as %+v, which is written as %x", record, a, encodeAccount("s", &a))
		}
	})
}

func FuzzDecodeStatuses(f *testing.F) {
	looked := statuses{last: map[string]string{"1": "normal", "2": "ongoing"}, changes: map[string]uint64{"normal": 300, "ongoing": 1}}
	for _, body := range bodies(encodeStatuses("k", &statuses{}), encodeStatuses("k", &looked), encodeStatuses("k", &statuses{last: map[string]string{}})) {
		f.Add(body, true)
		f.Add(body, false)
	}
	f.Fuzz(func(t *testing.T, record []byte, sealed bool) {
		if sealed {
			record = seal("k", record)
		}
		s, err := decodeStatuses("k", record)
		switch {
		case err != nil && !errors.Is(err, errRecord):
			t.Errorf("error %v is none of a record", err)
		case err == nil && !bytes.Equal(encodeStatuses("k", &s), record):
			t.Errorf("%x is read as %+v, which is written as %x", record, s, encodeStatuses("k", &s))
		}
	})
}

// trueOrder is the order of times, told from every pair of them.
func trueOrder(times []instant) order {
	found := orderUnclear
	for i := range times {
		for j := range i {
			step := stepOrder(times[j], times[i])
			switch {
			case step == orderUnclear:
			case found == orderUnclear:
				found = step
			case found != step:
				return noOrder
			}
		}
	}
	return found
}

// The order of pages of any sizes, put one behind another or one before
// another, is that of all their rows.
func FuzzOrder(f *testing.F) {
	f.Add([]byte{}, uint64(0))
	f.Add([]byte{9, 7, 7, 5, 3}, uint64(0b10010))
	f.Add([]byte{1, 2, 2, 4, 9}, uint64(0b00101))
	f.Add([]byte{5, 5, 5, 4, 5}, uint64(0b11111))
	f.Fuzz(func(t *testing.T, values []byte, splits uint64) {
		values = values[:min(len(values), 64)]
		var pages [][]seenRow
		var times []instant
		page := []seenRow{}
		for i, v := range values {
			times = append(times, instant(v))
			page = append(page, seenRow{id: identity(binary.BigEndian.AppendUint32(make([]byte, 8), uint32(i))), seen: instant(v)})
			if splits>>i&1 == 1 {
				pages = append(pages, page, nil)
				page = nil
			}
		}
		pages = append(pages, page)
		var forward, backward, both sequence
		for _, p := range pages {
			forward.then(p)
		}
		for _, p := range slices.Backward(pages) {
			backward.before(p)
		}
		middle := len(pages) / 2
		for _, p := range slices.Backward(pages[:middle]) {
			both.before(p)
		}
		for _, p := range pages[middle:] {
			both.then(p)
		}
		want := sequence{found: trueOrder(times), any: len(times) > 0}
		if want.any {
			want.first, want.last = times[0], times[len(times)-1]
		}
		for name, got := range map[string]sequence{"forward": forward, "backward": backward, "from the middle": both} {
			if got != want {
				t.Errorf("%v in pages %v, %s: %+v, want %+v", times, pages, name, got, want)
			}
		}
	})
}
