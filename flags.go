package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	webflag "github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/ncpclient"
)

const (
	program        = "ncp_exporter"
	defaultAddress = ":10420"
)

// settings are the values of all flags.
type settings struct {
	web           *web.FlagConfig
	telemetryPath string

	site                  string
	certificateManagerURL string
	externalAccessURL     string

	credentialsFile           string
	profile                   string
	certificateManagerProfile string
	externalAccessProfile     string
	accessKeyFile             string
	secretKeyFile             string
	serverRole                bool
	serverRoleURL             string

	timeout        time.Duration
	maxConcurrency int
	rateLimit      float64
	maxRetries     int

	certificateManager bool
	window             time.Duration
	perCertificate     bool

	inventory bool

	trustAnchors   bool
	externalAccess bool
	subjects       []string
	pageSize       int
	initialHistory string
	lateArrival    time.Duration
	sweep          time.Duration
	shard          int
	totalShards    int

	scrapeTimeout       time.Duration
	scrapeTimeoutOffset time.Duration
	scrapeMaxAge        time.Duration

	stateFile stateFile

	demo      bool
	check     bool
	format    string
	logLevel  string
	logFormat string
}

// flags declares all flags on app, to be parsed into the settings it returns.
// env is the environment, as os.LookupEnv gives it.
func flags(app *kingpin.Application, env func(string) (string, bool)) *settings {
	var s settings
	s.web = webflag.AddFlags(app, defaultAddress)
	app.Flag("web.telemetry-path", "Path under which metrics are served.").
		Default("/metrics").SetValue(check(&s.telemetryPath, "web.telemetry-path", parseTelemetryPath,
		"a path such as /metrics, not / and not below /-/"))

	app.Flag("ncp.site", "NCP site, which picks the base URLs of the APIs: public, gov or fin. Default: $NCLOUD_SITE, else public.").
		Default(fromEnv(env, "NCLOUD_SITE", "public")).SetValue(check(&s.site, "ncp.site", oneOf("public", "gov", "fin"),
		"public, gov or fin (it comes from --ncp.site, NCP_EXPORTER_NCP_SITE or NCLOUD_SITE)"))
	const urlAllowed = "a base URL including the version, such as https://externalaccess.apigw.ntruss.com/api/v1; https, or http to loopback; without user, query and fragment"
	app.Flag("ncp.certificate-manager.url", "Base URL of Certificate Manager including the version (2; the inventory takes 1 too). Default: by site.").
		PlaceHolder("URL").SetValue(check(&s.certificateManagerURL, "ncp.certificate-manager.url", parseURL, urlAllowed))
	app.Flag("ncp.external-access.url", "Base URL of External Access including the version. Default: by site.").
		PlaceHolder("URL").SetValue(check(&s.externalAccessURL, "ncp.external-access.url", parseURL, urlAllowed))

	app.Flag("ncp.credentials-file", "File with the keys by profile, as NCP's own tools write it, used when the environment has no keys. Read again when it changes and after a 401. Default: ~/.ncloud/configure.").
		PlaceHolder("FILE").StringVar(&s.credentialsFile)
	app.Flag("ncp.profile", "Profile of the credentials file. Default: $NCLOUD_PROFILE, else DEFAULT.").
		PlaceHolder("NAME").StringVar(&s.profile)
	app.Flag("ncp.certificate-manager.profile", "Profile for Certificate Manager, which wants the key of a main account. Comes before all other keys.").
		PlaceHolder("NAME").StringVar(&s.certificateManagerProfile)
	app.Flag("ncp.external-access.profile", "Profile for External Access. Comes before all other keys.").
		PlaceHolder("NAME").StringVar(&s.externalAccessProfile)
	app.Flag("ncp.access-key-file", "File with nothing but the access key, as Kubernetes mounts secrets. Comes before the environment. Read again when it changes and after a 401.").
		PlaceHolder("FILE").StringVar(&s.accessKeyFile)
	app.Flag("ncp.secret-key-file", "File with nothing but the secret key. Goes with --ncp.access-key-file.").
		PlaceHolder("FILE").StringVar(&s.secretKeyFile)
	app.Flag("ncp.server-role", "Take the keys of this NCP server's role from its metadata service if there are no others.").
		BoolVar(&s.serverRole)
	app.Flag("ncp.server-role.url", "Address of the metadata service.").
		Default(ncpclient.MetadataURL).StringVar(&s.serverRoleURL)

	duration(app, "ncp.timeout", "Time for one HTTP request to NCP.", "5s", &s.timeout, time.Millisecond, time.Hour)
	app.Flag("ncp.max-concurrency", "HTTP requests in flight, per API.").
		Default("10").SetValue(check(&s.maxConcurrency, "ncp.max-concurrency", between(1, 1000), "a whole number from 1 to 1000"))
	app.Flag("ncp.rate-limit", "HTTP requests a second, per API, retries counted, with bursts of --ncp.max-concurrency; 0 = no limit.").
		Default("50").SetValue(check(&s.rateLimit, "ncp.rate-limit", parseRate, "a number of requests a second, such as 50 or 0.5; 0 = no limit"))
	app.Flag("ncp.max-retries", "How often a request is sent again after a 429, a 5xx or a broken connection; once at most after a timeout.").
		Default("3").SetValue(check(&s.maxRetries, "ncp.max-retries", between(0, 100), "a whole number from 0 to 100"))

	app.Flag("collector.certificate-manager", "Watch Certificate Manager. Off on gov and fin, which do not have recentChanges, unless its URL is given.").
		Default("true").BoolVar(&s.certificateManager)
	app.Flag("collector.certificate-manager.window", "How far back recentChanges looks.").
		Default("24h").SetValue(check(&s.window, "collector.certificate-manager.window", parseWindow, "whole seconds from 1s to 168h, such as 90s, 24h or 7d"))
	app.Flag("collector.certificate-manager.per-certificate", "One series for each changed certificate.").
		Default("true").BoolVar(&s.perCertificate)

	app.Flag("collector.certificate-inventory", "Watch when all certificates of Certificate Manager run out. Its key needs the permission to list them; version 1 of the API is asked where version 2 cannot be.").
		BoolVar(&s.inventory)

	app.Flag("collector.external-access", "Watch External Access.").
		Default("true").BoolVar(&s.externalAccess)
	app.Flag("collector.external-access.subject", "Watch this subject only. Repeatable (in the environment: one a line). Default: all that NCP lists.").
		PlaceHolder("ID").StringsVar(&s.subjects)
	app.Flag("collector.external-access.page-size", "Rows a page to ask for. A server that refuses it gets 20.").
		Default("100").SetValue(check(&s.pageSize, "collector.external-access.page-size", between(1, math.MaxInt32), "a whole number, at least 1"))
	app.Flag("collector.external-access.initial-history", "count: counters start with what the history holds at the first read; skip: they start at 0.").
		Default(initialHistoryCount).SetValue(check(&s.initialHistory, "collector.external-access.initial-history",
		oneOf(initialHistoryCount, initialHistorySkip), "count or skip"))
	duration(app, "collector.external-access.late-arrival", "How much later than its seenTime a row may still appear and be counted.", "1h", &s.lateArrival, time.Second, ledger.MaxLateArrival)

	app.Flag("collector.external-access.trust-anchors", "Watch when trust anchors and their CRLs run out.").
		Default("true").BoolVar(&s.trustAnchors)
	duration(app, "collector.external-access.sweep-interval", "0s = every scrape reads every subject. Otherwise one whose lastSeenTime and updateTime stand still is read again only this often; if such a read finds new rows, every subject is read from then on.", "0s", &s.sweep, 0, 30*24*time.Hour)
	app.Flag("shard", "Which of the shards this exporter is, from 0: it takes the subjects whose hash falls on it; shard 0 also takes all that is not of a subject: Certificate Manager, the inventory and the trust anchors. A name that ends in -N, such as the pod's of a StatefulSet, is shard N.").
		Default("0").SetValue(check(&s.shard, "shard", parseShard, "a whole number from 0 to 999, or a name that ends in one, such as ncp-exporter-2"))
	app.Flag("total-shards", "How many exporters share the subjects.").
		Default("1").SetValue(check(&s.totalShards, "total-shards", between(1, maxShards), "a whole number from 1 to 1000"))

	duration(app, "scrape.timeout", "Deadline of a scrape that sends no X-Prometheus-Scrape-Timeout-Seconds.", "10s", &s.scrapeTimeout, time.Millisecond, time.Hour)
	duration(app, "scrape.timeout-offset", "Taken off X-Prometheus-Scrape-Timeout-Seconds.", "500ms", &s.scrapeTimeoutOffset, 0, time.Hour)

	duration(app, "scrape.max-age", "Answer from what an earlier scrape asked if that is not older than this, so that several Prometheis share one API budget; 0s = every scrape asks NCP.", "0s", &s.scrapeMaxAge, 0, time.Hour)

	app.Flag("state.file", "The ledger: what was counted, kept over restarts; --state.file= (empty) = memory only. A path that is given and cannot be used stops the start; the default one that cannot be used is a warning and memory only.").
		Default(defaultStateFile).SetValue(&s.stateFile)

	app.Flag("demo", "Run against a simulated NCP inside this process: no account and no keys needed.").
		BoolVar(&s.demo)
	app.Flag("check", "Do not serve, but ask each watched API once, look at the ledger and the other settings, and say what works and what to do about the rest. The exit code is 0 if all that will be watched works, else 1. Goes with all other flags, --demo too.").
		BoolVar(&s.check)
	app.Flag("format", "How --check says it: text, or json for machines. Goes with --check.").
		Default(formatText).SetValue(check(&s.format, "format", oneOf(formatText, formatJSON), "text or json"))
	app.Flag("log.level", "Only log messages of this level or above: debug, info, warn or error.").
		Default("info").SetValue(check(&s.logLevel, "log.level", oneOf("debug", "info", "warn", "error"), "debug, info, warn or error"))
	app.Flag("log.format", "Format of log messages: logfmt or json.").
		Default("logfmt").SetValue(check(&s.logFormat, "log.format", oneOf("logfmt", "json"), "logfmt or json"))
	return &s
}

