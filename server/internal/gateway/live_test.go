package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// TestCapturedSoon checks that a call is with the Appender 100 ms after the end
// of its response. The best of several attempts counts, since the machine may
// be busy.
func TestCapturedSoon(t *testing.T) {
	r, _ := simulate(t, gateway.Config{})
	best := time.Hour
	for n := range 5 {
		chat(t, r.url, streamBody)
		ended := time.Now()
		r.sink.await(t, n+1)
		r.sink.mu.Lock()
		best = min(best, r.sink.at[n].Sub(ended))
		r.sink.mu.Unlock()
	}
	if best > 100*time.Millisecond {
		t.Errorf("captured %v after the end of the response", best)
	}
}

// TestBlockedJournal checks that calls are forwarded while the journal does not
// respond.
func TestBlockedJournal(t *testing.T) {
	r, _ := simulate(t, gateway.Config{Limits: gateway.Limits{Queue: 4, Workers: 1}})
	release := make(chan struct{})
	r.sink.fail = func(int, []*event.Event) error { <-release; return nil }
	const calls = 200
	for range calls {
		if got := chat(t, r.url, chatBody); got.status != 200 || got.err != nil {
			t.Fatalf("%d %v", got.status, got.err)
		}
	}
	r.quiet(t)
	s := r.Stats()
	dropped := s.Dropped["queue_full"]
	if s.QueueDepth+dropped != calls || dropped == 0 {
		t.Errorf("%+v of %d calls", s, calls)
	}
	if n := r.metric(t, "hedgerow_gateway_capture_dropped_total", "reason=queue_full"); int64(n) != dropped {
		t.Errorf("metric has %v drops, Stats %d", n, dropped)
	}
	if !strings.Contains(r.logs.String(), "calls were not recorded") {
		t.Errorf("not logged: %s", r.logs)
	}
	close(release)
	r.sink.await(t, calls-int(dropped))
}

// TestCloseRecordsAll closes right after many concurrent calls.
func TestCloseRecordsAll(t *testing.T) {
	r, _ := simulate(t, gateway.Config{})
	var wg sync.WaitGroup
	c := client(t)
	for range 8 {
		wg.Go(func() {
			for range 25 {
				req, _ := http.NewRequestWithContext(t.Context(), "POST", r.url+"/openai/v1/chat/completions", strings.NewReader(streamBody))
				req.Header.Set("Authorization", "Bearer sk")
				if a := do(t, c, req); a.err != nil || a.status != 200 {
					t.Errorf("%d %v", a.status, a.err)
				}
			}
		})
	}
	wg.Wait()
	r.quiet(t)
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, e := range r.sink.all() {
		seen[e.UUID] = true
	}
	if len(seen) != 200 || len(r.sink.all()) != 200 {
		t.Errorf("%d events, %d of them different, want 200", len(r.sink.all()), len(seen))
	}
	for _, name := range []string{"request_bytes", "response_bytes", "capture_queue_depth", "capture_queue_bytes", "in_flight"} {
		if n := r.metric(t, "hedgerow_gateway_"+name); n != 0 {
			t.Errorf("%s is %v after Close", name, n)
		}
	}
	if n := r.metric(t, "hedgerow_gateway_added_seconds"); n != 200 {
		t.Errorf("added time was measured for %v calls", n)
	}
}

// TestUpgrade sends data over an upgraded connection, as WebSockets do.
func TestUpgrade(t *testing.T) {
	arrived := make(chan http.Header, 1)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.Header.Clone()
		if r.Header.Get("Upgrade") != "websocket" {
			w.WriteHeader(http.StatusUpgradeRequired)
			return
		}
		conn, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: realtime\r\n\r\nhello")
		_, _ = io.Copy(conn, brw.Reader)
	}))
	defer up.Close()
	open := func(t *testing.T, r *rig) (io.ReadWriteCloser, *bufio.Reader) {
		conn, br := dial(t, r.url)
		fmt.Fprintf(conn, "GET /openai/v1/realtime?model=gpt-realtime HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Key: k\r\nSec-WebSocket-Protocol: realtime, openai-insecure-api-key.%s\r\nX-Hedgerow-Surface: Voice\r\n\r\nearly", hedgeKey)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" || resp.Header.Get("Sec-Websocket-Protocol") != "realtime" {
			t.Fatalf("%d %v", resp.StatusCode, resp.Header)
		}
		buf := make([]byte, 10)
		if _, err := io.ReadFull(br, buf); err != nil || string(buf) != "helloearly" {
			t.Fatalf("%q %v", buf, err)
		}
		return conn, br
	}
	t.Run("both directions", func(t *testing.T) {
		r := start(t, gateway.Config{Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: up.URL}}, Authorize: authorize})
		conn, br := open(t, r)
		got := receive(t, arrived, "the upgrade")
		if got.Get("Authorization") != "Bearer "+providerKey || got.Get("Sec-Websocket-Protocol") != "realtime" || got.Get("Sec-Websocket-Key") != "k" || got.Get("X-Hedgerow-Surface") != "" {
			t.Errorf("arrived: %v", got)
		}
		buf := make([]byte, 5)
		for range 3 {
			_, _ = io.WriteString(conn, "again")
			if _, err := io.ReadFull(br, buf); err != nil || string(buf) != "again" {
				t.Fatalf("%q %v", buf, err)
			}
		}
		conn.Close()
		e := r.one(t)
		if e.HTTPStatus != 101 || e.Surface != "Voice" || e.RequestBytes != 20 || e.ResponseBytes != 25 || e.IsError {
			t.Errorf("status %d, surface %q, %d bytes up, %d down, error %q", e.HTTPStatus, e.Surface, e.RequestBytes, e.ResponseBytes, e.ErrorType)
		}
	})
	t.Run("closing ends it", func(t *testing.T) {
		r := start(t, gateway.Config{Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: up.URL}}, Authorize: authorize})
		_, br := open(t, r)
		receive(t, arrived, "the upgrade")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := br.ReadByte(); err == nil {
			t.Error("the connection is still open")
		}
	})
	t.Run("refused", func(t *testing.T) {
		r := start(t, at(up.URL))
		got := call(t, "GET", r.url+"/openai/v1/realtime", "")
		receive(t, arrived, "the call")
		if got.status != http.StatusUpgradeRequired {
			t.Errorf("%d", got.status)
		}
	})
}

