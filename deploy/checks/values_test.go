package checks

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	disruption "k8s.io/api/policy/v1"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

// asked sets the values that other charts have too.
const asked = `
image: {registry: registry.example.com, repository: ncp/ncp_exporter, tag: 9.9.9}
commonLabels: {team: platform, app.kubernetes.io/name: mine}
keys: {fromEnvironment: true}
env: {NCLOUD_ACCESS_KEY_ID: {valueFrom: {secretKeyRef: {name: ncp, key: id}}}}
envFrom: [{secretRef: {name: more}}]
ledger: {accessMode: ReadWriteOncePod}
podLabels: {team: security}
podSecurityContext: {fsGroup: 7, supplementalGroups: [8]}
securityContext: {seccompProfile: {type: RuntimeDefault}}
dnsPolicy: None
dnsConfig: {nameservers: [10.0.0.53], options: [{name: ndots, value: "1"}]}
hostAliases: [{ip: 10.0.0.7, hostnames: [externalaccess.apigw.ntruss.com]}]
serviceMonitor: {enabled: true, namespace: monitors, interval: 1m, scrapeTimeout: 60s}
prometheusRule: {enabled: true, namespace: rules}
extraManifests:
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: one, namespace: "{{ .Release.Namespace }}", labels: {app.kubernetes.io/instance: "{{ .Release.Name }}"}}}
  - |
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: {{ include "ncp-exporter.fullname" . }}-two, namespace: other, labels: {app.kubernetes.io/instance: ncp-exporter}}
`

func TestChartAsked(t *testing.T) {
	r := helm(t, asked)
	p := pod(t, r)
	container := p.Containers[0]
	monitor := one[monitoring.ServiceMonitor](t, r, "ServiceMonitor")
	set := one[appsv1.StatefulSet](t, r, "StatefulSet")
	var extra []string
	for _, m := range r.Manifests {
		if m.Kind == "ConfigMap" {
			extra = append(extra, m.Metadata.Namespace+"/"+m.Metadata.Name)
			continue
		}
		if m.Metadata.Labels["team"] != "platform" || m.Metadata.Labels["app.kubernetes.io/name"] != "ncp-exporter" {
			t.Errorf("%s has the labels %v", m.Kind, m.Metadata.Labels)
		}
	}
	slices.Sort(extra)
	for _, v := range []struct {
		what      string
		got, want any
	}{
		{"image", container.Image, "registry.example.com/ncp/ncp_exporter:9.9.9"},
		{"variable", container.Env[1].ValueFrom.SecretKeyRef.Name + container.EnvFrom[0].SecretRef.Name, "ncpmore"},
		{"access", string(set.Spec.VolumeClaimTemplates[0].Spec.AccessModes[0]), "ReadWriteOncePod"},
		{"claim", set.Spec.VolumeClaimTemplates[0].APIVersion + set.Spec.VolumeClaimTemplates[0].Kind, "v1PersistentVolumeClaim"},
		{"own label", set.Spec.Template.Labels["team"], "security"},
		{"pod", *p.SecurityContext.FSGroup + p.SecurityContext.SupplementalGroups[0] + *p.SecurityContext.RunAsUser, int64(65547)},
		{"container", string(container.SecurityContext.SeccompProfile.Type), "RuntimeDefault"},
		{"DNS", string(p.DNSPolicy) + p.DNSConfig.Nameservers[0] + p.HostAliases[0].IP, "None10.0.0.5310.0.0.7"},
		{"monitor", monitor.Namespace + strings.Join(monitor.Spec.NamespaceSelector.MatchNames, ","), "monitorsmonitoring"},
		{"rule", one[monitoring.PrometheusRule](t, r, "PrometheusRule").Namespace, "rules"},
		{"budget", string(*one[disruption.PodDisruptionBudget](t, r, "PodDisruptionBudget").Spec.UnhealthyPodEvictionPolicy), "AlwaysAllow"},
		{"extra", strings.Join(extra, " "), "monitoring/one other/ncp-exporter-two"},
	} {
		if v.got != v.want {
			t.Errorf("%s is %v, want %v", v.what, v.got, v.want)
		}
	}
	var ports []int32
	for _, rule := range one[networking.NetworkPolicy](t, r, "NetworkPolicy").Spec.Egress {
		for _, port := range rule.Ports {
			ports = append(ports, port.Port.IntVal)
		}
	}
	if diff := cmp.Diff([]int32{53, 53, 5353, 5353, 443}, ports); diff != "" {
		t.Errorf("ports to the outside: %s", diff)
	}
}

