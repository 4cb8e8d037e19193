package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/common/version"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/internal/config"
	"ncp_exporter/ncpclient"
)

// Setup is an account before it is opened: where its APIs are, with which keys,
// and what of it is to be watched. It is enough to probe it.
type Setup struct {
	Options
	owner     ledger.Owner // whose logins the ledger holds
	demoKeys  ncpclient.Credentials
	stopDemo  func()
	apis      []API // that something is watched of
	transport *http.Transport
}

// API is one of the APIs of an account.
type API struct {
	Name                 string // ncpclient.APICertificateManager or APIExternalAccess
	BaseURL, Host        string
	Proxy                string                                // the host of the proxy on the way; "" if there is none
	URLFlag, ProfileFlag string                                // the settings, in words in a file of accounts
	keys                 func() (ncpclient.Credentials, error) // the same each time
}

// ErrNothingToWatch says that the table has no row that is on.
var ErrNothingToWatch = errors.New("there is nothing to watch: --collector.certificate-manager and --collector.external-access are both off")

// maxIdleInCrowd is how many connections each of several accounts keeps open between
// its scrapes. All that it may have in flight would be a thousand for a hundred accounts.
const maxIdleInCrowd = 4

// Prepare finds out what is to be watched. It reads no keys and sends nothing to
// NCP. Close ends what it began.
func Prepare(ctx context.Context, options Options) (*Setup, error) {
	idle := options.Config.Limits.MaxConcurrency
	if options.crowd != nil {
		idle = min(idle, maxIdleInCrowd)
	}
	s := &Setup{Options: options, stopDemo: func() {}, transport: ncpclient.NewTransport(idle, proxyOf(options.LookupEnv))}
	if options.Config.Name != "" {
		s.Logger = log.With(s.Logger, "account", options.Config.Name)
	}
	if options.dial != nil {
		s.transport.DialContext = options.dial
	}
	err := s.locate(ctx)
	manager, access := s.Config.CertificateManager, s.Config.ExternalAccess
	err = cmp.Or(err,
		s.addAPI(ncpclient.APICertificateManager, manager.URL, "certificate-manager", func() (ncpclient.Credentials, error) { return s.findKeys(manager.Keys, manager.Profile) }), //nolint:contextcheck // bounded by itself
		s.addAPI(ncpclient.APIExternalAccess, access.URL, "external-access", func() (ncpclient.Credentials, error) { return s.findKeys(access.Keys, access.Profile) }),            //nolint:contextcheck // bounded by itself
	)
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// addAPI adds an API if something of it is watched.
func (s *Setup) addAPI(name, base, flag string, keys func() (ncpclient.Credentials, error)) error {
	if !slices.ContainsFunc(s.Watched(), func(w Watch) bool { return w.API == name }) {
		return nil
	}
	u, err := ncpclient.ParseBaseURL(base)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	api := API{Name: name, BaseURL: base, Host: u.Host, URLFlag: "--ncp." + flag + ".url", ProfileFlag: "--ncp." + flag + ".profile"}
	if s.Config.Name != "" {
		api.URLFlag, api.ProfileFlag = "the url of "+name, "its keys of "+name
	}
	if proxy, err := s.transport.Proxy(&http.Request{Method: http.MethodGet, URL: u}); err == nil && proxy != nil {
		api.Proxy = proxy.Host
	}
	api.keys = sync.OnceValues(keys)
	s.apis = append(s.apis, api)
	return nil
}

// Close ends what Prepare began.
func (s *Setup) Close() {
	s.transport.CloseIdleConnections()
	s.stopDemo()
}

// clients are those of the two APIs; nil for one that is not needed.
type clients struct {
	certificateManager *ncpclient.CertificateManager
	externalAccess     *ncpclient.ExternalAccess
}

// rateLimit gives the rate limit in force of the client of an API.
func (c clients) rateLimit(api string) func() float64 {
	if api == ncpclient.APICertificateManager {
		return c.certificateManager.RateLimit
	}
	return c.externalAccess.RateLimit
}

// takeOver goes on with the back-off of earlier clients, which have that API too.
func (c clients) takeOver(api string, from clients) {
	switch {
	case api == ncpclient.APICertificateManager && from.certificateManager != nil:
		c.certificateManager.TakeOver(from.certificateManager)
	case api == ncpclient.APIExternalAccess && from.externalAccess != nil:
		c.externalAccess.TakeOver(from.externalAccess)
	}
}

// connect makes the client of an API.
func (s *Setup) connect(c *clients, api API, keys ncpclient.Credentials, retries int, observer ncpclient.Observer) (err error) {
	limits := s.Config.Limits
	cfg := ncpclient.Config{
		BaseURL:        api.BaseURL,
		Credentials:    keys,
		Transport:      s.transport,
		Timeout:        limits.Timeout,
		MaxConcurrency: limits.MaxConcurrency,
		RateLimit:      limits.RateLimit,
		Crowd:          s.crowd,
		MaxRetries:     retries,
		Observer:       observer,
		UserAgent:      config.Program + "/" + version.Version,
	}
	if api.Name == ncpclient.APICertificateManager {
		c.certificateManager, err = ncpclient.NewCertificateManager(cfg)
		return err
	}
	c.externalAccess, err = ncpclient.NewExternalAccess(cfg)
	return err
}

// findKeys looks for the keys of one API.
func (s *Setup) findKeys(own config.Keys, apiProfile string) (ncpclient.Credentials, error) {
	found, err := s.placeOfKeys(own, apiProfile)
	if err != nil {
		return nil, config.WithUser(err)
	}
	return readKeys{found}, nil
}

// readKeys are keys that may be read again, from files that may then not be readable.
type readKeys struct{ ncpclient.Credentials }

// Keys returns the keys in force now.
func (k readKeys) Keys(ctx context.Context) (ncpclient.Keys, error) {
	keys, err := k.Credentials.Keys(ctx)
	return keys, config.WithUser(err)
}

// placeOfKeys looks for the place of the keys of one API. Its own keys, and its own
// profile, come first.
func (s *Setup) placeOfKeys(own config.Keys, apiProfile string) (ncpclient.Credentials, error) {
	switch keys := s.Config.Keys; {
	case s.demoKeys != nil:
		return s.demoKeys, nil
	case s.Config.Name == "":
		return s.findKeysByFlags(apiProfile)
	case own != config.Keys{}:
		return s.findKeysOf(own)
	default:
		return s.findKeysOf(keys)
	}
}

// findKeysOf looks for keys in the one place that the file of accounts names.
func (s *Setup) findKeysOf(keys config.Keys) (ncpclient.Credentials, error) {
	sources := ncpclient.CredentialSources{AccessKeyFile: keys.AccessKeyFile, SecretKeyFile: keys.SecretKeyFile}
	switch {
	case keys.AccessKeyEnv != "":
		sources.LookupEnv, sources.AccessKeyEnv, sources.SecretKeyEnv = s.LookupEnv, keys.AccessKeyEnv, keys.SecretKeyEnv
	case keys.Profile != "":
		sources.ProfileFile, sources.APIProfile = cmp.Or(keys.CredentialsFile, defaultCredentialsFile()), keys.Profile
	case keys.ServerRole:
		return serverRole(keys)
	}
	found, err := ncpclient.FindCredentials(sources)
	if errors.Is(err, ncpclient.ErrNoKeys) && keys.AccessKeyEnv != "" {
		err = fmt.Errorf("%w: set %s and %s", err, keys.AccessKeyEnv, keys.SecretKeyEnv)
	}
	return found, err
}

func serverRole(keys config.Keys) (ncpclient.Credentials, error) {
	role, err := ncpclient.ServerRoleCredentials(cmp.Or(keys.ServerRoleURL, ncpclient.MetadataURL), time.Now)
	if err != nil {
		return nil, fmt.Errorf("--ncp.server-role.url: %w", err)
	}
	return role, nil
}

// defaultCredentialsFile is that of NCP's own tools; "" if there is no home.
func defaultCredentialsFile() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".ncloud", "configure")
}

