package join_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/join"
)

// mastra is what @mastra/posthog reports of a run with some calls, and the gateway of
// the calls: calls, steps, the generation.
func mastra(calls int) (all []*event.Event) {
	var steps []*event.Event
	input, output := int64(0), int64(0)
	for i := range calls {
		id := fmt.Sprintf("chatcmpl-3af2caf059284c98a142c21%d", i)
		took := event.Some(100 * time.Millisecond)
		all = append(all, &event.Event{
			UUID: event.NewID(), ProjectID: "default", Name: event.Generation, Source: event.SourceGateway, Timestamp: now.Add(time.Duration(i) * time.Second), Latency: took,
			TraceID: fmt.Sprint("gateway-", i), SpanID: fmt.Sprint("g-", i), Provider: "openai", Model: "gpt-4.1-mini", CompletionID: id,
			Usage: event.Usage{Input: event.Some(int64(100 + i)), Output: event.Some(int64(10 + i))},
		})
		input, output = input+int64(100+i), output+int64(10+i)
		steps = append(steps, &event.Event{
			UUID: event.NewID(), ProjectID: "default", Name: event.Span, Source: event.SourceIngest, Timestamp: now.Add(time.Duration(i) * time.Second), Latency: took, DistinctID: "ada", SessionID: "s",
			TraceID: "run", SpanID: fmt.Sprint("step-", i), ParentID: "agent", CompletionID: id,
			Properties: map[string]json.RawMessage{"plan": json.RawMessage(`"pro"`), "body": json.RawMessage(`{"id":"x"}`)},
		})
	}
	return append(append(all, steps...), &event.Event{
		UUID: event.NewID(), ProjectID: "default", Name: event.Generation, Source: event.SourceIngest, Timestamp: now, Latency: event.Some(time.Duration(calls) * time.Second), DistinctID: "ada", SessionID: "s",
		TraceID: "run", SpanID: "agent", ParentID: "run", Provider: "openai", ModelAsked: "gpt-4.1-mini", Model: "gpt-4.1-mini",
		Usage: event.Usage{Input: event.Some(input), Output: event.Some(output)},
	})
}

// oneByOne is a queue with one event per fetch.
type oneByOne struct{ line }

func (o *oneByOne) Fetch(ctx context.Context, _ int, wait time.Duration) ([]event.Delivery, error) {
	return o.line.Fetch(ctx, 1, wait)
}

// rowsOf applies merges as the store does.
func rowsOf(t *testing.T, events, merges []*event.Event) map[string]*event.Event {
	t.Helper()
	rows := make(map[string]*event.Event)
	for _, e := range events {
		rows[e.UUID] = e.Clone()
	}
	slices.SortStableFunc(merges, func(a, b *event.Event) int { return strings.Compare(a.UUID, b.UUID) }) // of one write
	for _, e := range merges {
		m, _ := join.MergeOf(e)
		switch other := rows[m.Other]; {
		case !m.Span:
			delete(rows, m.Other)
		case other.IsCosted():
			join.AsSpan(other, m.Call)
		}
		join.Apply(e, rows[m.Call])
	}
	return rows
}

// TestRun: in every order of arrival, in one batch or one by one, and when the joiner
// starts only then, each of the gateway's calls counts once, in the run's tree, with the
// figures of its own.
func TestRun(t *testing.T) {
	others := []*event.Event{generation(event.SourceIngest, "chatcmpl-b"), generation(event.SourceGateway, "chatcmpl-a")} // from now on two captures are expected
	others[0].Model, others[1].Model = "another", "a third"
	for _, calls := range []int{1, 2} {
		events := mastra(calls)
		orders := 0
		permute(events, func(order []*event.Event) {
			for _, way := range []string{"one batch", "one by one", "restart"} {
				k := new(kept)
				l := &oneByOne{line{deliveries(func(i int) time.Time { return now.Add(time.Duration(i) * time.Millisecond) }, slices.Concat(others, order)...)}}
				c := join.JoinerConfig{Hold: hold, Now: func() time.Time { return now }, Journal: k,
					Open: func(context.Context, time.Time) (event.Queue, error) {
						if way == "one by one" {
							return l, nil
						}
						return &l.line, nil
					},
					Behind: func(context.Context) (uint64, error) {
						if way == "restart" {
							return uint64(len(l.ds)), nil
						}
						return 0, nil
					}}
				j, err := join.NewJoiner(c)
				if err != nil {
					t.Fatal(err)
				}
				if err := j.Run(t.Context()); !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				checkRun(t, calls, order, k.events(t), way)
			}
			orders++
		})
		if orders < 6 {
			t.Errorf("%d orders", orders)
		}
	}
}

