package checks

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// blocks are the fenced blocks of a file, by the language and by what a comment
// before them says is tested.
type block struct{ tested, language, text string }

func blocks(t *testing.T, file string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file)) //nolint:gosec // files of this repository
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	for _, match := range regexp.MustCompile("(?ms)(?:^<!-- tested: ([a-z]+) -->\n)?^```([a-z]*)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		all = append(all, block{match[1], match[2], match[3]})
	}
	return all
}

func readme(t *testing.T, tested string) string {
	t.Helper()
	for _, b := range blocks(t, "README.md") {
		if b.tested == tested {
			return b.text
		}
	}
	t.Fatalf("README.md has no block that is marked as tested: %s", tested)
	return ""
}

// TestReadmeMarks demands that each way to install has a test: these two are held
// here, docker by deploy/image/test.sh, systemd and prometheus by the tests of
// deploy/release.
func TestReadmeMarks(t *testing.T) {
	var got []string
	for _, b := range blocks(t, "README.md") {
		mentions := regexp.MustCompile(`(?m)^(docker|kubectl|helm|sudo|systemctl) |kustomize\.config\.k8s\.io|scrape_configs:`).MatchString(b.text)
		if mentions && b.tested == "" {
			t.Errorf("this block is tested nowhere:\n%s", b.text)
		}
		if b.tested != "" {
			got = append(got, b.tested)
		}
	}
	if want := "docker kustomization kubernetes helm systemd accounts accountkeys prometheus"; strings.Join(got, " ") != want {
		t.Errorf("tested are %v, want %s", got, want)
	}
}

// commands are the lines of a script as words.
func commands(script string) [][]string {
	var all [][]string
	for line := range strings.Lines(strings.ReplaceAll(script, "\\\n", " ")) {
		if words := strings.Fields(line); len(words) > 0 {
			all = append(all, words)
		}
	}
	return all
}

// options takes the words of a command apart: options by name, and what is left.
func options(t *testing.T, words []string, flags ...string) (map[string][]string, []string) {
	t.Helper()
	given, rest := map[string][]string{}, []string{}
	for i := 0; i < len(words); i++ {
		name, value, ok := strings.Cut(words[i], "=")
		switch {
		case !strings.HasPrefix(name, "-"):
			rest = append(rest, words[i])
		case slices.Contains(flags, name):
			given[name] = append(given[name], "")
		case ok:
			given[name] = append(given[name], value)
		case i+1 < len(words):
			i++
			given[name] = append(given[name], words[i])
		default:
			t.Fatalf("%s has no value", name)
		}
	}
	return given, rest
}

// kubectl holds the commands of a block against what is installed. A command that
// it does not know is an error.
func kubectl(t *testing.T, words []string, installed Manifests, namespace string) {
	t.Helper()
	given, rest := options(t, words[1:])
	if given["--namespace"] != nil && given["--namespace"][0] != namespace {
		t.Errorf("%v is in namespace %s, want %s", words, given["--namespace"][0], namespace)
	}
	var set appsv1.StatefulSet
	if found, err := installed.One("StatefulSet", &set); err != nil || !found {
		t.Fatalf("StatefulSet: found %t, error %v", found, err)
	}
	switch strings.Join(rest[:min(3, len(rest))], " ") {
	case "create secret generic":
		var volume *corev1.SecretVolumeSource
		for _, v := range set.Spec.Template.Spec.Volumes {
			if v.Name == "keys" {
				volume = v.Secret
			}
		}
		if volume == nil || volume.SecretName != rest[3] {
			t.Fatalf("%v makes a secret that nobody mounts: %v", words, volume)
		}
		if len(volume.Items) == 0 && !slices.Equal(given["--from-file"], []string{"keys"}) {
			t.Errorf("%v does not take all files of keys/", words)
		}
		for _, item := range volume.Items {
			if !slices.Contains(given["--from-file"], item.Key) {
				t.Errorf("%v lacks %s", words, item.Key)
			}
		}
	case "create namespace " + namespace:
	case "delete statefulset " + set.Name:
		if !slices.Equal(given["--cascade"], []string{"orphan"}) {
			t.Errorf("%v takes the pods away", words)
		}
	case "rollout status statefulset/" + set.Name, "port-forward " + set.Name + "-0 10420", "apply":
	default:
		t.Errorf("no test knows what %v does", words)
	}
}

