package mcp_test

import (
	"testing"
	"time"
)

// TestReprice: a dry run and its result; a wrong range is an error that says what to do.
func TestReprice(t *testing.T) {
	f := newFixture(t)
	c := f.dial(f.admin)
	c.fails("get_repricing", args{}, "not_found")
	c.fails("reprice", args{"from": "then", "to": "now"}, "write 2026-11-01")
	c.fails("cancel_repricing", args{}, "no run is in progress")
	run := c.must("reprice", args{"from": "2026-03-01", "to": "2026-03-31"})
	for start := time.Now(); run["status"] == "waiting" || run["status"] == "running"; time.Sleep(time.Millisecond) {
		if run = c.must("get_repricing", args{}); time.Since(start) > 20*time.Second {
			t.Fatal("no end")
		}
	}
	if run["status"] != "done" || run["calls"].(float64) == 0 || run["calls_done"] != run["calls"] || len(run["rows"].([]any)) == 0 || run["apply"] != nil {
		t.Errorf("%v", run)
	}
}
