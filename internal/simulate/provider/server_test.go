package provider_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"github.com/tidwall/gjson"

	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
)

var update = flag.Bool("update", false, "write the golden files")

// start serves simulated providers until the test ends, with a fixed clock.
func start(t testing.TB, o simprovider.Options) *simprovider.Server {
	t.Helper()
	if o.Now == nil {
		o.Now = func() time.Time { return time.Unix(1760000000, 0) }
	}
	s := simprovider.New(o)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// post sends a body with the headers of any provider and returns the response.
func post(t testing.TB, url, sim, body string) (*http.Response, string) {
	t.Helper()
	resp := send(t, url, sim, body)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read response: %v", err)
	}
	return resp, string(b)
}

func send(t testing.TB, url, sim, body string) *http.Response {
	t.Helper()
	resp, err := http.DefaultClient.Do(newRequest(t, url, sim, body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func newRequest(t testing.TB, url, sim, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if strings.Contains(url, "/anthropic") {
		r.Header.Set("X-Api-Key", "sk-ant-test")
		r.Header.Set("Anthropic-Version", "2023-06-01")
	} else {
		r.Header.Set("Authorization", "Bearer sk-test")
	}
	if sim != "" {
		r.Header.Set("X-Sim", sim)
	}
	return r
}

const (
	chatBody       = `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"How tall is a hedge?"}]}`
	chatStreamBody = `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"How tall is a hedge?"}],"stream":true}`
	chatUsageBody  = `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"How tall is a hedge?"}],"stream":true,"stream_options":{"include_usage":true}}`
	toolBody       = `{"model":"gpt-4o","messages":[{"role":"user","content":"Weather?"}],"tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}}],"stream":true}`
	messageBody    = `{"model":"claude-sonnet-4-5","max_tokens":300,"messages":[{"role":"user","content":"How tall is a hedge?"}]}`
	routerBody     = `{"model":"openai/gpt-4.1-mini","messages":[{"role":"user","content":"How tall is a hedge?"}],"stream":true}`
	responseBody   = `{"model":"o4-mini","input":"How tall is a hedge?","reasoning":{"effort":"low","summary":"auto"},"stream":true}`
)

// TestGolden pins the wire formats, byte for byte.
func TestGolden(t *testing.T) {
	tests := []struct{ name, path, sim, body string }{
		{"openai_chat", "/openai/v1/chat/completions", "text=Two metres.", chatBody},
		{"openai_chat_stream", "/openai/v1/chat/completions", "text=Two metres.", chatStreamBody},
		{"openai_chat_stream_usage", "/openai/v1/chat/completions", "text=Two metres.", chatUsageBody},
		{"openai_chat_stream_tool", "/openai/v1/chat/completions", "tools=1", toolBody},
		{"openai_chat_stream_refusal", "/openai/v1/chat/completions", "refusal; chunks=3", chatStreamBody},
		{"openai_chat_mid_error", "/openai/v1/chat/completions", "text=Two metres in a good year.; mid_error; after=2", chatStreamBody},
		{"openai_chat_usage_delta", "/openai/v1/chat/completions", "text=Two metres.; usage_delta", chatUsageBody},
		{"openai_responses", "/openai/v1/responses", "text=Two metres.", strings.Replace(responseBody, `,"stream":true`, "", 1)},
		{"openai_responses_stream", "/openai/v1/responses", "text=Two metres.; chunks=2", responseBody},
		{"openai_embeddings", "/openai/v1/embeddings", "", `{"model":"text-embedding-3-small","input":"hedge","dimensions":3}`},
		{"openai_rate_limit", "/openai/v1/chat/completions", "rate_limit", chatBody},
		{"openai_quota", "/openai/v1/chat/completions", "quota", chatBody},
		{"anthropic_messages", "/anthropic/v1/messages", "text=Two metres.", messageBody},
		{"anthropic_messages_stream", "/anthropic/v1/messages", "text=Two metres.; cached=2000; cache_write_1h=300", strings.Replace(messageBody, `{`, `{"stream":true,`, 1)},
		{"anthropic_tool_stream", "/anthropic/v1/messages", "tools=1", `{"stream":true,"model":"claude-haiku-4-5","max_tokens":300,"messages":[{"role":"user","content":"Weather?"}],"tools":[{"name":"get_weather","input_schema":{"type":"object","properties":{"city":{"type":"string"}}}}]}`},
		{"anthropic_thinking_stream", "/anthropic/v1/messages", "text=Two metres.; chunks=2", `{"stream":true,"model":"claude-sonnet-4-5","max_tokens":3000,"thinking":{"type":"enabled","budget_tokens":1024},"messages":[{"role":"user","content":"How tall is a hedge?"}]}`},
		{"anthropic_mid_error", "/anthropic/v1/messages", "text=Two metres in a good year.; mid_error; after=2", strings.Replace(messageBody, `{`, `{"stream":true,`, 1)},
		{"anthropic_overloaded", "/anthropic/v1/messages", "overloaded", messageBody},
		{"anthropic_count_tokens", "/anthropic/v1/messages/count_tokens", "", messageBody},
		{"openrouter_stream", "/openrouter/api/v1/chat/completions", "text=Two metres.", routerBody},
		{"openrouter_mid_error", "/openrouter/api/v1/chat/completions", "text=Two metres in a good year.; mid_error; after=2", routerBody},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, simprovider.Options{Seed: 7})
			resp, body := post(t, s.URL()+tt.path, tt.sim, tt.body)
			got := resp.Status + "\n" + resp.Header.Get("Content-Type") + "\n\n" + body
			path := filepath.Join("testdata", tt.name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("response differs from %s (-update writes it):\n%s", path, got)
			}
		})
	}
}

