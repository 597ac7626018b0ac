package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// scripted is an upstream that writes the parts it is sent, when it is sent
// them. Closing the channel ends the response; "!" resets the connection.
func scripted(t testing.TB, contentType string, parts <-chan string, gone chan<- struct{}) *httptest.Server {
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", contentType)
		rc := http.NewResponseController(w)
		_ = rc.Flush()
		for {
			select {
			case p, ok := <-parts:
				switch {
				case !ok:
					return
				case p == "!":
					panic(http.ErrAbortHandler)
				}
				_, _ = io.WriteString(w, p)
				_ = rc.Flush()
			case <-r.Context().Done():
				if gone != nil {
					close(gone)
				}
				return
			}
		}
	}))
	up.Start()
	t.Cleanup(up.Close)
	return up
}

// TestFlushesEachRead lets the upstream write a part only when the previous one
// has reached the caller: a gateway that buffers would wait forever.
func TestFlushesEachRead(t *testing.T) {
	for _, contentType := range []string{"text/event-stream", "application/json", "application/x-ndjson"} {
		for _, body := range []string{streamBody, `{"stream":true,"stream_options":{"include_usage":true}}`, `{}`} {
			t.Run(contentType+" "+body[:min(12, len(body))], func(t *testing.T) {
				parts := make(chan string)
				r := start(t, at(scripted(t, contentType, parts, nil).URL))
				req, _ := http.NewRequestWithContext(t.Context(), "POST", r.url+"/openai/v1/chat/completions", strings.NewReader(body))
				req.Header.Set("Content-Type", "application/json")
				got := make(chan *http.Response, 1)
				go func() {
					resp, err := client(t).Do(req)
					if err != nil {
						t.Error(err)
					}
					got <- resp
				}()
				resp := receive(t, got, "the headers, ahead of any body") // the first token may take long
				defer resp.Body.Close()
				buf := make([]byte, 1024)
				for i := range 20 {
					part := fmt.Sprintf("data: {\"choices\":[{\"delta\":{\"content\":\"token %d\"}}]}\n\n", i)
					if i == 19 {
						part = strings.Replace(part, "}}]", `},"finish_reason":"stop"}]`, 1)
					}
					parts <- part
					if _, err := io.ReadFull(resp.Body, buf[:len(part)]); err != nil || string(buf[:len(part)]) != part {
						t.Fatalf("%q %v", buf[:len(part)], err)
					}
				}
				close(parts)
				if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
					t.Errorf("%q %v", rest, err)
				}
				if e := r.one(t); e.HTTPStatus != 200 || e.ErrorType != "" {
					t.Errorf("status %d, error %q", e.HTTPStatus, e.ErrorType)
				}
			})
		}
	}
}

// disconnectAfter makes a call, disconnects once it has received part, and
// waits until the call to the provider is canceled.
func disconnectAfter(t *testing.T, part string) *rig {
	t.Helper()
	parts, gone := make(chan string), make(chan struct{})
	r := start(t, at(scripted(t, "text/event-stream", parts, gone).URL))
	ctx, hangUp := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "POST", r.url+"/openai/v1/chat/completions", strings.NewReader(streamBody))
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	parts <- part
	if _, err := io.ReadFull(resp.Body, make([]byte, len(part))); err != nil {
		t.Fatal(err)
	}
	hangUp()
	receive(t, gone, "the upstream call to be canceled")
	return r
}

