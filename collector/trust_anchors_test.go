package collector

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

const (
	anchorFamily     = "ncp_external_access_trust_anchor_not_after_timestamp_seconds"
	enabledFamily    = "ncp_external_access_trust_anchor_enabled"
	crlFamily        = "ncp_external_access_trust_anchor_crl_next_update_timestamp_seconds"
	badAnchorsFamily = "ncp_external_access_unreadable_trust_anchors"
	anchorsCollector = "external_access_trust_anchors"
)

func TestTrustAnchors(t *testing.T) {
	w := newWorld(t, worldOptions{expiry: true})
	s := w.scrape(t)
	wantValue(t, s, 1, successFamily, "collector", anchorsCollector)
	wantValue(t, s, 0, badAnchorsFamily)
	w.SetTrustAnchors(
		ncptest.TrustAnchor{ID: "a", Name: "ca \"one\"\n", Enabled: true, NotAfter: "2034-12-31T00:00:00.000+09:00", CRLs: []ncptest.CRL{
			{ID: "3", Enabled: true, NextUpdate: "2026-03-01T00:00:00Z"},
			{ID: "1", Enabled: true, NextUpdate: "2026-02-01T00:00:00Z"},
			{ID: "0", NextUpdate: "2020-02-01T00:00:00Z"}, // disabled
			{ID: "9", Enabled: true, NextUpdate: "soon"},
			{Raw: json.RawMessage(`null`)},
			{Raw: json.RawMessage(`"x"`)},
			{Raw: json.RawMessage(`{"nextUpdateDate":"2026-02-02"}`)},
		}},
		ncptest.TrustAnchor{ID: "b", Name: "ca", NotAfter: "2026-01-02 03:04:05"},
		ncptest.TrustAnchor{ID: "c", NotAfter: "never"},
		ncptest.TrustAnchor{ID: "d", Enabled: true},
		ncptest.TrustAnchor{ID: "d", Enabled: true, NotAfter: "2026-01-02 03:04:05"}, // the same again
		ncptest.TrustAnchor{Raw: json.RawMessage(`{"id":9007199254740993,"NAME":"e","source":{"sourceData":{"notAfterDate":20260102030405}}}`)},
	)
	w.ResetStats()
	s = w.scrape(t)
	expect(t, s, `
		ncp_external_access_trust_anchor_not_after_timestamp_seconds{name="ca \"one\"\n",trust_anchor_id="a"} 2.0511036e+09
		ncp_external_access_trust_anchor_not_after_timestamp_seconds{name="ca",trust_anchor_id="b"} 1.767290645e+09
		ncp_external_access_trust_anchor_not_after_timestamp_seconds{name="e",trust_anchor_id="9007199254740993"} 1.767290645e+09
		ncp_external_access_trust_anchor_enabled{name="",trust_anchor_id="c"} 0
		ncp_external_access_trust_anchor_enabled{name="",trust_anchor_id="d"} 1
		ncp_external_access_trust_anchor_enabled{name="ca \"one\"\n",trust_anchor_id="a"} 1
		ncp_external_access_trust_anchor_enabled{name="ca",trust_anchor_id="b"} 0
		ncp_external_access_trust_anchor_crl_next_update_timestamp_seconds{name="ca \"one\"\n",trust_anchor_id="a"} 1.769904e+09
		ncp_external_access_unreadable_trust_anchors 2
	`, anchorFamily, enabledFamily, crlFamily, badAnchorsFamily)
	wantValue(t, s, 1, successFamily, "collector", anchorsCollector) // a 404 for the CRLs of the last one means that it has none
	if a, c := w.Count(ncptest.TrustAnchors), w.Count(ncptest.CRLs); a != 1 || c != 5 {
		t.Errorf("%d calls for the anchors and %d for their CRLs, want 1 and 5", a, c)
	}
}

// If the key lacks the permission, only this collector fails.
func TestTrustAnchorsWithoutPermission(t *testing.T) {
	for name, fault := range map[string]ncptest.Fault{
		"403":    ncptest.ForOp(ncptest.TrustAnchors, ncptest.EmptyForbidden()),
		"210":    ncptest.ForOp(ncptest.TrustAnchors, ncptest.GatewayError(401, "210", "Permission Denied")),
		"404":    ncptest.ForOp(ncptest.TrustAnchors, ncptest.GatewayError(404, "300", "Not Found")),
		"a page": ncptest.ForOp(ncptest.TrustAnchors, ncptest.HTMLPage(200)),
		"error":  ncptest.ForOp(ncptest.TrustAnchors, ncptest.ReturnCode(200, "9999", "Internal error")),
		"no ids": ncptest.ForOp(ncptest.TrustAnchors, ncptest.Raw(200, "application/json", `[{"name":"x"},1,null,{"trustAnchorId":"a\nb"}]`)),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldOptions{expiry: true})
			put(w.Server, "s")
			w.AddCredentials("s", history(5)...)
			w.SetTrustAnchors(ncptest.TrustAnchor{ID: "a", NotAfter: "2034-12-31"})
			w.scrape(t)
			w.SetFault(fault)
			s := w.scrape(t)
			wantValue(t, s, 0, successFamily, "collector", anchorsCollector)
			wantValue(t, s, 1, successFamily, "collector", "external_access")
			wantValue(t, s, 1, successFamily, "collector", "certificate_manager")
			wantValue(t, s, 4, authFamily, "subject_id", "s", "result", "success")
			for _, family := range []string{anchorFamily, enabledFamily, badAnchorsFamily} {
				wantAbsent(t, s, family)
			}
			w.SetFault(nil)
			wantValue(t, w.scrape(t), 1, successFamily, "collector", anchorsCollector)
		})
	}
}

// An anchor is shown even if its CRLs cannot be read.
func TestCRLsThatFail(t *testing.T) {
	w := newWorld(t, worldOptions{expiry: true, concurrency: 3})
	var anchors []ncptest.TrustAnchor
	for i := range 20 {
		anchors = append(anchors, ncptest.TrustAnchor{ID: strconv.Itoa(i), NotAfter: "2034-12-31", CRLs: []ncptest.CRL{{Enabled: true, NextUpdate: "2026-02-01"}}})
	}
	w.SetTrustAnchors(anchors...)
	w.SetFault(func(r ncptest.Request) (h http.Handler) {
		if r.Op == ncptest.CRLs && (r.AnchorID == "7" || r.AnchorID == "12") {
			h = ncptest.GatewayError(500, "900", "unexpected")
		}
		return h
	})
	s := w.scrape(t)
	wantValue(t, s, 0, successFamily, "collector", anchorsCollector)
	for _, a := range anchors {
		wantValue(t, s, timestamp(time.Date(2034, 12, 30, 15, 0, 0, 0, time.UTC)), anchorFamily, "trust_anchor_id", a.ID)
	}
	wantAbsent(t, s, crlFamily, "trust_anchor_id", "7")
	wantValue(t, s, timestamp(time.Date(2026, 1, 31, 15, 0, 0, 0, time.UTC)), crlFamily, "trust_anchor_id", "8")
	if !strings.Contains(w.log.String(), "the CRLs of 2 of 20 trust anchors") {
		t.Errorf("the log does not say it: %s", w.log)
	}
}
