package grafana

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	oncallUID   = "ncp-oncall"
	exporterUID = "ncp-exporter"
)

// statuses are the words and colours of a validation's status.
func statuses() []Mapping {
	return shown(
		"validation_timed_out", "timed out", "red",
		"ongoing", "ongoing", "blue",
		"unknown", "unknown", "purple",
		"not read", "not read", "purple",
		"normal", "normal", "green",
	)
}

// left shows how much time is left, in the colours of the alerts about that.
func left(red, orange float64) []Property {
	return []Property{
		prop("unit", "dtdhms"), prop("decimals", 0), prop("thresholds", steps("red", red, "orange", orange, "green")), colored(),
		// What is not known is below every threshold.
		prop("mappings", []Mapping{missing("–", "text", 0)}),
	}
}

func runbook(anchor string) []Link {
	return []Link{{Title: "Runbook", URL: "${runbooks}#" + anchor, TargetBlank: true}}
}

// share shows how much of all is bad.
func share() []Property {
	return []Property{
		prop("unit", "percentunit"), prop("decimals", 0), prop("min", 0), prop("max", 1),
		prop("thresholds", steps("text", 0.1, "orange")), colored(),
	}
}

func counted() []Property { return []Property{prop("unit", "short"), prop("decimals", 0)} }

const (
	day   = 86400.0
	week  = 7 * day
	month = 30 * day
)

