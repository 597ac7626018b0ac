package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/query"
)

// usage is a process's CPU time and resident memory, by /proc.
func (p *proc) usage() (cpu time.Duration, rss int64) {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 22 {
		return 0, 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	sys, _ := strconv.ParseInt(f[12], 10, 64)
	pages, _ := strconv.ParseInt(f[21], 10, 64)
	return time.Duration(user+sys) * 10 * time.Millisecond, pages * int64(os.Getpagesize())
}

// TestIngestLoad measures events a second accepted with the journal's
// acknowledgement, and how long after the last of them all can be queried. It runs
// when HEDGEROW_LOAD says for how long (10s), and prints; it sets no limits,
// since its clients share the machine with what they measure.
func TestIngestLoad(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("HEDGEROW_LOAD"))
	if err != nil {
		t.Skip("HEDGEROW_LOAD=10s runs it")
	}
	for _, c := range []struct{ batch, size int }{{100, 1 << 10}, {20, 1 << 10}, {1, 1 << 10}, {100, 16 << 10}} {
		t.Run(fmt.Sprintf("batch=%d/size=%d", c.batch, c.size), func(t *testing.T) {
			w := newWorld(t)
			w.env = append(w.env, "HEDGEROW_JOURNAL_MAX_BYTES=16GiB", "HEDGEROW_DEBUG_PPROF=1", "POSTHOG_API_KEY=")
			p := w.start()
			token := regexp.MustCompile(`phc_hedgerow_\w+`).FindString(p.stdout())
			if token == "" {
				t.Fatal("no project token in " + p.stdout())
			}
			var accepted, failed, peak atomic.Int64
			before, _ := p.usage()
			start := time.Now()
			stop := make(chan struct{})
			go func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(50 * time.Millisecond):
						_, rss := p.usage()
						peak.Store(max(peak.Load(), rss))
					}
				}
			}()
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					id := event.NewID()
					one := fmt.Sprintf(`{"event":"$ai_generation","uuid":"%s","distinct_id":"user-1","timestamp":"%s","properties":{"$lib":"posthog-node","$ai_provider":"openai","$ai_model":"gpt-4.1-mini-2025-04-14","$ai_model_parameters":{"temperature":0.2},"$ai_input":[{"role":"user","content":"`, id, time.Now().UTC().Format(time.RFC3339Nano))
					end := `"}],"$ai_output_choices":[{"role":"assistant","content":"Of course."}],"$ai_http_status":200,"$ai_input_tokens":120,"$ai_output_tokens":30,"$ai_latency":0.813,"$ai_trace_id":"trace-1","$process_person_profile":false}}`
					one += strings.Repeat("lorem ipsum ", c.size)[:max(0, c.size-len(one)-len(end))] + end
					body := []byte(`{"api_key":"` + token + `","batch":[` + strings.TrimSuffix(strings.Repeat(one+",", c.batch), ",") + `]}`)
					var at []int
					for i := 0; ; {
						k := bytes.Index(body[i:], []byte(id))
						if k < 0 {
							break
						}
						at = append(at, i+k)
						i += k + len(id)
					}
					for time.Since(start) < length {
						for _, k := range at {
							copy(body[k:], event.NewID())
						}
						res, err := http.Post(p.base+"/batch/", "application/json", bytes.NewReader(body))
						if err != nil || res.StatusCode != 200 {
							failed.Add(1)
							continue
						}
						res.Body.Close()
						accepted.Add(int64(c.batch))
					}
				})
			}
			wg.Wait()
			took := time.Since(start)
			n := accepted.Load()
			after, _ := p.usage()
			var stats query.Stats
			for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
				p.get("/api/v1/stats", &stats)
				if stats.Totals.Calls >= n || time.Now().After(deadline) {
					break
				}
			}
			close(stop)
			t.Logf("%d events in %v: %.0f a second accepted, %d failed; %.2f cores, %.1f µs CPU an event; all queried %v later (%d); peak %d MiB",
				n, took.Round(time.Millisecond), float64(n)/took.Seconds(), failed.Load(), (after-before).Seconds()/took.Seconds(), float64((after-before).Microseconds())/float64(n),
				(time.Since(start) - took).Round(time.Millisecond), stats.Totals.Calls, peak.Load()>>20)
		})
	}
}

// TestIngestCrash kills hedgerow with SIGKILL at random moments during ingest.
// Each event that was answered with a 200 is stored, once, however short before:
// a 2xx is the promise. HEDGEROW_CRASH_ROUNDS sets how often.
func TestIngestCrash(t *testing.T) {
	rounds := 5
	if n, err := strconv.Atoi(os.Getenv("HEDGEROW_CRASH_ROUNDS")); err == nil {
		rounds = n
	}
	w := newWorld(t)
	var mu sync.Mutex
	promised := make(map[string]bool)
	p := w.start()
	for range rounds {
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					ids := make([]string, 10)
					events := make([]string, len(ids))
					for i := range ids {
						ids[i] = event.NewID()
						events[i] = `{"event":"crash","distinct_id":"d","uuid":"` + ids[i] + `"}`
					}
					body := `{"api_key":"` + phKey + `","batch":[` + strings.Join(events, ",") + `]}`
					for range 2 { // as SDKs do: the same once more
						res, err := http.Post(p.base+"/batch/", "application/json", strings.NewReader(body))
						if err != nil {
							continue
						}
						res.Body.Close()
						if res.StatusCode == 200 {
							mu.Lock()
							for _, id := range ids {
								promised[id] = true
							}
							mu.Unlock()
							break
						}
					}
				}
			})
		}
		time.Sleep(time.Duration(100+rand.IntN(400)) * time.Millisecond)
		p.kill()
		close(stop)
		wg.Wait()
		p = w.start()
	}
	if len(promised) < rounds*100 {
		t.Fatalf("only %d events were accepted in %d rounds: no load", len(promised), rounds)
	}
	var stored map[string]int
	w.await(60*time.Second, func() bool {
		stored = make(map[string]int)
		for _, e := range p.stored("event=crash") {
			stored[e.UUID]++
		}
		for id := range promised {
			if stored[id] == 0 {
				return false
			}
		}
		return true
	}, func() string {
		return fmt.Sprintf("%d events promised, %d stored\n%s", len(promised), len(stored), p.logs())
	})
	for id, n := range stored {
		if n != 1 {
			t.Errorf("%s is stored %d times", id, n)
		}
	}
	t.Logf("%d rounds, %d events promised, %d stored", rounds, len(promised), len(stored))
	p.stop()
}
