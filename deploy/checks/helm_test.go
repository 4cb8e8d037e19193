package checks

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

const chartDir = root + "/deploy/helm/ncp-exporter"

// hash is a bcrypt hash.
const hash = "$2y$10$EhGHFGjtYDTlAXyG3uyZzumqxnkU5xM7aR/ksBjAX9YPYtSJwuHZC"

// helm renders the chart and demands that what comes is sound.
func helm(t *testing.T, values string, sets ...string) *Release {
	t.Helper()
	release, err := Template(chartDir, "ncp-exporter", "monitoring", values, sets...)
	if err != nil {
		t.Fatal(err)
	}
	if err := checker(t).Check(release.Manifests); err != nil {
		t.Error(err)
	}
	for _, m := range release.Manifests {
		if m.Metadata.Namespace == "" || m.Metadata.Labels["app.kubernetes.io/instance"] != "ncp-exporter" {
			t.Errorf("%s has namespace %q and labels %v", m.Kind, m.Metadata.Namespace, m.Metadata.Labels)
		}
	}
	return release
}

func kinds(all Manifests) []string {
	var kinds []string
	for _, m := range all {
		kinds = append(kinds, m.Kind)
	}
	slices.Sort(kinds)
	return kinds
}

// one is the only object of a kind.
func one[T any](t *testing.T, r *Release, kind string) T {
	t.Helper()
	var object T
	if found, err := r.Manifests.One(kind, &object); err != nil || !found {
		t.Fatalf("%s: found %t, error %v", kind, found, err)
	}
	return object
}

func pod(t *testing.T, r *Release) corev1.PodSpec {
	t.Helper()
	return one[appsv1.StatefulSet](t, r, "StatefulSet").Spec.Template.Spec
}

// variables are those of the exporter; what is told from a field has its path.
func variables(t *testing.T, r *Release) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, v := range pod(t, r).Containers[0].Env {
		if all[v.Name] = v.Value; v.ValueFrom != nil {
			all[v.Name] = v.ValueFrom.FieldRef.FieldPath
		}
	}
	return all
}

func TestChartDefaults(t *testing.T) {
	r := helm(t, "")
	want := []string{"NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount", "StatefulSet"}
	if diff := cmp.Diff(want, kinds(r.Manifests)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{ //nolint:gosec // paths, not keys
		"NCP_EXPORTER_STATE_FILE":          "/data/ncp_exporter.db",
		"NCP_EXPORTER_NCP_ACCESS_KEY_FILE": "/etc/ncp_exporter/keys/access-key",
		"NCP_EXPORTER_NCP_SECRET_KEY_FILE": "/etc/ncp_exporter/keys/secret-key",
	}, variables(t, r)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if image := pod(t, r).Containers[0].Image; image != "ncp_exporter:"+appVersion(t) {
		t.Errorf("image %s", image)
	}
	for _, part := range []string{
		"create secret generic ncp-exporter-keys", "curl http://localhost:10420/metrics",
		"serviceMonitor.enabled=true", "prometheusRule.enabled=true",
	} {
		if !strings.Contains(r.Notes, part) {
			t.Errorf("the notes lack %q:\n%s", part, r.Notes)
		}
	}
}

func appVersion(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chartDir, "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var chart struct{ AppVersion string }
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(string(text), "appVersion", "appversion")), &chart); err != nil {
		t.Fatal(err)
	}
	return chart.AppVersion
}