// TestChartOfOpenShift leaves to the platform what it chooses by itself.
func TestChartOfOpenShift(t *testing.T) {
	const values = `
podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null, fsGroupChangePolicy: null, seccompProfile: null, runAsNonRoot: null}
securityContext: {allowPrivilegeEscalation: null, readOnlyRootFilesystem: null, capabilities: null}
`
	r, err := Template(chartDir, "ncp-exporter", "monitoring", values)
	if err != nil {
		t.Fatal(err)
	}
	if p := pod(t, r); p.SecurityContext != nil || p.Containers[0].SecurityContext != nil {
		t.Errorf("%+v, %+v", p.SecurityContext, p.Containers[0].SecurityContext)
	}
	r, err = Template(chartDir, "ncp-exporter", "monitoring", "podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}")
	if err != nil {
		t.Fatal(err)
	}
	if s := pod(t, r).SecurityContext; s.RunAsUser != nil || s.RunAsGroup != nil || s.FSGroup != nil || !*s.RunAsNonRoot {
		t.Errorf("%+v", s)
	}
}

func TestChartOfDemo(t *testing.T) {
	r := helm(t, "demo: true")
	set := one[appsv1.StatefulSet](t, r, "StatefulSet")
	if p := set.Spec.Template.Spec; len(set.Spec.VolumeClaimTemplates)+len(p.Volumes)+len(p.Containers[0].VolumeMounts) > 0 || set.Spec.PersistentVolumeClaimRetentionPolicy != nil {
		t.Errorf("a demo has volumes: %+v", set.Spec)
	}
	if !strings.Contains(r.Notes, "Uninstall it before") {
		t.Errorf("the notes do not tell how a demo ends:\n%s", r.Notes)
	}
	if strings.Contains(r.Notes, "ledger.persistent") {
		t.Errorf("the notes of a demo speak of a ledger:\n%s", r.Notes)
	}
}

// TestChartTest is what `helm test` runs: the exporter's pod, but for what only the
// exporter itself may have.
func TestChartTest(t *testing.T) {
	for _, values := range []string{"", everything, asked, "demo: true", "ledger: {persistent: false}"} {
		r := helm(t, values)
		if len(r.Tests) != 1 || !strings.Contains(r.Notes, "helm --namespace monitoring test ncp-exporter") {
			t.Fatalf("%d tests; the notes say\n%s", len(r.Tests), r.Notes)
		}
		var test corev1.Pod
		if err := r.Tests[0].Into(&test); err != nil {
			t.Fatal(err)
		}
		template := &corev1.PodTemplateSpec{ObjectMeta: test.ObjectMeta, Spec: test.Spec}
		if err := checker(t).pod(template); err != nil {
			t.Error(err)
		}
		container, serving := test.Spec.Containers[0], pod(t, r)
		if diff := cmp.Diff([]string{"--check", "--state.file="}, container.Args); diff != "" || test.Spec.RestartPolicy != "Never" {
			t.Errorf("%s, restarted %s", diff, test.Spec.RestartPolicy)
		}
		if within(one[appsv1.StatefulSet](t, r, "StatefulSet").Spec.Selector.MatchLabels, test.Labels) {
			t.Errorf("the labels %v are those of the exporter, so it would be scraped", test.Labels)
		}
		own := func(name string) bool {
			return name == "NCP_EXPORTER_STATE_FILE" || strings.HasSuffix(name, "_SHARD") || strings.HasSuffix(name, "_TOTAL_SHARDS")
		}
		env := slices.DeleteFunc(serving.Containers[0].Env, func(v corev1.EnvVar) bool { return own(v.Name) })
		if diff := cmp.Diff(env, container.Env); diff != "" {
			t.Errorf("variables: -serving +test\n%s", diff)
		}
		mounts := slices.DeleteFunc(serving.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "ledger" })
		if len(mounts) != len(container.VolumeMounts) {
			t.Errorf("mounts %v, and %v of the exporter", container.VolumeMounts, mounts)
		}
		for _, m := range container.VolumeMounts {
			if !slices.ContainsFunc(test.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
				t.Errorf("the volume %s is not there", m.Name)
			}
		}
	}
}

