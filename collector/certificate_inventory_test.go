package collector

import (
	"encoding/json"
	"fmt"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

const (
	namesFamily        = "ncp_certificate_manager_certificate_info"
	inventoryFamily    = "ncp_certificate_manager_certificate_not_after_timestamp_seconds"
	inUseFamily        = "ncp_certificate_manager_certificate_in_use"
	byStatusFamily     = "ncp_certificate_manager_certificates"
	badDatesFamily     = "ncp_certificate_manager_unreadable_certificate_dates"
	inventoryCollector = "certificate_inventory"
)

func inventoryOf(n int) []ncptest.Certificate {
	all := make([]ncptest.Certificate, n)
	for i := range all {
		all[i] = ncptest.Certificate{No: int64(i + 1), StatusCode: "1", NotAfter: "2026-01-02 12:04:05"}
	}
	return all
}

func TestCertificateInventory(t *testing.T) {
	raw := func(s string) ncptest.Certificate { return ncptest.Certificate{Raw: json.RawMessage(s)} }
	w := newWorld(t, worldOptions{expiry: true})
	w.SetCertificates(
		ncptest.Certificate{No: 9007199254740993, Name: "a \"b\"\n", CommonName: "*.example.com", StatusCode: "1", NotAfter: "2026-01-02 12:04:05", Used: []string{"lb"}},
		raw(`{"certificateNo":"2","certificateName":"소","domainAddress":"v1.example.com","statusCode":2,"validEndDate":1767323045000,"usedInstanceNoList":null}`),
		raw(`{"certificateNo":3,"statusCode":" 3 ","notAfter":"1767323045","usedInstanceNoList":""}`),
		raw(`{"certificateNo":4,"statusName":"REQUEST_REVOKE","notAfter":"2026-01-02T12:04:05+0900","usedInstanceNoList":"1,2"}`),
		raw(`{"certificateNo":5,"statusCode":"-5","notAfter":"2026-01-02T12:04:05+0900"}`),     // revoked
		raw(`{"certificateNo":6,"statusCode":"-6","notAfter":"junk","usedInstanceNoList":[]}`), // deleted
		raw(`{"certificateNo":7,"statusCode":"0","notAfter":null}`),                            // not issued yet
		raw(`{"certificateNo":8,"statusCode":"1","notAfter":null}`),
		raw(`{"certificateNo":9,"statusCode":"-2","notAfter":"1970-01-01 09:00:00"}`),
		raw(`{"certificateNo":10,"statusCode":"-99","notAfter":0}`),
		raw(`{"certificateNo":11,"statusCode":"-11","notAfter":""}`),
		raw(`{"certificateNo":12,"statusCode":"-12"}`), raw(`{"certificateNo":13,"statusCode":"-20"}`), raw(`{"certificateNo":14,"statusCode":-1}`),
		raw(`{"certificateNo":15,"statusCode":{},"usedInstanceNoList":{}}`),
		raw(`{"certificateNo":15,"statusCode":"1","notAfter":"2026-01-02"}`), // the same again
	)
	s := w.scrape(t)
	expect(t, s, `
		ncp_certificate_manager_certificate_info{certificate_id="9007199254740993",common_name="*.example.com",name="a \"b\"\n"} 1
		ncp_certificate_manager_certificate_info{certificate_id="2",common_name="v1.example.com",name="소"} 1
		ncp_certificate_manager_certificate_info{certificate_id="3",common_name="",name=""} 1
		ncp_certificate_manager_certificate_info{certificate_id="4",common_name="",name=""} 1
		ncp_certificate_manager_certificate_info{certificate_id="5",common_name="",name=""} 1
		ncp_certificate_manager_certificate_info{certificate_id="7",common_name="",name=""} 1
		ncp_certificate_manager_certificate_info{certificate_id="8",common_name="",name=""} 1
		ncp_certificate_manager_certificate_info{certificate_id="9",common_name="",name=""} 1
		ncp_certificate_manager_certificate_info{certificate_id="10",common_name="",name=""} 1
		ncp_certificate_manager_certificate_info{certificate_id="11",common_name="",name=""} 1
		ncp_certificate_manager_certificate_info{certificate_id="12",common_name="",name=""} 1
		ncp_certificate_manager_certificate_info{certificate_id="13",common_name="",name=""} 1
		ncp_certificate_manager_certificate_info{certificate_id="14",common_name="",name=""} 1
		ncp_certificate_manager_certificate_info{certificate_id="15",common_name="",name=""} 1
		ncp_certificate_manager_certificate_not_after_timestamp_seconds{certificate_id="9007199254740993",common_name="*.example.com",name="a \"b\"\n"} 1.767323045e+09
		ncp_certificate_manager_certificate_not_after_timestamp_seconds{certificate_id="2",common_name="v1.example.com",name="소"} 1.767323045e+09
		ncp_certificate_manager_certificate_not_after_timestamp_seconds{certificate_id="3",common_name="",name=""} 1.767323045e+09
		ncp_certificate_manager_certificate_not_after_timestamp_seconds{certificate_id="4",common_name="",name=""} 1.767323045e+09
		ncp_certificate_manager_certificate_in_use{certificate_id="9007199254740993"} 1
		ncp_certificate_manager_certificate_in_use{certificate_id="3"} 0
		ncp_certificate_manager_certificate_in_use{certificate_id="4"} 1
		ncp_certificate_manager_certificates{status="deleted"} 1
		ncp_certificate_manager_certificates{status="expire"} 1
		ncp_certificate_manager_certificates{status="failed"} 2
		ncp_certificate_manager_certificates{status="failed_ct"} 1
		ncp_certificate_manager_certificates{status="failed_lint"} 1
		ncp_certificate_manager_certificates{status="normal"} 2
		ncp_certificate_manager_certificates{status="normal_global_edge_dedicated"} 1
		ncp_certificate_manager_certificates{status="normal_unregistered_private_key"} 1
		ncp_certificate_manager_certificates{status="ongoing"} 1
		ncp_certificate_manager_certificates{status="request_revoke"} 1
		ncp_certificate_manager_certificates{status="revoke"} 1
		ncp_certificate_manager_certificates{status="unknown"} 2
		ncp_certificate_manager_certificates{status="validation_expire"} 0
		ncp_certificate_manager_certificates{status="validation_failed"} 0
		ncp_certificate_manager_unreadable_certificate_dates 3
	`, namesFamily, inventoryFamily, inUseFamily, byStatusFamily, badDatesFamily)
	wantValue(t, s, 1, successFamily, "collector", inventoryCollector)
}

// If the key or the site does not allow version 2, version 1 is asked, and from then on
// only version 1.
func TestCertificateInventoryOfVersion1(t *testing.T) {
	sub := ncptest.Key{AccessKey: ncptest.DemoAccessKey, SecretKey: ncptest.DemoSecretKey, SubAccount: true}
	w := newWorld(t, worldOptions{expiry: true, ncp: ncptest.Config{Keys: []ncptest.Key{sub}}})
	w.SetCertificates(append(inventoryOf(250), ncptest.Certificate{No: 999, Name: "n", CommonName: "cn", StatusCode: "1", NotAfter: "2026-01-02", Used: []string{"x"}})...)
	for calls := range 2 {
		w.ResetStats()
		s := w.scrape(t)
		wantValue(t, s, 1, successFamily, "collector", inventoryCollector)
		wantValue(t, s, 0, successFamily, "collector", "certificate_manager") // which needs version 2
		wantValue(t, s, 251, byStatusFamily, "status", "normal")
		wantValue(t, s, 1767279600, inventoryFamily, "name", "n", "common_name", "cn")
		wantAbsent(t, s, inUseFamily) // version 1 does not say
		if got := w.Count(ncptest.Certificates); got != 2-calls {
			t.Errorf("%d calls in scrape %d", got, calls)
		}
	}
	// If version 1 fails, version 2 is asked again.
	w.SetKeys(ncptest.Key{AccessKey: ncptest.DemoAccessKey, SecretKey: ncptest.DemoSecretKey})
	w.SetFault(func() ncptest.Fault {
		return ncptest.Times(1, ncptest.ForOp(ncptest.Certificates, ncptest.GatewayError(404, "300", "gone")))
	}())
	wantValue(t, w.scrape(t), 0, successFamily, "collector", inventoryCollector)
	s := w.scrape(t)
	wantValue(t, s, 1, successFamily, "collector", inventoryCollector)
	wantValue(t, s, 1, inUseFamily, "certificate_id", "999")
}

// Pages may count from 0 or from 1, and a page size may be refused or reduced.
func TestCertificateInventoryPages(t *testing.T) {
	for _, from := range []int{0, 1} {
		for name, cfg := range map[string]ncptest.Config{
			"as asked": {}, "clamped": {MaxPageSize: 30}, "refused": {RefusePageSizeAbove: 20},
		} {
			t.Run(fmt.Sprint(name, " from ", from), func(t *testing.T) {
				cfg.CertificatePagesFrom = from
				w := newWorld(t, worldOptions{expiry: true, ncp: cfg})
				for _, n := range []int{0, 1, 19, 20, 21, 100, 101, 250, 7} {
					w.SetCertificates(inventoryOf(n)...)
					s := w.scrape(t)
					wantValue(t, s, 1, successFamily, "collector", inventoryCollector)
					wantValue(t, s, float64(n), byStatusFamily, "status", "normal")
				}
			})
		}
	}
}

func TestCertificateInventoryThatFails(t *testing.T) {
	for name, fault := range map[string]ncptest.Fault{
		"500":            ncptest.ForOp(ncptest.Certificates, ncptest.EmptyBody(500)),
		"401":            ncptest.ForOp(ncptest.Certificates, ncptest.GatewayError(401, "210", "Permission Denied")),
		"403 everywhere": ncptest.ForOp(ncptest.Certificates, ncptest.EmptyForbidden()),
		"an error":       ncptest.ForOp(ncptest.Certificates, ncptest.ReturnCode(200, "9999", "Internal error")),
		"no list":        ncptest.ForOp(ncptest.Certificates, ncptest.Raw(200, "application/json", `{"returnCode":"0"}`)),
		"a total alone":  ncptest.ForOp(ncptest.Certificates, ncptest.Raw(200, "application/json", `{"returnCode":"0","totalCount":3,"sslCertificateList":[]}`)),
		"fewer rows":     ncptest.ForOp(ncptest.Certificates, ncptest.Raw(200, "application/json", `{"returnCode":"0","totalCount":3,"sslCertificateList":[{"certificateNo":1}]}`)),
		"no ids":         ncptest.ForOp(ncptest.Certificates, ncptest.Raw(200, "application/json", `{"totalCount":1,"sslCertificateList":[{"certificateName":"x"}]}`)),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldOptions{expiry: true})
			w.SetCertificates(inventoryOf(3)...)
			w.scrape(t)
			w.SetFault(fault)
			s := w.scrape(t)
			wantValue(t, s, 0, successFamily, "collector", inventoryCollector)
			for _, other := range []string{"certificate_manager", "external_access", anchorsCollector} {
				wantValue(t, s, 1, successFamily, "collector", other)
			}
			for _, family := range []string{inventoryFamily, inUseFamily, byStatusFamily, badDatesFamily} {
				wantAbsent(t, s, family)
			}
		})
	}
	// An error code that means "no certificates" is no failure.
	for _, code := range []string{"2200", "1006"} {
		w := newWorld(t, worldOptions{expiry: true})
		w.SetFault(ncptest.ForOp(ncptest.Certificates, ncptest.ReturnCode(200, code, "No certificate exists.")))
		s := w.scrape(t)
		wantValue(t, s, 1, successFamily, "collector", inventoryCollector)
		wantValue(t, s, 0, byStatusFamily, "status", "normal")
	}
}
