package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/health"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// recovery is the maximum time until everything is recorded again after a
// fault.
const recovery = 5 * time.Second

// smallDisk is a file system of a few megabytes.
type smallDisk struct {
	t   testing.TB
	dir string
}

// newSmallDisk mounts one, which requires root.
func newSmallDisk(t testing.TB, megabytes int) *smallDisk {
	t.Helper()
	d := &smallDisk{t: t, dir: t.TempDir()}
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		t.Skipf("NOT TESTED: what happens on a full disk, because a tmpfs cannot be mounted here (run as root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *smallDisk) free() int64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &st); err != nil {
		d.t.Fatal(err)
	}
	return int64(st.Bavail) * int64(st.Bsize)
}

// leave resizes the filler so that the given number of megabytes is free; 0
// leaves no byte.
func (d *smallDisk) leave(megabytes int64) {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.dir, "filler"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		d.t.Fatal(err)
	}
	size := info.Size() + d.free() - megabytes<<20
	if err := f.Truncate(min(info.Size(), max(size, 0))); err != nil {
		d.t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	for at := min(info.Size(), max(size, 0)); at < size || megabytes == 0; at += int64(len(block)) {
		if _, err := f.WriteAt(block, at); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *smallDisk) clear() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "filler")); err != nil {
		d.t.Fatal(err)
	}
}

// batch sends one event to ingest and returns the response.
func (p *proc) batch(token, uuid string) (status int, retryAfter string, err error) {
	body := fmt.Sprintf(`{"api_key":%q,"batch":[{"event":"$ai_generation","uuid":%q,"distinct_id":"ada","properties":{"$ai_trace_id":%q,"$ai_input":[{"role":"user","content":"kept at home"}]}}]}`, token, uuid, uuid)
	resp, err := http.Post(p.base+"/batch/", "application/json", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Retry-After"), nil
}

// traffic makes gateway calls and sends events sequentially until it is ended,
// and keeps the responses.
type traffic struct {
	mu       sync.Mutex
	bad      []string // gateway calls whose response was not the provider's
	calls    int
	accepted []string // uuids of events with a 2xx
	refused  int
	odd      []string // responses of ingest that are neither
	stop     context.CancelFunc
	wg       sync.WaitGroup
}

func startTraffic(p *proc, token string) *traffic {
	ctx, cancel := context.WithCancel(context.Background())
	x := &traffic{stop: cancel}
	x.wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			status, body, err := p.post(ctx, "/v1/chat/completions", "", chatBody, "X-PostHog-Trace-Id", "disk-"+strconv.Itoa(i))
			x.mu.Lock()
			x.calls++
			if ctx.Err() == nil && (err != nil || status != http.StatusOK || !strings.Contains(body, `"choices"`)) {
				x.bad = append(x.bad, fmt.Sprintf("call %d: %d %v %s", i, status, err, body))
			}
			x.mu.Unlock()
			time.Sleep(2 * time.Millisecond)
		}
	})
	x.wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			uuid := fmt.Sprintf("0192b1c0-7e1a-7c3e-9a51-%012d", i)
			status, retry, err := p.batch(token, uuid)
			x.mu.Lock()
			switch {
			case err == nil && status == http.StatusOK:
				x.accepted = append(x.accepted, uuid)
			case err == nil && status == http.StatusServiceUnavailable && retry != "":
				x.refused++
			default:
				x.odd = append(x.odd, fmt.Sprintf("event %d: %d %q %v", i, status, retry, err))
			}
			x.mu.Unlock()
			time.Sleep(2 * time.Millisecond)
		}
	})
	return x
}

func (x *traffic) refusals() int { x.mu.Lock(); defer x.mu.Unlock(); return x.refused }
func (x *traffic) taken() int    { x.mu.Lock(); defer x.mu.Unlock(); return len(x.accepted) }

