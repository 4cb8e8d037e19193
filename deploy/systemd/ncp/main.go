// Command ncp is a simulated NCP on loopback for a machine that `make systemd-test` boots,
// and the metadata service of a server with a role there.
//
//	GET  /urls                              the flags that lead to it, as variables
//	POST /keys?access=ACCESS&secret=SECRET  the only keys that it accepts from now on
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

const address = "127.0.0.1:9000"

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "ncp:", err)
		os.Exit(1)
	}
}

func serve() error {
	demo := ncptest.NewDemo(ncptest.Config{})
	if err := demo.Start(); err != nil {
		return err
	}
	go demo.Run(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /urls", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "NCP_EXPORTER_NCP_CERTIFICATE_MANAGER_URL=%s\nNCP_EXPORTER_NCP_EXTERNAL_ACCESS_URL=%s\nNCP_EXPORTER_NCP_SERVER_ROLE_URL=http://%s\n",
			demo.CertificateManagerURL(), demo.ExternalAccessURL(), address)
	})
	mux.HandleFunc("POST /keys", func(_ http.ResponseWriter, r *http.Request) {
		demo.SetKeys(ncptest.Key{AccessKey: r.FormValue("access"), SecretKey: r.FormValue("secret")})
	})
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, "role")
	})
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/role", func(w http.ResponseWriter, _ *http.Request) {
		key := demo.Key()
		_, _ = fmt.Fprintf(w, `{"AccessKeyId": %q, "SecretAccessKey": %q}`, key.AccessKey, key.SecretKey)
	})
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: time.Second}
	return server.ListenAndServe()
}
