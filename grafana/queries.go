package grafana

import (
	"fmt"
	"strings"
)

const (
	lastAuthentication = `ncp_external_access_credential_last_authentication_timestamp_seconds`
	authentications    = `ncp_external_access_credential_authentications_total`
	certificateStatus  = `ncp_certificate_manager_certificate_status`
	changedCertificate = `ncp_certificate_manager_recently_changed_certificates`
	certificateInfo    = `ncp_certificate_manager_certificate_info`
	anchorEnabled      = `ncp_external_access_trust_anchor_enabled`
	failureInfo        = `ncp_external_access_credential_last_failure_info`
	subjectInfo        = `ncp_external_access_subject_info`

	// There while a collector can be read, whatever the account has.
	managerRead = `ncp_certificate_manager_lookback_window_seconds`
	accessRead  = `ncp_external_access_subjects`

	// The newest failure in the range. It stays true in scrapes that could not read it,
	// and it includes the first failure of a new subject, which no increase() sees.
	failing = `max by (account, subject_id) (max_over_time(` + lastAuthentication + `{SUBJECT, result="failure"}[$__range])) > time() - $__range_s`

	// One name for each subject, also if the list could not be read for up to a day.
	names = `topk by (account, subject_id) (1, max by (account, subject_id, x509_subject) (last_over_time(` + subjectInfo + `{SUBJECT}[1h]))` +
		` or on (account, subject_id) max by (account, subject_id, x509_subject) (last_over_time(` + subjectInfo + `{SUBJECT}[1d])))`

	// Each exporter's own ratio, and the worst of them. 0 / 0 is left out.
	failureShare = `max by (account, subject_id) (increase(` + authentications + `{SUBJECT, result="failure"}[$__range])` +
		` / ignoring (result) sum without (result) (increase(` + authentications + `{SUBJECT}[$__range]))) >= 0`

	// If no subject is watched, the value is 0; if nothing was read, it is unknown.
	zeroIfWatched = ` or 0 * max(` + accessRead + `{TARGET})`

	// The alerts that somebody has to act on.
	firing = `ALERTS{alertname=~"NCP.*", alertstate="firing", severity=%q}`

	unknown = "unknown"
)

// keyed gives each row of a table that is joined the label key: its account and its
// subject. Accounts may have subjects with the same id.
func keyed(expr string) string {
	return `label_join(` + expr + `, "key", "/", "account", "subject_id")`
}

// byKey is a value for each key, without other labels: in a joined table, each field may
// come from one query only.
func byKey(expr string) string { return `max by (key) (` + keyed(expr) + `)` }

// replaced gives a label the value that is in another one, if that has any.
func replaced(expr, label, from string) string {
	return fmt.Sprintf(`label_replace(%s, %q, "$1", %q, "(.+)")`, expr, label, from)
}

// joined makes one label of several.
func joined(expr, label string, of ...string) string {
	return fmt.Sprintf(`label_join(%s, %q, " ", "%s")`, expr, label, strings.Join(of, `", "`))
}

// labelled gives a label to every series.
func labelled(expr, label, value string) string {
	return fmt.Sprintf(`label_replace(%s, %q, %q, "", "")`, expr, label, value)
}

// notRead is how long each account of a collector has not been read, or how long it is
// scraped if it was not read within a day. Without a label account, an account is a job.
// read is a metric that is there whenever it can be read.
func notRead(read, collector string) string {
	return replaced(`((time() - max by (job, account) (max_over_time(timestamp(`+read+`{TARGET})[1d:1m]))`+
		` or on (job, account) time() - min by (job, account) (min_over_time(timestamp(ncp_scrape_collector_success{TARGET, collector="`+collector+`"})[1d:1m])))`+
		` unless on (job, account) `+read+`{TARGET})`, "account", "job")
}

// changed is how many certificates have a status. What the rules keep of an account that
// cannot be read counts, as it does in the table and the alerts.
func changed(status, recorded string) string {
	return `sum(max by (job, account) (` + changedCertificate + `{TARGET, status="` + status + `"})` +
		` or on (job, account) count by (job, account) (job_certificate:` + certificateStatus + `:` + recorded + `{ACCOUNT} == 1))`
}

// titled adds the column of the account: the job, if there is no account.
func titled(expr string) string {
	return replaced(replaced(expr, "of", "job"), "of", "account")
}

// certificateNames are one name for each certificate: its common name, if it has one. What
// is now comes before what was.
const certificateNames = `label_replace(topk by (account, certificate_id) (1,` +
	` max by (account, certificate_id, name, common_name) (` + certificateInfo + `{TARGET}) or on (account, certificate_id)` +
	` max by (account, certificate_id, name, common_name) (last_over_time(` + certificateInfo + `{TARGET}[1d]))),` +
	` "name", "$1", "common_name", "(.+)")`

const anchorNames = `topk by (account, trust_anchor_id) (1,` +
	` max by (account, trust_anchor_id, name) (` + anchorEnabled + `{TARGET}) or on (account, trust_anchor_id)` +
	` max by (account, trust_anchor_id, name) (last_over_time(` + anchorEnabled + `{TARGET}[1d])))`

// withName joins names to series by the label id. A series whose name is not known stays.
func withName(expr, id, names string) string {
	match := `on (account, ` + id + `) group_left (name) `
	return `(` + expr + ` + ` + match + `0 * ` + names + ` or ignoring (name) ` + expr + `)`
}