func (p *proc) metric(name string) float64 {
	p.w.t.Helper()
	resp, err := http.Get(p.base + "/metrics")
	if err != nil {
		p.w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(b)
	if m == nil {
		return -1
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return v
}

// TestDiskFull fills the disk under traffic, step by step, and frees it again.
func TestDiskFull(t *testing.T) {
	d := newSmallDisk(t, 240) // min_free_disk is a quarter: 60 MB
	w := newWorld(t)
	w.dir = filepath.Join(d.dir, "data")
	p := w.start()
	token := p.token()
	x := startTraffic(p, token)
	level := func(want float64) {
		t.Helper()
		w.await(func() bool { return p.metric("hedgerow_disk_level") == want }, func() string {
			return fmt.Sprintf("hedgerow_disk_level is %v, want %v\n%s", p.metric("hedgerow_disk_level"), want, p.logs())
		})
	}
	w.await(func() bool { return x.taken() > 50 }, func() string { return "no traffic\n" + p.logs() })

	d.leave(105) // below 120
	level(1)
	if status, r := p.ready(""); status != http.StatusOK || r.Status != "degraded" || !strings.Contains(r.component("disk").Message, "retention runs early") {
		t.Errorf("with little space: %d %+v", status, r)
	}
	d.leave(75) // below 90
	level(2)
	if status, _, err := p.batch(token, "0192b1c0-7e1a-7c3e-9a51-aaaaaaaaaaaa"); status != http.StatusOK {
		t.Errorf("an event without space for its content: %d %v", status, err)
	}
	e := p.awaitStored("trace_id=0192b1c0-7e1a-7c3e-9a51-aaaaaaaaaaaa", 1)[0]
	if string(e.Properties["content_dropped"]) != `"disk"` || e.ContentState == query.ContentKept {
		t.Errorf("its content was stored, or it is not marked: %+v", e)
	}
	if n := p.metric("hedgerow_disk_content_dropped_total"); n < 1 {
		t.Errorf("hedgerow_disk_content_dropped_total is %v", n)
	}
	if status, _ := p.ready("?for=ingest"); status != http.StatusOK {
		t.Errorf("/readyz?for=ingest is %d while events are accepted", status)
	}

	d.leave(40) // below 60
	level(3)
	before := x.refusals()
	w.await(func() bool { return x.refusals() > before+10 }, func() string { return "ingest does not reject\n" + p.logs() })
	if status, r := p.ready(""); status != http.StatusOK || r.component("journal").Status != health.OK {
		t.Errorf("%d %+v", status, r)
	}

	d.leave(0)
	w.await(func() bool { _, r := p.ready(""); return r.component("journal").Status == health.Failed }, func() string { return "the journal writes on a full disk?\n" + p.logs() })
	for query, want := range map[string]int{"": 200, "?for=ingest": 503, "?for=store": 503} {
		if status, r := p.ready(query); status != want || r.Status != "degraded" || len(r.Components) < 8 {
			t.Errorf("/readyz%s on a full disk: %d %+v", query, status, r)
		}
	}
	time.Sleep(3 * time.Second) // under traffic
	select {
	case <-p.done:
		t.Fatalf("hedgerow ended:\n%s", p.logs())
	default:
	}

	d.clear()
	freed := time.Now()
	var again time.Time
	for n := 0; again.IsZero(); n++ {
		if time.Since(freed) > recovery {
			t.Fatalf("ingest still refuses after %v\n%s", recovery, p.logs())
		}
		if status, _, _ := p.batch(token, fmt.Sprintf("0192b1c0-7e1a-7c3e-9a52-%012d", n)); status == http.StatusOK {
			again = time.Now()
		}
		time.Sleep(20 * time.Millisecond)
	}
	// A call from here on is recorded completely.
	var status int
	for n := 0; ; n++ {
		trace := "after-" + strconv.Itoa(n)
		status, _, _ = p.post(t.Context(), "/v1/chat/completions", "", chatBody, "X-PostHog-Trace-Id", trace)
		if status != http.StatusOK {
			t.Fatalf("call after the disk was freed: %d", status)
		}
		if time.Since(freed) > recovery {
			if list := p.awaitStored("trace_id="+trace, 1); list[0].ContentState != query.ContentKept {
				t.Errorf("a call %v after the disk was freed has no content: %+v", time.Since(freed), list[0])
			}
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.await(func() bool { _, r := p.ready(""); return r.Status == "ok" }, func() string {
		_, r := p.ready("")
		return fmt.Sprintf("not healthy: %+v\n%s", r, p.logs())
	})
	x.stop()
	x.wg.Wait()
	if len(x.bad) > 0 {
		t.Errorf("%d of %d gateway calls failed: %s", len(x.bad), x.calls, x.bad[0])
	}
	if len(x.odd) > 0 {
		t.Errorf("%d unexpected responses of ingest: %s", len(x.odd), x.odd[0])
	}
	// No acknowledged event is lost, and none is stored twice.
	var missing, doubled []string
	for deadline := time.Now().Add(patience / 4); ; time.Sleep(time.Second) {
		got := make(map[string]int)
		for _, e := range p.stored("") {
			got[e.UUID]++
		}
		missing, doubled = nil, nil
		for _, uuid := range x.accepted {
			switch got[uuid] {
			case 0:
				missing = append(missing, uuid)
			case 1:
			default:
				doubled = append(doubled, uuid)
			}
		}
		if len(missing) == 0 || time.Now().After(deadline) {
			break
		}
	}
	if len(missing)+len(doubled) > 0 {
		t.Errorf("of %d accepted events %d are lost and %d doubled: %v %v\n%s", len(x.accepted), len(missing), len(doubled), missing, doubled, p.logs())
	}
	t.Logf("%d calls, %d events accepted, %d refused; ingest took events again %v after the disk was freed", x.calls, len(x.accepted), x.refused, again.Sub(freed).Round(time.Millisecond))
	p.stop()
}

// TestStartOnFullDisk starts hedgerow with a new folder on a full disk, and
// again with a folder that has settings.
func TestStartOnFullDisk(t *testing.T) {
	d := newSmallDisk(t, 200)
	w := newWorld(t)
	w.dir = filepath.Join(d.dir, "data")
	d.leave(0)
	p := w.launch()
	serves := func() bool {
		resp, err := http.Get(p.base + "/readyz")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	}
	w.await(serves, func() string { return "it does not serve on a full disk\n" + p.logs() })
	call := func(trace string) {
		t.Helper()
		status, body, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody, "X-PostHog-Trace-Id", trace)
		if err != nil || status != http.StatusOK || !strings.Contains(body, `"choices"`) {
			t.Fatalf("a call on a full disk: %d %v %s\n%s", status, err, body, p.logs())
		}
	}
	call("early")
	if status, retry, err := p.batch("phc_hedgerow_unknown", "0192b1c0-7e1a-7c3e-9a51-000000000001"); status != http.StatusServiceUnavailable || retry == "" {
		t.Errorf("ingest: %d, Retry-After %q, %v", status, retry, err)
	}
	for query, want := range map[string]int{"": 200, "?for=ingest": 503, "?for=store": 503, "?for=web": 503} {
		if status, r := p.ready(query); status != want || r.Status != "degraded" {
			t.Errorf("/readyz%s: %d %+v", query, status, r)
		}
	}
	w.await(func() bool { return strings.Contains(p.stdout(), "forwards calls, but cannot record them yet") }, p.logs)
	if out := p.stdout(); !strings.Contains(out, "fix: free disk space") {
		t.Errorf("standard output does not say what to do:\n%s", out)
	}
	resp, err := http.Get(p.base + "/overview")
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(page), "ree disk space") || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		t.Errorf("the page: %d %s", resp.StatusCode, page)
	}

	d.clear()
	freed := time.Now()
	w.await(func() bool { return strings.Contains(p.stdout(), "  PostHog ") }, func() string { return "no banner\n" + p.logs() })
	took := time.Since(freed)
	if took > recovery {
		t.Errorf("the first project was created %v after the disk was freed", took)
	}
	w.key = regexp.MustCompile(`API key\s+(hr_\w+)`).FindStringSubmatch(p.stdout())[1]
	w.await(func() bool { status, _ := p.ready("?for=web"); return status == http.StatusOK }, p.logs)
	call("late")
	p.awaitStored("trace_id=late", 1)
	w.await(func() bool {
		status, _, _ := p.batch(p.token(), "0192b1c0-7e1a-7c3e-9a51-000000000002")
		return status == http.StatusOK
	}, func() string { return "ingest still refuses\n" + p.logs() })
	p.awaitStored("trace_id=0192b1c0-7e1a-7c3e-9a51-000000000002", 1)
	w.await(func() bool { return len(w.ph.Events()) >= 2 }, func() string { return "PostHog has not received them\n" + p.logs() })
	t.Logf("banner %v after the disk was freed", took.Round(time.Millisecond))
	p.stop()

	d.leave(0)
	p = w.launch()
	w.await(serves, func() string { return "it does not serve with an old folder on a full disk\n" + p.logs() })
	call("old-folder")
	// The settings are known: a valid key is accepted, and a wrong one is
	// rejected.
	for key, want := range map[string]int{w.key: http.StatusOK, "hr_wrong": http.StatusUnauthorized} {
		if status, body, err := p.post(t.Context(), "/v1/chat/completions", "", chatBody, "X-Hedgerow-Key", key); status != want {
			t.Errorf("a call with the key %.8s…: %d %v %s, want %d", key, status, err, body, want)
		}
	}
	d.clear()
	freed = time.Now()
	w.await(func() bool { _, r := p.ready("?for=ingest"); return r.Status == "ok" }, func() string { return "not healthy again\n" + p.logs() })
	t.Logf("an old folder: healthy %v after the disk was freed", time.Since(freed).Round(time.Millisecond))
	call("free-again")
	p.awaitStored("trace_id=old-folder", 1) // it waited in memory
	p.awaitStored("trace_id=free-again", 1)
	p.stop()
}
