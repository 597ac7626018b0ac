package posthog

import (
	"strconv"
	"testing"
	"time"
)

// TestSentLog forgets the oldest first, and counts a repetition once.
func TestSentLog(t *testing.T) {
	var l sentLog
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for i := range remembered {
		l.add(strconv.Itoa(i), at)
	}
	l.add("0", at.Add(time.Hour))
	if got, ok := l.of("0"); !ok || !got.Equal(at.Add(time.Hour)) || len(l.at) != remembered {
		t.Errorf("sent again: %v %v, %d known", got, ok, len(l.at))
	}
	for i := range 3 {
		l.add("new"+strconv.Itoa(i), at)
	}
	for id, want := range map[string]bool{"0": false, "2": false, "3": true, "new0": true, "new2": true, "none": false} {
		if _, ok := l.of(id); ok != want {
			t.Errorf("%s: known %v, want %v", id, ok, want)
		}
	}
	if len(l.at) != remembered || len(l.ring) != remembered {
		t.Errorf("%d known", len(l.at))
	}
}
