package main

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
	"time"

	"ncp_exporter/ncpclient"
)

// explain says why a call failed, and what to do about it.
func (t target) explain(err error) (detail, remedy string) {
	var e *ncpclient.Error
	switch {
	case errors.Is(err, ncpclient.ErrNoKeys):
		return ncpclient.ErrNoKeys.Error(), strings.TrimPrefix(err.Error(), ncpclient.ErrNoKeys.Error()+": ")
	case t.err != nil:
		return "no keys: " + err.Error(), "correct what is named here; which place is taken, and in which order, is told in docs/configuration.md"
	case !errors.As(err, &e):
		return err.Error(), "check the flags"
	}
	detail = orElse(e.Facts(), string(e.Reason))
	if e.RetryAfter > 0 {
		detail += fmt.Sprintf(", asks to wait %s", e.RetryAfter)
	}
	if e.Reason == ncpclient.ErrUnreachable {
		return t.explainNetwork(detail, err)
	}
	return detail, t.remedy(e)
}

// remedy is for the errors that are not of the network.
func (t target) remedy(e *ncpclient.Error) string {
	keys := t.config.Credentials.String()
	if why := t.notNCP(e); why != "" {
		return why
	}
	switch e.Reason {
	case ncpclient.ErrKey:
		return fmt.Sprintf("check both keys (%s), that the key is active (console, My Account > Manage Authentication Key), and that it is of the site %s (--ncp.site)", keys, t.site)
	case ncpclient.ErrClock:
		return "set this machine's clock, best by NTP: NCP refuses requests that are more than 5m off"
	case ncpclient.ErrMainAccountKey:
		return fmt.Sprintf("Certificate Manager 2.0 refuses the keys of sub-accounts: give it a key of the main account (%s), or leave it out (--no-collector.certificate-manager)", t.profileFlag)
	case ncpclient.ErrPermission:
		return t.permission(e.Operation, keys)
	case ncpclient.ErrRateLimited:
		return fmt.Sprintf("check again in a minute; if it stays, something else uses up what NCP grants the account: lower --ncp.rate-limit (now %g) and scrape less often", t.rateLimit)
	case ncpclient.ErrNotFound, ncpclient.ErrBadRequest:
		if e.Operation == ncpclient.OpCredentials && len(t.subjects) > 0 {
			return "check --collector.external-access.subject: NCP does not know this subject, or no more"
		}
		return fmt.Sprintf("check --ncp.site (now %s) and %s, which must hold the API's version", t.site, t.urlFlag)
	case ncpclient.ErrRefused:
		return "its code and message say why; ask NCP's support with the request id"
	case ncpclient.ErrServer:
		return "nothing to mend here: check again later, and ask NCP's support with the request id if it stays"
	case ncpclient.ErrTimeout, ncpclient.ErrLimited:
		return fmt.Sprintf("see whether a firewall drops what goes to %s, or whether it wants a proxy (HTTPS_PROXY); if NCP is only slow, raise --ncp.timeout (now %s) and --scrape.timeout (now %s)", t.host(), t.timeout, t.scrapeTimeout)
	case ncpclient.ErrCredentials:
		return fmt.Sprintf("the keys (%s) could not be read: see that this server has a role, or name another place of keys", keys)
	default:
		return string(e.Reason)
	}
}

// notNCP is for answers that somebody else seems to have given.
func (t target) notNCP(e *ncpclient.Error) string {
	proxied := ""
	if proxy := t.proxy(); proxy != "" {
		proxied = ", or the proxy " + proxy
	}
	switch {
	case e.Reason == ncpclient.ErrMalformedAnswer, e.Reason == ncpclient.ErrTooLarge, e.Reason == ncpclient.ErrRedirected:
		return fmt.Sprintf("this is not how NCP answers: see whether %s (--ncp.site=%s, %s) is the right host%s, and whether something on the way shows a page of its own", t.host(), t.site, t.urlFlag, proxied)
	case e.Status == http.StatusForbidden && e.Origin == "" && e.Code == "":
		return fmt.Sprintf("neither NCP's gateway nor its endpoint put its name to this: see whether something on the way to %s refuses it%s; else the key may lack the permission", t.host(), proxied)
	default:
		return ""
	}
}

