package ingest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

// The token may be in six places: the batch's takes precedence over the
// event's, and that over the properties'. A batch's token applies whatever its
// events repeat.
func TestTokenPlaces(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	def, bare := settings.def.Token, settings.bare.Token
	for body, want := range map[string]string{
		`{"api_key":"D","batch":[{"event":"e","distinct_id":"d"}]}`:                                                     project.DefaultID,
		`{"token":"D","batch":[{"event":"e","distinct_id":"d"}]}`:                                                       project.DefaultID,
		`{"api_key":"D","token":"B","batch":[{"event":"e","distinct_id":"d"}]}`:                                         project.DefaultID,
		`{"api_key":"","token":"D","batch":[{"event":"e","distinct_id":"d"}]}`:                                          project.DefaultID,
		`{"api_key":null,"batch":[{"event":"e","distinct_id":"d","api_key":"D"}]}`:                                      project.DefaultID,
		`{"batch":[{"event":"e","distinct_id":"d","$token":"D"}]}`:                                                      project.DefaultID,
		`{"batch":[{"event":"e","distinct_id":"d","token":"D"}]}`:                                                       project.DefaultID,
		`{"batch":[{"event":"e","distinct_id":"d","properties":{"token":"D"}}]}`:                                        project.DefaultID,
		`{"batch":[{"event":"e","distinct_id":"d","api_key":"D","$token":"B","token":"B","properties":{"token":"B"}}]}`: project.DefaultID,
		`{"batch":[{"event":"e","distinct_id":"d"},{"event":"e","distinct_id":"d","token":"D"}]}`:                       project.DefaultID,
		`{"api_key":"D","batch":[{"event":"e","distinct_id":"d","api_key":"B","properties":{"token":"B"}}]}`:            project.DefaultID,
		`{"event":"e","distinct_id":"d","api_key":"D"}`:                                                                 project.DefaultID,
		`{"event":"e","distinct_id":"d","$token":"D"}`:                                                                  project.DefaultID,
		`{"event":"e","token":"D","properties":{"distinct_id":"d"}}`:                                                    project.DefaultID,
		`{"event":"e","properties":{"distinct_id":"d","token":"D"}}`:                                                    project.DefaultID,
		`[{"event":"e","api_key":"B","distinct_id":"d"}]`:                                                               settings.bare.ID,
		`{"data":[{"event":"e","distinct_id":"d","token":"B"}]}`:                                                        settings.bare.ID,
		`[{"event":"e","distinct_id":"d","token":"D"},{"event":"e","distinct_id":"d","properties":{"token":"B"}}]`:      "events submitted with inconsistent api_key values\n",
		`{"batch":[{"event":"e","distinct_id":"d","api_key":"D"},{"event":"e","distinct_id":"d","api_key":"B"}]}`:       "events submitted with inconsistent api_key values\n",
		`[{"event":"e","distinct_id":"d"}]`:                                                                             "event submitted without an api_key",
		`{"api_key":"phx_0123","batch":[{"event":"e","distinct_id":"d"}]}`:                                              "API key is not valid: personal_api_key",
		`{"api_key":"` + strings.Repeat("p", 70) + `","batch":[{"event":"e","distinct_id":"d"}]}`:                       "API key is not valid",
		`{"api_key":"phc_\u0000","batch":[{"event":"e","distinct_id":"d"}]}`:                                            "API key is not valid",
		`{"api_key":"phc_ключ","batch":[{"event":"e","distinct_id":"d"}]}`:                                              "API key is not valid",
		`{"api_key":{"a":1},"batch":[{"event":"e","distinct_id":"d"}]}`:                                                 "API key is not valid",
	} {
		k.reset()
		w := call(h, "POST", "/batch/", []byte(strings.NewReplacer(`"D"`, `"`+def+`"`, `"B"`, `"`+bare+`"`).Replace(body)))
		stored := k.events(t)
		if ok := want == project.DefaultID || want == settings.bare.ID; ok {
			if w.Code != 200 || len(stored) == 0 || stored[0].ProjectID != want {
				t.Errorf("%s: %d %s, %d events; want project %s", body, w.Code, w.Body, len(stored), want)
			}
		} else if w.Code != 401 || !strings.HasPrefix(w.Body.String(), want) || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") || len(stored) > 0 {
			t.Errorf("%s: %d %s, %d events; want 401 %s", body, w.Code, w.Body, len(stored), want)
		}
	}
}

