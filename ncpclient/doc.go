// Package ncpclient is a client for the two NAVER Cloud Platform (NCP) APIs
// that ncp_exporter watches: Certificate Manager and External Access.
//
// It knows nothing of Prometheus and can be used by itself:
//
//	api, err := ncpclient.NewExternalAccess(ncpclient.Config{
//		BaseURL:     "https://externalaccess.apigw.ntruss.com/api/v1",
//		Credentials: ncpclient.StaticCredentials(ncpclient.Keys{AccessKey: a, SecretKey: s}, "my vault"),
//	})
//	subjects, err := api.Subjects(ctx, 100)
//
// Every call is limited, signed, observed and sent by a chain of round
// trippers (transport.go), and tried again where that can help (retry.go).
// What comes back wrong is an *Error that says what to do about it.
package ncpclient
