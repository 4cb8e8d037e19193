package main

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

func TestSites(t *testing.T) {
	const notWatched = `Not watched: this site has no recentChanges.* collector=certificate_manager site=`
	for name, test := range map[string]struct {
		env  env
		args []string
		off  string // the site that the log names; empty if Certificate Manager is on
		host string // of External Access
	}{
		"public":            {nil, nil, "", "https://externalaccess.apigw.ntruss.com/api/v1"},
		"gov":               {nil, []string{"--ncp.site=gov"}, "gov", "https://externalaccess.apigw.gov-ntruss.com/api/v1"},
		"fin":               {nil, []string{"--ncp.site=fin"}, "fin", "https://externalaccess.apigw.fin-ntruss.com/api/v1"},
		"gov of NCP":        {env{"NCLOUD_SITE": "gov"}, nil, "gov", "https://externalaccess.apigw.gov-ntruss.com/api/v1"},
		"flag before NCP's": {env{"NCLOUD_SITE": "gov"}, []string{"--ncp.site=public"}, "", "https://externalaccess.apigw.ntruss.com/api/v1"},
		"gov with URL":      {nil, []string{"--ncp.site=gov", "--ncp.certificate-manager.url=https://127.0.0.1:1/api/v2"}, "", "https://externalaccess.apigw.gov-ntruss.com/api/v1"},
		"gov, off by flag":  {nil, []string{"--ncp.site=gov", "--no-collector.certificate-manager"}, "silent", "https://externalaccess.apigw.gov-ntruss.com/api/v1"},
	} {
		t.Run(name, func(t *testing.T) {
			e := demoKeys()
			for name, value := range test.env {
				e[name] = value
			}
			p := launch(t, e, test.args...) // nothing is sent before the first scrape
			if n := p.logs.count(`Watching collector=external_access url=` + regexp.QuoteMeta(test.host) + ` `); n != 1 {
				t.Errorf("External Access is not watched at %s:\n%s", test.host, p.logs)
			}
			watched, off := p.logs.count(`Watching collector=certificate_manager `), p.logs.count(notWatched)
			switch test.off {
			case "":
				if watched != 1 || off != 0 {
					t.Errorf("Certificate Manager should be watched:\n%s", p.logs)
				}
			case "silent":
				if watched != 0 || off != 0 {
					t.Errorf("Certificate Manager should be off, and nothing said:\n%s", p.logs)
				}
			default:
				if watched != 0 || off != 1 || p.logs.count(notWatched+test.off+" ") != 1 {
					t.Errorf("Certificate Manager should be off, and one line should say so:\n%s", p.logs)
				}
			}
		})
	}
}

// TestTrustAnchorsAreOptional wants no call for them where they are not wanted.
func TestTrustAnchorsAreOptional(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		on   string
	}{
		"by default":      {nil, "1"},
		"off":             {[]string{"--no-collector.external-access.trust-anchors"}, ""},
		"another shard":   {[]string{"--shard=1", "--total-shards=2"}, ""},
		"shard 0":         {[]string{"--shard=0", "--total-shards=2"}, "1"},
		"nothing of them": {[]string{"--no-collector.external-access"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ncp := simulate(t, ncptest.Config{})
			s := watch(t, ncp, test.args...).scrape()
			s.want(t, success(trustAnchors), test.on)
			calls := ncp.Count(ncptest.TrustAnchors) + ncp.Count(ncptest.CRLs)
			if want := map[string]int{"1": 2, "": 0}[test.on]; calls != want {
				t.Errorf("%d calls, want %d", calls, want)
			}
			if (s["ncp_external_access_trust_anchor_enabled{name=\"ca\",trust_anchor_id=\"anchor-1\"}"] != "") != (test.on != "") {
				t.Error("it shows trust anchors where it should not, or none where it should")
			}
		})
	}
}

// TestSubjectsLeftOut wants no call for the history of a subject that a pattern leaves
// out, by its id or by its name.
func TestSubjectsLeftOut(t *testing.T) {
	const include, exclude = "--collector.external-access.subject-include=", "--collector.external-access.subject-exclude="
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"all":     {nil, []string{"subject-1", "subject-2"}},
		"include": {[]string{include + "CN=(two|three)"}, []string{"subject-2"}},
		"exclude": {[]string{exclude + "subject-2"}, []string{"subject-1"}},
		"both":    {[]string{include + "subject-.", exclude + "CN=one"}, []string{"subject-2"}},
		"none":    {[]string{include + "subject"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			ncp := simulate(t, ncptest.Config{})
			ncp.PutSubject(ncptest.Subject{SubjectID: "subject-2", X509Subject: "CN=two", Enabled: true})
			s := watch(t, ncp, test.args...).scrape()
			s.want(t, success(externalAccess), "1")
			s.want(t, "ncp_external_access_subjects", strconv.Itoa(len(test.want)))
			asked := make(map[string]bool)
			for _, r := range ncp.Requests() {
				if r.Op == ncptest.Credentials {
					asked[r.SubjectID] = true
				}
			}
			if got := slices.Sorted(maps.Keys(asked)); !slices.Equal(got, test.want) {
				t.Errorf("the histories of %q were asked for, want %q", got, test.want)
			}
		})
	}
}

