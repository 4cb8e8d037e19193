// Package checks holds what deploy/ promises against the real tools: schemas of
// Kubernetes, the types of the Prometheus operator, the Pod Security Standards, and
// the libraries of kustomize and Helm. It is a module of its own, so that none of
// them is a dependency of the exporter.
package checks

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/yannh/kubeconform/pkg/validator"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	disruption "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// Manifest is one object of Kubernetes.
type Manifest struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   metav1.ObjectMeta `json:"metadata"`

	text []byte
}

// Into decodes the object; what its type does not have is an error.
func (m Manifest) Into(object any) error {
	return yaml.UnmarshalStrict(m.text, object)
}

// Manifests are all objects of one installation.
type Manifests []Manifest

// Split takes a stream of objects apart.
func Split(stream []byte) (Manifests, error) {
	var all Manifests
	reader := yamlutil.NewYAMLReader(bufio.NewReader(bytes.NewReader(stream)))
	for {
		text, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		m := Manifest{text: text}
		switch err := yaml.Unmarshal(text, &m); {
		case err != nil:
			return nil, fmt.Errorf("%w in\n%s", err, text)
		case m.Kind != "":
			all = append(all, m)
		}
	}
}

// One decodes the only object of a kind; false if there is none.
func (all Manifests) One(kind string, object any) (bool, error) {
	var found []Manifest
	for _, m := range all {
		if m.Kind == kind {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		return false, nil
	case 1:
		return true, found[0].Into(object)
	default:
		return true, fmt.Errorf("%d objects are of kind %s", len(found), kind)
	}
}

// Checker tells what is wrong with manifests.
type Checker struct {
	schemas   validator.Validator
	security  policy.Evaluator
	variables []string // that the exporter reads
}

// NewChecker makes a Checker of the tree at root.
func NewChecker(root string) (*Checker, error) {
	schemas, err := validator.New([]string{filepath.Join(root, "deploy/checks/schemas/{{.ResourceKind}}.json")}, validator.Opts{Strict: true})
	if err != nil {
		return nil, err
	}
	security, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, err
	}
	variables, err := Variables(root)
	return &Checker{schemas: schemas, security: security, variables: variables}, err
}

// Variables are the environment variables that the exporter reads, from the
// table of flags that its own tests hold against the code.
func Variables(root string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(root, "docs/configuration.md")) //nolint:gosec // a file of this repository
	if err != nil {
		return nil, err
	}
	all := []string{
		"NCLOUD_ACCESS_KEY_ID", "NCLOUD_SECRET_ACCESS_KEY", "NCLOUD_PROFILE", "NCLOUD_SITE",
		"HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE",
	}
	for _, match := range regexp.MustCompile("`(NCP_EXPORTER_[A-Z_]+)`").FindAllStringSubmatch(string(text), -1) {
		all = append(all, match[1])
	}
	return all, nil
}

// Check tells all that is wrong with the manifests.
func (c *Checker) Check(all Manifests) error {
	var wrong []error
	for _, m := range all {
		if err := c.checkOne(m); err != nil {
			wrong = append(wrong, fmt.Errorf("%s %s: %w", m.Kind, m.Metadata.Name, err))
		}
	}
	return errors.Join(append(wrong, checkTogether(all)...)...)
}

func (c *Checker) checkOne(m Manifest) error {
	switch m.Kind {
	case monitoring.ServiceMonitorsKind:
		return monitor(m)
	case monitoring.PrometheusRuleKind:
		return rules(m)
	}
	for _, result := range c.schemas.Validate("manifest", io.NopCloser(bytes.NewReader(m.text))) {
		if result.Status != validator.Valid {
			return result.Err
		}
	}
	if m.Kind != "StatefulSet" {
		return nil
	}
	var set appsv1.StatefulSet
	if err := m.Into(&set); err != nil {
		return err
	}
	return c.pod(&set.Spec.Template)
}

// monitor decodes into the operator's type, and checks what its custom resource
// asks of durations.
func monitor(m Manifest) error {
	var monitor monitoring.ServiceMonitor
	if err := m.Into(&monitor); err != nil {
		return err
	}
	if m.APIVersion != monitoring.SchemeGroupVersion.String() {
		return fmt.Errorf("apiVersion %s", m.APIVersion)
	}
	duration := regexp.MustCompile(`^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$`)
	for _, e := range monitor.Spec.Endpoints {
		if !duration.MatchString(string(e.Interval)) || !duration.MatchString(string(e.ScrapeTimeout)) {
			return fmt.Errorf("interval %q or timeout %q is not a duration", e.Interval, e.ScrapeTimeout)
		}
	}
	return nil
}