// events returns the data of a stream's events.
func events(body string) []string {
	var out []string
	for line := range strings.Lines(body) {
		if d, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "data: "); ok {
			out = append(out, d)
		}
	}
	return out
}

func TestUsageOnStreams(t *testing.T) {
	s := start(t, simprovider.Options{})
	url := s.OpenAIURL() + "/v1/chat/completions"

	t.Run("NotAskedFor", func(t *testing.T) {
		_, body := post(t, url, "", chatStreamBody)
		if strings.Contains(body, `"usage"`) || strings.Contains(body, `"choices":[]`) {
			t.Errorf("usage in a stream that did not request it:\n%s", body)
		}
		if ev := events(body); ev[len(ev)-1] != "[DONE]" {
			t.Errorf("last event is %s", ev[len(ev)-1])
		}
	})
	t.Run("AskedFor", func(t *testing.T) {
		_, body := post(t, url, "", chatUsageBody)
		ev := events(body)
		for _, e := range ev[:len(ev)-2] {
			if u := gjson.Get(e, "usage"); !u.Exists() || u.Type != gjson.Null {
				t.Errorf("want usage null, got %s", e)
			}
		}
		last := ev[len(ev)-2]
		if len(gjson.Get(last, "choices").Array()) != 0 || !gjson.Get(last, "usage.total_tokens").Exists() {
			t.Errorf("last chunk: %s", last)
		}
	})
	for _, tt := range []struct {
		sim   string
		where string // path that exists in the choices of exactly one chunk
	}{
		{"usage_with_finish", `choices.0.finish_reason`},
		{"usage_delta", `choices.0.delta`},
	} {
		t.Run(tt.sim, func(t *testing.T) {
			_, body := post(t, url, tt.sim, chatUsageBody)
			n := 0
			for _, e := range events(body) {
				if gjson.Get(e, "usage.total_tokens").Exists() {
					n++
					if v := gjson.Get(e, tt.where); !v.Exists() || v.Type == gjson.Null {
						t.Errorf("usage in the wrong chunk: %s", e)
					}
				}
			}
			if n != 1 {
				t.Errorf("usage in %d chunks", n)
			}
		})
	}
	t.Run("Every", func(t *testing.T) {
		_, body := post(t, url, "usage_every", chatUsageBody)
		last := int64(-1)
		for _, e := range events(body) {
			if e == "[DONE]" {
				continue
			}
			n := gjson.Get(e, "usage.completion_tokens").Int()
			if n < last {
				t.Errorf("usage falls from %d to %d", last, n)
			}
			last = n
		}
		if last <= 0 {
			t.Errorf("last usage is %d", last)
		}
	})
	t.Run("RefusedOption", func(t *testing.T) {
		resp, body := post(t, url, "no_stream_options", chatUsageBody)
		if resp.StatusCode != 400 || !strings.Contains(body, "stream_options") {
			t.Errorf("got %s %s", resp.Status, body)
		}
		if resp, _ := post(t, url, "no_stream_options", chatStreamBody); resp.StatusCode != 200 {
			t.Errorf("without the option: %s", resp.Status)
		}
	})
}

