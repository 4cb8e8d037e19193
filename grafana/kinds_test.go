package grafana

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// The kinds of faults that were found in a real Grafana, each with its test. That the
// queries tell what is true is tested by e2e, with days of data.

// eachPanel runs a test for each panel that asks something.
func eachPanel(t *testing.T, test func(t *testing.T, d *Dashboard, p *Panel)) {
	t.Helper()
	for _, d := range committed(t) {
		for i := range d.Panels {
			if p := &d.Panels[i]; len(p.Targets) > 0 {
				t.Run(d.UID+"/"+p.Title, func(t *testing.T) { test(t, d, p) })
			}
		}
	}
}

// titles are the fields of a table and the titles of their columns.
func titles(p *Panel) map[string]string {
	titles := make(map[string]string)
	for _, tr := range p.Transformations {
		if options, ok := tr.Options.(map[string]any); ok && tr.ID == "organize" {
			for from, title := range options["renameByName"].(map[string]any) { //nolint:forcetypeassert // ours
				titles[from], _ = title.(string)
			}
		}
	}
	return titles
}

// rangeFaults are the ways in which a query depends on the range of the dashboard without
// saying so: the step or the window of a subquery, or a title that does not tell it.
func rangeFaults(expr, title string) []string {
	var faults []string
	if regexp.MustCompile(`\[[^\]:]*:[^\]]*\$__[^\]]*\]|\[[^\]]*\$__[^\]:]*:[^\]]*\]|\$__interval\b|\$\{?__(from|to)\b`).MatchString(expr) {
		faults = append(faults, "a subquery's step or window, or the begin, is that of the range")
	}
	if strings.Contains(expr, "$__range") && !strings.Contains(title, "in range") && !strings.Contains(title, "in this range") {
		faults = append(faults, "the title does not tell that it is about the range")
	}
	return faults
}

// TestNothingDependsOnTheRange wants nothing that is shown to change with the range,
// unless its title says so.
func TestNothingDependsOnTheRange(t *testing.T) {
	eachPanel(t, func(t *testing.T, _ *Dashboard, p *Panel) {
		t.Helper()
		columns := titles(p)
		for _, target := range p.Targets {
			for _, fault := range rangeFaults(target.Expr, p.Title+" "+columns["Value"]+" "+columns["Value #"+target.RefID]) {
				t.Errorf("%s: %s", fault, target.Expr)
			}
		}
	})
	for expr, want := range map[string]int{
		`min_over_time(timestamp(a)[$__range:$__interval])`:  2,
		`min_over_time((a > 1)[$__range:1m])`:                2,
		`min_over_time((a > 1)[1d:$__interval])`:             1,
		`min_over_time((a > ${__from} / 1000)[1d:1m])`:       1,
		`increase(a[$__range])`:                              1,
		`min_over_time(timestamp(a{b="[$__range]"})[2d:1m])`: 1, // a title is wanted rather once too often
		`rate(a[$__rate_interval])`:                          0,
		`min_over_time(a[2d:1m])`:                            0,
	} {
		if faults := rangeFaults(expr, "title"); len(faults) != want {
			t.Errorf("%s has the faults %q, want %d", expr, faults, want)
		}
	}
	if faults := rangeFaults(`increase(a[$__range])`, "Failures in range"); len(faults) != 0 {
		t.Errorf("a title tells the range, but: %q", faults)
	}
}

// allClear says whether a text for missing series claims that all is well.
func allClear(text string) bool {
	return !regexp.MustCompile(`\b(known|read|scraped|sent|succeeded)\b`).MatchString(text)
}

// TestMissingIsNotWell wants the text where series are missing not to say that there is
// nothing, as it may not be known, and to stay out of cells and tooltips.
func TestMissingIsNotWell(t *testing.T) {
	eachPanel(t, func(t *testing.T, _ *Dashboard, p *Panel) {
		t.Helper()
		text := p.FieldConfig.Defaults.NoValue
		if p.Type == "stat" {
			if !slices.Contains([]string{"unknown", "not scraped"}, text) {
				t.Errorf("a missing number is %q", text)
			}
			return
		}
		if allClear(text) {
			t.Errorf("%q sounds as if all were well", text)
		}
		if !slices.ContainsFunc(p.FieldConfig.Overrides, func(o Override) bool {
			return o.Matcher == Matcher{"byRegexp", "/.*/"} && slices.Contains(o.Properties, prop("noValue", "–"))
		}) {
			t.Error("its text for no series is shown for each missing value too")
		}
	})
	for _, text := range []string{"No validation is ongoing", "Nobody failed to log in", "0", ""} {
		if !allClear(text) {
			t.Errorf("%q would pass", text)
		}
	}
}

