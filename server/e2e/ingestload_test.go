package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// usage returns a process's CPU time and resident memory, from /proc.
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

// ingestLoad is the load of one shape of events, and its results.
type ingestLoad struct {
	batch, size int     // events per request, bytes per event
	rate        float64 // maximum events per second; 0 for as many as possible

	accepted, failed atomic.Int64
	late             atomic.Int64 // requests that were started more than 100 ms late
}

// send posts batches until length is over. Each event has its own uuid.
func (l *ingestLoad) send(url, token string, length time.Duration, clients int) {
	start := time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			id := event.NewID()
			one := fmt.Sprintf(`{"event":"$ai_generation","uuid":"%s","distinct_id":"user-1","timestamp":"%s","properties":{"$lib":"posthog-node","$ai_provider":"openai","$ai_model":"gpt-4.1-mini-2025-04-14","$ai_model_parameters":{"temperature":0.2},"$ai_input":[{"role":"user","content":"`, id, time.Now().UTC().Format(time.RFC3339Nano))
			end := `"}],"$ai_output_choices":[{"role":"assistant","content":"Of course."}],"$ai_http_status":200,"$ai_input_tokens":120,"$ai_output_tokens":30,"$ai_latency":0.813,"$ai_trace_id":"trace-1","$process_person_profile":false}}`
			one += prose(max(0, l.size-len(one)-len(end))) + end
			body := []byte(`{"api_key":"` + token + `","batch":[` + strings.TrimSuffix(strings.Repeat(one+",", l.batch), ",") + `]}`)
			var at []int
			for i := 0; ; {
				k := bytes.Index(body[i:], []byte(id))
				if k < 0 {
					break
				}
				at = append(at, i+k)
				i += k + len(id)
			}
			for n := 0; time.Since(start) < length; n++ {
				if l.rate > 0 {
					due := time.Duration(float64(n*l.batch*clients) / l.rate * float64(time.Second))
					behind := time.Since(start) - due
					time.Sleep(-behind)
					if behind > 100*time.Millisecond {
						l.late.Add(1)
					}
				}
				for _, k := range at {
					copy(body[k:], event.NewID())
				}
				res, err := http.Post(url+"/batch/", "application/json", bytes.NewReader(body))
				if err != nil {
					l.failed.Add(1)
					continue
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != 200 {
					l.failed.Add(1)
					continue
				}
				l.accepted.Add(int64(l.batch))
			}
		})
	}
	wg.Wait()
}

// prose is n characters that compress about as well as text; a repeated
// sentence would compress to nothing.
func prose(n int) string {
	words := strings.Fields("the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were all her she there would their we him been has when who will no more if out so up said what its about than into them can only other time new some could these two may first then do any like my now over such our man me even most made after also did many off before must well back through years where much your way down should because long each just state those people too mr how little good world make very year still see own work men day get here between both life being under three never know same last another while us might great old go come since against right used take")
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(' ')
		if r.IntN(6) == 0 {
			b.WriteString(strconv.Itoa(r.IntN(10_000)) + ", ")
		}
	}
	return b.String()[:n]
}

// watcher samples a process under load.
type watcher struct {
	peak atomic.Int64  // resident bytes
	lag  time.Duration // longest time between an event's acknowledgement and its storage
}

var counters = regexp.MustCompile(`(?m)^hedgerow_(journal_appended|store_events_stored)_total (\S+)$`)

// watch samples until stop is closed: memory every 20 ms; and how long ago the
// journal had as many events as the store has now.
func (x *watcher) watch(p *proc, stop chan struct{}) {
	type sample struct {
		at       time.Time
		appended float64
	}
	var history []sample
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		_, rss := p.usage()
		x.peak.Store(max(x.peak.Load(), rss))
		if i%5 > 0 {
			continue
		}
		res, err := http.Get(p.base + "/metrics")
		if err != nil {
			continue
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		v := make(map[string]float64)
		for _, m := range counters.FindAllSubmatch(b, -1) {
			v[string(m[1])], _ = strconv.ParseFloat(string(m[2]), 64)
		}
		now := time.Now()
		history = append(history, sample{now, v["journal_appended"]})
		for len(history) > 1 && history[0].appended <= v["store_events_stored"] {
			history = history[1:]
		}
		if history[0].appended > v["store_events_stored"] {
			x.lag = max(x.lag, now.Sub(history[0].at))
		}
	}
}