// TestTokensFitText checks that a stream and a complete response have the same
// text, with the reported number of tokens.
func TestTokensFitText(t *testing.T) {
	s := start(t, simprovider.Options{Seed: 3})
	url := s.OpenAIURL() + "/v1/chat/completions"
	_, body := post(t, url, "", chatUsageBody)
	var text strings.Builder
	var usage gjson.Result
	for _, e := range events(body) {
		text.WriteString(gjson.Get(e, "choices.0.delta.content").String())
		if u := gjson.Get(e, "usage"); u.IsObject() {
			usage = u
		}
	}
	if got, want := usage.Get("completion_tokens").Int(), int64(simprovider.CountTokens(text.String())); got != want || want == 0 {
		t.Errorf("completion_tokens %d, text has %d", got, want)
	}
	if got, want := usage.Get("total_tokens").Int(), usage.Get("prompt_tokens").Int()+usage.Get("completion_tokens").Int(); got != want {
		t.Errorf("total_tokens %d, want %d", got, want)
	}
	_, again := post(t, url, "", chatUsageBody)
	if strings.Join(events(again), "") == strings.Join(events(body), "") {
		t.Error("two requests share their ids")
	}
	ids := regexp.MustCompile(`"(id|obfuscation)":"[^"]*"`)
	if ids.ReplaceAllString(again, "") != ids.ReplaceAllString(body, "") {
		t.Error("the same request got another response")
	}
	_, long := post(t, url, "", strings.Replace(chatUsageBody, "How tall", strings.Repeat("And how tall ", 100), 1))
	ev := events(long)
	if more := gjson.Get(ev[len(ev)-2], "usage.prompt_tokens").Int(); more < usage.Get("prompt_tokens").Int()+250 {
		t.Errorf("a longer prompt has %d tokens", more)
	}
}

func TestCountTokens(t *testing.T) {
	for text, want := range map[string]int{"": 0, "a": 1, "hedge": 1, "two metres": 3, "hedgerows": 2, "a b c": 3, "ü": 1, "\n\n": 1} {
		if got := simprovider.CountTokens(text); got != want {
			t.Errorf("CountTokens(%q) = %d, want %d", text, got, want)
		}
	}
}