func TestReadmeKubernetes(t *testing.T) {
	all := testKustomization(t, userDirectory(t), readme(t, "kustomization"), readme(t, "kubernetes"))
	for _, m := range all {
		text := string(m.text)
		switch m.Kind {
		case "StatefulSet":
			if !strings.Contains(text, "image: registry.example.com/ncp_exporter:0.1.0\n") {
				t.Errorf("another image:\n%s", text)
			}
		case "ServiceMonitor", "PrometheusRule":
			if m.Metadata.Labels["release"] != "prometheus" {
				t.Errorf("%s has labels %v", m.Kind, m.Metadata.Labels)
			}
		}
	}
}

// TestReadmeAccounts has two other accounts in place of the examples.
func TestReadmeAccounts(t *testing.T) {
	base, patches, ok := strings.Cut(readme(t, "kustomization"), "patches:\n")
	block, patch, ok2 := strings.Cut(readme(t, "accounts"), "patches:\n")
	if !ok || !ok2 {
		t.Fatal("a block has no patches")
	}
	dir := userDirectory(t)
	for _, file := range []string{"accounts.yml", "servicemonitor.yaml"} {
		text := read(t, "deploy/kubernetes/overlays/accounts/"+file)
		if err := os.WriteFile(filepath.Join(dir, file), []byte(strings.ReplaceAll(text, "agency", "batch")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kustomization := strings.Replace(base, "overlays/single", "overlays/accounts", 1) + block + "patches:\n" + patches + patch
	all := testKustomization(t, dir, kustomization, readme(t, "accountkeys"))
	wantFixedName(t, all)
	var set appsv1.StatefulSet
	if _, err := all.One("StatefulSet", &set); err != nil {
		t.Fatal(err)
	}
	got, err := accountsOf(all, &set.Spec.Template.Spec)
	slices.Sort(got)
	if err != nil || !slices.Equal(got, []string{"batch", "prod"}) {
		t.Errorf("the accounts are %q, error %v", got, err)
	}
}

// userDirectory is where a user has a kustomization, with this repository beside it.
func userDirectory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	beside := filepath.Join(dir, "ncp_exporter/deploy")
	if err := os.MkdirAll(beside, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(beside, "kubernetes"), os.DirFS(filepath.Join(root, "deploy/kubernetes"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// testKustomization builds a kustomization, and holds the commands of a script against it.
func testKustomization(t *testing.T, dir, kustomization, script string) Manifests {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(kustomization), 0o600); err != nil {
		t.Fatal(err)
	}
	all := split(t, kustomize(t, dir))
	if err := checker(t).Check(all); err != nil {
		t.Error(err)
	}
	for _, words := range commands(script) {
		if words[0] != "kubectl" {
			t.Fatalf("no test knows what %v does", words)
		}
		kubectl(t, words, all, "ncp-exporter")
	}
	return all
}

func TestReadmeHelm(t *testing.T) {
	testHelmScript(t, readme(t, "helm"))
}

// testHelmScript renders what the first command installs, and holds the others
// against it.
func testHelmScript(t *testing.T, script string) {
	t.Helper()
	var release *Release
	for _, words := range commands(script) {
		if words[0] == "kubectl" && release != nil {
			kubectl(t, words, release.Manifests, "ncp-exporter")
			continue
		}
		given, rest := options(t, words, "--install", "--create-namespace")
		if len(rest) != 4 || strings.Join(rest[:2], " ") != "helm upgrade" {
			t.Fatalf("no test knows what %v does", words)
		}
		var err error
		if release, err = Template(filepath.Join(root, rest[3]), rest[2], given["--namespace"][0], "", given["--set"]...); err != nil {
			t.Fatal(err)
		}
		if err := checker(t).Check(release.Manifests); err != nil {
			t.Error(err)
		}
	}
}

// TestChartReadme renders with each block of values, and runs each script with the
// values before it.
func TestChartReadme(t *testing.T) {
	var scripts, values int
	r := helm(t, "")
	for _, b := range blocks(t, "deploy/helm/ncp-exporter/README.md") {
		switch b.language {
		case "yaml":
			values++
			r = helm(t, b.text)
		case "sh":
			scripts++
			if strings.HasPrefix(b.text, "kubectl") {
				for _, words := range commands(b.text) {
					kubectl(t, words, r.Manifests, "ncp-exporter")
				}
				continue
			}
			testHelmScript(t, b.text)
		default:
			t.Errorf("nobody tests\n%s", b.text)
		}
	}
	if scripts < 3 || values < 4 {
		t.Errorf("%d scripts and %d blocks of values are tested", scripts, values)
	}
}
