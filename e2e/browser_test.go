//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

// measure looks at the landing page in a frame of some width, and writes what it
// found into its own page. The page under test has no script of its own.
const measure = `<!doctype html><body><iframe id="f" src="/" style="border:0;width:%dpx;height:2000px"></iframe><pre id="out"></pre><script>
document.getElementById("f").onload = function () {
  const d = this.contentDocument, w = this.contentWindow;
  const rgb = c => c.match(/[\d.]+/g).map(Number);
  const back = e => { for (; e; e = e.parentElement) { const c = rgb(w.getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const contrast = e => { const a = light(rgb(w.getComputedStyle(e).color)), b = light(back(e)); return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); };
  const words = [...d.querySelectorAll("h1,h2,p,a,td span,td time,.state")].filter(e => e.textContent.trim() && e.getClientRects().length);
  const outside = words.filter(e => { const r = e.getBoundingClientRect(); return r.right > d.documentElement.clientWidth + 1 || r.left < -1; });
  document.getElementById("out").textContent = JSON.stringify({
    Width: d.documentElement.clientWidth, Scroll: d.documentElement.scrollWidth, Words: words.length,
    Outside: outside.map(e => e.textContent.slice(0, 40)), Background: light(back(d.body)),
    Pale: words.filter(e => contrast(e) < 4.5).map(e => e.textContent.slice(0, 40) + " " + contrast(e).toFixed(1)),
  });
};
</script>`

// measured is what it found. Light is relative luminance, from 0 to 1.
type measured struct {
	Width, Scroll, Words int
	Outside, Pale        []string
	Background           float64
}

// TestLandingPageInABrowser reads the page at the width of a desktop and of a
// phone, in light and in dark.
func TestLandingPageInABrowser(t *testing.T) {
	t.Parallel()
	chromium := tool(t, "chromium")
	n := simulate(t)
	n.externalAccess.PutSubject(ncptest.Subject{SubjectID: strings.Repeat("long-", 40), X509Subject: "CN=" + strings.Repeat("W", 300) + ", O=<script>", Enabled: true})
	n.externalAccess.SetFault(ncptest.ForSubject(strings.Repeat("long-", 40), ncptest.GatewayError(500, "900", "Unexpected Error")))
	n.certificateManager.AddChanges(ncptest.Change{OrderID: "500", CertificateID: 1, Status: ncptest.StatusValidationTimedOut})
	e := watch(t, n, "--ncp.max-retries=0")
	e.scrape(t)

	exporter, err := url.Parse(e.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(exporter) },
		ModifyResponse: func(r *http.Response) error {
			r.Header.Del("Content-Security-Policy") // it forbids frames, rightly
			return nil
		},
	}
	mux := http.NewServeMux()
	mux.Handle("/", proxy)
	for _, width := range []int{390, 1280} {
		mux.HandleFunc(fmt.Sprintf("/measure-%d", width), func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, measure, width)
		})
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	for _, width := range []int{390, 1280} {
		for scheme, setting := range map[string]string{"dark": "0", "light": "1"} {
			t.Run(fmt.Sprintf("%s at %d", scheme, width), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), bound)
				defer cancel()
				dom, err := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", //nolint:gosec // our own arguments
					"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
					"--user-data-dir="+t.TempDir(), "--hide-scrollbars", "--window-size=1400,2200", "--blink-settings=preferredColorScheme="+setting,
					"--virtual-time-budget=5000", "--dump-dom", fmt.Sprintf("%s/measure-%d", server.URL, width)).Output()
				if err != nil {
					t.Fatalf("chromium: %v", err)
				}
				found := regexp.MustCompile(`<pre id="out">(.+?)</pre>`).FindSubmatch(dom)
				if found == nil {
					t.Fatalf("nothing was measured: %s", dom)
				}
				var m measured
				if err := json.Unmarshal([]byte(html.UnescapeString(string(found[1]))), &m); err != nil {
					t.Fatal(err)
				}
				if m.Width != width || m.Words < 30 {
					t.Fatalf("measured %d words at a width of %d", m.Words, m.Width)
				}
				if m.Scroll > m.Width || len(m.Outside) > 0 {
					t.Errorf("the page is %d wide in a window of %d; outside: %q", m.Scroll, m.Width, m.Outside)
				}
				if len(m.Pale) > 0 {
					t.Errorf("hard to read: %q", m.Pale)
				}
				if dark := m.Background < .1; dark != (scheme == "dark") {
					t.Errorf("the background's luminance is %.2f", m.Background)
				}
			})
		}
	}
}
