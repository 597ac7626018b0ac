package provider_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var start = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)

// exchange is a golden file: a line "METHOD PATH PROVIDER DIALECT STATUS",
// response headers (Request-… are the request's; File names a file with the
// response), and the sections request, response and want.
type exchange struct {
	path string
	head string // up to the section want
	call provider.Call
	want string
}

func exchanges(t testing.TB) []*exchange {
	files, err := filepath.Glob("testdata/exchanges/*.txt")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	out := make([]*exchange, 0, len(files))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		x := &exchange{path: f}
		var rest string
		x.head, x.want, _ = strings.Cut(string(b), "\n-- want --\n")
		x.head = strings.TrimSuffix(x.head, "\n")
		first, rest, ok := strings.Cut(x.head, "\n-- request --\n")
		if !ok {
			t.Fatalf("%s: no request", f)
		}
		request, response, _ := strings.Cut(rest, "\n-- response --\n")
		if r, ok := strings.CutPrefix(rest, "-- response --\n"); ok { // an empty request
			request, response = "", r
		}
		c := &x.call
		c.RequestHeader, c.ResponseHeader = http.Header{"Content-Type": {"application/json"}}, http.Header{}
		for i, line := range strings.Split(first, "\n") {
			if i == 0 {
				if _, err := fmt.Sscan(line, &c.Method, &c.Path, &c.Provider, &c.Dialect, &c.Status); err != nil {
					t.Fatalf("%s: %v", f, err)
				}
				continue
			}
			k, v, _ := strings.Cut(line, ": ")
			if rk, ok := strings.CutPrefix(k, "Request-"); ok && rk != "Id" {
				c.RequestHeader.Set(rk, v)
				continue
			}
			if k == "File" {
				b, err := os.ReadFile(filepath.Join("testdata/exchanges", v))
				if err != nil {
					t.Fatal(err)
				}
				lines := strings.SplitN(string(b), "\n", 4)
				c.ResponseHeader.Set("Content-Type", lines[1])
				response = lines[3]
				continue
			}
			c.ResponseHeader.Set(k, v)
		}
		if strings.HasPrefix(c.ResponseHeader.Get("Content-Type"), "text/event-stream") && !strings.HasSuffix(response, "\n\n") && !strings.HasSuffix(response, "\r\n\r\n") {
			response = strings.TrimRight(response, "\r\n") + "\n\n"
		}
		if c.ResponseHeader.Get("Content-Type") == "application/vnd.amazon.eventstream" {
			response = string(simprovider.AmazonEvents(response))
		}
		c.BaseURL = "https://provider.test"
		c.Request, c.Response = []byte(request), []byte(response)
		c.RequestBytes, c.ResponseBytes = int64(len(c.Request)), int64(len(c.Response))
		c.Start, c.Latency = start, 1500*time.Millisecond
		// A byte arrives every millisecond.
		for off := int64(1); off <= c.ResponseBytes; off++ {
			c.Marks = append(c.Marks, provider.Mark{Offset: off, At: time.Duration(off) * time.Millisecond})
		}
		out = append(out, x)
	}
	return out
}

