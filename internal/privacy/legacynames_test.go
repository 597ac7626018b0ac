package privacy_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/privacy"
)

// Names that an upgrade keeps sending: they were sent before, would be withheld
// now, and are not texts.
func TestTakeOver(t *testing.T) {
	var over privacy.LegacyNames
	add := func(source, name string, props map[string]string) {
		e := &event.Event{Name: name, Source: source, Properties: make(map[string]json.RawMessage)}
		for k, v := range props {
			e.Properties[k] = raw(v)
		}
		over.Add(e)
	}
	add(event.SourceOTLP, event.Span, map[string]string{
		"tenant.plan": `"pro"`, "queue.depth": `3`, "service.name": `"shop"`, "note.free": `"a few words only"`, "step.said": `"where is it"`, "ai.value": `"short"`,
		"retrieved.text": `"x"`, "regions": `["eu","us"]`, "step.text_of_user": `"one two three four five six"`, "ai.telemetry.metadata.plan": `"pro"`, "jp": `"荷物はどこですか火曜日に届くはず"`})
	add(event.SourceOTLP, event.Span, map[string]string{"step.said": `"tell me where my parcel is, please"`})
	add(event.SourceIngest, event.Generation, map[string]string{
		"plan": `"pro"`, "labels": `["a","b"]`, "deep": `{"a":{"b":1},"c":"x"}`, "chat": `[{"role":"user","content":"hi"}]`, "with_text": `{"text":"hi"}`, "long": `"` + strings.Repeat("word", 60) + `"`,
		"json": `"{\"a\":1}"`, "$ai_new_word": `"fast"`})
	add(event.SourceIngest, "order_placed", map[string]string{"items": `[1]`})
	properties, attributes := over.Names()
	if want := []string{"$ai_new_word", "deep", "json", "labels"}; !slices.Equal(properties, want) {
		t.Errorf("properties %q, want %q", properties, want)
	}
	if want := []string{"note.free", "queue.depth", "regions", "tenant.plan"}; !slices.Equal(attributes, want) {
		t.Errorf("attributes %q, want %q", attributes, want)
	}

	// They are sent as long as their values keep their form.
	p := privacy.OutboundPolicy{PrivacyMode: true, SendProperties: []string{"label", "labels"}, LegacyNames: []string{"label", "labels"}}
	e := call(question, "label", question[:60])
	e.Properties["labels"] = raw(`["a","b"]`)
	o := privacy.ApplyOutbound(e, p)
	if o.Event.Properties["label"] != nil || string(o.Event.Properties["labels"]) != `["a","b"]` {
		t.Errorf("left %s", o.Event.Properties)
	}
	for _, v := range []string{`"` + strings.Repeat("x", 201) + `"`, `{"text":"hi"}`, `["one two three four five six"]`} {
		e := &event.Event{Name: event.Span, DistinctID: "u", Timestamp: time.Unix(1, 0), Properties: map[string]json.RawMessage{"labels": raw(v)}}
		if o := privacy.ApplyOutbound(e, p); o.Event.Properties["labels"] != nil || len(o.Withheld) != 1 {
			t.Errorf("%.40s was sent without confirmation", v)
		}
	}
}