// TestIngestLoad measures events a second accepted with the journal's
// acknowledgement and stored, how long an event takes from the one to the other,
// and what that costs. It prints, and sets no limits: its clients share the
// machine with what they measure.
//
//	HEDGEROW_LOAD=10s            runs it, so long for each shape
//	HEDGEROW_LOAD_RATE=40000     sends so many events of 1 KB a second (of 16 KB, a tenth), not as many as are taken
//	HEDGEROW_LOAD_PROFILE=folder writes profiles of CPU and allocations there
func TestIngestLoad(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("HEDGEROW_LOAD"))
	if err != nil {
		t.Skip("HEDGEROW_LOAD=10s runs it")
	}
	rate, _ := strconv.ParseFloat(os.Getenv("HEDGEROW_LOAD_RATE"), 64)
	for _, size := range []int{1 << 10, 16 << 10} {
		for _, batch := range []int{100, 20, 1} {
			t.Run(fmt.Sprintf("size=%d/batch=%d", size, batch), func(t *testing.T) {
				w := newWorld(t)
				w.env = append(w.env, "HEDGEROW_JOURNAL_MAX_BYTES=16GiB", "HEDGEROW_DEBUG_PPROF=1", "POSTHOG_API_KEY=")
				p := w.start()
				token := regexp.MustCompile(`phc_hedgerow_\w+`).FindString(p.stdout())
				if token == "" {
					t.Fatal("no project token in " + p.stdout())
				}
				l := &ingestLoad{batch: batch, size: size, rate: rate}
				if size > 1<<10 {
					l.rate /= 10
				}
				var x watcher
				var watching sync.WaitGroup
				stop := make(chan struct{})
				watching.Go(func() { x.watch(p, stop) })
				if dir := os.Getenv("HEDGEROW_LOAD_PROFILE"); dir != "" {
					watching.Go(func() {
						res, err := http.Get(fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", p.base, int(length.Seconds())))
						if err != nil {
							t.Error(err)
							return
						}
						defer res.Body.Close()
						b, _ := io.ReadAll(res.Body)
						name := filepath.Join(dir, fmt.Sprintf("%d-%d", size, batch))
						if err := os.WriteFile(name+".cpu.pb.gz", b, 0o644); err != nil {
							t.Error(err)
						}
						if res, err = http.Get(p.base + "/debug/pprof/allocs"); err == nil {
							b, _ = io.ReadAll(res.Body)
							res.Body.Close()
							err = os.WriteFile(name+".allocs.pb.gz", b, 0o644)
						}
						if err != nil {
							t.Error(err)
						}
					})
				}
				before, _ := p.usage()
				start := time.Now()
				l.send(p.base, token, length, 8)
				took := time.Since(start)
				n := l.accepted.Load()
				var stats query.Stats
				for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
					p.get("/api/v1/stats", &stats)
					if stats.Totals.Calls >= n || time.Now().After(deadline) {
						break
					}
				}
				all := time.Since(start)
				after, _ := p.usage()
				close(stop)
				watching.Wait()
				t.Logf("%.0f events/s accepted, %.0f/s stored; lag %v; %.1f µs CPU an event; peak %d MiB; %d events, %d requests failed, %d late",
					float64(n)/took.Seconds(), float64(stats.Totals.Calls)/all.Seconds(), x.lag.Round(time.Millisecond), float64((after-before).Microseconds())/float64(n), x.peak.Load()>>20, n, l.failed.Load(), l.late.Load())
				if stats.Totals.Calls != n {
					t.Errorf("%d events are stored", stats.Totals.Calls)
				}
			})
		}
	}
}

// TestIngestCrash kills hedgerow with SIGKILL at random moments during ingest.
// Each event that got a 200 is stored exactly once, however shortly before.
// HEDGEROW_CRASH_ROUNDS sets the number of rounds.
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
					for range 2 { // sent again, as SDKs do
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
	w.await(func() bool {
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