// everything sets each value of the chart that can be set beside the others.
const everything = `
image: {repository: registry.example.com/ncp/ncp_exporter, tag: 9.9.9, pullPolicy: Always, pullSecrets: [{name: pull}]}
fullnameOverride: certificates
shards: 4
keys: {existingSecret: my-keys, accessKeyName: id, secretKeyName: secret}
flags: {ncp.rate-limit: 0.5, collector.external-access.page-size: 1000000, collector.external-access: true, collector.external-access.subject: [one, two], web.telemetry-path: /ncp}
env: {HTTPS_PROXY: "http://proxy.example.com:3128"}
ledger: {size: 5Gi, storageClass: fast, whenDeleted: Delete}
web:
  tlsSecret: my-tls
  config:
    tls_server_config: {cert_file: /etc/ncp_exporter/tls/tls.crt, key_file: /etc/ncp_exporter/tls/tls.key}
    basic_auth_users: {prometheus: "` + hash + `"}
serviceMonitor:
  enabled: true
  labels: {release: prometheus}
  interval: 2m
  scrapeTimeout: 1m30s
  tlsConfig: {serverName: certificates, insecureSkipVerify: false}
  basicAuth: {username: {name: scrape, key: user}, password: {name: scrape, key: password}}
  relabelings: [{targetLabel: cluster, replacement: one}]
  metricRelabelings: [{sourceLabels: [x509_subject], action: labeldrop, regex: x509_subject}]
prometheusRule: {enabled: true, labels: {release: prometheus}, runbooks: "https://wiki.example.com/runbooks.md"}
dashboards: {enabled: true, label: dashboard, labelValue: "yes", annotations: {folder: NCP}, namespace: grafana}
networkPolicy:
  from: [{ipBlock: {cidr: 10.0.0.0/8}}]
  extraEgress: [{ports: [{protocol: TCP, port: 3128}]}]
serviceAccount: {name: my-account, annotations: {team: platform}}
resources: {requests: {cpu: 20m}, limits: {memory: 256Mi, cpu: "1"}}
podLabels: {team: platform}
podAnnotations: {note: here}
nodeSelector: {disk: ssd}
tolerations: [{key: dedicated, operator: Exists}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: Exists}]}]}}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app.kubernetes.io/name: ncp-exporter}}}]
priorityClassName: high
extraVolumes: [{name: ca, configMap: {name: my-ca}}]
extraVolumeMounts: [{name: ca, mountPath: /etc/ssl/my-ca}]
`

