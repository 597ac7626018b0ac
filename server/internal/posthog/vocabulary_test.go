package posthog

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/internal/vocabulary"
	"github.com/hedgerow/hedgerow/server/internal/project"
)

var updateGolden = flag.Bool("update", false, "rewrite the golden files")

const callUUID = "0198c0de-0000-7000-8000-000000000001"

var callStart = time.Date(2026, 6, 4, 12, 0, 0, 0, time.UTC)

// call is a call with everything that is known of one, content included.
func call() *event.Event {
	return &event.Event{
		UUID: callUUID, ProjectID: "default", Name: event.Generation, DistinctID: "user_8f3a_hash", Timestamp: callStart, Source: event.SourceGateway,
		TraceID: "trace_01J7ZP8E9K4VQ2", SpanID: "req_01J7ZP8F3N1A6", ParentID: "p", SessionID: "s", TraceName: "support", SpanName: "answer",
		Provider: "openai", ModelAsked: "gpt-4.1-mini", Model: "gpt-4.1-mini-2025-04-14", Operation: "chat", BaseURL: "https://api.openai.com/v1",
		Usage:   event.Usage{Input: event.Some[int64](1284), Output: event.Some[int64](312), Total: event.Some[int64](1596)},
		Cost:    event.Cost{Total: event.Some(decimal.RequireFromString("0.0048")), Input: event.Some(decimal.RequireFromString("0.0041"))},
		Latency: event.Some(1840 * time.Millisecond), TimeToFirstToken: event.Some(300 * time.Millisecond), HTTPStatus: 200, Status: event.StatusSuccess, StopReason: "stop",
		CompletionID: "chatcmpl-1", ModelParameters: map[string]json.RawMessage{"temperature": json.RawMessage("0.2"), "max_tokens": json.RawMessage("400")},
		PromptName: "support_answer", PromptVersion: "3", PromptVersionID: "pv_2026_06_04_003", PromptHash: "sha256:9f2c",
		Surface: "Conversation", TaskType: "support_reply", Environment: "production", Tags: []string{"beta"},
		Flags: map[string]string{"support-answer-prompt-test": "treatment"}, Groups: map[string]string{"company": "acme"},
		InputChars: event.Some[int64](5000), OutputChars: event.Some[int64](1200), InputLengthBucket: "1k_2k_tokens", OutputCategory: "text",
		Properties: map[string]json.RawMessage{"account_id": json.RawMessage(`"a1"`), "retry_count": json.RawMessage("1"), "$ai_usage": json.RawMessage(`{"x":1}`), "$ip": json.RawMessage(`"192.0.2.1"`)},
		Content:    event.Content{Input: json.RawMessage(`[{"role":"user","content":"` + secretWord + `"}]`), Output: json.RawMessage(`[{"role":"assistant","content":"` + secretWord + `"}]`)},
	}
}

func bare(name string) *event.Event {
	return &event.Event{UUID: callUUID, ProjectID: "default", Name: name, DistinctID: "u", Timestamp: callStart, TraceID: "t1"}
}