// describe writes an event in the format of the golden files.
func describe(t testing.TB, e *event.Event) string {
	c := *e
	c.UUID = ""
	meta, err := json.Marshal(c)
	if err != nil {
		t.Fatalf("marshal event: %v", err)
	}
	all := map[string]json.RawMessage{"event": meta}
	for name, v := range map[string]json.RawMessage{"input": e.Content.Input, "output": e.Content.Output, "tools": e.Content.Tools} {
		if v != nil {
			if !json.Valid(v) {
				t.Errorf("%s is not valid JSON: %s", name, v)
				continue
			}
			all[name] = v
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(all); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestParse(t *testing.T) {
	for _, x := range exchanges(t) {
		t.Run(strings.TrimSuffix(filepath.Base(x.path), ".txt"), func(t *testing.T) {
			e := provider.Parse(&x.call)
			e.ProjectID = "default"
			if err := e.Validate(); err != nil {
				t.Errorf("not a valid event: %v", err)
			}
			e.ProjectID = ""
			got := describe(t, e)
			if *update {
				if err := os.WriteFile(x.path, []byte(x.head+"\n-- want --\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != x.want {
				t.Errorf("got\n%s\nwant\n%s\n(go test -update rewrites it)", got, x.want)
			}
		})
	}
}

// TestParseKeepsNothing overwrites the buffers after parsing: the event must
// not change, because the gateway reuses them.
func TestParseKeepsNothing(t *testing.T) {
	for _, x := range exchanges(t) {
		e := provider.Parse(&x.call)
		before := describe(t, e)
		for _, b := range [][]byte{x.call.Request, x.call.Response, x.call.ResponseTail} {
			for i := range b {
				b[i] = '#'
			}
		}
		if after := describe(t, e); after != before {
			t.Errorf("%s: the event still reads the call's buffers:\n%s", x.path, after)
		}
	}
}

// TestParseAnyCut cuts each response, and each request, at every byte: there is
// always a valid event, without invented counts.
func TestParseAnyCut(t *testing.T) {
	for _, x := range exchanges(t) {
		whole := provider.Parse(&x.call)
		step := max(1, len(x.call.Response)/400)
		for n := 0; n < len(x.call.Response); n += step {
			c := x.call
			c.Response, c.Marks = c.Response[:n], nil
			c.Err, c.ErrType = errors.New("EOF"), event.ErrTypeClientGone
			e := provider.Parse(&c)
			if !e.IsError || e.ErrorType != event.ErrTypeClientGone {
				t.Fatalf("%s at %d: error %v, type %q", x.path, n, e.IsError, e.ErrorType)
			}
			if e.Usage.Input.Known && !whole.Usage.Input.Known || e.Name != whole.Name && !strings.HasPrefix(whole.Operation, "responses") && !strings.HasPrefix(whole.Operation, "interactions") || e.ModelAsked != whole.ModelAsked {
				t.Fatalf("%s at %d: usage %+v, name %s", x.path, n, e.Usage, e.Name)
			}
			_ = describe(t, e)
		}
		step = max(1, len(x.call.Request)/200)
		for n := 0; n < len(x.call.Request); n += step {
			c := x.call
			c.Request, c.RequestTruncated = c.Request[:n], true
			e := provider.Parse(&c)
			if e.ModelAsked != "" && e.ModelAsked != whole.ModelAsked || e.User != "" && e.User != whole.User {
				t.Fatalf("%s: request cut at %d: model %q, user %q", x.path, n, e.ModelAsked, e.User)
			}
			_ = describe(t, e)
		}
	}
}

// TestParseSpelling rewrites each stream with other line ends, with comments
// and with several data lines: the event must be the same except for times and
// sizes.
func TestParseSpelling(t *testing.T) {
	spell := map[string]func(string) string{
		"CRLF":     func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"CR":       func(s string) string { return strings.ReplaceAll(s, "\n", "\r") },
		"Comments": func(s string) string { return ": a\n\n" + strings.ReplaceAll(s, "\n\n", "\n: b\n\n: c\n\n") },
		"NoSpace":  func(s string) string { return strings.ReplaceAll(s, "data: ", "data:") },
		"NoEnd":    func(s string) string { return strings.TrimRight(s, "\n") },
	}
	n := 0
	for _, x := range exchanges(t) {
		if !strings.HasPrefix(x.call.ResponseHeader.Get("Content-Type"), "text/event-stream") || bytes.Contains(x.call.Response, []byte("\r")) {
			continue
		}
		n++
		same := func(c provider.Call) string {
			c.Marks = nil
			e := provider.Parse(&c)
			e.ResponseBytes = 0
			return describe(t, e)
		}
		want := same(x.call)
		for name, f := range spell {
			c := x.call
			c.Response = []byte(f(string(c.Response)))
			if got := same(c); got != want {
				t.Errorf("%s, %s: got\n%s\nwant\n%s", x.path, name, got, want)
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d streams", n)
	}
}

// TestFirstToken checks that the time to first token is that of the first chunk
// with text, not of the one with a role.
func TestFirstToken(t *testing.T) {
	role := "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
	word := "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n"
	c := &provider.Call{
		Provider: "openai", Dialect: provider.OpenAI, Method: "POST", Path: "/v1/chat/completions", Status: 200, Start: start, Latency: time.Second,
		ResponseHeader: http.Header{"Content-Type": {"text/event-stream"}}, Response: []byte(role + word + word),
		Marks: []provider.Mark{{Offset: int64(len(role)), At: 100 * time.Millisecond}, {Offset: int64(len(role + word)), At: 300 * time.Millisecond}, {Offset: int64(len(role + word + word)), At: 600 * time.Millisecond}},
	}
	if got := provider.Parse(c).TimeToFirstToken; got != event.Some(300*time.Millisecond) {
		t.Errorf("time to first token %v, want 300ms", got)
	}
	c.Response = []byte(role)
	if got := provider.Parse(c).TimeToFirstToken; got.Known {
		t.Errorf("time to first token %v without a token", got.Value)
	}
}

// TestLongLines parses a stream event of several megabytes, and a request with
// 25 MB of images, without keeping the images.
func TestLongLines(t *testing.T) {
	long := strings.Repeat("hedge ", 500_000)
	c := &provider.Call{
		Provider: "openai", Dialect: provider.OpenAI, Method: "POST", Path: "/v1/chat/completions", Status: 200, Start: start,
		ResponseHeader: http.Header{"Content-Type": {"text/event-stream"}},
		Response:       []byte("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" + long + "\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":500000,\"total_tokens\":500005}}\n\n"),
		Request:        []byte(`{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"text","text":"See."},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + strings.Repeat("iVBORw0KGgoAAAANSUhEUg9a", 1_000_000) + `"}}]}]}`),
	}
	e := provider.Parse(c)
	if len(e.Content.Output) < len(long) || e.Usage.Output != event.Some(int64(500_000)) {
		t.Errorf("output of %d bytes, usage %+v", len(e.Content.Output), e.Usage)
	}
	if len(e.Content.Input) > 300 || !bytes.Contains(e.Content.Input, []byte("[base64 image/png redacted]")) {
		t.Errorf("input of %d bytes", len(e.Content.Input))
	}
}

// TestTruncated checks that counts at the end of a response are read when its
// middle is missing.
func TestTruncated(t *testing.T) {
	chunk := "data: {\"id\":\"c\",\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n"
	c := &provider.Call{
		Provider: "openai", Dialect: provider.OpenAI, Method: "POST", Path: "/v1/chat/completions", Status: 200, Start: start,
		ResponseHeader: http.Header{"Content-Type": {"text/event-stream"}}, Response: []byte(chunk + chunk[:30]), ResponseTruncated: true,
		ResponseTail: []byte(chunk[30:] + "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":9,\"total_tokens\":14}}\n\ndata: [DONE]\n\n"),
	}
	e := provider.Parse(c)
	if e.Usage.Output != event.Some(int64(9)) || e.StopReason != "stop" || e.ParseError == "" || string(e.Content.Output) != `[{"role":"assistant","content":"Hi"}]` {
		t.Errorf("usage %+v, stop reason %q, parse error %q, output %s", e.Usage, e.StopReason, e.ParseError, e.Content.Output)
	}
}

// TestTruncatedArray is TestTruncated for a stream that is a JSON array.
func TestTruncatedArray(t *testing.T) {
	chunk := "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"}],\"role\":\"model\"}}],\"usageMetadata\":{\"promptTokenCount\":5,\"totalTokenCount\":5}}"
	last := "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"!\"}],\"role\":\"model\"},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":5,\"candidatesTokenCount\":9,\"totalTokenCount\":14}}"
	for _, sep := range []string{"\n,\r\n", "\n,\n"} {
		c := &provider.Call{
			Provider: "gemini", Dialect: provider.Gemini, Method: "POST", Path: "/v1beta/models/gemini-2.5-flash:streamGenerateContent", Status: 200, Start: start,
			ResponseHeader: http.Header{"Content-Type": {"application/json"}}, Response: []byte("[" + chunk + sep + chunk[:30]), ResponseTruncated: true,
			ResponseTail: []byte(chunk[50:] + sep + last + "]"),
		}
		e := provider.Parse(c)
		if e.Usage.Output != event.Some(int64(9)) || e.StopReason != "STOP" || e.ParseError == "" || string(e.Content.Output) != `[{"role":"assistant","content":"Hi"}]` {
			t.Errorf("usage %+v, stop reason %q, parse error %q, output %s", e.Usage, e.StopReason, e.ParseError, e.Content.Output)
		}
	}
}

// TestNoResponse parses calls that got no response.
func TestNoResponse(t *testing.T) {
	for _, c := range []struct {
		errType string
		err     error
		status  event.Status
		message string
	}{
		{event.ErrTypeTimeout, errors.New("x"), event.StatusTimeout, "the provider did not respond in time"},
		{event.ErrTypeUnreachable, errors.New("dial tcp 127.0.0.1:1: connect: connection refused"), event.StatusError, "dial tcp 127.0.0.1:1: connect: connection refused"},
		{event.ErrTypeClientGone, errors.New("x"), event.StatusError, "the caller disconnected before the response ended"},
	} {
		e := provider.Parse(&provider.Call{Provider: "openai", Dialect: provider.OpenAI, Method: "POST", Path: "/v1/chat/completions?key=secret", BaseURL: "https://provider.test?key=secret",
			Request: []byte(`{"model":"gpt-4o","messages":[]}`), Start: start, Err: c.err, ErrType: c.errType})
		if !e.IsError || e.ErrorType != c.errType || e.Status != c.status || e.ErrorMessage != c.message || e.HTTPStatus != 0 || e.ModelAsked != "gpt-4o" || e.Usage.Input.Known {
			t.Errorf("%s: %+v", c.errType, e)
		}
		if b, _ := json.Marshal(e); bytes.Contains(b, []byte("secret")) {
			t.Errorf("%s: a query was kept: %s", c.errType, b)
		}
	}
}

func TestOperation(t *testing.T) {
	for _, c := range []struct{ method, path, want string }{
		{"POST", "/v1/chat/completions", "chat"},
		{"POST", "/v1/chat/completions/", "chat"},
		{"GET", "/v1/chat/completions", "chat_stored"},
		{"POST", "/api/v1/chat/completions?x=1", "chat"},
		{"POST", "/openai/deployments/chat/chat/completions", "chat"},
		{"POST", "/inference/v1/embeddings", "embeddings"},
		{"POST", "/v1/responses", "responses"},
		{"GET", "/v1/responses/resp_1", "responses_get"},
		{"POST", "/v1/responses/resp_1/cancel", "responses_get"},
		{"POST", "/v1/responses/input_tokens", "count_tokens"},
		{"POST", "/v1/messages", "messages"},
		{"POST", "/v1/messages/count_tokens", "count_tokens"},
		{"POST", "/v1/messages/batches", "message_batches"},
		{"GET", "/v1/models", "models"},
		{"POST", "/v1/audio/transcriptions", "transcriptions"},
		{"POST", "/v1/images/edits", "images"},
		{"POST", "/v1/videos", "videos"},
		{"POST", "/v1/videos/edits", "videos"},
		{"POST", "/v1/videos/extensions", "videos"},
		{"POST", "/v1/videos/video_1/remix", "videos"},
		{"GET", "/v1/videos/video_1/content", "videos_get"},
		{"POST", "/v1/batches", "batches"},
		{"POST", "/v1beta/interactions", "interactions"},
		{"GET", "/v1beta/interactions/v1_a", "interactions_get"},
		{"POST", "/v1beta/interactions/v1_a/cancel", "interactions_get"},
		{"DELETE", "/v1beta/interactions/v1_a", ""},
		{"GET", "/v1/responses", ""},
		{"POST", "/v1beta/models/gemini-2.5-flash:generateContent", "generate_content"},
		{"POST", "/v1beta/tunedModels/hedge-1:streamGenerateContent?alt=sse", "generate_content"},
		{"POST", "/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-pro:countTokens", "count_tokens"},
		{"POST", "/v1beta/models/gemini-embedding-001:batchEmbedContents", "embeddings"},
		{"POST", "/v1/projects/p/locations/l/publishers/google/models/imagen:predict", ""},
		{"GET", "/v1beta/models/gemini-2.5-flash", "models"},
		{"POST", "/v1/frobnicate", ""},
		{"GET", "/", ""},
		{"GET", "", ""},
	} {
		if got := provider.Operation(provider.OpenAI, c.method, c.path); got != c.want {
			t.Errorf("Operation(%s %s) = %q, want %q", c.method, c.path, got, c.want)
		}
	}
}

func TestRedactBase64(t *testing.T) {
	b64 := strings.Repeat("iVBORw0KGgoAAAANSUhEUg9a", 60)
	for _, c := range []struct{ name, in, want string }{
		{"DataURL", `{"url":"data:image/png;base64,` + b64 + `"}`, `{"url":"[base64 image/png redacted]"}`},
		{"Short", `{"url":"data:image/png;base64,aGk="}`, `{"url":"[base64 image/png redacted]"}`},
		{"Beside", `{"type":"base64","media_type":"image/jpeg","data":"` + b64 + `"}`, `{"type":"base64","media_type":"image/jpeg","data":"[base64 image/jpeg redacted]"}`},
		{"Bare", `{"x":"` + b64 + `"}`, `{"x":"[base64 redacted]"}`},
		{"Words", `{"x":"` + strings.Repeat("hello world ", 200) + `"}`, ""},
		{"Hex", `{"x":"` + strings.Repeat("0123456789abcdef", 100) + `"}`, ""},
		{"Escaped", `{"data":"` + strings.ReplaceAll(strings.Repeat("abXy/Cd9efGh7Jk2", 20), "/", `\/`) + `"}`, `{"data":"[base64 redacted]"}`},
	} {
		want := c.want
		if want == "" {
			want = c.in
		}
		if got := string(provider.RedactBase64([]byte(c.in))); got != want {
			t.Errorf("%s: %.200s, want %.200s", c.name, got, want)
		}
	}
}
