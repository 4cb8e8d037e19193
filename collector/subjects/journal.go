package subjects

import (
	"slices"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"ncp_exporter/collector/ledger"
)

// Journal is which authentications the log tells of, one by one.
type Journal struct {
	Of    func(ledger.Result) bool // nil: none
	Flush func()                   // waits until the lines so far were written
}

// journal logs new rows before they are counted: if the process dies in between, they
// come twice, but never not at all.
func (w *Watcher) journal(k *Known, read *ledger.Read) {
	if len(read.Told) == 0 {
		return
	}
	slices.SortStableFunc(read.Told, func(a, b ledger.Row) int { return a.SeenTime.Compare(b.SeenTime) })
	w.journaling.Lock() // so that not all subjects fill the log's buffer together
	defer w.journaling.Unlock()
	logger := log.With(level.Info(w.logger), "subject_id", k.ID, "x509_subject", ledger.Text(k.X509Subject))
	for _, row := range read.Told {
		_ = logger.Log("msg", "Authentication", "result", row.Result,
			"issuer", row.Issuer, "serial_number", row.SerialNumber, "seen_time", row.SeenTime.UTC().Format(time.RFC3339Nano))
	}
	if read.Untold > 0 {
		_ = logger.Log("msg", "More authentications, which are not told one by one", "number", read.Untold)
	}
	w.options.Journal.Flush()
}
