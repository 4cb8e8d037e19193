// Package compose checks what `docker compose up` starts. No test can start it, but a
// test can see that each part finds what it expects of the others.
package compose

import (
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// service is what is used here of a service; the schema knows the rest.
type service struct {
	Image       string
	Build       struct{ Context string }
	User        string
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	SecurityOpt []string `yaml:"security_opt"`
	Privileged  bool
	CapAdd      []string `yaml:"cap_add"`
	NetworkMode string   `yaml:"network_mode"`
	Command     []string
	Environment map[string]string
	Volumes     []string
	Ports       []string
	DependsOn   []string `yaml:"depends_on"`
	MemLimit    string   `yaml:"mem_limit"`
	PidsLimit   int      `yaml:"pids_limit"`
	Healthcheck struct{ Test []string }
	Logging     struct{ Options map[string]string }
}

type project struct {
	Services map[string]service
	Volumes  map[string]any
}

func load(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file) //nolint:gosec // a file of the repository
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func theProject(t *testing.T) project {
	t.Helper()
	var p project
	load(t, "compose.yaml", &p)
	return p
}

// withAccounts is the project that accounts.yaml makes of compose.yaml: its variables, and
// its mounts in place of those with the same path in the container.
func withAccounts(t *testing.T) project {
	t.Helper()
	p := theProject(t)
	var other project
	load(t, "accounts.yaml", &other)
	target := func(volume string) string { return strings.Split(volume, ":")[1] }
	for name, override := range other.Services {
		s, ok := p.Services[name]
		if !ok {
			t.Fatalf("compose.yaml has no service %s", name)
		}
		maps.Copy(s.Environment, override.Environment)
		for _, v := range override.Volumes {
			s.Volumes = append(slices.DeleteFunc(s.Volumes, func(old string) bool { return target(old) == target(v) }), v)
		}
		p.Services[name] = s
	}
	return p
}

// ports are the default ports of the programs.
func ports() map[string]string {
	return map[string]string{"exporter": "10420", "prometheus": "9090", "alertmanager": "9093", "grafana": "3000"}
}

// mounts are the files and directories here by their path in the container, and the
// named volumes.
func (s service) mounts(t *testing.T) (files, volumes map[string]string) {
	t.Helper()
	files, volumes = make(map[string]string), make(map[string]string)
	for _, v := range s.Volumes {
		parts := strings.Split(v, ":")
		switch {
		case len(parts) == 3 && strings.HasPrefix(parts[0], ".") && parts[2] == "ro":
			files[parts[1]] = filepath.Clean(parts[0])
		case len(parts) == 2 && !strings.ContainsAny(parts[0], "./"):
			volumes[parts[1]] = parts[0]
		default:
			t.Errorf("%s is neither a file to read here nor a named volume", v)
		}
	}
	return files, volumes
}

// here is the file here that a path in the container leads to.
func (s service) here(t *testing.T, inside string) string {
	t.Helper()
	files, _ := s.mounts(t)
	for target, source := range files {
		if inside == target || strings.HasPrefix(inside, target+"/") {
			file := filepath.Join(source, strings.TrimPrefix(inside, target))
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s is %s here: %v", inside, file, err)
			}
			return file
		}
	}
	t.Errorf("nothing is mounted that holds %s", inside)
	return ""
}

// flag is the value of a flag of the command.
func (s service) flag(t *testing.T, name string) string {
	t.Helper()
	for _, arg := range s.Command {
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return value
		}
	}
	t.Errorf("--%s is not given", name)
	return ""
}

func TestSchema(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	schema, err := compiler.Compile("schema/compose-spec.json")
	if err != nil {
		t.Fatal(err)
	}
	var content any
	for _, file := range []string{"accounts.yaml", "compose.yaml"} {
		content = nil
		load(t, file, &content)
		if err := schema.Validate(content); err != nil {
			t.Errorf("%s is no compose file: %v", file, err)
		}
	}
	content.(map[string]any)["services"].(map[string]any)["exporter"].(map[string]any)["read-only"] = true //nolint:forcetypeassert // ours
	if schema.Validate(content) == nil {
		t.Error("the schema lets a misspelled key pass")
	}
}