// heap runs f and returns the largest growth of the heap in use during it.
func heap(f func()) (peak int64) {
	read := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse)
	}
	runtime.GC()
	before := read()
	stop, done := make(chan struct{}), make(chan int64)
	go func() {
		top := int64(0)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				top = max(top, read())
			case <-stop:
				done <- max(top, read())
				return
			}
		}
	}()
	f()
	close(stop)
	return <-done - before
}

// blocks is a response or upload of n bytes that needs no memory.
type blocks struct{ n int64 }

var block = bytes.Repeat([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"hedgerow\"}}]}\n\n"), 600)

func (b *blocks) Read(p []byte) (int, error) {
	if b.n == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), b.n)], block)
	b.n -= int64(n)
	return n, nil
}

// TestLargeBodies forwards large bodies in bounded memory, including the client
// and the upstream in this process.
func TestLargeBodies(t *testing.T) {
	const megabyte = 1 << 20
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", r.Header.Get("X-Answer"))
		size := int64(0)
		_, _ = fmt.Sscan(r.Header.Get("X-Size"), &size)
		if size == 0 {
			fmt.Fprint(w, n)
			return
		}
		_, _ = io.Copy(struct{ io.Writer }{w}, &blocks{size})
	}))
	defer up.Close()
	image := func(quoted int64) (io.Reader, int64) {
		head, tail := `{"model":"gpt-4.1-mini","stream":true,"session_id":"s","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,`, `"}}]}]}`
		return io.MultiReader(strings.NewReader(head), io.LimitReader(zeros{}, quoted), strings.NewReader(tail)), int64(len(head)+len(tail)) + quoted
	}
	for _, c := range []struct {
		name               string
		request, response  int64
		kind, responseType string
		chunked            bool
		limit              int64
	}{
		{name: "25 MB of base64 images", request: 25 * megabyte, kind: "application/json", responseType: "application/json", limit: 100 * megabyte},
		{name: "25 MB of base64 images, chunked", request: 25 * megabyte, kind: "application/json", responseType: "application/json", chunked: true, limit: 160 * megabyte},
		{name: "200 MB upload", request: 200 * megabyte, kind: "application/octet-stream", responseType: "application/json", limit: 12 * megabyte},
		{name: "200 MB of JSON upload", request: 200 * megabyte, kind: "application/json", responseType: "application/json", limit: 12 * megabyte},
		{name: "200 MB JSON", response: 200 * megabyte, responseType: "application/json", limit: 24 * megabyte},
		{name: "200 MB stream", response: 200 * megabyte, responseType: "text/event-stream", limit: 24 * megabyte},
		{name: "200 MB audio", response: 200 * megabyte, responseType: "audio/mpeg", limit: 12 * megabyte},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, at(up.URL))
			chat(t, r.url, chatBody) // opens connections, fills pools
			r.sink.await(t, 1)
			var sent int64
			grew := heap(func() {
				var body io.Reader
				length := int64(0)
				if c.request > 0 {
					body, length = image(c.request)
					sent = length
				}
				req, _ := http.NewRequestWithContext(t.Context(), "POST", r.url+"/openai/v1/chat/completions", body)
				if !c.chunked {
					req.ContentLength = length
				}
				req.Header.Set("Content-Type", c.kind)
				req.Header.Set("X-Answer", c.responseType)
				req.Header.Set("X-Size", fmt.Sprint(c.response))
				resp, err := client(t).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				n, err := io.Copy(io.Discard, resp.Body)
				if err != nil || c.response > 0 && n != c.response {
					t.Errorf("%d bytes received: %v", n, err)
				}
				r.sink.await(t, 2)
			})
			e := r.sink.all()[1]
			if e.RequestBytes != sent || c.response > 0 && e.ResponseBytes != c.response || e.HTTPStatus != 200 {
				t.Errorf("recorded %d bytes up, %d down, status %d", e.RequestBytes, e.ResponseBytes, e.HTTPStatus)
			}
			if size := e.Content.Size(); size > event.MaxEventBytes {
				t.Errorf("the event has %d bytes of content", size)
			}
			t.Logf("the heap grew by %.1f MB at most", float64(grew)/megabyte)
			if grew > c.limit {
				t.Errorf("the heap grew by %d MB, want at most %d", grew/megabyte, c.limit/megabyte)
			}
		})
	}
}