const (
	initialHistoryCount = "count"
	initialHistorySkip  = "skip"
)

const (
	formatText = "text"
	formatJSON = "json"
)

func newApp(out io.Writer, terminate func(int)) *kingpin.Application {
	app := kingpin.New(program, "Prometheus exporter for the certificates and certificate logins of NAVER Cloud Platform (NCP).")
	app.UsageWriter(out).ErrorWriter(out).Terminate(terminate)
	app.HelpFlag.Short('h').NoEnvar()
	app.Version(version.Print(program))
	app.VersionFlag.NoEnvar() // NCP_EXPORTER_VERSION is what an image may call its own version
	app.DefaultEnvars()
	return app
}

// parse reads the command line and the environment. Its error is one line that
// names the flag or variable and the values allowed.
func parse(app *kingpin.Application, s *settings, args []string, env func(string) (string, bool)) error {
	// kingpin's own error for these names neither.
	for _, f := range app.Model().Flags {
		if f.Name == "help" || f.Name == "version" {
			continue // only on the command line
		}
		v, _ := env(envar(f.Name))
		if _, err := strconv.ParseBool(v); f.IsBoolFlag() && v != "" && err != nil {
			return fmt.Errorf("%s (or --%s) is %q, but must be true or false (see --help)", envar(f.Name), f.Name, v)
		}
	}
	if _, err := app.Parse(args); err != nil {
		return fmt.Errorf("%w (see --help)", err)
	}
	s.telemetryPath = strings.TrimRight(s.telemetryPath, "/")
	for i, id := range s.subjects {
		s.subjects[i] = strings.TrimSpace(id)
		if !ncpclient.UsableID(s.subjects[i]) {
			return fmt.Errorf("--collector.external-access.subject is %q, which cannot be the id of a subject (see --help)", id)
		}
	}
	if (s.accessKeyFile == "") != (s.secretKeyFile == "") {
		return errors.New("--ncp.access-key-file and --ncp.secret-key-file go together, but only one of them is given (see --help)")
	}
	if s.shard >= s.totalShards {
		return fmt.Errorf("--shard (or %s) is %d, but there are only --total-shards (or %s) %d: shards count from 0 (see --help)",
			envar("shard"), s.shard, envar("total-shards"), s.totalShards)
	}
	if s.format != formatText && !s.check {
		return fmt.Errorf("--format (or %s) is %q, but goes with --check only (see --help)", envar("format"), s.format)
	}
	if err := webConfigError(s); err != nil && !s.check { // --check reports it
		return fmt.Errorf("--web.config.file %q: %w", *s.web.WebConfigFile, err)
	}
	slices.Sort(s.subjects)
	s.subjects = slices.Compact(s.subjects)
	return nil
}

