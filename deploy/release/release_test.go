package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
)

// released is the release of one platform that the tests look at.
var released options //nolint:gochecknoglobals // made once, by TestMain

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(releaseAndRun(m))
}

func releaseAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "release-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // a directory for temporary things
	released = options{
		root: "../..", out: dir, targets: []target{{"linux", "amd64"}},
		version: "v1.2.3-rc.1", revision: "0123456789abcdef", branch: "main",
		date: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC),
	}
	if err := released.release(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// tool finds a program that the tests need.
func tool(t *testing.T, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not there (apt-get update && apt-get install -y %s): %v", name, debian, err)
	}
	return path
}

// output runs a program and gives what it says; that it says anything on stderr, or
// fails, fails the test.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...) //nolint:gosec // programs of the tests
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil || said.Len() > 0 {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, &said)
	}
	return string(out)
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(released.out, name)) //nolint:gosec // made by the test
	if err != nil {
		t.Fatal(err)
	}
	return text
}

const name = "ncp_exporter-1.2.3-rc.1.linux-amd64"

var cold = flag.Bool("cold", false, "compile all anew in TestReproducible; takes a minute") //nolint:gochecknoglobals // flags of tests are

// TestReproducible releases again, from another directory and in another
// environment, and demands the same bytes.
func TestReproducible(t *testing.T) {
	again := released
	again.root, again.out = t.TempDir(), t.TempDir()
	tracked := output(t, "git", "-C", released.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for path := range strings.SplitSeq(strings.TrimRight(tracked, "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(released.root, path)) //nolint:gosec // a file of this repository
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, but not committed
		}
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(again.root, path)
		if err := os.MkdirAll(filepath.Dir(copied), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied, text, 0o600); err != nil { //nolint:gosec // in a directory of the test
			t.Fatal(err)
		}
	}
	if *cold {
		t.Setenv("GOCACHE", t.TempDir())
	}
	t.Setenv("TZ", "Asia/Seoul")
	t.Setenv("NCP_EXPORTER_SCRAPE_TIMEOUT", "7s") // would be a default in --help
	if err := again.release(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(released.out)
	if err != nil || len(files) != 5 {
		t.Fatalf("%v, error %v", files, err)
	}
	for _, f := range files {
		second, err := os.ReadFile(filepath.Join(again.out, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, f.Name()), second) {
			t.Errorf("%s is not the same again", f.Name())
		}
	}
}

func TestSums(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "SHA256SUMS")
	cmd.Dir = released.out
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), ": OK\n") != 4 {
		t.Errorf("%v\n%s", err, out)
	}
}

// unpacked is the archive, in a directory of the test.
func unpacked(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	output(t, "tar", "--extract", "--gzip", "--directory", dir, "--file", filepath.Join(released.out, name+".tar.gz"))
	return filepath.Join(dir, name)
}

func TestArchive(t *testing.T) {
	z, err := gzip.NewReader(bytes.NewReader(read(t, name+".tar.gz")))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%o %s", h.Mode, strings.TrimPrefix(h.Name, name+"/")))
		if h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(released.date) {
			t.Errorf("%s is of user %d, group %d and %s", h.Name, h.Uid, h.Gid, h.ModTime)
		}
	}
	want := []string{
		"644 CHANGELOG.md", "644 LICENSE", "644 README.ko.md", "644 README.md", "644 SECURITY.md",
		"644 completions/ncp_exporter.bash", "644 completions/zsh/_ncp_exporter", "644 ncp_exporter.1",
		"644 prometheus/alertmanager.yml", "644 prometheus/ncp_exporter.rules.yml",
		"644 systemd/ncp_exporter.default", "644 systemd/ncp_exporter.service", "644 systemd/ncp_exporter.socket",
		"644 systemd/ncp_exporter.sysusers", "644 systemd/ncp_exporter.tmpfiles",
	}
	for _, path := range tracked(t, "docs", "grafana/dashboards", "grafana/provisioning", "grafana/runbooks.html") {
		want = append(want, "644 "+path)
	}
	slices.Sort(want)
	want = append([]string{"755 ncp_exporter"}, want...)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// tracked are the files of the repository in some places.
