package account

import (
	"net/http"
	"strings"
	"testing"
)

// way gives the proxy for a request to a host; "" is none.
func way(t *testing.T, variables map[string]string, host string) (proxy string, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/api/v1", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	u, err := proxyOf(func(name string) (string, bool) { v, ok := variables[name]; return v, ok })(req)
	if u == nil {
		return "", err
	}
	return u.String(), err
}

func TestProxyAddresses(t *testing.T) {
	for address, want := range map[string]string{ //nolint:gosec // the passwords open nothing
		"":                                "",
		"proxy.example:3128":              "http://proxy.example:3128",
		"http://proxy.example:3128":       "http://proxy.example:3128",
		"http://proxy.example:3128/":      "http://proxy.example:3128/",
		"\"http://proxy.example:3128\"\r": "http://proxy.example:3128",
		"https://proxy.example":           "https://proxy.example",
		"socks5://10.0.0.1:1080":          "socks5://10.0.0.1:1080",
		"http://[2001:db8::1]:3128":       "http://[2001:db8::1]:3128",
		"http://user:p%25w@proxy.example": "http://user:p%25w@proxy.example",
		"http://http.example":             "http://http.example",
		"user:pw@proxy.example:3128":      "http://user:pw@proxy.example:3128",
	} {
		if got, err := way(t, map[string]string{"HTTPS_PROXY": address}, "ncp.example"); err != nil || got != want {
			t.Errorf("%q: %q, %v", address, got, err)
		}
	}
	for address, reason := range map[string]string{
		"http://user:n33dle%@proxy.example":       "%25",
		"http://user:n33dle%zz@proxy.example":     "%25",
		"user:n33dle%zz@proxy.example:3128":       "%25",
		"http://user:n33dle#1@proxy.example":      "of the form",
		"http://user:n33dle/1@proxy.example:3128": "of the form",
		"http://user:n33dle?1@proxy.example:3128": "of the form",
		"http://user:n33dle 1@proxy.example:3128": "of the form",
		"http://user:n33dle@proxy.example:port":   "of the form",
		"http://user:n33dle@proxy.example:99999":  "of the form",
		"http://user:n33dle@":                     "of the form",
		"http://n33dle.example/proxy.pac":         "of the form",
		"ftp://user:n33dle@proxy.example":         "begin with",
		"http://":                                 "of the form",
		"\"http://user:n33dle@proxy.example":      "of the form",
	} {
		_, err := way(t, map[string]string{"https_proxy": address}, "ncp.example")
		if err == nil || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), "https_proxy") || strings.Contains(err.Error(), "n33dle") {
			t.Errorf("%q: %v, want %q", address, err, reason)
		}
	}
}

func TestNoProxy(t *testing.T) {
	const host = "externalaccess.apigw.example"
	for list, direct := range map[string]bool{
		"":                             false,
		"*":                            true,
		"apigw.example":                true,
		".apigw.example":               true,
		"*.apigw.example":              true,
		"https://" + host + "/":        true,
		host + ":443":                  true,
		host + ":80":                   false,
		"localhost 10.0.0.0/8 " + host: true,
		"localhost;" + host:            true,
		`"localhost,` + host + "\"\r":  true,
		"other.example, 192.0.2.1":     false,
		"[2001:db8::1]":                false,
	} {
		got, err := way(t, map[string]string{"HTTPS_PROXY": "proxy.example", "NO_PROXY": list}, host)
		if err != nil || (got == "") != direct {
			t.Errorf("%q: through %q, %v", list, got, err)
		}
	}
	if got, err := way(t, map[string]string{"HTTPS_PROXY": "proxy.example", "no_proxy": "[2001:db8::1]"}, "[2001:db8::1]:8443"); err != nil || got != "" {
		t.Errorf("an address in brackets: through %q, %v", got, err)
	}
	for _, list := range []string{"*apigw.example", "10.0.0.0/33", "10.*", "10.0.0.1-10.0.0.9", "10.0.0", host + ":port", "a/b", "http://"} {
		if _, err := way(t, map[string]string{"NO_PROXY": list}, host); err == nil || !strings.Contains(err.Error(), "NO_PROXY") || !strings.Contains(err.Error(), list) {
			t.Errorf("%q: %v", list, err)
		}
	}
}

func TestUselessProxies(t *testing.T) {
	for name, test := range map[string]struct {
		variables map[string]string
		want      string
	}{
		"none":      {nil, ""},
		"https":     {map[string]string{"https_proxy": "a", "HTTP_PROXY": "b"}, ""},
		"http only": {map[string]string{"http_proxy": "b"}, "http_proxy"},
		"all":       {map[string]string{"ALL_PROXY": "b"}, "ALL_PROXY"},
	} {
		got, err := CheckProxy(func(name string) (string, bool) { v, ok := test.variables[name]; return v, ok })
		if got != test.want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
