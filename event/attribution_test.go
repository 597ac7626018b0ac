package event_test

import (
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
)

func TestCleanValue(t *testing.T) {
	for in, want := range map[string]string{
		"ada": "ada", "  ada \t": "ada", "a\x00d\na": "ada", "a\xffb": "ab", "": "", " \u0085 ": "", "Zoë": "Zoë",
		strings.Repeat("é", 1500): strings.Repeat("é", event.MaxValueLen),
	} {
		if got := event.CleanValue(in); got != want {
			t.Errorf("CleanValue(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestParseTraceparent(t *testing.T) {
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for v, ok := range map[string]bool{
		"00-" + trace + "-" + parent + "-01":                   true,
		" 00-" + trace + "-" + parent + "-01 ":                 true,
		"01-" + trace + "-" + parent + "-01-more":              true,
		"00-" + trace + "-" + parent + "-01-more":              false,
		"ff-" + trace + "-" + parent + "-01":                   false,
		"00-" + strings.ToUpper(trace) + "-" + parent + "-01":  false,
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01": false,
		"00-" + trace + "-" + strings.Repeat("0", 16) + "-01":  false,
		"00-" + trace + "-" + parent:                           false,
		"":                                                     false,
		"00-" + trace[:31] + "g-" + parent + "-01":             false,
	} {
		gotTrace, gotParent := event.ParseTraceparent(v)
		if (gotTrace == trace && gotParent == parent) != ok || !ok && gotTrace+gotParent != "" {
			t.Errorf("ParseTraceparent(%q) = %q, %q", v, gotTrace, gotParent)
		}
	}
}