// zeros is an endless base64 image.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'A'
	}
	return len(p), nil
}

// TestBudgets has many responses in progress: beyond the budget they are still
// forwarded, and less of them is recorded.
func TestBudgets(t *testing.T) {
	body := strings.Repeat("x", 100<<10)
	var open sync.WaitGroup
	open.Add(10)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"a":"`+body)
		_ = http.NewResponseController(w).Flush()
		open.Done()
		open.Wait() // until all have started
		_, _ = io.WriteString(w, `"}`)
	}))
	defer up.Close()
	c := at(up.URL)
	c.Limits = gateway.Limits{ResponseBudget: 300 << 10}
	r := start(t, c)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if got := call(t, "POST", r.url+"/openai/v1/x", chatBody); got.err != nil || got.body != `{"a":"`+body+`"}` {
				t.Errorf("%d bytes %v", len(got.body), got.err)
			}
		})
	}
	wg.Wait()
	for _, e := range r.sink.await(t, 10) {
		if e.ResponseBytes != int64(len(body)+8) {
			t.Errorf("%d bytes recorded", e.ResponseBytes)
		}
	}
	r.quiet(t)
	if n := r.metric(t, "hedgerow_gateway_response_bytes"); n != 0 {
		t.Errorf("%v bytes of the budget were not released", n)
	}
}

// TestReusesConnections has many calls, including streams, share one connection
// to the provider.
func TestReusesConnections(t *testing.T) {
	var mu sync.Mutex
	opened := 0
	up := httptest.NewUnstartedServer(newUpstreamCases(t).Config.Handler)
	up.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			mu.Lock()
			opened++
			mu.Unlock()
		}
	}
	up.Start()
	defer up.Close()
	r := start(t, at(up.URL))
	for _, kind := range []string{"json", "sse", "gzip", "big", "trailers", "nothing", "teapot", "chunked", "x", "json"} {
		call(t, "POST", r.url+"/openai/v1/"+kind, chatBody)
	}
	mu.Lock()
	defer mu.Unlock()
	if opened != 1 {
		t.Errorf("%d connections were opened for 10 sequential calls", opened)
	}
}

// TestNeverRetries has a provider disconnect after it has read a call, which
// may have cost money by then.
func TestNeverRetries(t *testing.T) {
	for _, body := range []string{chatBody, streamBody} {
		calls := make(chan string, 10)
		up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			calls <- string(b)
			if len(calls) > 1 { // the first opens the connection
				panic(http.ErrAbortHandler)
			}
		}))
		r := start(t, at(up.URL))
		chat(t, r.url, chatBody)
		if got := chat(t, r.url, body); got.status != 502 {
			t.Errorf("status %d", got.status)
		}
		if len(calls) != 2 {
			t.Errorf("the call was sent %d times", len(calls)-1)
		}
		up.Close()
	}
}

// TestAddedTimeOfEveryRoute checks the added time of calls of every kind and
// outcome.
func TestAddedTimeOfEveryRoute(t *testing.T) {
	r, _ := simulate(t, gateway.Config{Upstreams: map[string]gateway.Upstream{"down": {BaseURL: refusedAddr(t)}}})
	for provider, path := range map[string]string{
		"openai": "/openai/v1/models", "anthropic": "/v1/messages", "openrouter": "/openrouter/api/v1/chat/completions",
		"azure": "/azure/r/openai/deployments/d/embeddings", "gemini": "/gemini/v1beta/models", "down": "/down/v1/anything",
	} {
		call(t, "POST", r.url+path, streamBody, "Authorization: Bearer sk")
		r.quiet(t)
		if n := r.metric(t, "hedgerow_gateway_added_seconds", "provider="+provider); n != 1 {
			t.Errorf("%s: added time was measured for %v calls", path, n)
		}
	}
	r.sink.await(t, 6)
}
