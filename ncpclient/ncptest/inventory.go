package ncptest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
)

// Certificate is a row of the list of all certificates. Dates go out as they are;
// "" is null.
type Certificate struct {
	No         int64
	Name       string
	CommonName string
	StatusCode string
	NotAfter   string
	Used       []string
	// Raw, if set, is the row as it goes out, whatever the other fields say.
	Raw json.RawMessage
}

// SetCertificates replaces all certificates of the inventory.
func (s *Server) SetCertificates(certificates ...Certificate) {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	s.account.certificates = slices.Clone(certificates)
}

// certificates answers the list of all certificates: pages in version 2, all at
// once in version 1.
func (ex *exchange) certificates(w http.ResponseWriter, r *http.Request) {
	account := &ex.server.account
	account.mu.RLock()
	held := account.certificates
	account.mu.RUnlock()
	from, to, total := 0, len(held), "totalRows"
	if ex.route.paged {
		total = "totalCount"
		page, size := ex.route.page, ex.route.size
		if !ex.route.query.Has("page") {
			page = ex.CertificatePagesFrom
		}
		if page < 0 || size < 1 || ex.RefusePageSizeAbove > 0 && size > ex.RefusePageSizeAbove {
			ReturnCode(http.StatusBadRequest, "2100", "Invalid parameter: page or pageSize").ServeHTTP(w, r)
			return
		}
		if ex.MaxPageSize > 0 {
			size = min(size, ex.MaxPageSize)
		}
		// Before the first page comes the first, as from servers that do not mind.
		from = min(max(0, page-ex.CertificatePagesFrom)*size, len(held))
		to = min(from+size, len(held))
	}
	var rows [][]byte
	for i := range held[from:to] {
		rows = append(rows, held[from+i].row(ex.route.paged))
	}
	ex.send(w, func(b []byte) []byte {
		b = append(b, `{"returnCode":"0","returnMessage":"Success","`+total+`":`...)
		b = strconv.AppendInt(b, int64(len(held)), 10)
		b = append(b, `,"sslCertificateList":`...)
		return append(appendArray(b, rows), '}')
	})
}

func (c *Certificate) row(v2 bool) []byte {
	if v2 {
		used := c.Used
		if used == nil {
			used = []string{}
		}
		return rowOf(c.Raw, map[string]any{
			"certificateNo": c.No, "certificateName": c.Name, "commonName": c.CommonName, "dnsName": c.CommonName, "statusCode": c.StatusCode,
			"notAfter": orNull(c.NotAfter), "serialNumber": "0", "usedInstanceNoList": used,
		})
	}
	return rowOf(c.Raw, map[string]any{
		"certificateNo": c.No, "certificateName": c.Name, "domainAddress": c.CommonName, "statusCode": c.StatusCode,
		"validEndDate": orNull(c.NotAfter), "certSerialNumber": "0",
	})
}