// Sizes of Grafana's theme, in pixels: what a panel and a cell have beside their text, and
// the width of a letter in titles.
const (
	panelPadding = 2 * 8
	infoIcon     = 58 // and the space around it
	cellPadding  = 2 * 6
	sortIcon     = 20
)

// textWidth is that of a title in Grafana's font, as measured in pictures.
func textWidth(text string) float64 {
	wide := 0.0
	for _, letter := range text {
		switch {
		case strings.ContainsRune("iljI.,:", letter):
			wide += 3.6
		case strings.ContainsRune("tfr -", letter):
			wide += 5.2
		case strings.ContainsRune("mwMW", letter):
			wide += 12
		case unicode.IsUpper(letter):
			wide += 10
		default:
			wide += 7.9
		}
	}
	return wide
}

// width is that of a panel on a screen.
func width(p *Panel, screen int) float64 {
	const margins, gap = 2 * 16, 8
	return float64(screen-margins+gap)/24*float64(p.GridPos.W) - gap
}

// property is a setting of the fields with this title.
func property(p *Panel, title, id string) any {
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			if o.Matcher.Options == title && property.ID == id {
				return property.Value
			}
		}
	}
	return nil
}

// TestTextFits wants titles whole on a screen of 1000 pixels, and of a table all that answers one of the three questions: columns in their order, up to the last one that does.
func TestTextFits(t *testing.T) {
	answers := map[string][]string{ // by width of the screen, the last column that must be seen
		"Alerts":                              {"Do first", "Account"},
		"Who failed to log in, in this range": {"Account", "Last failure"},
		"Certificates not validated":          {"Account", "Account"},
		"What expires next":                   {"Kind, account", "Kind, account"},
		"Lists of revoked certificates":       {"Trust anchor", "Trust anchor"},
		"All subjects":                        {"Last read", "Read whole"},
		"Exporters":                           {"Counting for", "Sweeping"},
	}
	eachPanel(t, func(t *testing.T, _ *Dashboard, p *Panel) {
		t.Helper()
		if room := width(p, 1000) - panelPadding - infoIcon; textWidth(p.Title) > room {
			t.Errorf("the title has %.0f pixels and needs %.0f", room, textWidth(p.Title))
		}
		if p.Type != "table" {
			return
		}
		columns, names := order(p), titles(p)
		for i, screen := range []int{1000, 1280} {
			last, used := answers[p.Title][i], 0.0
			for _, from := range columns {
				title := names[from]
				wide, fixed := property(p, title, "custom.width").(float64)
				if !fixed && last != "" {
					t.Errorf("%s has no width, so %s may be out of sight", title, last)
				}
				need := cellPadding + textWidth(title)
				if property, _ := p.Options.(map[string]any)["sortBy"].([]any); strings.Contains(fmt.Sprint(property), "displayName:"+title+"]") {
					need += sortIcon
				}
				if fixed && wide < need {
					t.Errorf("%s has %.0f pixels and needs %.0f", title, wide, need)
				}
				used += wide
				if title == last {
					last = ""
					if room := width(p, screen); used > room {
						t.Errorf("at %d pixels %s ends at %.0f of %.0f", screen, title, used, room)
					}
					break
				}
			}
			if last != "" {
				t.Errorf("there is no column %s", last)
			}
		}
	})
}

// TestLoneAnswers wants no bare number where only one of several queries of a table has an
// answer: Grafana then calls its value "Value", and not by the query.
func TestLoneAnswers(t *testing.T) {
	eachPanel(t, func(t *testing.T, _ *Dashboard, p *Panel) {
		t.Helper()
		if p.Type != "table" || len(p.Targets) == 1 {
			return
		}
		options, _ := p.Transformations[len(p.Transformations)-1].Options.(map[string]any)
		if hidden, _ := options["excludeByName"].(map[string]any); hidden["Value"] != true {
			t.Error("a lone answer has a column Value")
		}
	})
}

