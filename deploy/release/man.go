package main

import (
	"bytes"
	"errors"
	"fmt"
)

// manPage mends what kingpin makes: a title line without the build, a name that
// apropos finds, and what flags do not tell.
func (o *options) manPage(page []byte) ([]byte, error) {
	_, rest, ok := bytes.Cut(page, []byte(".SH \"SYNOPSIS\"\n"))
	synopsis, options, ok2 := bytes.Cut(rest, []byte(".SH \"OPTIONS\"\n"))
	if !ok || !ok2 {
		return nil, errors.New("--help-man has no SYNOPSIS or no OPTIONS")
	}
	_, about, _ := bytes.Cut(synopsis, []byte(".SH \"DESCRIPTION\"\n"))
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH NCP_EXPORTER 1 %s \"%s %s\" \"User Commands\"\n", o.date.Format("2006-01-02"), program, o.number())
	fmt.Fprintf(&b, ".SH NAME\n%s \\- Prometheus exporter for NAVER Cloud Platform\n", program)
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n.RI [ flags ]\n", program)
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", bytes.TrimSpace(about))
	fmt.Fprintf(&b, ".SH OPTIONS\nA switch such as \\-\\-demo has a form that turns it off: \\-\\-no\\-demo.\n%s\n", bytes.TrimSpace(options))
	b.WriteString(manPageEnd)
	return b.Bytes(), nil
}

// manPageEnd are the sections that no flag tells of.
const manPageEnd = `.SH ENVIRONMENT
Each flag can be set as a variable too: NCP_EXPORTER_ and its name in capitals, with
underscores for dots and dashes. A flag comes before its variable.
.TP
.B NCLOUD_ACCESS_KEY_ID, NCLOUD_SECRET_ACCESS_KEY
The keys of NCP. NCLOUD_ACCESS_KEY and NCLOUD_SECRET_KEY are taken as well.
.TP
.B NCLOUD_PROFILE
The profile of the credentials file, if \-\-ncp.profile is not given.
.TP
.B NCLOUD_SITE
The site, if \-\-ncp.site is not given.
.TP
.B HTTPS_PROXY, NO_PROXY
The way to NCP.
.TP
.B GOMEMLIMIT, GOGC
How much memory to use. In a container the limit is taken from there.
.SH FILES
.TP
.I /etc/default/ncp_exporter
Variables for the service of the package.
.TP
.I /etc/ncp_exporter
Keys (access-key and secret-key), the file of accounts, and that of TLS and passwords.
The group ncp_exporter may read it.
.TP
.I /var/lib/ncp_exporter/ncp_exporter.db
The ledger of the service: what was counted. By hand it is data/ncp_exporter.db below the
directory of the start.
.TP
.I ~/.ncloud/configure
Keys by profile, as NCP's own tools write them.
.TP
.I /usr/share/ncp_exporter
Rules for Prometheus, a file for Alertmanager, and dashboards for Grafana.
.TP
.I /usr/share/doc/ncp\-exporter
README.md and docs/: configuration, metrics, runbooks, and how to upgrade.
.SH EXIT STATUS
.TP
.B 0
It was told to stop, by SIGTERM or SIGINT; or \-\-check, \-\-config.check or \-\-health\-check
found nothing wrong.
.TP
.B 1
It could not start or serve, or a check found something wrong. The last line on stderr, or
the report, tells what.
.PP
It is 1 as well if it was told to stop and something hung for 5 seconds. SIGHUP loads the
file of \-\-config.file again.
.SH EXAMPLES
Look around without an account:
.PP
.RS
ncp_exporter \-\-demo
.RE
.PP
Ask NCP once for all that would be watched, and say what does not work and why:
.PP
.RS
ncp_exporter \-\-check \-\-ncp.profile=prod
.RE
.PP
Watch with keys from two files, and count in a ledger:
.PP
.RS
.nf
ncp_exporter \-\-ncp.access\-key\-file=access \-\-ncp.secret\-key\-file=secret \e
  \-\-state.file=/var/lib/ncp_exporter/ncp_exporter.db
.fi
.RE
.PP
Watch several accounts, and load their file again when it changes:
.PP
.RS
.nf
ncp_exporter \-\-config.file=/etc/ncp_exporter/accounts.yml \e
  \-\-config.auto\-reload\-interval=30s
.fi
.RE
.SH SEE ALSO
.BR prometheus (1)
`
