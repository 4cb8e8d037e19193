package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/common/model"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/subjects"
	"ncp_exporter/ncpclient"
)

// The names of the findings of --check, which are for machines to rely on.
const (
	findCollectors         = "collectors"
	findCertificateManager = "certificate_manager"
	findSubjects           = "external_access_subjects"
	findHistories          = "external_access_credentials"
	findClock              = "clock"
	findLedger             = "ledger"
	findWebConfig          = "web_config"
)

// checkUp is --check: it asks, looks and reports, and returns the exit code.
func checkUp(ctx context.Context, s *settings, env func(string) (string, bool), stdout io.Writer) int {
	r := report{Checks: examine(ctx, s, env)}
	r.OK = !slices.ContainsFunc(r.Checks, func(f finding) bool { return f.Status == statusFail })
	write := r.text
	if s.format == formatJSON {
		write = r.json
	}
	if err := write(stdout); err != nil || !r.OK {
		return 1
	}
	return 0
}

// checkup is what the examinations share.
type checkup struct {
	*settings
	source *source
	apis   *apis
	clock  clockOffset
}

// examination looks at something. One that does not end in time is reported
// under its names all the same.
type examination struct {
	names []string
	do    func(context.Context) []finding
}

// grace is how long an examination may need to tell that its time was over.
const grace = time.Second

// examine runs all examinations side by side, each to its end.
func examine(ctx context.Context, s *settings, env func(string) (string, bool)) []finding {
	from, err := newSource(ctx, s, env)
	if err != nil {
		return []finding{failed(findCollectors, "--demo", err.Error(), "see that a port of loopback is free")}
	}
	defer from.close()
	c := &checkup{settings: s, source: from, apis: newAPIs(s)}
	defer c.apis.close()
	ctx, cancel := context.WithTimeout(ctx, s.scrapeTimeout)
	defer cancel()

	findings := []finding{c.examineCollectors()}
	var examinations []examination
	if s.certificateManager {
		examinations = append(examinations, examination{[]string{findCertificateManager}, c.examineCertificateManager})
	}
	if s.externalAccess && len(s.subjects) > 0 {
		examinations = append(examinations, examination{[]string{findHistories}, c.examineNamedSubjects})
	} else if s.externalAccess {
		examinations = append(examinations, examination{[]string{findSubjects, findHistories}, c.examineExternalAccess})
	}
	apis := len(examinations)
	examinations = append(examinations,
		examination{[]string{findLedger}, c.examineLedger},
		examination{[]string{findWebConfig}, c.examineWebConfig},
	)
	begun := make([]<-chan []finding, len(examinations))
	for i, e := range examinations {
		begun[i] = e.begin(ctx)
	}
	late, stop := afterGrace(ctx)
	defer stop()
	for i, e := range examinations {
		findings = append(findings, e.wait(begun[i], late, s.scrapeTimeout)...)
		if i == apis-1 { // all answers came that will
			findings = append(findings, c.clock.finding())
		}
	}
	return findings
}

func (e examination) begin(ctx context.Context) <-chan []finding {
	done := make(chan []finding, 1) // nobody may be there to take it
	go func() {
		start := time.Now()
		findings := e.do(ctx)
		for i := range findings {
			if findings[i].Seconds == 0 {
				findings[i].Seconds = seconds(start)
			}
		}
		done <- findings
	}()
	return done
}

// wait gives what an examination found; what hangs in the operating system, as
// a file on a dead server does, cannot be ended and is left behind.
func (e examination) wait(done <-chan []finding, late <-chan struct{}, bound time.Duration) []finding {
	select {
	case findings := <-done:
		return findings
	case <-late:
	}
	select {
	case findings := <-done:
		return findings
	default:
	}
	var findings []finding
	for _, name := range e.names {
		f := failed(name, "", fmt.Sprintf("not done within %s (--scrape.timeout)", bound), "see whether a file that is named in the flags hangs, as on a file server that is gone")
		f.Seconds = bound.Seconds()
		findings = append(findings, f)
	}
	return findings
}

// afterGrace is closed a while after ctx has ended.
func afterGrace(ctx context.Context) (late <-chan struct{}, stop func()) {
	closed, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
		case <-stopped:
			return
		}
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			close(closed)
		case <-stopped:
		}
	}()
	return closed, func() { close(stopped) }
}