// TestRulesKnowTheirJob has a job whose name does not tell what it is.
func TestRulesKnowTheirJob(t *testing.T) {
	for override, want := range map[string]bool{"certificates": true, "": false} {
		r := helm(t, "prometheusRule: {enabled: true}", "fullnameOverride="+override)
		found := false
		for _, group := range one[monitoring.PrometheusRule](t, r, "PrometheusRule").Spec.Groups {
			for _, rule := range group.Rules {
				if rule.Alert == "NCPExporterDown" {
					found = strings.Contains(rule.Expr.StrVal, `up{job=~"monitoring/certificates|`)
				}
			}
		}
		if found != want {
			t.Errorf("%q: the job is named: %t", override, found)
		}
	}
}

// TestUmbrella has the chart as a dependency with a condition.
func TestUmbrella(t *testing.T) {
	for on, want := range map[bool]bool{true: true, false: false} {
		exporter, err := loader.LoadDir(chartDir)
		if err != nil {
			t.Fatal(err)
		}
		umbrella := &chart.Chart{Metadata: &chart.Metadata{
			APIVersion: "v2", Name: "umbrella", Version: "1.0.0",
			Dependencies: []*chart.Dependency{{Name: exporter.Name(), Version: exporter.Metadata.Version, Condition: "ncp-exporter.enabled"}},
		}}
		umbrella.AddDependency(exporter)
		values := map[string]any{"ncp-exporter": map[string]any{"enabled": on, "demo": true}, "global": map[string]any{"x": "y"}}
		if err := chartutil.ProcessDependenciesWithMerge(umbrella, values); err != nil {
			t.Fatal(err)
		}
		all, err := chartutil.ToRenderValues(umbrella, values, chartutil.ReleaseOptions{Name: "all", Namespace: "n"}, chartutil.DefaultCapabilities)
		if err != nil {
			t.Fatal(err)
		}
		files, err := engine.Engine{Strict: true}.Render(umbrella, all)
		if err != nil {
			t.Fatal(err)
		}
		if _, found := files["umbrella/charts/ncp-exporter/templates/statefulset.yaml"]; found != want {
			t.Errorf("enabled %t: there is a StatefulSet: %t", on, found)
		}
	}
}

// TestPackagedChart wants what is in a package to be complete, and no link to lead out
// of it.
func TestPackagedChart(t *testing.T) {
	loaded, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	file, err := chartutil.Save(loaded, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	packaged, err := loader.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range packaged.Raw {
		files[f.Name] = string(f.Data)
	}
	for _, name := range []string{"Chart.yaml", "README.md", "values.yaml", "values.schema.json", "templates/_pod.tpl", "templates/NOTES.txt"} {
		if files[name] == "" {
			t.Errorf("the package lacks %s", name)
		}
	}
	for _, match := range regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`).FindAllStringSubmatch(files["README.md"], -1) {
		if files[filepath.Clean(match[1])] == "" {
			t.Errorf("README.md has a link to %s, which is not in the package", match[1])
		}
	}
	ignored, err := os.ReadFile(filepath.Join(chartDir, ".helmignore"))
	if err != nil || !strings.Contains(string(ignored), "*.swp") || !strings.Contains(string(ignored), ".git/") {
		t.Errorf(".helmignore: %v\n%s", err, ignored)
	}
	if m := packaged.Metadata; m.KubeVersion == "" || len(m.Keywords) == 0 || m.Annotations["artifacthub.io/license"] != "Apache-2.0" {
		t.Errorf("metadata %+v", m)
	}
}
