package ingest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"mime/multipart"
	"net/textproto"
	"strings"
	"testing"
	"time"

	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
)

const (
	id1 = "0192c0de-0000-7000-8000-000000000001"
	id2 = "0192c0de-0000-7000-8000-000000000002"
	id3 = "0192c0de-0000-7000-8000-000000000003"
)

func v1Body(events ...string) []byte {
	return []byte(`{"created_at":"2026-11-21T12:00:00Z","batch":[` + strings.Join(events, ",") + `]}`)
}

func v1Event(id, rest string) string {
	return `{"event":"e","uuid":"` + id + `","distinct_id":"d","timestamp":"2026-11-21T11:00:00Z"` + rest + `}`
}

func TestV1(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	ph := simposthog.New(simposthog.Options{Projects: []simposthog.Project{{Name: "p", Token: posthogKey}}, Now: func() time.Time { return now }})
	body := v1Body(
		v1Event(id1, `,"options":{"process_person_profile":"0","cookieless_mode":null,"unknown":1},"session_id":"s","window_id":"w","properties":{"$set":{"a":1},"$groups":{"company":"acme"},"n":1.50}`),
		v1Event(id2, `,"options":{"disable_skew_correction":true,"product_tour_id":"tour"}`),
		`{"event":"e","uuid":"`+id3+`","timestamp":"2026-11-21T11:00:00Z"}`,
	)
	header := []string{"Authorization", "Bearer " + posthogKey, "Content-Type", "application/json", "PostHog-Request-Id", "r-1", "PostHog-Request-Timestamp", "2026-11-21T11:59:00Z"}
	for enc, b := range map[string][]byte{"": body, "gzip": gzipOf(body), "deflate": zlibOf(body), "br": brotliOf(body), "zstd": zstdOf(body)} {
		k.reset()
		ph.Reset()
		got := call(h, "POST", "/i/v1/analytics/events", b, append(header, "Content-Encoding", enc)...)
		want := call(ph, "POST", "/i/v1/analytics/events", b, append(header, "Content-Encoding", enc)...)
		var g, w struct {
			Results map[string]struct{ Result, Details string }
		}
		decode(t, got.Body.Bytes(), &g)
		decode(t, want.Body.Bytes(), &w)
		if got.Code != 200 || !maps.Equal(g.Results, w.Results) || got.Header().Get("PostHog-Request-Id") != "r-1" || got.Header().Get("Date") == "" || got.Header().Get("Retry-After") != "" {
			t.Errorf("%s: %d %s, PostHog: %s", enc, got.Code, got.Body, want.Body)
		}
		stored, sent := k.events(t), ph.Events()
		if len(stored) != 2 || len(sent) != 2 {
			t.Fatalf("%s: %d events, PostHog has %d", enc, len(stored), len(sent))
		}
		for i := range stored {
			a, b := wireOf(t, stored[i]), wireOfPostHog(t, sent[i])
			if v := b.Properties["$process_person_profile"]; v == "0" {
				b.Properties["$process_person_profile"] = false // converted, as in contract section 1.6
			}
			delete(b.Properties, "unknown")
			delete(b.Properties, "$cookieless_mode")
			if d := differ(a.Properties, b.Properties); d != "" || !a.Timestamp.Equal(b.Timestamp) || stored[i].UUID != sent[i].UUID {
				t.Errorf("%s: %v, PostHog %v\n%s", enc, a, b, d)
			}
		}
		if got, want := stored[0].Timestamp, now.Add(-59*time.Minute); !got.Equal(want) {
			t.Errorf("timestamp %v, want %v", got, want)
		}
	}
	k.reset()
	call(h, "POST", "/i/v1/analytics/events/", v1Body(v1Event(id1, "")), append(header, "PostHog-Sdk-Info", "posthog-go/1.9.0")...)
	if p := k.events(t)[0].Properties; string(p["$lib"]) != `"posthog-go"` || string(p["$lib_version"]) != `"1.9.0"` {
		t.Errorf("the SDK's name is missing: %s", p)
	}
}