// examineCollectors says what is watched, and so what is examined.
func (c *checkup) examineCollectors() finding {
	f := finding{Name: findCollectors, Status: statusOK, What: "--collector.certificate-manager, --collector.external-access, --ncp.site=" + c.site}
	if c.demo {
		f.What = strings.Replace(f.What, "--ncp.site="+c.site, "--demo", 1)
	}
	if c.totalShards > 1 {
		f.What += fmt.Sprintf(", --shard=%d of %d", c.shard, c.totalShards)
	}
	why := "--no-collector.certificate-manager"
	if c.certificateManager {
		why = withoutCertificateManager(c.settings, c.source)
		c.certificateManager = why == ""
	}
	switch {
	case c.certificateManager && c.externalAccess:
		f.Detail = "both are watched"
	case c.certificateManager:
		f.Detail = "certificate_manager is watched, external_access is not (--no-collector.external-access)"
	case c.externalAccess:
		f.Detail = "external_access is watched, certificate_manager is not (" + why + ")"
	case c.inventory && c.shard == 0:
		f.Detail = "only the certificate inventory is watched, which is not asked here"
	default:
		return failed(f.Name, f.What, errNothingToWatch.Error(), "switch one of them on, with its URL if this site has none")
	}
	return f
}

// target is an API as it is asked here.
type target struct {
	*checkup
	api                  string
	base                 string
	urlFlag, profileFlag string

	config ncpclient.Config
	err    error // why there are no keys
}

func (c *checkup) target(api string) target {
	t := target{
		checkup: c, api: api, base: c.source.externalAccessURL,
		urlFlag: "--ncp.external-access.url", profileFlag: "--ncp.external-access.profile",
	}
	profile := c.externalAccessProfile
	if api == ncpclient.APICertificateManager {
		t.base, profile = c.source.certificateManagerURL, c.certificateManagerProfile
		t.urlFlag, t.profileFlag = "--ncp.certificate-manager.url", "--ncp.certificate-manager.profile"
	}
	if t.config, t.err = c.apis.config(c.settings, c.source, log.NewNopLogger(), api, t.base, profile); t.err != nil {
		t.err = errors.Unwrap(t.err) // it is said anyway which API it is
	}
	// Once is once. What a retry would mend is said.
	t.config.MaxRetries = 0
	t.config.Transport = witness{c.apis.transport}
	t.config.Observer = &c.clock
	return t
}

// witness tells what is really sent.
type witness struct{ *http.Transport }

type sentKey struct{}

// sent is the address of the last request of a call.
type sent struct{ url string }

func (w witness) RoundTrip(req *http.Request) (*http.Response, error) {
	if s, ok := req.Context().Value(sentKey{}).(*sent); ok {
		s.url = req.URL.Redacted()
	}
	return w.Transport.RoundTrip(req)
}

// ask makes a call and a finding of it.
func (t target) ask(ctx context.Context, name string, call func(context.Context) (string, error)) finding {
	start := time.Now()
	s := &sent{t.base}
	detail, err := "", t.err
	if err == nil {
		detail, err = call(context.WithValue(ctx, sentKey{}, s))
	}
	f := finding{Name: name, Status: statusOK, What: t.what(s.url), Detail: detail}
	if err != nil {
		f.Status = statusFail
		f.Detail, f.Remedy = t.explain(err)
	}
	f.Seconds = seconds(start)
	return f.clean()
}

// what says what was asked, with which keys, and by which way.
func (t target) what(url string) string {
	what := "GET " + url
	if t.err == nil {
		what += ", keys from " + t.config.Credentials.String()
	}
	if proxy := t.proxy(); proxy != "" {
		what += ", through the proxy " + proxy
	}
	return what
}

func (c *checkup) examineCertificateManager(ctx context.Context) []finding {
	t := c.target(ncpclient.APICertificateManager)
	return []finding{t.ask(ctx, findCertificateManager, func(ctx context.Context) (string, error) {
		client, err := ncpclient.NewCertificateManager(t.config)
		if err != nil {
			return "", err
		}
		changes, err := client.RecentChanges(ctx, c.window)
		return fmt.Sprintf("answers: %d rows of certificates that changed within %s", len(changes), model.Duration(c.window)), err
	})}
}

