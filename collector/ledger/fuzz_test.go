package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func anAccount(t *rapid.T) account {
	instants := rapid.Custom(func(t *rapid.T) instant { return instant(rapid.Int64().Draw(t, "instant")) })
	a := account{
		created: instants.Draw(t, "created"), watermark: instants.Draw(t, "watermark"), horizon: instants.Draw(t, "horizon"),
		missingSince: instants.Draw(t, "missing since"), wholeAt: instants.Draw(t, "whole at"), order: order(rapid.IntRange(0, int(noOrder)).Draw(t, "order")),
	}
	texts := rapid.String()
	a.failedBy = certificateOf(Text(texts.Draw(t, "issuer")), Text(texts.Draw(t, "serial number")))
	for i := range a.count {
		a.count[i], a.newest[i] = rapid.Uint64().Draw(t, "count"), instants.Draw(t, "newest")
	}
	for range rapid.IntRange(0, 20).Draw(t, "marks") {
		m := fingerprint{ago: rapid.Uint32().Draw(t, "ago")}
		copy(m.id[:], rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "id"))
		a.fingerprints = append(a.fingerprints, m)
	}
	slices.SortFunc(a.fingerprints, compareFingerprints)
	return a
}

// written is a file of these contents.
func written(t interface{ Fatal(args ...any) }, s *state) []byte {
	var b bytes.Buffer
	if err := writeSnapshot(&b, Owner{Account: "a", BaseURL: testURL}, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSnapshot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &state{since: epoch(), accounts: rapid.MapOf(rapid.String(), rapid.Ptr(rapid.Custom(anAccount), false)).Draw(t, "accounts")}
		s.statuses.Scope = rapid.String().Draw(t, "scope")
		if rapid.Bool().Draw(t, "looked") {
			s.statuses.Last = rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "last")
			s.statuses.Changes = rapid.MapOf(rapid.String(), rapid.Uint64()).Draw(t, "changes")
		}
		file := written(t, s)
		got, owner, err := readSnapshot(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, got, cmp.AllowUnexported(state{}, account{}, fingerprint{})); diff != "" {
			t.Errorf("contents (-written +read):\n%s", diff)
		}
		if want := (Owner{Account: "a", BaseURL: testURL}); owner != want {
			t.Errorf("owner %v, want %v", owner, want)
		}
		if !bytes.Equal(file, written(t, s)) {
			t.Error("the same contents make another file")
		}
	})
}

// What cannot be written in JSON is said, and not made something else, which
// might be the same as another.
func TestIDsThatAreNoText(t *testing.T) {
	s := &state{since: epoch(), accounts: map[string]*account{"\xff": {}, "\xfe": {}}}
	if err := writeSnapshot(io.Discard, Owner{}, s); err == nil {
		t.Error("an id was written that cannot be read again")
	}
}

// Sizes are bounded: 2 KiB a subject, and 16 bytes a mark. Texts are cut, see Text.
func TestLineSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := anAccount(t)
		long := strings.Repeat(rapid.StringN(1, 1, -1).Draw(t, "letter"), 10_000)
		a.failedBy = certificateOf(Text(long), Text(long))
		empty, whole := len(written(t, &state{})), len(written(t, &state{accounts: map[string]*account{"c2dea79b-0000-0000-0000-000000000000": &a}}))
		if limit := 2048 + 2*6*512 + 16*len(a.fingerprints); whole-empty > limit {
			t.Errorf("a subject of %d marks takes %d bytes, want at most %d", len(a.fingerprints), whole-empty, limit)
		}
	})
}

// A file that is accepted is, to the byte, the one that would be written: also
// one whose checksum is right, as a fuzzer does not guess that.
func FuzzReadSnapshot(f *testing.F) {
	for _, line := range lines(f) {
		f.Add([]byte(line), true)
	}
	f.Add([]byte(strings.Join(lines(f)[:3], "")), true)
	f.Add(mustRead(f, aFile(f)), false)
	f.Fuzz(func(t *testing.T, file []byte, seal bool) {
		if seal {
			file = sealed(t, string(file))
		}
		s, owner, err := readSnapshot(bytes.NewReader(file), int64(len(file)))
		var e *FileError
		if err != nil {
			if !errors.As(err, &e) {
				t.Errorf("error %v is none of a file", err)
			}
			return
		}
		file = bytes.Replace(file, []byte(`"version":1,`), []byte(`"version":2,`), 1) // it is written anew
		var again bytes.Buffer
		if err := writeSnapshot(&again, owner, s); err != nil || !bytes.Equal(again.Bytes(), file) {
			t.Errorf("%s is read as %+v, which is written as %s (%v)", file, s, again.Bytes(), err)
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
			forward.append(p)
		}
		for _, p := range slices.Backward(pages) {
			backward.prepend(p)
		}
		middle := len(pages) / 2
		for _, p := range slices.Backward(pages[:middle]) {
			both.prepend(p)
		}
		for _, p := range pages[middle:] {
			both.append(p)
		}
		want := sequence{found: trueOrder(times), any: len(times) > 0}
		if want.any {
			want.first, want.last = times[0], times[len(times)-1]
		}
		for name, got := range map[string]sequence{"forward": forward, "backward": backward, "from the middle": both} {
			if got.found == newestFirst && slices.Max(times) > times[0] {
				continue // newest first, rows that arrived say nothing
			}
			if got != want {
				t.Errorf("%v in pages %v, %s: %+v, want %+v", times, pages, name, got, want)
			}
		}
	})
}