func TestV1Refusals(t *testing.T) {
	h, k := newHandler(t, ingest.Config{Limits: ingest.Limits{BodyV1: 80 << 10, EventBytes: 1 << 10}})
	auth := []string{"Authorization", "Bearer " + settings.def.Token}
	for name, c := range map[string]struct {
		body   []byte
		header []string
		status int
		tag    string
	}{
		"NoToken":      {v1Body(v1Event(id1, "")), nil, 401, "missing_authorization"},
		"Basic":        {v1Body(v1Event(id1, "")), []string{"Authorization", "Basic abc"}, 401, "missing_authorization"},
		"UnknownToken": {v1Body(v1Event(id1, "")), []string{"Authorization", "Bearer phc_unknown"}, 401, "missing_authorization"},
		"NotJSON":      {[]byte("{"), auth, 400, "request_parsing_error"},
		"Empty":        {nil, auth, 400, "request_parsing_error"},
		"NoBatch":      {[]byte(`{"created_at":"2026-11-21T12:00:00Z"}`), auth, 400, "request_parsing_error"},
		"EmptyBatch":   {v1Body(), auth, 400, "request_parsing_error"},
		"NoCreatedAt":  {[]byte(`{"batch":[` + v1Event(id1, "") + `]}`), auth, 400, "request_parsing_error"},
		"TooLarge":     {bytes.Repeat([]byte(" "), 81<<10), auth, 413, "payload_too_large"},
		"Encoding":     {v1Body(v1Event(id1, "")), append([]string{"Content-Encoding", "compress"}, auth...), 415, "unsupported_content_type"},
		"ContentType":  {v1Body(v1Event(id1, "")), append([]string{"Content-Type", "text/plain"}, auth...), 415, "unsupported_content_type"},
		"FormType":     {v1Body(v1Event(id1, "")), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, auth...), 415, "unsupported_content_type"},
		"TokenInBody":  {[]byte(`{"api_key":"` + settings.def.Token + `",` + string(v1Body(v1Event(id1, ""))[1:])), nil, 401, "missing_authorization"},
		"OtherKey":     {v1Body(v1Event(id1, "")), []string{"Authorization", "Bearer " + personalKey}, 401, "missing_authorization"},
		"Bomb":         {gzipOf(bytes.Repeat([]byte(" "), 51<<20)), auth, 413, "payload_too_large"},
		"NoObject":     {v1Body("1"), auth, 400, "request_parsing_error"},
	} {
		t.Run(name, func(t *testing.T) {
			w := call(h, "POST", "/i/v1/analytics/events", c.body, c.header...)
			var v map[string]string
			decode(t, w.Body.Bytes(), &v)
			if w.Code != c.status || v["error"] != c.tag || v["error_description"] == "" || v["error_uri"] == "" || len(k.events(t)) > 0 {
				t.Errorf("%d %s, want %d %s", w.Code, w.Body, c.status, c.tag)
			}
			if (w.Header().Get("Retry-After") != "") != (c.status == 503) {
				t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
			}
		})
	}
	long := strings.Repeat("x", 201)
	w := call(h, "POST", "/i/v1/analytics/events", v1Body(
		v1Event(id1, ""), v1Event("not-a-uuid", ""), v1Event(id2, `,"properties":{"a":"`+strings.Repeat("x", 1<<10)+`"}`),
		`{"event":"`+long+`","uuid":"`+id3+`","distinct_id":"d","timestamp":"2026-11-21T11:00:00Z"}`,
	), auth...)
	want := `{"results":{"` + id1 + `":{"result":"ok"},"` + id2 + `":{"result":"drop","details":"ai_event_too_big"},"` + id3 + `":{"result":"drop","details":"invalid_event"},"not-a-uuid":{"result":"drop","details":"invalid_event"}}}`
	if got := strings.TrimSpace(w.Body.String()); w.Code != 200 || got != want || len(k.events(t)) != 1 {
		t.Errorf("%d %s\nwant %s", w.Code, got, want)
	}
}

type formPart struct{ name, contentType, encoding, body string }

func multipartOf(parts ...formPart) (body []byte, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		h := textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf("form-data; name=%q", p.name)}}
		if p.contentType != "" {
			h.Set("Content-Type", p.contentType)
		}
		if p.encoding != "" {
			h.Set("Content-Encoding", p.encoding)
		}
		pw, _ := w.CreatePart(h)
		_, _ = pw.Write([]byte(p.body))
	}
	_ = w.Close()
	return b.Bytes(), w.FormDataContentType()
}

