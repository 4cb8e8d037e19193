package main

import (
	"os"
	"path/filepath"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

func profile(name string, key ncptest.Key) string {
	return "[" + name + "]\nncloud_access_key_id = " + key.AccessKey + "\nncloud_secret_access_key = " + key.SecretKey + "\n"
}

func TestProfilePerAPI(t *testing.T) {
	main := ncptest.Key{AccessKey: "MainAccountKey", SecretKey: "main-secret="}
	sub := ncptest.Key{AccessKey: "SubAccountKey", SecretKey: "sub-secret", SubAccount: true}
	ncp := simulate(t, ncptest.Config{Keys: []ncptest.Key{main, sub}})
	file := filepath.Join(t.TempDir(), "configure")
	write(t, file, profile("DEFAULT", sub)+profile("root", main)+profile("workload", sub))
	urls := []string{"--ncp.certificate-manager.url=" + ncp.CertificateManagerURL(), "--ncp.external-access.url=" + ncp.ExternalAccessURL()}
	// The environment has keys too: a profile for one API comes first for that API.
	wrong := env{"NCLOUD_ACCESS_KEY_ID": "wrong", "NCLOUD_SECRET_ACCESS_KEY": "wrong"}
	fromSub := env{"NCLOUD_ACCESS_KEY_ID": sub.AccessKey, "NCLOUD_SECRET_ACCESS_KEY": sub.SecretKey}

	for name, test := range map[string]struct {
		env         env
		args        []string
		manager     string // success of Certificate Manager
		managerKey  string
		externalKey string
	}{
		"both named":             {wrong, []string{"--ncp.certificate-manager.profile=root", "--ncp.external-access.profile=workload"}, "1", main.AccessKey, sub.AccessKey},
		"one named":              {fromSub, []string{"--ncp.certificate-manager.profile=root"}, "1", main.AccessKey, sub.AccessKey},
		"common profile":         {nil, []string{"--ncp.profile=root"}, "1", main.AccessKey, main.AccessKey},
		"profile of NCP's tools": {env{"NCLOUD_PROFILE": "root"}, nil, "1", main.AccessKey, main.AccessKey},
		"default profile":        {nil, nil, "0", sub.AccessKey, sub.AccessKey},
	} {
		t.Run(name, func(t *testing.T) {
			ncp.ResetStats()
			p := launch(t, test.env, append(append(urls, "--ncp.credentials-file="+file), test.args...)...)
			s := p.scrape()
			s.want(t, success(certificateManager), test.manager)
			s.want(t, success(externalAccess), "1")
			for _, r := range ncp.Requests() {
				want := test.externalKey
				if r.Op == ncptest.RecentChanges || r.Op == ncptest.Certificates {
					want = test.managerKey
				}
				if r.AccessKey != want {
					t.Errorf("%s was signed with %s, want %s", r.Op, r.AccessKey, want)
				}
			}
			if test.manager == "0" && p.logs.count("level=warn .*main account") != 1 {
				t.Errorf("the log does not say that a main account's key is needed:\n%s", p.logs)
			}
		})
	}
}

func TestCredentialsRotate(t *testing.T) {
	before := ncptest.Key{AccessKey: "OldAccessKey", SecretKey: "old-secret"}
	after := ncptest.Key{AccessKey: "NewAccessKey", SecretKey: "new-secret"} // as long: only the time of the file differs
	replace := func(t *testing.T, path, content string) {
		t.Helper()
		write(t, path+".new", content)
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	test := func(t *testing.T, rotate func(), args ...string) {
		t.Helper()
		ncp := simulate(t, ncptest.Config{Keys: []ncptest.Key{before}})
		args = append(args, "--ncp.certificate-manager.url="+ncp.CertificateManagerURL(), "--ncp.external-access.url="+ncp.ExternalAccessURL())
		p := launch(t, nil, args...)
		s := p.scrape()
		s.want(t, success(certificateManager), "1")
		s.want(t, success(externalAccess), "1")
		ncp.SetKeys(after)
		s = p.scrape() // NCP knows of the rotation, the file does not
		s.want(t, success(certificateManager), "0")
		s.want(t, success(externalAccess), "0")
		rotate()
		s = p.scrape()
		s.want(t, success(certificateManager), "1")
		s.want(t, success(externalAccess), "1")
	}
	t.Run("credentials file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "configure")
		write(t, path, profile("DEFAULT", before))
		test(t, func() { replace(t, path, profile("DEFAULT", after)) }, "--ncp.credentials-file="+path)
	})
	t.Run("key files", func(t *testing.T) {
		dir := t.TempDir()
		access, secret := filepath.Join(dir, "access"), filepath.Join(dir, "secret")
		write(t, access, before.AccessKey+"\n")
		write(t, secret, before.SecretKey+"\n")
		test(t, func() {
			replace(t, access, after.AccessKey+"\n")
			replace(t, secret, after.SecretKey+"\n")
		}, "--ncp.access-key-file="+access, "--ncp.secret-key-file="+secret)
	})
}
