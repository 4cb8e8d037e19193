package ledger

import (
	"errors"
	"path/filepath"
	"testing"
	"time"
)

// TestReconfigure gives a ledger another owner and another late-arrival while it is
// open.
func TestReconfigure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	old := testOptions()
	old.Owner.Account = "old"
	l := mustOpen(t, path, old)
	l.Apply("subject", &Read{Entries: 0})
	l.Commit()
	renamed := old
	renamed.Owner.Account, renamed.LateArrival = "new", 8*time.Hour
	l.Reconfigure(renamed)
	if l.Plan("subject").account.watermark != 0 || l.options.LateArrival != renamed.LateArrival {
		t.Error("the options are not those that were given")
	}
	l.Commit() // nothing else has changed
	mustClose(t, l)
	if _, err := Open(t.Context(), path, old); !errors.Is(err, ErrOwner) {
		t.Errorf("the earlier owner opens it: %v", err)
	}
	l = mustOpen(t, path, renamed)
	defer mustClose(t, l)
	if _, known := l.Totals("subject"); !known {
		t.Error("what it held is lost")
	}
}