// TestServices wants pinned images with no rights, of which only Grafana can be
// reached, and that on this machine alone.
func TestServices(t *testing.T) {
	pinned := regexp.MustCompile(`^docker\.io/[a-z]+/[a-z]+:v?\d+\.\d+\.\d+$`)
	number := regexp.MustCompile(`^[1-9]\d*:\d+$`)
	p := theProject(t)
	for name, s := range p.Services {
		if s.Build.Context == "" && !pinned.MatchString(s.Image) {
			t.Errorf("%s: the image %s is not pinned by its version", name, s.Image)
		}
		if !number.MatchString(s.User) || !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") ||
			s.Privileged || len(s.CapAdd) > 0 || s.NetworkMode != "" {
			t.Errorf("%s may do more than it needs: %+v", name, s)
		}
		for _, port := range s.Ports {
			if name != "grafana" || !regexp.MustCompile(`^127\.0\.0\.1:\$\{\w+:-\d+\}:`+ports()[name]+`$`).MatchString(port) {
				t.Errorf("%s publishes %s", name, port)
			}
		}
		for _, other := range s.DependsOn {
			if _, ok := p.Services[other]; !ok {
				t.Errorf("%s depends on %s, which is not there", name, other)
			}
		}
		if _, ok := ports()[name]; !ok {
			t.Errorf("%s is a service that no test knows", name)
		}
	}
	if len(p.Services["grafana"].Ports) != 1 || len(p.Services) != len(ports()) {
		t.Error("Grafana is not published, or a service is missing")
	}
}

// TestLimits wants services that fill neither the memory nor the disk of the machine, and
// a health check that works in an image without a shell.
func TestLimits(t *testing.T) {
	size := regexp.MustCompile(`^\d+[mg]$`)
	p := theProject(t)
	for name, s := range p.Services {
		if !size.MatchString(s.MemLimit) || s.PidsLimit == 0 {
			t.Errorf("%s may use all memory or processes: %q, %d", name, s.MemLimit, s.PidsLimit)
		}
		if options := s.Logging.Options; !size.MatchString(options["max-size"]) || options["max-file"] == "" {
			t.Errorf("the log of %s grows without end: %v", name, options)
		}
	}
	if test := p.Services["exporter"].Healthcheck.Test; !slices.Equal(test, []string{"CMD", "/bin/ncp_exporter", "--health-check"}) {
		t.Errorf("the health of the exporter is asked by %q, but the image has nothing else", test)
	}
}

// TestMounts checks that whatever is mounted exists, and is mounted read-only.
func TestMounts(t *testing.T) {
	for name, p := range map[string]project{"one account": theProject(t), "accounts": withAccounts(t)} {
		t.Run(name, func(t *testing.T) { testMounts(t, p) })
	}
}

func testMounts(t *testing.T, p project) {
	t.Helper()
	var used []string
	for name, s := range p.Services {
		files, volumes := s.mounts(t)
		for inside := range files {
			s.here(t, inside)
		}
		for _, volume := range volumes {
			used = append(used, volume)
			if _, ok := p.Volumes[volume]; !ok {
				t.Errorf("%s: there is no volume %s", name, volume)
			}
		}
	}
	for volume := range p.Volumes {
		if !slices.Contains(used, volume) {
			t.Errorf("nobody uses the volume %s", volume)
		}
	}
}

// address checks that host:port is a service and a port that it listens on.
func (p project) address(t *testing.T, hostport, name string) {
	t.Helper()
	if hostport != name+":"+ports()[name] {
		t.Errorf("%s is not the %s", hostport, name)
	}
	if _, ok := p.Services[name]; !ok {
		t.Errorf("there is no service %s", name)
	}
}

