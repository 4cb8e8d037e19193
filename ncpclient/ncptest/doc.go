// Package ncptest is a simulated NAVER Cloud Platform on loopback, for tests,
// benchmarks and the exporter's demo mode.
//
// A [Server] answers the operations that the exporter reads: recentChanges of
// Certificate Manager 2.0, and subjects and their credentials of External
// Access. It stands on the gateway's side of the wire: it checks signatures with
// code of its own, so that a mistake in the client cannot agree with itself, and
// it refuses what the real gateway refuses.
//
// Three things can be set apart from each other: what the account holds
// (SetChanges, PutSubject, AddCredentials), how the service behaves ([Config]:
// order of rows, page sizes, latency, rate limit, lies about totals), and how a
// single request fails (SetFault, with a handler for each known way to fail).
// [Demo] is a Server whose account lives.
//
// The facts that it imitates are guesses where no document tells them; such
// choices are said where they are made.
package ncptest

import _ "embed" // the recorded answers below

//go:embed testdata/recent_changes.json
var documentedRecentChanges string

//go:embed testdata/credentials.json
var documentedCredentials string

// DocumentedRecentChanges is the example answer of recentChanges in the guide.
func DocumentedRecentChanges() []byte { return []byte(documentedRecentChanges) }

// DocumentedCredentials is the example page of credentials in the guide.
func DocumentedCredentials() []byte { return []byte(documentedCredentials) }
