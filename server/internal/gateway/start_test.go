package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// TestRecordStart checks that the start of a call is recorded before the
// provider responds, with the ids of the call's own event and no content.
func TestRecordStart(t *testing.T) {
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
	done := make(chan response)
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
		t.Errorf("start event %+v", begun)
	}
	if end.Name != event.Generation || !end.StartSent || end.UUID == begun.UUID || end.TraceID != begun.TraceID || end.SpanID != begun.SpanID || end.DistinctID != "u1" || begun.DistinctID != "u1" || !end.Timestamp.Equal(begun.Timestamp) {
		t.Errorf("event %+v does not match the start event %+v", end, begun)
	}

	// A call that is not a generation has no start event.
	if a := call(t, "POST", r.url+"/openai/v1/files", `{"purpose":"batch"}`); a.status != 200 {
		t.Fatal(a)
	}
	if e := r.sink.await(t, 3)[2]; e.Name != event.Span {
		t.Errorf("%s %s", e.Name, e.SpanName)
	}
}
