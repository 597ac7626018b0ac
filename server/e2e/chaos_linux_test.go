package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// chaosDisk is the size of the file system, in megabytes, that holds the data folder.
const chaosDisk = 600

// TestChaos lets random faults happen under gateway and ingest load, one after the
// other, on one data folder. It asserts:
//
//   - while a process runs, every gateway call gets the provider's response;
//   - ingest returns 200, or 503 with Retry-After, and nothing else;
//   - an acknowledged event is stored once and is at PostHog at most once, unless the
//     test itself damaged all the bytes that held it;
//   - a gateway call is recorded once, unless it ended within 250 ms of a SIGKILL or
//     waited in memory for a journal that could not write when the SIGKILL came;
//   - ingest takes events again within 5 s of the end of a fault.
//
// HEDGEROW_CHAOS_ROUNDS sets the number of faults; make chaos runs 200. A folder
// takes chaosFolder of them, since each round checks all that is stored.
// HEDGEROW_CHAOS_SEED repeats a run's faults.
func TestChaos(t *testing.T) {
	rounds, seed := 10, uint64(time.Now().UnixNano())
	if n, err := strconv.Atoi(os.Getenv("HEDGEROW_CHAOS_ROUNDS")); err == nil {
		rounds = n
	}
	if n, err := strconv.ParseUint(os.Getenv("HEDGEROW_CHAOS_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("HEDGEROW_CHAOS_SEED=%d", seed)
	all := &chaosTotals{recovered: make(map[string][]time.Duration)}
	for folder := range (rounds + chaosFolder - 1) / chaosFolder {
		t.Run(strconv.Itoa(folder), func(t *testing.T) {
			chaosIn(t, all, rand.New(rand.NewPCG(seed, uint64(folder+1))), min(chaosFolder, rounds-folder*chaosFolder))
		})
		if t.Failed() {
			break
		}
	}
	t.Logf("%d rounds; %d gateway calls with a response, %d of them while a process was down; %d events acknowledged, %d refused; %d stored; of %d that only the store had when the test damaged it, %d are lost\n%s",
		rounds, all.answered, all.down, all.acknowledged, all.refused, all.stored, all.risked, all.lost, all.table())
}

// chaosFolder is the number of faults on one data folder.
const chaosFolder = 20

// chaosTotals are the sums over all folders.
type chaosTotals struct {
	answered, down, acknowledged, refused, stored, risked, lost int
	recovered                                                   map[string][]time.Duration
}

func chaosIn(t *testing.T, all *chaosTotals, rng *rand.Rand, rounds int) {
	c := &chaos{
		t: t, w: newWorld(t), disk: newSmallDisk(t, chaosDisk), rng: rng, all: all,
		accepted: make(map[string]int), calls: make(map[string]int),
	}
	c.w.dir = filepath.Join(c.disk.dir, "data")
	c.w.env = append(c.w.env, "HEDGEROW_UPSTREAM_TIMEOUT=2s")
	c.p = c.w.start()
	c.token = c.p.token()
	c.w.flushFast()
	faults := []fault{
		{"kill", c.kill}, {"disk full", c.fillDisk}, {"disk full, kill", c.fillDiskAndKill}, {"half-open connections", c.exhaustConnections},
		{"PostHog misbehaves", c.failPostHog}, {"provider misbehaves", c.failProvider},
		{"damaged store", c.damageStore}, {"damaged settings", c.damageSettings}, {"damaged journal", c.damageJournal}, {"store deleted", c.deleteStore},
	}
	var order []fault
	for round := range rounds {
		if round%len(faults) == 0 { // each kind as often as the others, in random order
			order = slices.Clone(faults)
			c.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		f := order[round%len(faults)]
		c.round = round
		c.traffic = c.startTraffic("before")
		time.Sleep(time.Duration(150+c.rng.IntN(250)) * time.Millisecond)
		over := f.do()
		c.awaitRecovery(f.name, over)
		c.traffic.end()
		x := c.startTraffic("after")
		time.Sleep(150 * time.Millisecond)
		x.end()
		c.tidy()
		if t.Failed() {
			t.Fatalf("round %d, %s\n%s", round, f.name, tail(c.p.logs()))
		}
	}
	c.verify()
	all.answered, all.down, all.acknowledged, all.refused = all.answered+c.answered, all.down+c.down, all.acknowledged+c.acknowledged, all.refused+c.refused
	c.p.stop()
}

// fault is a simulated failure. do starts and ends it, and returns when it
// ended.
type fault struct {
	name string
	do   func() time.Time
}

// chaos is the state of a run.
type chaos struct {
	t     *testing.T
	w     *world
	disk  *smallDisk
	rng   *rand.Rand
	p     *proc
	token string
	round int

	traffic *chaosTraffic // of this round

	mu       sync.Mutex
	dead     bool           // no process is listening
	downs    int            // how often it became true
	accepted map[string]int // uuid of an acknowledged event and its round
	calls    map[string]int // trace of a gateway call that must be recorded, and its round
	answered int

	acknowledged int // events
	down         int // calls that failed while no process was listening
	refused      int
	all          *chaosTotals

	lostJournal int      // last round in which the journal's own files were damaged
	risked      []string // events that only the store had when the test damaged it
}

// sims are the provider behaviors that gateway calls request, and the status
// code that the caller must get. 0: the response is cut off.
var sims = []struct {
	sim    string
	stream bool
	status int
}{
	{"", false, 200}, {"", true, 200}, {"", false, 200}, {"rate_limit", false, 429}, {"server_error", false, 500}, {"bad_request", false, 400},
	{"not_json", false, 502}, {"reset", false, 502}, {"mid_reset", true, 0}, {"quota", false, 429}, {"unauthorized", false, 401},
}

type chaosTraffic struct {
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// end may be called repeatedly.
func (x *chaosTraffic) end() { x.stop(); x.wg.Wait() }

// startTraffic makes gateway calls and sends events until it is ended.
func (c *chaos) startTraffic(when string) *chaosTraffic {
	ctx, cancel := context.WithCancel(context.Background())
	x := &chaosTraffic{stop: cancel}
	round, p := c.round, c.p
	for worker := range 2 {
		x.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				c.gatewayCall(p, fmt.Sprintf("chaos-%d-%s-%d-%d", round, when, worker, i), i)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	x.wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			uuid := fmt.Sprintf("0192b1c0-7e1a-7c3e-9a5%d-%04d%08d", len(when)%10, round, i)
			down := c.downAt()
			status, retry, err := p.batch(c.token, uuid)
			c.mu.Lock()
			switch {
			case err == nil && status == http.StatusOK:
				c.accepted[uuid] = round
				c.acknowledged++
			case err == nil && status == http.StatusServiceUnavailable && retry != "":
				c.refused++
			case err != nil && (down != c.downs || c.dead):
			default:
				c.t.Errorf("round %d: ingest returned %d, Retry-After %q, %v", round, status, retry, err)
			}
			c.mu.Unlock()
			time.Sleep(5 * time.Millisecond)
		}
	})
	return x
}

func (c *chaos) downAt() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.downs
}

func (c *chaos) gatewayCall(p *proc, trace string, i int) {
	s := sims[i%len(sims)]
	body := chatBody
	if s.stream {
		body = strings.Replace(chatBody, `{"model"`, `{"stream":true,"model"`, 1)
	}
	down := c.downAt()
	status, answer, err := p.post(context.Background(), "/v1/chat/completions", s.sim, body, "X-PostHog-Trace-Id", trace)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || down != c.downs {
		c.down++
		return
	}
	c.answered++
	if (s.status == 0) != (err != nil) || s.status != 0 && status != s.status {
		c.t.Errorf("round %d: a call with %q returned %d %.200s %v, want %d", c.round, s.sim, status, answer, err, s.status)
	}
	c.calls[trace] = c.round
}

// stopProcess sends SIGKILL. Calls in progress may fail, and those of the last
// moments need not be recorded.
func (c *chaos) stopProcess() {
	c.mu.Lock() // calls up to here end long enough before; later ones are not required
	safe := maps.Clone(c.calls)
	c.mu.Unlock()
	time.Sleep(700 * time.Millisecond) // the guarantee is 250 ms; the machine may be busy
	c.mu.Lock()
	c.dead = true
	c.downs++
	c.mu.Unlock()
	c.p.kill()
	c.mu.Lock()
	c.calls = safe
	c.mu.Unlock()
}

func (c *chaos) startProcess() {
	c.p = c.w.launch() // at the same address, so that the traffic continues
	c.awaitGateway()
	c.mu.Lock()
	c.dead = false
	c.downs++
	c.mu.Unlock()
}

// awaitGateway waits until calls are forwarded.
func (c *chaos) awaitGateway() {
	c.w.await(func() bool {
		resp, err := http.Get(c.p.base + "/readyz")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	}, func() string { return "no gateway after a start\n" + tail(c.p.logs()) })
}

// awaitRecovery waits until ingest accepts events and reports how long that
// took.
func (c *chaos) awaitRecovery(name string, over time.Time) {
	stalls := watchStalls()
	c.w.await(func() bool {
		status, r := c.p.ready("?for=ingest")
		return status == http.StatusOK && len(r.Components) > 0
	}, func() string {
		_, r := c.p.ready("")
		return fmt.Sprintf("round %d, %s: no recovery: %+v\n%s", c.round, name, r, tail(c.p.logs()))
	})
	took := time.Since(over)
	if stall := stalls(); took > recovery+4*stall && !strings.Contains(name, "damaged") && !strings.Contains(name, "kill") {
		c.t.Errorf("round %d, %s: recovered after %v, want %v at most (this process was stalled for %v)", c.round, name, took, recovery, stall)
	}
	c.all.recovered[name] = append(c.all.recovered[name], took)
}

func (c *chaos) kill() time.Time {
	c.stopProcess()
	over := time.Now()
	c.startProcess()
	return over
}

func (c *chaos) fillDisk() time.Time {
	c.disk.leave(0)
	time.Sleep(time.Duration(500+c.rng.IntN(1500)) * time.Millisecond)
	c.disk.clear()
	return time.Now()
}

// fillDiskAndKill: calls that wait in memory because the disk is full are lost
// with the process, so only earlier ones are required.
func (c *chaos) fillDiskAndKill() time.Time {
	// The previous fault may have just ended, with calls still waiting.
	earlier := func() (n int) {
		for _, k := range c.missing() {
			if strings.HasPrefix(k, "chaos-") && !strings.HasPrefix(k, fmt.Sprintf("chaos-%d-", c.round)) {
				n++
			}
		}
		return n
	}
	c.w.await(func() bool { return earlier() == 0 }, func() string {
		return fmt.Sprintf("round %d: %d calls of earlier rounds are not stored\n%s", c.round, earlier(), tail(c.p.logs()))
	})
	c.mu.Lock()
	safe := make(map[string]int, len(c.calls))
	for k, v := range c.calls {
		if v < c.round {
			safe[k] = v
		}
	}
	c.mu.Unlock()
	c.disk.leave(0)
	time.Sleep(500 * time.Millisecond)
	c.stopProcess()
	c.mu.Lock()
	c.calls = safe
	c.mu.Unlock()
	c.startProcess()
	time.Sleep(time.Second)
	c.disk.clear()
	return time.Now()
}

// exhaustConnections opens more connections than the server accepts, each with
// half of a header, while traffic continues over new connections too.
func (c *chaos) exhaustConnections() time.Time {
	var open []net.Conn
	for range 400 {
		conn, err := net.DialTimeout("tcp", c.w.addr, time.Second)
		if err != nil {
			break
		}
		_, _ = conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\nX-Half: "))
		open = append(open, conn)
	}
	time.Sleep(time.Second)
	for _, conn := range open {
		conn.Close()
	}
	return time.Now()
}

func (c *chaos) failPostHog() time.Time {
	switch c.rng.IntN(5) {
	case 0:
		c.w.ph.SetDown(true)
		time.Sleep(time.Second)
		c.w.ph.SetDown(false)
	case 1:
		c.w.ph.Fail(simposthog.Fault{Times: 3, Status: 500})
	case 2:
		c.w.ph.Fail(simposthog.Fault{Times: 2, Status: 429, RetryAfter: "1"})
	case 3:
		c.w.ph.Fail(simposthog.Fault{Times: 2, Accept: true, Reset: true})
	default: // PostHog has the events that it returned 200 for, even if the response was cut off
		c.w.ph.Fail(simposthog.Fault{Times: 2, Delay: time.Second, Accept: true, Status: 200, Partial: true, Body: `{"status":"Ok"}`})
	}
	time.Sleep(500 * time.Millisecond)
	return time.Now()
}

// failProvider adds responses that hang until the gateway's timeout to each
// round's calls.
func (c *chaos) failProvider() time.Time {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			down := c.downAt()
			status, _, err := c.p.post(context.Background(), "/v1/chat/completions", "hang", chatBody)
			if down == c.downAt() && (err != nil || status != http.StatusGatewayTimeout) {
				c.t.Errorf("round %d: a provider that hangs: %d %v", c.round, status, err)
			}
		})
	}
	wg.Wait()
	return time.Now()
}

