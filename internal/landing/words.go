package landing

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// firstOf names the first few, and says how many more there are.
func firstOf(names []string) string {
	const most = 3
	if len(names) > most {
		names = append(names[:most:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	return strings.Join(names, ", ")
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// moment is a time in words.
type moment struct {
	Known              bool
	Ago, Text, Machine string
}

func momentOf(t, now time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	return moment{
		Known:   true,
		Ago:     ago(now.Sub(t)),
		Text:    t.UTC().Format("2006-01-02 15:04:05 UTC"),
		Machine: t.UTC().Format(time.RFC3339),
	}
}

func ago(d time.Duration) string {
	if d < time.Second {
		return "now"
	}
	return inWords(d) + " ago"
}

func inWords(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	default:
		return fmt.Sprintf("%d days", d/day)
	}
}

// called is a thing by its name, with its id beside it.
func called(name, id string) string {
	if name == "" {
		return id
	}
	return name + " (" + id + ")"
}

// left is what is left until a time; empty if there is none.
func left(until, now time.Time) string {
	switch d := until.Sub(now); {
	case until.IsZero():
		return ""
	case d <= 0:
		return "expired " + ago(-d)
	default:
		return "expires in " + inWords(d)
	}
}