// The complete sent events for each kind of event, in both schemas that convert
// events. go test -run TestVocabularyGolden -update writes the files.
func TestVocabularyGolden(t *testing.T) {
	change := func(f func(*event.Event)) *event.Event { e := call(); f(e); return e }
	failed := func(status event.Status, typ string, http int) *event.Event {
		return change(func(e *event.Event) {
			e.IsError, e.Status, e.ErrorType, e.HTTPStatus, e.ErrorMessage = true, status, typ, http, secretWord
			e.Usage, e.Cost, e.Model, e.OutputCategory = event.Usage{}, event.Cost{}, "", "error"
			e.Content.Output = nil
		})
	}
	with := func(e *event.Event, kv ...string) *event.Event {
		e.Properties = make(map[string]json.RawMessage)
		for i := 0; i < len(kv); i += 2 {
			e.Properties[kv[i]] = json.RawMessage(kv[i+1])
		}
		return e
	}
	kinds := map[string]*event.Event{
		"generation":         call(),
		"generation_unknown": {UUID: callUUID, ProjectID: "default", Name: event.Generation, Timestamp: callStart, TraceID: "t1", SpanID: "s1", Status: event.StatusSuccess},
		"embedding": change(func(e *event.Event) {
			e.Name, e.Usage.Output, e.OutputCategory = event.Embedding, event.Int{}, ""
		}),
		"error":             failed(event.StatusError, "server_error", 500),
		"timeout":           failed(event.StatusTimeout, event.ErrTypeTimeout, 0),
		"validation_failed": failed(event.StatusValidationFailed, "invalid_request_error", 400),
		"blocked": change(func(e *event.Event) {
			e.Status, e.StopReason, e.OutputCategory = event.StatusBlocked, "content_filter", "refusal"
		}),
		"cached": change(func(e *event.Event) {
			e.Usage = event.Usage{Input: event.Some[int64](10), CacheRead: event.Some[int64](900), CacheWrite: event.Some[int64](90), CacheExclusive: event.Some(true), Output: event.Some[int64](5)}
		}),
		"feedback":        with(bare(event.Feedback), "feedback_length", "40", "user_feedback", `"negative"`),
		"metric_number":   with(bare(event.Metric), "$ai_metric_name", `"support_accuracy_v2"`, "$ai_metric_value", `"0.75"`),
		"metric_thumb":    with(bare(event.Metric), "$ai_metric_name", `"feedback"`, "$ai_metric_value", `"thumbs_up"`),
		"evaluation":      with(bare("$ai_evaluation"), "$ai_evaluation_name", `"json_schema_validity"`, "$ai_evaluation_result", "false", "eval_reason_code", `"wrong_format"`, "$ai_score", "0.5"),
		"span":            bare(event.Span),
		"trace":           bare(event.Trace),
		"prompt_shared":   with(&event.Event{UUID: callUUID, ProjectID: "default", Name: "prompt_shared", DistinctID: "u", Timestamp: callStart, Surface: "Compose"}, "prompt_id", `"p1"`),
		"task_completed":  with(&event.Event{UUID: callUUID, ProjectID: "default", Name: vocabulary.TaskCompleted, DistinctID: "u", Timestamp: callStart, TraceID: "t1", PromptName: "support_answer", PromptVersionID: "pv_3", TaskType: "support_reply"}, "task_completed", "true", "escalated_to_human", "false"),
		"rated_by_caller": with(&event.Event{UUID: callUUID, ProjectID: "default", Name: vocabulary.OutputRated, Timestamp: callStart, TraceID: "t1"}, "trace_id", `"t1"`, "user_feedback", `"positive"`),
	}
	for name, e := range kinds {
		for _, schema := range []project.Schema{project.SchemaLLMEvents, project.SchemaBoth} {
			t.Run(name+"/"+string(schema), func(t *testing.T) {
				before, err := e.AppendFrame(nil)
				if err != nil {
					t.Fatal(err)
				}
				safe := e.Clone()
				safe.DropContent()
				safe.ErrorMessage = ""
				safe.Private = true
				var got bytes.Buffer
				for _, out := range vocabulary.Events(schema, e, safe) {
					b, err := out.MarshalPostHog(event.Wire{Lib: libName, LibVersion: "1.2.3", TraceURL: "https://hedgerow.example/traces/x", IgnoreSentAt: true})
					if err != nil {
						t.Fatal(err)
					}
					if err := json.Indent(&got, b, "", "  "); err != nil {
						t.Fatal(err)
					}
					got.WriteByte('\n')
					if out != e && bytes.Contains(b, []byte(secretWord)) {
						t.Errorf("%s bears the text", out.Name)
					}
				}
				if after, _ := e.AppendFrame(nil); !bytes.Equal(before, after) {
					t.Error("the event has been changed")
				}
				path := filepath.Join("testdata", "vocabulary", name+"."+string(schema)+".json")
				if *updateGolden {
					if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), want) {
					t.Errorf("%s is not what leaves:\n%s", path, got.Bytes())
				}
			})
		}
	}
	t.Run("posthog", func(t *testing.T) {
		for name, e := range kinds {
			out := vocabulary.Events(project.SchemaPostHog, e, nil)
			if len(out) == 1 && !e.IsLLM() && e.TraceID != "" {
				// With plain names next to PostHog's.
				if o := out[0]; string(o.Properties["trace_id"]) != strconv.Quote(e.TraceID) || o.TraceID != e.TraceID || e.PromptVersionID != "" && string(o.Properties["prompt_version_id"]) != strconv.Quote(e.PromptVersionID) {
					t.Errorf("%s lacks plain names: %v", name, o.Properties)
				}
				continue
			}
			if len(out) != 1 || out[0] != e {
				t.Errorf("%s does not leave as it is", name)
			}
		}
	})
}