// TestCallerDisconnects checks the cancellation at the provider and the
// recorded event.
func TestCallerDisconnects(t *testing.T) {
	t.Run("in mid-stream", func(t *testing.T) {
		part := "data: {\"model\":\"gpt-4.1-mini\",\"choices\":[{\"delta\":{\"content\":\"seen\"}}]}\n\n"
		r := disconnectAfter(t, part)
		e := r.one(t)
		if e.ErrorType != event.ErrTypeClientGone || e.HTTPStatus != 200 || e.ResponseBytes != int64(len(part)) {
			t.Errorf("error %q, status %d, %d bytes", e.ErrorType, e.HTTPStatus, e.ResponseBytes)
		}
		if n := r.metric(t, "hedgerow_gateway_requests_total", "outcome=client_disconnected"); n != 1 {
			t.Errorf("%v calls counted as disconnected", n)
		}
	})
	t.Run("after the last event", func(t *testing.T) {
		part := "data: {\"model\":\"gpt-4.1-mini\",\"choices\":[{\"delta\":{\"content\":\"seen\"}}]}\n\ndata: [DONE]\n\n"
		r := disconnectAfter(t, part) // the body has not ended, but the last event was sent
		if e := r.one(t); e.IsError || e.Status != event.StatusSuccess || e.ResponseBytes != int64(len(part)) {
			t.Errorf("error %q, status %s, %d bytes", e.ErrorType, e.Status, e.ResponseBytes)
		}
	})
	t.Run("before the response", func(t *testing.T) {
		r, sim := simulate(t, gateway.Config{})
		ctx, hangUp := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "POST", r.url+"/openai/v1/chat/completions", strings.NewReader(streamBody))
		req.Header.Set("X-Sim", "hang")
		done := make(chan error, 1)
		go func() { _, err := client(t).Do(req); done <- err }()
		wait, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if _, err := sim.Await(wait, func(l []simprovider.Received) bool { return len(l) == 1 }); err != nil {
			t.Fatal(err)
		}
		hangUp()
		if list, err := sim.Await(wait, func(l []simprovider.Received) bool { return l[0].Done }); err != nil || !list[0].Canceled {
			t.Fatalf("canceled %v: %v", list[0].Canceled, err)
		}
		if e := r.one(t); e.ErrorType != event.ErrTypeClientGone || e.HTTPStatus != 0 {
			t.Errorf("error %q, status %d", e.ErrorType, e.HTTPStatus)
		}
	})
	t.Run("in mid-request", func(t *testing.T) {
		for _, kind := range []string{"application/json", "audio/wav"} {
			up := newUpstreamCases(t)
			r := start(t, at(up.URL))
			conn, _ := dial(t, r.url)
			fmt.Fprintf(conn, "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: %s\r\nContent-Length: 1000\r\n\r\n{\"model\":", kind)
			conn.Close()
			if e := r.one(t); e.ErrorType != event.ErrTypeClientGone || e.HTTPStatus != 0 || e.RequestBytes > 9 {
				t.Errorf("%s: error %q, status %d, %d bytes", kind, e.ErrorType, e.HTTPStatus, e.RequestBytes)
			}
		}
	})
}

// TestUpstreamErrors has the provider fail in every way, and compares what the
// caller receives with a direct call.
func TestUpstreamErrors(t *testing.T) {
	r, sim := simulate(t, gateway.Config{})
	n := 0
	for _, target := range []struct{ path, body string }{
		{"/openai/v1/chat/completions", chatBody},
		{"/openai/v1/chat/completions", streamBody},
		{"/anthropic/v1/messages", `{"model":"claude-sonnet-4-6","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"x"}]}`},
		{"/openrouter/api/v1/chat/completions", `{"model":"openai/gpt-4.1-mini","stream":true,"messages":[{"role":"user","content":"x"}]}`},
	} {
		for _, failure := range []string{
			"bad_request", "unauthorized", "forbidden", "not_found", "rate_limit", "quota", "server_error", "unavailable", "overloaded", "not_json", "mid_error", "mid_reset; chunks=20",
		} {
			t.Run(target.path+" "+failure, func(t *testing.T) {
				headers := []string{"Content-Type: application/json", "Authorization: Bearer sk-own", "X-Api-Key: sk-own", "Anthropic-Version: 2023-06-01",
					"X-Sim: text=A hedge keeps the wind out and lets the birds in; " + failure}
				want := call(t, "POST", sim.URL()+target.path, target.body, headers...)
				got := call(t, "POST", r.url+target.path, target.body, headers...)
				n++
				if got.status != want.status || got.header.Get("Retry-After") != want.header.Get("Retry-After") || got.header.Get("Content-Type") != want.header.Get("Content-Type") {
					t.Errorf("got %d %v, want %d %v", got.status, got.header, want.status, want.header)
				}
				if (got.err == nil) != (want.err == nil) || shape(got.body) != shape(want.body) {
					t.Errorf("got %v\n%s\nwant %v\n%s", got.err, got.body, want.err, want.body)
				}
				e := r.sink.await(t, n)[n-1]
				if e.HTTPStatus != want.status {
					t.Errorf("status %d, want %d", e.HTTPStatus, want.status)
				}
				if !e.IsError || e.ErrorType == "" || e.ErrorMessage == "" || e.Status != event.StatusError && e.Status != event.StatusValidationFailed {
					t.Errorf("error %v, type %q, message %q, status %q", e.IsError, e.ErrorType, e.ErrorMessage, e.Status)
				}
				if strings.HasPrefix(failure, "mid_") && want.status == 200 && e.ErrorType != event.ErrTypeStream && failure != "mid_error" {
					t.Errorf("error type %q, want %q", e.ErrorType, event.ErrTypeStream)
				}
			})
		}
	}
}