// webConfigError says in one line what is wrong with --web.config.file.
func webConfigError(s *settings) error {
	if err := web.Validate(*s.web.WebConfigFile); err != nil {
		return errors.New(strings.Join(strings.Fields(err.Error()), " ")) // YAML's errors are many lines
	}
	return nil
}

// checked is a flag value that is parsed and checked where it is set, from the
// command line and the environment alike.
type checked[T any] struct {
	target  *T
	flag    string
	parse   func(string) (T, error)
	allowed string
	text    string
}

func check[T any](target *T, flag string, parse func(string) (T, error), allowed string) *checked[T] {
	return &checked[T]{target: target, flag: flag, parse: parse, allowed: allowed}
}

const defaultStateFile = "data/ncp_exporter.db"

// stateFile is the path of the ledger, and whether the user gave it: kingpin
// sets a default before anything else.
type stateFile struct {
	path  string
	given bool
}

func (f *stateFile) Set(path string) error {
	f.path, f.given = path, path != defaultStateFile
	return nil
}

func (f *stateFile) String() string { return f.path }

// errSecretive is returned for a value that is not to be shown in an error, as
// it might hold a password.
var errSecretive = errors.New("not to be shown")

func (c *checked[T]) Set(text string) error {
	value, err := c.parse(strings.TrimSpace(text))
	switch {
	case errors.Is(err, errSecretive):
		return fmt.Errorf("--%s (or %s) must be %s", c.flag, envar(c.flag), c.allowed)
	case err != nil:
		return fmt.Errorf("--%s (or %s) is %q, but must be %s", c.flag, envar(c.flag), text, c.allowed)
	}
	*c.target, c.text = value, text
	return nil
}