// settle waits until both the store and PostHog have every acknowledged event,
// so that each is in two places before one of them is damaged.
func (c *chaos) settle() {
	c.w.await(func() bool { return len(c.missing()) == 0 }, func() string {
		m := c.missing()
		return fmt.Sprintf("round %d: %d acknowledged events are not stored, such as %v\n%s", c.round, len(m), m[:min(5, len(m))], tail(c.p.logs()))
	})
	n := len(c.stored())
	c.w.await(func() bool { return len(c.w.ph.Events()) >= n }, func() string {
		sent := make(map[string]bool)
		for _, e := range c.w.ph.Events() {
			sent[e.UUID] = true
		}
		var missing []string
		for _, e := range c.stored() {
			if !sent[e.UUID] {
				missing = append(missing, e.Name+" "+e.UUID+" "+e.TraceID)
			}
		}
		_, status := c.p.send(context.Background(), "GET", "/api/v1/status", "")
		return fmt.Sprintf("round %d: PostHog has %d of %d; it lacks %v\n%s\n%s", c.round, len(c.w.ph.Events()), n, missing[:min(5, len(missing))], status, tail(c.p.logs()))
	})
}

// damage ends the traffic, waits until the store and PostHog have everything,
// kills the process, and damages one of the files.
func (c *chaos) damage(pattern string, how func(path string)) time.Time {
	c.traffic.end()
	c.settle()
	c.mu.Lock()
	c.dead = true
	c.downs++
	c.mu.Unlock()
	c.p.kill()
	files, err := filepath.Glob(filepath.Join(c.w.dir, pattern))
	if err != nil {
		c.t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(f string) bool { st, err := os.Stat(f); return err != nil || st.IsDir() || st.Size() == 0 })
	if len(files) > 0 {
		slices.Sort(files)
		how(files[c.rng.IntN(len(files))])
	}
	over := time.Now()
	c.startProcess()
	return over
}

