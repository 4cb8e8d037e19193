package grafana

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

// runbooks begins every link to a runbook: a page that Grafana serves, if it is mounted
// as in deploy/compose. Users may replace it by the address of their copy.
const runbooks = "/public/runbooks.html"

// File is the name of the dashboard's file in dashboards/.
func (d *Dashboard) File() string { return d.UID + ".json" }

// All makes all dashboards. The text of the runbooks tells what to do first.
func All(runbooks string) []*Dashboard {
	return []*Dashboard{oncall(firstActions(runbooks)), exporter()}
}

// firstActions are the first sentences of what the runbooks tell to do about each alert.
func firstActions(runbooks string) map[string]string {
	actions := make(map[string]string)
	link := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	for section := range strings.SplitSeq(runbooks, "\n## ") {
		name, text, _ := strings.Cut(section, "\n")
		if _, do, ok := strings.Cut(text, "\n**Do**: "); ok {
			do, _, _ = strings.Cut(do, "\n\n")
			do = strings.ReplaceAll(do, "\n", " ")
			do, _, _ = strings.Cut(do+" ", ". ")
			do = strings.ReplaceAll(link.ReplaceAllString(do, "$1"), "`", "")
			actions[name] = strings.ToUpper(do[:1]) + do[1:] + "."
		}
	}
	return actions
}

// JSON is the dashboard as it is committed.
func (d *Dashboard) JSON() ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // queries compare
	encoder.SetIndent("", "  ")
	err := encoder.Encode(d)
	return b.Bytes(), err
}

