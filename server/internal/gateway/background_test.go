package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
)

const (
	queued   = `{"id":"resp_1","object":"response","created_at":1764450000,"background":true,"status":"queued","model":"gpt-5-mini","output":[],"usage":null}`
	finished = `{"id":"resp_1","object":"response","created_at":1764450000,"completed_at":1764450090,"background":true,"status":"completed","model":"gpt-5-mini","output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"done"}]}],"usage":{"input_tokens":1000,"output_tokens":500,"total_tokens":1500}}`
	begun    = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":" + queued + "}\n\n" + "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"content_index\":0,\"delta\":\"do\"}\n\n"
	ended    = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":" + finished + "}\n\n"
)

// TestBackgroundResponses creates a background response and fetches it: there
// is one generation, with the user and the trace of the call that created it.
func TestBackgroundResponses(t *testing.T) {
	for _, c := range []struct {
		name, request, post string
		generation          int // index of the call that is the generation
	}{
		{"queued, then fetched twice", `{"model":"gpt-5-mini","input":"x","background":true,"user":"alice","metadata":{"plan":"pro"}}`, queued, 1},
		{"streamed to its end, then fetched twice", `{"model":"gpt-5-mini","input":"x","background":true,"stream":true,"user":"alice","metadata":{"plan":"pro"}}`, begun + ended, 0},
		{"streamed in part, then fetched twice", `{"model":"gpt-5-mini","input":"x","background":true,"stream":true,"user":"alice","metadata":{"plan":"pro"}}`, begun, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				response := finished
				if r.Method == "POST" {
					response = c.post
				}
				w.Header().Set("Content-Type", "application/json")
				if strings.HasPrefix(response, "event:") {
					w.Header().Set("Content-Type", "text/event-stream")
				}
				_, _ = io.WriteString(w, response)
			}))
			defer up.Close()
			r := start(t, at(up.URL))
			call(t, "POST", r.url+"/openai/v1/responses", c.request, "Content-Type: application/json")
			r.sink.await(t, 1)
			call(t, "GET", r.url+"/openai/v1/responses/resp_1", "")
			r.sink.await(t, 2)
			call(t, "GET", r.url+"/openai/v1/responses/resp_1", "")
			events := r.sink.await(t, 3)
			post := events[0]
			for i, e := range events {
				if want := i == c.generation; (e.Name == event.Generation) != want || e.Usage.Input.Known != want {
					t.Errorf("call %d: %s with usage %+v", i, e.Name, e.Usage)
				}
			}
			g := events[c.generation]
			if g.User != "alice" || g.TraceID != post.TraceID || string(g.Properties["plan"]) != `"pro"` || g.Usage.Output != event.Some(int64(500)) || g.Timestamp.Unix() != 1764450000 || g.UUID != event.DerivedID("resp_1", g.Timestamp) {
				t.Errorf("generation of user %q in trace %s, want the trace of the POST, %s; %+v", g.User, g.TraceID, post.TraceID, g)
			}
		})
	}
}

// TestClaudeCode reads user and session from the requests of Claude Code.
func TestClaudeCode(t *testing.T) {
	const account, session = "11111111-2222-4333-8444-555555555555", "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
	device := strings.Repeat("d", 64)
	for _, c := range []struct{ id, header, user, session string }{
		{`{\"device_id\":\"` + device + `\",\"account_uuid\":\"` + account + `\",\"session_id\":\"` + session + `\"}`, "", account, session},
		{`{\"device_id\":\"` + device + `\",\"account_uuid\":\"\",\"session_id\":\"` + session + `\"}`, "", device, session},
		{"user_" + device + "_account_" + account + "_session_" + session, "", account, session},
		{"user_" + device + "_account__session_" + session, session, device, session},
		{"alice", session, "alice", session},
		{`{\"name\":\"alice\"}`, "", `{"name":"alice"}`, ""},
		{"user_account", "", "user_account", ""},
	} {
		sim := providers(t)
		r := start(t, at(sim.OpenAIURL()))
		headers := []string{"Content-Type: application/json"}
		if c.header != "" {
			headers = append(headers, "X-Claude-Code-Session-Id: "+c.header)
		}
		call(t, "POST", r.url+"/openai/v1/messages", `{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"hi"}],"metadata":{"user_id":"`+c.id+`"}}`, headers...)
		if e := r.one(t); e.User != c.user || e.SessionID != c.session {
			t.Errorf("%s: user %q, session %q", c.id, e.User, e.SessionID)
		}
	}
}