// shape is a response without the parts that differ between calls.
func shape(s string) string {
	var b strings.Builder
	obfuscation := false
	for w := range strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune(`",{}[]:`, r) }) {
		switch {
		case obfuscation, strings.HasPrefix(w, "chatcmpl-"), strings.HasPrefix(w, "req_"), strings.HasPrefix(w, "resp_"), strings.HasPrefix(w, "msg_"), strings.HasPrefix(w, "gen-"), strings.HasPrefix(w, "1") && len(w) == 10:
			w = "id"
		}
		obfuscation = w == "obfuscation"
		b.WriteString(w + " ")
	}
	return b.String()
}

func TestUpstreamUnreachable(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and sends nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	hangUp := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }))
	defer hangUp.Close()
	garbage := raw(t, "SSH-2.0-OpenSSH_9.9\r\n")
	for _, c := range []struct {
		name, url string
		timeout   time.Duration
		status    int
		errType   string
		says      string
	}{
		{"refused", refusedAddr(t), 0, 502, event.ErrTypeUnreachable, "connection refused"},
		{"no such host", "http://no-such-host.invalid", 0, 502, event.ErrTypeUnreachable, "could not be resolved"},
		{"disconnected", hangUp.URL, 0, 502, event.ErrTypeUnreachable, "could not reach openai"},
		{"not HTTP", garbage, 0, 502, event.ErrTypeUnreachable, "could not reach openai"},
		{"timeout", "http://" + silent.Addr().String(), 20 * time.Millisecond, 504, event.ErrTypeTimeout, "did not respond in time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, gateway.Config{Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: c.url, Timeout: c.timeout}}})
			got := chat(t, r.url, chatBody)
			if got.status != c.status || !strings.Contains(got.body, `"error":{"message":"hedgerow: `) || !strings.Contains(got.body, c.says) || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%d %s", got.status, got.body)
			}
			e := r.one(t)
			if e.HTTPStatus != 0 || e.ErrorType != c.errType || !e.IsError || e.ErrorMessage == "" {
				t.Errorf("event: status %d, error %v %q %q", e.HTTPStatus, e.IsError, e.ErrorType, e.ErrorMessage)
			}
			if n := r.metric(t, "hedgerow_gateway_requests_total", "outcome="+c.errType, "operation=chat", "provider=openai"); n != 1 {
				t.Errorf("%v calls counted", n)
			}
		})
	}
}

