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
	fmt.Fprintf(&b, ".SH OPTIONS\n%s\n", bytes.TrimSpace(options))
	b.WriteString(`.SH ENVIRONMENT
Each flag can be set as a variable too: NCP_EXPORTER_ and its name in capitals, with
underscores for dots and dashes. A flag comes before its variable.
.TP
.B NCLOUD_ACCESS_KEY_ID, NCLOUD_SECRET_ACCESS_KEY
The keys of NCP.
.TP
.B HTTPS_PROXY, NO_PROXY
The way to NCP.
`)
	return b.Bytes(), nil
}
