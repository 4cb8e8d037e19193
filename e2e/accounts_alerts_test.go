//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// The accounts of TestAccounts, named by what is wrong with them. All have the same
// subject, so a rule that forgets the account takes them for one.
const (
	failingAccount = "failing" // a login fails
	keylessAccount = "keyless" // its keys are missing
	droppedAccount = "dropped" // Prometheus drops its target
	refusedAccount = "refused" // its path answers 404
	wellAccount    = "well"
)

// jobOfAccounts is the job that discovers them, as docs/accounts.md names it.
const jobOfAccounts = "ncp_exporter"

// alertsOfAccounts are the alerts that TestAccounts makes fire, with the receiver and
// the labels of the notification.
func alertsOfAccounts(instance string) map[string]toldAlert {
	return map[string]toldAlert{
		"NCPAccountNotReady":    {"wake-somebody", map[string]string{"account": keylessAccount, "instance": instance}},
		"NCPAccountDown":        {"wake-somebody", map[string]string{"account": refusedAccount, "instance": instance}},
		"NCPAccountNotScraped":  {"working-hours", map[string]string{"account": droppedAccount, "instance": instance}},
		"NCPConfigReloadFailed": {"working-hours", map[string]string{"account": "", "instance": instance}},
		"NCPAuthenticationFailed": {"list", map[string]string{
			"account": failingAccount, "subject_id": wellSubject, "x509_subject": "CN=well",
		}},
	}
}

type toldAlert struct {
	receiver string
	labels   map[string]string
}

// TestAccounts follows what is wrong with one account each from the exporter to a
// webhook. The exporter, Prometheus, which discovers the accounts by /sd, and
// Alertmanager are real, and the rules and Alertmanager's file are those that are
// committed.
func TestAccounts(t *testing.T) {
	t.Parallel() // it waits most of the time
	dir := t.TempDir()
	file := filepath.Join(dir, "accounts.yml")
	accounts := make(map[string]ncp)
	for _, name := range []string{failingAccount, keylessAccount, droppedAccount, refusedAccount, wellAccount} {
		accounts[name] = wellNCP(t)
	}
	accountsFile(t, file, accounts)
	e := launch(t, keysOf(failingAccount, droppedAccount, refusedAccount, wellAccount),
		hasty("--config.file="+file, "--state.file="+filepath.Join(dir, "ledger.db"))...)
	single := watch(t, wellNCP(t), hasty()...) // of another job: nothing is wrong with it
	s := watchdog(t, t.TempDir(), single, discovered(e))

	wanted := alertsOfAccounts(strings.TrimPrefix(e.url, "http://"))
	for _, name := range ofAccounts() {
		if _, ok := wanted[name]; !ok {
			t.Errorf("nobody makes %s fire", name)
		}
	}
	logIn := logInEverywhere(accounts)
	arrives := func(name string) {
		t.Helper()
		want := wanted[name]
		want.labels["alertname"], want.labels["job"] = name, jobOfAccounts
		until(t, name+" arrives at the webhook", func() error {
			logIn()
			a := s.webhook.find(want.receiver, "firing", want.labels)
			if a == nil {
				return fmt.Errorf("told was\n%s", s.webhook.told())
			}
			a.check(t)
			return nil
		})
	}
	for name := range wanted {
		if name != "NCPConfigReloadFailed" {
			arrives(name)
		}
	}
	// The exporter goes on with the accounts that it has.
	write(t, file, []byte("accounts: ["))
	e.signal(t, syscall.SIGHUP)
	arrives("NCPConfigReloadFailed")

	// A delayed scrape of another account cannot cause these two, so nothing excuses them.
	for _, name := range []string{"NCPAuthenticationFailed", "NCPAccountNotReady"} {
		if told := s.webhook.accountsOf(name); !slices.Equal(told, []string{wanted[name].labels["account"]}) {
			t.Errorf("%s is told of the accounts %q", name, told)
		}
	}
	until(t, "nothing is said of what is well", func() error {
		for _, a := range s.alerts(t) {
			if a.Labels["alertname"] == "NCPUnreadableCertificates" {
				continue // the logins here present the placeholder of NCP's guide
			}
			if a.Labels["job"] != jobOfAccounts || a.Labels["account"] == wellAccount || a.Labels["alertname"] == "NCPExporterDown" {
				return fmt.Errorf("%s %v", a.State, a.Labels)
			}
		}
		return nil
	})
}

// discovered is a scrape configuration that asks an exporter for its accounts. It drops
// one of them, and asks for another one where nothing is.
func discovered(e exporter) any {
	account := []any{"account"}
	return map[string]any{
		"job_name":        jobOfAccounts,
		"http_sd_configs": []any{map[string]any{"url": e.url + "/sd", "refresh_interval": "1s"}},
		"relabel_configs": []any{
			map[string]any{"source_labels": account, "regex": droppedAccount, "action": "drop"},
			map[string]any{"source_labels": account, "regex": refusedAccount, "target_label": "__metrics_path__", "replacement": "/nowhere"},
		},
	}
}

// logInEverywhere makes the subject of each account log in. One login in twenty fails,
// in one account: too few for a ratio, which would be told instead.
func logInEverywhere(accounts map[string]ncp) func() {
	const batch = 20
	return every(time.Second, func(n int) {
		for name, account := range accounts {
			for i := range batch {
				serial, failed := strconv.Itoa(1+n*batch+i), name == failingAccount && i == 0
				account.externalAccess.AddCredentials(wellSubject, ncptest.NewCredential(time.Now(), serial, failed))
			}
		}
	})
}

// accountsOf are the accounts of which an alert was told, each once, in order.
func (w *webhook) accountsOf(name string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var accounts []string
	for _, n := range w.got {
		for _, a := range n.Alerts {
			if a.Labels["alertname"] == name {
				accounts = append(accounts, a.Labels["account"])
			}
		}
	}
	slices.Sort(accounts)
	return slices.Compact(accounts)
}
