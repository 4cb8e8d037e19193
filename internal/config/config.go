// Package config is the configuration of the exporter: its parts, the rules for
// their values, and what must hold between them. Nobody changes a Config after
// Validated gave it.
package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/exporter-toolkit/web"

	"ncp_exporter/collector"
	"ncp_exporter/collector/ledger"
)

// Program is the name of the program, and the beginning of its variables.
const Program = "ncp_exporter"

// Config is the whole configuration: what is of the process, and the account.
type Config struct {
	Web     Web
	Scrape  collector.HandlerOptions
	Shard   Shard
	Log     Log
	Check   Check
	Account Account // without a File the only one; else the defaults of those in it

	File         string        // of the accounts; empty = the flags say one account
	AutoReload   time.Duration // how often to look whether File changed; 0 = never
	DemoAccounts int           // how many accounts the simulated NCP has
}

// Web is how the metrics are served.
type Web struct {
	Toolkit       *web.FlagConfig // listen addresses, socket activation, TLS and passwords
	TelemetryPath string          // without a slash at its end
	Lifecycle     bool            // POST /-/reload is served
}

// Shard is which part of the subjects this exporter takes.
type Shard struct{ Number, Total int }

// Log is what is logged, and how.
type Log struct {
	Level, Format   string
	Authentications string // AuthenticationsNone, AuthenticationsFailures or AuthenticationsAll
}

// The values of Log.Authentications.
const (
	AuthenticationsNone     = "none"
	AuthenticationsFailures = "failures"
	AuthenticationsAll      = "all"
)

// Of says whether authentications with a result are logged one by one.
func (l Log) Of(result ledger.Result) bool {
	return l.Authentications == AuthenticationsAll || l.Authentications == AuthenticationsFailures && result == ledger.Failure
}

// Check is whether to check instead of to serve, and the form of the report.
type Check struct {
	Run    bool
	Format string // FormatText or FormatJSON
	File   bool   // check only the file of the accounts, and ask NCP nothing
	Health bool   // ask only the exporter that runs with these settings
}

// The values of Check.Format.
const (
	FormatText = "text"
	FormatJSON = "json"
)

// Account is one NCP account.
type Account struct {
	Name               string // empty for the account of the flags
	Formerly           string // the earlier name, whose ledger it takes over; often empty
	Demo               bool   // its NCP is simulated inside this process
	Site               string // public, gov or fin
	Keys               Keys
	Limits             Limits
	MaxAge             time.Duration   // of an answer that serves another scrape; 0 = every scrape asks
	Collectors         map[string]bool // by name, which are switched on or off
	CertificateManager CertificateManager
	ExternalAccess     ExternalAccess
	StateFile          StateFile
}

// Equal says whether nothing of an account has changed.
func (a Account) Equal(b Account) bool { return reflect.DeepEqual(a, b) }

// Keys is where keys come from. In a file of accounts it is exactly one place; the
// flags may give several, which are tried in order.
type Keys struct {
	AccessKeyFile, SecretKeyFile string // both or none
	AccessKeyEnv, SecretKeyEnv   string // names of variables; both or none; not by flag
	CredentialsFile, Profile     string // empty is the default place
	Directory                    string // may hold the two keys; only by flag
	ServerRole                   bool
	ServerRoleURL                string
}

// Limits bound the requests to each API of an account.
type Limits struct {
	Timeout        time.Duration // of one request
	MaxConcurrency int
	RateLimit      float64 // requests a second; 0 = no limit
	MaxRetries     int
}

// CertificateManager is how Certificate Manager is watched.
type CertificateManager struct {
	URL            string // empty is that of the site
	Profile        string // before all other keys, if it is not empty; only by flag
	Keys           Keys   // in place of the account's; Keys{} = those; only by file
	Window         time.Duration
	PerCertificate bool
}

// ExternalAccess is how External Access is watched.
type ExternalAccess struct {
	URL            string   // empty is that of the site
	Profile        string   // before all other keys, if it is not empty; only by flag
	Keys           Keys     // in place of the account's; Keys{} = those; only by file
	Subjects       []string // sorted, each once; empty is all that NCP lists
	SubjectInclude string   // of those, which; a pattern over id and X.509 subject; empty is all
	SubjectExclude string   // likewise, which not
	PageSize       int
	InitialHistory string // InitialHistoryCount or InitialHistorySkip
	LateArrival    time.Duration
	SweepInterval  time.Duration // 0 = every scrape reads every subject
	FailureInfo    time.Duration // how long the certificate of a failure is shown; 0 = not at all
}

// The values of ExternalAccess.InitialHistory.
const (
	InitialHistoryCount = "count"
	InitialHistorySkip  = "skip"
)