func rules(m Manifest) error {
	var rule monitoring.PrometheusRule
	if err := m.Into(&rule); err != nil {
		return err
	}
	if m.APIVersion != monitoring.SchemeGroupVersion.String() {
		return fmt.Errorf("apiVersion %s", m.APIVersion)
	}
	for _, group := range rule.Spec.Groups {
		for _, r := range group.Rules {
			if (r.Alert == "") == (r.Record == "") || r.Expr.String() == "" {
				return fmt.Errorf("group %s has a rule that is neither an alert nor a recording: %+v", group.Name, r)
			}
		}
	}
	return nil
}

// pod checks a pod against the Pod Security Standard "restricted" and what is
// stricter here.
func (c *Checker) pod(pod *corev1.PodTemplateSpec) error {
	var wrong []error
	for _, result := range c.security.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &pod.ObjectMeta, &pod.Spec) {
		if !result.Allowed {
			wrong = append(wrong, fmt.Errorf("%s: %s", result.ForbiddenReason, result.ForbiddenDetail))
		}
	}
	no := func(value *bool) bool { return value != nil && !*value }
	if !no(pod.Spec.AutomountServiceAccountToken) {
		wrong = append(wrong, errors.New("the pod gets a token of its service account"))
	}
	if !no(pod.Spec.EnableServiceLinks) {
		wrong = append(wrong, errors.New("the pod gets variables of services, which may be named like the exporter's own"))
	}
	if s := pod.Spec.SecurityContext; s == nil || s.RunAsUser == nil || *s.RunAsUser != 65532 {
		wrong = append(wrong, errors.New("the pod does not run as user 65532"))
	}
	for _, container := range pod.Spec.Containers {
		if s := container.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			wrong = append(wrong, fmt.Errorf("container %s can write its root file system", container.Name))
		}
		for _, variable := range container.Env {
			if !slices.Contains(c.variables, variable.Name) {
				wrong = append(wrong, fmt.Errorf("container %s sets %s, which the exporter does not read", container.Name, variable.Name))
			}
		}
		if _, bounded := container.Resources.Limits[corev1.ResourceMemory]; !bounded {
			wrong = append(wrong, fmt.Errorf("container %s has no bound of memory", container.Name))
		}
	}
	return errors.Join(wrong...)
}

// checkTogether checks that the objects fit each other.
func checkTogether(all Manifests) []error {
	var (
		set     appsv1.StatefulSet
		service corev1.Service
		monitor monitoring.ServiceMonitor
		wrong   []error
	)
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	for kind, object := range map[string]any{"StatefulSet": &set, "Service": &service} {
		if found, err := all.One(kind, object); err != nil || !found {
			say("there is not one sound %s: %w", kind, err)
		}
	}
	monitored, err := all.One(monitoring.ServiceMonitorsKind, &monitor)
	if err != nil {
		say("ServiceMonitor: %w", err)
	}
	if len(wrong) > 0 {
		return wrong
	}
	if set.Spec.ServiceName != service.Name {
		say("the StatefulSet names the service %q, but that is %q", set.Spec.ServiceName, service.Name)
	}
	selectors := map[string]map[string]string{"Service": service.Spec.Selector, "StatefulSet": set.Spec.Selector.MatchLabels}
	var network networking.NetworkPolicy
	if found, err := all.One("NetworkPolicy", &network); err != nil {
		say("NetworkPolicy: %w", err)
	} else if found {
		selectors["NetworkPolicy"] = network.Spec.PodSelector.MatchLabels
		if !letsIn(network.Spec.Ingress, set.Spec.Template.Spec.Containers[0]) {
			say("the NetworkPolicy lets nobody in to a port of the exporter")
		}
	}
	var budget disruption.PodDisruptionBudget
	if found, err := all.One("PodDisruptionBudget", &budget); err != nil {
		say("PodDisruptionBudget: %w", err)
	} else if found {
		selectors["PodDisruptionBudget"] = nil
		if s := budget.Spec.Selector; s != nil {
			selectors["PodDisruptionBudget"] = s.MatchLabels
		}
	}
	for what, selector := range selectors {
		if !within(selector, set.Spec.Template.Labels) {
			say("the selector of the %s %v does not select the pods %v", what, selector, set.Spec.Template.Labels)
		}
	}
	if monitored {
		wrong = append(wrong, checkMonitor(&monitor, &service)...)
		wrong = append(wrong, checkAccounts(all, &set, &monitor)...)
	}
	return append(wrong, checkPod(&set)...)
}

