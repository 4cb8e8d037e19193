package checks

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden file") //nolint:gochecknoglobals // a flag of the test binary

// accounts are values with several accounts.
const accounts = `
accounts:
  prod:
    certificate_manager: {keys: {credentials_file: keys/configure, profile: main}}
    external_access: {keys: {access_key_file: keys/prod.access-key, secret_key_file: keys/prod.secret-key}, page_size: 1000000}
    state_file: ncp_exporter.db
  agency:
    site: gov
    rate_limit: 0.5
    keys: {access_key_file: keys/agency.access-key, secret_key_file: keys/agency.secret-key}
accountsSecret: account-keys
`

func TestChartAccounts(t *testing.T) {
	r := helm(t, accounts, "serviceMonitor.enabled=true")
	if diff := cmp.Diff(map[string]string{
		"NCP_EXPORTER_STATE_FILE":                  "/data/ncp_exporter.db",
		"NCP_EXPORTER_CONFIG_FILE":                 "/etc/ncp_exporter/accounts/accounts.yml",
		"NCP_EXPORTER_CONFIG_AUTO_RELOAD_INTERVAL": "30s",
	}, variables(t, r)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	var given, got struct{ Accounts map[string]any }
	if err := yaml.Unmarshal([]byte(accounts), &given); err != nil {
		t.Fatal(err)
	}
	file := one[corev1.ConfigMap](t, r, "ConfigMap").Data["accounts.yml"]
	if err := yaml.UnmarshalStrict([]byte(file), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(given, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if !strings.Contains(file, "page_size: 1000000\n") {
		t.Errorf("a whole number is not one for the exporter:\n%s", file)
	}
	p := pod(t, r)
	if secret := p.Volumes[1].Secret; secret.SecretName != "account-keys" || secret.Items != nil {
		t.Errorf("the keys are %+v, want all files of the secret", secret)
	}
	if !slices.ContainsFunc(p.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.Name == p.Volumes[1].Name && m.MountPath == "/etc/ncp_exporter/accounts/keys"
	}) {
		t.Errorf("the keys are not beside the file: %+v", p.Containers[0].VolumeMounts)
	}
	if !strings.Contains(r.Notes, "create secret generic account-keys --from-file=keys") {
		t.Errorf("the notes do not ask for the secret:\n%s", r.Notes)
	}
	if r := helm(t, "accounts: {batch: {keys: {server_role: true}}}"); len(pod(t, r).Volumes) != 1 {
		t.Errorf("without a secret, the volumes are %+v", pod(t, r).Volumes)
	}
}

// TestChartAccountsScraped demands that the endpoints differ in nothing but the account:
// what makes the job and the instance is alike.
func TestChartAccountsScraped(t *testing.T) {
	r := helm(t, everything, "accounts.prod.site=public", "accounts.agency.site=gov", "keys.existingSecret=", "flags.collector\\.external-access\\.subject=")
	endpoints := one[monitoring.ServiceMonitor](t, r, "ServiceMonitor").Spec.Endpoints
	if len(endpoints) != 3 || endpoints[0].Path != "/ncp" {
		t.Fatalf("%+v, want the exporter and two accounts", endpoints)
	}
	for _, e := range endpoints[1:] {
		if len(e.RelabelConfigs) != 4 || e.RelabelConfigs[2].TargetLabel != "account" || e.RelabelConfigs[3].TargetLabel != "cluster" {
			t.Errorf("the relabelling is %+v, want that of the account and that of the values", e.RelabelConfigs)
			continue
		}
		e.Path, e.Params, e.RelabelConfigs = endpoints[0].Path, nil, slices.Delete(e.RelabelConfigs, 2, 3)
		if diff := cmp.Diff(endpoints[0], e); diff != "" {
			t.Errorf("-exporter +account:\n%s", diff)
		}
	}
}

// TestChartRefusesAccounts gives bad accounts; the message must name what is wrong.
func TestChartRefusesAccounts(t *testing.T) {
	const files = "keys: {access_key_file: keys/a, secret_key_file: keys/s}"
	role := func(with string) string { return "{accounts: {a: {keys: {server_role: true}}}, " + with + "}" }
	for _, test := range []struct{ values, want string }{
		{"accounts: [prod]", "/accounts"},
		{"accounts: {Prod: {" + files + "}}", "Prod"},
		{"accounts: {prod: {site: govt, " + files + "}}", "/accounts/prod/site"},
		{"accounts: {prod: {regions: [a], " + files + "}}", "regions"},
		{"accounts: {prod: {external_access: {page_sise: 1}}}", "page_sise"},
		{"accounts: {prod: {max_retries: '3'}}", "/accounts/prod/max_retries"},
		{"accounts: {prod: {keys: {access_key: id, secret_key: secret}}}", "access_key"},
		{"accounts: {prod: {external_access: {keys: {secretKey: secret}}}}", "secretKey"},
		{"accounts: {prod: {keys: {access_key_file: keys/a}}}", "/accounts/prod/keys"},
		{"accounts: {prod: {keys: {access_key_file: keys/a, secret_key_file: keys/s, profile: a}}}", "/accounts/prod/keys"},
		{"accounts: {prod: {keys: {server_role: true, secret_key_file: keys/s}}}", "/accounts/prod/keys"},
		{"{accounts: {prod: {keys: {access_key_env: A, secret_key_env: S}}}}", "take keys from variables"},
		{"accounts: {prod: {" + files + "}}", "give the secret with these files in accountsSecret"},
		{"accountsSecret: keys", "accounts is empty"},
		{"accountsSecret: My_Keys", "/accountsSecret"},
		{role("demo: true"), "accounts and demo are both given"},
		{role("serverRole: true"), "accounts and serverRole are both given"},
		{role("keys: {existingSecret: mine}"), "accounts and keys.existingSecret are both given"},
		{role("keys: {accessKey: a, secretKey: s}"), "accounts and keys.accessKey are both given"},
		{role("profiles: {existingSecret: mine}"), "accounts and profiles.existingSecret are both given"},
		{role("flags: {ncp.certificate-manager.url: 'https://example.com/api/v2'}"), "accounts and flags.ncp.certificate-manager.url are"},
		{role("flags: {ncp.external-access.url: 'https://example.com/api/v1'}"), "accounts and flags.ncp.external-access.url are"},
		{role("flags: {collector.external-access.subject: [one]}"), "accounts and flags.collector.external-access.subject are"},
		{"flags: {config.file: /tmp/accounts.yml}", "config.file"},
		{"flags: {config.auto-reload-interval: 1s}", "config.auto-reload-interval"},
	} {
		t.Run(test.values, func(t *testing.T) {
			_, err := Template(chartDir, "ncp-exporter", "monitoring", test.values)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want one with %q", err, test.want)
			}
			if strings.Contains(err.Error(), "secret'") || strings.Contains(err.Error(), `"secret"`) {
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
}

// TestChartOfOneAccountIsUnchanged holds the chart without accounts to what it was before
// it could have several.
func TestChartOfOneAccountIsUnchanged(t *testing.T) {
	var got strings.Builder
	r := helm(t, everything, "prometheusRule.enabled=false", "dashboards.enabled=false")
	for _, m := range r.Manifests {
		var object map[string]any
		if err := m.Into(&object); err != nil {
			t.Fatal(err)
		}
		text, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString("---\n" + strings.ReplaceAll(string(text), appVersion(t), "VERSION"))
	}
	const golden = "testdata/chart-everything.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