func tracked(t *testing.T, places ...string) []string {
	t.Helper()
	return strings.Fields(output(t, "git", append([]string{"-C", released.root, "ls-files", "--"}, places...)...))
}

func TestBinary(t *testing.T) {
	binary := filepath.Join(unpacked(t), "ncp_exporter")
	version := output(t, binary, "--version")
	for _, part := range []string{"v1.2.3-rc.1", "branch: main", "revision: 0123456789abcdef", "2026-02-03T04:05:06Z", " linux/amd64"} {
		if !strings.Contains(version, part) {
			t.Errorf("--version lacks %q:\n%s", part, version)
		}
	}
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 || f.Section(".interp") != nil {
		t.Errorf("the binary is not static: %v, error %v", libraries, err)
	}
}

// TestZip reads what Windows gets, of parts made up here.
func TestZip(t *testing.T) {
	text, err := zipOf([]file{{"a/b.exe", executable, []byte("x")}, {"a/c", plain, []byte("y")}}, released.date)
	if err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range r.File {
		got = append(got, fmt.Sprint(f.Mode(), " ", f.Name, " ", f.UncompressedSize64, " ", f.Modified.UTC().Format(time.RFC3339)))
	}
	if diff := cmp.Diff([]string{"-rwxr-xr-x a/b.exe 1 2026-02-03T04:05:06Z", "-rw-r--r-- a/c 1 2026-02-03T04:05:06Z"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestBill demands that the bill names each module of the binary, once, and the
// binary itself.
func TestBill(t *testing.T) {
	decoder := json.NewDecoder(bytes.NewReader(read(t, name+".cdx.json")))
	decoder.DisallowUnknownFields()
	var bom cdx.BOM
	if err := decoder.Decode(&bom); err != nil {
		t.Fatal(err)
	}
	dir := unpacked(t)
	info, err := buildinfo.ReadFile(filepath.Join(dir, "ncp_exporter"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}
	for _, m := range info.Deps {
		want = append(want, "pkg:golang/"+m.Path+"@"+m.Version)
	}
	var got []string
	for _, c := range *bom.Components {
		got = append(got, c.PackageURL)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(got))); diff != "" || len(want) < 10 {
		t.Errorf("-want +got:\n%s", diff)
	}
	sum, _, _ := strings.Cut(output(t, "sha256sum", filepath.Join(dir, "ncp_exporter")), " ")
	if got := (*bom.Metadata.Component.Hashes)[0].Value; got != sum {
		t.Errorf("the binary's sum is %s, the bill says %s", sum, got)
	}
}

func TestManPage(t *testing.T) {
	page := filepath.Join(unpacked(t), "ncp_exporter.1")
	// A line longer than 80 bytes is of no matter to anybody.
	if said := output(t, tool(t, "mandoc", "mandoc"), "-Tlint", "-Wwarning", page); said != "" {
		t.Error(said)
	}
	shown := output(t, "mandoc", "-Tascii", page)
	shown = regexp.MustCompile(".\b").ReplaceAllString(shown, "") // bold is a letter struck twice
	for _, part := range []string{
		"ncp_exporter - Prometheus exporter", "--state.file", "2026-02-03", "--scrape.timeout=10s", "NCLOUD_ACCESS_KEY_ID", "--no-demo",
		"\nENVIRONMENT\n", "\nFILES\n", "\nEXIT STATUS\n", "\nEXAMPLES\n", "\n       /etc/default/ncp_exporter\n",
	} {
		if !strings.Contains(shown, part) {
			t.Errorf("the man page lacks %q:\n%s", part, shown)
		}
	}
}

// TestCompletions lets each shell complete a flag.
func TestCompletions(t *testing.T) {
	dir := unpacked(t)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for words, want := range map[string]string{"--ncp.si": "--ncp.site", "--no-de": "--no-demo", "--ncp.site g": "gov", "--log.level = de": "debug"} {
		got := output(t, "bash", "-c", `. "$1"; COMP_WORDS=(ncp_exporter $2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _ncp_exporter_bash_autocomplete; echo "${COMPREPLY[@]}"`,
			"bash", filepath.Join(dir, "completions/ncp_exporter.bash"), words)
		if strings.TrimSpace(got) != want {
			t.Errorf("bash completes %s to %q", words, got)
		}
	}
	if _, err := exec.LookPath("zsh"); err != nil {
		t.Log("zsh is not there: its completions are not tried")
		return
	}
	got := output(t, "zsh", "-f", "-c", `compadd() { shift; eval 'print -rl -- "${'$1'[@]}"'; } ; compdef() { :; }; . "$1"; words=(ncp_exporter --ncp.si); CURRENT=2; typeset -A compstate; compstate[nmatches]=1; _ncp_exporter`,
		"zsh", filepath.Join(dir, "completions/zsh/_ncp_exporter"))
	if !slices.Contains(strings.Fields(got), "--ncp.site") { // zsh itself picks those that fit
		t.Errorf("zsh completes --ncp.si with %q", got)
	}
}

func TestPackageVersions(t *testing.T) {
	for version, want := range map[string]string{
		"v1.2.3":              "1.2.3",
		"1.2.3-rc.1":          "1.2.3-rc.1",
		"v1.2.3-4-gabc-dirty": "1.2.3-4-gabc-dirty",
		"b26de33":             "0.0.0-git20260203040506",
	} {
		o := released
		o.version = version
		if got := o.packageVersion(); got != want {
			t.Errorf("%s is packaged as %s, want %s", version, got, want)
		}
	}
}

func TestBadArguments(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"-date 2026-01-01T00:00:00Z", "-version is missing"},
		{"-version v1 -date yesterday", "-date"},
		{"-version v1 -date 2026-01-01T00:00:00Z -targets plan9/amd64", "plan9/amd64"},
	} {
		if _, err := parse(strings.Fields(test.args)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.args, err, test.want)
		}
	}
}