type targets []struct {
	Targets []string
}

type prometheusFile struct {
	Global struct {
		ScrapeInterval     string `yaml:"scrape_interval"`
		ScrapeTimeout      string `yaml:"scrape_timeout"`
		EvaluationInterval string `yaml:"evaluation_interval"`
	}
	RuleFiles []string `yaml:"rule_files"`
	Alerting  struct {
		Alertmanagers []struct {
			StaticConfigs targets `yaml:"static_configs"`
		}
	}
	ScrapeConfigs []struct {
		JobName       string  `yaml:"job_name"`
		StaticConfigs targets `yaml:"static_configs"`
		HTTPSDConfigs []struct {
			URL             string
			RefreshInterval string `yaml:"refresh_interval"`
		} `yaml:"http_sd_configs"`
	} `yaml:"scrape_configs"`
}

func TestPrometheusFindsTheOthers(t *testing.T) {
	p := theProject(t)
	s := p.Services["prometheus"]
	inside := s.flag(t, "config.file")
	var c prometheusFile
	load(t, s.here(t, inside), &c)
	if len(c.ScrapeConfigs) != 1 || len(c.Alerting.Alertmanagers) != 1 || len(c.RuleFiles) != 1 {
		t.Fatalf("one job, one Alertmanager and one file of rules: %+v", c)
	}
	p.address(t, c.ScrapeConfigs[0].StaticConfigs[0].Targets[0], "exporter")
	p.address(t, c.Alerting.Alertmanagers[0].StaticConfigs[0].Targets[0], "alertmanager")
	if rules := s.here(t, path.Join(path.Dir(inside), c.RuleFiles[0])); rules != "ncp_exporter.rules.yml" {
		t.Errorf("its rules are %s", rules)
	}
	if _, volumes := s.mounts(t); volumes[s.flag(t, "storage.tsdb.path")] == "" {
		t.Error("its database is on no volume")
	}
	if retention, err := model.ParseDuration(s.flag(t, "storage.tsdb.retention.time")); err != nil || time.Duration(retention) < 10*24*time.Hour {
		t.Errorf("it keeps %s (%v), but a rule looks back at nine days", retention, err)
	}
}

// TestRunbooksOfAlerts wants the rules to be those of deploy/prometheus, and the link of
// each alert to lead to a section of the page that Grafana serves at its published port.
func TestRunbooksOfAlerts(t *testing.T) {
	type file struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Annotations map[string]string
			}
		}
	}
	text := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(name) //nolint:gosec // a file of the repository
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	grafana := theProject(t).Services["grafana"]
	port := regexp.MustCompile(`^127\.0\.0\.1:\$\{GRAFANA_PORT:-(\d+)\}:`).FindStringSubmatch(grafana.Ports[0])
	page := text(grafana.here(t, "/usr/share/grafana/public/runbooks.html"))
	want := "http://localhost:" + port[1] + "/public/runbooks.html#"
	var rules file
	load(t, "ncp_exporter.rules.yml", &rules)
	alerts := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			alerts++
			anchor, ok := strings.CutPrefix(r.Annotations["runbook_url"], want)
			if !ok || !strings.Contains(page, `<h2 id="`+anchor+`">`) {
				t.Errorf("the runbook of %s is said to be at %s", r.Alert, r.Annotations["runbook_url"])
			}
		}
	}
	if alerts < 20 {
		t.Errorf("there are %d alerts", alerts)
	}
	_, here, _ := strings.Cut(text("ncp_exporter.rules.yml"), "\n")
	source := strings.ReplaceAll(text("../prometheus/ncp_exporter.rules.yml"), "runbook_url: docs/runbooks.md#", "runbook_url: "+want)
	if diff := cmp.Diff(source, here); diff != "" {
		t.Errorf("the rules are others than those of deploy/prometheus: run `make deploy-sync`\n%s", diff)
	}
}

