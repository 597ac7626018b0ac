package join_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/join"
)

// TestJoinerAnyOrder has calls of two projects with the same counts, each captured by up
// to four, in any order, with a kill between any two of them and before or after the
// merges of what was read were appended. Each call counts once, and no two are one.
func TestJoinerAnyOrder(t *testing.T) {
	captures := []struct{ source, library string }{{event.SourceGateway, ""}, {event.SourceIngest, "posthog"}, {event.SourceOTLP, ""}, {event.SourceIngest, "other"}}
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 1))
		var events []*event.Event
		calls := make(map[string]int) // by uuid
		for i := range 2 + r.IntN(30) {
			id, project := fmt.Sprintf("chatcmpl-%016x%016x", r.Uint64(), r.Uint64()), []string{"a", "b"}[r.IntN(2)]
			first, end := r.IntN(2), 1+r.IntN(len(captures))
			for k, c := range captures[min(first, end-1):end] {
				e := generation(c.source, id)
				e.ProjectID, e.Timestamp, e.TraceID, e.ParentID = project, now.Add(time.Duration(i)*time.Second), fmt.Sprint("t", i, k), ""
				if c.library != "" {
					_ = e.SetProperty("$lib", c.library)
				}
				calls[e.UUID] = i
				events = append(events, e)
			}
		}
		r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		killed := r.IntN(len(events) + 1)
		c := join.JoinerConfig{Hold: 20 * time.Second}
		_, _, merges := joining(t, c, 0, deliveries(same, events[:killed]...))
		if len(merges) > 0 && r.IntN(2) == 0 {
			merges = merges[:r.IntN(len(merges))]
		}
		journal := append(append(append([]*event.Event(nil), events[:killed]...), merges...), events[killed:]...)
		_, _, more := joining(t, c, killed+len(merges), deliveries(same, journal...))
		into := make(map[string]string)
		for _, e := range append(merges, more...) {
			m, _ := join.MergeOf(e)
			if calls[m.Call] != calls[m.Other] {
				t.Errorf("seed %d: calls %d and %d are one", seed, calls[m.Call], calls[m.Other])
			}
			if into[m.Other] != "" {
				t.Errorf("seed %d: %s is merged twice", seed, m.Other)
			}
			into[m.Other] = m.Call
		}
		counted := make(map[int]int)
		for uuid, call := range calls {
			if into[uuid] == "" {
				counted[call]++
			}
		}
		for call, n := range counted {
			if n != 1 {
				t.Errorf("seed %d: call %d counts %d times", seed, call, n)
			}
		}
	}
}

// TestJoinerBurst has a hundred calls a second with the same counts, as of texts that are
// cut to one length, and a wrapper that sends five seconds later and has no ids.
func TestJoinerBurst(t *testing.T) {
	const calls, later = 1000, 500
	var events []*event.Event
	capture := func(source string, i int) {
		e := generation(source, "")
		e.DistinctID, e.TraceID, e.ParentID = "u", fmt.Sprint(source, i), ""
		e.Timestamp, e.Usage.Output = now.Add(time.Duration(i)*10*time.Millisecond), event.Some[int64](3)
		events = append(events, e)
	}
	for i := range calls + later {
		if i < calls {
			capture(event.SourceGateway, i)
		}
		if i >= later {
			capture(event.SourceIngest, i-later)
		}
	}
	_, merges, _ := joining(t, join.JoinerConfig{Hold: 20 * time.Second}, 0, deliveries(func(i int) time.Time { return now.Add(time.Duration(i) * 5 * time.Millisecond) }, events...))
	if len(merges) != calls {
		t.Errorf("%d of %d calls are merged", len(merges), calls)
	}
}