// oncall is the dashboard for people on call. An account is a job with a label account,
// if it has one, as in the rules: the exporters of one account see the same numbers, and
// the numbers of several accounts add up.
func oncall(actions map[string]string) *Dashboard {
	alerting := func(severity string) string {
		return fmt.Sprintf(`count(`+firing+`) or 0 * count(ALERTS{alertname=~"NCP.*"}) or 0 * count(job_instance_collector:ncp_scrape_collector_success:avg15m{ACCOUNT})`, severity)
	}
	p := []Panel{
		stat("Critical", "Alerts that are to wake somebody up. The table below lists them. Unknown: the rules are not loaded, or no exporter was ever scraped.",
			at(0, 0, 4, 4), alerting("critical"),
			Field{Unit: "none", NoValue: unknown, Thresholds: steps("green", 1.0, "red")}),
		stat("Warnings", "Alerts for working hours. The table below lists them. Unknown: the rules are not loaded, or no exporter was ever scraped.",
			at(4, 0, 4, 4), alerting("warning"),
			Field{Unit: "none", NoValue: unknown, Thresholds: steps("green", 1.0, "orange")}),
		stat("Timed out", "Certificates in the look-back window whose validation timed out. Nothing happens by itself: the validation must be started again. While Certificate Manager cannot be read, what the rules keep.",
			at(8, 0, 4, 4), changed("validation_timed_out", "timed_out"),
			Field{Unit: "none", NoValue: unknown, Thresholds: steps("green", 1.0, "red")}),
		stat("Ongoing", "Certificates in the look-back window whose validation is ongoing. That is normal for a while; the table below shows for how long. While Certificate Manager cannot be read, what the rules keep.",
			at(12, 0, 4, 4), changed("ongoing", "ongoing"),
			Field{Unit: "none", NoValue: unknown, Thresholds: steps("green", 1.0, "blue")}),
		stat("Failing in range", "Subjects that failed to log in at least once in the range of this dashboard.",
			at(16, 0, 5, 4), `count(`+failing+`)`+zeroIfWatched,
			Field{Unit: "none", NoValue: unknown, Thresholds: steps("green", 1.0, "orange")}),
		stat("NCP", "Whether at least one exporter of each account read everything from NCP in the last scrape. An account that was scraped within a day counts. If not, numbers on this dashboard may be old or missing.",
			at(21, 0, 3, 4), `min(max by (job, account, collector) (ncp_scrape_collector_success{TARGET}) or 0 * max by (job, account, collector) (last_over_time(ncp_scrape_collector_success{TARGET}[1d])))`,
			Field{Unit: "none", NoValue: "not scraped", Mappings: shown("1", "all read", "green", "0", "not all read", "red"), Thresholds: steps("red", 1.0, "green")}),

		alerts(at(0, 4, 24, 12), actions),

		table("Who failed to log in, in this range", "Every subject with a failed login in the range of this dashboard. Failing for: since the first failure after a day without one. "+
			"What is left is of the subject's own certificate, the earliest of the last hour; serial number and issuer are of the certificate that failed last.",
			at(0, 16, 24, 10), "No failed login is known in this range", "key",
			[]column{
				{from: "key"},
				{from: "x509_subject", title: "Subject", width: 270, properties: wrapped()},
				{from: "Value #D", title: "Failing for", width: 110, properties: []Property{lasting()}},
				{from: "Value #E", title: "Certificate left", width: 145, properties: left(week, month)},
				{from: "serial_number", title: "Failed with serial", width: 195, properties: wrapped()},
				{from: "issuer", title: "of issuer", width: 150, properties: wrapped()},
				{from: "account", title: "Account", width: 95},
				{from: "Value #B", title: "Failures", width: 95, properties: counted()},
				{from: "Value #C", title: "Share", width: 75, properties: share()},
				{from: "Value #A", title: "Last failure", width: 105, properties: []Property{lasting()}},
				{from: "Value #F", title: "Last success", width: 110, properties: []Property{lasting()}},
				{from: "Value #G"},
				{from: "Value #H"},
				{from: "subject_id", title: "Subject id", width: 315},
			},
			[]any{sorted("Failures", true), sorted("Share", true)},
			rows(byKey(`time() - (`+failing+`)`)),
			// At least one: a counter that begins with a failure shows no increase.
			rows(byKey(ofFailing(`clamp_min(round(max by (account, subject_id) (increase(`+authentications+`{SUBJECT, result="failure"}[$__range]))), 1)`))),
			rows(byKey(ofFailing(`(`+failureShare+`)`))),
			rows(byKey(ofFailing(`time() - min by (account, subject_id) (job_subject:ncp_external_access_credential_failing_since_timestamp_seconds:last1d{ACCOUNT, subject_id=~"$subject"})`))),
			rows(byKey(ofFailing(`min by (account, subject_id) (min_over_time(ncp_external_access_subject_certificate_not_after_timestamp_seconds{SUBJECT}[1h])) - time()`))),
			rows(byKey(ofFailing(`time() - max by (account, subject_id) (max_over_time(`+lastAuthentication+`{SUBJECT, result="success"}[1d]))`))),
			rows(commonName(`max by (key, issuer, serial_number) (`+keyed(ofFailing(failedCertificates))+`)`, "issuer")),
			rows(keyed(ofFailing(names)+` or `+labelled(notRead(accessRead, "external_access"), "x509_subject", "Not read: some may be missing"))),
		),

		table("Certificates not validated", "Every certificate in the look-back window whose validation is ongoing, timed out or in an unknown state, and for how long (two days at most). "+
			"An account whose Certificate Manager is not read has a row of its own; what the rules keep of it stays. Certificates are missing with --no-collector.certificate-manager.per-certificate.",
			at(0, 26, 12, 9), "No certificate is known whose validation is ongoing or timed out", "",
			[]column{
				{from: "status", title: "Status", width: 90, properties: []Property{prop("mappings", statuses()), colored()}},
				{from: "certificate", title: "Certificate", width: 200, properties: wrapped()},
				{from: "Value", title: "For", width: 105, properties: []Property{lasting()}},
				{from: "account", title: "Account", width: 85},
				{from: "order_id", title: "Order"},
				{from: "name"},
				{from: "certificate_id"},
			},
			[]any{sorted("Status", true), sorted("For", true)},
			rows(joined(unvalidated(), "certificate", "name", "certificate_id")),
		),
		table("What expires next", "Certificates of Certificate Manager, the certificate that each subject presented last, and enabled trust anchors, by the time that is left: as in the alerts, by the earliest date of the last hour.",
			at(12, 26, 12, 9), "No date is known that was read within an hour", "",
			[]column{
				{from: "Value", title: "Left", width: 145, properties: left(week, month)},
				{from: "what", title: "Name", width: 190, properties: wrapped()},
				{from: "thing", title: "Kind, account", width: 140, properties: wrapped()},
				{from: "id", title: "Id", width: 315},
				{from: "kind"},
				{from: "account"},
			},
			[]any{sorted("Left", false)},
			rows(commonName(joined(expiries()+` - time()`, "thing", "kind", "account"), "what")),
		),

		graph("Certificates by status", "Certificates in the look-back window by the status of their validation. A certificate leaves the window when it has not changed for that time; it still exists.",
			at(0, 35, 8, 8), Field{Unit: "none", Decimals: count(0), Min: number(0), NoValue: "Certificate Manager was not read", Custom: upTo1(stacked("line"))},
			series(`sum by (status) (max by (job, account, status) (`+changedCertificate+`{TARGET}))`, "{{status}}"),
		).override("validation_timed_out", fixed("red"), prop("displayName", "timed out")).
			override("ongoing", fixed("blue")).
			override("unknown", fixed("purple")).
			override("normal", fixed("green")),
		graph("Failed logins by subject", "Failed logins a minute, one shade for each subject that failed.",
			at(8, 35, 8, 8), Field{
				Unit: "cpm", Decimals: count(1), Min: number(0), NoValue: "No failed login is known", Custom: stacked("bars"),
				Color: &Color{Mode: "shades", FixedColor: "orange"},
			},
			series(named(`(60 * max by (account, subject_id) (rate(`+authentications+`{SUBJECT, result="failure"}[$__rate_interval])) > 0)`), "{{account}} {{x509_subject}}"),
		),
		table("Lists of revoked certificates", "When the next list (CRL) of each enabled trust anchor expires, as last read within an hour.",
			at(16, 35, 8, 8), "No list is known that was read within an hour", "",
			[]column{
				{from: "Value", title: "Left", width: 145, properties: left(0, day)},
				{from: "anchor", title: "Trust anchor", width: 165, properties: wrapped()},
				{from: "trust_anchor_id", title: "Id", width: 315},
				{from: "name"},
				{from: "account"},
			},
			[]any{sorted("Left", false)},
			rows(joined(lists()+` - time()`, "anchor", "name", "account")),
		),

		table("All subjects", "Every watched subject: last success, last failure, number of logins, and how fresh its numbers are. What is known of an account that cannot be read stays for a day. "+
			"First read: how much of a long history was read so far.",
			at(0, 43, 24, 9), "No watched subject is known", "key",
			[]column{
				{from: "key"},
				{from: "x509_subject", title: "Subject", width: 290, properties: wrapped()},
				{from: "account", title: "Account", width: 95},
				{from: "Value #B", title: "Last success", width: 110, properties: []Property{lasting()}},
				{from: "Value #C", title: "Last failure", width: 110, properties: []Property{lasting()}},
				{from: "Value #D", title: "Logins in range", width: 125, properties: counted()},
				{from: "Value #E", title: "Failed in range", width: 145, properties: share()},
				{from: "Value #G", title: "Last read", width: 85, properties: []Property{
					prop("mappings", shown("1", "whole", "green", "0", "failed", "red")), colored(),
				}},
				{from: "Value #F", title: "Read whole", width: 105, properties: []Property{lasting()}},
				{from: "Value #H", title: "First read", width: 90, properties: []Property{prop("unit", "percentunit"), prop("decimals", 0)}},
				{from: "enabled", title: "Enabled", width: 75, properties: []Property{
					prop("mappings", shown("true", "yes", "text", "false", "disabled", "orange")), colored(),
				}},
				{from: "Value #A"},
				{from: "subject_id", title: "Subject id", width: 315},
			},
			[]any{sorted("Failed in range", true)},
			rows(keyed(watched)),
			rows(byKey(`time() - max by (account, subject_id) (last_over_time(`+lastAuthentication+`{SUBJECT, result="success"}[1d]))`)),
			rows(byKey(`time() - max by (account, subject_id) (last_over_time(`+lastAuthentication+`{SUBJECT, result="failure"}[1d]))`)),
			rows(byKey(`round(sum without (result) (increase(`+authentications+`{SUBJECT}[$__range])))`)),
			rows(byKey(failureShare)),
			rows(byKey(`time() - max by (account, subject_id) (last_over_time(ncp_external_access_subject_refresh_timestamp_seconds{SUBJECT}[1d]))`)),
			rows(byKey(`ncp_external_access_subject_refresh_success{SUBJECT}`)),
			rows(byKey(`ncp_external_access_first_read_progress_ratio{SUBJECT}`)),
		),
	}
	return dashboard(oncallUID, "NCP / On call",
		"What is wrong now: which certificate and which subject, since when.",
		toDashboard(exporterUID, "Exporter and API budget", "Can these numbers be trusted?"), p...)
}

