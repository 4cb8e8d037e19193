package account

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"ncp_exporter/ncpclient"
)

// ErrProxy says which setting is wrong. Go itself leaves out a proxy whose address it
// cannot read, without a word.
var ErrProxy = errors.New("the proxy's address cannot be read")

// proxyOf gives the function that finds the proxy of a request by the variables that
// all programs know.
func proxyOf(env func(string) (string, bool)) func(*http.Request) (*url.URL, error) {
	settings, err := readProxy(env)
	if err != nil {
		return func(req *http.Request) (*url.URL, error) {
			if req.URL.Scheme != "https" { // the simulated NCP
				return nil, nil
			}
			return nil, err
		}
	}
	find := settings.ProxyFunc()
	return func(req *http.Request) (*url.URL, error) { return find(req.URL) }
}

// CheckProxy says what is wrong with the variables of the proxy, and which of them has
// no effect; "" if all do.
func CheckProxy(env func(string) (string, bool)) (useless string, err error) {
	settings, err := readProxy(env)
	if err != nil || settings.HTTPSProxy != "" {
		return "", err
	}
	for _, name := range []string{"HTTP_PROXY", "ALL_PROXY"} {
		if found, value := proxyVariable(env, name); value != "" {
			return found, nil
		}
	}
	return "", nil
}

// proxyVariable reads a variable that people write in small letters, or in capitals.
func proxyVariable(env func(string) (string, bool), name string) (found, value string) {
	if env == nil {
		return "", ""
	}
	for _, name := range []string{strings.ToLower(name), name} {
		if v, _ := env(name); ncpclient.Tidy(v) != "" {
			return name, ncpclient.Tidy(v)
		}
	}
	return "", ""
}

// readProxy reads the variables. NCP is asked over TLS only, so HTTP_PROXY plays no part.
func readProxy(env func(string) (string, bool)) (httpproxy.Config, error) {
	name, address := proxyVariable(env, "HTTPS_PROXY")
	if err := checkProxyAddress(address); err != nil {
		return httpproxy.Config{}, fmt.Errorf("%w: %s %w", ErrProxy, name, err)
	}
	name, text := proxyVariable(env, "NO_PROXY")
	var hosts []string
	for _, entry := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(",;| \t\r\n", r) }) {
		host, err := noProxyEntry(ncpclient.Tidy(entry))
		if err != nil {
			return httpproxy.Config{}, fmt.Errorf("%s: %q %w", name, entry, err)
		}
		hosts = append(hosts, host)
	}
	return httpproxy.Config{HTTPSProxy: address, NoProxy: strings.Join(hosts, ",")}, nil
}

// checkProxyAddress says what is wrong with the address of a proxy, and shows nothing of
// it, as it may hold a password.
func checkProxyAddress(address string) error {
	if address == "" {
		return nil
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	var escape url.EscapeError
	switch {
	case errors.As(err, &escape):
		return errors.New(`has a "%" in its user or password, which must be written as %25`)
	case err != nil || u.Hostname() == "" || !validPort(u.Port()) || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "":
		return errors.New("must be of the form http://user:password@host:port, where what is neither a letter nor a digit is percent-encoded in user and password")
	case !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme):
		return errors.New("must begin with http://, https:// or socks5://")
	}
	return nil
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// noProxyEntry gives an entry of NO_PROXY in a form that Go understands.
func noProxyEntry(entry string) (string, error) {
	if _, _, err := net.ParseCIDR(entry); err == nil || entry == "*" {
		return entry, nil
	}
	if _, rest, found := strings.Cut(entry, "://"); found {
		entry = strings.TrimRight(rest, "/")
	}
	var host string
	if h, port, err := net.SplitHostPort(entry); err == nil {
		if !validPort(port) {
			return "", errors.New("has a port that is none")
		}
		host = h
	} else {
		host = strings.Trim(entry, "[]")
		entry = host
	}
	_, err := netip.ParseAddr(host)
	switch name := strings.TrimPrefix(host, "*"); {
	case err == nil:
		return entry, nil
	case strings.Trim(name, "0123456789.-") == "":
		return "", errors.New("is no address; ranges are written as 10.0.0.0/8")
	case len(name) < len(host) && name[0] != '.', !regexp.MustCompile(`^[\pL\pN._-]+$`).MatchString(name):
		return "", errors.New("is no host, .domain, address, or range such as 10.0.0.0/8; commas separate entries")
	}
	return entry, nil
}