// TestAccounts wants a file that the exporter accepts, read as a directory so that changes
// reach it, and a Prometheus that asks the exporter which accounts there are and is
// otherwise as it is for one.
func TestAccounts(t *testing.T) {
	p := withAccounts(t)
	exporter, prometheus := p.Services["exporter"], p.Services["prometheus"]
	file := exporter.Environment["NCP_EXPORTER_CONFIG_FILE"]
	if mounted, _ := exporter.mounts(t); mounted[path.Dir(file)] != "accounts" {
		t.Errorf("the directory of %s is not mounted as a whole: %v", file, mounted)
	}
	for name, want := range map[string]string{"NCP_EXPORTER_DEMO": "false", "NCP_EXPORTER_CONFIG_AUTO_RELOAD_INTERVAL": "30s"} {
		if got := exporter.Environment[name]; got != want {
			t.Errorf("%s is %q, want %s", name, got, want)
		}
	}
	schema, err := jsonschema.NewCompiler().Compile("../../docs/accounts.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var accounts any
	load(t, exporter.here(t, file), &accounts)
	if err := schema.Validate(accounts); err != nil {
		t.Error(err)
	}

	var one, several prometheusFile
	load(t, "prometheus.yml", &one)
	load(t, prometheus.here(t, prometheus.flag(t, "config.file")), &several)
	if len(several.ScrapeConfigs) != 1 || len(several.ScrapeConfigs[0].HTTPSDConfigs) != 1 {
		t.Fatalf("one job that is discovered: %+v", several.ScrapeConfigs)
	}
	u, err := url.Parse(several.ScrapeConfigs[0].HTTPSDConfigs[0].URL)
	if err != nil || u.Scheme != "http" || u.Path != "/sd" {
		t.Errorf("the accounts are asked for at %s, error %v", u, err)
	}
	p.address(t, u.Host, "exporter")
	one.ScrapeConfigs[0].StaticConfigs, several.ScrapeConfigs[0].HTTPSDConfigs = nil, nil
	if diff := cmp.Diff(one, several); diff != "" {
		t.Errorf("-prometheus.yml +prometheus-accounts.yml:\n%s", diff)
	}
}

func TestAlertmanagerHasItsFile(t *testing.T) {
	s := theProject(t).Services["alertmanager"]
	if file := s.here(t, s.flag(t, "config.file")); file != "../prometheus/alertmanager.yml" {
		t.Errorf("its file is %s", file)
	}
	if _, volumes := s.mounts(t); volumes[s.flag(t, "storage.path")] == "" {
		t.Error("its silences are on no volume")
	}
	if s.flag(t, "cluster.listen-address") != "" {
		t.Error("it looks for others of its kind")
	}
}

func TestGrafanaIsProvisioned(t *testing.T) {
	p := theProject(t)
	s := p.Services["grafana"]
	var sources struct {
		Datasources []struct {
			Type, URL string
			IsDefault bool           `yaml:"isDefault"`
			JSONData  map[string]any `yaml:"jsonData"`
		}
	}
	load(t, s.here(t, "/etc/grafana/provisioning/datasources/prometheus.yml"), &sources)
	if len(sources.Datasources) != 1 || sources.Datasources[0].Type != "prometheus" || !sources.Datasources[0].IsDefault {
		t.Fatalf("one data source: %+v", sources)
	}
	source := sources.Datasources[0]
	u, err := url.Parse(source.URL)
	if err != nil {
		t.Fatal(err)
	}
	p.address(t, u.Host, "prometheus")

	var c prometheusFile
	load(t, "prometheus.yml", &c)
	scraped, err := model.ParseDuration(c.Global.ScrapeInterval)
	if err != nil {
		t.Fatal(err)
	}
	interval, _ := source.JSONData["timeInterval"].(string)
	if told, err := model.ParseDuration(interval); err != nil || told != scraped {
		t.Errorf("it is told that scrapes are %s apart (%v), but they are %s: graphs would stay empty, or coarse", told, err, scraped)
	}

	var providers struct {
		Providers []struct {
			Options struct{ Path string }
		}
	}
	load(t, s.here(t, "/etc/grafana/provisioning/dashboards/ncp.yml"), &providers)
	if len(providers.Providers) != 1 {
		t.Fatalf("one provider of dashboards: %+v", providers)
	}
	if dashboards := s.here(t, providers.Providers[0].Options.Path); dashboards != "../../grafana/dashboards" {
		t.Errorf("its dashboards are in %s", dashboards)
	}
	// Grafana serves its directory public, and dashboards link to a page there.
	for _, d := range []string{"ncp-oncall.json", "ncp-exporter.json"} {
		var dashboard struct {
			Templating struct {
				List []struct {
					Name    string
					Query   any
					Current struct{ Value any }
				}
			}
		}
		load(t, s.here(t, "/etc/grafana/dashboards/"+d), &dashboard)
		for _, v := range dashboard.Templating.List {
			if link, _ := v.Query.(string); v.Name == "runbooks" && (v.Current.Value != v.Query || s.here(t, "/usr/share/grafana"+link) != "../../grafana/runbooks.html") {
				t.Errorf("%s has its runbooks at %s", d, link)
			}
		}
	}
	if home := s.here(t, s.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]); home != "../../grafana/dashboards/ncp-oncall.json" {
		t.Errorf("its home is %s", home)
	}
	for name, value := range map[string]string{
		"GF_AUTH_ANONYMOUS_ENABLED": "true", "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer", // nobody else
		"GF_AUTH_BASIC_ENABLED": "false", "GF_AUTH_DISABLE_LOGIN_FORM": "true",
		"GF_PLUGINS_PREINSTALL_DISABLED": "true", // or the data source goes away
	} {
		if s.Environment[name] != value {
			t.Errorf("%s is %q, want %s", name, s.Environment[name], value)
		}
	}
}

