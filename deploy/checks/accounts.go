package checks

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// checkAccounts checks that the monitor scrapes the exporter itself once, and each
// account of its file once.
func checkAccounts(all Manifests, set *appsv1.StatefulSet, monitor *monitoring.ServiceMonitor) []error {
	var wrong []error
	accounts, err := accountsOf(all, &set.Spec.Template.Spec)
	if err != nil {
		wrong = append(wrong, err)
	}
	scraped := []string{}
	for _, e := range monitor.Spec.Endpoints {
		name := strings.Join(e.Params["account"], " ")
		if name == "" {
			scraped = append(scraped, "")
			continue
		}
		scraped = append(scraped, name)
		labelled := slices.ContainsFunc(e.RelabelConfigs, func(r monitoring.RelabelConfig) bool {
			return r.TargetLabel == "account" && r.Replacement != nil && *r.Replacement == name && len(r.SourceLabels) == 0
		})
		if e.Path != "/probe" || !labelled {
			wrong = append(wrong, fmt.Errorf("the endpoint of the account %s has the path %q, and sets the label account: %t", name, e.Path, labelled))
		}
	}
	want := append([]string{""}, accounts...)
	slices.Sort(want)
	slices.Sort(scraped)
	if len(monitor.Spec.Endpoints) > 0 && !slices.Equal(want, scraped) {
		wrong = append(wrong, fmt.Errorf("the ServiceMonitor scrapes %q, but there are %q (empty: the exporter itself)", scraped, want))
	}
	return wrong
}

// accountsOf are the names in the file of accounts of a pod; none if it has no file.
func accountsOf(all Manifests, pod *corev1.PodSpec) ([]string, error) {
	env := pod.Containers[0].Env
	i := slices.IndexFunc(env, func(v corev1.EnvVar) bool { return v.Name == "NCP_EXPORTER_CONFIG_FILE" })
	if i < 0 {
		return nil, nil
	}
	text, err := mountedFile(all, pod, env[i].Value)
	if err != nil {
		return nil, err
	}
	var file struct{ Accounts map[string]any }
	if err := yaml.UnmarshalStrict([]byte(text), &file); err != nil {
		return nil, err
	}
	if len(file.Accounts) == 0 {
		return nil, errors.New("the file of accounts has none")
	}
	var names []string
	for name := range file.Accounts {
		names = append(names, name)
	}
	return names, nil
}

// mountedFile is a file of a config map, whose changes reach the pod: that needs the
// whole directory.
func mountedFile(all Manifests, pod *corev1.PodSpec, file string) (string, error) {
	mounts := pod.Containers[0].VolumeMounts
	i := slices.IndexFunc(mounts, func(m corev1.VolumeMount) bool { return m.MountPath == path.Dir(file) })
	if i < 0 {
		return "", fmt.Errorf("nothing is mounted at the directory of %s", file)
	}
	v := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == mounts[i].Name && v.ConfigMap != nil })
	if v < 0 {
		return "", fmt.Errorf("%s is in no config map", file)
	}
	for _, m := range all {
		var c corev1.ConfigMap
		if m.Kind != "ConfigMap" || m.Metadata.Name != pod.Volumes[v].ConfigMap.Name {
			continue
		}
		if err := m.Into(&c); err != nil {
			return "", err
		}
		if text, ok := c.Data[path.Base(file)]; ok {
			return text, nil
		}
	}
	return "", fmt.Errorf("no config map %s holds %s", pod.Volumes[v].ConfigMap.Name, path.Base(file))
}