// block is the text of the fenced block in a file that begins so.
func block(t *testing.T, file, begin string) string {
	t.Helper()
	docs, err := os.ReadFile(filepath.Join(released.root, file)) //nolint:gosec // a file of this repository
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(docs), begin)
	text, _, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatalf("%s has no block %q", file, begin)
	}
	return text
}

// TestReadmePrometheus gives Prometheus what README.md tells to give it.
func TestReadmePrometheus(t *testing.T) {
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(file, []byte(block(t, "README.md", "<!-- tested: prometheus -->\n```yaml\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	output(t, tool(t, "promtool", "prometheus"), "check", "config", file)
}

// TestSigning runs what docs/release.md tells to run.
func TestSigning(t *testing.T) {
	script := block(t, "docs/release.md", "<!-- tested -->\n```sh\n")
	dir := t.TempDir()
	makefile, err := os.ReadFile(filepath.Join(released.root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Makefile"), makefile, 0o600); err != nil { //nolint:gosec // in a directory of the test
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "dist"), os.DirFS(released.out)); err != nil {
		t.Fatal(err)
	}
	output(t, tool(t, "ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "release_key"))
	public, err := os.ReadFile(filepath.Join(dir, "release_key.pub")) //nolint:gosec // made by the test
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "allowed_signers"), append([]byte("release@ncp_exporter "), public...), 0o600); err != nil { //nolint:gosec // in a directory of the test
		t.Fatal(err)
	}
	run := func(script string) error {
		cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", script) //nolint:gosec // from the documentation
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}
	if err := run(script); err != nil {
		t.Fatal(err)
	}
	// What users run finds a file that was changed, and sums that were changed with it.
	_, users, _ := strings.Cut(script, "\n")
	archive := "dist/" + name + ".tar.gz"
	if err := run("echo >> " + archive + "\n" + users); err == nil {
		t.Error("a changed archive passes")
	}
	if err := run("cd dist && sha256sum *.gz *.json *.deb *.rpm > SHA256SUMS && cd ..\n" + users); err == nil {
		t.Error("changed sums pass")
	}
}
