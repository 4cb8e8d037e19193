package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-kit/log/level"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/internal/config"
)

// openLedger opens the ledger on disk, or makes one in memory if none is wanted
// or if the default file cannot be used.
func (s *Setup) openLedger(ctx context.Context) (*ledger.Ledger, error) {
	access, file := s.Config.ExternalAccess, s.Config.StateFile
	options := ledger.Options{
		LateArrival:        access.LateArrival,
		SkipInitialHistory: access.InitialHistory == config.InitialHistorySkip,
		Now:                time.Now,
		Owner:              s.owner,
		OnSaveError:        s.logLedger,
	}
	if s.Config.InMemory() {
		_ = level.Info(s.Logger).Log("msg", "Counting in memory: counters start over with each start")
		return ledger.New(options), nil
	}
	l, err := ledger.Open(ctx, file.Path, options)
	if errors.Is(err, ledger.ErrUnusable) && !file.Given {
		_ = level.Warn(s.Logger).Log("msg", "The default ledger file cannot be used: counting in memory, counters start over with each start; give --state.file a path that can be written", "err", err)
		return ledger.New(options), nil
	}
	if err != nil {
		return nil, fmt.Errorf("--state.file: %w", err)
	}
	msg := "Counting goes on from the ledger"
	if l.Begun() {
		msg = "Counting begins with a new ledger"
	}
	_ = level.Info(s.Logger).Log("msg", msg, "file", file.Path, "counting_since", l.Since().UTC().Format(time.RFC3339))
	return l, nil
}

// logLedger says that the ledger cannot be written any more, or can again.
func (s *Setup) logLedger(err error) {
	file := s.Config.StateFile.Path
	if err != nil {
		_ = level.Error(s.Logger).Log("msg", "The ledger cannot be written: counting goes on in memory, and what is counted from now on is not safe until it can", "file", file, "err", err)
		return
	}
	_ = level.Info(s.Logger).Log("msg", "The ledger can be written again, and is complete", "file", file)
}

// ProbeLedger says whether there is a ledger file, and what opening it would say.
func (s *Setup) ProbeLedger(ctx context.Context) (found bool, err error) {
	return ledger.Probe(ctx, s.Config.StateFile.Path, ledger.Options{Owner: s.owner})
}
