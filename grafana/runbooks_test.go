package grafana

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const runbooksPage = "runbooks.html"

// TestRunbooks compares the page with what the code makes of docs/runbooks.md, and wants
// it to have the anchor of each alert, and no link that leads nowhere. `make dashboards`
// writes it.
func TestRunbooks(t *testing.T) {
	want := RunbooksHTML(fileText(t, "../docs/runbooks.md"))
	if *update {
		if err := os.WriteFile(runbooksPage, []byte(want), 0o644); err != nil { //nolint:gosec // a file of the repository
			t.Fatal(err)
		}
	}
	page := fileText(t, runbooksPage)
	if diff := cmp.Diff(page, want); diff != "" {
		t.Errorf("%s is not what the code makes: run `make dashboards` and commit what it writes (-is +should be)\n%s", runbooksPage, diff)
	}
	decoder := xml.NewDecoder(strings.NewReader(strings.TrimPrefix(page, "<!doctype html>\n")))
	decoder.Entity = xml.HTMLEntity
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%s is no page: %v", runbooksPage, err)
		}
	}
	anchors := make(map[string]bool)
	for _, found := range regexp.MustCompile(`<h2 id="(\w+)">`).FindAllStringSubmatch(page, -1) {
		anchors[found[1]] = true
	}
	for _, found := range regexp.MustCompile(`runbook_url: [^#]*#(\w+)`).FindAllStringSubmatch(fileText(t, "../deploy/prometheus/ncp_exporter.rules.yml"), -1) {
		if !anchors[found[1]] {
			t.Errorf("nothing is at #%s", found[1])
		}
	}
	for _, found := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !anchors[strings.TrimPrefix(found[1], "#")] {
			t.Errorf("a link leads to %s", found[1])
		}
	}
	if found := regexp.MustCompile("[`*]{2}|\\]\\(|^- |\\|---").FindString(page); found != "" {
		t.Errorf("Markdown is left: %q", found)
	}
}
