package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// TestTellStart has a call's beginning recorded while the provider still thinks,
// with the ids of the call's own event and nothing of what was said.
func TestTellStart(t *testing.T) {
	t.Parallel()
	think := make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.ReadAll(q.Body)
		<-think
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4.1-mini-2025-04-14","choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`)
	}))
	defer up.Close()
	c := at(up.URL + "/v1")
	c.Authorize = func(string, *http.Request) (gateway.Grant, error) {
		return gateway.Grant{ProjectID: "p1", RecordStart: true}, nil
	}
	r := start(t, c)
	done := make(chan answer)
	go func() {
		done <- call(t, "POST", r.url+"/openai/v1/chat/completions", `{"model":"gpt-4.1-mini","temperature":0.5,"messages":[{"role":"user","content":"Hi."}]}`, "X-PostHog-Distinct-Id: u1")
	}()
	begun := r.sink.await(t, 1)[0]
	close(think)
	if a := <-done; a.status != 200 {
		t.Fatal(a)
	}
	end := r.sink.await(t, 2)[1]
	if begun.Name != event.RequestStarted || !begun.StartSent || !begun.Private || begun.ModelAsked != "gpt-4.1-mini" || begun.Model != "" || begun.Latency.Known || begun.Usage.Input.Known || begun.HTTPStatus != 0 || begun.Content.Output != nil {
		t.Errorf("the start's event says %+v", begun)
	}
	if end.Name != event.Generation || !end.StartSent || end.UUID == begun.UUID || end.TraceID != begun.TraceID || end.SpanID != begun.SpanID || end.DistinctID != "u1" || begun.DistinctID != "u1" || !end.Timestamp.Equal(begun.Timestamp) {
		t.Errorf("the call's event %+v does not go with the start's %+v", end, begun)
	}

	// What generates nothing has no such beginning.
	if a := call(t, "POST", r.url+"/openai/v1/files", `{"purpose":"batch"}`); a.status != 200 {
		t.Fatal(a)
	}
	if e := r.sink.await(t, 3)[2]; e.Name != event.Span {
		t.Errorf("%s %s", e.Name, e.SpanName)
	}
}
