package sdktest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/posthog/posthog-go"

	"github.com/hedgerow/hedgerow"
	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

// taking answers deliveries at once.
var taking = &http.Client{Transport: fake(func(r *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, r.Body)
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(`{"status":"Ok"}`)), Request: r}, nil
})}

func benchClient(b *testing.B, set func(*hedgerow.Config)) *hedgerow.Client {
	b.Helper()
	c := hedgerow.Config{APIKey: simposthog.Token, Host: host, HTTPClient: taking, Logger: slog.New(slog.DiscardHandler), QueueSize: 1 << 30, QueueBytes: 1 << 40}
	if set != nil {
		set(&c)
	}
	client, err := hedgerow.New(c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = client.Close(ctx)
	})
	return client
}

// BenchmarkCapture is what an event costs the caller. Held: nothing is delivered
// meanwhile, so that it is the enqueueing alone. Delivering: all of it, on the
// same machine.
func BenchmarkCapture(b *testing.B) {
	ctx := hedgerow.WithUser(context.Background(), "ada")
	props := hedgerow.Properties{"plan": "pro", "size": 3, "ok": true}
	for _, mode := range []struct {
		name string
		set  func(*hedgerow.Config)
	}{
		{"Held", func(c *hedgerow.Config) { c.FlushAt, c.FlushInterval = 1<<30, time.Hour }},
		{"Delivering", nil},
		{"Full", func(c *hedgerow.Config) {
			c.QueueSize, c.FlushAt, c.FlushInterval = 1, 1, time.Hour
			c.HTTPClient = stuck
		}},
	} {
		b.Run(mode.name, func(b *testing.B) {
			c := benchClient(b, mode.set)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				c.Capture(ctx, "prompt_shared", props)
				if n++; mode.name == "Held" && n%100_000 == 0 { // memory is not what is measured
					b.StopTimer()
					_ = c.Flush(ctx)
					b.StartTimer()
				}
			}
			b.StopTimer()
		})
	}
}

// stuck never answers.
var stuck = &http.Client{Transport: fake(func(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
})}

// BenchmarkMiddleware is what a call costs more by the middleware: the provider
// answers at once, and the difference to Without is the overhead. The events are
// made in the background, on the same machine.
func BenchmarkMiddleware(b *testing.B) {
	for _, size := range []struct {
		name string
		text int
	}{{"NoContent", 0}, {"4KB", 4 << 10}} {
		text := strings.Repeat("the wren ", size.text/9)
		request := []byte(`{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"` + text + `"}]}`)
		answer := []byte(`{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4.1-mini-2025-04-14","choices":[{"index":0,"message":{"role":"assistant","content":"` + text + `"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}`)
		var stream bytes.Buffer
		for i := 0; i < len(text); i += 90 {
			fmt.Fprintf(&stream, "data: {\"id\":\"chatcmpl-1\",\"model\":\"gpt-4.1-mini\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}],\"usage\":null}\n\n", text[i:min(len(text), i+90)])
		}
		stream.WriteString("data: {\"id\":\"chatcmpl-1\",\"model\":\"gpt-4.1-mini\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n")
		asks := []byte(strings.Replace(string(request), `"model"`, `"stream":true,"model"`, 1))
		for _, kind := range []struct {
			name         string
			body, answer []byte
			contentType  string
		}{{"Whole", request, answer, "application/json"}, {"Stream", asks, stream.Bytes(), "text/event-stream"}} {
			next := func(r *http.Request) (*http.Response, error) {
				_, _ = io.Copy(io.Discard, r.Body)
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {kind.contentType}}, Body: io.NopCloser(bytes.NewReader(kind.answer)), ContentLength: -1, Request: r}, nil
			}
			var without float64
			for _, with := range []bool{false, true} {
				name := size.name + "/" + kind.name + "/Without"
				m := func(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
					return next(r)
				}
				if with {
					name = size.name + "/" + kind.name + "/With"
				}
				b.Run(name, func(b *testing.B) {
					var client *hedgerow.Client
					if with {
						client = benchClient(b, func(c *hedgerow.Config) { c.FlushAt, c.FlushInterval = 1<<30, time.Hour })
						m = client.Middleware()
					}
					n := 0
					buf := make([]byte, 32<<10)
					b.ReportAllocs()
					for b.Loop() {
						req, _ := http.NewRequest(http.MethodPost, "https://api.openai.com/v1/chat/completions", bytes.NewReader(kind.body))
						req.Header["Content-Type"] = []string{"application/json"}
						res, err := m(req, next)
						if err != nil {
							b.Fatal(err)
						}
						for err == nil {
							_, err = res.Body.Read(buf)
						}
						_ = res.Body.Close()
						if n++; n%5000 == 0 {
							b.StopTimer()
							_ = client.Flush(context.Background())
							b.StartTimer()
						}
					}
					b.StopTimer()
					per := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / 1000
					if !with {
						without = per
					} else {
						b.ReportMetric(per-without, "µs-overhead")
					}
				})
			}
		}
	}
}

// BenchmarkThroughput sends events from capture to the host's answer, over a
// socket, after posthog-go in the same run: events/s, and how many times as many
// as posthog-go, which does not compress: gzip=false is like with like.
func BenchmarkThroughput(b *testing.B) {
	const events = 20_000
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"status":1}`)
	}))
	defer server.Close()
	props := map[string]any{"plan": "pro", "size": 3, "text": strings.Repeat("the wren ", 20)}
	var theirs float64
	rate := func(b *testing.B) float64 {
		r := float64(events) * float64(b.N) / b.Elapsed().Seconds()
		b.ReportMetric(r, "events/s")
		return r
	}
	b.Run("PosthogGo", func(b *testing.B) {
		for b.Loop() {
			c, err := posthog.NewWithConfig(simposthog.Token, posthog.Config{Endpoint: server.URL, BatchSize: 100, Logger: quiet{}})
			if err != nil {
				b.Fatal(err)
			}
			for range events {
				if err := c.Enqueue(posthog.Capture{DistinctId: "ada", Event: "prompt_shared", Properties: props}); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.Close()
		}
		theirs = rate(b)
	})
	for _, gzip := range []bool{true, false} {
		b.Run(fmt.Sprintf("Hedgerow/gzip=%v", gzip), func(b *testing.B) {
			for b.Loop() {
				c, err := hedgerow.New(hedgerow.Config{APIKey: simposthog.Token, Host: server.URL, FlushAt: 100, QueueSize: events, DisableGzip: !gzip, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					b.Fatal(err)
				}
				ctx := hedgerow.WithUser(context.Background(), "ada")
				for range events {
					c.Capture(ctx, "prompt_shared", props)
				}
				_ = c.Close(ctx)
				if s := c.Stats(); s.Sent != events {
					b.Fatalf("%+v", s)
				}
			}
			if ours := rate(b); theirs > 0 {
				b.ReportMetric(ours/theirs, "x-posthog-go")
			}
		})
	}
}

type quiet struct{}

func (quiet) Debugf(string, ...any) {}
func (quiet) Logf(string, ...any)   {}
func (quiet) Warnf(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
