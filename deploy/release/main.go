// Command release makes what a release is made of: an archive for each platform,
// packages for Debian and Red Hat, a bill of materials for each binary, and the
// checksums of all. Two runs on the same commit with the same Go give the same bytes.
// It is a module of its own, so that none of its libraries is a dependency of the
// exporter.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// options say what is released.
type options struct {
	root    string // of the repository
	out     string
	targets []target

	version, revision, branch string
	date                      time.Time
}

// target is a platform.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "/" + t.arch }

func allTargets() []target {
	return []target{
		{"linux", "amd64"},
		{"linux", "arm64"},
		{"darwin", "amd64"},
		{"darwin", "arm64"},
		{"windows", "amd64"},
		{"windows", "arm64"},
	}
}

func main() {
	o, err := parse(os.Args[1:])
	if err == nil {
		err = o.release(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func parse(args []string) (*options, error) {
	var (
		o       options
		date    string
		targets string
	)
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.StringVar(&o.root, "root", "../..", "root of the repository")
	flags.StringVar(&o.out, "out", "../../dist", "directory to write to")
	flags.StringVar(&o.version, "version", "", "version, such as v1.2.3")
	flags.StringVar(&o.revision, "revision", "", "commit")
	flags.StringVar(&o.branch, "branch", "", "branch")
	flags.StringVar(&date, "date", "", "time of the commit, RFC 3339")
	flags.StringVar(&targets, "targets", "all", "platforms, such as linux/amd64,darwin/arm64")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if o.version == "" {
		return nil, errors.New("-version is missing")
	}
	var err error
	if o.date, err = time.Parse(time.RFC3339, date); err != nil {
		return nil, fmt.Errorf("-date: %w", err)
	}
	o.date = o.date.UTC()
	if o.targets = allTargets(); targets == "all" {
		return &o, nil
	}
	o.targets = nil
	for name := range strings.SplitSeq(targets, ",") {
		goos, arch, _ := strings.Cut(name, "/")
		t := target{goos, arch}
		if !slices.Contains(allTargets(), t) {
			return nil, fmt.Errorf("-targets: %q is none of %v", name, allTargets())
		}
		o.targets = append(o.targets, t)
	}
	return &o, nil
}