// TestNamesAreWhole wants the texts that answer one of the three questions, which may be of
// any length, to take as many lines as they need, in Grafana 12 and 13. The others are
// bounded by their kind; the names of alerts are links, which Grafana 12 does not wrap.
func TestNamesAreWhole(t *testing.T) {
	long := []string{"x509_subject", "issuer", "serial_number", "certificate", "what", "thing", "anchor", "about", "do"}
	seen := 0
	eachPanel(t, func(t *testing.T, _ *Dashboard, p *Panel) {
		t.Helper()
		for from, title := range titles(p) {
			if wide, ok := property(p, title, "custom.width").(float64); regexp.MustCompile(`^(id|subject_id|trust_anchor_id)$`).MatchString(from) && (!ok || wide < 310) {
				t.Errorf("%s has %.0f pixels, and the 36 letters of an id need 310", title, wide)
			}
			if !slices.Contains(long, from) {
				continue
			}
			seen++
			in12, _ := property(p, title, "custom.cellOptions").(map[string]any)
			if property(p, title, "custom.wrapText") != true || in12["wrapText"] != true {
				t.Errorf("%s is cut where its column ends", title)
			}
		}
	})
	if seen < len(long) {
		t.Errorf("only %d columns hold long texts", seen)
	}
	const link = 20 // what Grafana 12 leaves free beside one
	for _, found := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(fileText(t, "../deploy/prometheus/ncp_exporter.rules.yml"), -1) {
		for _, p := range oncall(nil).Panels {
			if room, ok := property(&p, "Alert", "custom.width").(int); ok && float64(room) < textWidth(found[1])+cellPadding+link {
				t.Errorf("%s needs %.0f pixels and has %d", found[1], textWidth(found[1])+cellPadding+link, room)
			}
		}
	}
}

// order are the fields of a table in the order of their columns.
func order(p *Panel) []string {
	options, _ := p.Transformations[len(p.Transformations)-1].Options.(map[string]any)
	index, _ := options["indexByName"].(map[string]any)
	names := titles(p)
	var fields []string
	for from := range index {
		if names[from] != "" {
			fields = append(fields, from)
		}
	}
	slices.SortFunc(fields, func(a, b string) int { return cmp.Compare(index[a].(float64), index[b].(float64)) }) //nolint:forcetypeassert // of JSON
	return fields
}

// TestPendingIsNotFiring wants the column that is seen at each width to tell pending alerts
// from those that the numbers above count, and the former to come last.
func TestPendingIsNotFiring(t *testing.T) {
	for _, p := range oncall(nil).Panels {
		if p.Title != "Alerts" {
			continue
		}
		mappings, _ := property(&p, "Severity", "mappings").([]Mapping)
		var texts []string
		for number := 1; number <= 6; number++ {
			mapped, _ := mappings[0].Options[strconv.Itoa(number)].(Mapped)
			if pending := strings.HasPrefix(mapped.Text, "pending "); pending != (number > 3) || pending != (mapped.Color == "text") {
				t.Errorf("%d is %+v", number, mapped)
			}
			texts = append(texts, mapped.Text)
		}
		if want := []string{"critical", "warning", "info", "pending critical", "pending warning", "pending info"}; !slices.Equal(texts, want) {
			t.Errorf("the severities are %q, want %q", texts, want)
		}
		for number, value := range []string{"firing critical", "firing warning", "firing info", "pending critical", "pending warning", "pending info"} {
			if !strings.Contains(p.Targets[0].Expr, fmt.Sprintf(`"severity", "%d", "severity", %q`, number+1, value)) {
				t.Errorf("%s is not number %d", value, number+1)
			}
		}
	}
}

// TestNoVagueTimes wants no time in words: "an hour ago" is 45 to 89 minutes.
func TestNoVagueTimes(t *testing.T) {
	eachPanel(t, func(t *testing.T, _ *Dashboard, p *Panel) {
		t.Helper()
		for _, o := range p.FieldConfig.Overrides {
			for _, property := range o.Properties {
				if property.ID == "unit" && strings.Contains(fmt.Sprint(property.Value), "FromNow") {
					t.Errorf("%s is shown as %v", o.Matcher.Options, property.Value)
				}
			}
		}
	})
}

// TestSameCount wants two panels that count the same to ask the same.
func TestSameCount(t *testing.T) {
	failed := query(failing)
	for title, refs := range map[string]string{"Failing in range": "A", "Who failed to log in, in this range": "ABCDEFGH"} {
		for _, p := range oncall(nil).Panels {
			for _, target := range p.Targets {
				if p.Title == title && strings.Contains(refs, target.RefID) && !strings.Contains(target.Expr, failed) {
					t.Errorf("%s, %s counts others who fail: %s", title, target.RefID, target.Expr)
				}
			}
		}
	}
}

