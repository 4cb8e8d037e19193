package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

const program = "ncp_exporter"

// file is a part of an archive or a package.
type file struct {
	name string
	mode os.FileMode
	text []byte
}

const (
	plain      os.FileMode = 0o644
	executable os.FileMode = 0o755
)

// number is the version as it stands in names of files.
func (o *options) number() string { return strings.TrimPrefix(o.version, "v") }

func (o *options) release(ctx context.Context) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil { //nolint:gosec // for everybody to read
		return err
	}
	temp, err := os.MkdirTemp("", "release-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }() // a directory for temporary things

	common, err := o.common(ctx, temp)
	if err != nil {
		return err
	}
	sources, err := o.sources()
	if err != nil {
		return err
	}
	made := map[string][]byte{}
	for _, t := range o.targets {
		fmt.Println(t)
		path := filepath.Join(temp, t.os+"-"+t.arch, program)
		if err := o.build(ctx, t, path); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		if err := o.pack(t, path, common, sources, made); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
	}
	var sums bytes.Buffer
	for _, name := range sorted(made) {
		if err := o.write(name, made[name]); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(made[name]), name)
	}
	return o.write("SHA256SUMS", sums.Bytes())
}

func (o *options) write(name string, text []byte) error {
	return os.WriteFile(filepath.Join(o.out, name), text, plain) //nolint:gosec // where the caller wants it
}

// common are the files that are the same on all platforms, and made by the program, by
// their names.
func (o *options) common(ctx context.Context, temp string) (map[string][]byte, error) {
	host := filepath.Join(temp, "host", program)
	if err := o.build(ctx, target{runtime.GOOS, runtime.GOARCH}, host); err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for name, flag := range map[string]string{
		"ncp_exporter.1":                "--help-man",
		"completions/ncp_exporter.bash": "--completion-script-bash",
		"completions/zsh/_" + program:   "--completion-script-zsh",
	} {
		cmd := exec.CommandContext(ctx, host, flag) //nolint:gosec // just built
		cmd.Env = []string{}                        // defaults come from it
		text, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", program, flag, err)
		}
		files[name] = text
	}
	page, err := o.manPage(files["ncp_exporter.1"])
	if err != nil {
		return nil, err
	}
	files["ncp_exporter.1"] = page
	return files, nil
}

// build builds the program as the Makefile does, but for any platform.
func (o *options) build(ctx context.Context, t target, path string) error {
	const v = "github.com/prometheus/common/version."
	flags := fmt.Sprintf("-s -w -buildid= -X %[1]sVersion=%[2]s -X %[1]sRevision=%[3]s -X %[1]sBranch=%[4]s -X %[1]sBuildDate=%[5]s",
		v, o.version, o.revision, o.branch, o.date.Format("2006-01-02T15:04:05Z07:00"))
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", flags, "-o", path, ".") //nolint:gosec // what is released is given
	cmd.Dir = o.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+t.os, "GOARCH="+t.arch, "GOFLAGS=-mod=readonly -buildvcs=false", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// pack adds what is released for one platform to made.
func (o *options) pack(t target, path string, common, sources map[string][]byte, made map[string][]byte) error {
	binary, err := os.ReadFile(path) //nolint:gosec // just built
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%s.%s-%s", program, o.number(), t.os, t.arch)
	bill, err := o.bill(t, path, binary)
	if err != nil {
		return err
	}
	made[name+".cdx.json"] = bill

	files := []file{{name + "/" + program, executable, binary}}
	if t.os == "windows" {
		files[0].name += ".exe"
	}
	texts := installedTexts(sources, inArchive)
	maps.Copy(texts, common)
	for _, n := range sorted(texts) {
		if strings.HasPrefix(n, "systemd/") && t.os != "linux" {
			continue
		}
		files = append(files, file{name + "/" + n, plain, texts[n]})
	}
	if t.os == "windows" {
		made[name+".zip"], err = zipOf(files, o.date)
		return err
	}
	if made[name+".tar.gz"], err = tarOf(files, o.date); err != nil || t.os != "linux" {
		return err
	}
	for _, format := range []string{"deb", "rpm"} {
		name, text, err := o.systemPackage(format, t, binary, common, installedTexts(sources, inPackage))
		if err != nil {
			return fmt.Errorf("%s: %w", format, err)
		}
		made[name] = text
	}
	return nil
}
