package subjects

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/go-kit/log"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/ncpclient"
)

func filterOf(t *testing.T, include, exclude string) Filter {
	t.Helper()
	in, err := Pattern(include)
	out, err2 := Pattern(exclude)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return Filter{in, out}
}

func TestFilter(t *testing.T) {
	batch := ncpclient.Subject{ID: "id-1", X509Subject: "CN=batch, O=\nB"}
	unnamed := ncpclient.Subject{ID: "id-2"}
	for _, test := range []struct {
		include, exclude string
		batch, unnamed   bool
	}{
		{"", "", true, true},
		{"id-1", "", true, false},
		{"id", "", false, false}, // it is anchored
		{"CN=batch", "", false, false},
		{"CN=batch.*", "", true, false}, // a line break is a character
		{"a|id-2", "", false, true},
		{".*", "", true, true},
		{"", "id-1", false, true},
		{"", "d-1|id-", true, true},
		{"", "CN=batch.*", false, true},
		{"", ".*", false, false},
		{"", "()|CN=other", true, true}, // there is no name that is empty
		{"id-.", "CN=.*", false, true},
		{"id-1", "id-1", false, false},
	} {
		f := filterOf(t, test.include, test.exclude)
		if got := f.Takes(batch); got != test.batch {
			t.Errorf("include %q, exclude %q: batch %t", test.include, test.exclude, got)
		}
		if got := f.Takes(unnamed); got != test.unnamed {
			t.Errorf("include %q, exclude %q: unnamed %t", test.include, test.exclude, got)
		}
	}
	for _, pattern := range []string{"(", "a)(b", "(?<", `(?=look)`} {
		if _, err := Pattern(pattern); err == nil {
			t.Errorf("%q is taken", pattern)
		}
	}
}

type noRows struct{}

func (noRows) Page(context.Context, int, int) (ledger.Page, error) {
	return ledger.Page{Clock: time.Now()}, nil
}

// A subject that is left out is not read, whatever was known of it before, and also if
// the list may not be complete. The ledger keeps it, as NCP lists it.
func TestFilterLeavesOutWhatIsKnown(t *testing.T) {
	l := ledger.New(ledger.Options{LateArrival: time.Hour, Now: time.Now})
	rows := []ncpclient.Subject{{ID: "a", X509Subject: "CN=a"}, {ID: "b", X509Subject: "CN=b"}, {ID: "c", X509Subject: "CN=c"}}
	for _, s := range rows {
		read, err := l.Plan(s.ID).Read(t.Context(), noRows{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		l.Apply(s.ID, read)
	}
	l.Commit()
	w := NewWatcher(log.NewNopLogger(), nil, l, Options{Filter: filterOf(t, "", "a|CN=b"), Concurrency: 1, Now: time.Now})
	if want := []string{"b", "c"}; !slices.Equal(w.ids, want) {
		t.Errorf("at the start %q are watched, want %q", w.ids, want)
	}
	w.apply(rows, 0, errors.New("it may not be complete"))
	if want := []string{"c"}; !slices.Equal(w.ids, want) || w.queue.Len() != 1 {
		t.Errorf("%q are watched, want %q, and %d are to be read", w.ids, want, w.queue.Len())
	}
	if got := len(l.Subjects()); got != 3 {
		t.Errorf("the ledger has %d subjects", got)
	}
}