// disabled are the trust anchors that nobody can log in with.
const disabled = `max by (account, trust_anchor_id) (last_over_time(` + anchorEnabled + `{TARGET}[1h])) == 0`

// expiries is when each certificate and trust anchor expires, by account, kind, name and
// id: as in the alerts, the earliest date of the last hour.
func expiries() string {
	kind := func(kind, id, name, expr string) string {
		return replaced(replaced(labelled(expr, "kind", kind), "id", id), "what", name)
	}
	earliest := func(labels, metric string) string {
		return `min by (account, ` + labels + `) (min_over_time(` + metric + `[1h]))`
	}
	return `min by (account, kind, what, id) (` +
		kind("certificate", "certificate_id", "name", withName(
			earliest("certificate_id", `ncp_certificate_manager_certificate_not_after_timestamp_seconds{TARGET}`),
			"certificate_id", certificateNames)) + ` or ` +
		kind("client certificate", "subject_id", "x509_subject",
			`(`+named(earliest("subject_id", `ncp_external_access_subject_certificate_not_after_timestamp_seconds{SUBJECT}`))+`)`) + ` or ` +
		kind("trust anchor", "trust_anchor_id", "name", withName(
			`(`+earliest("trust_anchor_id", `ncp_external_access_trust_anchor_not_after_timestamp_seconds{TARGET}`)+
				` unless on (account, trust_anchor_id) `+disabled+`)`,
			"trust_anchor_id", anchorNames)) + `)`
}

// lists is when the list of revoked certificates of each enabled trust anchor expires.
func lists() string {
	return withName(`(min by (account, trust_anchor_id) (last_over_time(ncp_external_access_trust_anchor_crl_next_update_timestamp_seconds{TARGET}[1h]))`+
		` unless on (account, trust_anchor_id) `+disabled+`)`, "trust_anchor_id", anchorNames)
}

// unvalidated is how long each certificate has not been validated. It is first seen within
// two days, as Certificate Manager tells a change of status for a day, and what the rules
// keep stays for one more. Accounts that cannot be read are told too.
func unvalidated() string {
	const (
		by   = `by (account, order_id, certificate_id, status) `
		on   = `on (account, order_id, certificate_id) `
		seen = certificateStatus + `{TARGET, status!="normal"}`
	)
	kept := func(recorded, status string) string {
		return labelled(`max by (account, order_id, certificate_id) (job_certificate:`+certificateStatus+`:`+recorded+`{ACCOUNT} == 1)`, "status", status)
	}
	since := `(min ` + by + `(min_over_time(timestamp(` + seen + `)[2d:1m])) or min ` + by + `(timestamp(` + seen + `)))`
	now := `(max ` + by + `(` + seen + `) or ` + on + kept("timed_out", "validation_timed_out") + ` or ` + on + kept("ongoing", "ongoing") + `)`
	return withName(`(time() - `+since+` and on (account, order_id, certificate_id, status) `+now+`)`, "certificate_id", certificateNames) +
		` or ` + labelled(notRead(managerRead, "certificate_manager"), "status", "not read")
}

// failedCertificates are issuer and serial number of the certificate with which each
// subject failed last.
const failedCertificates = `topk by (account, subject_id) (1,` +
	` max by (account, subject_id, issuer, serial_number) (` + failureInfo + `{SUBJECT}) or on (account, subject_id)` +
	` max by (account, subject_id, issuer, serial_number) (last_over_time(` + failureInfo + `{SUBJECT}[1d])))`

// commonName leaves the common name of an X.509 name, if it has one.
func commonName(expr, label string) string {
	return fmt.Sprintf(`label_replace(%s, %q, "$1", %q, "(?:.*, *)?CN=([^,]+).*")`, expr, label, label)
}

// ofFailing restricts a query to the subjects that fail.
func ofFailing(expr string) string { return expr + ` and on (account, subject_id) (` + failing + `)` }

// named gives each subject its X.509 name, or its id if it has none.
func named(expr string) string {
	return expr + ` * on (account, subject_id) group_left (x509_subject) ` + names +
		` or label_replace(` + expr + `, "x509_subject", "$1", "subject_id", "(.+)") unless on (account, subject_id) ` + names
}

// watched are the subjects with their names: those of now, and the last ones of an account
// that cannot be read.
const watched = `topk by (account, subject_id) (1, max by (account, subject_id, x509_subject, enabled) (` + subjectInfo + `{SUBJECT})` +
	` or on (account, subject_id) max by (account, subject_id, x509_subject, enabled) (` +
	`last_over_time(` + subjectInfo + `{SUBJECT}[1d]) unless on (job, account) ` + accessRead + `{TARGET}))`

// alertsWithNames are the alerts that fire or are pending, with the name of what they are
// about, and since when. Not all alerts have the labels job and instance, so the query
// does not select by them.
func alertsWithNames() string {
	const (
		since = `(ALERTS{alertname=~"NCP.*"} * ignoring (alertstate) group_left () ALERTS_FOR_STATE{alertname=~"NCP.*"})`
		names = `group_left (name) job_kind:ncp_certificate_name_info:last1d`
	)
	return since + ` * on (job, account, certificate_id) ` + names + `{kind="certificate"}` +
		` or ` + since + ` * on (job, account, trust_anchor_id) ` + names + `{kind="trust anchor"}` +
		` or ignoring (name) ` + since
}
