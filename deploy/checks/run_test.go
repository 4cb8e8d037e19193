package checks

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// TestPodsRun starts the program as each pod would: with its variables, its mounts
// (in a directory of the test) and no others. Its probes must be answered, and where
// there are keys, they must be found.
func TestPodsRun(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "ncp_exporter")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", root, "-o", binary, ".") //nolint:gosec // in a directory of the test
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	template := func(values string) Manifests {
		t.Helper()
		r, err := Template(chartDir, "ncp-exporter", "monitoring", values)
		if err != nil {
			t.Fatal(err)
		}
		return r.Manifests
	}
	for _, test := range []struct {
		name      string
		manifests Manifests
		want      []string // in the log
	}{
		{"single", split(t, kustomize(t, overlay("single"))), []string{"Counting begins with a new ledger", "access-key"}},
		{"single with the demo of README.md", demo(t, overlay("single")), []string{"Counting begins with a new ledger", "keys=demo"}},
		{"sharded", split(t, kustomize(t, overlay("sharded"))), []string{"Counting begins with a new ledger", "access-key"}},
		{"two keys", split(t, kustomize(t, overlay("two-keys"))), []string{"profile main-account", "profile DEFAULT"}},
		{"accounts", split(t, kustomize(t, overlay("accounts"))), []string{"account=prod", "account=agency", "accounts/prod"}},
		{"chart with accounts", template(accounts), []string{"account=prod", "account=agency", "profile main", "accounts/agency"}},
		{"chart", template(""), []string{"Counting begins with a new ledger", "access-key"}},
		{"chart of a demo", template("demo: true"), []string{"Counting in memory", "keys=demo"}},
		{"chart with profiles", template("profiles: {existingSecret: mine, certificateManager: main}"), []string{"profile main", "configure"}},
		{"chart with users", template("web: {config: {basic_auth_users: {prometheus: '" + hash + "'}}}"), []string{"access-key"}},
		{"chart with flags", template("flags: {ncp.rate-limit: 0.5, collector.external-access.page-size: 1000000, collector.certificate-manager: false, log.format: json}"), []string{`"msg":"Watching"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var set appsv1.StatefulSet
			if _, err := test.manifests.One("StatefulSet", &set); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			container := set.Spec.Template.Spec.Containers[0]
			mount(t, dir, container, set.Spec.Template.Spec.Volumes, test.manifests)
			var env []string
			for _, v := range container.Env {
				value := v.Value
				for _, m := range container.VolumeMounts {
					if strings.HasPrefix(value, m.MountPath+"/") {
						value = dir + value
					}
				}
				if v.ValueFrom != nil { // metadata.name
					value = set.Name + "-2"
				}
				env = append(env, v.Name+"="+value)
			}
			said := runPod(t, binary, dir, env, container)
			for _, part := range test.want {
				if !strings.Contains(said, part) {
					t.Errorf("the log lacks %q:\n%s", part, said)
				}
			}
		})
	}
}

// demo is an overlay after the command of README.md that turns it into the demo, without
// its secret: the pod starts all the same.
func demo(t *testing.T, dir string) Manifests {
	t.Helper()
	text := kustomize(t, dir)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile("`kubectl --namespace ncp-exporter set env statefulset/ncp-exporter ([A-Z_]+)=(true)`").FindStringSubmatch(string(readme))
	if match == nil {
		t.Fatal("README.md does not say how to have the demo")
	}
	const before = "      - env:\n"
	if !strings.Contains(string(text), before) || !strings.Contains(string(text), "optional: true") {
		t.Fatalf("no variables, or a secret that must be there:\n%s", text)
	}
	added := before + "        - name: " + match[1] + "\n          value: \"" + match[2] + "\"\n"
	return split(t, []byte(strings.Replace(string(text), before, added, 1)))
}

// mount makes the directories of a container and fills those that are secrets.
func mount(t *testing.T, dir string, container corev1.Container, volumes []corev1.Volume, all Manifests) {
	t.Helper()
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range container.VolumeMounts {
		at := filepath.Join(dir, m.MountPath)
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if m.MountPath == "/etc/ncp_exporter/accounts" {
			mountAccounts(t, at, all, &corev1.PodSpec{Containers: []corev1.Container{container}, Volumes: volumes})
			continue
		}
		for _, v := range volumes {
			if v.Name != m.Name || v.Secret == nil || m.MountPath == "/etc/ncp_exporter/accounts/keys" {
				continue
			}
			for _, item := range v.Secret.Items {
				write(filepath.Join(at, item.Path), keyFile(item.Path))
			}
			if len(v.Secret.Items) == 0 {
				var secret corev1.Secret
				if found, err := all.One("Secret", &secret); err != nil || !found {
					t.Fatalf("Secret: found %t, error %v", found, err)
				}
				for name, text := range secret.StringData {
					write(filepath.Join(at, name), text)
				}
			}
		}
	}
}

// keyFile is what a secret has in a file of this name.
func keyFile(name string) string {
	if name != "configure" {
		return "key-" + name
	}
	const keys = "ncloud_access_key_id = a\nncloud_secret_access_key = b\n"
	return "[DEFAULT]\n" + keys + "[main]\n" + keys + "[main-account]\n" + keys
}

// mountAccounts writes the file of the accounts, and each file of keys that it names.
func mountAccounts(t *testing.T, dir string, all Manifests, pod *corev1.PodSpec) {
	t.Helper()
	text, err := mountedFile(all, pod, "/etc/ncp_exporter/accounts/accounts.yml")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"accounts.yml": text}
	for _, match := range regexp.MustCompile(`_file: (keys/[^\s,}]+)`).FindAllStringSubmatch(text, -1) {
		files[match[1]] = keyFile(filepath.Base(match[1]))
	}
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// runPod runs the container's program until its probes were answered, and gives its
// log.
func runPod(t *testing.T, binary, dir string, env []string, container corev1.Container) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"--web.listen-address=127.0.0.1:0"}, container.Args...)...) //nolint:gosec // just built
	cmd.Dir, cmd.Env = dir, env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var (
		log     strings.Builder
		address string
		line    = bufio.NewScanner(stderr)
		host    = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	)
	for address == "" && line.Scan() {
		log.WriteString(line.Text() + "\n")
		if strings.Contains(line.Text(), "Listening on") {
			address = host.FindString(line.Text())
		}
	}
	rest := make(chan struct{})
	go func() { defer close(rest); _, _ = io.Copy(io.Discard, stderr) }() // so that it can go on writing
	if address == "" {
		t.Errorf("the pod does not start:\n%s", &log)
	} else {
		for _, probe := range []*corev1.Probe{container.LivenessProbe, container.ReadinessProbe} {
			if probe.HTTPGet != nil {
				answers(ctx, t, "http://"+address+probe.HTTPGet.Path)
			}
		}
	}
	cancel()
	<-rest
	_ = cmd.Wait() // it was interrupted
	return log.String()
}

func answers(ctx context.Context, t *testing.T, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	_ = resp.Body.Close() // it is not read
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", url, resp.Status)
	}
}