func TestChartEverything(t *testing.T) {
	r := helm(t, everything)
	if diff := cmp.Diff(map[string]string{ //nolint:gosec // paths, not keys
		"NCP_EXPORTER_STATE_FILE":                          "/data/ncp_exporter.db",
		"NCP_EXPORTER_NCP_ACCESS_KEY_FILE":                 "/etc/ncp_exporter/keys/access-key",
		"NCP_EXPORTER_NCP_SECRET_KEY_FILE":                 "/etc/ncp_exporter/keys/secret-key",
		"NCP_EXPORTER_WEB_CONFIG_FILE":                     "/etc/ncp_exporter/web/web.yml",
		"NCP_EXPORTER_TOTAL_SHARDS":                        "4",
		"NCP_EXPORTER_SHARD":                               "metadata.name",
		"NCP_EXPORTER_NCP_RATE_LIMIT":                      "0.5",
		"NCP_EXPORTER_COLLECTOR_EXTERNAL_ACCESS_PAGE_SIZE": "1000000",
		"NCP_EXPORTER_COLLECTOR_EXTERNAL_ACCESS":           "true",
		"NCP_EXPORTER_COLLECTOR_EXTERNAL_ACCESS_SUBJECT":   "one\ntwo",
		"NCP_EXPORTER_WEB_TELEMETRY_PATH":                  "/ncp",
		"HTTPS_PROXY":                                      "http://proxy.example.com:3128",
	}, variables(t, r)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	set := one[appsv1.StatefulSet](t, r, "StatefulSet")
	p := set.Spec.Template.Spec
	container := p.Containers[0]
	claim := set.Spec.VolumeClaimTemplates[0].Spec
	network := one[networking.NetworkPolicy](t, r, "NetworkPolicy").Spec
	monitor := one[monitoring.ServiceMonitor](t, r, "ServiceMonitor")
	endpoint := monitor.Spec.Endpoints[0]
	rule := one[monitoring.PrometheusRule](t, r, "PrometheusRule")
	account := one[corev1.ServiceAccount](t, r, "ServiceAccount")
	for _, v := range []struct {
		what      string
		got, want any
	}{
		{"name", set.Name, "certificates"},
		{"image", container.Image, "registry.example.com/ncp/ncp_exporter:9.9.9"},
		{"pull policy", string(container.ImagePullPolicy), "Always"},
		{"pull secret", p.ImagePullSecrets[0].Name, "pull"},
		{"replicas", *set.Spec.Replicas, int32(4)},
		{"keys", p.Volumes[0].Secret.SecretName + " " + p.Volumes[0].Secret.Items[0].Key + " " + p.Volumes[0].Secret.Items[1].Key, "my-keys id secret"},
		{"volume", claim.Resources.Requests.Storage().String() + " " + *claim.StorageClassName, "5Gi fast"},
		{"retention", string(set.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted), "Delete"},
		{"probe", container.LivenessProbe.TCPSocket.Port.StrVal + container.ReadinessProbe.TCPSocket.Port.StrVal, "metricsmetrics"},
		{"memory", container.Resources.Limits.Memory().String(), "256Mi"},
		{"pod", set.Spec.Template.Labels["team"] + set.Spec.Template.Annotations["note"], "platformhere"},
		{"node", p.NodeSelector["disk"] + p.Tolerations[0].Key + p.TopologySpreadConstraints[0].TopologyKey + p.PriorityClassName, "ssddedicatedzonehigh"},
		{"affinity", p.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchExpressions[0].Key, "zone"},
		{"account", account.Name + p.ServiceAccountName + account.Annotations["team"], "my-accountmy-accountplatform"},
		{"in", network.Ingress[0].From[0].IPBlock.CIDR, "10.0.0.0/8"},
		{"out", network.Egress[len(network.Egress)-1].Ports[0].Port.IntVal, int32(3128)},
		{"monitor", fmt.Sprint(endpoint.Scheme.String(), endpoint.Path, endpoint.Interval, endpoint.ScrapeTimeout, monitor.Labels["release"]), "https/ncp2m1m30sprometheus"},
		{"password", endpoint.BasicAuth.Password.Name + endpoint.BasicAuth.Password.Key + *endpoint.TLSConfig.ServerName, "scrapepasswordcertificates"},
		{"relabelings", endpoint.RelabelConfigs[2].TargetLabel + endpoint.MetricRelabelConfigs[0].Action, "clusterlabeldrop"},
		{"rule", rule.Labels["release"], "prometheus"},
		{"notes", strings.Contains(r.Notes, "curl --insecure --user NAME https://localhost:10420/ncp"), true},
	} {
		if v.got != v.want {
			t.Errorf("%s is %v, want %v", v.what, v.got, v.want)
		}
	}
	for _, group := range rule.Spec.Groups {
		for _, r := range group.Rules {
			if url := r.Annotations["runbook_url"]; url != "" && !strings.HasPrefix(url, "https://wiki.example.com/runbooks.md#") {
				t.Errorf("%s has its runbook at %s", r.Alert, url)
			}
		}
	}
	for _, m := range r.Manifests {
		if text := string(m.text); strings.Contains(text, "public/runbooks.html") || strings.Contains(text, `"title": "NCP / `) && !strings.Contains(text, `"query": "https://wiki.example.com/runbooks.md"`) {
			t.Errorf("a %s does not link to the runbooks at their address", m.Kind)
		}
	}
	for _, mount := range []string{"/data", "/etc/ncp_exporter/keys", "/etc/ncp_exporter/web", "/etc/ncp_exporter/tls", "/etc/ssl/my-ca"} {
		if !slices.ContainsFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == mount }) {
			t.Errorf("nothing is mounted at %s", mount)
		}
	}
}

// TestEveryValueIsTried demands that `everything` and the cases of the tests here
// leave no value out.
func TestEveryValueIsTried(t *testing.T) {
	var tests []byte
	for _, file := range []string{"helm_test.go", "values_test.go", "accounts_test.go"} {
		text, err := os.ReadFile(file) //nolint:gosec // a file of this package
		if err != nil {
			t.Fatal(err)
		}
		tests = append(tests, text...)
	}
	text, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	for name, value := range values {
		names := []string{name}
		if group, ok := value.(map[string]any); ok {
			for inner := range group {
				names = append(names, inner)
			}
		}
		for _, n := range names {
			if !strings.Contains(string(tests), n+":") && !strings.Contains(string(tests), n+"=") && !strings.Contains(string(tests), n+".") {
				t.Errorf("no test sets %s of %s", n, name)
			}
		}
	}
}