// An event's time depends on its timestamp, the batch's sent_at and the
// server's clock, which says 12:00.
func TestClockSkew(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	const noon = "2026-11-21T12:00:00Z"
	for _, c := range []struct{ root, event, want string }{
		{``, ``, noon},
		{`"sent_at":"2026-11-21T11:00:00Z",`, ``, noon}, // nothing to correct
		{``, `,"timestamp":"2026-11-21T11:00:00Z"`, "2026-11-21T11:00:00Z"},
		{``, `,"timestamp":"2026-11-21T13:00:00+02:00"`, "2026-11-21T11:00:00Z"},
		{``, `,"timestamp":"2026-11-21T11:00:00.123456-0100"`, "2026-11-21T12:00:00.123456Z"},
		{``, `,"timestamp":"2026-11-21T11:00:00"`, "2026-11-21T11:00:00Z"}, // without a zone: UTC
		{``, `,"timestamp":"2026-11-21 11:00:00"`, "2026-11-21T11:00:00Z"},
		{``, `,"timestamp":"2026-11-21"`, "2026-11-21T00:00:00Z"},
		{`"sent_at":"2026-11-21T13:30:00+02:00",`, `,"timestamp":"2026-11-21T10:00:00Z"`, "2026-11-21T10:30:00Z"}, // the client is half an hour late
		{`"sent_at":"2026-11-21T12:10:00",`, `,"timestamp":"2026-11-21T12:05:00"`, "2026-11-21T11:55:00Z"},        // without zones; ten minutes early
		{`"sent_at":"2001-01-01T00:10:00Z",`, `,"timestamp":"2001-01-01T00:00:00Z"`, "2026-11-21T11:50:00Z"},      // a clock without a battery
		{`"sent_at":null,`, `,"timestamp":"2026-11-21T11:00:00Z"`, "2026-11-21T11:00:00Z"},
		{`"sent_at":"",`, `,"timestamp":"2026-11-21T11:00:00Z"`, "2026-11-21T11:00:00Z"},
		{`"sent_at":"2026-11-21T11:00:00Z",`, `,"timestamp":"2026-11-21T10:00:00Z","properties":{"$ignore_sent_at":true}`, "2026-11-21T10:00:00Z"},
		{`"sent_at":"2026-11-21T11:00:00Z",`, `,"timestamp":"2026-11-21T10:00:00Z","properties":{"$ignore_sent_at":"true"}`, "2026-11-21T10:00:00Z"},
		{`"sent_at":"2026-11-21T11:00:00Z",`, `,"timestamp":"2026-11-21T10:00:00Z","properties":{"$ignore_sent_at":false}`, "2026-11-21T11:00:00Z"},
		{``, `,"offset":90000`, "2026-11-21T11:58:30Z"},
		{`"sent_at":"2026-11-21T11:00:00Z",`, `,"offset":90000`, "2026-11-21T11:58:30Z"}, // an age needs no clock
		{``, `,"offset":-5`, noon}, {``, `,"offset":"90000"`, noon}, {``, `,"offset":null`, noon},
		{``, `,"timestamp":"2026-11-22T10:59:59Z"`, "2026-11-22T10:59:59Z"}, // less than 23 hours ahead
		{``, `,"timestamp":"2026-11-22T11:00:00Z"`, "2026-11-22T11:00:00Z"},
		{``, `,"timestamp":"2026-11-22T11:00:01Z"`, noon}, // more
		{``, `,"timestamp":"9999-12-31T23:59:59Z"`, noon},
		{`"sent_at":"2026-11-20T12:00:00Z",`, `,"timestamp":"2026-11-21T11:59:59Z"`, noon}, // ahead only once corrected
		{``, `,"timestamp":"1970-01-01T00:00:00Z"`, "1970-01-01T00:00:00Z"},
	} {
		body := `{"api_key":"` + settings.def.Token + `",` + c.root + `"batch":[{"event":"e","distinct_id":"d"` + c.event + `}]}`
		k.reset()
		w := call(h, "POST", "/batch/", []byte(body))
		if w.Code != 200 || len(k.events(t)) != 1 {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
			continue
		}
		if got := k.events(t)[0].Timestamp; !got.Equal(at(c.want)) || got.Location() != time.UTC {
			t.Errorf("%s: %v, want %s", body, got, c.want)
		}
	}
	// Times that an SDK writes into properties are not corrected.
	k.reset()
	call(h, "POST", "/batch/", []byte(`{"api_key":"`+settings.def.Token+`","sent_at":"2026-11-21T11:00:00Z","batch":[{"event":"e","distinct_id":"d","timestamp":"2026-11-21T11:00:00Z","properties":{"at":"2026-11-21T13:00:00+02:00","$time":1.5}}]}`))
	if p := k.events(t)[0].Properties; string(p["at"]) != `"2026-11-21T13:00:00+02:00"` || string(p["$time"]) != "1.5" {
		t.Errorf("properties %s", p)
	}
	// A retry has another sent_at and must be the same event nevertheless.
	var ids []string
	for _, sent := range []string{"11:59:00", "11:59:30"} {
		call(h, "POST", "/batch/", []byte(`{"api_key":"`+settings.def.Token+`","sent_at":"2026-11-21T`+sent+`Z","batch":[{"event":"e","distinct_id":"d","timestamp":"2026-11-21T11:00:00Z"}]}`))
		e := k.events(t)
		ids = append(ids, e[len(e)-1].UUID)
	}
	if ids[0] != ids[1] {
		t.Errorf("another event after a retry: %v", ids)
	}
}

