package account

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-kit/log/level"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/internal/config"
)

// ledgerOptions are those of the account's ledger.
func (s *Setup) ledgerOptions() ledger.Options {
	access := s.Config.ExternalAccess
	return ledger.Options{
		LateArrival:        access.LateArrival,
		SkipInitialHistory: access.InitialHistory == config.InitialHistorySkip,
		Now:                time.Now,
		Owner:              s.owner,
		Formerly:           s.Config.Formerly,
		OnSaveError:        s.logLedger,
	}
}

// openLedger opens the ledger on disk, or makes one in memory if none is wanted
// or if the default file cannot be used.
func (s *Setup) openLedger(ctx context.Context, before *Account) (*ledger.Ledger, error) {
	file, options := s.Config.StateFile, s.ledgerOptions()
	if s.Config.InMemory() {
		_ = level.Info(s.Logger).Log("msg", "Counting in memory: counters start over with each start")
		return ledger.New(options), nil
	}
	if before != nil && before.ledger != nil && before.Config.StateFile.Path == file.Path {
		return nil, s.aboutLedger(&ledger.FileError{Path: file.Path, Problem: ledger.ErrOwner})
	}
	if err := s.moveLedger(ctx); err != nil {
		return nil, s.aboutLedger(err)
	}
	_ = level.Info(s.Logger).Log("msg", "Opening the ledger", "file", file.Path) // it may hang on a dead file server
	l, err := ledger.Open(ctx, file.Path, options)
	if errors.Is(err, ledger.ErrUnusable) && !file.Given {
		_ = level.Warn(s.Logger).Log("msg", "The default ledger file cannot be used: counting in memory, counters start over with each start; give --state.file a path that can be written", "err", config.WithUser(err))
		return ledger.New(options), nil
	}
	if err != nil {
		return nil, s.aboutLedger(err)
	}
	msg := "Counting goes on from the ledger"
	if l.Begun() {
		msg = "Counting begins with a new ledger"
	}
	_ = level.Info(s.Logger).Log("msg", msg, "file", file.Path, "counting_since", l.Since().UTC().Format(time.RFC3339))
	return l, nil
}

// aboutLedger names the setting that an error of the ledger is about.
func (s *Setup) aboutLedger(err error) error {
	err = config.WithUser(err)
	if s.Config.Name != "" {
		return fmt.Errorf("state_file: %w", err)
	}
	return fmt.Errorf("--state.file: %w", err)
}

// earlierFile is where the ledger is if it is named after the account, as it is by
// default, and the account had another name; else "".
func (s *Setup) earlierFile() string {
	path := s.Config.StateFile.Path
	if s.Config.Formerly == "" || s.Config.InMemory() || filepath.Base(path) != s.Config.Name {
		return ""
	}
	return filepath.Join(filepath.Dir(path), s.Config.Formerly)
}

// moveLedger gives the file of a renamed account its new name, if it still has the
// earlier one.
func (s *Setup) moveLedger(ctx context.Context) error {
	earlier, path := s.earlierFile(), s.Config.StateFile.Path
	if earlier == "" || !s.fileIsFree() {
		return nil
	}
	found, err := ledger.Probe(ctx, earlier, s.ledgerOptions())
	if err != nil || !found {
		return err
	}
	_ = level.Info(s.Logger).Log("msg", "The account has another name, and so has its ledger", "file", path, "formerly", earlier)
	return os.Rename(earlier, path)
}

// inherits says whether the ledger of before is this account's.
func (s *Setup) inherits(before *Account) bool {
	if before == nil || before.ledger == nil || before.owner.BaseURL != s.owner.BaseURL || before.Config.InMemory() != s.Config.InMemory() {
		return false
	}
	return s.Config.InMemory() || before.Config.StateFile.Path == s.Config.StateFile.Path
}

// movesFileOf says whether the ledger of before has the file that will be moved, so
// that it is opened only after before was closed.
func (s *Setup) movesFileOf(before *Account) bool {
	if before == nil || before.ledger == nil || before.Config.InMemory() || before.owner.BaseURL != s.owner.BaseURL {
		return false
	}
	return before.Config.StateFile.Path == s.earlierFile() && s.fileIsFree()
}

// fileIsFree says whether nothing is where the ledger is to be.
func (s *Setup) fileIsFree() bool {
	_, err := os.Lstat(s.Config.StateFile.Path)
	return errors.Is(err, fs.ErrNotExist)
}

// takeLedger takes the ledger of before, if it was not opened already.
func (a *Account) takeLedger(ctx context.Context, before *Account) (err error) {
	switch {
	case a.ledger != nil:
	case a.inherits(before):
		a.ledger, before.handedOn = before.ledger, true
		a.ledger.Reconfigure(a.ledgerOptions())
	default:
		before.closeLedger()
		a.ledger, err = a.openLedger(ctx, nil)
	}
	return err
}

// closeLedger closes the ledger, unless it is closed already or another account's.
func (a *Account) closeLedger() {
	if a.ledger == nil || a.handedOn {
		return
	}
	a.handedOn = true
	if err := a.ledger.Close(); err != nil {
		_ = level.Error(a.Logger).Log("msg", "The ledger could not be closed; what it holds is whole", "err", err)
	}
}

// logLedger says that the ledger cannot be written any more, or can again.
func (s *Setup) logLedger(err error) {
	file := s.Config.StateFile.Path
	if err != nil {
		_ = level.Error(s.Logger).Log("msg", "The ledger cannot be written: counting goes on in memory, and what is counted from now on is not safe until it can", "file", file, "err", config.WithUser(err))
		return
	}
	_ = level.Info(s.Logger).Log("msg", "The ledger can be written again, and is complete", "file", file)
}

// ProbeLedger says whether there is a ledger file, and what opening it would say.
func (s *Setup) ProbeLedger(ctx context.Context) (found bool, err error) {
	found, err = ledger.Probe(ctx, s.Config.StateFile.Path, s.ledgerOptions())
	return found, config.WithUser(err)
}