func TestChartKeys(t *testing.T) {
	for _, test := range []struct {
		name string
		sets []string
		want map[string]string
	}{
		{"demo", []string{"demo=true"}, map[string]string{"NCP_EXPORTER_DEMO": "true"}},
		{"role", []string{"serverRole=true"}, map[string]string{
			"NCP_EXPORTER_STATE_FILE":      "/data/ncp_exporter.db",
			"NCP_EXPORTER_NCP_SERVER_ROLE": "true",
		}},
		{
			"profiles",
			[]string{
				"profiles.existingSecret=configure", "profiles.fileName=file", "profiles.default=sub",
				"profiles.certificateManager=main", "profiles.externalAccess=other",
			},
			map[string]string{ //nolint:gosec // paths, not keys
				"NCP_EXPORTER_STATE_FILE":                      "/data/ncp_exporter.db",
				"NCP_EXPORTER_NCP_CREDENTIALS_FILE":            "/etc/ncp_exporter/keys/configure",
				"NCP_EXPORTER_NCP_PROFILE":                     "sub",
				"NCP_EXPORTER_NCP_CERTIFICATE_MANAGER_PROFILE": "main",
				"NCP_EXPORTER_NCP_EXTERNAL_ACCESS_PROFILE":     "other",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := helm(t, "", test.sets...)
			if diff := cmp.Diff(test.want, variables(t, r)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	t.Run("values", func(t *testing.T) {
		r := helm(t, "", "keys.accessKey=id", "keys.secretKey=secret")
		secret := one[corev1.Secret](t, r, "Secret")
		if diff := cmp.Diff(map[string]string{"access-key": "id", "secret-key": "secret"}, secret.StringData); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if name := pod(t, r).Volumes[0].Secret.SecretName; name != secret.Name {
			t.Errorf("the pod mounts %s, the secret is %s", name, secret.Name)
		}
		if strings.Contains(r.Notes, "create secret") {
			t.Errorf("the notes ask for a secret that is there:\n%s", r.Notes)
		}
	})
}

func TestChartWeb(t *testing.T) {
	t.Run("users", func(t *testing.T) {
		r := helm(t, "web: {config: {basic_auth_users: {prometheus: '"+hash+"'}, http_server_config: {http2: false}}}")
		file := filepath.Join(t.TempDir(), "web.yml")
		if err := os.WriteFile(file, []byte(one[corev1.Secret](t, r, "Secret").StringData["web.yml"]), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := web.Validate(file); err != nil {
			t.Error(err)
		}
		if probe := pod(t, r).Containers[0].LivenessProbe; probe.TCPSocket == nil || probe.HTTPGet != nil {
			t.Errorf("the probe has no password, but asks %v", probe)
		}
	})
	t.Run("TLS", func(t *testing.T) {
		r := helm(t, "web: {tlsSecret: tls, config: {tls_server_config: {cert_file: /etc/ncp_exporter/tls/tls.crt, key_file: /etc/ncp_exporter/tls/tls.key}}}", "serviceMonitor.enabled=true")
		if probe := pod(t, r).Containers[0].ReadinessProbe; probe.HTTPGet == nil || probe.HTTPGet.Scheme != "HTTPS" || probe.HTTPGet.Path != "/-/ready" {
			t.Errorf("probe %v", probe)
		}
		if scheme := one[monitoring.ServiceMonitor](t, r, "ServiceMonitor").Spec.Endpoints[0].Scheme; scheme == nil || *scheme != "https" {
			t.Errorf("scheme %v", scheme)
		}
	})
	t.Run("client certificates", func(t *testing.T) {
		r := helm(t, "web: {config: {tls_server_config: {client_auth_type: RequireAndVerifyClientCert}}}")
		if pod(t, r).Containers[0].LivenessProbe.TCPSocket == nil {
			t.Error("the probe has no certificate, but asks over https")
		}
	})
	t.Run("existing secret", func(t *testing.T) {
		r := helm(t, "", "web.existingSecret=mine", "web.scheme=https")
		if name := pod(t, r).Volumes[1].Secret.SecretName; name != "mine" {
			t.Errorf("mounts %s", name)
		}
	})
}

func TestChartWithout(t *testing.T) {
	r := helm(t, "", "networkPolicy.enabled=false", "podDisruptionBudget.enabled=false", "serviceAccount.create=false", "ledger.persistent=false", "image.digest=sha256:"+strings.Repeat("0", 64))
	if diff := cmp.Diff([]string{"Service", "StatefulSet"}, kinds(r.Manifests)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	p := pod(t, r)
	if p.ServiceAccountName != "default" || p.Volumes[0].EmptyDir == nil || !strings.HasSuffix(p.Containers[0].Image, "ncp_exporter@sha256:"+strings.Repeat("0", 64)) {
		t.Errorf("%+v", p)
	}
	if !strings.Contains(r.Notes, "ledger.persistent=true") {
		t.Errorf("the notes do not say that the ledger is lost:\n%s", r.Notes)
	}
}

// TestChartRefuses gives bad values; the message must name what is wrong.
func TestChartRefuses(t *testing.T) {
	for _, test := range []struct{ values, want string }{
		{"shards: 0", "/shards"},
		{"shards: two", "/shards"},
		{"shards: 1.5", "/shards"},
		{"replicas: 3", "replicas"},
		{"image: ncp_exporter", "/image"},
		{"image: {tag: 'a b'}", "/image/tag"},
		{"image: {digest: sha256:abc}", "/image/digest"},
		{"image: {pullPolicy: never}", "/image/pullPolicy"},
		{"keys: {acessKey: x}", "acessKey"},
		{"keys: {accessKey: id}", "only one of them"},
		{"keys: {secretKey: id}", "only one of them"},
		{"keys: {accessKey: 'id ', secretKey: x}", "/keys/accessKey"},
		{"keys: {accessKey: id, secretKey: x, existingSecret: mine}", "both given"},
		{"keys: {existingSecret: My_Keys}", "/keys/existingSecret"},
		{"{profiles: {existingSecret: mine}, serverRole: true}", "both given"},
		{"{profiles: {existingSecret: mine}, keys: {existingSecret: x}}", "one of the three"},
		{"profiles: {default: sub}", "give profiles.existingSecret"},
		{"flags: {collector.external-acess: true}", "at '/flags': additional properties 'collector.external-acess' not allowed"},
		{"flags: {state.file: /tmp/ledger}", "state.file"},
		{"flags: {ncp.timeout: {seconds: 5}}", "/flags/ncp.timeout"},
		{"env: {NCP_EXPORTER_SHARD: 1}", "NCP_EXPORTER_SHARD, which is a flag"},
		{"env: {a b: 1}", "no name of a variable"},
		{"env: {PROXY: [a]}", "/env/PROXY"},
		{"env: {NCLOUD_SECRET_ACCESS_KEY: secret}", "NCLOUD_SECRET_ACCESS_KEY, which everybody"},
		{"ledger: {size: large}", "/ledger/size"},
		{"ledger: {whenDeleted: Keep}", "/ledger/whenDeleted"},
		{"web: {config: {basic_auth_users: {prometheus: secret}}}", "/web/config/basic_auth_users/prometheus"},
		{"web: {config: {tls: {}}}", "tls"},
		{"web: {scheme: ftp}", "/web/scheme"},
		{"web: {scheme: https}", "neither web.config nor web.existingSecret"},
		{"web: {scheme: http, config: {tls_server_config: {cert_file: x}}}", "cannot be http"},
		{"web: {existingSecret: x}", "say in web.scheme"},
		{"web: {existingSecret: x, scheme: http, config: {http_server_config: {http2: true}}}", "both given"},
		{"{web: {config: {basic_auth_users: {prometheus: '" + hash + "'}}}, serviceMonitor: {enabled: true}}", "give it to Prometheus"},
		{"serviceMonitor: {interval: 1 minute}", "/serviceMonitor/interval"},
		{"serviceMonitor: {labels: [release]}", "/serviceMonitor/labels"},
		{"networkPolicy: {enabled: 'yes'}", "/networkPolicy/enabled"},
		{"resources: {}\nresource: {}", "resource"},
		{"resources: {limits: {memory: null}}", "memory"},
		{"podLabels: {team: 7}", "/podLabels/team"},
		{"fullnameOverride: Certificates", "/fullnameOverride"},
		{"enabled: false", "condition: ncp-exporter.enabled"},
		{"networkPolicy: {from: []}", "/networkPolicy/from"},
		{"networkPolicy: {from: [{}]}", "/networkPolicy/from/0"},
		{"networkPolicy: {from: [{podSelectors: {}}]}", "podSelectors"},
		{"networkPolicy: {from: [{podSelector: {matchLabel: {a: b}}}]}", "matchLabel"},
		{"networkPolicy: {extraEgress: [{port: [{port: 3128}]}]}", "'port' not allowed"},
		{"networkPolicy: {extraEgress: [{}]}", "/networkPolicy/extraEgress/0"},
		{"networkPolicy: {extraEgress: [{ports: []}]}", "/networkPolicy/extraEgress/0/ports"},
		{"networkPolicy: {extraEgress: [{ports: [{protocol: TCP}]}]}", "/networkPolicy/extraEgress/0/ports/0"},
		{"networkPolicy: {extraEgress: [{ports: [{prot: 3128}]}]}", "prot"},
		{"networkPolicy: {extraEgress: [{ports: [{port: 3128}], to: []}]}", "/networkPolicy/extraEgress/0/to"},
		{"networkPolicy: {extraEgress: [{ports: [{port: 3128}], to: [{}]}]}", "/networkPolicy/extraEgress/0/to/0"},
		{"networkPolicy: {extraEgress: [{ports: [{port: 3128}], to: [{ipBlock: {cird: 10.0.0.0/8}}]}]}", "cird"},
		{"serviceMonitor: {interval: 30s, scrapeTimeout: 1m}", "longer than serviceMonitor.interval"},
		{"serviceMonitor: {interval: 1m30s, scrapeTimeout: 91s}", "longer than serviceMonitor.interval"},
		{"serviceMonitor: {tlsConfig: {insecureSkipVerfy: true}}", "insecureSkipVerfy"},
		{"serviceMonitor: {relabelings: [{source_labels: [a]}]}", "source_labels"},
		{"web: {config: {tls_server_config: {cert: x, keyfile: y}}}", "keyfile"},
		{"tolerations: [{keys: a}]", "keys"},
		{"affinity: {nodeAffinity: {required: []}}", "required"},
		{"topologySpreadConstraints: [{topology: zone}]", "topology"},
		{"extraVolumes: [{name: a, configmap: {}}]", "configmap"},
		{"extraVolumeMounts: [{name: a, path: /a}]", "path"},
		{"podSecurityContext: {runAsUsr: 1}", "runAsUsr"},
		{"securityContext: {capabilities: {drops: [ALL]}}", "drops"},
		{"dnsConfig: {option: []}", "option"},
		{"hostAliases: [{ip: 10.0.0.1, hosts: [a]}]", "hosts"},
		{"envFrom: [{secret: {name: a}}]", "secret"},
		{"env: {A: {value: b}}", "/env/A"},
		{"env: {A: {valueFrom: {secretKeyRefs: {}}}}", "secretKeyRefs"},
		{"keys: {fromEnvironment: true, existingSecret: a}", "both given"},
		{"ledger: {accessMode: ReadWriteMany}", "/ledger/accessMode"},
		{"extraManifests: [{kind: ConfigMap}]", "/extraManifests/0"},
		{"commonLabels: {team: 7}", "/commonLabels/team"},
	} {
		t.Run(test.values, func(t *testing.T) {
			_, err := Template(chartDir, "ncp-exporter", "monitoring", test.values)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestChartNames(t *testing.T) {
	for release, want := range map[string]string{
		"certs.gov":             "certs-gov-ncp-exporter",
		"2027":                  "ncp-2027-ncp-exporter",
		"7-ncp-exporter":        "ncp-7-ncp-exporter",
		strings.Repeat("x", 38): strings.Repeat("x", 38) + "-ncp-exporter",
		"ncp-exporter":          "ncp-exporter",
		"ncp-exporter-gov":      "ncp-exporter-gov",
		"certs":                 "certs-ncp-exporter",
		strings.Repeat("x", 53): strings.Repeat("x", 52),
	} {
		r, err := Template(chartDir, release, "monitoring", "dashboards: {enabled: true}")
		if err != nil {
			t.Fatal(err)
		}
		if name := one[appsv1.StatefulSet](t, r, "StatefulSet").Name; name != want {
			t.Errorf("release %s makes %s, want %s", release, name, want)
		}
		if err := checker(t).Check(r.Manifests); err != nil {
			t.Error(err)
		}
		for _, m := range r.Manifests {
			if problems := validation.IsDNS1035Label(m.Metadata.Name); m.Kind != "ConfigMap" && len(problems) > 0 {
				t.Errorf("%s %s: %v", m.Kind, m.Metadata.Name, problems)
			}
		}
	}
}