func (c *checked[T]) String() string { return c.text }

// envar is the variable that sets a flag, as kingpin makes its name.
func envar(flag string) string {
	return strings.ToUpper(program + "_" + strings.NewReplacer(".", "_", "-", "_").Replace(flag))
}

func duration(app *kingpin.Application, flag, help, value string, target *time.Duration, least, most time.Duration) {
	parse := func(text string) (time.Duration, error) {
		d, err := parseDuration(text)
		if err == nil && (d < least || d > most) {
			err = errOutside
		}
		return d, err
	}
	app.Flag(flag, help).Default(value).
		SetValue(check(target, flag, parse, fmt.Sprintf("a duration from %s to %s, such as 90s or 1h", model.Duration(least), model.Duration(most))))
}

var errOutside = errors.New("outside of what is allowed")

// parseDuration takes Go's durations and Prometheus's, which have days and weeks.
func parseDuration(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	d, err := model.ParseDuration(text)
	return time.Duration(d), err
}

func parseWindow(text string) (time.Duration, error) {
	d, err := parseDuration(text)
	if err == nil && (d < ncpclient.MinRecentChangesWindow || d > ncpclient.MaxRecentChangesWindow || d%time.Second != 0) {
		err = errOutside
	}
	return d, err
}

// maxShards bounds the number of exporters that share the subjects.
const maxShards = 1000

// parseShard takes a number, and the name of a pod that ends in one.
func parseShard(text string) (int, error) {
	if i := strings.LastIndexByte(text, '-'); i > 0 {
		text = text[i+1:]
	}
	return between(0, maxShards-1)(text)
}

func parseRate(text string) (float64, error) {
	rate, err := strconv.ParseFloat(text, 64)
	if err == nil && !(rate >= 0 && rate <= 1e6) { // false for NaN too
		err = errOutside
	}
	return rate, err
}

func parseURL(text string) (string, error) {
	if _, err := ncpclient.ParseBaseURL(text); err != nil {
		return "", errSecretive
	}
	return text, nil
}

func parseTelemetryPath(text string) (string, error) {
	if len(text) < 2 || text[0] != '/' || strings.HasPrefix(text, "/-/") || text == "/-" || strings.ContainsAny(text, " {}?#") || filepath.Clean(text) != strings.TrimRight(text, "/") {
		return "", errOutside
	}
	return text, nil
}

func oneOf(allowed ...string) func(string) (string, error) {
	return func(text string) (string, error) {
		if !slices.Contains(allowed, text) {
			return "", errOutside
		}
		return text, nil
	}
}

func between(least, most int) func(string) (int, error) {
	return func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err == nil && (n < least || n > most) {
			err = errOutside
		}
		return n, err
	}
}

// fromEnv is a variable of NCP's own tools, or a default.
func fromEnv(env func(string) (string, bool), name, otherwise string) string {
	if v, _ := env(name); v != "" {
		return v
	}
	return otherwise
}
