package main

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// TestCheckAnswers is about all that NCP may answer to either API: what is said of
// that one, and that nothing else is called wrong for it.
func TestCheckAnswers(t *testing.T) {
	at := func(offset time.Duration) func() time.Time {
		return func() time.Time { return time.Now().Add(offset) }
	}
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers := fmt.Sprint(r.Header)
		w.Header().Set("X-Request-Id", r.Header.Get("X-Ncp-Apigw-Signature-V2"))
		ncptest.GatewayError(http.StatusBadRequest, r.Header.Get("X-Ncp-Iam-Access-Key"), headers).ServeHTTP(w, r)
	})
	all := append([]string{findChanges, findInventory}, ofExternalAccess()...)
	allAndClock := append([]string{findClock}, all...)
	denied := func(ops ...ncptest.Operation) ncptest.Config {
		return ncptest.Config{Keys: []ncptest.Key{{Denied: ops}}}
	}
	noKeys := env{"NCLOUD_ACCESS_KEY_ID": "", "NCLOUD_SECRET_ACCESS_KEY": ""}
	forbidden := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	notFound := ncptest.GatewayError(404, "300", "Not Found Exception")
	onlyInventory := []string{"--no-collector.certificate-manager", "--no-collector.external-access", "--collector.certificate-inventory"}

	for name, test := range map[string]struct {
		cfg   ncptest.Config
		env   env
		fault ncptest.Fault
		args  []string
		bad   []string // findings that are not ok
		of    string   // the finding that is looked at; the first of bad
		want  []string // in it
	}{
		"well": {
			of:   findHistories,
			want: []string{"ok GET http://127.0.0.1:", "/subjects/subject-1/credentials?page=0&size=1", "keys from environment (NCLOUD_ACCESS_KEY_ID)", "1 rows"},
		},
		"well, the list": {
			of:   findSubjects,
			want: []string{"subjects?page=0&size=100", "1 subjects"},
		},
		"well, window": {
			args: []string{"--collector.certificate-manager.window=90s"},
			of:   findChanges,
			want: []string{"recentChanges?seconds=90", "within 1m30s"},
		},
		"well, trust anchors": {
			of:   findTrustAnchors,
			want: []string{"/trust-anchors,", "1 trust anchors"},
		},
		"well, CRLs": {
			of:   findCRLs,
			want: []string{"/trust-anchors/anchor-1/crls,", "1 CRLs"},
		},
		"well, inventory": {
			of:   findInventory,
			want: []string{"/api/v2/certificate/certificates?", "1 certificates"},
		},
		"wrong secret": {
			env:  env{"NCLOUD_SECRET_ACCESS_KEY": "Xx3SecretNeedle"},
			bad:  all,
			want: []string{"fail", "HTTP 401", "check both", "from environment (NCLOUD_ACCESS_KEY_ID)", "--ncp.site"},
		},
		"no keys": {
			env:  noKeys,
			bad:  allAndClock,
			of:   findSubjects,
			want: []string{"no NCP keys found", "do: set NCLOUD_ACCESS_KEY_ID", "--ncp.access-key-file"},
		},
		"no keys, inventory alone": {
			env:  noKeys,
			args: onlyInventory,
			bad:  []string{findClock, findInventory},
			of:   findInventory,
			want: []string{"fail", "no NCP keys found", "do: set NCLOUD_ACCESS_KEY_ID"},
		},
		"half the keys": {
			env:  env{"NCLOUD_SECRET_ACCESS_KEY": ""},
			bad:  allAndClock,
			of:   findChanges,
			want: []string{"no keys: NCLOUD_ACCESS_KEY_ID is set, but NCLOUD_SECRET_ACCESS_KEY"},
		},
		"a key less": {
			args: []string{"--ncp.credentials-file=/dev/null", "--ncp.certificate-manager.profile=main"},
			bad:  []string{findChanges, findInventory},
			want: []string{"not a file of keys", "docs/configuration.md"},
		},
		"clock ahead": {
			cfg:  ncptest.Config{Now: at(-7*time.Minute - 30*time.Second)},
			bad:  allAndClock,
			want: []string{"fail", "is 7m3", "ahead of NCP's", "NTP"},
		},
		"clock behind": {
			cfg:  ncptest.Config{Now: at(2 * time.Hour)},
			bad:  allAndClock,
			of:   findChanges,
			want: []string{"HTTP 401", "NTP"},
		},
		"clock drifts": {
			cfg:  ncptest.Config{Now: at(2*time.Minute + 500*time.Millisecond)},
			bad:  []string{findClock},
			want: []string{"warn", "behind NCP's", "do: set"},
		},
		"sub-account": {
			cfg:  ncptest.Config{Keys: []ncptest.Key{{SubAccount: true}}},
			bad:  []string{findChanges},
			want: []string{"HTTP 403, from ENDPOINT", "an access key of the main account", "--ncp.certificate-manager.profile", "--no-collector.certificate-manager"},
		},
		"empty 403": {
			fault: ncptest.ForOp(ncptest.RecentChanges, forbidden),
			bad:   []string{findChanges},
			want:  []string{"neither NCP's gateway nor its endpoint"},
		},
		"no list": {
			cfg:  denied(ncptest.Subjects),
			bad:  []string{findSubjects, findHistories},
			want: []string{"code 210", "permission to view the list of subjects", "--no-collector.external-access"},
		},
		"no histories": {
			cfg:  denied(ncptest.Credentials),
			bad:  []string{findHistories},
			want: []string{"code 210", "permission to view the credentials of a subject"},
		},
		"no changes": {
			cfg:  denied(ncptest.RecentChanges),
			bad:  []string{findChanges},
			want: []string{"code 210", "main account"},
		},
		"no trust anchors": {
			cfg:  denied(ncptest.TrustAnchors),
			bad:  []string{findTrustAnchors, findCRLs},
			want: []string{"fail", "code 210", "permission to view the list of trust anchors", "--no-collector.external-access.trust-anchors"},
		},
		"no CRLs": {
			cfg:  denied(ncptest.CRLs),
			bad:  []string{findCRLs},
			want: []string{"fail", "code 210", "permission to view the CRLs"},
		},
		"an anchor without CRLs": {
			fault: ncptest.ForOp(ncptest.CRLs, notFound),
			of:    findCRLs,
			want:  []string{"ok", "0 CRLs"},
		},
		"no inventory": {
			cfg:  denied(ncptest.Certificates),
			args: onlyInventory,
			bad:  []string{findInventory},
			want: []string{"fail", "code 210", "permission to view the list of certificates", "--no-collector.certificate-inventory"},
		},
		"wrong version": {
			args:  []string{"--shard=1", "--total-shards=2"},
			fault: ncptest.ForOp(ncptest.Subjects, notFound),
			bad:   []string{findSubjects, findHistories},
			want:  []string{"HTTP 404", "--ncp.site is public", "--ncp.external-access.url leads to 127.0.0.1:"},
		},
		"rate limited": {
			fault: ncptest.ForOp(ncptest.RecentChanges, ncptest.Throttled("17")),
			bad:   []string{findChanges},
			want:  []string{"HTTP 429", "asks to wait 17s", "--ncp.rate-limit is 50"},
		},
		"server error": {
			fault: ncptest.ForOp(ncptest.RecentChanges, ncptest.GatewayError(503, "500", "Endpoint Error")),
			bad:   []string{findChanges},
			want:  []string{"HTTP 503", "request id", "check again later"},
		},
		"refused in a 200": {
			fault: ncptest.ForOp(ncptest.RecentChanges, ncptest.ReturnCode(200, "9999", "Internal")),
			bad:   []string{findChanges},
			want:  []string{"code 9999", "its code and message"},
		},
		"redirect": {
			fault: ncptest.ForOp(ncptest.RecentChanges, ncptest.Redirect("https://login.example/")),
			bad:   []string{findChanges},
			want:  []string{"HTTP 302", "a redirect", "--ncp.certificate-manager.url"},
		},
		"login page": {
			fault: ncptest.ForOp(ncptest.Subjects, ncptest.HTMLPage(200)),
			bad:   []string{findSubjects, findHistories},
			want:  []string{"HTTP 200", "not what this API documents", "--ncp.external-access.url"},
		},
		"huge": {
			fault: ncptest.ForOp(ncptest.Credentials, ncptest.Huge(40<<20)),
			bad:   []string{findHistories},
			want:  []string{"too large to be right", "--ncp.external-access.url"},
		},
		"time-out": {
			fault: ncptest.ForOp(ncptest.RecentChanges, ncptest.Hang()),
			args:  []string{"--ncp.timeout=1s"},
			bad:   []string{findChanges},
			want:  []string{"took longer", "firewall", "--ncp.timeout (now 1s)"},
		},
		"all of the time": {
			fault: ncptest.ForOp(ncptest.Credentials, ncptest.Hang()),
			args:  []string{"--scrape.timeout=2s"},
			bad:   []string{findHistories},
			want:  []string{"--scrape.timeout (now 2s)"},
		},
		"reset": {
			fault: ncptest.ForOp(ncptest.RecentChanges, ncptest.Reset()),
			bad:   []string{findChanges},
			want:  []string{"check the way to 127.0.0.1"},
		},
		"page size": {
			cfg:  ncptest.Config{RefusePageSizeAbove: 50},
			of:   findSubjects,
			want: []string{"ok", "20 a page as it refuses 100"},
		},
		"echo": {
			fault: ncptest.Always(echo),
			bad:   all,
			want:  []string{"redacted"},
		},
		"echo, by name": {
			fault: ncptest.Always(echo),
			args:  []string{"--collector.external-access.subject=nobody"},
			bad:   []string{findChanges, findInventory, findHistories, findTrustAnchors, findCRLs},
			of:    findHistories,
			want:  []string{"1 of 1 named subjects", "--collector.external-access.subject"},
		},
		"named": {
			args: []string{"--collector.external-access.subject=subject-1"},
			of:   findHistories,
			want: []string{"ok", "subjects/subject-1/credentials", "each of 1 named"},
		},
		"named wrongly": {
			fault: ncptest.ForSubject("subject-2", notFound),
			args:  []string{"--collector.external-access.subject=subject-1", "--collector.external-access.subject=subject-2"},
			bad:   []string{findHistories},
			want:  []string{"/subjects/subject-2/", "1 of 2 named", "a subject that NCP does not know"},
		},
		"all left out": {
			args: []string{"--collector.external-access.subject-exclude=CN=.*|subject-1"},
			bad:  []string{findSubjects, findHistories},
			want: []string{"1 subjects", "subject-exclude, which leave out all on the first page"},
		},
		"what is watched": {
			of:   findCollectors,
			want: []string{"watched: certificate_manager, external_access, certificate_inventory, external_access_trust_anchors"},
		},
		"not watched": {
			args: []string{"--no-collector.certificate-manager"},
			of:   findCollectors,
			want: []string{"certificate_manager is not (--no-collector.certificate-manager)", "certificate_inventory is not (--no-collector.certificate-inventory)"},
		},
		"nor the other": {
			args: []string{"--no-collector.external-access"},
			of:   findCollectors,
			want: []string{"external_access is not (--no-collector.external-access)", "external_access_trust_anchors is not (--no-collector.external-access)"},
		},
		"nothing": {
			args: []string{"--no-collector.certificate-manager", "--no-collector.external-access"},
			bad:  []string{findCollectors},
			want: []string{"fail", "nothing to watch"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := toCheck(t, test.cfg)
			n.SetFault(test.fault)
			e := n.env()
			maps.Copy(e, test.env)
			code, r, _ := n.check(t, e, test.args...)
			r.others(t, test.bad...)
			if test.of == "" {
				test.of = test.bad[0]
			}
			wantAll(t, r.said(test.of), test.want...)
			if failed := len(test.bad) > 0 && name != "clock drifts" && name != "all left out"; failed != (code == 1) {
				t.Errorf("exit code %d", code)
			}
			for _, op := range []ncptest.Operation{ncptest.RecentChanges, ncptest.Subjects, ncptest.TrustAnchors, ncptest.CRLs} {
				// A refused page size is asked for smaller, a dead connection once more.
				if once := n.Count(op); once > 2 && name != "page size" && name != "reset" && !strings.HasPrefix(name, "echo") {
					t.Errorf("%s was asked %d times in two checks", op, once)
				}
			}
		})
	}
}
