package event_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
)

func TestAdoptLabels(t *testing.T) {
	long := strings.Repeat("s", 101)
	for name, c := range map[string]struct {
		event                  event.Event
		props                  map[string]string // as JSON
		surface, environ, task string
		left                   string // names of the properties afterwards
	}{
		"a call's own names":             {event.Event{Name: event.Generation}, map[string]string{"surface": `"A"`, "environment": `" e "`, "task_type": `"t"`, "x": "1"}, "A", "e", "t", "x"},
		"the field takes precedence":     {event.Event{Name: event.Generation, Surface: "F", Environment: "F"}, map[string]string{"surface": `"A"`, "environment": `"B"`, "$environment": `"C"`}, "F", "F", "", "$environment"},
		"OpenTelemetry's names":          {event.Event{Name: event.Span}, map[string]string{"deployment.environment": `"old"`, "deployment.environment.name": `"new"`}, "", "new", "", "deployment.environment"},
		"equal ones under several names": {event.Event{Name: event.Span}, map[string]string{"deployment.environment": `"p"`, "deployment.environment.name": `"p"`, "$environment": `"p"`}, "", "p", "", ""},
		"not text":                       {event.Event{Name: event.Generation}, map[string]string{"surface": `7`, "environment": `""`, "task_type": `null`}, "", "", "", "environment surface task_type"},
		"escapes":                        {event.Event{Name: event.Generation}, map[string]string{"surface": `"C\u0061f\u00e9"`}, "Café", "", "", ""},
		"an outcome of a trace":          {event.Event{Name: "rated", TraceID: "t"}, map[string]string{"$environment": `"p"`, "surface": `"A"`}, "A", "p", "", "$environment"},
		"a product event":                {event.Event{Name: "click"}, map[string]string{"$environment": `"p"`, "surface": `"A"`, "deployment.environment": `"p"`}, "A", "", "", "$environment deployment.environment"},
		"a product event's odd values":   {event.Event{Name: "click"}, map[string]string{"environment": `" p"`, "surface": `"` + long + `"`, "task_type": `"a\nb"`}, "", "", "", "environment surface task_type"},
		"none":                           {event.Event{Name: event.Generation}, nil, "", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := c.event
			for k, v := range c.props {
				if e.Properties == nil {
					e.Properties = make(map[string]json.RawMessage)
				}
				e.Properties[k] = json.RawMessage(v)
			}
			shared := e.Properties
			for range 2 { // it is idempotent
				e.AdoptLabels()
				left := strings.Join(slices.Sorted(maps.Keys(e.Properties)), " ")
				if e.Surface != c.surface || e.Environment != c.environ || e.TaskType != c.task || left != c.left {
					t.Errorf("surface %q, environment %q, task type %q, left %q; want %q, %q, %q, %q", e.Surface, e.Environment, e.TaskType, left, c.surface, c.environ, c.task, c.left)
				}
			}
			if len(shared) != len(c.props) {
				t.Error("the map, which others may share, was modified")
			}
		})
	}
}

func TestTakesSurface(t *testing.T) {
	for name, c := range map[string]struct {
		e    event.Event
		want bool
	}{
		"a call":                        {event.Event{Name: event.Generation, Source: event.SourceIngest, TraceID: "t"}, true},
		"a span":                        {event.Event{Name: event.Span, TraceID: "t"}, true},
		"the start of a call":           {event.Event{Name: event.RequestStarted, TraceID: "t"}, true},
		"a call with a surface":         {event.Event{Name: event.Generation, Surface: "A"}, false},
		"feedback about a trace":        {event.Event{Name: event.Feedback, TraceID: "t"}, false},
		"an outcome of a trace":         {event.Event{Name: "rated", Source: "api", TraceID: "t"}, false},
		"an outcome, trace as property": {event.Event{Name: "rated", Source: "api", Properties: map[string]json.RawMessage{"trace_id": json.RawMessage(`"t"`)}}, false},
		"an event of the API":           {event.Event{Name: "shared", Source: "api"}, true},
		"an event of the SDK":           {event.Event{Name: "shared", Source: event.SourceSDK}, true},
		"a product event":               {event.Event{Name: "$pageview", Source: event.SourceIngest}, false},
		"content of a span":             {event.Event{Name: event.SpanContent, Source: event.SourceOTLP}, false},
	} {
		if got := c.e.TakesSurface(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