// TestInventoryIsAskedFor wants it where version 2 of Certificate Manager is watched,
// and elsewhere no call for it unless it is wanted.
func TestInventoryIsAskedFor(t *testing.T) {
	const flag = "--collector.certificate-inventory"
	for name, test := range map[string]struct {
		args []string
		on   string
	}{
		"by default":    {nil, "1"},
		"off":           {[]string{"--no-collector.certificate-inventory"}, ""},
		"no manager":    {[]string{"--no-collector.certificate-manager"}, ""},
		"default of v1": {nil, ""},
		"another shard": {[]string{flag, "--shard=1", "--total-shards=2"}, ""},
		"alone":         {[]string{flag, "--no-collector.certificate-manager", "--no-collector.external-access"}, "1"},
		"on with v1":    {[]string{flag, "--ncp.site=gov"}, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			ncp := simulate(t, ncptest.Config{})
			url := ncp.CertificateManagerURL()
			v1 := strings.HasSuffix(name, "v1")
			if v1 {
				url = ncp.URL() + "/api/v1"
			}
			s := launch(t, demoKeys(), append(test.args, "--ncp.certificate-manager.url="+url, "--ncp.external-access.url="+ncp.ExternalAccessURL())...).scrape()
			s.want(t, success(inventory), test.on)
			calls := map[string]int{"by default": 2, "alone": 2, "on with v1": 1} // the first read looks behind the last page, if there are pages
			if got, want := ncp.Count(ncptest.Certificates), calls[name]; got != want {
				t.Errorf("%d calls, want %d", got, want)
			}
			const series = `ncp_certificate_manager_certificate_not_after_timestamp_seconds{certificate_id="41207",common_name="www.example.com",name="www"}`
			s.want(t, series, map[string]string{"1": "2.3982912e+09", "": ""}[test.on])
			s.want(t, `ncp_certificate_manager_certificate_info{certificate_id="41207",common_name="www.example.com",name="www"}`, test.on)
			if v1 {
				s.want(t, success(certificateManager), "")
			}
		})
	}
}

// TestSiteWithoutCertificateManager scrapes where recentChanges does not exist.
func TestSiteWithoutCertificateManager(t *testing.T) {
	ncp := simulate(t, ncptest.Config{})
	p := launch(t, demoKeys(), "--ncp.site=gov", "--ncp.external-access.url="+ncp.ExternalAccessURL())
	for range 2 {
		s := p.scrape()
		s.want(t, success(externalAccess), "1")
		for name := range s {
			if strings.Contains(name, certificateManager) {
				t.Errorf("there is %s", name)
			}
		}
	}
	if n := p.logs.count(certificateManager); n != 1 {
		t.Errorf("%d lines about %s, want one", n, certificateManager)
	}
	if a := p.get("/metrics?collect[]=" + certificateManager); a.status != http.StatusBadRequest {
		t.Errorf("collect[] of the collector that is off: HTTP %d", a.status)
	}

	p = launch(t, env{"NCLOUD_SITE": "fin", "NCLOUD_ACCESS_KEY": ncptest.DemoAccessKey, "NCLOUD_SECRET_KEY": ncptest.DemoSecretKey},
		"--ncp.external-access.url="+ncp.ExternalAccessURL(), "--ncp.certificate-manager.url="+ncp.CertificateManagerURL())
	s := p.scrape()
	s.want(t, success(externalAccess), "1")
	s.want(t, success(certificateManager), "1")
}

// TestShards starts both of two shards, as the pods of a StatefulSet, and wants
// each subject in one of them, and Certificate Manager in the first.
func TestShards(t *testing.T) {
	ncp := simulate(t, ncptest.Config{})
	for i := range 20 {
		ncp.PutSubject(ncptest.Subject{SubjectID: "of-many-" + strconv.Itoa(i), Enabled: true})
	}
	seen := make(map[string]bool)
	for shard := range 2 {
		p := watch(t, ncp, "--shard=ncp-exporter-"+strconv.Itoa(shard), "--total-shards=2")
		s := p.scrape()
		s.want(t, fmt.Sprintf(`ncp_exporter_shard_info{shard="%d",total_shards="2"}`, shard), "1")
		s.want(t, success(externalAccess), "1")
		_, there := s[success(certificateManager)]
		if there != (shard == 0) {
			t.Errorf("shard %d watches Certificate Manager: %t", shard, there)
		}
		if said := p.logs.count("Not watched: shard 0 does it.* collector=certificate_manager"); said != shard {
			t.Errorf("shard %d says %d times that shard 0 watches Certificate Manager", shard, said)
		}
		for name := range s {
			if id, ok := strings.CutPrefix(name, `ncp_external_access_credential_history_entries{subject_id="`); ok {
				if seen[id] {
					t.Errorf("both shards have %s", id)
				}
				seen[id] = true
			}
		}
	}
	if len(seen) != 21 {
		t.Errorf("%d subjects are watched, want 21", len(seen))
	}
}
