// Command bench says what the gateway costs. In one run, against the same
// loopback upstream, it measures in turn: direct, through a bare
// httputil.ReverseProxy, and through hedgerow with full capture and its store at
// work; with -base also through another version of hedgerow. It prints requests a
// second, latency, time to first token, CPU time a call, and their ratios.
// Upstream, proxy and hedgerow are processes of their own, so that hedgerow's memory
// and CPU are its own.
//
// Figures from one machine are comparable with each other only: read the ratios.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	role     = flag.String("role", "", "internal: upstream or reverseproxy")
	target   = flag.String("target", "", "internal: the reverse proxy's target")
	binary   = flag.String("bin", "bin/hedgerow", "the hedgerow to measure")
	base     = flag.String("base", "", "another hedgerow to measure in the same run")
	rounds   = flag.Int("rounds", 5, "rounds; each measures every way once, and medians are printed")
	duration = flag.Duration("duration", 2*time.Second, "length of one measurement")
	paced    = flag.Duration("paced", 15*time.Second, "length of the memory measurement at 1,000 calls a second")
	only     = flag.String("only", "", "gateway, memory, idle or faults: that alone")
	profile  = flag.String("cpuprofile", "", "file for a CPU profile of hedgerow under load")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	switch *role {
	case "upstream":
		serve(http.HandlerFunc(upstream))
	case "reverseproxy":
		u, err := url.Parse(*target)
		check(err)
		p := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }, Transport: transport(),
			ErrorLog: log.New(io.Discard, "", 0)} // callers that disconnect at the end of a round
		serve(p)
	default:
		measureAll()
	}
}

func check(err error) {
	if err != nil {
		log.Fatal("bench: ", err)
	}
}

func transport() *http.Transport {
	return &http.Transport{MaxIdleConns: 2000, MaxIdleConnsPerHost: 2000, DisableCompression: true, IdleConnTimeout: time.Minute}
}

// serve listens on a free loopback port, prints its URL and serves until killed.
func serve(h http.Handler) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Println("http://" + l.Addr().String())
	check(http.Serve(l, h))
}

var (
	answer = []byte(`{"id":"chatcmpl-bench","object":"chat.completion","created":1760000000,"model":"gpt-4.1-mini-2025-04-14","choices":[{"index":0,"message":{"role":"assistant","content":"` +
		strings.Repeat("A hedge keeps the wind out and lets the birds in. ", 12) +
		`","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1024,"completion_tokens":160,"total_tokens":1184,"prompt_tokens_details":{"cached_tokens":512},"completion_tokens_details":{"reasoning_tokens":0}},"service_tier":"default","system_fingerprint":"fp_bench"}`)
	chunk = []byte(`data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4.1-mini-2025-04-14","choices":[{"index":0,"delta":{"content":"hedge "},"finish_reason":null}]}` + "\n\n")
	tail  = []byte(`data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4.1-mini-2025-04-14","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n")
	usage = []byte(`data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4.1-mini-2025-04-14","choices":[],"usage":{"prompt_tokens":1024,"completion_tokens":30,"total_tokens":1054}}` + "\n\ndata: [DONE]\n\n")
)

const chunks = 30

// upstream answers as OpenAI would, at once: 0.9 KB of JSON, or 30 chunks each
// flushed, X-Bench-Gap apart.
func upstream(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if !bytes.Contains(body, []byte(`"stream":true`)) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		_, _ = w.Write(answer)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	gap, _ := time.ParseDuration(r.Header.Get("X-Bench-Gap"))
	f := w.(http.Flusher)
	for range chunks {
		if _, err := w.Write(chunk); err != nil {
			return
		}
		f.Flush()
		if gap > 0 {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(gap):
			}
		}
	}
	_, _ = w.Write(tail)
	_, _ = w.Write(usage)
}

// requestBody is a chat request of about 4 KB. The caller requests usage
// himself, so that every way has the same bytes.
func requestBody(stream bool) []byte {
	b, err := json.Marshal(map[string]any{
		"model": "gpt-4.1-mini", "temperature": 0.2,
		"messages": []map[string]string{
			{"role": "system", "content": "You answer questions about hedges, briefly and kindly."},
			{"role": "user", "content": strings.Repeat("How wide should a hedgerow be for a wren to nest in it? ", 70)},
		},
	})
	check(err)
	if stream {
		b = append(b[:len(b)-1], []byte(`,"stream":true,"stream_options":{"include_usage":true}}`)...)
	}
	return b
}