func TestFailures(t *testing.T) {
	s := start(t, simprovider.Options{})
	type want struct {
		status int
		path   string // in the body
		value  string
	}
	tests := map[string]map[string]want{
		"/openai/v1/chat/completions": {
			"bad_request": {400, "error.type", "invalid_request_error"}, "unauthorized": {401, "error.code", "invalid_api_key"}, "forbidden": {403, "error.code", "model_not_allowed"},
			"not_found": {404, "error.code", "model_not_found"}, "rate_limit": {429, "error.code", "rate_limit_exceeded"}, "quota": {429, "error.code", "insufficient_quota"},
			"server_error": {500, "error.type", "server_error"}, "unavailable": {503, "error.type", "service_unavailable_error"}, "overloaded": {503, "error.code", "server_is_overloaded"},
			"mid_error": {500, "error.type", "server_error"}, // not streamed: there is no middle
		},
		"/anthropic/v1/messages": {
			"bad_request": {400, "error.type", "invalid_request_error"}, "unauthorized": {401, "error.type", "authentication_error"}, "forbidden": {403, "error.type", "permission_error"},
			"not_found": {404, "error.type", "not_found_error"}, "rate_limit": {429, "error.type", "rate_limit_error"}, "quota": {400, "error.message", "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."},
			"server_error": {500, "error.type", "api_error"}, "overloaded": {529, "error.type", "overloaded_error"},
		},
		"/openrouter/api/v1/chat/completions": {
			"rate_limit": {429, "error.code", "429"}, "server_error": {500, "error.code", "500"}, "unauthorized": {401, "error.code", "401"},
		},
	}
	bodies := map[string]string{"/openai/v1/chat/completions": chatBody, "/anthropic/v1/messages": messageBody, "/openrouter/api/v1/chat/completions": strings.Replace(routerBody, `,"stream":true`, "", 1)}
	for path, cases := range tests {
		for sim, w := range cases {
			t.Run(path+" "+sim, func(t *testing.T) {
				resp, body := post(t, s.URL()+path, sim, bodies[path])
				if resp.StatusCode != w.status || gjson.Get(body, w.path).String() != w.value {
					t.Errorf("got %s %s", resp.Status, body)
				}
				if sim == "rate_limit" && resp.Header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
			})
		}
	}
	t.Run("NotJSON", func(t *testing.T) {
		resp, body := post(t, s.OpenAIURL()+"/v1/chat/completions", "not_json", chatBody)
		if resp.StatusCode != 502 || json.Valid([]byte(body)) {
			t.Errorf("got %s %s", resp.Status, body)
		}
	})
	t.Run("Reset", func(t *testing.T) {
		if resp, err := http.DefaultClient.Do(newRequest(t, s.OpenAIURL()+"/v1/chat/completions", "reset", chatBody)); err == nil {
			t.Errorf("got %s", resp.Status)
		}
	})
	for _, sim := range []string{"mid_reset; after=2", "mid_reset; after=500"} {
		t.Run(sim, func(t *testing.T) {
			resp := send(t, s.OpenAIURL()+"/v1/chat/completions", sim, chatStreamBody)
			b, err := io.ReadAll(resp.Body)
			if err == nil || len(b) == 0 || strings.Contains(string(b), "[DONE]") {
				t.Errorf("%d bytes, err %v", len(b), err)
			}
		})
	}
	t.Run("MidResetOfJSON", func(t *testing.T) {
		resp := send(t, s.OpenAIURL()+"/v1/chat/completions", "mid_reset", chatBody)
		if b, err := io.ReadAll(resp.Body); err == nil || len(b) == 0 {
			t.Errorf("%d bytes, err %v", len(b), err)
		}
	})
	for _, tt := range []struct{ name, url, body string }{
		{"NoMessages", s.OpenAIURL() + "/v1/chat/completions", `{"model":"gpt-4o","messages":[]}`},
		{"StreamOptionsWithoutStream", s.OpenAIURL() + "/v1/chat/completions", `{"model":"gpt-4o","messages":[{"role":"user","content":"x"}],"stream_options":{"include_usage":true}}`},
		{"NoMaxTokens", s.AnthropicURL() + "/v1/messages", `{"model":"claude-haiku-4-5","messages":[{"role":"user","content":"x"}]}`},
		{"BrokenJSON", s.OpenAIURL() + "/v1/chat/completions", `{"model":`},
		{"UnknownBehavior", s.OpenAIURL() + "/v1/chat/completions", `{"model":"gpt-4o#dance","messages":[{"role":"user","content":"x"}]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if resp, body := post(t, tt.url, "", tt.body); resp.StatusCode != 400 || gjson.Get(body, "error.type").String() != "invalid_request_error" {
				t.Errorf("got %s %s", resp.Status, body)
			}
		})
	}
}

// TestHangUp checks that a disconnecting caller is noticed immediately, before
// and during a stream.
func TestHangUp(t *testing.T) {
	for _, sim := range []string{"hang", "mid_hang", "gap=1h"} {
		t.Run(sim, func(t *testing.T) {
			s := start(t, simprovider.Options{})
			ctx, cancel := context.WithCancel(t.Context())
			r := newRequest(t, s.OpenAIURL()+"/v1/chat/completions", sim, chatStreamBody).WithContext(ctx)
			if sim == "hang" {
				go func() {
					_, _ = s.Await(t.Context(), func(l []simprovider.Received) bool { return len(l) == 1 })
					cancel()
				}()
				if _, err := http.DefaultClient.Do(r); !errors.Is(err, context.Canceled) {
					t.Fatalf("err = %v", err)
				}
			} else {
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if _, err := resp.Body.Read(make([]byte, 10)); err != nil {
					t.Fatal(err)
				}
				cancel()
			}
			wait, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			list, err := s.Await(wait, func(l []simprovider.Received) bool { return len(l) == 1 && l[0].Done })
			if err != nil || !list[0].Canceled {
				t.Errorf("err %v, received %+v", err, list)
			}
		})
	}
}

func TestChoosingBehavior(t *testing.T) {
	s := start(t, simprovider.Options{Behave: func(r *simprovider.Received, _ *rand) simprovider.Behavior {
		if r.Provider == "groq" {
			return simprovider.Behavior{Fail: simprovider.Unavailable}
		}
		return simprovider.Behavior{}
	}})
	url := s.OpenAIURL() + "/v1/chat/completions"
	s.Script(simprovider.Behavior{Fail: simprovider.RateLimit}, simprovider.Behavior{Text: "Second."})
	if resp, _ := post(t, url, "", chatBody); resp.StatusCode != 429 {
		t.Errorf("first of the script: %s", resp.Status)
	}
	if resp, _ := post(t, url, "server_error", chatBody); resp.StatusCode != 500 {
		t.Errorf("header: %s", resp.Status)
	}
	if resp, _ := post(t, url, "", strings.Replace(chatBody, "gpt-4.1-mini", "gpt-4.1-mini#quota", 1)); resp.StatusCode != 429 {
		t.Errorf("suffix: %s", resp.Status)
	}
	if _, body := post(t, url, "", chatBody); gjson.Get(body, "choices.0.message.content").String() != "Second." || gjson.Get(body, "model").String() != "gpt-4.1-mini-2025-04-14" {
		t.Errorf("second of the script: %s", body)
	}
	if resp, _ := post(t, s.CompatibleURL("groq")+"/openai/v1/chat/completions", "", chatBody); resp.StatusCode != 503 {
		t.Errorf("Options.Behave: %s", resp.Status)
	}
	list := s.Requests()
	if len(list) != 5 || list[0].Status != 429 || list[0].Model != "gpt-4.1-mini" || string(list[0].Body) != chatBody || list[0].Header.Get("Authorization") != "Bearer sk-test" || list[4].Provider != "groq" {
		t.Errorf("recorded %+v", list)
	}
	s.Forget()
	if len(s.Requests()) != 0 {
		t.Error("requests are kept after Forget")
	}
}

func TestEncodings(t *testing.T) {
	s := start(t, simprovider.Options{})
	decode := map[string]func(io.Reader) (io.Reader, error){
		"gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"br":   func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
		"zstd": func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	}
	for name, open := range decode {
		for kind, body := range map[string]string{"json": chatBody, "stream": chatUsageBody} {
			t.Run(name+" "+kind, func(t *testing.T) {
				r := newRequest(t, s.OpenAIURL()+"/v1/chat/completions", name, body)
				r.Header.Set("Accept-Encoding", "gzip, br, zstd")
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if got := resp.Header.Get("Content-Encoding"); got != name {
					t.Fatalf("Content-Encoding %q", got)
				}
				z, err := open(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(z)
				if err != nil || !bytes.Contains(b, []byte("total_tokens")) {
					t.Errorf("err %v, %s", err, b)
				}
			})
		}
	}
	t.Run("NotAccepted", func(t *testing.T) {
		r := newRequest(t, s.OpenAIURL()+"/v1/chat/completions", "br", chatBody)
		r.Header.Set("Accept-Encoding", "identity")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Content-Encoding"); got != "" {
			t.Errorf("Content-Encoding %q", got)
		}
	})
}

func TestStreamShapes(t *testing.T) {
	s := start(t, simprovider.Options{})
	url := s.OpenAIURL() + "/v1/chat/completions"
	_, plain := post(t, url, "text=One two three four.", chatStreamBody)
	ids := regexp.MustCompile(`"(id|obfuscation)":"[^"]*"`)
	for _, sim := range []string{"crlf", "comments", "one_byte", "no_done", "trailer"} {
		t.Run(sim, func(t *testing.T) {
			resp, body := post(t, url, "text=One two three four.; "+sim, chatStreamBody)
			want, got := events(ids.ReplaceAllString(plain, "")), events(ids.ReplaceAllString(body, ""))
			switch sim {
			case "no_done":
				want = want[:len(want)-1]
			case "crlf":
				if strings.Count(body, "\n") != strings.Count(body, "\r\n") {
					t.Error("bare line feeds")
				}
			case "comments":
				if !strings.Contains(body, "\n: ") {
					t.Error("no comments")
				}
			case "trailer":
				if resp.Trailer.Get("X-Sim-Trailer") != "kept" {
					t.Errorf("trailer %v", resp.Trailer)
				}
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("events differ:\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

func TestLargeDownload(t *testing.T) {
	s := start(t, simprovider.Options{})
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.OpenAIURL()+"/v1/files/file-1/content?bytes=5000000", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer sk-test")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != 5000000 || err != nil {
		t.Errorf("%d bytes, err %v", n, err)
	}
}

func TestRealisticLatency(t *testing.T) {
	seen := map[time.Duration]bool{}
	for seed := range 20 {
		d := simprovider.Realistic("gpt-4.1-mini", newRand(uint64(seed)))
		if d.First < 100*time.Millisecond || d.First > 10*time.Second || d.PerToken < time.Millisecond || d.PerToken > 50*time.Millisecond {
			t.Errorf("seed %d: %+v", seed, d)
		}
		seen[d.First] = true
	}
	if len(seen) < 15 {
		t.Errorf("only %d different latencies", len(seen))
	}
	s := simprovider.New(simprovider.Options{Latency: func(string, *rand) simprovider.Timing { return simprovider.Timing{First: 30 * time.Millisecond} }})
	rec := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(chatBody))
	r.Header.Set("Authorization", "Bearer x")
	begin := time.Now()
	s.ServeHTTP(rec, r)
	if took := time.Since(begin); took < 30*time.Millisecond || rec.Code != 200 {
		t.Errorf("answered %d after %v", rec.Code, took)
	}
}

func TestFixed(t *testing.T) {
	srv := httptest.NewServer(simprovider.Fixed(0))
	defer srv.Close()
	_, body := post(t, srv.URL, "", chatBody)
	if n := len(body); n < 900 || n > 1300 || !json.Valid([]byte(body)) {
		t.Errorf("%d bytes: %s", n, body)
	}
	_, stream := post(t, srv.URL, "", chatStreamBody)
	ev := events(stream)
	if len(ev) != simprovider.FixedChunks+3 || ev[len(ev)-1] != "[DONE]" || gjson.Get(ev[len(ev)-2], "usage.total_tokens").Int() != 1054 {
		t.Errorf("%d events: %s", len(ev), stream)
	}
}

func BenchmarkFixed(b *testing.B) {
	h := simprovider.Fixed(0)
	body := strings.NewReader(chatBody)
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(chatBody)
		r := httptest.NewRequest("POST", "/v1/chat/completions", body)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("rate_limit; first=20ms;tools=2;text=Hello")
	f.Add("after=x;;=;cached=-1")
	f.Fuzz(func(t *testing.T, s string) {
		b, err := simprovider.Parse(s)
		if err != nil {
			return
		}
		// Every parsed behavior has a response.
		srv := simprovider.New(simprovider.Options{Keep: -1})
		b.First, b.Gap = 0, 0
		if b.Fail == simprovider.Hang || b.Fail == simprovider.MidHang || b.Fail == simprovider.Reset || b.Fail == simprovider.MidReset || b.Tools > 1000 {
			return
		}
		srv.Script(b)
		r := httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(toolBody))
		r.Header.Set("Authorization", "Bearer x")
		rec := httptest.NewRecorder()
		srv.ServeHTTP(rec, r)
		if rec.Code == 0 {
			t.Error("no response")
		}
	})
}
