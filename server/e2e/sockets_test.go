package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// TestSockets has OpenAI's client and one of Responses over a WebSocket speak through
// the binary.
func TestSockets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	cmd := exec.CommandContext(t.Context(), "node", "sockets.mjs", p.base)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, stderr.String(), p.logs())
	}
	var saw struct {
		Realtime, Extensions   string
		Responses              []string
		Output                 int64
		Closed, RealtimeClosed int
	}
	if err := json.Unmarshal(out, &saw); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if saw.Closed != 1000 || saw.RealtimeClosed != 1000 || saw.Extensions != "" {
		t.Errorf("%+v", saw)
	}
	events := p.awaitStored("event=%24ai_generation", 3)
	if len(events) != 3 {
		t.Fatalf("%d generations", len(events))
	}
	of := make(map[string]*query.Event)
	for _, e := range events {
		of[e.CompletionID] = e
	}
	rt, first, second := of[saw.Realtime], of[saw.Responses[0]], of[saw.Responses[1]]
	if rt == nil || first == nil || second == nil {
		t.Fatalf("%v of %+v", of, saw)
	}
	if rt.ModelAsked != "gpt-realtime" || rt.Usage.OutputAudio.Value != 91 || !rt.Cost.Total.Known || rt.Cost.Total.Value.IsZero() {
		t.Errorf("%+v costs %v, unpriced %q", rt.Usage, rt.Cost.Total, rt.Cost.Unpriced)
	}
	if first.TraceID != second.TraceID || second.Usage.Output.Value != saw.Output || second.DistinctID != "alice" || !second.Cost.Total.Known || second.IsError {
		t.Errorf("%+v", second)
	}
}

// TestLongLived kills hedgerow with a response in progress on a WebSocket and a
// batch submitted: what had ended is kept, and the results of the batch have
// their submitter.
func TestLongLived(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	auth := http.Header{"Authorization": {"Bearer sk-e2e-caller"}}
	c, err := simprovider.Dial(t.Context(), p.base+"/openai/v1/responses", auth)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	until := func(word string) {
		t.Helper()
		for {
			b, err := c.Message()
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(b, []byte(word)) {
				return
			}
		}
	}
	say := func(model string) {
		if err := c.Text(`{"type":"response.create","model":"` + model + `","input":"How wide is a hedge?"}`); err != nil {
			t.Fatal(err)
		}
	}
	say("gpt-4.1-mini")
	until("response.completed")
	p.awaitStored("event=%24ai_generation", 1)

	send := func(method, path, contentType, body, user string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, p.base+"/openai/v1/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = auth.Clone()
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("X-PostHog-Distinct-Id", user)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %d %v %s", path, resp.StatusCode, err, b)
		}
		return string(b)
	}
	member := func(body, name string) string {
		var m map[string]any
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			t.Fatal(err)
		}
		s, _ := m[name].(string)
		return s
	}
	var upload bytes.Buffer
	form := multipart.NewWriter(&upload)
	_ = form.WriteField("purpose", "batch")
	file, _ := form.CreateFormFile("file", "requests.jsonl")
	_, _ = io.WriteString(file, `{"custom_id":"one","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"How tall?"}]}}`+"\n")
	_ = form.Close()
	id := member(send("POST", "files", form.FormDataContentType(), upload.String(), "alice"), "id")
	batch := member(send("POST", "batches", "application/json", `{"input_file_id":"`+id+`","endpoint":"/v1/chat/completions","completion_window":"24h"}`, "alice"), "id")
	results := member(send("GET", "batches/"+batch, "", "", "cron"), "output_file_id")
	p.awaitStored("event=%24ai_span", 3) // what they say is kept by then

	say("gpt-4.1-mini#gap=50ms;chunks=100")
	until("output_text.delta")
	p.kill()
	p = w.start()
	for range 2 {
		if body := send("GET", "files/"+results+"/content", "", "", "cron"); !strings.Contains(body, `"custom_id":"one"`) {
			t.Fatalf("%s", body)
		}
	}
	p.awaitStored("event=%24ai_span", 5)
	events := p.stored("event=%24ai_generation")
	if len(events) != 2 {
		t.Fatalf("%d generations, want that of the WebSocket and one of the batch", len(events))
	}
	for _, e := range events {
		if e.Operation == "chat" && (e.DistinctID != "alice" || e.ServiceTier != "batch" || !e.Cost.Total.Known) || e.IsError {
			t.Errorf("%+v", e)
		}
	}
}
