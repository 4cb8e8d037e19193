package account

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"ncp_exporter/collector/subjects"
	"ncp_exporter/ncpclient"
)

// probeSubjects asks for the list, and for the history of one subject on it: to
// view the one is another permission than to view the other.
func probeSubjects(ctx context.Context, p prober) []Answer {
	access := p.Config.ExternalAccess
	if len(access.Subjects) > 0 {
		return []Answer{p.askNamedSubjects(ctx)}
	}
	var listed []ncpclient.Subject
	list := p.ask(ctx, ncpclient.OpSubjects, func(ctx context.Context, c clients) (string, error) {
		page, err := c.externalAccess.SubjectsPage(ctx, 0, access.PageSize)
		listed = page.Rows
		detail := fmt.Sprintf("answers: %d subjects", max(page.Total, len(page.Rows)))
		if c.externalAccess.PageSizeRefused() {
			detail += fmt.Sprintf(", %d a page as it refuses %d", ncpclient.DefaultPageSize, access.PageSize)
		}
		return detail, err
	})
	filter, found := p.filter(), len(listed)
	listed = slices.DeleteFunc(listed, func(s ncpclient.Subject) bool { return !filter.Takes(s) })
	id := p.example(listed)
	if id == "" {
		switch {
		case found > len(listed):
			list.Advice = "look at --collector.external-access.subject-include and --collector.external-access.subject-exclude, which leave out all on the first page"
		case list.Err == nil:
			list.Advice = "if there should be subjects, check that the keys are of their account and that --ncp.site (now " + p.Config.Site + ") is theirs"
		}
		return []Answer{list, p.skip(ncpclient.OpCredentials, list, "subject")}
	}
	return []Answer{list, p.askHistory(ctx, id)}
}

// filter is of patterns that are valid, or Config would have been refused.
func (s *Setup) filter() subjects.Filter {
	include, _ := subjects.Pattern(s.Config.ExternalAccess.SubjectInclude)
	exclude, _ := subjects.Pattern(s.Config.ExternalAccess.SubjectExclude)
	return subjects.Filter{Include: include, Exclude: exclude}
}

// example is a subject to ask for, if there is one: of this shard rather than of
// another.
func (p prober) example(listed []ncpclient.Subject) string {
	shard, other := subjects.NewShard(p.Shard.Number, p.Shard.Total), ""
	for _, s := range listed {
		if s.ID != "" && shard.Owns(s.ID) {
			return s.ID
		}
		other = cmp.Or(other, s.ID)
	}
	return other
}

func (p prober) askHistory(ctx context.Context, id string) Answer {
	return p.ask(ctx, ncpclient.OpCredentials, func(ctx context.Context, c clients) (string, error) {
		page, err := c.externalAccess.CredentialsPage(ctx, id, 0, 1)
		return fmt.Sprintf("answers: %d rows in the history of this subject", max(page.Total, len(page.Rows))), err
	})
}

// askNamedSubjects asks for each subject that a flag names, and for no list: a
// scrape needs none then, and a wrong name is found by nothing else.
func (p prober) askNamedSubjects(ctx context.Context) Answer {
	shard := subjects.NewShard(p.Shard.Number, p.Shard.Total)
	named := slices.DeleteFunc(slices.Clone(p.Config.ExternalAccess.Subjects), func(id string) bool { return !shard.Owns(id) })
	if len(named) == 0 {
		answer := p.unasked(ncpclient.OpCredentials)
		answer.Detail = "none of the subjects that are named is this shard's (--collector.external-access.subject)"
		answer.Advice = "nothing, if the other shards are given the same subjects"
		return answer
	}
	answers := make([]Answer, len(named))
	var group errgroup.Group
	group.SetLimit(p.Config.Limits.MaxConcurrency)
	for i, id := range named {
		group.Go(func() error {
			answers[i] = p.askHistory(ctx, id)
			return nil
		})
	}
	_ = group.Wait() // none returns an error
	failed := slices.DeleteFunc(slices.Clone(answers), func(a Answer) bool { return a.Err == nil })
	if len(failed) > 0 {
		failed[0].Detail = fmt.Sprintf("%d of %d named subjects cannot be read, the first: ", len(failed), len(named))
		return failed[0]
	}
	answers[0].Detail = fmt.Sprintf("answers for each of %d named subjects", len(named))
	return answers[0]
}