// examineExternalAccess asks for the list, and for the history of one on it: the
// permission for the one says nothing of that for the other.
func (c *checkup) examineExternalAccess(ctx context.Context) []finding {
	t := c.target(ncpclient.APIExternalAccess)
	var page ncpclient.Page[ncpclient.Subject]
	list := t.ask(ctx, findSubjects, func(ctx context.Context) (string, error) {
		client, err := ncpclient.NewExternalAccess(t.config)
		if err != nil {
			return "", err
		}
		page, err = client.SubjectsPage(ctx, 0, c.pageSize)
		detail := fmt.Sprintf("answers: %d subjects", max(page.Total, len(page.Rows)))
		if client.PageSizeRefused() {
			detail += fmt.Sprintf(", %d a page as it refuses %d", ncpclient.DefaultPageSize, c.pageSize)
		}
		return detail, err
	})
	id := c.example(page.Rows)
	switch {
	case list.Status == statusFail:
		what := strings.Replace(t.what(t.base+"/subjects/{subjectId}/credentials?page=0&size=1"), "GET", "not asked: GET", 1)
		return []finding{list, failed(findHistories, what, "not known, as the list of subjects did not come", "see "+findSubjects)}
	case id == "":
		list.Status = statusWarn
		list.Remedy = "if there should be subjects, check that the keys are of their account and that --ncp.site (now " + c.site + ") is theirs"
		f := finding{Name: findHistories, Status: statusWarn, What: t.what(t.base + "/subjects/{subjectId}/credentials?page=0&size=1")}
		f.What = strings.Replace(f.What, "GET", "not asked: GET", 1)
		f.Detail, f.Remedy = "not known, as there is no subject to ask for", "check again when there is one: reading histories is a permission of its own"
		return []finding{list, f.clean()}
	}
	return []finding{list, t.askCredentials(ctx, id)}
}

// example is a subject to ask for, if there is one: of this shard rather than of
// another.
func (c *checkup) example(listed []ncpclient.Subject) string {
	shard, other := subjects.NewShard(c.shard, c.totalShards), ""
	for _, s := range listed {
		if s.ID == "" {
			continue
		}
		if shard.Owns(s.ID) {
			return s.ID
		}
		other = orElse(other, s.ID)
	}
	return other
}

func (t target) askCredentials(ctx context.Context, id string) finding {
	return t.ask(ctx, findHistories, func(ctx context.Context) (string, error) {
		client, err := ncpclient.NewExternalAccess(t.config)
		if err != nil {
			return "", err
		}
		page, err := client.CredentialsPage(ctx, id, 0, 1)
		return fmt.Sprintf("answers: %d rows in the history of this subject", max(page.Total, len(page.Rows))), err
	})
}

// examineNamedSubjects asks for each subject that a flag names, and for no list:
// the exporter needs none then, and a wrong name is found by nothing else.
func (c *checkup) examineNamedSubjects(ctx context.Context) []finding {
	t := c.target(ncpclient.APIExternalAccess)
	shard := subjects.NewShard(c.shard, c.totalShards)
	mine := slices.DeleteFunc(slices.Clone(c.subjects), func(id string) bool { return !shard.Owns(id) })
	if len(mine) == 0 {
		return []finding{{
			Name: findHistories, Status: statusWarn, What: "--collector.external-access.subject",
			Detail: "none of the subjects that are named is this shard's", Remedy: "nothing, if the other shards are given the same subjects",
		}}
	}
	all := make([]finding, len(mine))
	var asking sync.WaitGroup
	for i, id := range mine {
		asking.Go(func() { all[i] = t.askCredentials(ctx, id) })
	}
	asking.Wait()
	bad := slices.DeleteFunc(slices.Clone(all), func(f finding) bool { return f.Status == statusOK })
	if len(bad) > 0 {
		bad[0].Detail = fmt.Sprintf("%d of %d named subjects cannot be read, the first: %s", len(bad), len(all), bad[0].Detail)
		return bad[:1]
	}
	all[0].Detail = fmt.Sprintf("answers for each of %d named subjects", len(all))
	return all[:1]
}