// coloured are the words of a panel that have a colour of their own: the texts of values,
// and the names of lines.
func coloured(p *Panel) map[string]string {
	colours := make(map[string]string)
	mappings := slices.Clone(p.FieldConfig.Defaults.Mappings)
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			switch value := property.Value.(type) {
			case []any: // mappings
				for _, m := range value {
					options, _ := m.(map[string]any)["options"].(map[string]any)
					mappings = append(mappings, Mapping{Options: options})
				}
			case map[string]any:
				if property.ID == "color" {
					name := strings.TrimPrefix(strings.ReplaceAll(o.Matcher.Options, "_", " "), "validation ")
					colours[name] = fmt.Sprint(value["fixedColor"])
				}
			}
		}
	}
	for _, m := range mappings {
		for _, mapped := range m.Options {
			if of, ok := mapped.(map[string]any); ok && of["text"] != nil {
				colours[fmt.Sprint(of["text"])] = fmt.Sprint(of["color"])
			}
		}
	}
	return colours
}

// TestColoursMeanOneThing wants a word to have one colour on all dashboards, and what is
// bad not to be green.
func TestColoursMeanOneThing(t *testing.T) {
	colours := make(map[string]string)
	seen := func(t *testing.T, word, colour string) {
		t.Helper()
		if before, ok := colours[word]; ok && before != colour {
			t.Errorf("%s is %s here and %s elsewhere", word, colour, before)
		}
		colours[word] = colour
	}
	bad := regexp.MustCompile(`(?i)fail|refused|unreadable|timed out`)
	eachPanel(t, func(t *testing.T, _ *Dashboard, p *Panel) {
		t.Helper()
		for word, colour := range coloured(p) {
			seen(t, word, colour)
		}
		defaults := p.FieldConfig.Defaults
		if p.Type == "timeseries" && bad.MatchString(p.Title) && defaults.Color.Mode != "shades" {
			t.Errorf("what is bad is drawn in the colours of a palette, the first of which is green")
		}
		if p.Type == "stat" && len(defaults.Thresholds.Steps) == 2 {
			for word, colour := range map[string]string{"Timed out": "red", "Ongoing": "blue", "Critical": "red", "Warnings": "orange"} {
				if p.Title == word && defaults.Thresholds.Steps[1].Color != colour {
					t.Errorf("it is %s", defaults.Thresholds.Steps[1].Color)
				}
			}
		}
	})
	for word, colour := range map[string]string{"ongoing": "blue", "timed out": "red", "critical": "red", "warning": "orange", "info": "blue", "unknown": "purple"} {
		if colours[word] != colour {
			t.Errorf("%s is %q, want %s", word, colours[word], colour)
		}
	}
}

// TestEachAlertSaysWhatToDo wants each alert of the rules to have a first action, and a
// link to the anchor of its runbook.
func TestEachAlertSaysWhatToDo(t *testing.T) {
	rules := fileText(t, "../deploy/prometheus/ncp_exporter.rules.yml")
	var alerts *Panel
	eachPanel(t, func(_ *testing.T, _ *Dashboard, p *Panel) {
		if p.Title == "Alerts" {
			alerts = p
		}
	})
	mapped := func(title, alert string) string {
		mappings, _ := property(alerts, title, "mappings").([]any)
		options, _ := mappings[0].(map[string]any)["options"].(map[string]any)
		of, _ := options[alert].(map[string]any)
		text, _ := of["text"].(string)
		return text
	}
	found := regexp.MustCompile(`- alert: (\w+)(?s:.*?)runbook_url: [^#]*#(\w+)`).FindAllStringSubmatch(rules, -1)
	if len(found) < 20 {
		t.Fatalf("%d alerts", len(found))
	}
	for _, alert := range found {
		do := regexp.MustCompile(`"do", "([^"]*)", "alertname", "` + alert[1] + `"`).FindStringSubmatch(alerts.Targets[0].Expr)
		if do == nil || len(do[1]) < 10 || len(do[1]) > 125 || strings.ContainsAny(do[1], "[`*") {
			t.Errorf("%s: the first action is %q", alert[1], do)
		}
		if anchor := mapped("Runbook", alert[1]); anchor != alert[2] {
			t.Errorf("%s leads to #%s in the dashboard and to #%s in the rules", alert[1], anchor, alert[2])
		}
	}
}

// TestAnnotations wants one line for the start of each alert, and no text that could be
// the name of a label.
func TestAnnotations(t *testing.T) {
	for _, d := range committed(t) {
		for _, a := range d.Annotations.List {
			if a.Expr == "" {
				continue
			}
			if !a.UseValueForTime || strings.Count(a.Expr, `severity!="info"`) != 2 || !strings.Contains(a.Expr, "ALERTS_FOR_STATE{") {
				t.Errorf("%s is a region, or marks info too: %s", a.Name, a.Expr)
			}
			if a.TextFormat != "{{about}}" || !strings.Contains(a.Expr, `, "about", `) || a.TitleFormat != "{{alertname}}" {
				t.Errorf("%s: a label that is missing is shown by its name: %s", a.Name, a.TextFormat)
			}
		}
	}
}