func TestUUIDRules(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	const v7, v4 = "0192c0de-0000-7000-8000-00000000000a", "f47ac10b-58cc-4372-a567-0e02b2c3d479"
	for in, want := range map[string]string{
		`"` + v7 + `"`: v7, `"` + strings.ToUpper(v4) + `"`: v4, `"{` + v4 + `}"`: v4, `"` + strings.ReplaceAll(v4, "-", "") + `"`: v4, `"urn:uuid:` + v4 + `"`: v4,
		`null`: "new", `""`: "new",
		`"x"`: "", `"00000000-0000-0000-0000-000000000000"`: "", `7`: "", `{}`: "", `"` + v4 + `0"`: "",
	} {
		k.reset()
		w := call(h, "POST", "/i/v0/e/", batchOf(settings.def.Token, `{"event":"e","distinct_id":"d","uuid":`+in+`}`))
		got := k.events(t)
		switch {
		case want == "":
			if w.Code != 400 || len(got) > 0 || !strings.Contains(w.Body.String(), "uuid is not a UUID") {
				t.Errorf("%s: %d %s", in, w.Code, w.Body)
			}
		case w.Code != 200 || len(got) != 1:
			t.Errorf("%s: %d %s", in, w.Code, w.Body)
		case want == "new":
			if id, err := uuid.Parse(got[0].UUID); err != nil || id.Version() != 7 {
				t.Errorf("%s: made %s", in, got[0].UUID)
			}
		case got[0].UUID != want:
			t.Errorf("%s: %s, want %s", in, got[0].UUID, want)
		}
	}
}