// TestEnvironment wants the demo without .env, and in .env.example all that
// compose.yaml asks for and nothing that nobody knows.
func TestEnvironment(t *testing.T) {
	s := theProject(t).Services["exporter"]
	if s.Environment["NCP_EXPORTER_DEMO"] != "${NCP_EXPORTER_DEMO:-true}" {
		t.Error("it does not begin with the demo")
	}
	if _, volumes := s.mounts(t); volumes[path.Dir(s.Environment["NCP_EXPORTER_STATE_FILE"])] == "" {
		t.Error("the ledger is on no volume")
	}
	if _, err := os.Stat(filepath.Join(s.Build.Context, "go.mod")); err != nil {
		t.Errorf("the image is not built from the repository: %v", err)
	}
	read := func(file string) string {
		text, err := os.ReadFile(file) //nolint:gosec // a file of the repository
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	compose, example := read("compose.yaml"), read(".env.example")
	known := compose + read("../../README.md") + read("../../docs/configuration.md")
	var named []string
	for _, m := range regexp.MustCompile(`(?m)^#?([A-Z_]+)=`).FindAllStringSubmatch(example, -1) {
		named = append(named, m[1])
		if !regexp.MustCompile(`\b` + m[1] + `\b`).MatchString(known) {
			t.Errorf(".env.example: nobody knows %s", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`\$\{(\w+)`).FindAllStringSubmatch(compose, -1) {
		if !slices.Contains(named, m[1]) {
			t.Errorf(".env.example does not tell %s", m[1])
		}
	}
	if regexp.MustCompile(`(?m)^NCLOUD_\w+=.`).MatchString(example) {
		t.Error(".env.example holds a key")
	}
	for _, want := range []string{"NCP_EXPORTER_DEMO=false\n", "NCLOUD_ACCESS_KEY_ID=\n", "NCLOUD_SECRET_ACCESS_KEY=\n"} {
		if !strings.Contains(example, want) {
			t.Errorf(".env.example lacks %s", want)
		}
	}
}
