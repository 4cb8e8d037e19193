package ncpclient

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// Whether pages count from 0 or from 1, and what is behind the last: nobody knows.
func TestCertificatesOverPages(t *testing.T) {
	t.Parallel()
	for _, from := range []int{0, 1} {
		for _, behind := range []string{"empty", "refused", "repeated"} {
			for _, n := range []int{0, 1, 19, 20, 21, 40, 45} {
				server := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					number := 0
					if page := r.URL.Query().Get("page"); page != "" {
						number, _ = strconv.Atoi(page)
						number = max(0, number-from)
					}
					size, _ := strconv.Atoi(r.URL.Query().Get("pageSize"))
					if last := max(0, (n-1)/size); number > last && behind == "repeated" {
						number = last
					} else if number > last && behind == "refused" {
						w.WriteHeader(http.StatusBadRequest)
						return
					}
					var rows []string
					for i := number * size; i < min(n, (number+1)*size); i++ {
						rows = append(rows, fmt.Sprintf(`{"certificateNo":%d,"statusCode":"0"}`, i+1))
					}
					say(w, `{"returnCode":"0","totalCount":%d,"sslCertificateList":[%s]}`, n, strings.Join(rows, ","))
				}))
				api := certificateManagerAt(t, server)
				for read := range 3 {
					list, err := api.Certificates(t.Context(), 20)
					if err != nil || list.Doubt != nil || len(list.Rows) != n {
						t.Errorf("from %d, %s: read %d: %d rows of %d, %v, %v", from, behind, read, len(list.Rows), n, list.Doubt, err)
					}
				}
			}
		}
	}
}
