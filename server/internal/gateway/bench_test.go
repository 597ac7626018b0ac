package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// These benchmarks run caller, proxy and upstream in one process. Compare the
// results with each other only: go test -run '^$' -bench .
// ./server/internal/gateway

const benchChunks = 100

var (
	benchResponse = []byte(`{"id":"chatcmpl-bench","object":"chat.completion","created":1760000000,"model":"gpt-4.1-mini-2025-04-14","choices":[{"index":0,"message":{"role":"assistant","content":"` +
		strings.Repeat("A hedge keeps the wind out and lets the birds in. ", 74) +
		`","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1024,"completion_tokens":160,"total_tokens":1184}}`)
	benchChunk   = []byte(`data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4.1-mini-2025-04-14","choices":[{"index":0,"delta":{"content":"hedge "},"finish_reason":null}]}` + "\n\n")
	benchLast    = []byte(`data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4.1-mini-2025-04-14","choices":[],"usage":{"prompt_tokens":1024,"completion_tokens":100,"total_tokens":1124}}` + "\n\ndata: [DONE]\n\n")
	benchRequest = []byte(`{"model":"gpt-4.1-mini","temperature":0.2,"messages":[{"role":"system","content":"You answer briefly."},{"role":"user","content":"` +
		strings.Repeat("How wide should a hedgerow be for a wren? ", 95) + `"}]}`)
	benchPaced  = bytes.Replace(benchStream, []byte("gpt-4.1-mini"), []byte("paced"), 1) // pauses between chunks, as a model does
	benchStream = append(bytes.Clone(benchRequest[:len(benchRequest)-1]), `,"stream":true,"stream_options":{"include_usage":true}}`...)
	// hedgerow requests usage for this one and removes it again.
	benchInject = append(bytes.Clone(benchRequest[:len(benchRequest)-1]), `,"stream":true}`...)
)

func benchUpstream(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	h := w.Header()
	if !bytes.Contains(b[len(b)-60:], []byte(`"stream":true`)) {
		h["Content-Type"] = []string{"application/json"}
		h["Content-Length"] = []string{fmt.Sprint(len(benchResponse))}
		_, _ = w.Write(benchResponse)
		return
	}
	h["Content-Type"] = []string{"text/event-stream"}
	rc := http.NewResponseController(w)
	chunks, gap := benchChunks, time.Duration(0)
	if bytes.Contains(b[:20], []byte("paced")) {
		chunks, gap = 5, 2*time.Millisecond
	}
	for range chunks {
		_, _ = w.Write(benchChunk)
		_ = rc.Flush()
		time.Sleep(gap)
	}
	_, _ = w.Write(benchLast)
}

// count is an Appender that only counts.
type count struct{ n atomic.Int64 }

func (c *count) Append(_ context.Context, events ...*event.Event) error {
	c.n.Add(int64(len(events)))
	return nil
}

type target struct {
	name, url string
	client    *http.Client
}

// targets serves the upstream, and a plain reverse proxy and a gateway in front
// of it.
func targets(b *testing.B) (direct, proxy, viaGateway target, captured *count, g *gateway.Gateway) {
	serve := func(h http.Handler) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		srv := &http.Server{Handler: h}
		go func() { _ = srv.Serve(l) }()
		b.Cleanup(func() { _ = srv.Close() })
		return "http://" + l.Addr().String()
	}
	transport := func() *http.Transport {
		t := &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true}
		b.Cleanup(t.CloseIdleConnections)
		return t
	}
	up := serve(http.HandlerFunc(benchUpstream))
	u, _ := url.Parse(up)
	captured = new(count)
	g, err := gateway.New(gateway.Config{
		Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: up}}, Append: captured,
		Authorize: func(string, *http.Request) (gateway.Grant, error) { return gateway.Grant{ProjectID: "p"}, nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = g.Close(context.Background()) })
	of := func(name, url string) target { return target{name, url, &http.Client{Transport: transport()}} }
	return of("direct", up), of("reverseproxy", serve(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }, Transport: transport()})), of("hedgerow", serve(g)), captured, g
}