type process struct {
	cmd *exec.Cmd
	url string
}

func start(name string, args ...string) *process {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(err)
	check(cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	check(err)
	return &process{cmd, strings.TrimSpace(line)}
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}

// startHedgerow starts the real binary on a temporary folder and waits until it
// is ready.
func startHedgerow(binary, upstreamURL, dir string) *process {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	addr := l.Addr().String()
	check(l.Close())
	cmd := exec.Command(binary, "serve", "--listen", addr, "--data", dir, "--log-level", "warn")
	cmd.Env = append(os.Environ(), "HEDGEROW_UPSTREAM_OPENAI="+upstreamURL, "POSTHOG_API_KEY=", "HEDGEROW_DEBUG_PPROF=1")
	cmd.Stderr = os.Stderr
	check(cmd.Start())
	p := &process{cmd, "http://" + addr}
	for range 600 {
		resp, err := http.Get(p.url + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	log.Fatal("bench: hedgerow did not become ready in 30 s")
	return nil
}

type result struct {
	rps                    float64
	p50, p99, ttft50, tt99 time.Duration
	errors                 int64
	cpu                    time.Duration // of the way's own process, a call
}

// load runs closed-loop callers for d and returns what they saw.
func load(base string, body []byte, callers int, d time.Duration, header http.Header) result {
	tr := transport()
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	var mu sync.Mutex
	var lat, ttft []time.Duration
	var failed atomic.Int64
	deadline := time.Now().Add(d)
	var wg sync.WaitGroup
	begin := time.Now()
	for range callers {
		wg.Go(func() {
			var mine, first []time.Duration
			buf := make([]byte, 32<<10)
			for time.Now().Before(deadline) {
				l, f, err := call(client, base, body, header, buf)
				if err != nil {
					failed.Add(1)
					continue
				}
				mine, first = append(mine, l), append(first, f)
			}
			mu.Lock()
			lat, ttft = append(lat, mine...), append(ttft, first...)
			mu.Unlock()
		})
	}
	wg.Wait()
	elapsed := time.Since(begin)
	slices.Sort(lat)
	slices.Sort(ttft)
	return result{float64(len(lat)) / elapsed.Seconds(), at(lat, 0.5), at(lat, 0.99), at(ttft, 0.5), at(ttft, 0.99), failed.Load(), 0}
}

func call(client *http.Client, base string, body []byte, header http.Header, buf []byte) (total, first time.Duration, err error) {
	req, err := http.NewRequest(http.MethodPost, base+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer sk-bench")
	for k, v := range header {
		req.Header[k] = v
	}
	t := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	n, err := resp.Body.Read(buf)
	first = time.Since(t)
	for err == nil {
		_, err = resp.Body.Read(buf)
	}
	if err != io.EOF || n == 0 || resp.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("status %d after %d bytes: %v", resp.StatusCode, n, err)
	}
	return time.Since(t), first, nil
}

func at(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func median[T int | float64 | time.Duration](v []T) T {
	slices.Sort(v)
	return v[len(v)/2]
}

func measureAll() {
	self, err := os.Executable()
	check(err)
	dir, err := os.MkdirTemp("", "hedgerow-bench-")
	check(err)
	defer os.RemoveAll(dir)

	up := start(self, "-role", "upstream")
	defer up.stop()
	if *only == "memory" {
		h := startHedgerow(*binary, up.url, filepath.Join(dir, "data"))
		defer h.stop()
		memory(h)
		return
	}
	if *only == "faults" {
		faults(up.url, dir)
		return
	}
	if *only == "idle" {
		h := startHedgerow(*binary, up.url, filepath.Join(dir, "data"))
		defer h.stop()
		idleAfterLoad(h)
		return
	}
	proxy := start(self, "-role", "reverseproxy", "-target", up.url)
	defer proxy.stop()
	hedge := startHedgerow(*binary, up.url, filepath.Join(dir, "data"))
	defer hedge.stop()

	fmt.Printf("hedgerow bench: %d CPUs, %s, %d rounds of %v each; medians\n", runtime.NumCPU(), runtime.Version(), *rounds, *duration)
	fmt.Printf("request %d bytes, answer %d bytes or %d flushed chunks; upstream, proxy, hedgerow and callers share the CPUs\n\n", len(requestBody(false)), len(answer), chunks)
	type way struct {
		name string
		url  string
		p    *process // whose CPU time is measured; nil for direct
	}
	ways := []way{{"direct", up.url, nil}, {"reverse proxy", proxy.url, proxy}, {"hedgerow", hedge.url, hedge}}
	if *base != "" {
		b := startHedgerow(*base, up.url, filepath.Join(dir, "base"))
		defer b.stop()
		ways = append(ways, way{"base", b.url, b})
	}

	fmt.Printf("%-40s %8s %10s %10s %10s %10s %12s\n", "", "calls/s", "p50", "p99", "ttft p50", "ttft p99", "its CPU/call")
	for _, c := range []struct {
		name    string
		stream  bool
		callers int
	}{
		{"JSON, 1 caller", false, 1},
		{"JSON, 64 callers", false, 64},
		{"stream, 1 caller", true, 1},
		{"stream, 64 callers", true, 64},
	} {
		body := requestBody(c.stream)
		got := make([][]result, len(ways))
		for _, w := range ways { // warm connections and caches
			load(w.url, body, c.callers, 300*time.Millisecond, nil)
		}
		for range *rounds {
			for i, w := range ways {
				var before time.Duration
				if w.p != nil {
					before = cpu(w.p)
				}
				r := load(w.url, body, c.callers, *duration, nil)
				if w.p != nil { // what is left to be stored counts too: it is a call's as well
					time.Sleep(700 * time.Millisecond)
					r.cpu = time.Duration(float64(cpu(w.p)-before) / (r.rps * duration.Seconds()))
				}
				got[i] = append(got[i], r)
			}
		}
		pick := func(i int, f func(result) time.Duration) time.Duration {
			var v []time.Duration
			for _, r := range got[i] {
				v = append(v, f(r))
			}
			return median(v)
		}
		p50 := func(r result) time.Duration { return r.p50 }
		ttft := func(r result) time.Duration { return r.ttft50 }
		for i, w := range ways {
			var rps []float64
			var errs int64
			for _, r := range got[i] {
				rps, errs = append(rps, r.rps), errs+r.errors
			}
			fmt.Printf("%-40s %8.0f %10s %10s %10s %10s", c.name+" · "+w.name, median(rps), us(pick(i, p50)), us(pick(i, func(r result) time.Duration { return r.p99 })),
				us(pick(i, ttft)), us(pick(i, func(r result) time.Duration { return r.tt99 })))
			if w.p != nil {
				fmt.Printf(" %12s", us(pick(i, func(r result) time.Duration { return r.cpu })))
			}
			if errs > 0 {
				fmt.Printf("  %d FAILED", errs)
			}
			fmt.Println()
		}
		for i := 2; i < len(ways); i++ {
			var ratios []float64
			for r := range *rounds {
				ratios = append(ratios, got[i][r].rps/got[1][r].rps)
			}
			fmt.Printf("  → %s / reverse proxy: %.2f of the throughput (rounds %.2f–%.2f); p50 %+d µs, time to first token %+d µs\n", ways[i].name,
				median(ratios), slices.Min(ratios), slices.Max(ratios),
				(pick(i, p50) - pick(1, p50)).Microseconds(), (pick(i, ttft) - pick(1, ttft)).Microseconds())
		}
		fmt.Println()
	}

	if *profile != "" {
		saveProfile(hedge)
	}
	captured(hedge)
	if *only == "gateway" {
		return
	}
	hedge.stop()

	// Memory is measured on a fresh process: what a saturating load left behind
	// is not what 1,000 calls a second need.
	hedge = startHedgerow(*binary, up.url, filepath.Join(dir, "data2"))
	memory(hedge)
	hedge.stop()
	fmt.Println()
	faults(up.url, dir)
}

func us(d time.Duration) string { return fmt.Sprintf("%d µs", d.Microseconds()) }

// captured waits until the queue is empty and prints what was recorded and what
// was dropped: a throughput that drops calls would be no throughput.
func captured(h *process) {
	var m map[string]float64
	for range 100 {
		m = metrics(h)
		if m["hedgerow_gateway_capture_queue_depth"] == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for k := range m {
			if strings.HasPrefix(k, "hedgerow_gateway_capture") || strings.HasPrefix(k, "hedgerow_journal_appended") {
				if !yield(k) {
					return
				}
			}
		}
	}) {
		if !strings.Contains(name, "_bucket") {
			fmt.Printf("%s %.0f\n", name, m[name])
		}
	}
	fmt.Println()
}

func metrics(h *process) map[string]float64 {
	m := make(map[string]float64)
	resp, err := http.Get(h.url + "/metrics")
	if err != nil {
		return m
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if name, v, ok := strings.Cut(s.Text(), " "); ok && !strings.HasPrefix(name, "#") {
			m[name], _ = strconv.ParseFloat(v, 64)
		}
	}
	return m
}

func memory(h *process) {
	rest, file := rss(h)
	fmt.Printf("memory, hedgerow's process (fresh, store at work)\n  at rest                               %4d MB resident (%d of them the binary's)\n", rest, file)
	body := requestBody(false)
	client := &http.Client{Transport: transport()}
	ctx, cancel := context.WithTimeout(context.Background(), *paced)
	defer cancel()
	var sent atomic.Int64
	var paceTop, streamTop peak
	cpu0 := cpu(h)
	var wg sync.WaitGroup
	const workers = 50
	for w := range workers {
		wg.Go(func() {
			buf := make([]byte, 32<<10)
			tick := time.NewTicker(workers * time.Millisecond)
			defer tick.Stop()
			time.Sleep(time.Duration(w) * time.Millisecond)
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					if _, _, err := call(client, h.url, body, nil, buf); err == nil {
						sent.Add(1)
					}
				}
			}
		})
	}
	for ctx.Err() == nil {
		paceTop.look(h)
		time.Sleep(200 * time.Millisecond)
	}
	wg.Wait()
	fmt.Printf("  at %4.0f calls/s of 4 KB for %v      %v, %.0f%% of one CPU\n", float64(sent.Load())/paced.Seconds(), *paced, paceTop, 100*(cpu(h)-cpu0).Seconds()/paced.Seconds())

	const streams = 500
	body = requestBody(true)
	header := http.Header{"X-Bench-Gap": {"200ms"}}
	var open sync.WaitGroup
	for range streams {
		open.Go(func() { _, _, _ = call(client, h.url, body, header, make([]byte, 4<<10)) })
	}
	for range 25 {
		time.Sleep(200 * time.Millisecond)
		streamTop.look(h)
	}
	fmt.Printf("  with %d open streams                 %v\n", streams, streamTop)
	open.Wait()
}

// rss is the resident memory of a process in MB: all of it, and the part that
// is pages of files (of the binary, that is), which the kernel takes back when
// it needs them.
func rss(p *process) (all, file int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			switch f[0] {
			case "VmRSS:":
				all = kb >> 10
			case "RssFile:":
				file = kb >> 10
			}
		}
	}
	return all, file
}

// peak keeps the most that rss has said.
type peak struct{ all, file int64 }

func (k *peak) look(p *process) {
	if all, file := rss(p); all > k.all {
		k.all, k.file = all, file
	}
}

func (k peak) String() string {
	return fmt.Sprintf("%4d MB resident at peak (%d of them the binary's)", k.all, k.file)
}

// cpu is the processor time that a process has used, from /proc (100 ticks a
// second on Linux).
func cpu(p *process) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	sys, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+sys) * 10 * time.Millisecond
}

func saveProfile(h *process) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		load(h.url, requestBody(false), 64, 6*time.Second, nil)
	}()
	resp, err := http.Get(h.url + "/debug/pprof/profile?seconds=5")
	check(err)
	defer resp.Body.Close()
	f, err := os.Create(*profile)
	check(err)
	_, err = io.Copy(f, resp.Body)
	check(err)
	check(f.Close())
	<-done
	fmt.Printf("CPU profile of hedgerow under 64 callers: %s (go tool pprof -top %s)\n", *profile, *profile)
}
