package otlp_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// spansFile is a short form of a request, in testdata/spans: attributes as
// plain JSON, times in milliseconds after base.
type spansFile struct {
	About    string         `json:"about"`
	Resource map[string]any `json:"resource"`
	Scope    string         `json:"scope"`
	Version  string         `json:"version"`
	Spans    []struct {
		Name          string         `json:"name"`
		ID            string         `json:"id"`
		Parent        string         `json:"parent"`
		Scope         string         `json:"scope"` // overrides the file's
		Start         *int64         `json:"start"`
		End           *int64         `json:"end"`
		Status        int32          `json:"status"`
		StatusMessage string         `json:"statusMessage"`
		Attributes    map[string]any `json:"attributes"`
		Events        []struct {
			Name       string         `json:"name"`
			At         int64          `json:"at"`
			Attributes map[string]any `json:"attributes"`
		} `json:"events"`
	} `json:"spans"`
}

var base = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

const traceID = "5b8efff798038103d269b633813fc60c"

func nano(ms *int64) uint64 {
	if ms == nil {
		return 0
	}
	return uint64(base.Add(time.Duration(*ms) * time.Millisecond).UnixNano())
}

func readSpans(t testing.TB, name string) *collector.ExportTraceServiceRequest {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "spans", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var f spansFile
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	ss := &trace.ScopeSpans{Scope: &common.InstrumentationScope{Name: f.Scope, Version: f.Version}}
	all := []*trace.ScopeSpans{ss}
	for _, s := range f.Spans {
		if s.Scope != "" && s.Scope != ss.Scope.Name {
			ss = &trace.ScopeSpans{Scope: &common.InstrumentationScope{Name: s.Scope, Version: f.Version}}
			all = append(all, ss)
		}
		span := &trace.Span{
			TraceId: unhex(t, traceID), SpanId: unhex(t, s.ID), ParentSpanId: unhex(t, s.Parent), Name: s.Name, Kind: trace.Span_SPAN_KIND_CLIENT,
			StartTimeUnixNano: nano(s.Start), EndTimeUnixNano: nano(s.End), Attributes: attributes(s.Attributes),
		}
		if s.Status != 0 {
			span.Status = &trace.Status{Code: trace.Status_StatusCode(s.Status), Message: s.StatusMessage}
		}
		for _, ev := range s.Events {
			span.Events = append(span.Events, &trace.Span_Event{Name: ev.Name, TimeUnixNano: nano(&ev.At), Attributes: attributes(ev.Attributes)})
		}
		ss.Spans = append(ss.Spans, span)
	}
	return &collector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{Resource: &resource.Resource{Attributes: attributes(f.Resource)}, ScopeSpans: all}}}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func attributes(m map[string]any) (out []*common.KeyValue) {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		out = append(out, &common.KeyValue{Key: k, Value: anyValue(m[k])})
	}
	return out
}

func anyValue(v any) *common.AnyValue {
	switch v := v.(type) {
	case string:
		if v == "NaN" {
			return &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: math.NaN()}}
		}
		return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: v}}
	case bool:
		return &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: v}}
	case int:
		return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: int64(v)}}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: n}}
		}
		f, _ := v.Float64()
		return &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: f}}
	case []any:
		a := &common.ArrayValue{}
		for _, item := range v {
			a.Values = append(a.Values, anyValue(item))
		}
		return &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: a}}
	case map[string]any:
		return &common.AnyValue{Value: &common.AnyValue_KvlistValue{KvlistValue: &common.KeyValueList{Values: attributes(v)}}}
	}
	return &common.AnyValue{}
}