func TestVocabularyNames(t *testing.T) {
	const llm, both = project.SchemaLLMEvents, project.SchemaBoth
	for _, tt := range []struct {
		name   string
		status event.Status
		isErr  bool
		schema project.Schema
		want   string
	}{
		{event.Generation, event.StatusSuccess, false, llm, "llm_request_started llm_request_completed"},
		{event.Generation, "", false, llm, "llm_request_started llm_request_completed"},
		{event.Generation, "", true, llm, "llm_request_started llm_request_failed"},
		{event.Generation, event.StatusBlocked, false, llm, "llm_request_started llm_request_failed"},
		{event.Generation, event.StatusTimeout, true, both, "$ai_generation llm_request_started llm_request_failed"},
		{event.Embedding, event.StatusSuccess, false, both, "$ai_embedding llm_request_started llm_request_completed"},
		{event.Feedback, "", false, both, "$ai_feedback llm_output_rated"},
		{event.Metric, "", false, llm, "llm_output_rated"},
		{event.Span, event.StatusError, true, llm, ""},
		{event.Trace, event.StatusSuccess, false, both, "$ai_trace"},
		{"playbook_failed", "", false, llm, "playbook_failed"},
		{"playbook_failed", "", false, both, "playbook_failed"},
		{vocabulary.OutputRated, "", false, both, vocabulary.OutputRated},
	} {
		e := bare(tt.name)
		e.Status, e.IsError = tt.status, tt.isErr
		var got []string
		for _, out := range vocabulary.Events(tt.schema, e, e) {
			got = append(got, out.Name)
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s, status %q, error %t, schema %s: %q, want %q", tt.name, tt.status, tt.isErr, tt.schema, s, tt.want)
		}
	}
}