// alerts is the table of alerts that fire or are pending, with what to do first.
func alerts(pos GridPos, actions map[string]string) Panel {
	about := []string{"name", "x509_subject", "kind", "certificate_id", "order_id", "trust_anchor_id", "subject_id", "collector", "api", "reason", "instance", "account"}
	// What to do is a label, and no mapping of the name: Grafana makes rows as high as the
	// text that a column has before mappings.
	expr := titled(replaced(joined(commonName("time() - ("+alertsWithNames()+")", "x509_subject"), "about", about...), "runbook", "alertname"))
	var anchors []string
	for _, name := range slices.Sorted(maps.Keys(actions)) {
		expr = fmt.Sprintf("label_replace(%s, %q, %q, %q, %q)", expr, "do", strings.ReplaceAll(actions[name], "$", "$$"), "alertname", name)
		anchors = append(anchors, name, strings.ToLower(name), "text")
	}
	return table("Alerts", "Alerts of the exporter's rules that fire or are pending: what they are about, for how long, and what to do first. The name links to the runbook. An alert of a target without an account tells its job.",
		pos, "No alert is known to fire or to be pending", "",
		[]column{
			{from: "alertname", title: "Alert", width: 280, properties: []Property{prop("links", runbook("${__data.fields.Runbook}"))}},
			{from: "severity", title: "Severity", width: 125, properties: []Property{
				prop("mappings", shown("1", "critical", "red", "2", "warning", "orange", "3", "info", "blue",
					"4", "pending critical", "text", "5", "pending warning", "text", "6", "pending info", "text")), colored(),
			}},
			{from: "Value", title: "For", width: 100, properties: []Property{lasting()}},
			{from: "about", title: "About", width: 228, properties: wrapped()},
			{from: "do", title: "Do first", width: 235, properties: wrapped()},
			{from: "of", title: "Account", width: 95},
			{from: "account"},
			// The anchors of headings are in lower case, and PromQL cannot make that.
			{from: "runbook", title: "Runbook", properties: []Property{prop("mappings", shown(anchors...)), prop("links", runbook("${__value.text}"))}},
		},
		[]any{sorted("Severity", false), sorted("For", true)},
		// Severities are numbered: sorted by name, info would come before warning. Pending
		// alerts come last, and are no severity that counts above.
		// The labels of which others are made would be columns of their own.
		rows(`max by (job, account, alertname, severity, about, do, of, runbook) (`+
			numbered(joined(expr, "severity", "alertstate", "severity"), "severity",
				"firing critical", "firing warning", "firing info", "pending critical", "pending warning", "pending info")+`)`),
	)
}

// numbered replaces the values of a label by numbers, so that they sort in this order.
func numbered(expr, label string, values ...string) string {
	for i, value := range values {
		expr = fmt.Sprintf("label_replace(%s, %q, \"%d\", %q, %q)", expr, label, i+1, label, value)
	}
	return expr
}
