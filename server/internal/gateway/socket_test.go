package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// openSocket opens a WebSocket through the gateway. Headers are "name: value"
// lines.
func openSocket(t testing.TB, url string, headers ...string) *simprovider.Conn {
	t.Helper()
	h := http.Header{"Authorization": {"Bearer sk-own"}}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		h.Set(name, value)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := simprovider.Dial(ctx, url, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// ask sends a message and reads up to one that has all of the words.
func ask(t testing.TB, c *simprovider.Conn, message string, words ...string) {
	t.Helper()
	if message != "" {
		if err := c.Text(message); err != nil {
			t.Fatal(err)
		}
	}
next:
	for {
		b, err := c.Message()
		if err != nil {
			t.Fatalf("%v before %q", err, words)
		}
		for _, w := range words {
			if !bytes.Contains(b, []byte(w)) {
				continue next
			}
		}
		return
	}
}

const doneEvent = `"type":"response.completed"`

func generations(events []*event.Event) (out []*event.Event) {
	for _, e := range events {
		if e.Name == event.Generation {
			out = append(out, e)
		}
	}
	return out
}

// TestSocketResponses has a conversation like Codex's: a request that warms up
// the model, and turns that name the previous response.
func TestSocketResponses(t *testing.T) {
	r, sim := simulate(t, gateway.Config{})
	for _, path := range []string{"/openai/v1/responses", "/v1/responses", "/azure/res-1/openai/v1/responses"} {
		t.Run(strings.ReplaceAll(path[1:], "/", " "), func(t *testing.T) {
			before := len(r.sink.all())
			c := openSocket(t, r.url+path, "X-PostHog-Distinct-Id: alice", "X-PostHog-Session-Id: s-1", "X-PostHog-Property-Team: hedges", "X-Hedgerow-Surface: IDE",
				"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", "Sec-WebSocket-Protocol: realtime")
			if got := c.Answer.Header.Get("Sec-Websocket-Protocol"); got != "realtime" {
				t.Errorf("the subprotocol is %q", got)
			}
			requests := sim.Requests()
			if h := requests[len(requests)-1].Header; h.Get("Sec-Websocket-Extensions") != "" || h.Get("X-Posthog-Distinct-Id") != "" || h.Get("Authorization") != "Bearer sk-own" {
				t.Errorf("arrived: %v", h)
			}
			ask(t, c, `{"type":"response.create","model":"gpt-5-codex","generate":false,"input":[]}`, doneEvent)
			ask(t, c, `{"type":"response.create","model":"gpt-5-codex","previous_response_id":"resp_x","input":[{"role":"user","content":"first turn"}]}`, doneEvent)
			events := r.sink.await(t, before+2) // each as soon as it has ended
			first := events[before+1]
			ask(t, c, `{"type":"response.create","model":"gpt-5-codex","previous_response_id":"`+first.CompletionID+`","input":"second turn"}`, doneEvent)
			r.sink.await(t, before+3)
			if err := c.Bye(1000, "done"); err != nil {
				t.Fatal(err)
			}
			var closed simprovider.Closed
			if _, err := c.Message(); !errors.As(err, &closed) || closed.Code != 1000 {
				t.Errorf("closed with %v", err)
			}
			c.Close()
			events = r.sink.await(t, before+4)[before:]
			warm, second, conn := events[0], events[2], events[3]
			if warm.Name != event.Span || warm.Usage.Input.Known || conn.Name != event.Span || conn.HTTPStatus != 101 || string(conn.Properties["websocket_exchanges"]) != "3" || conn.IsError {
				t.Errorf("%+v, the connection %+v", warm, conn)
			}
			for _, e := range []*event.Event{first, second} {
				if e.Name != event.Generation || e.Operation != "responses" || e.IsError || !e.Usage.Input.Known || !e.Usage.Output.Known || e.StopReason != "completed" || !e.TimeToFirstToken.Known || e.Latency.Value <= 0 {
					t.Errorf("%+v", e)
				}
				if e.DistinctID != "alice" || e.SessionID != "s-1" || string(e.Properties["team"]) != `"hedges"` || e.Surface != "IDE" || len(e.Content.Output) == 0 {
					t.Errorf("distinct id %q, session %q, properties %s, surface %q, output %s", e.DistinctID, e.SessionID, e.Properties, e.Surface, e.Content.Output)
				}
			}
			if first.TraceID == "" || first.TraceID != second.TraceID || first.UUID == second.UUID || first.CompletionID == second.CompletionID {
				t.Errorf("traces %q and %q, uuids %s and %s", first.TraceID, second.TraceID, first.UUID, second.UUID)
			}
			if !bytes.Contains(second.Content.Input, []byte("second turn")) {
				t.Errorf("input: %s", second.Content.Input)
			}
			if got := conn.RequestBytes; got < second.RequestBytes {
				t.Errorf("%d bytes sent", got)
			}
		})
	}
	for _, name := range []string{"request_bytes", "response_bytes"} {
		r.quiet(t)
		if n := r.metric(t, "hedgerow_gateway_"+name); n != 0 {
			t.Errorf("%s is %v after the end", name, n)
		}
	}
}

// TestSocketFailures has responses that fail, and connections that are reset.
func TestSocketFailures(t *testing.T) {
	create := func(model string) string {
		return `{"type":"response.create","model":"` + model + `","input":"Count the hedges."}`
	}
	t.Run("error event", func(t *testing.T) {
		r, _ := simulate(t, gateway.Config{})
		c := openSocket(t, r.url+"/openai/v1/responses")
		ask(t, c, create("gpt-4.1-mini#rate_limit"), `"type":"error"`)
		ask(t, c, create("gpt-4.1-mini#mid_error"), `"type":"error"`)
		events := r.sink.await(t, 2)
		if e := events[0]; !e.IsError || e.HTTPStatus != 429 || e.ErrorType != "rate_limit_exceeded" || e.Name != event.Generation {
			t.Errorf("%+v", e)
		}
		if e := events[1]; !e.IsError || e.HTTPStatus != 101 || e.ErrorCode != "server_error" || !e.Usage.OutputEstimated.Known {
			t.Errorf("%+v", e)
		}
	})
	t.Run("provider disconnects", func(t *testing.T) {
		r, _ := simulate(t, gateway.Config{})
		c := openSocket(t, r.url+"/openai/v1/responses")
		if err := c.Text(create("gpt-4.1-mini#mid_reset")); err != nil {
			t.Fatal(err)
		}
		for err := error(nil); err == nil; {
			_, err = c.Message()
		}
		c.Close()
		e := generations(r.sink.await(t, 2))[0]
		if !e.IsError || e.ErrorType != event.ErrTypeTruncated || len(e.Content.Output) == 0 {
			t.Errorf("%+v", e)
		}
	})
	t.Run("caller disconnects", func(t *testing.T) {
		r, _ := simulate(t, gateway.Config{})
		c := openSocket(t, r.url+"/openai/v1/responses")
		ask(t, c, create("gpt-4.1-mini#mid_hang"), "output_text.delta")
		c.Close()
		if e := generations(r.sink.await(t, 2))[0]; !e.IsError || e.ErrorType != event.ErrTypeClientGone {
			t.Errorf("%+v", e)
		}
	})
	t.Run("stopping", func(t *testing.T) {
		r, _ := simulate(t, gateway.Config{})
		busy, idle := openSocket(t, r.url+"/openai/v1/responses"), openSocket(t, r.url+"/openai/v1/responses")
		ask(t, busy, create("gpt-4.1-mini#gap=30ms;chunks=8"), "output_text.delta")
		done := make(chan error)
		go func() { done <- r.Close(context.Background()) }()
		var closed simprovider.Closed
		if _, err := idle.Message(); !errors.As(err, &closed) || closed.Code != 1001 {
			t.Errorf("the idle connection ended with %v", err)
		}
		ask(t, busy, "", doneEvent)
		if _, err := busy.Message(); !errors.As(err, &closed) || closed.Code != 1001 {
			t.Errorf("the busy connection ended with %v", err)
		}
		if err := receive(t, done, "the end"); err != nil {
			t.Fatal(err)
		}
		events := r.sink.all()
		if len(events) != 3 || len(generations(events)) != 1 || generations(events)[0].IsError {
			t.Errorf("%d events, of them generations %+v", len(events), generations(events))
		}
	})
}

// TestSocketRealtime uses a speech model.
func TestSocketRealtime(t *testing.T) {
	r, _ := simulate(t, gateway.Config{})
	c := openSocket(t, r.url+"/openai/v1/realtime?model=gpt-realtime", "X-PostHog-Distinct-Id: alice")
	ask(t, c, "", "session.created")
	ask(t, c, `{"type":"session.update","session":{"instructions":"Talk of hedges.","audio":{"input":{"transcription":{"model":"gpt-4o-mini-transcribe"}}}}}`, "session.updated")
	for range 20 {
		if err := c.Text(`{"type":"input_audio_buffer.append","audio":"` + strings.Repeat("UklGRiQAAABXQVZF", 1000) + `"}`); err != nil {
			t.Fatal(err)
		}
	}
	ask(t, c, `{"type":"input_audio_buffer.commit"}`, "transcription.completed")
	ask(t, c, `{"type":"response.create"}`, `"type":"response.done"`)
	ask(t, c, `{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"And this one?"}]}}`, "item.done")
	ask(t, c, `{"type":"response.create"}`, `"type":"response.done"`)
	c.Close()
	events := r.sink.await(t, 4)
	heard, first, second := events[0], events[1], events[2]
	if heard.Operation != "transcriptions" || heard.ModelAsked != "gpt-4o-mini-transcribe" || heard.Usage.InputAudio != event.Some(int64(13)) {
		t.Errorf("%+v", heard)
	}
	for _, e := range []*event.Event{first, second} {
		if e.Name != event.Generation || e.ModelAsked != "gpt-realtime" || e.DistinctID != "alice" || e.Usage.OutputAudio != event.Some(int64(91)) || e.Usage.CacheReadAudio != event.Some(int64(4)) || e.IsError ||
			string(e.Content.Output) != `[{"role":"assistant","content":"Half a metre."}]` || e.TraceID != first.TraceID || e.SessionID == "" {
			t.Errorf("%+v, output %s", e, e.Content.Output)
		}
		if all := string(e.Content.Input) + string(e.Content.Output); strings.Contains(all, "UklGR") {
			t.Errorf("audio was stored: %.200s", all)
		}
	}
	if !bytes.Contains(first.Content.Input, []byte("How wide is a hedge?")) || !bytes.Contains(second.Content.Input, []byte("And this one?")) || bytes.Contains(second.Content.Input, []byte("How wide")) {
		t.Errorf("inputs: %s, %s", first.Content.Input, second.Content.Input)
	}
}

// TestSocketLive takes turns with Google's Live API, whose frames are binary.
func TestSocketLive(t *testing.T) {
	r, _ := simulate(t, gateway.Config{})
	c := openSocket(t, r.url+"/gemini/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=AIza", "X-PostHog-Distinct-Id: alice")
	ask(t, c, `{"setup":{"model":"models/gemini-live-2.5-flash"}}`, "setupComplete")
	for range 2 {
		ask(t, c, `{"clientContent":{"turns":[{"role":"user","parts":[{"text":"How wide?"}]}],"turnComplete":true}}`, "usageMetadata")
	}
	c.Close()
	events := r.sink.await(t, 3)
	for _, e := range events[:2] {
		if e.Name != event.Generation || e.ModelAsked != "gemini-live-2.5-flash" || e.DistinctID != "alice" || e.Usage.Output != event.Some(int64(30)) || e.Usage.OutputAudio != event.Some(int64(30)) ||
			string(e.Content.Output) != `[{"role":"assistant","content":"Half a metre."}]` || e.TraceID != events[0].TraceID || e.IsError || !e.TimeToFirstToken.Known {
			t.Errorf("%+v, output %s, ttft %v, trace %s", e.Usage, e.Content.Output, e.TimeToFirstToken, e.TraceID)
		}
	}
	if events[0].StopReason != "turn_complete" || len(generations(events)) != 2 {
		t.Errorf("stop reason %q, %d generations", events[0].StopReason, len(generations(events)))
	}
}

// TestSocketBytes checks that every kind of frame is forwarded unchanged:
// fragments, pings between them, large and small ones, in pieces that match no
// boundary.
func TestSocketBytes(t *testing.T) {
	var fromCaller, fromProvider bytes.Buffer
	frame := func(b *bytes.Buffer, masked bool, first byte, payload string) {
		mask := []byte{0xde, 0xad, 0xbe, 0xef}
		b.WriteByte(first)
		bit := byte(0)
		if masked {
			bit = 0x80
		}
		switch n := len(payload); {
		case n < 126:
			b.WriteByte(bit | byte(n))
		case n < 1<<16:
			b.Write([]byte{bit | 126, byte(n >> 8), byte(n)})
		default:
			b.Write([]byte{bit | 127, 0, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		}
		if !masked {
			b.WriteString(payload)
			return
		}
		b.Write(mask)
		for i := range len(payload) {
			b.WriteByte(payload[i] ^ mask[i&3])
		}
	}
	long := `{"type":"response.create","model":"gpt-5","input":"` + strings.Repeat("hedge ", 20_000) + `"}`
	frame(&fromCaller, true, 0x01, long[:100])
	frame(&fromCaller, true, 0x89, "are you there")
	frame(&fromCaller, true, 0x00, long[100:70_000])
	frame(&fromCaller, true, 0x80, long[70_000:])
	frame(&fromCaller, true, 0x81, "not JSON at all")
	frame(&fromProvider, false, 0x81, `{"type":"response.created","response":{"id":"resp_1","model":"gpt-5"}}`)
	frame(&fromProvider, false, 0x8a, "are you there")
	done := `{"type":"response.completed","response":{"id":"resp_1","model":"gpt-5","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"` + strings.Repeat("a", 500) + `"}]}],"usage":{"input_tokens":7,"output_tokens":3,"total_tokens":10}}}`
	frame(&fromProvider, false, 0x01, done[:300])
	frame(&fromProvider, false, 0x80, done[300:])
	frame(&fromProvider, false, 0x88, "\x0f\xa0bye") // 4000
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	arrived := make(chan []byte, 1)
	wantUp, wantDown := fromCaller.Bytes(), fromProvider.Bytes()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		head, buf := "", make([]byte, 1)
		for !strings.HasSuffix(head, "\r\n\r\n") { // byte by byte: what follows is not the head's
			if _, err := conn.Read(buf); err != nil {
				return
			}
			head += string(buf)
		}
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
		got := make([]byte, len(wantUp))
		_, _ = io.ReadFull(conn, got)
		arrived <- got
		for rest := wantDown; len(rest) > 0; {
			n := min(7, len(rest))
			_, _ = conn.Write(rest[:n])
			rest = rest[n:]
		}
	}()
	r := start(t, at("http://"+l.Addr().String()))
	conn, br := dial(t, r.url)
	fmt.Fprint(conn, "GET /openai/v1/responses HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n")
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	for rest := wantUp; len(rest) > 0; {
		n := min(1009, len(rest))
		_, _ = conn.Write(rest[:n])
		rest = rest[n:]
	}
	if got := receive(t, arrived, "the caller's bytes"); !bytes.Equal(got, wantUp) {
		t.Error("the caller's bytes were changed")
	}
	got, err := io.ReadAll(br)
	if err != nil || !bytes.Equal(got, wantDown) {
		t.Errorf("%d bytes of %d, %v", len(got), len(wantDown), err)
	}
	conn.Close()
	events := r.sink.await(t, 2)
	e := events[0]
	if e.Name != event.Generation || e.Usage.Input != event.Some(int64(7)) || len(e.Content.Input) < 100_000 || e.IsError {
		t.Errorf("%s, usage %+v, input of %d bytes, %q", e.Name, e.Usage, len(e.Content.Input), e.ErrorMessage)
	}
	if c := events[1]; string(c.Properties["websocket_close_code"]) != "4000" || string(c.Properties["websocket_close_reason"]) != `"bye"` || c.RequestBytes != int64(len(wantUp)) || c.ResponseBytes != int64(len(wantDown)) {
		t.Errorf("%+v, %s", c, c.Properties)
	}
}

// TestSocketCase is a conversation of Codex from a public report.
func TestSocketCase(t *testing.T) {
	b, err := os.ReadFile("testdata/codex_websocket.json")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Answer struct {
			Client []json.RawMessage   `json:"client_frames"`
			Server [][]json.RawMessage `json:"server_frames"`
		} `json:"provider_answer"`
		Expect struct {
			Generations, Input, Output int64
			CacheRead                  int64 `json:"cache_read"`
		}
	}
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	up := serveSocket(t, func(conn *simprovider.Conn) {
		for _, frames := range c.Answer.Server {
			if _, err := conn.Message(); err != nil {
				return
			}
			for _, f := range frames {
				_ = conn.Text(string(f))
			}
		}
		_, _ = conn.Message()
	})
	r := start(t, at(up))
	socket := openSocket(t, r.url+"/openai/v1/responses", "OpenAI-Beta: responses_websockets=2026-02-06")
	for _, m := range c.Answer.Client {
		ask(t, socket, string(m), "response.completed")
	}
	socket.Close()
	events := r.sink.await(t, len(c.Answer.Client)+1)
	got := generations(events)
	if int64(len(got)) != c.Expect.Generations {
		t.Fatalf("%d generations", len(got))
	}
	for _, e := range got {
		if e.Usage.Input.Value != c.Expect.Input || e.Usage.Output.Value != c.Expect.Output || e.Usage.CacheRead.Value != c.Expect.CacheRead || e.TraceID != got[0].TraceID {
			t.Errorf("usage %+v, trace %s of %s", e.Usage, e.TraceID, got[0].TraceID)
		}
	}
}

// TestSocketUnread has a caller that does not read: the provider is slowed
// down, and memory does not grow.
func TestSocketUnread(t *testing.T) {
	piece := `{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"` + strings.Repeat("hedge ", 10_000) + `"}`
	sent := make(chan int, 10_000)
	up := serveSocket(t, func(conn *simprovider.Conn) {
		_, _ = conn.Message()
		_ = conn.Text(`{"type":"response.created","response":{"id":"resp_1","model":"gpt-5"}}`)
		for n := range 2000 { // 120 MB
			if conn.Text(piece) != nil {
				return
			}
			sent <- n
		}
	})
	r := start(t, at(up))
	c := openSocket(t, r.url+"/openai/v1/responses")
	if err := c.Text(`{"type":"response.create","model":"gpt-5","input":"x"}`); err != nil {
		t.Fatal(err)
	}
	for idle := false; !idle; { // until the provider is blocked
		select {
		case <-sent:
		case <-time.After(100 * time.Millisecond):
			idle = true
		}
	}
	if n := r.metric(t, "hedgerow_gateway_response_bytes"); n > 4<<20 {
		t.Errorf("%v bytes were not released", n)
	}
	c.Close()
	e := generations(r.sink.await(t, 2))[0]
	if e.ErrorType != event.ErrTypeClientGone || e.ResponseBytes == 0 {
		t.Errorf("%q, %d bytes", e.ErrorType, e.ResponseBytes)
	}
}

// serveSocket serves a WebSocket until the test ends, and returns its URL.
func serveSocket(t testing.TB, f func(*simprovider.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := simprovider.Accept(w, r)
		if err != nil {
			return
		}
		defer c.Close()
		f(c)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	return "http://" + l.Addr().String()
}