func (w target) call(b testing.TB, body, buf []byte) (total, first time.Duration) {
	req, err := http.NewRequest("POST", w.url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	req.Header["Content-Type"] = []string{"application/json"}
	req.Header["Authorization"] = []string{"Bearer sk-bench"}
	t := time.Now()
	resp, err := w.client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	_, err = resp.Body.Read(buf)
	first = time.Since(t)
	for err == nil {
		_, err = resp.Body.Read(buf)
	}
	// httputil.ReverseProxy of Go 1.26 cuts off about one response in 20,000 on
	// its own, with "use of closed network connection".
	if err != io.EOF && w.name != "reverseproxy" {
		b.Error(err)
	}
	return time.Since(t), first
}

var benchBodies = []struct {
	name string
	body []byte
}{{"json", benchRequest}, {"stream", benchStream}, {"inject", benchInject}, {"paced", benchPaced}}

// BenchmarkCall measures sequential calls to each target. Allocations are of
// the whole process; the gateway's are the difference.
func BenchmarkCall(b *testing.B) {
	for _, c := range benchBodies {
		direct, proxy, viaGateway, _, _ := targets(b)
		for _, w := range []target{direct, proxy, viaGateway} {
			b.Run(c.name+"/"+w.name, func(b *testing.B) {
				buf := make([]byte, 32<<10)
				b.ReportAllocs()
				for b.Loop() {
					w.call(b, c.body, buf)
				}
			})
		}
	}
}

// BenchmarkAgainstReverseProxy sends the same calls through both alternately
// and reports the gateway's throughput relative to the proxy's, and what it
// adds to the median latency and time to first token. Each iteration is a
// round; the result is the median over the rounds.
func BenchmarkAgainstReverseProxy(b *testing.B) {
	for _, c := range benchBodies {
		for _, callers := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/%d_callers", c.name, callers), func(b *testing.B) {
				_, proxy, viaGateway, captured, g := targets(b)
				perRound := 800
				if c.name == "paced" {
					perRound = 100
				}
				var ratios, p50s, ttfts []float64
				rounds := func(w target) (elapsed time.Duration, p50, ttft time.Duration) {
					var mu sync.Mutex
					var lat, first []time.Duration
					var wg sync.WaitGroup
					start := time.Now()
					for range callers {
						wg.Go(func() {
							buf := make([]byte, 32<<10)
							for range perRound / callers {
								t, f := w.call(b, c.body, buf)
								mu.Lock()
								lat, first = append(lat, t), append(first, f)
								mu.Unlock()
							}
						})
					}
					wg.Wait()
					for w.name == "hedgerow" && g.Stats().QueueDepth > 0 { // includes capture
						time.Sleep(50 * time.Microsecond)
					}
					return time.Since(start), median(lat), median(first)
				}
				rounds(proxy)
				rounds(viaGateway)
				total := int64(perRound / callers * callers)
				for b.Loop() {
					pt, pp, pf := rounds(proxy)
					ht, hp, hf := rounds(viaGateway)
					total += int64(perRound / callers * callers)
					ratios = append(ratios, pt.Seconds()/ht.Seconds())
					p50s, ttfts = append(p50s, float64(hp-pp)/1e3), append(ttfts, float64(hf-pf)/1e3)
				}
				if captured.n.Load() != total {
					b.Errorf("%d of %d calls captured", captured.n.Load(), total)
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(median(ratios), "of-proxy")
				b.ReportMetric(median(p50s), "added-p50-µs")
				b.ReportMetric(median(ttfts), "added-ttft-µs")
			})
		}
	}
}

func median[T float64 | time.Duration](v []T) T {
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkPass measures the gateway's own part of a call to an upstream that
// responds immediately, without a client's share.
func BenchmarkPass(b *testing.B) {
	for _, c := range benchBodies {
		b.Run(c.name, func(b *testing.B) {
			_, _, _, _, g := targets(b)
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("POST", "/v1/chat/completions", bytes.NewReader(c.body))
				r.Header["Content-Type"] = []string{"application/json"}
				g.ServeHTTP(discard{http.Header{}}, r)
			}
		})
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
func (d discard) FlushError() error           { return nil }

// away is an Appender whose journal is unavailable.
type away struct{}

func (away) Append(context.Context, ...*event.Event) error {
	return event.NewError(event.CodeUnavailable, "the journal cannot write", "", nil)
}

// BenchmarkJournalUnavailable measures calls alternately while the journal is
// available and while it is not: both must be equally fast.
func BenchmarkJournalUnavailable(b *testing.B) {
	direct, _, _, _, _ := targets(b)
	serve := func(a gateway.Appender) target {
		g, err := gateway.New(gateway.Config{
			Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: direct.url}}, Append: a,
			Authorize: func(string, *http.Request) (gateway.Grant, error) { return gateway.Grant{ProjectID: "p"}, nil },
		})
		if err != nil {
			b.Fatal(err)
		}
		srv := httptest.NewServer(g)
		b.Cleanup(func() {
			srv.Close()
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = g.Close(ctx)
		})
		return target{"", srv.URL, &http.Client{Transport: &http.Transport{DisableCompression: true}}}
	}
	turns := []target{serve(new(count)), serve(away{})}
	var took [2]time.Duration
	buf := make([]byte, 32<<10)
	n := 0
	for b.Loop() {
		for range 100 {
			for i, w := range turns {
				d, _ := w.call(b, benchRequest, buf)
				took[i] += d
			}
			n++
		}
	}
	b.ReportMetric(float64(took[0].Microseconds())/float64(n), "µs/call")
	b.ReportMetric(float64(took[1].Microseconds())/float64(n), "µs/call-away")
	b.ReportMetric(100*(float64(took[1])/float64(took[0])-1), "%slower")
}
