package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"
	webflag "github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"ncp_exporter/internal/account"
	"ncp_exporter/internal/config"
	"ncp_exporter/internal/usage"
	"ncp_exporter/ncpclient"
)

const defaultAddress = ":10420"

// lookupEnv gives the value of a variable, as os.LookupEnv does.
type lookupEnv = func(string) (string, bool)

// flags declares all flags on app. To parse app fills the configuration that it
// returns, which is not validated yet.
func flags(app *kingpin.Application, env lookupEnv) *config.Config {
	c, rules := &config.Config{}, config.NewRules()
	target := &c.Account
	fileFlags(app, c, rules)
	c.Web.Toolkit = webflag.AddFlags(app, defaultAddress)
	valued(app, "web.telemetry-path", "/metrics", rules.TelemetryPath, &c.Web.TelemetryPath,
		"Path under which metrics are served.")
	valued(app, "web.max-requests", "40", rules.MaxRequests, &c.Scrape.MaxRequests,
		"Scrapes in flight; more are answered with 503; 0 = no limit.")

	site := rules.Site
	site.Allowed += " (it comes from --ncp.site, NCP_EXPORTER_NCP_SITE or NCLOUD_SITE)"
	defaultSite := "public"
	if v, _ := env("NCLOUD_SITE"); v != "" {
		defaultSite = v
	}
	valued(app, "ncp.site", defaultSite, site, &target.Site,
		"NCP site: public, gov or fin. It decides the base URLs of the APIs. Default: $NCLOUD_SITE, else public.")
	valued(app, "ncp.certificate-manager.url", "", rules.BaseURL, &target.CertificateManager.URL,
		"Base URL of Certificate Manager, including the version: 2, or 1 for the inventory only. Default: by site.").PlaceHolder("URL")
	valued(app, "ncp.external-access.url", "", rules.BaseURL, &target.ExternalAccess.URL,
		"Base URL of External Access, including the version. Default: by site.").PlaceHolder("URL")

	keys := &target.Keys
	app.Flag("ncp.credentials-file", "File with keys by profile, in the format of NCP's own tools. Used if neither key files nor the environment give keys. Read again when it changes and after a 401. Default: ~/.ncloud/configure.").
		PlaceHolder("FILE").StringVar(&keys.CredentialsFile)
	app.Flag("ncp.profile", "Profile of the credentials file. Default: $NCLOUD_PROFILE, else DEFAULT.").
		PlaceHolder("NAME").StringVar(&keys.Profile)
	app.Flag("ncp.certificate-manager.profile", "Profile for Certificate Manager, which needs the key of a main account. It wins over all other keys.").
		PlaceHolder("NAME").StringVar(&target.CertificateManager.Profile)
	app.Flag("ncp.external-access.profile", "Profile for External Access. It wins over all other keys.").
		PlaceHolder("NAME").StringVar(&target.ExternalAccess.Profile)
	app.Flag("ncp.access-key-file", "File with only the access key, as Kubernetes mounts secrets. It wins over the environment. Read again when it changes and after a 401.").
		PlaceHolder("FILE").StringVar(&keys.AccessKeyFile)
	app.Flag("ncp.secret-key-file", "File with only the secret key. Needed with --ncp.access-key-file.").
		PlaceHolder("FILE").StringVar(&keys.SecretKeyFile)
	app.Flag("ncp.key-directory", "Directory for the files access-key and secret-key. Used, if one of them is there, when no other place but a server role gives keys. Read again when they change and after a 401.").
		PlaceHolder("DIR").StringVar(&keys.Directory)
	app.Flag("ncp.server-role", "If there are no other keys, use those of the role of this NCP server, from its metadata service.").
		BoolVar(&keys.ServerRole)
	app.Flag("ncp.server-role.url", "Address of the metadata service.").
		Default(ncpclient.MetadataURL).StringVar(&keys.ServerRoleURL)

	limits := &target.Limits
	valued(app, "ncp.timeout", "5s", rules.RequestTimeout, &limits.Timeout,
		"Deadline of one HTTP request to NCP.")
	valued(app, "ncp.max-concurrency", "10", rules.MaxConcurrency, &limits.MaxConcurrency,
		"HTTP requests in flight at the same time, for each API.")
	valued(app, "ncp.rate-limit", "50", rules.RateLimit, &limits.RateLimit,
		"HTTP requests a second, for each API. Retries count. Bursts of --ncp.max-concurrency requests are possible. 0 = no limit.")
	valued(app, "ncp.max-retries", "3", rules.MaxRetries, &limits.MaxRetries,
		"How often a request is sent again after a 429, a 5xx or a broken connection; after a timeout at most once.")

	collectorFlags(app, target, rules)

	valued(app, "shard", "0", rules.ShardNumber, &c.Shard.Number,
		"Number of this shard, from 0. It watches the subjects whose hash falls on it. Shard 0 also watches what belongs to no subject: Certificate Manager, the inventory and the trust anchors. A name that ends in -N, such as that of a pod of a StatefulSet, means shard N.")
	valued(app, "total-shards", "1", rules.TotalShards, &c.Shard.Total,
		"How many exporters share the subjects.")

	valued(app, "scrape.timeout", "10s", rules.ScrapeTimeout, &c.Scrape.Timeout,
		"Deadline of a scrape without the header X-Prometheus-Scrape-Timeout-Seconds.")
	valued(app, "scrape.timeout-offset", "500ms", rules.TimeoutOffset, &c.Scrape.TimeoutOffset,
		"Subtracted from X-Prometheus-Scrape-Timeout-Seconds, so that the answer comes before Prometheus gives up.")
	valued(app, "scrape.max-age", "0s", rules.MaxAge, &target.MaxAge,
		"Answer a scrape with the data of an earlier one that is younger than this, so that several Prometheus servers share the calls to NCP. 0s = every scrape asks NCP.")

	valued(app, "state.file", config.DefaultStateFile, rules.StateFile, &target.StateFile,
		"File of the ledger, which keeps what was counted, so that counters go on after a restart. Empty (--state.file=) = in memory only. If you give a path that cannot be used, the exporter does not start. If the default path cannot be used, it warns and counts in memory.")

	app.Flag("demo", "Watch a simulated NCP inside this process. Needs no account and no keys. It leaves the file of --state.file alone: if you give one, the demo has its ledger beside it, in FILE.demo.").
		BoolVar(&target.Demo)
	valued(app, "demo.accounts", "1", rules.DemoAccounts, &c.DemoAccounts,
		"How many accounts the simulated NCP has. With more than one they are served as those of --config.file are.")
	app.Flag("check", "Do not serve. Ask NCP once for each thing that is watched, look at the ledger and the other settings, and say what works and what to do about the rest. The exit code is 0 if everything that will be watched works, else 1. Use it with any other flags, also --demo.").
		BoolVar(&c.Check.Run)
	app.Flag("health-check", "Do not serve. Ask /-/healthy of the exporter that runs with the same --web.listen-address and --web.config.file. The exit code is 0 if it answers, else 1. For containers, which have no curl.").
		BoolVar(&c.Check.Health)
	valued(app, "format", config.FormatText, rules.CheckFormat, &c.Check.Format,
		"Format of the report of --check: text, or json for machines. Only with --check.")
	valued(app, "log.level", "info", rules.LogLevel, &c.Log.Level,
		"Log only messages of this level or above: debug, info, warn or error.")
	valued(app, "log.format", "logfmt", rules.LogFormat, &c.Log.Format,
		"Format of log messages: logfmt or json.")
	valued(app, "log.authentications", config.AuthenticationsNone, rules.Authentications, &c.Log.Authentications,
		"Log each authentication that is newly counted, with its certificate: none, failures or all. Not those that the history holds when a subject is first read. At most 100 lines for each subject and read, then one with the number of the others.")
	return c
}

