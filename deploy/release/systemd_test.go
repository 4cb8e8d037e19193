package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	service = "usr/lib/systemd/system/ncp_exporter.service"
	socket  = "usr/lib/systemd/system/ncp_exporter.socket"
)

// installed is the file system that the deb makes of an empty one. dpkg itself
// does it, so what it would complain of fails the test.
func installed(t *testing.T) string {
	t.Helper()
	dir := empty(t)
	cmd := exec.CommandContext(t.Context(), tool(t, "dpkg", "dpkg"), dpkg(dir, "--install", packaged(t, "deb"))...) //nolint:gosec // made by the test
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return dir
}

// dpkg are the arguments for a root that is not this machine's.
func dpkg(dir string, args ...string) []string {
	return append([]string{"--root=" + dir, "--log=/dev/null", "--force-not-root", "--force-depends", "--force-script-chrootless"}, args...)
}

// empty is a file system in which nothing is installed.
func empty(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"status", "available"} {
		if err := os.WriteFile(filepath.Join(dir, "var/lib/dpkg", f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestReadmeSystemd runs the block of README.md with the real dpkg and install on an
// empty file system. What systemctl and curl would do, TestService does, and `make
// systemd-test` where there is root.
func TestReadmeSystemd(t *testing.T) {
	dir, work := empty(t), t.TempDir()
	deb, err := os.ReadFile(packaged(t, "deb"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{filepath.Base(packaged(t, "deb")): deb, "access-key": []byte("a"), "secret-key": []byte("s")} {
		if err := os.WriteFile(filepath.Join(work, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := block(t, "README.md", "<!-- tested: systemd -->\n```sh\n")
	prelude := `
sudo() { "$@"; }
apt() { [ "$1" = install ] && shift && dpkg ` + strings.Join(dpkg(dir, "--install"), " ") + ` "$@"; }
systemctl() {
  [ "$1 $2" = "enable --now" ] || exit 1
  shift 2
  for unit; do grep -q '^WantedBy=' "` + dir + `/usr/lib/systemd/system/$unit.service"; done
}
curl() { :; }
`
	cmd := exec.CommandContext(t.Context(), "bash", "-e", "-c", prelude+strings.ReplaceAll(script, " /etc/", " "+dir+"/etc/")) //nolint:gosec // from the documentation
	cmd.Dir = work
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, key := range []string{"access-key", "secret-key"} {
		info, err := os.Stat(filepath.Join(dir, "etc/ncp_exporter", key))
		if err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v, error %v", key, info, err)
		}
	}
}

func packaged(t *testing.T, format string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(released.out, "*."+format))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, error %v", found, err)
	}
	return found[0]
}

func TestDeb(t *testing.T) {
	dir := installed(t)
	if version := output(t, filepath.Join(dir, "usr/bin/ncp_exporter"), "--version"); !strings.Contains(version, "v1.2.3-rc.1") {
		t.Errorf("the installed program says\n%s", version)
	}
	status := output(t, "dpkg-query", "--admindir="+filepath.Join(dir, "var/lib/dpkg"), "--show", "--showformat", "${Status} ${Version} ${Architecture}\n${Conffiles}", "ncp-exporter")
	if !strings.HasPrefix(status, "install ok installed 1.2.3~rc.1 amd64\n") || !strings.Contains(status, "/etc/default/ncp_exporter") {
		t.Errorf("dpkg says %q", status)
	}
	info, err := os.Stat(filepath.Join(dir, "etc/ncp_exporter"))
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the directory of the keys: %v, error %v", info, err)
	}
	// Removal leaves what the user wrote.
	if err := os.WriteFile(filepath.Join(dir, "etc/ncp_exporter/access-key"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "dpkg", dpkg(dir, "--remove", "ncp-exporter")...) //nolint:gosec // made by the test
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for path, want := range map[string]bool{"etc/ncp_exporter/access-key": true, "etc/default/ncp_exporter": true, "usr/bin/ncp_exporter": false, service: false} {
		if _, err := os.Stat(filepath.Join(dir, path)); (err == nil) != want {
			t.Errorf("after the removal %s is there: %t, want %t", path, err == nil, want)
		}
	}
}

func TestRPM(t *testing.T) {
	file := packaged(t, "rpm")
	rpm := tool(t, "rpm", "rpm")
	lines := strings.Fields(output(t, rpm, "--query", "--package", "--list", file))
	want := []string{
		"/etc/default/ncp_exporter", "/etc/ncp_exporter", "/usr/bin/ncp_exporter", "/" + service, "/" + socket,
		"/usr/lib/sysusers.d/ncp_exporter.conf", "/usr/lib/tmpfiles.d/ncp_exporter.conf",
		"/usr/share/bash-completion/completions/ncp_exporter", "/usr/share/doc/ncp-exporter/CHANGELOG.md",
		"/usr/share/doc/ncp-exporter/README.ko.md", "/usr/share/doc/ncp-exporter/README.md", "/usr/share/doc/ncp-exporter/SECURITY.md", "/usr/share/doc/ncp-exporter/copyright",
		"/usr/share/man/man1/ncp_exporter.1.gz", "/usr/share/zsh/site-functions/_ncp_exporter",
		"/usr/share/ncp_exporter/prometheus/alertmanager.yml", "/usr/share/ncp_exporter/prometheus/ncp_exporter.rules.yml",
	}
	for _, path := range tracked(t, "docs") {
		want = append(want, "/usr/share/doc/ncp-exporter/"+path)
	}
	for _, path := range tracked(t, "grafana/dashboards", "grafana/provisioning", "grafana/runbooks.html") {
		want = append(want, "/usr/share/ncp_exporter/"+path)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	got := output(t, rpm, "--query", "--package", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE} %{ARCH} %{BUILDHOST} %{BUILDTIME}", file)
	if want := fmt.Sprintf("ncp-exporter 1.2.3~rc.1-1 x86_64 localhost %d", released.date.Unix()); got != want {
		t.Errorf("rpm says %q, want %q", got, want)
	}
	output(t, rpm, "--checksig", "--nosignature", file)
}

func TestUnitsAreSound(t *testing.T) {
	dir := installed(t)
	if err := verify(t, dir); err != nil {
		t.Error(err)
	}
	unit := filepath.Join(dir, service)
	text, err := os.ReadFile(unit) //nolint:gosec // made by the test
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []struct{ old, replacement string }{
		{"User=", "Users="},
		{"[Service]", "[Services]"},
		{"ExecStart=/usr/bin/ncp_exporter", "ExecStart=/usr/bin/exporter"},
		{"SystemCallFilter=@system-service", "SystemCallFilter=@system-services"},
		{"Wants=network-online.target", "Requires=exporter.socket"},
		{"ExecReload=/bin/sh", "ExecReloads=/bin/sh"},
	} {
		if err := os.WriteFile(unit, []byte(strings.Replace(string(text), broken.old, broken.replacement, 1)), 0o600); err != nil { //nolint:gosec // in a directory of the test
			t.Fatal(err)
		}
		if err := verify(t, dir); err == nil {
			t.Errorf("%s instead of %s is not refused", broken.replacement, broken.old)
		}
	}
}

// TestOldSystemd wants no setting that systemd 239 does not know, but for those that only
// harden: it says so in its log, and goes on without them.
func TestOldSystemd(t *testing.T) {
	known := strings.Fields(`Description Documentation Wants After StartLimitIntervalSec WantedBy
		Type User Group ExecStart ExecReload Environment EnvironmentFile StateDirectory StateDirectoryMode
		Restart RestartSec TimeoutStopSec UMask MemoryMax TasksMax LimitCORE CapabilityBoundingSet AmbientCapabilities
		NoNewPrivileges LockPersonality MemoryDenyWriteExecute PrivateDevices PrivateTmp PrivateUsers
		ProtectControlGroups ProtectHome ProtectKernelModules ProtectKernelTunables ProtectSystem RemoveIPC
		RestrictAddressFamilies RestrictNamespaces RestrictRealtime DevicePolicy KeyringMode
		SystemCallArchitectures SystemCallFilter SystemCallErrorNumber`)
	hardens := strings.Fields("PrivateIPC ProtectClock ProtectHostname ProtectKernelLogs ProtectProc RestrictSUIDSGID")
	text, err := os.ReadFile(filepath.Join(released.root, "deploy/systemd/ncp_exporter.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile(`(?m)^([A-Za-z]+)=(.*)$`).FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains(known, match[1]) && !slices.Contains(hardens, match[1]) {
			t.Errorf("systemd 239 does not know %s", match[1])
		}
		if match[1] == "Type" && match[2] != "simple" { // exec came with 240
			t.Errorf("systemd 239 does not know Type=%s", match[2])
		}
		if strings.Contains(match[2], "%") && !strings.Contains(match[2], "%S/") {
			t.Errorf("systemd 239 may not know all of %s", match[0])
		}
	}
}

// verify fails on anything that systemd says: it exits 0 on an unknown key.
func verify(t *testing.T, dir string) error {
	t.Helper()
	// The targets that the units name.
	for _, name := range []string{"sysinit", "basic", "sockets", "shutdown", "multi-user", "network-online"} {
		target := filepath.Join(dir, "usr/lib/systemd/system", name+".target")
		if err := os.WriteFile(target, []byte("[Unit]\nDescription="+name+"\n"), 0o600); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(t.Context(), tool(t, "systemd-analyze", "systemd"), "verify", "--man=no", "--root="+dir, "ncp_exporter.service", "ncp_exporter.socket") //nolint:gosec // made by the test
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func TestExposure(t *testing.T) {
	unit := filepath.Join(installed(t), service)
	exposure := func() (float64, string) {
		out := output(t, tool(t, "systemd-analyze", "systemd"), "security", "--offline=true", "--no-pager", unit)
		match := regexp.MustCompile(`Overall exposure level for ncp_exporter.service: ([\d.]+)`).FindStringSubmatch(out)
		if match == nil {
			t.Fatal(out)
		}
		level, err := strconv.ParseFloat(match[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return level, out
	}
	level, out := exposure()
	if level > 1.5 {
		t.Errorf("the exposure is %v:\n%s", level, out)
	}
	docs, err := os.ReadFile(filepath.Join(released.root, "docs/security.md"))
	if err != nil {
		t.Fatal(err)
	}
	if told := fmt.Sprintf("Overall exposure level for ncp_exporter.service: %v ", level); !strings.Contains(string(docs), told) {
		t.Errorf("docs/security.md does not tell %q", told)
	}
	text, err := os.ReadFile(unit) //nolint:gosec // made by the test
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(unit, []byte(strings.Replace(string(text), "User=ncp_exporter\n", "User=root\n", 1)), 0o600); err != nil { //nolint:gosec // in a directory of the test
		t.Fatal(err)
	}
	if level, _ := exposure(); level <= 1.5 {
		t.Errorf("as root the exposure is %v, so it measures nothing", level)
	}
}

// unit is what the tests run of a unit: its command and its environment, with the
// directories of systemd.
func unit(t *testing.T, root, state string) (command, env []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, service)) //nolint:gosec // made by the test
	if err != nil {
		t.Fatal(err)
	}
	specifiers := strings.NewReplacer("%S", state, "/etc/", filepath.Join(root, "etc")+"/")
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "ExecStart":
			command = strings.Fields(root + value)
		case "Environment":
			env = append(env, strings.Fields(specifiers.Replace(value))...)
		case "StateDirectory":
			if err := os.MkdirAll(filepath.Join(state, value), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	return command, env
}

// TestService runs the command of the unit as systemd would: on a socket that it is
// given, with keys and a ledger where the unit has them. What it asks of the kernel
// must be what the unit allows.
func TestService(t *testing.T) {
	root, state := installed(t), t.TempDir()
	for _, key := range []string{"access-key", "secret-key"} {
		if err := os.WriteFile(filepath.Join(root, "etc/ncp_exporter", key), []byte("key"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command, env := unit(t, root, state)
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close() // for the exporter to take
	trace := filepath.Join(t.TempDir(), "trace")
	// -D: the exporter is the process that was given the socket.
	args := append([]string{"--listen=" + address, tool(t, "strace", "strace"), "-D", "-f", "-qq", "-e", "signal=none", "-o", trace}, command...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool(t, "systemd-socket-activate", "systemd"), args...) //nolint:gosec // made by the test
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Args = slices.Insert(cmd.Args, 1, setenvs(env)...)
	// NCP is on loopback, where nobody listens: the exporter says so, and serves.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Args = slices.Insert(cmd.Args, 1, setenvs([]string{
		"NCP_EXPORTER_NCP_CERTIFICATE_MANAGER_URL=http://127.0.0.1:9/api/v2",
		"NCP_EXPORTER_NCP_EXTERNAL_ACCESS_URL=http://127.0.0.1:9/api/v1",
	})...)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	for scanner := bufio.NewScanner(said); scanner.Scan(); {
		log.WriteString(scanner.Text() + "\n")
		if strings.Contains(scanner.Text(), "Listening on "+address) {
			break
		}
	}
	rest := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(said) // until the end
		rest <- string(text)
		close(rest)
	}()
	defer func() {
		if t.Failed() {
			t.Log(log.String() + <-rest)
		}
	}()
	metrics := get(ctx, t, "http://"+address+"/metrics")
	for _, part := range []string{"\nncp_exporter_state_persistent 1\n", "\nncp_scrape_collector_success{collector=\"external_access\"} 0\n"} {
		if !strings.Contains(metrics, part) {
			t.Errorf("/metrics lacks %q:\n%s", part, metrics)
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	all := log.String() + <-rest // the exporter and the tracer have ended
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, all)
	}
	if _, err := os.Stat(filepath.Join(state, "ncp_exporter/ncp_exporter.db")); err != nil {
		t.Errorf("the ledger is not in the state directory: %v", err)
	}
	may := allowed(t, root)
	for _, call := range called(t, trace) {
		if !slices.Contains(may, call) {
			t.Errorf("the exporter asks for %s, which the unit does not allow", call)
		}
	}
}

func setenvs(env []string) []string {
	var args []string
	for _, e := range env {
		args = append(args, "--setenv="+e)
	}
	return args
}

func get(ctx context.Context, t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, error %v\n%s", url, resp.Status, err, body)
	}
	return string(body)
}

// called are the system calls in a trace, from the first of the exporter itself.
func called(t *testing.T, trace string) []string {
	t.Helper()
	text, err := os.ReadFile(trace) //nolint:gosec // made by the test
	if err != nil {
		t.Fatal(err)
	}
	var calls []string
	for _, match := range regexp.MustCompile(`(?m)^\d+ +(?:<\.\.\. )?([a-z0-9_]+)(?:\(| resumed)`).FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains(calls, match[1]) {
			calls = append(calls, match[1])
		}
	}
	if len(calls) < 20 {
		t.Fatalf("the trace has only %v", calls)
	}
	return calls
}

// allowed are the system calls that the unit's filter lets through.
func allowed(t *testing.T, root string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, service)) //nolint:gosec // made by the test
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^SystemCallFilter=(~?)(.*)$`).FindAllStringSubmatch(string(text), -1) {
		for set := range strings.FieldsSeq(match[2]) {
			for _, call := range members(t, set) {
				all[call] = match[1] == ""
			}
		}
	}
	for _, call := range members(t, "@default") { // always allowed
		all[call] = true
	}
	var calls []string
	for call, ok := range all {
		if ok {
			calls = append(calls, call)
		}
	}
	return calls
}

func members(t *testing.T, set string) []string {
	t.Helper()
	var calls []string
	for line := range strings.Lines(output(t, "systemd-analyze", "--no-pager", "syscall-filter", set)) {
		switch line = strings.TrimSpace(line); {
		case line == "" || line == set || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "@"):
			calls = append(calls, members(t, line)...)
		default:
			calls = append(calls, line)
		}
	}
	return calls
}