// otlpJSON encodes a request as OTLP JSON: ids in hexadecimal, 64-bit numbers
// as strings. It does not use protojson, so that the receiver is not tested
// with its own library.
func otlpJSON(req *collector.ExportTraceServiceRequest) []byte {
	var kvs func([]*common.KeyValue) []any
	var val func(*common.AnyValue) map[string]any
	val = func(v *common.AnyValue) map[string]any {
		switch v := v.GetValue().(type) {
		case *common.AnyValue_StringValue:
			return map[string]any{"stringValue": v.StringValue}
		case *common.AnyValue_BoolValue:
			return map[string]any{"boolValue": v.BoolValue}
		case *common.AnyValue_IntValue:
			return map[string]any{"intValue": fmt.Sprint(v.IntValue)}
		case *common.AnyValue_DoubleValue:
			if math.IsNaN(v.DoubleValue) {
				return map[string]any{"doubleValue": "NaN"}
			}
			return map[string]any{"doubleValue": v.DoubleValue}
		case *common.AnyValue_ArrayValue:
			list := []any{}
			for _, item := range v.ArrayValue.GetValues() {
				list = append(list, val(item))
			}
			return map[string]any{"arrayValue": map[string]any{"values": list}}
		case *common.AnyValue_KvlistValue:
			return map[string]any{"kvlistValue": map[string]any{"values": kvs(v.KvlistValue.GetValues())}}
		}
		return map[string]any{}
	}
	kvs = func(list []*common.KeyValue) []any {
		out := []any{}
		for _, kv := range list {
			out = append(out, map[string]any{"key": kv.GetKey(), "value": val(kv.GetValue())})
		}
		return out
	}
	var rss []any
	for _, rs := range req.GetResourceSpans() {
		var sss []any
		for _, ss := range rs.GetScopeSpans() {
			var spans []any
			for _, s := range ss.GetSpans() {
				var events []any
				for _, ev := range s.GetEvents() {
					events = append(events, map[string]any{"name": ev.GetName(), "timeUnixNano": fmt.Sprint(ev.GetTimeUnixNano()), "attributes": kvs(ev.GetAttributes())})
				}
				m := map[string]any{
					"traceId": strings.ToUpper(hex.EncodeToString(s.GetTraceId())), "spanId": hex.EncodeToString(s.GetSpanId()), "parentSpanId": hex.EncodeToString(s.GetParentSpanId()),
					"name": s.GetName(), "kind": int(s.GetKind()), "startTimeUnixNano": fmt.Sprint(s.GetStartTimeUnixNano()), "endTimeUnixNano": s.GetEndTimeUnixNano(),
					"attributes": kvs(s.GetAttributes()), "droppedAttributesCount": 0, "events": events, "links": []any{}, "flags": 257, "notKnownYet": map[string]any{"a": 1},
				}
				if s.GetStatus() != nil {
					m["status"] = map[string]any{"code": int(s.GetStatus().GetCode()), "message": s.GetStatus().GetMessage()}
				}
				spans = append(spans, m)
			}
			sss = append(sss, map[string]any{"scope": map[string]any{"name": ss.GetScope().GetName(), "version": ss.GetScope().GetVersion()}, "spans": spans})
		}
		rss = append(rss, map[string]any{"resource": map[string]any{"attributes": kvs(rs.GetResource().GetAttributes())}, "scopeSpans": sss})
	}
	b, err := json.Marshal(map[string]any{"resourceSpans": rss})
	if err != nil {
		panic(err)
	}
	return b
}

// view is an event with its content, for a golden file.
type view struct {
	*event.Event
	Input       json.RawMessage `json:"content.input,omitempty"`
	Output      json.RawMessage `json:"content.output,omitempty"`
	Tools       json.RawMessage `json:"content.tools,omitempty"`
	InputState  json.RawMessage `json:"content.input_state,omitempty"`
	OutputState json.RawMessage `json:"content.output_state,omitempty"`
}

func render(t testing.TB, events []*event.Event) []byte {
	t.Helper()
	views := make([]view, len(events))
	for i, e := range events {
		views[i] = view{e, e.Content.Input, e.Content.Output, e.Content.Tools, e.Content.InputState, e.Content.OutputState}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(views); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func fileNames(t testing.TB) (names []string) {
	t.Helper()
	files, err := filepath.Glob("testdata/spans/*.json")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".json"))
	}
	return names
}