// findKeysByFlags looks in all places that the flags and the environment name.
func (s *Setup) findKeysByFlags(apiProfile string) (ncpclient.Credentials, error) {
	keys := s.Config.Keys
	ncloudProfile, _ := s.LookupEnv("NCLOUD_PROFILE")
	sources := ncpclient.CredentialSources{
		AccessKeyFile:   keys.AccessKeyFile,
		SecretKeyFile:   keys.SecretKeyFile,
		LookupEnv:       s.LookupEnv,
		ProfileFile:     keys.CredentialsFile,
		Profile:         cmp.Or(keys.Profile, ncloudProfile),
		ProfileRequired: keys.CredentialsFile != "" || keys.Profile != "",
		APIProfile:      apiProfile,
		KeyDirectory:    keys.Directory,
	}
	sources.ProfileFile = cmp.Or(sources.ProfileFile, defaultCredentialsFile())
	if keys.ServerRole {
		role, err := serverRole(keys)
		if err != nil {
			return nil, err
		}
		sources.ServerRole = role
	}
	found, err := ncpclient.FindCredentials(sources)
	if errors.Is(err, ncpclient.ErrNoKeys) {
		directory := ""
		if keys.Directory != "" {
			directory = fmt.Sprintf("put %s and %s into %s, or ", ncpclient.KeyDirectoryFiles[0], ncpclient.KeyDirectoryFiles[1], keys.Directory)
		}
		return nil, fmt.Errorf("%w: %sset NCLOUD_ACCESS_KEY_ID and NCLOUD_SECRET_ACCESS_KEY, or give --ncp.access-key-file and --ncp.secret-key-file, "+
			"or a profile in %s, or --ncp.server-role; or look around with --demo", err, directory, sources.ProfileFile)
	}
	return found, err
}