// overwrite writes 64 random bytes at a random position, or truncates the file.
func (c *chaos) overwrite(path string) {
	st, err := os.Stat(path)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.rng.IntN(4) == 0 {
		if err := os.Truncate(path, c.rng.Int64N(st.Size())); err != nil {
			c.t.Fatal(err)
		}
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	junk := make([]byte, 64)
	for i := range junk {
		junk[i] = byte(c.rng.Uint32())
	}
	if _, err := f.WriteAt(junk, c.rng.Int64N(max(1, st.Size()-64))); err != nil {
		c.t.Fatal(err)
	}
}

func (c *chaos) damageStore() time.Time {
	pattern := []string{"hedgerow.duckdb", "hedgerow.duckdb.wal"}[c.rng.IntN(2)]
	return c.damage(pattern, c.storeGone)
}

func (c *chaos) storeGone(path string) {
	c.overwrite(path)
	c.excuse()
}

// excuse removes events from the requirements that only the store may have had,
// because the journal's copy was damaged earlier. Whether they are really lost
// is counted at the end.
func (c *chaos) excuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range []map[string]int{c.accepted, c.calls} {
		for k, round := range m {
			if round <= c.lostJournal {
				delete(m, k)
				c.risked = append(c.risked, k)
			}
		}
	}
}