// fileFlags are those of a file of several accounts.
func fileFlags(app *kingpin.Application, c *config.Config, rules config.Rules) {
	app.Flag("config.file", "File with several accounts to watch: see docs/accounts.md. Each account is served at /probe?account=NAME. Flags give the defaults of its fields; flags that say which account it is are errors beside it.").
		PlaceHolder("FILE").StringVar(&c.File)
	app.Flag("config.check", "Do not serve. Read --config.file, print all that is wrong with it, a line each, and ask NCP nothing. The exit code is 0 if nothing is wrong, else 1.").
		BoolVar(&c.Check.File)
	valued(app, "config.auto-reload-interval", "0s", rules.AutoReload, &c.AutoReload,
		"How often to look whether --config.file changed, and to load it again if it did. 0s = never. SIGHUP loads it again at any time.")
	app.Flag("web.enable-lifecycle", "Serve POST /-/reload, which loads --config.file again.").
		BoolVar(&c.Web.Lifecycle)
}

// collectorFlags are those that say what is watched.
func collectorFlags(app *kingpin.Application, target *config.Account, rules config.Rules) {
	enabled := make(map[string]bool)
	target.Collectors = enabled
	for _, w := range account.Table() {
		flag := app.Flag(w.Flag, strings.TrimSpace("Watch "+w.What+". "+w.Note))
		if w.Default {
			flag.Default("true")
		}
		flag.SetValue(&collectorSwitch{enabled, w.Name})
	}

	manager := &target.CertificateManager
	valued(app, "collector.certificate-manager.window", "24h", rules.Window, &manager.Window,
		"Look-back window: how far back to ask for changes of certificates (recentChanges).")
	app.Flag("collector.certificate-manager.per-certificate", "Have one series for each certificate that changed.").
		Default("true").BoolVar(&manager.PerCertificate)

	access := &target.ExternalAccess
	app.Flag("collector.external-access.subject", "Watch only this subject. Repeatable (in the environment: one on each line). Default: all that NCP lists.").
		PlaceHolder("ID").StringsVar(&access.Subjects)
	valued(app, "collector.external-access.subject-include", "", rules.Pattern, &access.SubjectInclude,
		"Watch only subjects whose id or X.509 subject this regular expression (RE2) matches as a whole. Default: all.").PlaceHolder("REGEXP")
	valued(app, "collector.external-access.subject-exclude", "", rules.Pattern, &access.SubjectExclude,
		"Do not watch subjects whose id or X.509 subject this regular expression matches as a whole, even if --collector.external-access.subject-include does. Of subjects that are named by flag only the id is known.").PlaceHolder("REGEXP")
	valued(app, "collector.external-access.page-size", "100", rules.PageSize, &access.PageSize,
		"Rows to ask for on each page. If NCP refuses this size, 20 is used.")
	valued(app, "collector.external-access.initial-history", config.InitialHistoryCount, rules.InitialHistory, &access.InitialHistory,
		"count = the counters of a subject start with what its history holds at the first read; skip = they start at 0.")
	valued(app, "collector.external-access.late-arrival", "1h", rules.LateArrival, &access.LateArrival,
		"How much later than its seenTime a row may appear and still be counted.")
	valued(app, "collector.external-access.sweep-interval", "0s", rules.SweepInterval, &access.SweepInterval,
		"0s = every scrape reads every subject. Otherwise a subject is read only once in this time while its lastSeenTime and updateTime do not change. If such a read finds new rows, every subject is read in each scrape from then on.")
	valued(app, "collector.external-access.failure-info", "24h", rules.FailureInfo, &access.FailureInfo,
		"How long to show the certificate of a subject's newest failure (issuer and serial number). 0s = not at all.")
}