func TestMetricValues(t *testing.T) {
	for value, want := range map[string]string{
		`0.5`: `eval_score=0.5`, `"0.5"`: `eval_score=0.5`, `true`: `eval_passed=true`, `"False"`: `eval_passed=false`,
		`"good"`: `user_feedback="positive"`, `"Thumbs_Down"`: `user_feedback="negative"`, `"neutral"`: `user_feedback="neutral"`,
		`"I liked it very much"`: ``, `null`: ``, `{"a":1}`: ``, `"1e"`: ``, ``: ``,
	} {
		e := bare(event.Metric)
		e.Properties = map[string]json.RawMessage{"$ai_metric_name": json.RawMessage(`"m"`)}
		if value != "" {
			e.Properties["$ai_metric_value"] = json.RawMessage(value)
		}
		d := vocabulary.Events(event.SchemaLLMEvents, e, e)[0]
		var got []string
		for _, k := range slices.Sorted(maps.Keys(d.Properties)) {
			if k != "eval_name" && k != "trace_id" {
				got = append(got, k+"="+string(d.Properties[k]))
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("value %s: %q, want %q", value, s, want)
		}
	}
}

func TestDerivedID(t *testing.T) {
	seen := make(map[string]bool)
	for _, of := range []string{callUUID, event.NewID(), ""} {
		for _, name := range []string{vocabulary.RequestStarted, vocabulary.RequestCompleted, vocabulary.RequestFailed, vocabulary.OutputRated} {
			id := vocabulary.DerivedID(of, name, callStart)
			if id != vocabulary.DerivedID(of, name, callStart) || seen[id] || id == of {
				t.Errorf("%s of %s: %s is not its own", name, of, id)
			}
			seen[id] = true
			u, err := uuid.Parse(id)
			if err != nil || u.Version() != 7 || u.Variant() != uuid.RFC4122 {
				t.Errorf("%s is not of version 7 (%v)", id, err)
			}
			if sec, nsec := u.Time().UnixTime(); !time.Unix(sec, nsec).Equal(callStart) {
				t.Errorf("%s bears the time %v", id, time.Unix(sec, nsec))
			}
		}
	}
}

// vocabularyShape replaces cmd's.
func vocabularyShape(conn project.Connection, _ project.Project, e *event.Event) Converted {
	safe := e.Clone()
	safe.DropContent()
	return Converted{Events: vocabulary.Events(conn.Schema, e, safe)}
}

func eventNames(reqs []simposthog.Request) (out []string) {
	for _, r := range reqs {
		out = append(out, fmt.Sprintf("%s %d", r.Path, len(r.UUIDs)))
	}
	return out
}

func TestOneEventLeavesAsSeveral(t *testing.T) {
	bubble(t, func(c *Config) { c.Shape = vocabularyShape }, func(r *rig) {
		c := connection("c_1")
		c.Schema, c.FlushInterval = project.SchemaBoth, time.Second
		c.FlushAt = 5 // cuts no pair in two
		r.set(c)
		list := events(10)
		for _, e := range list {
			e.Status, e.Latency = event.StatusSuccess, event.Some(time.Millisecond)
		}
		r.queue("c_1").put(list...)
		r.wait(30)
		r.once(list)
		if st := r.m.Status("c_1"); st.Sent != 30 || st.Filtered != 0 || st.Dead != 0 || st.Held != 0 || r.queue("c_1").count("acked") != 10 {
			t.Errorf("status %+v, %d acknowledged", st, r.queue("c_1").count("acked"))
		}
		// In each request a start precedes its end.
		pairs := 0
		for _, req := range r.ph.Requests() {
			var batch []struct {
				Event      string
				Properties struct {
					RequestID string `json:"request_id"`
				}
			}
			if err := json.Unmarshal(plain(t, req)["batch"], &batch); err != nil {
				t.Fatal(err)
			}
			for i, e := range batch {
				if e.Event == vocabulary.RequestStarted {
					if i+1 == len(batch) || batch[i+1].Event != vocabulary.RequestCompleted || batch[i+1].Properties.RequestID != e.Properties.RequestID {
						t.Errorf("no end behind the start at %d of %v", i, batch)
					}
					pairs++
				}
			}
		}
		if pairs != 10 {
			t.Errorf("%d pairs: %v", pairs, eventNames(r.ph.Requests()))
		}
	})
}

// While one of the events that an event leaves as waits, the event stays in the
// queue; after a crash all leave again, byte for byte, and PostHog has each once.
func TestSeveralAreAcknowledgedTogether(t *testing.T) {
	bubble(t, func(c *Config) { c.Shape = vocabularyShape }, func(r *rig) {
		r.ph.Fail(simposthog.Fault{Path: batchPath, Status: 503, Times: 3})
		c := connection("c_1")
		c.Schema, c.FlushInterval = project.SchemaBoth, 100*time.Millisecond
		r.set(c)
		list := events(4)
		r.queue("c_1").put(list...)
		r.wait(4) // the $ai_ ones
		if n := r.queue("c_1").count("acked"); n != 0 {
			t.Errorf("%d acknowledged before all have left", n)
		}
		c.Enabled = false // as if hedgerow ended now
		r.set(c)
		time.Sleep(time.Second)
		if n := r.queue("c_1").count(""); n != 4 {
			t.Fatalf("%d back in the queue, want 4", n)
		}
		c.Enabled = true
		r.set(c)
		r.wait(12)
		time.Sleep(time.Minute)
		r.once(list)
		if n := r.queue("c_1").count("acked"); n != 4 || r.ph.Count() != 12 {
			t.Errorf("%d acknowledged, %d events", n, r.ph.Count())
		}
		bodies := make(map[string]string) // by uuid
		for _, req := range r.ph.Requests() {
			var batch []json.RawMessage
			if err := json.Unmarshal(plain(t, req)["batch"], &batch); err != nil {
				t.Fatal(err)
			}
			for _, b := range batch {
				var e struct{ UUID string }
				if err := json.Unmarshal(b, &e); err != nil {
					t.Fatal(err)
				}
				if before, again := bodies[e.UUID]; again && before != string(b) {
					t.Errorf("%s was sent as\n%s\nand as\n%s", e.UUID, before, b)
				}
				bodies[e.UUID] = string(b)
			}
		}
		if len(bodies) != 12 {
			t.Errorf("%d uuids", len(bodies))
		}
	})
}

// If PostHog rejects one item the others are still sent; then the event is a
// dead letter whose reason names the item.
func TestOneOfSeveralIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		reason string
	}{{"400", http.StatusBadRequest, "llm_request_completed: PostHog rejects the event (400"}, {"413", http.StatusRequestEntityTooLarge, "llm_request_completed: PostHog finds the event too large (413)"}} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(c *Config) { c.Shape = vocabularyShape }, func(r *rig) {
				list := events(6)
				bad := vocabulary.DerivedID(list[2].UUID, vocabulary.RequestCompleted, list[2].Timestamp)
				r.hosts[hostUS] = refuseOne{r.ph.Transport(), t, bad, tt.status}
				c := connection("c_1")
				c.Schema, c.FlushInterval = project.SchemaBoth, 100*time.Millisecond
				r.set(c)
				r.queue("c_1").put(list...)
				r.wait(17)
				time.Sleep(time.Minute)
				if r.ph.Count() != 17 || len(r.ph.ByUUID(bad)) != 0 {
					t.Errorf("%d events", r.ph.Count())
				}
				q := r.queue("c_1")
				if reasons := q.reasons(); len(reasons) != 1 || !strings.HasPrefix(reasons[0], tt.reason) {
					t.Errorf("dead letters %q", reasons)
				}
				if st := r.m.Status("c_1"); q.count("acked") != 5 || st.Dead != 1 || st.Sent != 17 || st.Held != 0 {
					t.Errorf("%d acknowledged, %+v", q.count("acked"), st)
				}
			})
		})
	}
}