func (c *chaos) damageSettings() time.Time {
	pattern := []string{"journal/jetstream/*/streams/KV_*/msgs/*.blk", "journal/jetstream/*/streams/KV_*/meta.inf", "settings/*.json"}[c.rng.IntN(3)]
	return c.damage(pattern, c.overwrite)
}

func (c *chaos) damageJournal() time.Time {
	pattern := []string{"journal/jetstream/*/streams/EVENTS/msgs/*.blk", "journal/jetstream/*/streams/EVENTS/meta.inf", "journal/jetstream/*/streams/EVENTS/obs/*/o.dat"}[c.rng.IntN(3)]
	return c.damage(pattern, func(path string) {
		c.overwrite(path)
		c.lostJournal = c.round
	})
}

func (c *chaos) deleteStore() time.Time {
	return c.damage("hedgerow.duckdb", func(path string) {
		_ = os.Remove(path)
		_ = os.Remove(path + ".wal")
		c.excuse()
	})
}

// tidy removes files that were set aside, so that hundreds of rounds fit on the
// disk.
func (c *chaos) tidy() {
	for _, pattern := range []string{"hedgerow.duckdb*damaged-*", "hedgerow.duckdb*.damaged*", "journal/damaged/*"} {
		files, _ := filepath.Glob(filepath.Join(c.w.dir, pattern))
		for _, f := range files {
			_ = os.RemoveAll(f)
		}
	}
}