func newApp(out io.Writer, terminate func(int)) *kingpin.Application {
	app := kingpin.New(config.Program, "Prometheus exporter for the certificates and certificate logins of NAVER Cloud Platform (NCP).")
	app.UsageWriter(out).ErrorWriter(out).Terminate(terminate)
	app.HelpFlag.Short('h').NoEnvar()
	app.Version(version.Print(config.Program))
	app.VersionFlag.NoEnvar() // NCP_EXPORTER_VERSION is what an image may call its own version
	app.DefaultEnvars()
	usage.ByThemes(app)
	return app
}

// parse reads the command line and the environment. Its error is one line that
// names the flag or variable and the values allowed.
func parse(app *kingpin.Application, c *config.Config, args []string, env lookupEnv) (config.Config, error) {
	// kingpin's own error for these names neither.
	for _, f := range app.Model().Flags {
		if f.Name == "help" || f.Name == "version" {
			continue // only on the command line
		}
		v, _ := env(config.Variable(f.Name))
		if _, err := strconv.ParseBool(v); f.IsBoolFlag() && v != "" && err != nil {
			return config.Config{}, fmt.Errorf("%s is %q, but must be true or false (see --help)", config.FlagName(f.Name), v)
		}
	}
	var siteGiven bool
	if site := app.GetFlag("ncp.site"); site != nil {
		site.IsSetByUser(&siteGiven)
	}
	var stateFileGiven bool
	if file := app.GetFlag("state.file"); file != nil {
		file.IsSetByUser(&stateFileGiven)
	}
	_, err := app.Parse(args)
	if v, _ := env(config.Variable("state.file")); stateFileGiven || v != "" {
		c.Account.StateFile.Given = true // also if it is the path of the default
	}
	if v, _ := env(config.Variable("ncp.site")); c.File != "" && !siteGiven && v == "" {
		c.Account.Site = "public" // NCLOUD_SITE belongs to one account, as all of NCLOUD_* does
	}
	validated := config.Config{}
	if pid, _ := env("LISTEN_PID"); pid == strconv.Itoa(os.Getpid()) {
		*c.Web.Toolkit.WebSystemdSocket = true // systemd has the port already: its socket unit is on
	}
	if err == nil {
		validated, err = c.Validated()
	}
	if err != nil {
		return config.Config{}, fmt.Errorf("%w (see --help)", err)
	}
	if c.Check.Run || c.Check.Health {
		return validated, nil // they read the web config themselves, and report it
	}
	if err := c.Web.Validate(); err != nil {
		return config.Config{}, fmt.Errorf("--web.config.file %q: %w", *c.Web.Toolkit.WebConfigFile, err)
	}
	return validated, nil
}

