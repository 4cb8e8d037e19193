// Package check is --check: it probes an account, looks at the other settings,
// and says what works and what to do about the rest.
package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/internal/account"
	"ncp_exporter/internal/config"
)

// The names of the findings besides those of the calls to NCP. Machines rely on
// them.
const (
	findCollectors = "collectors"
	findClock      = "clock"
	findLedger     = "ledger"
	findWebConfig  = "web_config"
)

// Run checks, writes the report and returns the exit code: 0 if nothing failed. It
// checks several accounts, or that of the flags if there are none.
func Run(ctx context.Context, cfg config.Config, accounts []config.Account, lookupEnv func(string) (string, bool), stdout io.Writer) (code int) {
	if accounts == nil {
		accounts = []config.Account{cfg.Account}
	}
	r := report{OK: true, Checks: findings(ctx, cfg, accounts, lookupEnv)}
	for i, f := range r.Checks {
		r.OK = r.OK && f.Status != statusFail
		r.Checks[i].What, r.Checks[i].Detail, r.Checks[i].Remedy = clean(f.What), clean(f.Detail), clean(f.Remedy)
	}
	write := r.text
	if cfg.Check.Format == config.FormatJSON {
		write = r.json
	}
	if err := write(stdout); err != nil || !r.OK {
		return 1
	}
	return 0
}

// grace is how long a check may take to say that its time was over.
const grace = time.Second

// findings are those of all accounts, which are checked side by side, and of the rest.
func findings(ctx context.Context, cfg config.Config, accounts []config.Account, lookupEnv func(string) (string, bool)) []finding {
	late, cancel := context.WithTimeout(ctx, cfg.Scrape.Timeout+grace)
	defer cancel()
	ctx, cancel = context.WithTimeout(late, cfg.Scrape.Timeout)
	defer cancel()
	found := make([][]finding, len(accounts)+1)
	var all sync.WaitGroup
	for i, a := range accounts {
		c := &checker{Config: cfg}
		c.Account = a
		all.Go(func() { found[i] = c.account(ctx, late, lookupEnv) })
	}
	all.Go(func() {
		c := &checker{Config: cfg}
		found[len(accounts)] = c.within(late, []string{findWebConfig}, c.webConfig)
	})
	all.Wait()
	return slices.Concat(found...)
}

// account gives what is found of one account.
func (c *checker) account(ctx, late context.Context, lookupEnv func(string) (string, bool)) []finding {
	setup, err := account.Prepare(ctx, account.Options{
		Config: c.Account, Shard: c.Shard, LookupEnv: lookupEnv, Logger: log.NewNopLogger(),
	})
	if err != nil {
		return []finding{failed(findCollectors, "--demo", err.Error(), "see that a port of loopback is free")}
	}
	defer setup.Close()
	c.setup = setup
	watched := setup.Watched()
	ofCalls := make([][]finding, len(watched))
	var ofLedger []finding
	var all sync.WaitGroup
	for i, w := range watched {
		all.Go(func() { ofCalls[i] = c.within(late, names(w), func() []finding { return c.probe(ctx, w) }) })
	}
	all.Go(func() { ofLedger = c.within(late, []string{findLedger}, func() []finding { return c.ledger(ctx) }) })
	all.Wait()
	result := slices.Concat([]finding{c.collectors()}, slices.Concat(ofCalls...))
	if len(watched) > 0 {
		result = append(result, clock(result))
	}
	result = append(result, ofLedger...)
	for i := range result {
		result[i].Account = c.Account.Name
	}
	return result
}

// checker is what the checks share.
type checker struct {
	config.Config // with the account that is checked
	setup         *account.Setup
}

// setting is the name of a setting: a flag, or a field of the file of accounts.
func (c *checker) setting(flag, field string) string {
	if c.Account.Name == "" {
		return flag
	}
	return field
}

// within gives what check finds. What hangs in the operating system, as a file on
// a dead server does, cannot be ended: it is left behind, and reported.
func (c *checker) within(late context.Context, names []string, check func() []finding) []finding {
	done := make(chan []finding, 1) // it may end when nobody waits any more
	start := time.Now()
	go func() { done <- check() }()
	select {
	case found := <-done:
		for i := range found {
			if found[i].Seconds == 0 {
				found[i].Seconds = seconds(time.Since(start))
			}
		}
		return found
	case <-late.Done():
	}
	var found []finding
	for _, name := range names {
		f := failed(name, "", fmt.Sprintf("not done within %s (--scrape.timeout)", c.Scrape.Timeout), "see whether a file that is named in the flags hangs, as on a file server that is gone")
		f.Seconds = c.Scrape.Timeout.Seconds()
		found = append(found, f)
	}
	return found
}

func seconds(d time.Duration) float64 { return float64(max(1, d.Milliseconds())) / 1000 }

// collectors says what is watched, and why the rest is not.
func (c *checker) collectors() finding {
	what := c.setting("--ncp.site=", "site: ") + c.Account.Site
	if c.Account.Demo {
		what = "--demo"
	}
	if c.Shard.Total > 1 {
		what += fmt.Sprintf(", --shard=%d of %d", c.Shard.Number, c.Shard.Total)
	}
	var watched, not []string
	for _, w := range account.Table() {
		if why := c.setup.Off(w); why == "" {
			watched = append(watched, w.Name)
		} else {
			not = append(not, w.Name+" is not ("+why+")")
		}
	}
	if len(watched) == 0 {
		return failed(findCollectors, what, account.ErrNothingToWatch.Error(), "switch one of them on, with its URL if this site has none")
	}
	detail := "watched: " + strings.Join(watched, ", ")
	if len(not) > 0 {
		detail += "; " + strings.Join(not, "; ")
	}
	return finding{Name: findCollectors, Status: statusOK, What: what, Detail: detail}
}