func (t target) permission(op ncpclient.Operation, keys string) string {
	who := fmt.Sprintf("the sub-account of this key (%s)", keys)
	switch op {
	case ncpclient.OpSubjects:
		return "give " + who + " the permission to view External Access: the list of subjects"
	case ncpclient.OpCredentials:
		return "give " + who + " the permission to view External Access: the credentials of a subject, which is another than that for the list"
	default:
		return fmt.Sprintf("recentChanges wants a key of the main account (%s); or leave it out (--no-collector.certificate-manager)", t.profileFlag)
	}
}

// explainNetwork says where the way to NCP ends.
func (t target) explainNetwork(detail string, err error) (string, string) {
	proxy, host := t.proxy(), t.host()
	var op *net.OpError
	errors.As(err, &op)
	switch {
	case errors.Is(err, errProxy):
		return errProxy.Error(), "correct HTTPS_PROXY, or unset it; NO_PROXY names hosts that need none"
	case op != nil && op.Op == "proxyconnect":
		return detail, fmt.Sprintf("the proxy %s cannot be reached: correct HTTPS_PROXY, or except %s from it by NO_PROXY", proxy, host)
	}
	if why, remedy := t.explainTLS(err); remedy != "" {
		return why + " (" + detail + ")", remedy
	}
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return "the name of the host cannot be resolved (" + detail + ")",
			fmt.Sprintf("check --ncp.site (now %s), %s and this machine's DNS; behind a proxy set HTTPS_PROXY", t.site, t.urlFlag)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection is refused (" + detail + ")",
			fmt.Sprintf("nobody listens at %s, or a firewall refuses: check %s and the firewall; behind a proxy set HTTPS_PROXY", host, t.urlFlag)
	case proxy != "" && op == nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return "the proxy refuses (" + detail + ")",
			fmt.Sprintf("check the user and password in HTTPS_PROXY, and that the proxy %s lets through to %s", proxy, host)
	default:
		return detail, fmt.Sprintf("check the way to %s: network, routes, firewall, proxy (HTTPS_PROXY)", host)
	}
}

// explainTLS gives nothing if it was not TLS that failed.
func (t target) explainTLS(err error) (detail, remedy string) {
	var (
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		hostname  x509.HostnameError
		record    tls.RecordHeaderError
		alert     *net.OpError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the certificate of %s is valid from %s to %s", t.host(), invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339)),
			fmt.Sprintf("see that this machine's clock is right; if it is, the certificate has run out, or something on the way to %s shows one of its own", t.host())
	case errors.As(err, &hostname):
		return "the certificate is for other names than " + t.host(),
			fmt.Sprintf("check %s and DNS: another host answers, or something on the way", t.urlFlag)
	case errors.As(err, &authority), errors.As(err, &invalid):
		return "the certificate of " + t.host() + " is signed by nobody who is trusted here",
			"if a proxy of yours reads along, trust its certificate authority: put it into the file that SSL_CERT_FILE names; see that this system has certificate authorities at all (ca-certificates); else do not go on, as it may not be NCP that answers"
	case errors.As(err, &record):
		return t.host() + " does not speak TLS",
			fmt.Sprintf("check the port in %s, and that HTTPS_PROXY is of the form http://host:port", t.urlFlag)
	case errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error"):
		return "TLS could not be agreed on", fmt.Sprintf("check that %s speaks TLS 1.2 or better, and that nothing on the way ends it", t.host())
	default:
		return "", ""
	}
}

// host is that of the base URL, with its port.
func (t target) host() string {
	u, err := ncpclient.ParseBaseURL(t.base)
	if err != nil {
		return t.base
	}
	return u.Host
}

// proxy is the host of the proxy on the way to the API, without its password; ""
// if there is none.
func (t target) proxy() string {
	u, err := ncpclient.ParseBaseURL(t.base)
	if err != nil {
		return ""
	}
	proxy, err := t.apis.transport.Proxy(&http.Request{Method: http.MethodGet, URL: u})
	if err != nil || proxy == nil {
		return ""
	}
	return proxy.Host
}