// Members may be missing, null or of another type.
func TestDistinctIDs(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	for in, want := range map[string]string{
		`"distinct_id":"root","properties":{"distinct_id":"property"}`: "root", `"properties":{"distinct_id":"property"}`: "property", `"distinct_id":null,"properties":{"distinct_id":"property"}`: "property",
		`"$distinct_id":"old"`: "old", `"distinct_id":12.50`: "12.50", `"distinct_id":false`: "false", `"distinct_id":["a"]`: `["a"]`, `"distinct_id":"` + strings.Repeat("🐦", 201) + `"`: strings.Repeat("🐦", 200),
		`"distinct_id":"a\u0000b"`: "a\ufffdb", `"distinct_id":"a b"`: "a b",
		`"distinct_id":""`: "", `"distinct_id":null`: "", `"properties":{"distinct_id":""}`: "", `"properties":null`: "",
	} {
		k.reset()
		w := call(h, "POST", "/capture/", []byte(`{"api_key":"`+settings.def.Token+`","event":"e",`+in+`}`))
		got := k.events(t)
		if want == "" {
			if w.Code != 400 || len(got) > 0 || !strings.HasPrefix(w.Body.String(), "event submitted without a distinct_id") {
				t.Errorf("%s: %d %s", in, w.Code, w.Body)
			}
		} else if w.Code != 200 || len(got) != 1 || got[0].DistinctID != want {
			t.Errorf("%s: %d %s %d events", in, w.Code, w.Body, len(got))
		}
	}
}