func TestMultipart(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	ev := `{"event":"$ai_generation","uuid":"` + id1 + `","distinct_id":"d","timestamp":"2026-11-21T10:00:00Z","sent_at":"2026-11-21T11:00:00Z"}`
	props := `{"$ai_model":"gpt-4.1","$ai_trace_id":"t","$ai_input":[{"role":"user","content":"hi"}]}`
	event, separate := formPart{"event", "application/json", "", ev}, formPart{"event.properties", "application/json", "", props}
	inline := formPart{"event", "application/json", "", strings.TrimSuffix(ev, "}") + `,"properties":` + props + `}`}
	for name, parts := range map[string][]formPart{
		"Separate": {event, separate}, "Inline": {inline}, "GzipPart": {event, {"event.properties", "application/json", "gzip", string(gzipOf([]byte(props)))}},
	} {
		for _, whole := range []string{"", "gzip"} {
			k.reset()
			b, ct := multipartOf(parts...)
			if whole != "" {
				b = gzipOf(b)
			}
			w := call(h, "POST", "/i/v0/ai", b, "Authorization", "Bearer "+settings.def.Token, "Content-Type", ct, "Content-Encoding", whole)
			var response struct {
				Parts []struct {
					Name     string
					Length   int
					Type     string `json:"content-type"`
					Encoding string `json:"content-encoding"`
				} `json:"accepted_parts"`
			}
			decode(t, w.Body.Bytes(), &response)
			if w.Code != 200 || len(response.Parts) != len(parts) || response.Parts[0].Length != len(parts[0].body) || response.Parts[0].Type != "application/json" {
				t.Errorf("%s %s: %d %s", name, whole, w.Code, w.Body)
				continue
			}
			e := k.events(t)[0]
			if e.UUID != id1 || e.Model != "gpt-4.1" || e.TraceID != "t" || string(e.Content.Input) != `[{"role":"user","content":"hi"}]` || !e.Timestamp.Equal(now.Add(-time.Hour)) {
				t.Errorf("%s %s: %+v", name, whole, e)
			}
		}
	}
	k.reset()
	without := func(field string) formPart {
		var v map[string]json.RawMessage
		_ = json.Unmarshal([]byte(inline.body), &v)
		delete(v, field)
		b, _ := json.Marshal(v)
		return formPart{"event", "", "", string(b)}
	}
	for name, c := range map[string]struct {
		parts  []formPart
		status int
	}{
		"PropertiesFirst": {[]formPart{separate, event}, 400}, "TwoEvents": {[]formPart{event, event}, 400}, "UnknownPart": {[]formPart{inline, {"event.properties.$ai_input", "", "", "{}"}}, 400},
		"PropertiesTwice": {[]formPart{inline, separate}, 400}, "TwoProperties": {[]formPart{event, separate, separate}, 400}, "NoParts": {nil, 400}, "NoModel": {[]formPart{event}, 400},
		"NoUUID": {[]formPart{without("uuid")}, 400}, "NoDistinctID": {[]formPart{without("distinct_id")}, 400}, "NotJSON": {[]formPart{{"event", "", "", "{"}}, 400}, "Array": {[]formPart{{"event", "", "", "[]"}}, 400},
		"OtherEvent":    {[]formPart{{"event", "", "", strings.Replace(inline.body, "$ai_generation", "$pageview", 1)}}, 400},
		"LargeEvent":    {[]formPart{{"event", "", "", strings.Replace(inline.body, "hi", strings.Repeat("x", 33<<10), 1)}}, 413},
		"LargeTogether": {[]formPart{event, {"event.properties", "", "", strings.Replace(props, "hi", strings.Repeat("x", 9<<20), 1)}}, 413},
	} {
		b, ct := multipartOf(c.parts...)
		w := call(h, "POST", "/i/v0/ai/", b, "Authorization", "Bearer "+settings.def.Token, "Content-Type", ct)
		if w.Code != c.status || len(k.events(t)) > 0 {
			t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, c.status)
		}
	}
	b, ct := multipartOf(inline)
	for name, header := range map[string][]string{
		"NoToken": {"Content-Type", ct}, "Cut": {"Content-Type", ct, "Authorization", "Bearer " + settings.def.Token}, "NoBoundary": {"Content-Type", "multipart/form-data", "Authorization", "Bearer " + settings.def.Token},
	} {
		want := map[string]int{"NoToken": 401, "Cut": 400, "NoBoundary": 400}[name]
		if w := call(h, "POST", "/i/v0/ai", b[:len(b)-20], header...); w.Code != want {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}