// Read reads the dashboards of a directory. A field that this package does not know
// is an error.
func Read(dir fs.FS) ([]*Dashboard, error) {
	files, err := fs.Glob(dir, "*.json")
	if err != nil {
		return nil, err
	}
	all := make([]*Dashboard, len(files))
	for i, file := range files {
		text, err := fs.ReadFile(dir, file)
		if err != nil {
			return nil, err
		}
		all[i] = new(Dashboard)
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(all[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return all, nil
}

// query fills in what every selector must have: queries are written with EXPORTER,
// TARGET and SUBJECT in its place. EXPORTER is for the series of a process: it has them
// once, whatever account is chosen. ACCOUNT is for what rules record: it has no instance.
func query(expr string) string {
	expr = strings.ReplaceAll(expr, "ACCOUNT", `job=~"$job", account=~"$account"`)
	expr = strings.ReplaceAll(expr, "SUBJECT", `TARGET, subject_id=~"$subject"`)
	expr = strings.ReplaceAll(expr, "TARGET", `EXPORTER, account=~"$account"`)
	return strings.ReplaceAll(expr, "EXPORTER", `job=~"$job", instance=~"$instance"`)
}

func datasource() Datasource { return Datasource{Type: "prometheus", UID: "${datasource}"} }

func number(v float64) *float64 { return &v }
func count(n int) *int          { return &n }

// dashboard makes a dashboard with what all of them have in common.
func dashboard(uid, title, description string, other DashboardLink, panels ...Panel) *Dashboard {
	d := &Dashboard{
		UID: uid, Title: title, Description: description,
		Tags:          []string{"ncp_exporter"},
		GraphTooltip:  1, // one crosshair in all graphs
		Refresh:       "30s",
		SchemaVersion: 39,
		Timezone:      "browser",
		Time:          TimeRange{From: "now-1h", To: "now"},
		Annotations: Annotations{List: []Annotation{
			{
				Name: "Annotations & Alerts", Type: "dashboard", BuiltIn: 1, Enable: true, Hide: true, IconColor: "rgba(0, 211, 255, 1)",
				Datasource: Datasource{Type: "grafana", UID: "-- Grafana --"},
			},
			{
				Name: "Alerts firing", Enable: true, IconColor: "red", Datasource: datasource(),
				// The value is when the alert began, the same in each step: one line, and no
				// region. A label that is missing would be shown as its name.
				Expr: joined(`ALERTS_FOR_STATE{alertname=~"NCP.*", severity!="info"} * 1000`+
					` and ignoring (alertstate) ALERTS{alertname=~"NCP.*", alertstate="firing", severity!="info"}`,
					"about", "x509_subject", "certificate_id", "subject_id", "trust_anchor_id", "collector", "account", "instance"),
				Step:            "1m",
				UseValueForTime: true,
				TagKeys:         "severity",
				TitleFormat:     "{{alertname}}",
				TextFormat:      "{{about}}",
			},
		}},
		Links: []DashboardLink{
			other,
			{
				Title: "Runbooks", Type: "link", Icon: "doc", URL: "${runbooks}", TargetBlank: true, Tags: []string{},
				Tooltip: "What each alert means, and what to do",
			},
		},
		Templating: Templating{List: variables()},
	}
	for i := range panels {
		panels[i].ID = i + 1
	}
	d.Panels = panels
	return d
}

// toDashboard is a link to another dashboard that keeps range and variables.
func toDashboard(uid, title, tooltip string) DashboardLink {
	return DashboardLink{Title: title, Type: "link", Icon: "dashboard", Tooltip: tooltip, URL: "/d/" + uid, Tags: []string{}, IncludeVars: true, KeepTime: true}
}

func variables() []Variable {
	ds := datasource()
	// Without a value for All, Grafana fills in all values of the list: so up and
	// process_* are those of ncp_exporter alone. Exporters that went away within a day
	// stay, whatever the range is.
	list := func(name, label, description, by, matchers string) Variable {
		expr := `query_result(group by (` + by + `) (last_over_time(` + matchers + `[1d])))`
		return Variable{
			Name: name, Label: label, Description: description, Type: "query", Datasource: &ds,
			Query: VariableQuery{Query: expr, RefID: "variable", QryType: 3}, Definition: expr,
			Regex:   `/` + by + `="([^"]+)"/`,
			Refresh: 2, Sort: 1, Multi: true, IncludeAll: true, Current: all(),
		}
	}
	account := list("account", "Account", "Accounts of these exporters. Empty if Prometheus gives the targets no label account.",
		"account", `ncp_exporter_build_info{`+query("EXPORTER")+`}`)
	account.AllValue = ".*" // also none
	subject := list("subject", "Subject", "Subjects of External Access, by their X.509 name.",
		"subject_id, x509_subject", `ncp_external_access_subject_info{`+query("TARGET")+`}`)
	// It shows the name and uses the id. A subject without a name shows its id.
	subject.Regex = `/subject_id="(?<value>[^"]+)"(?:,\s*x509_subject="(?<text>[\s\S]*?)")?\}/`
	subject.AllValue = ".*"
	return []Variable{
		{
			Name: "datasource", Label: "Data source", Description: "The Prometheus server that scrapes the exporters.",
			Type: "datasource", Query: "prometheus", Refresh: 1,
			Current: &Current{Text: "default", Value: "default"}, // and not the first by name
		},
		list("job", "Job", "Scrape jobs with an ncp_exporter.", "job", `ncp_exporter_build_info`),
		list("instance", "Instance", "Exporters of these jobs.", "instance", `ncp_exporter_build_info{job=~"$job"}`),
		account,
		subject,
		{
			Name: "runbooks", Label: "Runbooks", Description: "Where the runbooks are.",
			Type: "constant", Query: runbooks, Hide: 2, SkipURLSync: true,
			Current: &Current{Text: runbooks, Value: runbooks},
		},
	}
}

func all() *Current { return &Current{Text: []string{"All"}, Value: []string{"$__all"}} }

// ---- panels

// at is a place on the grid.
func at(x, y, w, h int) GridPos { return GridPos{H: h, W: w, X: x, Y: y} }

func panel(kind, title, description string, pos GridPos, targets []Target, defaults Field, options any) Panel {
	ds := datasource()
	for i := range targets {
		targets[i].RefID = string(rune('A' + i))
	}
	return Panel{
		Type: kind, Title: title, Description: description, GridPos: pos, Datasource: &ds, Targets: targets,
		FieldConfig: &FieldConfig{Defaults: defaults, Overrides: []Override{}},
		Options:     options,
	}
}

func row(title string, y int) Panel {
	open := false
	return Panel{Type: "row", Title: title, GridPos: at(0, y, 24, 1), Collapsed: &open, Panels: &[]Panel{}}
}

func target(expr string) Target {
	return Target{Datasource: datasource(), EditorMode: "code", Expr: query(expr)}
}

// now is a query for the values of this moment.
func now(expr string) Target {
	t := target(expr)
	t.Instant, t.Format = true, "time_series"
	return t
}

// rows is a query for the rows of a table.
func rows(expr string) Target {
	t := target(expr)
	t.Instant, t.Format = true, "table"
	return t
}

// series is a query for the lines of a graph.
func series(expr, legend string) Target {
	t := target(expr)
	t.Range, t.Format, t.LegendFormat = true, "time_series", legend
	return t
}

// steps are thresholds: the lowest colour, then pairs of a value and a colour.
func steps(lowest string, pairs ...any) *Thresholds {
	t := &Thresholds{Mode: "absolute", Steps: []Step{{Color: lowest}}}
	for i := 0; i+1 < len(pairs); i += 2 {
		value, _ := pairs[i].(float64)
		color, _ := pairs[i+1].(string)
		t.Steps = append(t.Steps, Step{Color: color, Value: &value})
	}
	return t
}

// shown maps values to texts with colours, given as value, text, color.
func shown(triples ...string) []Mapping {
	m := Mapping{Type: "value", Options: make(map[string]any)}
	for i := 0; i+2 < len(triples); i += 3 {
		m.Options[triples[i]] = Mapped{Text: triples[i+1], Color: triples[i+2], Index: i / 3}
	}
	return []Mapping{m}
}

// missing maps a value that is not there.
func missing(text, color string, index int) Mapping {
	return Mapping{Type: "special", Options: map[string]any{"match": "null", "result": Mapped{Text: text, Color: color, Index: index}}}
}

// stat shows one number, or one word for it. A value that is unknown must not have the
// colour of a good one.
func stat(title, description string, pos GridPos, expr string, f Field) Panel {
	f.Color = &Color{Mode: "thresholds"}
	if f.NoValue != "" {
		f.Mappings = append(f.Mappings, missing(f.NoValue, "purple", len(f.Mappings)))
	}
	return panel("stat", title, description, pos, []Target{now(expr)}, f, map[string]any{
		"colorMode": "background", "graphMode": "none", "justifyMode": "center", "orientation": "auto", "textMode": "value",
		"wideLayout": true, "percentChangeColorMode": "standard", "showPercentChange": false,
		"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
	})
}

// graph shows lines over time.
func graph(title, description string, pos GridPos, f Field, targets ...Target) Panel {
	custom := map[string]any{
		"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": false,
		"gradientMode": "none", "lineInterpolation": "linear", "axisPlacement": "auto", "axisLabel": "",
		"stacking":        map[string]any{"group": "A", "mode": "none"},
		"thresholdsStyle": map[string]any{"mode": "off"},
	}
	for k, v := range f.Custom {
		custom[k] = v
	}
	f.Custom = custom
	if f.Color == nil {
		f.Color = &Color{Mode: "palette-classic"}
	}
	p := panel("timeseries", title, description, pos, targets, f, map[string]any{
		"legend":  map[string]any{"calcs": []string{}, "displayMode": "list", "placement": "bottom", "showLegend": true},
		"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
	})
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, gaps())
	return p
}

// gaps keeps the text for an empty panel out of cells and tooltips without a value.
func gaps() Override {
	return Override{Matcher{"byRegexp", "/.*/"}, []Property{prop("noValue", "–")}}
}

// stacked draws a graph as a stack of areas or bars.
func stacked(style string) map[string]any {
	custom := map[string]any{
		"drawStyle": style, "fillOpacity": 60, "lineWidth": 1,
		"stacking": map[string]any{"group": "A", "mode": "normal"},
	}
	if style == "line" {
		custom["fillOpacity"] = 30
	}
	return custom
}

// upTo1 makes room for one above a line of zeros, which would lie on a scale up to 100.
func upTo1(custom map[string]any) map[string]any {
	custom["axisSoftMax"] = 1
	return custom
}

// A column of a table: the field that it comes from and how it is shown.
type column struct {
	from, title string
	width       int
	properties  []Property
}

func prop(id string, value any) Property { return Property{ID: id, Value: value} }

// lasting shows seconds as a time that can be told from another one, which "an hour ago"
// cannot.
func lasting() Property { return prop("unit", "dtdhms") }

// wrapped shows a text whole, in as many lines as it needs. Grafana 12 has this setting
// among the options of the cell, Grafana 13 beside them.
func wrapped() []Property {
	return []Property{prop("custom.wrapText", true), prop("custom.cellOptions", map[string]any{"type": "auto", "wrapText": true})}
}

// colored shows the text of a cell in the colour of its value.
func colored() Property {
	return prop("custom.cellOptions", map[string]any{"type": "color-text"})
}

// table shows these columns in this order, and no others; a column that no answer has is
// left out. The answers to several queries are joined by the field joinBy.
func table(title, description string, pos GridPos, none, joinBy string, columns []column, sortBy []any, targets ...Target) Panel {
	p := panel("table", title, description, pos, targets, Field{
		NoValue: none, Unit: "string",
		Color:      &Color{Mode: "thresholds"},
		Thresholds: steps("text"),
		Custom:     map[string]any{"align": "auto", "cellOptions": map[string]any{"type": "auto"}, "inspect": false, "filterable": false},
	}, map[string]any{"showHeader": true, "cellHeight": "sm", "sortBy": sortBy})
	organize := struct {
		ExcludeByName map[string]bool   `json:"excludeByName"`
		IncludeByName map[string]bool   `json:"includeByName"`
		IndexByName   map[string]int    `json:"indexByName"`
		RenameByName  map[string]string `json:"renameByName"`
	}{map[string]bool{"Time": true, "__name__": true, "job": true}, map[string]bool{}, make(map[string]int), make(map[string]string)}
	if len(targets) > 1 { // the name of a value if no other query has an answer
		organize.ExcludeByName["Value"] = true
	}
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, gaps())
	for i, c := range columns {
		organize.IndexByName[c.from] = i
		if c.title == "" { // needed, not shown
			organize.ExcludeByName[c.from] = true
			continue
		}
		organize.RenameByName[c.from] = c.title
		properties := c.properties
		if c.width > 0 {
			properties = append(properties, prop("custom.width", c.width))
		}
		if len(properties) > 0 {
			p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, Override{Matcher{"byName", c.title}, properties})
		}
	}
	if joinBy != "" {
		p.Transformations = append(p.Transformations, Transformation{"joinByField", map[string]string{"byField": joinBy, "mode": "outer"}})
	}
	p.Transformations = append(p.Transformations, Transformation{"organize", organize})
	return p
}

func sorted(title string, descending bool) any {
	return map[string]any{"displayName": title, "desc": descending}
}

// override adds settings for the fields of this name.
func (p Panel) override(name string, properties ...Property) Panel {
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, Override{Matcher{"byName", name}, properties})
	return p
}

// overrideQuery adds settings for the answer to the query refID.
func (p Panel) overrideQuery(refID string, properties ...Property) Panel {
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, Override{Matcher{"byFrameRefID", refID}, properties})
	return p
}

// legend puts the legend to the right, as a table with these calculations.
func (p Panel) legend(calcs ...string) Panel {
	options, _ := p.Options.(map[string]any)
	options["legend"] = map[string]any{"calcs": calcs, "displayMode": "table", "placement": "right", "showLegend": true}
	return p
}

func fixed(color string) Property {
	return prop("color", Color{Mode: "fixed", FixedColor: color})
}