// stored returns the events of the store. A query that reads a damaged block is
// rejected once, and succeeds on the rebuilt store.
func (c *chaos) stored() []*query.Event {
	c.t.Helper()
	var answer string
	c.w.await(func() bool {
		var status int
		status, answer = c.p.send(c.t.Context(), "GET", "/api/v1/events?limit=1000", "")
		for cursor := ""; status == http.StatusOK; {
			var page query.EventsPage
			if err := json.Unmarshal([]byte(answer), &page); err != nil {
				c.t.Fatal(err)
			}
			if cursor = page.Next; cursor == "" {
				return true
			}
			status, answer = c.p.send(c.t.Context(), "GET", "/api/v1/events?limit=1000&cursor="+url.QueryEscape(cursor), "")
		}
		return false
	}, func() string { return answer + tail(c.p.logs()) })
	return c.p.stored("")
}

// missing are the acknowledged events and recorded calls that the store lacks.
func (c *chaos) missing() []string {
	got := make(map[string]bool)
	for _, e := range c.stored() {
		got[e.UUID], got[e.TraceID] = true, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, m := range []map[string]int{c.accepted, c.calls} {
		for k := range m {
			if !got[k] {
				out = append(out, k)
			}
		}
	}
	return out
}

// verify checks the guarantees at the end of the run.
func (c *chaos) verify() {
	t := c.t
	c.w.await(func() bool { return len(c.missing()) == 0 }, func() string {
		m := c.missing()
		slices.Sort(m)
		return fmt.Sprintf("%d events and calls are lost, such as %v\n%s", len(m), m[:min(10, len(m))], tail(c.p.logs()))
	})
	uuids, traces := make(map[string]int), make(map[string]int)
	for _, e := range c.stored() {
		uuids[e.UUID]++
		if strings.HasPrefix(e.TraceID, "chaos-") {
			traces[e.TraceID]++
		}
	}
	for what, m := range map[string]map[string]int{"event": uuids, "call": traces} {
		for k, n := range m {
			if n != 1 {
				t.Errorf("%s %s is stored %d times", what, k, n)
			}
		}
	}
	sent := make(map[string]bool)
	for _, e := range c.w.ph.Events() {
		// PostHog merges events with the same uuid, name, time and person.
		sent[e.UUID] = true
	}
	lost := 0
	for _, k := range c.risked {
		if uuids[k]+traces[k] == 0 {
			lost++
		}
	}
	t.Logf("%d stored, %d at PostHog; of %d that only the store had when the test damaged it, %d are lost", len(uuids), len(sent), len(c.risked), lost)
	c.all.stored, c.all.risked, c.all.lost = c.all.stored+len(uuids), c.all.risked+len(c.risked), c.all.lost+lost
}

// table returns the recovery times as Markdown.
func (c *chaosTotals) table() string {
	var b strings.Builder
	b.WriteString("| fault | rounds | recovered after, median | at most |\n|---|---|---|---|\n")
	names := make([]string, 0, len(c.recovered))
	for name := range c.recovered {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		list := slices.Sorted(slices.Values(c.recovered[name]))
		fmt.Fprintf(&b, "| %s | %d | %v | %v |\n", name, len(list), list[len(list)/2].Round(time.Millisecond), list[len(list)-1].Round(time.Millisecond))
	}
	return b.String()
}

func tail(s string) string { return s[max(0, len(s)-6000):] }
