package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // one format each
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// packageVersion is a version that sorts rightly: what is not tagged comes before
// all that is.
func (o *options) packageVersion() string {
	if regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`).MatchString(o.number()) {
		return o.number()
	}
	return "0.0.0-git" + o.date.Format("20060102150405")
}

// systemPackage makes a deb or an rpm, and gives its name.
func (o *options) systemPackage(format string, t target, binary []byte, common, texts map[string][]byte) (string, []byte, error) {
	temp, err := os.MkdirTemp("", "release-")
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = os.RemoveAll(temp) }() // a directory for temporary things
	contents, err := o.contents(format, temp, binary, common, texts)
	if err != nil {
		return "", nil, err
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "ncp-exporter", Arch: t.arch, Platform: t.os, Version: o.packageVersion(), VersionSchema: "semver",
		Section: "net", Priority: "optional", License: "Apache-2.0",
		Maintainer:  "The maintainers of ncp_exporter <root@localhost>",
		Description: "Prometheus exporter for NAVER Cloud Platform\nCertificates whose validation is stuck, and logins with certificates that fail.",
		MTime:       o.date,
		Overridables: nfpm.Overridables{
			Contents: contents,
			Depends:  []string{"ca-certificates"},
			Scripts: nfpm.Scripts{
				PostInstall: filepath.Join(o.root, "deploy/systemd/postinstall.sh"),
				PreRemove:   filepath.Join(o.root, "deploy/systemd/preremove.sh"),
				PostRemove:  filepath.Join(o.root, "deploy/systemd/postremove.sh"),
			},
			RPM: nfpm.RPM{BuildHost: "localhost"},
		},
	})
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return "", nil, err
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return "", nil, err
	}
	var b bytes.Buffer
	if err := packager.Package(info, &b); err != nil {
		return "", nil, err
	}
	return packager.ConventionalFileName(info), b.Bytes(), nil
}

// contents are the files of a package and where they go.
func (o *options) contents(format, temp string, binary []byte, common, texts map[string][]byte) (files.Contents, error) {
	page, err := gzipOf(common["ncp_exporter.1"])
	if err != nil {
		return nil, err
	}
	zsh := map[string]string{"deb": "/usr/share/zsh/vendor-completions/", "rpm": "/usr/share/zsh/site-functions/"}[format]
	type content struct {
		path, kind string
		mode       os.FileMode
		text       []byte
	}
	parts := []content{
		{"/usr/bin/ncp_exporter", files.TypeFile, executable, binary},
		{"/usr/share/man/man1/ncp_exporter.1.gz", files.TypeFile, plain, page},
		{"/usr/share/bash-completion/completions/ncp_exporter", files.TypeFile, plain, common["completions/ncp_exporter.bash"]},
		{zsh + "_ncp_exporter", files.TypeFile, plain, common["completions/zsh/_ncp_exporter"]},
	}
	for _, path := range sorted(texts) {
		kind := files.TypeFile
		if strings.HasPrefix(path, "/etc/") {
			kind = files.TypeConfigNoReplace
		}
		parts = append(parts, content{path, kind, plain, texts[path]})
	}
	var all files.Contents
	for i, f := range parts {
		source := filepath.Join(temp, strconv.Itoa(i))
		if err := os.WriteFile(source, f.text, plain); err != nil {
			return nil, err
		}
		all = append(all, &files.Content{
			Source: source, Destination: f.path, Type: f.kind,
			FileInfo: &files.ContentFileInfo{Mode: f.mode, MTime: o.date, Owner: "root", Group: "root"},
		})
	}
	return append(all, &files.Content{
		Destination: "/etc/ncp_exporter", Type: files.TypeDir,
		FileInfo: &files.ContentFileInfo{Mode: 0o750 | os.ModeDir, MTime: o.date, Owner: "root", Group: "root"},
	}), nil
}