// raw sends fixed bytes on each connection, then closes it.
func raw(t testing.TB, response string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, response)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// TestTruncatedResponse has a response end too early: the caller must not take
// it for a complete one.
func TestTruncatedResponse(t *testing.T) {
	for name, response := range map[string]string{
		"length":       "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"half\":",
		"chunked":      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"half\":\r\n",
		"in a chunk":   "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n80\r\n{\"half\":",
		"in the frame": "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"half\":\r\nzz\r\n",
	} {
		for _, body := range []string{chatBody, streamBody} {
			t.Run(name, func(t *testing.T) {
				r := start(t, at(raw(t, response)))
				got := chat(t, r.url, body)
				if got.err == nil || got.status != 200 || got.body != `{"half":` {
					t.Errorf("got %d %q %v, want the part and then an error", got.status, got.body, got.err)
				}
				e := r.one(t)
				if e.ErrorType != event.ErrTypeStream || e.HTTPStatus != 200 || e.ResponseBytes != 8 || !e.IsError {
					t.Errorf("event: %q, status %d, %d bytes, error %v", e.ErrorType, e.HTTPStatus, e.ResponseBytes, e.IsError)
				}
			})
		}
	}
}

// TestDecodesForCapture checks that compressed responses are forwarded
// compressed, and that the event has their content.
func TestDecodesForCapture(t *testing.T) {
	for _, encoding := range []string{"gzip", "br", "zstd"} {
		for _, body := range []string{chatBody, `{"model":"gpt-4.1-mini","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"x"}]}`} {
			t.Run(encoding, func(t *testing.T) {
				r, sim := simulate(t, gateway.Config{})
				direct := call(t, "POST", sim.OpenAIURL()+"/v1/chat/completions", body, "Authorization: Bearer sk", "Accept-Encoding: "+encoding, "X-Sim: input=7; output=9; text=one two; "+encoding)
				got := chat(t, r.url, body, "Accept-Encoding: "+encoding, "X-Sim: input=7; output=9; text=one two; "+encoding)
				if got.header.Get("Content-Encoding") != encoding || direct.header.Get("Content-Encoding") != encoding {
					t.Fatalf("encoding %q, direct %q", got.header.Get("Content-Encoding"), direct.header.Get("Content-Encoding"))
				}
				e := r.one(t)
				if e.ResponseBytes != int64(len(got.body)) {
					t.Errorf("%d bytes, want the compressed size, %d", e.ResponseBytes, len(got.body))
				}
				if e.Usage.Input.Or(-1) != 7 || e.Usage.Output.Or(-1) != 9 || !bytes.Contains(e.Content.Output, []byte("one two")) {
					t.Errorf("usage %+v, output %s, parse error %q", e.Usage, e.Content.Output, e.ParseError)
				}
			})
		}
	}
	t.Run("broken encoding", func(t *testing.T) {
		up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, "this is no gzip")
		}))
		defer up.Close()
		r := start(t, at(up.URL))
		if got := chat(t, r.url, chatBody); got.body != "this is no gzip" || got.err != nil {
			t.Errorf("%q %v", got.body, got.err)
		}
		if e := r.one(t); e.HTTPStatus != 200 {
			t.Errorf("status %d", e.HTTPStatus)
		}
	})
	t.Run("bomb", func(t *testing.T) {
		bomb := encode("gzip", bytes.Repeat([]byte{' '}, 64<<20))
		up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip, gzip")
			_, _ = w.Write(encode("gzip", bomb))
		}))
		defer up.Close()
		c := at(up.URL)
		c.Limits.Decoded = 1 << 20
		r := start(t, c)
		chat(t, r.url, chatBody)
		r.one(t)
	})
}

// TestPanicsOnlyToAbort checks that a truncated response aborts the caller's,
// using the panic that net/http does not log.
func TestPanicsOnlyToAbort(t *testing.T) {
	up := raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
	r := start(t, at(up))
	rec := httptest.NewRecorder()
	defer func() {
		if p := recover(); p == nil || !errors.Is(p.(error), http.ErrAbortHandler) {
			t.Errorf("panicked with %v", p)
		}
	}()
	r.ServeHTTP(rec, httptest.NewRequest("GET", "/openai/v1/models", nil))
}
