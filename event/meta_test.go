package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/shopspring/decimal"
)

// fill sets every field to a distinct value.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Date(2026, 11, 21, 8, 0, *n%60, 123456000, time.UTC)
		return
	case *decimal.Decimal:
		*x = decimal.New(int64(*n), -9)
		return
	case *json.RawMessage:
		*x = json.RawMessage(fmt.Sprintf(`{"n":%d,"s":"<a> \u00e9 é"}`, *n))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d \"quoted\" <é>\n", *n))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n) * 1_000_003)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0), n)
		fill(t, v.Index(1), n)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 3 {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, k, n)
			fill(t, e, n)
			v.SetMapIndex(k, e)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(t, v.Field(i), n)
			}
		}
	default:
		t.Fatalf("%s: add it to fill and meta.go", v.Type())
	}
}

// TestMetaIsJSON compares meta.go with encoding/json: with every field set, with
// none, and with each one alone. It fails if a new field of Event is missing in
// meta.go.
func TestMetaIsJSON(t *testing.T) {
	full := new(Event)
	n := 0
	fill(t, reflect.ValueOf(full).Elem(), &n)
	full.Content = Content{}
	events := []*Event{full, new(Event)}
	for i := range reflect.TypeFor[Event]().NumField() {
		if !reflect.TypeFor[Event]().Field(i).IsExported() {
			continue
		}
		one := new(Event)
		reflect.ValueOf(one).Elem().Field(i).Set(reflect.ValueOf(full).Elem().Field(i))
		events = append(events, one)
	}
	for _, part := range []string{"Usage", "Cost"} {
		typ := reflect.ValueOf(full).Elem().FieldByName(part).Type()
		for i := range typ.NumField() {
			one := new(Event)
			reflect.ValueOf(one).Elem().FieldByName(part).Field(i).Set(reflect.ValueOf(full).Elem().FieldByName(part).Field(i))
			events = append(events, one)
		}
	}
	for _, e := range events {
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := appendMeta(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if json.Unmarshal(want, &a) != nil || json.Unmarshal(got, &b) != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("wrote\n%s\nencoding/json writes\n%s", got, want)
		}
		for _, source := range [][]byte{want, got} {
			var slow, fast Event
			if err := json.Unmarshal(source, &slow); err != nil {
				t.Fatal(err)
			}
			if err := decodeMeta(source, &fast); err != nil {
				t.Fatal(err)
			}
			x, _ := json.Marshal(slow)
			y, _ := json.Marshal(fast)
			if !bytes.Equal(x, y) {
				t.Errorf("read\n%s\nencoding/json reads\n%s", y, x)
			}
		}
	}
}

func TestMetaRefuses(t *testing.T) {
	for _, s := range []string{``, `{`, `[]`, `{"uuid":1}`, `{"http_status":"x"}`, `{"stream":1}`, `{"usage":{"input":"1"}}`, `{"usage":[]}`, `{"timestamp":"yesterday"}`, `{"properties":[]}`, `{"http_status":1.5}`, `{"cost":{"total":"much"}}`} {
		if err := decodeMeta([]byte(s), new(Event)); err == nil {
			t.Errorf("%s was read", s)
		}
	}
	for _, e := range []*Event{{Properties: map[string]json.RawMessage{"x": json.RawMessage("{")}}, {ModelParameters: map[string]json.RawMessage{"x": {}}}} {
		if _, err := appendMeta(nil, e); err == nil {
			t.Errorf("%+v was written", e)
		}
	}
}

func BenchmarkFrame(b *testing.B) {
	e := &Event{
		UUID: NewID(), ProjectID: "default", Name: Generation, DistinctID: "user_ada", Timestamp: time.Date(2026, 11, 21, 8, 0, 0, 123456000, time.UTC), Source: SourceGateway,
		TraceID: NewID(), SpanID: NewID(), SessionID: NewID(), SpanName: "POST /v1/chat/completions", Provider: "openai", ModelAsked: "gpt-4.1-mini", Model: "gpt-4.1-mini-2025-04-14",
		Operation: "chat", BaseURL: "https://api.openai.com", RequestURL: "https://api.openai.com/v1/chat/completions", Method: "POST",
		Usage:   Usage{Input: Some[int64](1200), Output: Some[int64](40), Total: Some[int64](1240), CacheRead: Some[int64](1024), CacheExclusive: Some(false), Reasoning: Some[int64](0)},
		Cost:    Cost{Input: Some(decimal.New(123, -7)), Output: Some(decimal.New(64, -6)), Total: Some(decimal.New(763, -7)), ModelUsed: "gpt-4.1-mini", Source: CostTable, Provider: "openai"},
		Latency: Some(900 * time.Millisecond), TimeToFirstToken: Some(200 * time.Millisecond), Stream: Some(true), HTTPStatus: 200, RequestBytes: 4000, ResponseBytes: 9000,
		Status: StatusSuccess, StopReason: "stop", CompletionID: "chatcmpl-5nj65SqEqV51zr1hgvjMdKF5TtiEs", SystemFingerprint: "fp_1", ServiceTier: "default",
		ModelParameters: map[string]json.RawMessage{"temperature": json.RawMessage("0.2"), "stream": json.RawMessage("true")},
		Surface:         "Conversation", InputChars: Some[int64](4000), OutputChars: Some[int64](160), InputLengthBucket: "1k_2k_tokens", OutputCategory: "text",
		PromptHash: "sha256:18e8ba56229b2324ae5259ec3fdf3a71bde24c3343fd9c6e273a18bad6a79fd6", Tags: []string{"beta"},
		Content: Content{Input: json.RawMessage(`[]`), Output: json.RawMessage(`[]`)},
	}
	frame, err := e.AppendFrame(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			frame, _ = e.AppendFrame(frame[:0])
		}
	})
	b.Run("AppendByEncodingJSON", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = json.Marshal(e)
		}
	})
	b.Run("Decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeFrame(frame); err != nil {
				b.Fatal(err)
			}
		}
	})
	meta, _ := json.Marshal(e)
	b.Run("DecodeByEncodingJSON", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var out Event
			if err := json.Unmarshal(meta, &out); err != nil {
				b.Fatal(err)
			}
		}
	})
}
