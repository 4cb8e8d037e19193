package checks

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const root = "../.."

func checker(t *testing.T) *Checker {
	t.Helper()
	c, err := NewChecker(root)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func split(t *testing.T, stream []byte) Manifests {
	t.Helper()
	all, err := Split(stream)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// kustomize is `kubectl kustomize <dir>`.
func kustomize(t *testing.T, dir string) []byte {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func overlay(name string) string { return filepath.Join(root, "deploy/kubernetes/overlays", name) }

func TestKustomize(t *testing.T) {
	for name, replicas := range map[string]int32{"single": 1, "sharded": 3, "accounts": 1, "two-keys": 1, "without-operator": 1} {
		t.Run(name, func(t *testing.T) {
			all := split(t, kustomize(t, overlay(name)))
			if err := checker(t).Check(all); err != nil {
				t.Error(err)
			}
			var kinds []string
			for _, m := range all {
				kinds = append(kinds, m.Kind)
				if m.Metadata.Namespace != "ncp-exporter" {
					t.Errorf("%s is in namespace %q", m.Kind, m.Metadata.Namespace)
				}
			}
			want := []string{
				"ServiceAccount", "Service", "StatefulSet", "PodDisruptionBudget",
				"NetworkPolicy", "ServiceMonitor", "PrometheusRule",
			}
			if name == "without-operator" {
				want = want[:len(want)-2]
			}
			if name == "accounts" {
				want = append(want, "ConfigMap")
				wantFixedName(t, all)
			}
			if diff := cmp.Diff(want, kinds); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			var set appsv1.StatefulSet
			if _, err := all.One("StatefulSet", &set); err != nil || *set.Spec.Replicas != replicas {
				t.Errorf("replicas %v, error %v", set.Spec.Replicas, err)
			}
		})
	}
}

// TestKustomizeComponents puts both components on another overlay.
func TestKustomizeComponents(t *testing.T) {
	dir := userDirectory(t)
	all := testKustomization(t, dir, `
resources: [ncp_exporter/deploy/kubernetes/overlays/sharded]
components: [ncp_exporter/deploy/kubernetes/components/two-keys, ncp_exporter/deploy/kubernetes/components/without-operator]
`, "")
	var set appsv1.StatefulSet
	if _, err := all.One("StatefulSet", &set); err != nil || *set.Spec.Replicas != 3 {
		t.Errorf("replicas %v, error %v", set.Spec.Replicas, err)
	}
	if items := set.Spec.Template.Spec.Volumes[0].Secret.Items; len(items) != 1 || items[0].Key != "configure" {
		t.Errorf("the pods take %+v of the secret", items)
	}
}

// TestScrapedWithoutOperator wants Prometheus to find the pods by what they have, and to
// name them as the ServiceMonitor does.
func TestScrapedWithoutOperator(t *testing.T) {
	var config struct {
		RuleFiles []string `json:"rule_files"`
		Jobs      []struct {
			Name     string `json:"job_name"`
			Interval string `json:"scrape_interval"`
			Timeout  string `json:"scrape_timeout"`
			Found    []any  `json:"kubernetes_sd_configs"`
			Relabel  []struct {
				From      []string `json:"source_labels"`
				Separator *string  `json:"separator"`
				To        string   `json:"target_label"`
				Regex     string   `json:"regex"`
				Action    string   `json:"action"`
			} `json:"relabel_configs"`
		} `json:"scrape_configs"`
	}
	if err := yaml.UnmarshalStrict([]byte(read(t, "deploy/kubernetes/overlays/without-operator/prometheus.yml")), &config); err != nil {
		t.Fatal(err)
	}
	var monitor monitoring.ServiceMonitor
	if _, err := split(t, kustomize(t, overlay("single"))).One("ServiceMonitor", &monitor); err != nil {
		t.Fatal(err)
	}
	job, endpoint := config.Jobs[0], monitor.Spec.Endpoints[0]
	if keep := job.Relabel[0]; keep.Action != "keep" || keep.Regex != monitor.Spec.Selector.MatchLabels["app.kubernetes.io/name"]+";"+endpoint.Port {
		t.Errorf("it keeps %+v", keep)
	}
	if job.Interval != string(endpoint.Interval) || job.Timeout != string(endpoint.ScrapeTimeout) {
		t.Errorf("every %s for %s", job.Interval, job.Timeout)
	}
	for i, r := range endpoint.RelabelConfigs {
		separator := ";"
		if got := job.Relabel[i+1]; got.Separator != nil {
			separator = *got.Separator
		}
		if got := job.Relabel[i+1]; got.To != r.TargetLabel || strings.Join(got.From, separator) != sources(r) {
			t.Errorf("%+v, and the ServiceMonitor %+v", got, r)
		}
	}
}

// wantFixedName fails if a change of the accounts makes another config map: that restarts
// the pod, where a reload is enough.
func wantFixedName(t *testing.T, all Manifests) {
	t.Helper()
	var c corev1.ConfigMap
	if found, err := all.One("ConfigMap", &c); !found || err != nil || c.Name != "ncp-exporter-accounts" {
		t.Errorf("the config map of the accounts is %q, error %v", c.Name, err)
	}
}

// TestBrokenManifestsAreRefused breaks one thing at a time.
func TestBrokenManifestsAreRefused(t *testing.T) {
	testBroken(t, string(kustomize(t, overlay("sharded"))), []breakage{
		{"misspelt field", "serviceName:", "servicename:", "servicename"},
		{"misspelt field deep down", "readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true", "readOnlyRootFileSystem"},
		{"wrong type", "replicas: 3", `replicas: "3"`, "replicas"},
		{"wrong version", "apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n", "apiVersion"},
		{"unknown kind", "kind: NetworkPolicy", "kind: NetworkPolicies", "NetworkPolicies"},
		{"number in a variable", `value: "3"`, "value: 3", "value"},
		{"given twice", "  replicas: 3\n", "  replicas: 3\n  replicas: 3\n", "replicas"},
		{"field that the operator does not have", "scrapeTimeout:", "timeout:", `unknown field "timeout"`},
		{"no duration", "scrapeTimeout: 30s", "scrapeTimeout: 30 s", "is not a duration"},
		{"rule that the operator does not have", "kind: PrometheusRule\n", "kind: PrometheusRule\nrules: []\n", `unknown field "rules"`},
		{"root", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"},
		{"another user", "runAsUser: 65532", "runAsUser: 1000", "65532"},
		{"privilege", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "allowPrivilegeEscalation"},
		{"capabilities", "- ALL", "- CHOWN", "capabilities"},
		{"seccomp", "type: RuntimeDefault", "type: Unconfined", "seccomp"},
		{"writable root", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "root file system"},
		{"token", "      automountServiceAccountToken: false\n", "", "token"},
		{"service links", "      enableServiceLinks: false\n", "", "variables of services"},
		{"memory", "            memory: 128Mi\n", "            cpu: 100m\n", "memory"},
		{"unknown variable", "NCP_EXPORTER_STATE_FILE", "NCP_EXPORTER_LEDGER_FILE", "does not read"},
		{"path nowhere", "value: /data/", "value: /ledger/", "nothing is mounted"},
		{"volume nowhere", "- mountPath: /data\n          name: ledger", "- mountPath: /data\n          name: data", "is not there"},
		{"more pods than shards", "replicas: 3", "replicas: 4", "4 replicas, but 3 shards"},
		{"every pod the same shard", "fieldPath: metadata.name", "fieldPath: metadata.uid", "told from the pod's name: false"},
		{"another service", "serviceName: ncp-exporter", "serviceName: exporter", "names the service"},
		{"scrapes no port", "- interval: 1m\n    port: metrics", "- interval: 1m\n    port: http", `the port "http"`},
		{"policy for other pods", "podSelector:\n    matchLabels:\n      app.kubernetes.io/name: ncp-exporter", "podSelector:\n    matchLabels:\n      app.kubernetes.io/name: exporter", "does not select the pods"},
		{"policy without a way in", "- port: metrics\n      protocol: TCP", "- port: http\n      protocol: TCP", "lets nobody in"},
		{"instance by address", "- __meta_kubernetes_pod_name", "- __meta_kubernetes_pod_ip", "does not take instance from"},
		{"one job for all namespaces", "      - __meta_kubernetes_namespace\n", "", "does not take job from"},
	})
}

func TestBrokenAccountsAreRefused(t *testing.T) {
	testBroken(t, string(kustomize(t, overlay("accounts"))), []breakage{
		{"account that nobody scrapes", "      agency:\n", "      agency: {}\n      batch:\n", `there are ["" "agency" "batch" "prod"]`},
		{"account that is not there", "      agency:\n", "      other:\n", `scrapes ["" "agency" "prod"]`},
		{"account without its label", "replacement: agency", "replacement: prod", "sets the label account: false"},
		{"another path", "path: /probe", "path: /metrics", `the path "/metrics"`},
		{"the exporter itself is left out", "  - interval: 1m\n    port: metrics\n    relabelings:", "  - interval: 1m\n    params:\n      account:\n      - agency\n    path: /probe\n    port: metrics\n    relabelings:", `scrapes ["agency" "agency" "prod"]`},
		{"no accounts", "accounts.yml: |", "others.yml: |", "no config map ncp-exporter-accounts holds accounts.yml"},
		{"config map from nowhere", "name: ncp-exporter-accounts\n        name: accounts", "name: accounts\n        name: accounts", "no config map accounts holds"},
		{"file from nowhere", "- mountPath: /etc/ncp_exporter/accounts\n", "- mountPath: /etc/ncp_exporter\n", "nothing is mounted at the directory"},
		{"a mount that never changes", "- mountPath: /etc/ncp_exporter/accounts\n", "- subPath: x\n          mountPath: /etc/ncp_exporter/accounts\n", "with a subPath"},
	})
}

type breakage struct{ name, old, replacement, want string }

func testBroken(t *testing.T, sound string, tests []breakage) {
	t.Helper()
	c := checker(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			broken := strings.Replace(sound, test.old, test.replacement, 1)
			if broken == sound {
				t.Fatalf("%q is not in\n%s", test.old, sound)
			}
			all, err := Split([]byte(broken))
			if err == nil {
				err = c.Check(all)
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}
