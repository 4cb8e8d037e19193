package grafana

import (
	"fmt"
	"html"
	"regexp"
	"strings"
)

// RunbooksHTML makes the page that Grafana serves beside its own files, so that links to
// runbooks lead somewhere without a wiki. It knows what docs/runbooks.md uses of Markdown.
// The anchors are those that wikis give the headings of that file.
func RunbooksHTML(markdown string) string {
	var page strings.Builder
	page.WriteString(runbooksHead)
	var code []string
	inCode := false
	for block := range strings.SplitSeq(markdown, "\n\n") {
		if strings.HasPrefix(block, "**English** | ") {
			continue // the other language is not beside the page
		}
		if fence := strings.Count(block, "```"); inCode || fence > 0 {
			code = append(code, strings.ReplaceAll(block, "```sh", "```"))
			if inCode = inCode != (fence%2 == 1); !inCode {
				text := strings.Join(code, "\n\n")
				before, rest, _ := strings.Cut(text, "```")
				inside, after, _ := strings.Cut(rest, "```")
				page.WriteString(blockHTML(before) + "<pre>" + html.EscapeString(strings.Trim(inside, "\n")) + "</pre>\n" + blockHTML(after))
				code = nil
			}
			continue
		}
		page.WriteString(blockHTML(block))
	}
	page.WriteString("</body>\n</html>\n")
	return page.String()
}

const runbooksHead = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width" />
<title>Runbooks of ncp_exporter</title>
<style>
body { max-width: 46em; margin: 2em auto; padding: 0 1em; font: 16px/1.5 sans-serif; color-scheme: light dark; }
code, pre { font-size: 0.9em; overflow-wrap: anywhere; white-space: pre-wrap; }
h2 { border-top: 1px solid gray; padding-top: 1em; }
:target { outline: 2px solid orange; outline-offset: 0.3em; }
td, th { padding: 0.2em 1em 0.2em 0; text-align: left; }
</style>
</head>
<body>
`

// blockHTML makes HTML of a heading, a table, a list, or a paragraph with a list below it.
func blockHTML(block string) string {
	lines := strings.Split(strings.Trim(block, "\n"), "\n")
	switch {
	case strings.TrimSpace(block) == "":
		return ""
	case strings.HasPrefix(block, "# "):
		return "<h1>" + textHTML(block[2:]) + "</h1>\n"
	case strings.HasPrefix(block, "## "):
		return fmt.Sprintf("<h2 id=%q>%s</h2>\n", strings.ToLower(lines[0][3:]), textHTML(lines[0][3:]))
	case strings.HasPrefix(block, "|"):
		var rows strings.Builder
		for i, line := range lines {
			cell := "td"
			if i == 0 {
				cell = "th"
			}
			if i != 1 { // the rule below the head
				cells := strings.Join(strings.Split(textHTML(strings.Trim(line, "| ")), " | "), "</"+cell+"><"+cell+">")
				rows.WriteString("<tr><" + cell + ">" + cells + "</" + cell + "></tr>\n")
			}
		}
		return "<table>\n" + rows.String() + "</table>\n"
	}
	text, list, _ := strings.Cut("\n"+strings.Join(lines, "\n"), "\n- ")
	var result strings.Builder
	if text = strings.TrimSpace(text); text != "" {
		result.WriteString("<p>" + textHTML(text) + "</p>\n")
	}
	if list != "" {
		result.WriteString("<ul>\n")
		for item := range strings.SplitSeq(list, "\n- ") {
			result.WriteString("<li>" + textHTML(item) + "</li>\n")
		}
		result.WriteString("</ul>\n")
	}
	return result.String()
}

var (
	markdownCode = regexp.MustCompile("`([^`]*)`")
	markdownBold = regexp.MustCompile(`\*\*([^*]*)\*\*`)
	markdownHere = regexp.MustCompile(`\[([^\]]*)\]\(#(\w+)\)`)
	markdownLink = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// textHTML keeps links to other sections; other files are not beside the page.
func textHTML(text string) string {
	text = html.EscapeString(text)
	text = markdownHere.ReplaceAllString(text, `<a href="#$2">$1</a>`)
	text = markdownLink.ReplaceAllString(text, "$1")
	text = markdownBold.ReplaceAllString(text, "<strong>$1</strong>")
	return markdownCode.ReplaceAllString(text, "<code>$1</code>")
}
