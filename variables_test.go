package main

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ncp_exporter/internal/config"
)

// TestMisspeltVariables has what Kubernetes makes for the services of a namespace among
// them.
func TestMisspeltVariables(t *testing.T) {
	app := newApp(io.Discard, func(int) {})
	flags(app, os.LookupEnv)
	environ := []string{"PATH=/bin", "NCLOUD_ACCESS_KEY=x", "KUBERNETES_SERVICE_HOST=10.0.0.1", "NCP_EXPORTER_VERSION=1", "NCP_EXPORTER_NCP_SITE=gov"}
	for _, service := range []string{"NCP_EXPORTER", "NCP_EXPORTER_HEADLESS", "MY_NCP_EXPORTER"} {
		for _, name := range []string{"SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_METRICS", "PORT", "PORT_10420_TCP", "PORT_10420_TCP_PROTO", "PORT_10420_TCP_PORT", "PORT_10420_TCP_ADDR", "PORT_9000_UDP"} {
			environ = append(environ, service+"_"+name+"=x")
		}
	}
	if got := misspelt(app, environ); len(got) > 0 {
		t.Errorf("%v", got)
	}
	odd := []string{"NCP_EXPORTER_SITE", "NCP_EXPORTER_WEB_PORT", "NCP_EXPORTER_NCP_PROFIL", "NCP_EXPORTER_SERVICE", "NCP_EXPORTER_"}
	for _, name := range odd {
		environ = append(environ, name+"=n33dle")
	}
	if got := misspelt(app, environ); !slices.Equal(got, odd) {
		t.Errorf("%v, want %v", got, odd)
	}
	if got := misspelt(app, []string{"NCP_EXPORTER_PORT=tcp://10.0.0.1:1"}); len(got) != 1 {
		t.Errorf("a port without a service: %v", got)
	}
}

func TestMisspeltVariablesAreSaid(t *testing.T) {
	t.Setenv("NCP_EXPORTER_NCP_SIET", "n33dle")
	p := launch(t, nil, "--demo")
	p.stopped()
	if n := p.logs.count(`level=warn .*sets nothing.* variable=NCP_EXPORTER_NCP_SIET`); n != 1 || p.logs.count("n33dle") > 0 {
		t.Errorf("%d lines:\n%s", n, p.logs)
	}
	_, _, stderr := attempt(t, nil, "--demo", "--check")
	if strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "warning: NCP_EXPORTER_NCP_SIET: ") {
		t.Errorf("--check says:\n%s", stderr)
	}
}

// TestValuesAsToolsWriteThem gives settings with what tools leave around them, as
// variables and as flags.
func TestValuesAsToolsWriteThem(t *testing.T) {
	read := func(args ...string) config.Config {
		t.Helper()
		tidyEnvironment()
		app := newApp(io.Discard, func(int) {})
		got, err := parse(app, flags(app, os.LookupEnv), tidyArgs(args), os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		got.Web.Toolkit = nil
		return got
	}
	values := map[string]string{
		"ncp.site": "gov", "ncp.profile": "prod", "ncp.timeout": "7s", "ncp.rate-limit": "0.5", "demo": "true", "log.level": "debug",
		"ncp.access-key-file": "/keys/access", "ncp.secret-key-file": "/keys/secret", "collector.external-access.subject": "a", "state.file": config.DefaultStateFile,
	}
	var plain []string
	for name, value := range values {
		if name != "demo" {
			plain = append(plain, "--"+name+"="+value)
		}
	}
	want := read(append(plain, "--demo")...)
	if !want.Account.StateFile.Given || read().Account.StateFile.Given {
		t.Error("the path of the default is not taken as given, or always is")
	}
	for _, form := range []string{`"x"`, "'x'", " x ", "x\r", "\ufeffx", "\"x\"\r\n"} {
		around := func(value string) string { return strings.Replace(form, "x", value, 1) }
		var args []string
		for name, value := range values {
			if name != "demo" {
				args = append(args, "--"+name+"="+around(value))
			}
		}
		if diff := cmp.Diff(want, read(append(args, "--demo")...)); diff != "" {
			t.Errorf("flags as %q: %s", form, diff)
		}
		t.Run("variables as "+form, func(t *testing.T) {
			for name, value := range values {
				t.Setenv(config.Variable(name), around(value))
			}
			if diff := cmp.Diff(want, read()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