// checkMonitor checks that the monitor finds the service and its port.
func checkMonitor(monitor *monitoring.ServiceMonitor, service *corev1.Service) []error {
	var wrong []error
	if !within(monitor.Spec.Selector.MatchLabels, service.Labels) {
		wrong = append(wrong, fmt.Errorf("the ServiceMonitor's selector %v does not select the service %v", monitor.Spec.Selector.MatchLabels, service.Labels))
	}
	if label := monitor.Spec.JobLabel; label != "" && service.Labels[label] == "" {
		wrong = append(wrong, fmt.Errorf("the ServiceMonitor takes the job from %s, which the service does not have", label))
	}
	for _, e := range monitor.Spec.Endpoints {
		for label, from := range map[string]string{"instance": "__meta_kubernetes_pod_name", "job": "__meta_kubernetes_namespace/__meta_kubernetes_service_name"} {
			if !slices.ContainsFunc(e.RelabelConfigs, func(r monitoring.RelabelConfig) bool { return r.TargetLabel == label && sources(r) == from }) {
				wrong = append(wrong, fmt.Errorf("the ServiceMonitor does not take %s from %s: a restart, or a release of the same name, mixes up series", label, from))
			}
		}
		if !slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == e.Port }) {
			wrong = append(wrong, fmt.Errorf("the ServiceMonitor scrapes the port %q, which the service does not have", e.Port))
		}
	}
	return wrong
}

// sources are the labels that a relabelling reads, if it takes them as they are.
func sources(r monitoring.RelabelConfig) string {
	var names []string
	for _, name := range r.SourceLabels {
		names = append(names, string(name))
	}
	separator := ";"
	if r.Separator != nil {
		separator = *r.Separator
	}
	if r.Action != "" || r.Regex != "" || r.Replacement != nil {
		return ""
	}
	return strings.Join(names, separator)
}

// checkPod checks that what a container refers to is there, and that a StatefulSet
// of several pods shares out the work.
func checkPod(set *appsv1.StatefulSet) []error {
	var wrong []error
	volumes := map[string]bool{}
	for _, v := range set.Spec.Template.Spec.Volumes {
		volumes[v.Name] = true
	}
	for _, v := range set.Spec.VolumeClaimTemplates {
		volumes[v.Name] = true
	}
	total, sharded := 1, false
	for _, container := range set.Spec.Template.Spec.Containers {
		for _, mount := range container.VolumeMounts {
			if !volumes[mount.Name] {
				wrong = append(wrong, fmt.Errorf("the volume %s is mounted, but is not there", mount.Name))
			}
			if mount.SubPath != "" {
				wrong = append(wrong, fmt.Errorf("the volume %s is mounted with a subPath, so its changes do not reach the pod", mount.Name))
			}
		}
		for _, variable := range container.Env {
			switch variable.Name {
			case "NCP_EXPORTER_TOTAL_SHARDS":
				total, _ = strconv.Atoi(variable.Value) // 0 fits no number of replicas
			case "NCP_EXPORTER_SHARD":
				from := variable.ValueFrom
				sharded = from != nil && from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.name"
			}
			if strings.HasSuffix(variable.Name, "_FILE") && !mounted(container, variable.Value) {
				wrong = append(wrong, fmt.Errorf("%s is %s, where nothing is mounted", variable.Name, variable.Value))
			}
		}
	}
	replicas := 1
	if set.Spec.Replicas != nil {
		replicas = int(*set.Spec.Replicas)
	}
	if replicas != total || sharded != (total > 1) {
		wrong = append(wrong, fmt.Errorf("%d replicas, but %d shards (told from the pod's name: %t): each replica would count everything, or some subjects nobody", replicas, total, sharded))
	}
	return wrong
}

// letsIn tells whether a rule lets somebody else reach a port of the container.
func letsIn(rules []networking.NetworkPolicyIngressRule, container corev1.Container) bool {
	return slices.ContainsFunc(rules, func(rule networking.NetworkPolicyIngressRule) bool {
		return slices.ContainsFunc(rule.Ports, func(port networking.NetworkPolicyPort) bool {
			return slices.ContainsFunc(container.Ports, func(p corev1.ContainerPort) bool { return port.Port != nil && p.Name == port.Port.StrVal })
		})
	})
}

func mounted(container corev1.Container, path string) bool {
	return path == "" || slices.ContainsFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool {
		return strings.HasPrefix(path, m.MountPath+"/")
	})
}

func within(selector, labels map[string]string) bool {
	for name, value := range selector {
		if labels[name] != value {
			return false
		}
	}
	return len(selector) > 0
}