// DefaultStateFile is used, if it can be, where no other is given.
const DefaultStateFile = "data/ncp_exporter.db"

// StateFile is the file of the ledger.
type StateFile struct {
	Path  string // empty is memory only
	Given bool   // by the user: then it must be usable
}

// InMemory says whether no ledger on disk is wanted.
func (a Account) InMemory() bool {
	return a.StateFile.Path == "" || a.Demo && !a.StateFile.Given
}

// Validated gives the configuration with its lists in order, or an error that
// names the flag and its variable, on one line. Each value follows its Rule.
func (c Config) Validated() (Config, error) {
	subjects := slices.Clone(c.Account.ExternalAccess.Subjects)
	for i, id := range subjects {
		var err error
		if subjects[i], err = parseSubject(id); err != nil {
			return Config{}, fmt.Errorf("--collector.external-access.subject is %q, which cannot be the id of a subject", id)
		}
	}
	c.Account.ExternalAccess.Subjects = sortedSet(subjects)
	if file := &c.Account.StateFile; c.Account.Demo && file.Path != "" {
		file.Path += ".demo" // what was counted of an account stays as it is
	}
	switch keys := c.Account.Keys; {
	case (keys.AccessKeyFile == "") != (keys.SecretKeyFile == ""):
		return Config{}, errors.New("--ncp.access-key-file and --ncp.secret-key-file go together, but only one of them is given")
	case c.Shard.Number >= c.Shard.Total:
		return Config{}, fmt.Errorf("%s is %d, but there are only %s %d: shards count from 0",
			FlagName("shard"), c.Shard.Number, FlagName("total-shards"), c.Shard.Total)
	case c.Check.Format != FormatText && !c.Check.Run:
		return Config{}, fmt.Errorf("%s is %q, but goes with --check only", FlagName("format"), c.Check.Format)
	case c.Check.Health && (c.Check.Run || c.Check.File):
		return Config{}, fmt.Errorf("%s is given together with --check or --config.check: give one of them", FlagName("health-check"))
	case c.DemoAccounts > 1 && !c.Account.Demo:
		return Config{}, fmt.Errorf("%s is %d, but goes with --demo only", FlagName("demo.accounts"), c.DemoAccounts)
	}
	return c, c.validateFile()
}

// validateFile says what does not go with a file of accounts, or without one. A flag
// that says which account it is must not be the default of several.
func (c Config) validateFile() error {
	a := c.Account
	for _, flag := range []struct {
		name            string
		given, withFile bool
	}{
		{name: "config.check", given: c.Check.File, withFile: true},
		{name: "config.auto-reload-interval", given: c.AutoReload > 0, withFile: true},
		{name: "demo", given: a.Demo},
		{name: "ncp.access-key-file", given: a.Keys.AccessKeyFile != ""},
		{name: "ncp.secret-key-file", given: a.Keys.SecretKeyFile != ""},
		{name: "ncp.credentials-file", given: a.Keys.CredentialsFile != ""},
		{name: "ncp.profile", given: a.Keys.Profile != ""},
		{name: "ncp.server-role", given: a.Keys.ServerRole},
		{name: "ncp.certificate-manager.profile", given: a.CertificateManager.Profile != ""},
		{name: "ncp.external-access.profile", given: a.ExternalAccess.Profile != ""},
		{name: "ncp.certificate-manager.url", given: a.CertificateManager.URL != ""},
		{name: "ncp.external-access.url", given: a.ExternalAccess.URL != ""},
		{name: "collector.external-access.subject", given: len(a.ExternalAccess.Subjects) > 0},
	} {
		switch {
		case flag.given && flag.withFile && c.File == "":
			return fmt.Errorf("%s is given, but goes with --config.file only", FlagName(flag.name))
		case flag.given && !flag.withFile && c.File != "":
			return fmt.Errorf("%s is given, but does not go with --config.file, where each account says this for itself", FlagName(flag.name))
		}
	}
	return nil
}

func sortedSet(texts []string) []string {
	slices.Sort(texts)
	return slices.Compact(texts)
}

// Validate says in one line what is wrong with --web.config.file and the
// certificates that it names.
func (w Web) Validate() error {
	if err := web.Validate(*w.Toolkit.WebConfigFile); err != nil {
		return errors.New(strings.Join(strings.Fields(WithUser(err).Error()), " ")) // YAML's errors have many lines
	}
	return nil
}

// FlagName is a flag and its variable, as errors name them.
func FlagName(flag string) string { return "--" + flag + " (or " + Variable(flag) + ")" }

// Variable is the environment variable that sets a flag.
func Variable(flag string) string {
	return strings.ToUpper(Program + "_" + strings.NewReplacer(".", "_", "-", "_").Replace(flag))
}
