package pipeline

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	for _, c := range []struct {
		name  string
		store func(tick int) uint64 // events ended by a tick; 100 are appended with each
		shut  bool                  // in the end
	}{
		{"KeepsUp", func(n int) uint64 { return uint64(100 * n) }, false},
		{"Follows", func(n int) uint64 { return uint64(100 * max(0, n-8)) }, false},
		{"Behind", func(n int) uint64 { return uint64(100 * max(0, n-20)) }, true},
		{"Slow", func(n int) uint64 { return uint64(50 * n) }, true},
		{"Stuck", func(n int) uint64 { return uint64(100 * min(n, 5)) }, false},
		{"WithAnOldBacklog", func(n int) uint64 { return uint64(200 * n) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p pace
			for n := range 400 {
				p.look(at(time.Duration(n)*paceTick), uint64(100*n), c.store(n))
				if len(p.history) > paceMarks {
					t.Fatalf("%d marks", len(p.history))
				}
			}
			if shut := p.gate != nil; shut != c.shut {
				t.Errorf("shut: %v, want %v", shut, c.shut)
			}
		})
	}
}

func TestPaceWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		start := time.Now()
		p.wait(t.Context())
		if took := time.Since(start); took != 0 {
			t.Errorf("waited %v for nothing", took)
		}
		for n := range 20 {
			p.look(start.Add(time.Duration(n)*paceTick), 100, uint64(n))
		}
		p.wait(t.Context())
		if took := time.Since(start); took != paceWait {
			t.Errorf("waited %v for a store that is behind, want %v", took, paceWait)
		}
		start = time.Now()
		go func() {
			time.Sleep(paceWait / 2)
			p.look(start, 100, 100)
		}()
		p.wait(t.Context())
		if took := time.Since(start); took != paceWait/2 {
			t.Errorf("waited %v, want %v", took, paceWait/2)
		}
	})
}