// names are those of the findings of a row.
func names(w account.Watch) []string {
	var names []string
	for _, call := range w.Calls {
		names = append(names, call.Finding)
	}
	return names
}

// probe makes findings of the answers of a row.
func (c *checker) probe(ctx context.Context, w account.Watch) []finding {
	var found []finding
	for _, a := range c.setup.Probe(ctx, w) {
		d := diagnosis{checker: c, watch: w, answer: a}
		f := finding{Name: a.Call.Finding, Status: statusOK, What: d.what(), Detail: a.Detail, Remedy: a.Advice, Seconds: seconds(a.Took), clockOffset: a.ClockOffset}
		if a.Advice != "" {
			f.Status = statusWarn
		}
		if a.Err != nil {
			var detail string
			detail, f.Remedy = d.explain()
			f.Status, f.Detail = statusFail, a.Detail+detail
		}
		found = append(found, f)
	}
	return found
}

const (
	// clockWarn is more than an answer takes on its way.
	clockWarn = 30 * time.Second
	// clockFail is where NCP refuses requests.
	clockFail = 5 * time.Minute
)

// clock judges the largest difference between NCP's clock and this machine's.
func clock(found []finding) finding {
	f := finding{Name: findClock, Status: statusWarn, What: "the Date headers of the answers, against this machine's clock"}
	for _, other := range found {
		if o := other.clockOffset; o != nil && (f.clockOffset == nil || o.Abs() > f.clockOffset.Abs()) {
			f.clockOffset = o
		}
	}
	if f.clockOffset == nil {
		f.Detail, f.Remedy = "not known, as no answer came that tells the time", "see the other findings"
		return f
	}
	off, where := f.clockOffset.Abs(), "behind"
	if *f.clockOffset < 0 {
		where = "ahead of"
	}
	f.Detail = fmt.Sprintf("this machine's clock is %s %s NCP's", off, where)
	f.Remedy = "set this machine's clock, best by NTP: NCP refuses requests that are more than 5m off"
	switch {
	case off > clockFail:
		f.Status = statusFail
	case off <= clockWarn:
		f.Status, f.Detail, f.Remedy = statusOK, fmt.Sprintf("they agree to %s", max(off, time.Second)), ""
	}
	return f
}

func (c *checker) ledger(ctx context.Context) []finding {
	file := c.Account.StateFile
	f := finding{Name: findLedger, Status: statusOK, What: c.setting("--state.file=", "state_file: ") + file.Path}
	if c.Account.InMemory() {
		f.What, f.Detail = "--state.file=", "in memory, as asked for: counters start over with each start"
		return []finding{f}
	}
	if absolute, err := filepath.Abs(file.Path); err == nil && absolute != file.Path {
		f.What += ", which is " + absolute
	}
	found, err := c.setup.ProbeLedger(ctx)
	switch {
	case errors.Is(err, ledger.ErrLocked):
		f.Status, f.Detail = statusWarn, "another process has it open"
		f.Remedy = "nothing, if that is the exporter that runs here already; a second one needs a --state.file of its own"
	case errors.Is(err, ledger.ErrUnusable) && !file.Given:
		f.Status, f.Detail = statusWarn, err.Error()+": the exporter would start, count in memory, and start over with each start"
		f.Remedy = "give --state.file a path that this user may write"
	case err != nil:
		f.Status, f.Detail, f.Remedy = statusFail, err.Error()+"; the exporter would not start", ledgerRemedy(err)
	case found:
		f.Detail = "it is whole, of this account and site, and can be written: counting goes on from it"
	default:
		f.Detail = "there is none yet; it can be made: counting begins with the first start"
	}
	return []finding{f}
}

// ledgerRemedy is that of the error, and which flags it is about.
func ledgerRemedy(err error) string {
	var file *ledger.FileError
	if errors.Is(err, ledger.ErrUnusable) || !errors.As(err, &file) {
		return "give --state.file a path that this user may write, or give this user the right to it"
	}
	_, remedy, _ := strings.Cut(string(file.Problem), ": ")
	if file.Problem == ledger.ErrOwner {
		remedy = "check --ncp.site and --ncp.external-access.url; or " + remedy
	}
	return remedy + " (docs/counting.md, docs/upgrade.md)"
}

func (c *checker) webConfig() []finding {
	file := *c.Web.Toolkit.WebConfigFile
	f := finding{Name: findWebConfig, Status: statusOK, What: "--web.config.file=" + file}
	switch err := c.Web.Validate(); {
	case err != nil:
		f = failed(f.Name, f.What, err.Error(), "correct the file and what it names; its format is told in docs/security.md")
	case file == "":
		f.Detail = "none: /metrics is plain http without a password, for everybody who reaches the port"
	default:
		f.Detail = "it is valid, and so are the certificates that it names"
	}
	return []finding{f}
}
