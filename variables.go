package main

import (
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"ncp_exporter/internal/account"
	"ncp_exporter/internal/config"
	"ncp_exporter/ncpclient"
)

// tidyEnvironment takes off what tools leave around the values of variables, such as
// quotes. Libraries read some of them, so they are written back.
func tidyEnvironment() {
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		if ours := strings.HasPrefix(name, variablePrefix) || strings.HasPrefix(name, "NCLOUD_") || strings.HasPrefix(name, "SSL_CERT_"); !ours {
			continue
		}
		if tidy := ncpclient.Tidy(value); tidy != value {
			_ = os.Setenv(name, tidy) // a name that is there can be set
		}
	}
}

// tidyArgs does the same to the values of flags. Manifests give arguments with no shell
// that would take quotes away.
func tidyArgs(args []string) []string {
	tidy := make([]string, len(args))
	for i, arg := range args {
		name, value, found := strings.Cut(arg, "=")
		switch {
		case strings.HasPrefix(arg, "-") && found:
			tidy[i] = name + "=" + ncpclient.Tidy(value)
		default:
			tidy[i] = ncpclient.Tidy(arg)
		}
	}
	return tidy
}

const (
	variablePrefix = "NCP_EXPORTER_"
	// setsNothing is what is said of a variable of no flag.
	setsNothing = "there is no such flag; --help shows those that there are, with their variables"
)

// misspelt gives the variables of an environment that look like those of flags and set
// nothing. Kubernetes makes some for each service, whose names may begin like ours.
func misspelt(app *kingpin.Application, environ []string) []string {
	known := map[string]bool{"NCP_EXPORTER_VERSION": true} // what an image may call its own
	for _, f := range app.Model().Flags {
		known[config.Variable(f.Name)] = true
	}
	var names, services []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if service, ok := strings.CutSuffix(name, "_SERVICE_HOST"); ok {
			services = append(services, regexp.QuoteMeta(service))
		}
		if strings.HasPrefix(name, variablePrefix) && !known[name] {
			names = append(names, name)
		}
	}
	ofServices := regexp.MustCompile("^(" + strings.Join(services, "|") + ")_(SERVICE_(HOST|PORT)(_.*)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_.*)?)?)$")
	return slices.DeleteFunc(names, func(name string) bool { return len(services) > 0 && ofServices.MatchString(name) })
}

// checkProxy finds an address of a proxy that cannot be read, and says which variable
// has no effect.
func checkProxy(env lookupEnv, logger log.Logger) error {
	useless, err := account.CheckProxy(env)
	if useless != "" {
		_ = level.Warn(logger).Log("msg", "NCP is asked without a proxy, as only HTTPS_PROXY names one for https", "variable", useless)
	}
	return err
}