// v1's headers and details, rule by rule.
func TestV1Rules(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	auth := []string{"Authorization", "bearer " + settings.def.Token, "Content-Type", "application/json; charset=utf-8"}
	send := func(event string, header ...string) (int, string, map[string]json.RawMessage) {
		t.Helper()
		k.reset()
		w := call(h, "POST", "/i/v1/analytics/events", v1Body(event), append(header, auth...)...)
		if stored := k.events(t); len(stored) == 1 {
			return w.Code, w.Body.String(), stored[0].Properties
		}
		return w.Code, w.Body.String(), nil
	}
	for option, want := range map[string]string{
		`"cookieless_mode":true`: `$cookieless_mode true`, `"cookieless_mode":"1"`: `$cookieless_mode true`, `"process_person_profile":"false"`: `$process_person_profile false`, `"process_person_profile":0`: `$process_person_profile false`,
		`"process_person_profile":0e5`: `$process_person_profile false`, `"process_person_profile":-2.5`: `$process_person_profile true`, `"disable_skew_correction":1`: `$ignore_sent_at true`, `"product_tour_id":"t"`: `$product_tour_id "t"`,
		`"process_person_profile":"maybe"`: `$process_person_profile `, `"process_person_profile":[]`: `$process_person_profile `, `"product_tour_id":5`: `$product_tour_id `, `"unheard_of":true`: `unheard_of `,
	} {
		status, body, p := send(v1Event(id1, `,"options":{`+option+`},"properties":{"a":1}`))
		name, value, _ := strings.Cut(want, " ")
		if status != 200 || string(p["a"]) != "1" || string(p[name]) != value {
			t.Errorf("%s: %d %s %s", option, status, body, p)
		}
	}
	if _, _, p := send(v1Event(id1, `,"options":{},"session_id":"s","window_id":"w"`), "PostHog-Sdk-Info", "posthog-js/1.2.3"); string(p["$session_id"]) != `"s"` || string(p["$window_id"]) != `"w"` || string(p["$lib"]) != `"posthog-js"` || string(p["$lib_version"]) != `"1.2.3"` {
		t.Errorf("properties %s", p)
	}
	for name, event := range map[string]string{
		"no event": `{"uuid":"` + id1 + `","distinct_id":"d","timestamp":"2026-11-21T11:00:00Z"}`, "number as distinct id": `{"event":"e","uuid":"` + id1 + `","distinct_id":5,"timestamp":"2026-11-21T11:00:00Z"}`,
		"no timestamp": `{"event":"e","uuid":"` + id1 + `","distinct_id":"d"}`, "bad timestamp": `{"event":"e","uuid":"` + id1 + `","distinct_id":"d","timestamp":"now"}`, "options": v1Event(id1, `,"options":[]`), "properties": v1Event(id1, `,"properties":5`),
		"distinct id in the properties": `{"event":"e","uuid":"` + id1 + `","timestamp":"2026-11-21T11:00:00Z","properties":{"distinct_id":"d"}}`, "long distinct id": `{"event":"e","uuid":"` + id1 + `","distinct_id":"` + strings.Repeat("d", 201) + `","timestamp":"2026-11-21T11:00:00Z"}`,
	} {
		if status, body, _ := send(event); status != 200 || strings.TrimSpace(body) != `{"results":{"`+id1+`":{"result":"drop","details":"invalid_event"}}}` {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	// Every retryable failure has a Retry-After.
	k.err = func(*event.Event) error { return errors.New("disk failure") }
	w := call(h, "POST", "/i/v1/analytics/events", v1Body(v1Event(id1, "")), append(auth, "PostHog-Request-Id", "r-9", "PostHog-Attempt", "3")...)
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || w.Header().Get("PostHog-Request-Id") != "r-9" || w.Header().Get("Date") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

// SDKs look for an exceeded quota under two names.
func TestQuotaHasBothNames(t *testing.T) {
	h, u, _ := flagsHandler(t)
	for i, name := range []string{"quotaLimited", "quota_limited"} {
		u.says(200, `{"flags":{},"errorsWhileComputingFlags":false,"`+name+`":["feature_flags"]}`)
		w := call(h, "POST", "/flags/?v=2", []byte(fmt.Sprintf(`{"token":%q,"distinct_id":"%d"}`, settings.def.Token, i)))
		for _, name := range []string{"quotaLimited", "quota_limited"} {
			if v := objectIn(t, w.Body.Bytes()); w.Code != 200 || fmt.Sprint(v[name]) != "[feature_flags]" {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		}
	}
}

// Names of any length are accepted in v0: they are truncated, while v1 rejects
// them.
func TestLongEventName(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	w := call(h, "POST", "/batch/", batchOf(settings.def.Token, `{"event":"`+strings.Repeat("é", 300)+`","distinct_id":"d"}`))
	if w.Code != 200 || len(k.events(t)) != 1 || k.events(t)[0].Name != strings.Repeat("é", event.MaxNameLen) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestRawUsage has the provider's usage object in the forms in which wrappers
// pass it on.
func TestRawUsage(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	for name, c := range map[string]struct {
		usage string
		more  string // properties
		want  string // input audio, image, text; output audio, image, text; cached audio; cost
	}{
		"openai":              {`{"prompt_tokens":100,"prompt_tokens_details":{"audio_tokens":20,"cached_tokens_details":{"audio_tokens":5}}}`, ``, "20 ? ? ? ? ? 5 ?"},
		"gemini":              {`{"promptTokensDetails":[{"modality":"AUDIO","tokenCount":750},{"modality":"TEXT","tokenCount":598},{"modality":"IMAGE","tokenCount":3}],"candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":9}],"cacheTokensDetails":[{"modality":"AUDIO","tokenCount":2}]}`, ``, "750 3 598 ? 9 ? 2 ?"},
		"gemini by Python":    {`{"prompt_tokens_details":[{"modality":"audio","token_count":7}],"candidates_tokens_details":[{"modality":"text","token_count":8}]}`, ``, "7 ? ? ? ? 8 ? ?"},
		"vercel 5":            {`{"providerMetadata":{"google":{"promptTokensDetails":[{"modality":"AUDIO","tokenCount":1}]}}}`, ``, "1 ? ? ? ? ? ? ?"},
		"vercel 6":            {`{"rawUsage":{"usage":{"raw":{"promptTokensDetails":[{"modality":"IMAGE","tokenCount":4}]}},"rawResponse":{"usageMetadata":{"candidatesTokensDetails":[{"modality":"TEXT","tokenCount":6}]}}}}`, ``, "? 4 ? ? ? 6 ? ?"},
		"openrouter":          {`{"prompt_tokens":100,"cost":0.00125}`, ``, "? ? ? ? ? ? ? 0.00125"},
		"openrouter, own key": {`{"cost":0.001,"is_byok":true,"cost_details":{"upstream_inference_cost":0.02}}`, ``, "? ? ? ? ? ? ? 0.021"},
		"no audio":            {`{"prompt_tokens_details":{"audio_tokens":0,"cached_tokens":0},"outputTokenDetails":{"textTokens":40,"reasoningTokens":60,"imageTokens":2}}`, ``, "? ? ? ? 2 ? ? ?"},
		"gateway":             {`{"rawUsage":{"providerMetadata":{"gateway":{"cost":"0.002"}}}}`, ``, "? ? ? ? ? ? ? 0.002"},
		"named property":      {`{"prompt_tokens_details":{"audio_tokens":20}}`, `"$ai_audio_input_tokens":3,`, "3 ? ? ? ? ? ? ?"},
		"odd":                 {`{"cost":{"total":1},"prompt_tokens_details":[1,null,{"modality":5},{"modality":"AUDIO","tokenCount":-1},{"modality":"AUDIO","tokenCount":"7"}],"rawUsage":[],"providerMetadata":"x"}`, ``, "? ? ? ? ? ? ? ?"},
		"not an object":       {`[{"cost":1}]`, ``, "? ? ? ? ? ? ? ?"},
		"negative":            {`{"cost":-1}`, ``, "? ? ? ? ? ? ? ?"},
	} {
		k.reset()
		w := call(h, "POST", "/i/v0/ai/batch/", batchOf(settings.def.Token, `{"event":"$ai_generation","distinct_id":"d","properties":{`+c.more+`"$ai_usage":`+c.usage+`}}`))
		if w.Code != 200 || len(k.events(t)) != 1 {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		e := k.events(t)[0]
		e.Bound() // as enrich does
		u := e.Usage
		var got []string
		for _, n := range []event.Int{u.InputAudio, u.InputImage, u.InputText, u.OutputAudio, u.OutputImage, u.OutputText, u.CacheReadAudio} {
			if n.Known {
				got = append(got, fmt.Sprint(n.Value))
			} else {
				got = append(got, "?")
			}
		}
		if u.ReportedCost.Known {
			got = append(got, u.ReportedCost.Value.String())
		} else {
			got = append(got, "?")
		}
		if s := strings.Join(got, " "); s != c.want || string(e.Properties["$ai_usage"]) != c.usage {
			t.Errorf("%s: %s, want %s; %s", name, s, c.want, e.Properties["$ai_usage"])
		}
	}
}

// The ids of an LLM event are text, whatever type the sender uses; an object
// cannot be converted.
func TestIdentifiers(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	w := call(h, "POST", "/i/v0/ai/batch/", batchOf(settings.def.Token, `{"event":"$ai_span","distinct_id":"d","properties":{"$ai_trace_id":123,"$ai_span_id":true,"$ai_parent_id":{"a":1},"$ai_session_id":null}}`))
	if w.Code != 200 || len(k.events(t)) != 1 {
		t.Fatal(w.Code, w.Body)
	}
	e := k.events(t)[0]
	if e.TraceID != "123" || e.SpanID != "true" || e.ParentID != "" || e.SessionID != "" || string(e.Properties["$ai_session_id"]) != "null" {
		t.Errorf("%q %q %q %q %s", e.TraceID, e.SpanID, e.ParentID, e.SessionID, e.Properties)
	}
}

// $ai_output is the former name of $ai_output_choices.
func TestOlderOutput(t *testing.T) {
	h, k := newHandler(t, ingest.Config{})
	for properties, want := range map[string]string{
		`"$ai_output":[{"role":"assistant","content":"hi"}]`: `[{"role":"assistant","content":"hi"}]`,
		`"$ai_output":"hi"`: `"hi"`,
		`"$ai_output":"old","$ai_output_choices":["new"]`: `["new"]`,
		`"$ai_output":null`: ``,
		`"$ai_output":"hi","$ai_output_choices":null,"$ai_input":null`: ``,
	} {
		k.reset()
		call(h, "POST", "/batch/", batchOf(settings.def.Token, `{"event":"$ai_generation","distinct_id":"d","properties":{`+properties+`}}`))
		if got := string(k.events(t)[0].Content.Output); got != want {
			t.Errorf("%s: output %s, want %s", properties, got, want)
		}
	}
}
