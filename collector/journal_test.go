package collector

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"ncp_exporter/collector/ledger"
)

// Each new row is logged once, in the order of time, but for those of a first read, and
// at most 100 of each read.
func TestAuthenticationsAreLogged(t *testing.T) {
	line := regexp.MustCompile(`(?m)^.*msg="?(Authentication|More auth).*$`)
	failures := func(r ledger.Result) bool { return r == ledger.Failure }
	for name, journal := range map[string]func(ledger.Result) bool{"none": nil, "failures": failures, "all": func(ledger.Result) bool { return true }} {
		t.Run(name, func(t *testing.T) {
			l := ledger.New(ledger.Options{LateArrival: time.Hour, Now: time.Now})
			w := newWorld(t, worldOptions{journal: journal, pageSize: 20, ledger: l})
			put(w.Server, "s")
			all := history(1000)
			logged := func(n int) []string {
				t.Helper()
				w.AddCredentials("s", all[:n]...)
				all = all[n:]
				before, flushes := l.Watermark("s"), 0
				w.flushed = func() {
					if flushes++; !l.Watermark("s").Equal(before) {
						t.Error("rows were counted before they were logged")
					}
				}
				w.scrape(t)
				lines := line.FindAllString(w.log.String(), -1)
				if w.log.Reset(); (len(lines) > 0) != (flushes == 1) {
					t.Errorf("%d lines and %d flushes", len(lines), flushes)
				}
				return lines
			}
			want := func(n int, lines []string, parts ...string) {
				t.Helper()
				if journal == nil {
					n = 0
				}
				for i := range min(n, len(lines), len(parts)) {
					if !strings.Contains(lines[i], parts[i]) {
						t.Errorf("line %d has no %s: %s", i, parts[i], lines[i])
					}
				}
				if len(lines) != n {
					t.Errorf("%d lines, want %d: %q", len(lines), n, lines)
				}
			}
			want(0, logged(400))
			want(0, logged(0))
			text := func(number int, result string) string {
				return fmt.Sprintf(`subject_id=s x509_subject="CN=s" msg=Authentication result=%s issuer="CN=QA_Root_CA, OU=IAM Service, O=NAVER Cloud Corp., L=Seongnam-si, ST=Gyeonggi-do, C=KR" serial_number=%d seen_time=2026-01-02T`, result, number)
			}
			first, many := []string{text(400, "success"), text(401, "success"), text(402, "success"), text(403, "success"), text(404, "failure")}, 455
			if name == "failures" {
				first, many = first[4:], 11
			}
			want(len(first), logged(5), first...)
			lines := logged(555)
			want(101, lines)
			more := fmt.Sprintf(`subject_id=s x509_subject="CN=s" msg="More authentications, which are not told one by one" number=%d`, many)
			if journal != nil && !strings.HasSuffix(lines[len(lines)-1], more) {
				t.Errorf("the last line is %s", lines[len(lines)-1])
			}
			want(0, logged(0))
		})
	}
}
