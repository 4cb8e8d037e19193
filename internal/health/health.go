// Package health is --health-check: it asks a running exporter whether it is healthy,
// for containers that have no shell and no curl.
package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"ncp_exporter/internal/config"
)

const (
	// Path is where a server says that it is healthy.
	Path = "/-/healthy"
	// Answer is what it says.
	Answer = config.Program + " is healthy."
	// limit is how long it may take to answer.
	limit = 5 * time.Second
)

// Check asks the exporter that serves with the same settings, writes what it says, and
// gives an error of one line if it does not.
func Check(ctx context.Context, w config.Web, stdout io.Writer) error {
	if *w.Toolkit.WebSystemdSocket {
		return errors.New("--health-check does not know the address of --web.systemd-socket: ask " + Path + " there with curl")
	}
	address := (*w.Toolkit.WebListenAddresses)[0]
	host, _, err := net.SplitHostPort(address)
	if err != nil || strings.Contains(address, "://") {
		return fmt.Errorf("--health-check cannot ask %q, which is no HOST:PORT: the first --web.listen-address must be one", address)
	}
	secured, err := readSecurity(*w.Toolkit.WebConfigFile)
	if err != nil {
		return fmt.Errorf("--health-check: --web.config.file %q: %w", *w.Toolkit.WebConfigFile, err)
	}
	url := secured.scheme() + "://" + address + Path
	if host == "" {
		url = secured.scheme() + "://localhost" + address + Path
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := ask(ctx, url, address, secured); err != nil {
		return fmt.Errorf("--health-check: %s: %w", url, err)
	}
	_, err = fmt.Fprintln(stdout, Answer)
	return err
}

// security is what matters of --web.config.file: whether the server speaks TLS, and what
// it wants of a client.
type security struct {
	TLS *struct {
		ClientAuth string `yaml:"client_auth_type"`
	} `yaml:"tls_server_config"`
	Users map[string]string `yaml:"basic_auth_users"`
}

func (s security) scheme() string {
	if s.TLS != nil {
		return "https"
	}
	return "http"
}

func readSecurity(file string) (s security, err error) {
	if file == "" {
		return security{}, nil
	}
	text, err := os.ReadFile(file) //nolint:gosec // the user's own file
	if err != nil {
		return security{}, config.WithUser(err)
	}
	if err := yaml.Unmarshal(text, &s); err != nil {
		return security{}, errors.New(strings.Join(strings.Fields(err.Error()), " "))
	}
	return s, nil
}

// ask asks at an address of this machine. A server that asks for a password or for a
// certificate of the client is alive, which is all that its answer would say.
func ask(ctx context.Context, url, address string, secured security) error {
	client := http.Client{
		Transport: &http.Transport{
			// An address without a host, or with 0.0.0.0, is this machine. No proxy is asked.
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", address)
			},
			// The name in the certificate is that of the machine for others. Nothing is sent
			// that must be kept secret.
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	var network *net.OpError
	if secured.TLS != nil && secured.TLS.ClientAuth != "" && errors.As(err, &network) && network.Op == "remote error" {
		return nil // TLS alert: it wants a certificate
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("nothing listens there: the exporter does not run, or with another --web.listen-address")
	case ctx.Err() != nil:
		return fmt.Errorf("no answer within %s", limit)
	case err != nil:
		return errors.Unwrap(err) // without the URL, which was said
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	switch {
	case response.StatusCode == http.StatusUnauthorized && len(secured.Users) > 0:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("no answer within %s", limit)
	case err != nil:
		return fmt.Errorf("reading the answer: %w", err)
	case response.StatusCode != http.StatusOK || strings.TrimSpace(string(body)) != Answer:
		return fmt.Errorf("HTTP %d, but not the answer of %s: another program may listen there", response.StatusCode, config.Program)
	}
	return nil
}
