// Package config is the configuration of the exporter: its parts, the rules for
// their values, and what must hold between them. Nobody changes a Config after
// Validated gave it.
package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/exporter-toolkit/web"

	"ncp_exporter/collector"
	"ncp_exporter/ncpclient"
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
	Account Account
}

// Web is how the metrics are served.
type Web struct {
	Toolkit       *web.FlagConfig // listen addresses, socket activation, TLS and passwords
	TelemetryPath string          // without a slash at its end
}

// Shard is which part of the subjects this exporter takes.
type Shard struct{ Number, Total int }

// Log is what is logged, and how.
type Log struct{ Level, Format string }

// Check is whether to check instead of to serve, and the form of the report.
type Check struct {
	Run    bool
	Format string // FormatText or FormatJSON
}

// The values of Check.Format.
const (
	FormatText = "text"
	FormatJSON = "json"
)

// Account is one NCP account.
type Account struct {
	Demo               bool   // its NCP is simulated inside this process
	Site               string // public, gov or fin
	Keys               Keys
	Limits             Limits
	MaxAge             time.Duration   // of an answer that serves another scrape; 0 = every scrape asks
	Collectors         map[string]bool // by name, which are switched on
	CertificateManager CertificateManager
	ExternalAccess     ExternalAccess
	StateFile          StateFile
}

// Keys is where the keys of both APIs come from.
type Keys struct {
	AccessKeyFile, SecretKeyFile string // both or none
	CredentialsFile, Profile     string // empty is the default place
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
	Profile        string // before all other keys, if it is not empty
	Window         time.Duration
	PerCertificate bool
}

// ExternalAccess is how External Access is watched.
type ExternalAccess struct {
	URL            string   // empty is that of the site
	Profile        string   // before all other keys, if it is not empty
	Subjects       []string // sorted, each once; empty is all that NCP lists
	PageSize       int
	InitialHistory string // InitialHistoryCount or InitialHistorySkip
	LateArrival    time.Duration
	SweepInterval  time.Duration // 0 = every scrape reads every subject
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
	subjects := make([]string, len(c.Account.ExternalAccess.Subjects))
	for i, id := range c.Account.ExternalAccess.Subjects {
		subjects[i] = strings.TrimSpace(id)
		if !ncpclient.UsableID(subjects[i]) {
			return Config{}, fmt.Errorf("--collector.external-access.subject is %q, which cannot be the id of a subject", id)
		}
	}
	slices.Sort(subjects)
	c.Account.ExternalAccess.Subjects = slices.Compact(subjects)
	switch keys := c.Account.Keys; {
	case (keys.AccessKeyFile == "") != (keys.SecretKeyFile == ""):
		return Config{}, errors.New("--ncp.access-key-file and --ncp.secret-key-file go together, but only one of them is given")
	case c.Shard.Number >= c.Shard.Total:
		return Config{}, fmt.Errorf("%s is %d, but there are only %s %d: shards count from 0",
			FlagName("shard"), c.Shard.Number, FlagName("total-shards"), c.Shard.Total)
	case c.Check.Format != FormatText && !c.Check.Run:
		return Config{}, fmt.Errorf("%s is %q, but goes with --check only", FlagName("format"), c.Check.Format)
	}
	return c, nil
}

// Validate says in one line what is wrong with --web.config.file and the
// certificates that it names.
func (w Web) Validate() error {
	if err := web.Validate(*w.Toolkit.WebConfigFile); err != nil {
		return errors.New(strings.Join(strings.Fields(err.Error()), " ")) // YAML's errors have many lines
	}
	return nil
}

// FlagName is a flag and its variable, as errors name them.
func FlagName(flag string) string { return "--" + flag + " (or " + Variable(flag) + ")" }

// Variable is the environment variable that sets a flag.
func Variable(flag string) string {
	return strings.ToUpper(Program + "_" + strings.NewReplacer(".", "_", "-", "_").Replace(flag))
}