// TestGolden compares the events of each library's spans, in protobuf and in
// JSON, with the golden files.
func TestGolden(t *testing.T) {
	for _, name := range fileNames(t) {
		t.Run(name, func(t *testing.T) {
			req := readSpans(t, name)
			pb, err := proto.Marshal(req)
			if err != nil {
				t.Fatal(err)
			}
			fromProto, err := otlp.Decode(false, pb, otlp.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			events, _, rejected := otlp.Convert("default", fromProto)
			if rejected != 0 {
				t.Errorf("%d spans rejected", rejected)
			}
			got := render(t, events)
			fromJSON, err := otlp.Decode(true, otlpJSON(req), otlp.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			again, _, _ := otlp.Convert("default", fromJSON)
			if s := render(t, again); !bytes.Equal(got, s) {
				t.Errorf("different events from JSON:\n%s", s)
			}
			golden := filepath.Join("testdata", "golden", name+".json")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			sound(t, events)
		})
	}
}

// sound checks invariants of every event.
func sound(t testing.TB, events []*event.Event) {
	t.Helper()
	seen := make(map[string]bool)
	for _, e := range events {
		id, err := uuid.Parse(e.UUID)
		if err != nil || id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Errorf("uuid %s: %v", e.UUID, err)
		}
		if seen[e.UUID] {
			t.Errorf("uuid %s twice", e.UUID)
		}
		seen[e.UUID] = true
		if len(e.TraceID) != 32 || len(e.SpanID) != 16 || e.ParentID != "" && len(e.ParentID) != 16 {
			t.Errorf("ids %q %q %q", e.TraceID, e.SpanID, e.ParentID)
		}
		for _, part := range []json.RawMessage{e.Content.Input, e.Content.Output, e.Content.Tools, e.Content.InputState, e.Content.OutputState} {
			if part != nil && !json.Valid(part) {
				t.Errorf("content is not JSON: %.200s", part)
			}
		}
		for k, v := range e.Properties {
			if !json.Valid(v) {
				t.Errorf("property %q is not JSON: %.200s", k, v)
			}
		}
		for k, v := range e.ModelParameters {
			if !json.Valid(v) {
				t.Errorf("parameter %q is not JSON: %.200s", k, v)
			}
		}
	}
}

// TestNoContentAmongProperties checks that messages are content, where privacy
// rules apply, and nothing else.
func TestNoContentAmongProperties(t *testing.T) {
	for _, name := range fileNames(t) {
		events, _, _ := otlp.Convert("default", readSpans(t, name))
		for _, e := range events {
			for k, v := range e.Properties {
				for _, said := range []string{"role", "Paris", "Oslo", "hedgerow?", "Rome", "joke.", "sunny", "Bearer", "secret"} {
					if bytes.Contains(v, []byte(said)) {
						t.Errorf("%s: property %s holds %s", name, k, v)
					}
				}
			}
		}
	}
}

// TestStableIdentity checks that a span that is exported again is the same
// event, whatever it is batched with, and another event in another project.
func TestStableIdentity(t *testing.T) {
	req := readSpans(t, "semconv_current")
	whole, _, _ := otlp.Convert("default", req)
	byID := make(map[string]*event.Event)
	for _, e := range whole {
		byID[e.SpanID] = e
	}
	ss := req.ResourceSpans[0].ScopeSpans[0]
	spans := slices.Clone(ss.Spans)
	slices.Reverse(spans)
	n := 0
	for _, s := range spans {
		ss.Spans = []*trace.Span{s}
		alone, _, _ := otlp.Convert("default", req)
		for _, e := range alone {
			n++
			want := byID[e.SpanID].Clone()
			if e.DistinctID == "" { // user and session are those of the root, which is not in this request
				want.DistinctID = ""
			}
			if e.SessionID == "" {
				want.SessionID = ""
			}
			if !reflect.DeepEqual(e, want) {
				t.Errorf("alone: %+v\nwith the others: %+v", e, want)
			}
		}
		other, _, _ := otlp.Convert("other", req)
		for _, e := range other {
			if e.UUID == byID[e.SpanID].UUID {
				t.Error("two projects share a uuid")
			}
		}
	}
	if n != len(whole) {
		t.Errorf("%d events one by one, %d together", n, len(whole))
	}
}

// distinct removes events of spans that are exported twice in one request.
func distinct(events []*event.Event) []*event.Event {
	seen := make(map[string]bool)
	return slices.DeleteFunc(events, func(e *event.Event) bool {
		twice := seen[e.UUID]
		seen[e.UUID] = true
		return twice
	})
}
