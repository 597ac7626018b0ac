package hedgerow_test

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// endless is a response body that blocks after some text, without an end or an
// error.
type endless struct {
	io.Reader
	ctx context.Context
}

func (e *endless) Read(p []byte) (int, error) {
	if n, err := e.Reader.Read(p); err == nil {
		return n, nil
	}
	<-e.ctx.Done()
	return 0, e.ctx.Err()
}

func (e *endless) Close() error { return nil }

// open starts a streamed call whose response blocks after the given text, and
// reads what was sent.
func (r *rig) open(t *testing.T, ctx context.Context, url, said string) io.ReadCloser {
	t.Helper()
	client := &http.Client{Transport: r.Transport(roundTrip(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, ContentLength: -1, Request: req, Body: &endless{strings.NewReader(said), req.Context()}}, nil
	}))}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, len(said))); err != nil {
		t.Fatal(err)
	}
	return res.Body
}

const (
	groqChat     = "https://api.groq.com/openai/v1/chat/completions"
	messagesURL  = "https://api.anthropic.com/v1/messages"
	generateURL  = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
	helloChunk   = "data: {\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n"
	messageStart = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m-1\",\"usage\":{\"input_tokens\":3}}}\n\n"
)

// A stream that has sent its last event or an error becomes an event, even
// if it is neither closed nor read further.
func TestStreamThatHasEnded(t *testing.T) {
	for _, c := range []struct{ name, url, said, errorType string }{
		{"chat error", groqChat, helloChunk + "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}\n\n", "server_error"},
		{"chat done", groqChat, helloChunk + "data: [DONE]\n\n", ""},
		{"messages error", messagesURL, messageStart + "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n", "overloaded_error"},
		{"messages done", messagesURL, messageStart + "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", ""},
		{"gemini error", generateURL, "data: {\"error\":{\"code\":503,\"message\":\"no\",\"status\":\"UNAVAILABLE\"}}\n\n", "UNAVAILABLE"},
		{"gemini done", generateURL, "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"}]},\"finishReason\":\"STOP\"}],\"modelVersion\":\"m-1\"}\n\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, r *rig) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				body := r.open(t, ctx, c.url, c.said)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				r.flush(t)
				got := r.ph.Named(event.Generation)
				if len(got) != 1 || got[0].Text("$ai_error_type") != c.errorType || got[0].Text("$ai_is_error") != map[bool]string{true: "false", false: "true"}[c.errorType == ""] {
					t.Fatalf("%d events: %+v", len(got), got)
				}
				_ = body.Close()
				cancel()
				synctest.Wait()
				r.flush(t)
				if n := r.ph.Count(); n != 1 {
					t.Errorf("%d events of one call", n)
				}
				_ = r.Close(t.Context())
			})
		})
	}
}

// A stream whose context ends becomes an event, even if it is never closed.
func TestStreamWhoseContextEnds(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		ctx, cancel := context.WithCancel(t.Context())
		body := r.open(t, ctx, groqChat, helloChunk)
		time.Sleep(time.Hour) // a slow reader may still continue
		synctest.Wait()
		r.flush(t)
		if r.ph.Count() != 0 {
			t.Fatal("an event of a call in progress")
		}
		cancel()
		synctest.Wait()
		r.flush(t)
		got := r.ph.Named(event.Generation)
		if len(got) != 1 || got[0].Text("$ai_error_type") != event.ErrTypeClientGone || got[0].Text("$ai_model") != "m-1" || got[0].Number("$ai_latency") < 3600 {
			t.Fatalf("%d events: %+v", len(got), got)
		}
		runtime.KeepAlive(body)

		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		body = r.open(t, ctx, groqChat, helloChunk)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		r.flush(t)
		if got := r.ph.Named(event.Generation); len(got) != 2 || got[1].Text("$ai_error_type") != event.ErrTypeTimeout {
			t.Fatalf("%d events: %+v", len(got), got)
		}
		runtime.KeepAlive(body)
		_ = r.Close(t.Context())
	})
}

// A stream that is no longer referenced becomes an event when it is
// garbage collected.
func TestStreamThatIsGarbage(t *testing.T) {
	r := newRig(t, nil)
	_ = r.open(t, context.Background(), groqChat, helloChunk)
	for deadline := time.Now().Add(time.Minute); r.ph.Count() == 0 && time.Now().Before(deadline); {
		runtime.GC()
		r.flush(t)
	}
	if got := r.ph.Named(event.Generation); len(got) != 1 || got[0].Text("$ai_error_type") != event.ErrTypeClientGone {
		t.Fatalf("%d events: %+v", len(got), got)
	}
}