func (c *checkup) examineLedger(context.Context) []finding {
	f := finding{Name: findLedger, Status: statusOK, What: "--state.file=" + c.stateFile.path}
	if inMemory(c.settings) {
		f.What = "--state.file="
		f.Detail = "in memory, as asked for: counters begin anew with each start"
		return []finding{f}
	}
	if absolute, err := filepath.Abs(c.stateFile.path); err == nil && absolute != c.stateFile.path {
		f.What += ", which is " + absolute
	}
	found, err := ledger.Probe(c.stateFile.path, ledgerSite(c.settings, c.source.externalAccessURL))
	switch {
	case err != nil:
		f.Status, f.Detail = statusFail, err.Error()
		f = explainLedger(f, err, c.stateFile.given)
	case found:
		f.Detail = "it is whole, of this site, and can be written: counting goes on from it"
	default:
		f.Detail = "there is none yet; it can be made: counting begins with the first start"
	}
	return []finding{f.clean()}
}

// explainLedger says what becomes of a start with such a file, and what to do.
func explainLedger(f finding, err error, given bool) finding {
	switch {
	case errors.Is(err, ledger.ErrLocked):
		f.Status = statusWarn
		f.Detail = "another process has it open"
		f.Remedy = "nothing, if that is the exporter that runs here already; a second one needs a --state.file of its own"
	case errors.Is(err, ledger.ErrUnusable) && !given:
		f.Status = statusWarn
		f.Detail += ": the exporter would start, count in memory, and begin anew with each start"
		f.Remedy = "give --state.file a path that this user may write"
	case errors.Is(err, ledger.ErrUnusable):
		f.Detail += ": the exporter would not start"
		f.Remedy = "give --state.file a path that this user may write, or give this user the right to it"
	case errors.Is(err, ledger.ErrNewer):
		f.Detail += "; the exporter would not start"
		f.Remedy = "go back to the newer version, or put back the copy that was made before the upgrade (docs/upgrade.md)"
	case errors.Is(err, ledger.ErrSite):
		f.Detail += "; the exporter would not start"
		f.Remedy = "check --ncp.site and --ncp.external-access.url, or give --state.file another path"
	default:
		f.Detail += "; the exporter would not start"
		f.Remedy = "put back a copy, or move the file away to begin anew (docs/counting.md)"
	}
	return f
}

func (c *checkup) examineWebConfig(context.Context) []finding {
	f := finding{Name: findWebConfig, Status: statusOK, What: "--web.config.file=" + *c.web.WebConfigFile}
	switch err := webConfigError(c.settings); {
	case err != nil:
		f = failed(f.Name, f.What, err.Error(), "correct the file and what it names; its format is told in docs/security.md")
	case *c.web.WebConfigFile == "":
		f.Detail = "none: /metrics is plain http without a password, for whoever reaches the port"
	default:
		f.Detail = "it is valid, and so are the certificates that it names"
	}
	return []finding{f.clean()}
}

// clockOffset keeps how far this machine's clock is off NCP's, at most.
type clockOffset struct {
	mu     sync.Mutex
	known  bool
	offset time.Duration // NCP's less ours
}

// RequestDone makes it an ncpclient.Observer.
func (c *clockOffset) RequestDone(o ncpclient.Observation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.HasClockOffset && (!c.known || o.ClockOffset.Abs() > c.offset.Abs()) {
		c.known, c.offset = true, o.ClockOffset
	}
}

// RequestRetried makes it an ncpclient.Observer.
func (*clockOffset) RequestRetried(string, ncpclient.Operation) {}

const (
	// clockWarn is more than the way of an answer takes.
	clockWarn = 30 * time.Second
	// clockFail is where NCP refuses requests.
	clockFail = 5 * time.Minute
)

func (c *clockOffset) finding() finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := finding{Name: findClock, Status: statusOK, What: "the Date headers of the answers, against this machine's clock"}
	where := "behind"
	if c.offset < 0 {
		where = "ahead of"
	}
	if !c.known {
		f.Status, f.Detail, f.Remedy = statusWarn, "not known, as no answer came that tells the time", "see the other findings"
		return f
	}
	f.Detail = fmt.Sprintf("this machine's clock is %s %s NCP's", c.offset.Abs(), where)
	switch off := c.offset.Abs(); {
	case off > clockFail:
		f.Status = statusFail
	case off > clockWarn:
		f.Status = statusWarn
	default:
		f.Detail = fmt.Sprintf("they agree to %s", max(off, time.Second))
		return f
	}
	f.Remedy = "set this machine's clock, best by NTP: NCP refuses requests that are more than 5m off"
	return f
}

func seconds(since time.Time) float64 {
	return float64(max(1, time.Since(since).Milliseconds())) / 1000
}
