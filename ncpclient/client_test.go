package ncpclient

import (
	"strings"
	"testing"
)

func TestParseBaseURL(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://externalaccess.apigw.ntruss.com/api/v1":   "https://externalaccess.apigw.ntruss.com/api/v1",
		"https://h.example/api/v1//":                       "https://h.example/api/v1",
		"https://h.example":                                "https://h.example",
		"https://h.example:8443/a%2Fb/api/v1":              "https://h.example:8443/a%2Fb/api/v1",
		"HTTPS://h.example/api":                            "https://h.example/api",
		"http://127.0.0.1:1234/api/v1":                     "http://127.0.0.1:1234/api/v1",
		"http://127.9.9.9/":                                "http://127.9.9.9",
		"http://[::1]:80/api":                              "http://[::1]:80/api",
		"http://localhost/api":                             "http://localhost/api",
		"https://user.example.com.evil.example/api/v1/x/y": "https://user.example.com.evil.example/api/v1/x/y",
	} {
		if got, err := ParseBaseURL(in); err != nil || got.String() != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	if u, err := ParseBaseURL(" https://h.example/api\n"); err != nil || u.String() != "https://h.example/api" {
		t.Errorf("outer blanks: %v, %v", u, err)
	}
	for in, want := range map[string]string{
		"":                                  "of the form",
		"h.example/api/v1":                  "of the form",
		"/api/v1":                           "of the form",
		"ftp://h.example":                   "of the form",
		"https:///api":                      "of the form",
		"https://:443/api":                  "of the form",
		"https:h.example":                   "of the form",
		"https://s3cret@h.example":          "user",
		"https://a:s3cret@h.example":        "user",
		"https://a:s3cret%zz@h.example":     "not a URL",
		"https://h.example/\x7fs3cret":      "not a URL",
		"https://h.example/api?key=s3cret":  "query",
		"https://h.example/api?":            "query",
		"https://h.example/api#s3cret":      "fragment",
		"http://h.example/s3cret":           "use https",
		"http://169.254.169.254/api/s3cret": "use https",
		"http://localhost.evil.example/":    "use https",
		"http://127.0.0.1.evil.example/":    "use https",
		"http://[::2]/":                     "use https",
		"http://10.0.0.1/":                  "use https",
		"http://0.0.0.0/":                   "use https",
	} {
		got, err := ParseBaseURL(in)
		if err == nil {
			t.Errorf("%q was taken: %v", in, got)
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") || strings.ContainsAny(err.Error(), "\n\x7f") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"no URL":  {Credentials: demoKeys()},
		"no keys": {BaseURL: "https://h.example"},
		"http":    {BaseURL: "http://h.example", Credentials: demoKeys()},
	} {
		if _, err := NewCertificateManager(cfg); err == nil {
			t.Errorf("%s: Certificate Manager was made", name)
		}
		if _, err := NewExternalAccess(cfg); err == nil {
			t.Errorf("%s: External Access was made", name)
		}
	}
}

// All that is not set has a default that works.
func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	a, err := newAPI("x", Config{BaseURL: "https://h.example", Credentials: demoKeys(), MaxRetries: -1})
	if err != nil {
		t.Fatal(err)
	}
	l := a.sender
	if cap(l.inFlight) != 10 || a.cfg.MaxRetries != 0 || a.cfg.Now == nil || a.cfg.Observer == nil {
		t.Errorf("%d in flight, %+v", cap(l.inFlight), a.cfg)
	}
	if next, ok := l.next.(*timeout); !ok || next.timeout.String() != "5s" {
		t.Errorf("timeout %+v", l.next)
	}
}