// valued declares a flag whose value follows a rule; value is the default, if it
// is not empty.
func valued[T any](app *kingpin.Application, name, value string, rule config.Rule[T], target *T, help string) *kingpin.FlagClause {
	flag := app.Flag(name, help)
	if value != "" {
		flag.Default(value)
	}
	flag.SetValue(&ruledValue[T]{name: name, rule: rule, target: target})
	return flag
}

// ruledValue is parsed where it is set, from the command line and the
// environment alike.
type ruledValue[T any] struct {
	name   string
	rule   config.Rule[T]
	target *T
	text   string
}

func (v *ruledValue[T]) Set(text string) error {
	value, err := v.rule.Parse(strings.TrimSpace(text))
	switch {
	case err != nil && v.rule.Secret:
		return fmt.Errorf("%s must be %s", config.FlagName(v.name), v.rule.Allowed)
	case err != nil:
		return fmt.Errorf("%s is %q, but must be %s", config.FlagName(v.name), text, v.rule.Allowed)
	}
	*v.target, v.text = value, text
	return nil
}

func (v *ruledValue[T]) String() string { return v.text }

// Values are all that are allowed, if they are few.
func (v *ruledValue[T]) Values() []string {
	values, _ := v.rule.Schema["enum"].([]string)
	return values
}

// collectorSwitch is the flag of a collector.
type collectorSwitch struct {
	enabled map[string]bool
	name    string
}

func (s *collectorSwitch) Set(text string) (err error) {
	s.enabled[s.name], err = strconv.ParseBool(text)
	return err
}

func (s *collectorSwitch) String() string { return strconv.FormatBool(s.enabled[s.name]) }

// IsBoolFlag makes --flag and --no-flag of it.
func (*collectorSwitch) IsBoolFlag() bool { return true }
