package check

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"ncp_exporter/internal/account"
	"ncp_exporter/ncpclient"
)

// diagnosis explains the answer of one call. The general words are those of
// ncpclient.Reason; here is added which settings are in force.
type diagnosis struct {
	*checker
	watch  account.Watch
	answer account.Answer
}

// what says what was asked, with which keys, and by which way.
func (d *diagnosis) what() string {
	if d.answer.Keys == "" {
		return "not asked: GET " + d.answer.URL
	}
	return "GET " + d.answer.URL + ", keys from " + d.answer.Keys + d.proxied()
}

func (d *diagnosis) proxied() string {
	if d.answer.API.Proxy == "" {
		return ""
	}
	return ", through the proxy " + d.answer.API.Proxy
}

// explain says why the call failed, and what to do about it.
func (d *diagnosis) explain() (detail, remedy string) {
	err := d.answer.Err
	var e *ncpclient.Error
	switch {
	case d.answer.Needs != "":
		return err.Error(), "see " + d.answer.Needs
	case errors.Is(err, ncpclient.ErrNoKeys):
		_, places, _ := strings.Cut(err.Error(), ncpclient.ErrNoKeys.Error()+": ")
		return ncpclient.ErrNoKeys.Error(), places
	case d.answer.Keys == "":
		return err.Error(), "correct what is named here; which place is taken, and in which order, is told in docs/configuration.md"
	case !errors.As(err, &e):
		return err.Error(), "check the flags"
	}
	detail = e.Reason.Title()
	if facts := e.Facts(); facts != "" {
		detail += " (" + facts + ")"
	}
	if e.RetryAfter > 0 {
		detail += fmt.Sprintf(", asks to wait %s", e.RetryAfter)
	}
	if e.Reason == ncpclient.ErrUnreachable {
		return detail, d.network()
	}
	return detail, strings.Trim(e.Reason.Remedy()+"; "+d.inForce(e), "; ")
}

// inForce names the settings that the reason is about, with their values.
func (d *diagnosis) inForce(e *ncpclient.Error) string {
	api := d.answer.API
	way := fmt.Sprintf("%s leads to %s%s, %s is %s", api.URLFlag, api.Host, d.proxied(), d.setting("--ncp.site", "site"), d.Account.Site)
	another := fmt.Sprintf("now the key is from %s, %s names another; or leave it out (%s)", d.answer.Keys, api.ProfileFlag, d.setting(d.watch.OffFlag(), "enabled: false"))
	if e.Status == http.StatusForbidden && e.Origin == "" && e.Code == "" {
		return "neither NCP's gateway nor its endpoint signed this answer, so something on the way may refuse it: " + way
	}
	switch e.Reason {
	case ncpclient.ErrCredentials:
		return fmt.Sprintf("they are from %s: see that they can be read there, or that this server has a role; or name another place of keys", d.answer.Keys)
	case ncpclient.ErrKey:
		return fmt.Sprintf("the keys are from %s, and must be of the site %s (%s)", d.answer.Keys, d.Account.Site, d.setting("--ncp.site", "site"))
	case ncpclient.ErrMainAccountKey:
		return another
	case ncpclient.ErrPermission:
		call := d.answer.Call
		needs := call.Needs
		if call.Policy != "" {
			needs += ", as in NCP's policy " + call.Policy
		}
		return fmt.Sprintf("%s needs %s; %s", call.Operation, needs, another)
	case ncpclient.ErrRateLimited:
		return fmt.Sprintf("%s is %g", d.setting("--ncp.rate-limit", "rate_limit"), d.Account.Limits.RateLimit)
	case ncpclient.ErrTimeout, ncpclient.ErrLimited:
		return fmt.Sprintf("a firewall may drop what goes to %s; if NCP is only slow, raise %s (now %s) and --scrape.timeout (now %s)",
			api.Host, d.setting("--ncp.timeout", "timeout"), d.Account.Limits.Timeout, d.Scrape.Timeout)
	case ncpclient.ErrClock:
		return "" // there is nothing to name
	case ncpclient.ErrNotFound, ncpclient.ErrBadRequest:
		if e.Operation == ncpclient.OpCredentials && len(d.Account.ExternalAccess.Subjects) > 0 {
			return d.setting("--collector.external-access.subject", "external_access.subjects") + " names a subject that NCP does not know, or not any more"
		}
		return way
	case ncpclient.ErrServer, ncpclient.ErrRefused:
		return "check again later"
	default:
		return way
	}
}

// network is the remedy where the way to NCP ends: the facts say what was met.
func (d *diagnosis) network() string {
	var (
		err, api  = d.answer.Err, d.answer.API
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		hostname  x509.HostnameError
		record    tls.RecordHeaderError
		dns       *net.DNSError
		op        *net.OpError
	)
	errors.As(err, &op)
	switch {
	case errors.Is(err, account.ErrProxy):
		return "correct the variable, or unset it; NO_PROXY names hosts that need none"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "see that this machine's clock is right; if it is, something on the way to " + api.Host + " may show a certificate of its own"
	case errors.As(err, &hostname):
		return "check " + api.URLFlag + " and DNS: another host answers, or something on the way"
	case errors.As(err, &authority), errors.As(err, &invalid):
		return "if a proxy of yours reads along, trust its certificate authority: put it into the file that SSL_CERT_FILE names; see that this system has certificate authorities at all (ca-certificates); else do not go on, as it may not be NCP that answers"
	case errors.As(err, &record):
		return api.Host + " does not speak TLS: check the port in " + api.URLFlag + ", and that HTTPS_PROXY is of the form http://host:port"
	case op != nil && (op.Op == "remote error" || op.Op == "local error"):
		return "check that " + api.Host + " speaks TLS 1.2 or better, and that nothing on the way ends it"
	case op != nil && op.Op == "proxyconnect":
		return fmt.Sprintf("the proxy %s cannot be reached: correct HTTPS_PROXY, or except %s from it by NO_PROXY", api.Proxy, api.Host)
	case errors.As(err, &dns):
		return fmt.Sprintf("check %s (now %s), %s and this machine's DNS; behind a proxy set HTTPS_PROXY", d.setting("--ncp.site", "site"), d.Account.Site, api.URLFlag)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nobody listens at %s, or a firewall refuses: check %s and the firewall; behind a proxy set HTTPS_PROXY", api.Host, api.URLFlag)
	case api.Proxy != "" && op == nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Sprintf("the proxy refuses: check the user and password in HTTPS_PROXY, and that the proxy %s lets through to %s", api.Proxy, api.Host)
	default:
		return fmt.Sprintf("check the way to %s: network, routes, firewall, proxy (HTTPS_PROXY)", api.Host)
	}
}