// refuseOne answers every request that contains a uuid with a status.
type refuseOne struct {
	next   http.RoundTripper
	t      *testing.T
	uuid   string
	status int
}

func (p refuseOne) RoundTrip(r *http.Request) (*http.Response, error) {
	body := readAll(p.t, r)
	r.Body = nopBody(body)
	if strings.Contains(unzip(p.t, body), p.uuid) {
		return &http.Response{StatusCode: p.status, Header: http.Header{}, Body: nopBody(nil), Request: r}, nil
	}
	return p.next.RoundTrip(r)
}

// Another schema applies from the next request on, also to waiting events.
func TestVocabularyChanges(t *testing.T) {
	bubble(t, func(c *Config) { c.Shape = vocabularyShape }, func(r *rig) {
		c := connection("c_1")
		c.FlushInterval = time.Second
		r.set(c)
		r.ph.SetDown(true)
		list := events(3)
		r.queue("c_1").put(list...)
		time.Sleep(10 * time.Second) // a request is being retried
		c.Schema = project.SchemaLLMEvents
		r.set(c)
		r.ph.SetDown(false)
		r.wait(6)
		time.Sleep(time.Minute)
		for _, e := range r.ph.Events() {
			if e.Name != vocabulary.RequestStarted && e.Name != vocabulary.RequestCompleted {
				t.Errorf("%s left", e.Name)
			}
		}
		if q := r.queue("c_1"); q.count("acked") != 3 || r.ph.Count() != 6 {
			t.Errorf("%d acknowledged, %d events", q.count("acked"), r.ph.Count())
		}
		r.ph.SetDown(true)
		r.queue("c_1").put(bare(event.Trace), events(1)[0])
		time.Sleep(10 * time.Second)
		c.Schema = project.SchemaPostHog
		r.set(c)
		r.ph.SetDown(false)
		r.wait(7)
		if st := r.m.Status("c_1"); st.Filtered != 1 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestVocabularyStartSent: start events that the gateway sent before the call
// are not sent again after it, and are not sent in PostHog's own schema.
func TestVocabularyStartSent(t *testing.T) {
	for _, tt := range []struct {
		name   string
		schema project.Schema
		want   string
	}{
		{event.Generation, project.SchemaLLMEvents, vocabulary.RequestCompleted},
		{event.Generation, project.SchemaBoth, event.Generation + " " + vocabulary.RequestCompleted},
		{event.Generation, project.SchemaPostHog, event.Generation},
		{vocabulary.RequestStarted, project.SchemaLLMEvents, vocabulary.RequestStarted},
		{vocabulary.RequestStarted, project.SchemaBoth, vocabulary.RequestStarted},
		{vocabulary.RequestStarted, project.SchemaPostHog, ""},
	} {
		e := bare(tt.name)
		e.StartSent = true
		var got []string
		for _, out := range vocabulary.Events(tt.schema, e, e) {
			got = append(got, out.Name)
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s, schema %s: %q, want %q", tt.name, tt.schema, s, tt.want)
		}
	}
}
