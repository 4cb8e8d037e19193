package grafana

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write dashboards/ instead of comparing it") //nolint:gochecknoglobals // a flag of the test

// TestDashboards compares dashboards/ with what the code makes. `make dashboards`
// writes it.
func TestDashboards(t *testing.T) {
	var files []string
	runbooks, err := os.ReadFile("../docs/runbooks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range All(string(runbooks)) {
		file := filepath.Join("dashboards", d.File())
		files = append(files, file)
		want, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil { //nolint:gosec // a file of the repository
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file) //nolint:gosec // a file of the repository
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(got), string(want)); diff != "" {
			t.Errorf("%s is not what the code makes: run `make dashboards` and commit what it writes (-is +should be)\n%s", file, diff)
		}
	}
	slices.Sort(files)
	found, err := filepath.Glob("dashboards/*")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files, found); diff != "" {
		t.Errorf("dashboards/ holds other files than those that are made (-made +there):\n%s", diff)
	}
}

// committed are the dashboards as they are committed.
func committed(t *testing.T) []*Dashboard {
	t.Helper()
	all, err := Read(os.DirFS("dashboards"))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2 {
		t.Fatalf("only %d dashboards", len(all))
	}
	return all
}
