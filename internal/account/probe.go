package account

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"ncp_exporter/ncpclient"
)

// Answer is what a probe learned of one call.
type Answer struct {
	API    API
	Call   Call
	URL    string // that was asked, without secrets; the pattern if nothing was sent
	Keys   string // where those it was asked with come from; empty if it was not asked
	Needs  string // the finding whose failure kept it from being asked
	Detail string // what came; before Err, what it is about
	Err    error
	Advice string // what to do where nothing failed, but something may be missing
	// ClockOffset is NCP's clock less this machine's; nil if no answer told it.
	ClockOffset *time.Duration
	Took        time.Duration
}

// Probe makes each call of a row that is watched, once, and gives the answers in
// their order. No request is sent again, so that what a retry would hide is seen.
func (s *Setup) Probe(ctx context.Context, w Watch) []Answer {
	i := slices.IndexFunc(s.apis, func(api API) bool { return api.Name == w.API })
	return w.probe(ctx, prober{Setup: s, api: s.apis[i], watch: w})
}

// prober makes the calls of one row.
type prober struct {
	*Setup
	api   API
	watch Watch
}

// ask makes a call with a client of its own.
func (p prober) ask(ctx context.Context, op ncpclient.Operation, question func(context.Context, clients) (string, error)) Answer {
	start := time.Now()
	answer := p.unasked(op)
	keys, err := p.api.keys()
	if err != nil {
		answer.Err = fmt.Errorf("no keys: %w", err)
		return answer
	}
	answer.Keys = keys.String()
	sent := &recorder{}
	var c clients
	if answer.Err = p.connect(&c, p.api, keys, 0, sent); answer.Err == nil {
		answer.Detail, answer.Err = question(ctx, c)
	}
	if answer.Err != nil {
		answer.Detail = ""
	}
	sent.mu.Lock()
	defer sent.mu.Unlock()
	answer.URL, answer.ClockOffset = cmp.Or(sent.url, answer.URL), sent.offset
	answer.Took = time.Since(start)
	return answer
}

func (p prober) unasked(op ncpclient.Operation) Answer {
	i := slices.IndexFunc(p.watch.Calls, func(c Call) bool { return c.Operation == op })
	call := p.watch.Calls[i]
	return Answer{API: p.api, Call: call, URL: p.api.BaseURL + call.Path}
}

// skip is the answer of a call that was not made: for the error of the one
// before it, or because that gave nothing to ask for.
func (p prober) skip(op ncpclient.Operation, before Answer, missing string) Answer {
	answer := p.unasked(op)
	if before.Err != nil {
		answer.Needs, answer.Err = before.Call.Finding, fmt.Errorf("not known, as %s failed", before.Call.Finding)
	} else {
		answer.Detail = "not known, as there is no " + missing + " to ask for"
		answer.Advice = "check again when there is one: " + string(op) + " needs a permission of its own"
	}
	return answer
}

// recorder notes what was sent last, and what the answer's clock said. It is an
// ncpclient.Observer.
type recorder struct {
	mu     sync.Mutex
	url    string
	offset *time.Duration
}

// RequestDone is called after each request.
func (r *recorder) RequestDone(o ncpclient.Observation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.url = o.URL
	if o.HasClockOffset {
		r.offset = &o.ClockOffset
	}
}

// RequestRetried is never called, as there are no retries.
func (*recorder) RequestRetried(string, ncpclient.Operation) {}