func checkRun(t *testing.T, calls int, order, merges []*event.Event, way string) {
	t.Helper()
	rows := rowsOf(t, order, merges)
	spans := map[string]bool{"run": true}
	for _, e := range rows {
		spans[e.SpanID] = true
	}
	generations := 0
	for _, e := range rows {
		if e.TraceID != "run" || !spans[e.ParentID] || e.DistinctID != "ada" || e.SessionID != "s" {
			t.Errorf("%s of %v: %s %q is in trace %q under %q, of %q", way, names(order), e.Name, e.SpanID, e.TraceID, e.ParentID, e.DistinctID)
		}
		if e.Name != event.Generation {
			continue
		}
		generations++
		if e.Source != event.SourceGateway || e.Properties["body"] != nil {
			t.Errorf("%s of %v: %+v counts", way, names(order), e)
		}
		if calls > 1 && (e.ParentID != "step-"+strings.TrimPrefix(e.SpanID, "g-") || string(e.Properties["plan"]) != `"pro"`) {
			t.Errorf("%s of %v: %s is under %s, with %v", way, names(order), e.SpanID, e.ParentID, e.Properties)
		}
	}
	if generations != calls {
		t.Errorf("%s of %v: %d generations, want %d", way, names(order), generations, calls)
	}
	generation := rows[slices.MaxFunc(order, func(a, b *event.Event) int { return len(a.ModelAsked) - len(b.ModelAsked) }).UUID]
	if calls > 1 && (generation == nil || generation.Name != event.Span || generation.Usage.Input.Known || string(generation.Properties["hedgerow_reported_input_tokens"]) != "201") {
		t.Errorf("%s of %v: the sum is %+v", way, names(order), generation)
	}
	if calls == 1 && generation != nil {
		t.Errorf("%s of %v: the only call's generation is not merged with it: %+v", way, names(order), generation)
	}
}

func names(events []*event.Event) (out []string) {
	for _, e := range events {
		out = append(out, e.Source+" "+e.SpanID)
	}
	return out
}

// permute calls f with each order of events.
func permute(events []*event.Event, f func([]*event.Event)) {
	var from func(int, []*event.Event)
	from = func(i int, order []*event.Event) {
		if i == len(order) {
			f(slices.Clone(order))
			return
		}
		for k := i; k < len(order); k++ {
			order[i], order[k] = order[k], order[i]
			from(i+1, order)
			order[i], order[k] = order[k], order[i]
		}
	}
	from(0, slices.Clone(events))
}

// TestRunApart: without the gateway, or with only some of the calls through it, the
// generation of a run stays one; and a run whose ids are of other calls is not taken for
// a call with equal counts.
func TestRunApart(t *testing.T) {
	run := mastra(2)
	one := mastra(1)
	one[1].CompletionID = "chatcmpl-ffffffffffffffffffffffff"
	for name, c := range map[string]struct {
		events []*event.Event
		merges int
	}{
		"no gateway":     {run[2:], 0},
		"one of two":     {run[1:], 1},
		"another's call": {one, 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, merges, _ := joining(t, join.JoinerConfig{Hold: hold}, 0, deliveries(same, c.events...))
			generation := c.events[len(c.events)-1].UUID
			if len(merges) != c.merges || slices.ContainsFunc(merges, func(m join.Merge) bool { return m.Other == generation }) {
				t.Errorf("%+v", merges)
			}
		})
	}
}

// TestDecideRun: PostHog gets each call of a run once, and the sum as a span; if
// delivery sent the sum before the gateway's calls came, only that.
func TestDecideRun(t *testing.T) {
	for name, late := range map[string]bool{"in time": false, "late": true} {
		t.Run(name, func(t *testing.T) {
			events := mastra(2)
			at := same
			if late {
				events = append(slices.Clone(events[2:]), events[:2]...)
				at = func(i int) time.Time {
					if i > 2 {
						return now.Add(2 * hold)
					}
					return now
				}
			}
			before := generation(event.SourceIngest, "chatcmpl-b")
			before.Model = "another"
			first := generation(event.SourceGateway, "chatcmpl-a")
			first.Model = "a third"
			ds := deliveries(func(i int) time.Time { return at(i - 2) }, append([]*event.Event{before, first}, events...)...)
			j, merges, _ := joining(t, join.JoinerConfig{Hold: hold, Now: func() time.Time { return now.Add(2 * hold) }}, 0, slices.Clone(ds))
			if len(merges) != 3 {
				t.Fatalf("%+v", merges)
			}
			var sent []string
			for _, d := range ds[2:] {
				if got, wait := decided(t, j, d); wait > 0 {
					t.Errorf("%s waits %v", d.Event.SpanID, wait)
				} else if got != nil {
					sent = append(sent, got.Name+" "+got.SpanID+" under "+got.ParentID)
				}
			}
			want := []string{"$ai_generation g-0 under step-0", "$ai_generation g-1 under step-1", "$ai_span step-0 under agent", "$ai_span step-1 under agent", "$ai_span agent under run"}
			if late {
				want = []string{"$ai_span step-0 under agent", "$ai_span step-1 under agent", "$ai_generation agent under run"}
			}
			if !slices.Equal(sent, want) {
				t.Errorf("sent %q, want %q", sent, want)
			}
		})
	}
}
