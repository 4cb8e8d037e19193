package grafana

import "fmt"

const (
	oncallUID   = "ncp-oncall"
	exporterUID = "ncp-exporter"
)

const (
	lastAuthentication = `ncp_external_access_credential_last_authentication_timestamp_seconds`
	authentications    = `ncp_external_access_credential_authentications_total`
	certificateStatus  = `ncp_certificate_manager_certificate_status`
	changedCertificate = `ncp_certificate_manager_recently_changed_certificates`

	// The newest failure in the range. It stays true in scrapes that could not read it,
	// and it includes the first failure of a new subject, which no increase() sees.
	failing = `max by (account, subject_id) (max_over_time(` + lastAuthentication + `{SUBJECT, result="failure"}[$__range])) > time() - $__range_s`

	// One name for each subject, also if the list could not be read for up to an hour.
	names = `topk by (account, subject_id) (1, max by (account, subject_id, x509_subject) (last_over_time(ncp_external_access_subject_info{SUBJECT}[1h])))`

	// Each exporter's own ratio, and the worst of them. 0 / 0 is left out.
	failureShare = `max by (account, subject_id) (increase(` + authentications + `{SUBJECT, result="failure"}[$__range])` +
		` / ignoring (result) sum without (result) (increase(` + authentications + `{SUBJECT}[$__range]))) >= 0`

	// If no subject is watched, the value is 0; if nothing was read, it is unknown.
	zeroIfWatched = ` or 0 * max(ncp_external_access_subjects{TARGET})`

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

// expiries is when each certificate and trust anchor expires, by account, kind, name and id.
// Disabled trust anchors are left out: nobody can log in with their certificates.
func expiries() string {
	kind := func(kind, id, name, expr string) string {
		return `label_replace(label_replace(label_replace(` + expr +
			`, "kind", "` + kind + `", "", ""), "id", "$1", "` + id + `", "(.+)"), "what", "$1", "` + name + `", "(.+)")`
	}
	return `min by (account, kind, what, id) (` +
		kind("certificate", "certificate_id", "common_name",
			`min by (account, certificate_id, common_name) (ncp_certificate_manager_certificate_not_after_timestamp_seconds{TARGET})`) + ` or ` +
		kind("client certificate", "subject_id", "x509_subject",
			`(`+named(`min by (account, subject_id) (ncp_external_access_subject_certificate_not_after_timestamp_seconds{SUBJECT})`)+`)`) + ` or ` +
		kind("trust anchor", "trust_anchor_id", "name",
			`(min by (account, trust_anchor_id, name) (ncp_external_access_trust_anchor_not_after_timestamp_seconds{TARGET})`+
				` unless on (account, trust_anchor_id) max by (account, trust_anchor_id) (ncp_external_access_trust_anchor_enabled{TARGET}) == 0)`) + `)`
}

// ofFailing restricts a query to the subjects that fail.
func ofFailing(expr string) string { return expr + ` and on (account, subject_id) (` + failing + `)` }

// named gives each subject its X.509 name, or its id if it has none.
func named(expr string) string {
	return expr + ` * on (account, subject_id) group_left (x509_subject) ` + names +
		` or label_replace(` + expr + `, "x509_subject", "$1", "subject_id", "(.+)") unless on (account, subject_id) ` + names
}

func runbook(alert string) []Link {
	return []Link{{Title: "Runbook", URL: "${runbooks}#" + alert, TargetBlank: true}}
}

// statuses are the words and colours of a validation's status.
func statuses() []Mapping {
	return shown(
		"validation_timed_out", "timed out", "red",
		"ongoing", "ongoing", "orange",
		"unknown", "unknown", "purple",
		"normal", "normal", "green",
	)
}

// oncall is the dashboard for people on call. An account is a job with a label account,
// if it has one, as in the rules: the exporters of one account see the same numbers, and
// the numbers of several accounts add up.
func oncall() *Dashboard {
	p := []Panel{
		stat("Alerts firing", "Alerts of the exporter's rules that fire now; the table below lists them. Also 0 if Prometheus does not have these rules.",
			at(0, 0, 3, 4), `count(ALERTS{alertname=~"NCP.*", alertstate="firing"}) or vector(0)`,
			Field{Unit: "none", Thresholds: steps("green", 1.0, "red")}),
		stat("Certs timed out", "Certificates in the look-back window whose validation timed out. Nothing happens by itself: they need a new order.",
			at(3, 0, 3, 4), `sum(max by (job, account) (`+changedCertificate+`{TARGET, status="validation_timed_out"}))`,
			Field{Unit: "none", NoValue: unknown, Thresholds: steps("green", 1.0, "red")}),
		stat("Certs ongoing", "Certificates in the look-back window whose validation is ongoing. That is normal for a while; the table below shows since when.",
			at(6, 0, 3, 4), `sum(max by (job, account) (`+changedCertificate+`{TARGET, status="ongoing"}))`,
			Field{Unit: "none", NoValue: unknown, Thresholds: steps("green", 1.0, "blue")}),
		stat("Subjects failing", "Subjects that failed to log in at least once in the range of this dashboard.",
			at(9, 0, 3, 4), `count(`+failing+`)`+zeroIfWatched,
			Field{Unit: "none", NoValue: unknown, Thresholds: steps("green", 1.0, "orange")}),
		stat("Failed logins", "Failed logins of all subjects in the range of this dashboard.",
			at(12, 0, 3, 4), `round(sum(max by (account, subject_id) (increase(`+authentications+`{SUBJECT, result="failure"}[$__range]))))`+zeroIfWatched,
			Field{Unit: "short", NoValue: unknown, Thresholds: steps("green", 1.0, "orange")}),
		stat("Worst share", "The largest share of failed logins of a single subject in the range of this dashboard.",
			at(15, 0, 3, 4), `max(`+failureShare+`)`+zeroIfWatched,
			Field{Unit: "percentunit", Decimals: count(0), NoValue: unknown, Thresholds: steps("green", 0.05, "orange", 0.5, "red")}),
		stat("Collectors", "Whether at least one exporter of each account read everything from NCP in the last scrape. If not, numbers on this dashboard may be old or missing.",
			at(18, 0, 3, 4), `min(max by (job, account, collector) (ncp_scrape_collector_success{TARGET}))`,
			Field{Unit: "none", NoValue: "not scraped", Mappings: shown("1", "all read", "green", "0", "failing", "red"), Thresholds: steps("red", 1.0, "green")}),
		stat("Oldest numbers", "How long ago the history of the longest waiting subject was read whole.",
			at(21, 0, 3, 4), `max(time() - max by (account, subject_id) (ncp_external_access_subject_refresh_timestamp_seconds{SUBJECT}))`+zeroIfWatched,
			Field{Unit: "s", Decimals: count(0), NoValue: unknown, Thresholds: steps("green", 300.0, "orange", 900.0, "red")}),

		table("Certificates not validated", "Every certificate in the look-back window whose validation is ongoing, timed out or in an unknown state, and how long it has been so "+
			"(at most since the start of the range). Also empty with --no-collector.certificate-manager.per-certificate.",
			at(0, 4, 7, 8), "No validation is ongoing or timed out, as far as NCP could be read", "",
			[]column{
				{from: "status", title: "Status", width: 100, properties: []Property{prop("mappings", statuses()), colored()}},
				{from: "account", title: "Account", width: 110},
				{from: "order_id", title: "Order", width: 90},
				{from: "certificate_id", title: "Certificate", width: 110},
				{from: "Value", title: "Seen so since", properties: []Property{ago()}},
			},
			[]any{sorted("Status", true), sorted("Seen so since", false)},
			rows(`min by (account, order_id, certificate_id, status) (min_over_time(timestamp(`+certificateStatus+`{TARGET, status!="normal"})[$__range:$__interval])) * 1000`+
				` and on (account, order_id, certificate_id, status) `+certificateStatus+`{TARGET, status!="normal"}`),
		),
		table("Who fails to log in", "Every subject with a failed login in the range of this dashboard: number and share of its failures, first and last failure, and last success.",
			at(7, 4, 17, 8), "Nobody failed to log in, as far as NCP could be read", "key",
			[]column{
				{from: "key"},
				{from: "account", title: "Account", width: 110},
				{from: "x509_subject", title: "Subject"},
				{from: "Value #B", title: "Failures", width: 80, properties: []Property{prop("unit", "short"), prop("decimals", 0)}},
				{from: "Value #C", title: "Share", width: 105, properties: []Property{
					prop("unit", "percentunit"), prop("decimals", 0), prop("min", 0), prop("max", 1),
					prop("thresholds", steps("green", 0.05, "orange", 0.5, "red")),
					prop("custom.cellOptions", map[string]any{"type": "gauge", "mode": "basic", "valueDisplayMode": "color"}),
				}},
				{from: "Value #D", title: "First failure", width: 135, properties: []Property{ago()}},
				{from: "Value #A", title: "Last failure", width: 135, properties: []Property{ago()}},
				{from: "Value #E", title: "Last success", width: 135, properties: []Property{ago()}},
				{from: "Value #F"},
				{from: "subject_id", title: "Subject id", width: 110},
			},
			[]any{sorted("Failures", true), sorted("Share", true)},
			rows(byKey(`(`+failing+`) * 1000`)),
			// At least one: a counter that begins with a failure shows no increase.
			rows(byKey(ofFailing(`clamp_min(round(max by (account, subject_id) (increase(`+authentications+`{SUBJECT, result="failure"}[$__range]))), 1)`))),
			rows(byKey(ofFailing(`(`+failureShare+`)`))),
			rows(byKey(ofFailing(`min by (account, subject_id) (min_over_time((`+lastAuthentication+`{SUBJECT, result="failure"} > ${__from} / 1000)[$__range:$__interval])) * 1000`))),
			rows(byKey(ofFailing(`max by (account, subject_id) (max_over_time(`+lastAuthentication+`{SUBJECT, result="success"}[$__range])) * 1000`))),
			rows(keyed(ofFailing(names))),
		),

		alerts(at(0, 12, 24, 7)),

		table("What expires next", "Certificates of Certificate Manager (with --collector.certificate-inventory), the certificate that each subject presented last, and enabled trust anchors, by the time that is left.",
			at(0, 19, 24, 8), "Nothing is known to expire, as far as NCP could be read", "",
			[]column{
				{from: "Value", title: "Left", width: 130, properties: []Property{
					prop("unit", "s"), prop("decimals", 0), prop("thresholds", steps("red", 604800.0, "orange", 2592000.0, "green")), colored(),
				}},
				{from: "kind", title: "Kind", width: 150},
				{from: "account", title: "Account", width: 110},
				{from: "what", title: "Name"},
				{from: "id", title: "Id", width: 310},
			},
			[]any{sorted("Left", false)},
			rows(expiries()+` - time()`),
		),

		graph("Certificates by status", "Certificates in the look-back window by the status of their validation. A certificate leaves the window when it has not changed for that time; it still exists.",
			at(0, 27, 9, 8), Field{Unit: "none", Decimals: count(0), Min: number(0), NoValue: "Certificate Manager was not read", Custom: stacked("line")},
			series(`sum by (status) (max by (job, account, status) (`+changedCertificate+`{TARGET}))`, "{{status}}"),
		).override("validation_timed_out", fixed("red"), prop("displayName", "timed out")).
			override("ongoing", fixed("orange")).
			override("unknown", fixed("purple")).
			override("normal", fixed("green")),
		graph("Failed logins by subject", "Failed logins a minute, one colour for each subject that failed.",
			at(9, 27, 15, 8), Field{Unit: "cpm", Decimals: count(1), Min: number(0), NoValue: "No login failed, as far as NCP could be read", Custom: stacked("bars")},
			series(named(`(60 * max by (account, subject_id) (rate(`+authentications+`{SUBJECT, result="failure"}[$__rate_interval])) > 0)`), "{{x509_subject}} {{account}}"),
		).legend("max"),

		table("All subjects", "Every watched subject: last success, last failure, number of logins, and how fresh its numbers are.",
			at(0, 35, 24, 9), "No subject is watched, as far as NCP could be read", "key",
			[]column{
				{from: "key"},
				{from: "account", title: "Account", width: 110},
				{from: "x509_subject", title: "Subject"},
				{from: "enabled", title: "Enabled", width: 80, properties: []Property{
					prop("mappings", shown("true", "yes", "text", "false", "no", "orange")), colored(),
				}},
				{from: "Value #B", title: "Last success", width: 140, properties: []Property{ago()}},
				{from: "Value #C", title: "Last failure", width: 140, properties: []Property{ago()}},
				{from: "Value #D", title: "Logins in range", width: 130, properties: []Property{prop("unit", "short"), prop("decimals", 0)}},
				{from: "Value #E", title: "Failed", width: 120, properties: []Property{
					prop("unit", "percentunit"), prop("decimals", 1), prop("min", 0), prop("max", 1),
					prop("thresholds", steps("green", 0.05, "orange", 0.5, "red")), colored(),
				}},
				{from: "Value #F", title: "Read whole", width: 140, properties: []Property{ago()}},
				{from: "Value #G", title: "Last read", width: 90, properties: []Property{
					prop("mappings", shown("1", "whole", "green", "0", "failed", "red")), colored(),
				}},
				{from: "Value #A"},
				{from: "subject_id", title: "Subject id", width: 310},
			},
			[]any{sorted("Failed", true)},
			rows(keyed(`topk by (account, subject_id) (1, max by (account, subject_id, x509_subject, enabled) (ncp_external_access_subject_info{SUBJECT}))`)),
			rows(byKey(lastAuthentication+`{SUBJECT, result="success"} * 1000`)),
			rows(byKey(lastAuthentication+`{SUBJECT, result="failure"} * 1000`)),
			rows(byKey(`round(sum without (result) (increase(`+authentications+`{SUBJECT}[$__range])))`)),
			rows(byKey(failureShare)),
			rows(byKey(`ncp_external_access_subject_refresh_timestamp_seconds{SUBJECT} * 1000`)),
			rows(byKey(`ncp_external_access_subject_refresh_success{SUBJECT}`)),
		),
	}
	return dashboard(oncallUID, "NCP / On call",
		"What is wrong now: which certificate and which subject, since when.",
		toDashboard(exporterUID, "Exporter and API budget", "Can these numbers be trusted?"), p...)
}

// alerts is the table of alerts that fire or are pending. Not all alerts have the labels
// job and instance, so the query does not select by them.
func alerts(pos GridPos) Panel {
	return table("Alerts", "Alerts of the exporter's rules that fire or are pending, their labels, and since when. The name links to the runbook.",
		pos, "No alert is firing or pending", "",
		[]column{
			{from: "alertname", title: "Alert", width: 290, properties: []Property{prop("links", runbook("${__value.text}"))}},
			{from: "severity", title: "Severity", width: 85, properties: []Property{
				prop("mappings", shown("1", "critical", "red", "2", "warning", "orange", "3", "info", "blue")), colored(),
			}},
			{from: "alertstate", title: "State", width: 80, properties: []Property{
				prop("mappings", shown("firing", "firing", "red", "pending", "pending", "text")), colored(),
			}},
			{from: "Value", title: "Since", width: 140, properties: []Property{ago()}},
			{from: "account", title: "Account", width: 110},
			{from: "order_id", title: "Order", width: 80},
			{from: "certificate_id", title: "Certificate", width: 100},
			{from: "x509_subject", title: "Subject"},
			{from: "subject_id", title: "Subject id", width: 150},
			{from: "kind", title: "Kind", width: 130},
			{from: "name", title: "Name", width: 130},
			{from: "trust_anchor_id", title: "Trust anchor", width: 150},
			{from: "in_use", title: "In use", width: 70},
			{from: "collector", title: "Collector", width: 150},
			{from: "api", title: "API", width: 150},
			{from: "instance", title: "Instance", width: 180},
		},
		[]any{sorted("State", false), sorted("Severity", false), sorted("Since", false)},
		// Severities are numbered: sorted by name, info would come before warning.
		rows(numbered(`ALERTS{alertname=~"NCP.*"} * ignoring (alertstate) group_left () ALERTS_FOR_STATE{alertname=~"NCP.*"} * 1000`,
			"severity", "critical", "warning", "info")),
	)
}

// numbered replaces the values of a label by numbers, so that they sort in this order.
func numbered(expr, label string, values ...string) string {
	for i, value := range values {
		expr = fmt.Sprintf("label_replace(%s, %q, \"%d\", %q, %q)", expr, label, i+1, label, value)
	}
	return expr
}
