package e2e

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// experimentReport has the fields of an experiment that the test reads.
type experimentReport struct {
	Experiment struct {
		ID         string    `json:"id"`
		StoppedAt  time.Time `json:"stopped_at"`
		StopReason string    `json:"stop_reason"`
		Breaches   []struct {
			Variant                 string `json:"arm"`
			Rollout, Webhook, Email struct {
				State    string
				Attempts int
				Error    string
			}
		}
	}
	Report struct {
		State, Winner, Summary string
		Variants               []struct {
			Key   string
			Users int
		} `json:"arms"`
		Primary struct {
			Differences []struct {
				Interval struct{ Value, Lower, Upper float64 }
			}
		}
		SampleRatio struct{ Mismatch bool } `json:"sample_ratio"`
	}
}

// truth has the real rates of one variant's users.
type truth struct{ resolved, escalated float64 }

// simulate generates users: each gets the rollout's variant and makes one to
// three calls, whose outcomes are reported with the trace id only.
func (p *proc) simulate(prompt string, from, to int, truths map[string]truth) {
	p.w.t.Helper()
	rng := rand.New(rand.NewPCG(uint64(from), 4))
	var batch []map[string]any
	for i := from; i < to; i++ {
		user := fmt.Sprintf("%s-user-%d", prompt, i)
		var got struct {
			Variant    string
			Properties map[string]any
		}
		p.call("POST", "/api/v1/prompts/"+prompt+"/resolve", fmt.Sprintf(`{"distinct_id": %q}`, user), &got)
		for j := range 1 + rng.IntN(3) {
			trace := fmt.Sprintf("%s-%d", user, j)
			props := map[string]any{"$ai_trace_id": trace, "$ai_model": "gpt-4.1-mini", "$ai_provider": "openai", "$ai_latency": 1 + rng.Float64(), "$ai_input_tokens": 900, "$ai_output_tokens": 100, "prompt_name": prompt, "plan": []string{"free", "pro"}[i%2]}
			for k, v := range got.Properties {
				props[k] = v
			}
			batch = append(batch, map[string]any{"event": "$ai_generation", "distinct_id": user, "properties": props},
				map[string]any{"event": "support_ticket_resolved", "distinct_id": "server", "properties": map[string]any{"trace_id": trace, "resolved": rng.Float64() < truths[got.Variant].resolved}},
				map[string]any{"event": "llm_task_completed", "distinct_id": user, "properties": map[string]any{"trace_id": trace, "task_completed": true, "escalated_to_human": rng.Float64() < truths[got.Variant].escalated}})
		}
	}
	for len(batch) > 0 {
		n := min(len(batch), 900)
		body, err := json.Marshal(map[string]any{"api_key": p.token(), "batch": batch[:n]})
		if err != nil {
			p.w.t.Fatal(err)
		}
		p.call("POST", "/batch/", string(body), nil)
		batch = batch[n:]
	}
}

// rollOut creates a prompt with two versions, a rollout to half of the users
// each, and a running experiment; it returns the experiment's id.
func (p *proc) rollOut(prompt string) string {
	p.w.t.Helper()
	p.call("POST", "/api/v1/prompts", fmt.Sprintf(`{"name": %q, "messages": [{"role": "system", "content": "Answer the ticket."}]}`, prompt), nil)
	p.call("POST", "/api/v1/prompts/"+prompt+"/versions", `{"messages": [{"role": "system", "content": "Answer the ticket kindly."}]}`, nil)
	p.call("PUT", "/api/v1/prompts/"+prompt+"/rollout", fmt.Sprintf(`{"flag": "%s-test", "percent": 100, "shares": {"control": 50, "treatment": 50}, "arms": {"control": {"version": "1"}, "treatment": {"version": "2"}}}`, prompt), nil)
	var v experimentReport
	p.call("POST", "/api/v1/experiments", fmt.Sprintf(`{"name": "Kinder %s", "description": "Kindness helps.", "flag": "%s-test", "prompt": %q, "start": true, "arms": [{"key": "control"}, {"key": "treatment"}],
		"primary": {"event": "support_ticket_resolved", "property": "resolved"}, "segments": ["property:plan", "model"], "stop_on_guardrail": true,
		"guardrails": [{"measure": "escalation_rate", "limit": 0.02, "relative": true}, {"measure": "latency_p95_ms", "limit": 4000}, {"measure": "cost_per_task_usd", "limit": 0.03}]}`, prompt, prompt, prompt), &v)
	if v.Report.State != "collecting" {
		p.w.t.Fatalf("a new experiment is %+v", v.Report)
	}
	return v.Experiment.ID
}

func (p *proc) experiment(id string) (v experimentReport) {
	p.w.t.Helper()
	p.call("GET", "/api/v1/experiments/"+id, "", &v)
	return v
}

// mailbox is an SMTP server that keeps its messages.
type mailbox struct {
	addr string
	mu   sync.Mutex
	list []string
}

func newMailbox(t *testing.T) *mailbox {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	m := &mailbox{addr: l.Addr().String()}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go m.serve(conn)
		}
	}()
	return m
}

func (m *mailbox) serve(conn net.Conn) {
	defer conn.Close()
	say := func(s string) { _, _ = io.WriteString(conn, s+"\r\n") }
	say("220 test")
	for in := bufio.NewScanner(conn); in.Scan(); {
		switch line := in.Text(); {
		case line == "DATA":
			say("354 go on")
			var b strings.Builder
			for in.Scan() && in.Text() != "." {
				b.WriteString(in.Text() + "\n")
			}
			m.mu.Lock()
			m.list = append(m.list, b.String())
			m.mu.Unlock()
			say("250 taken")
		case line == "QUIT":
			say("221 bye")
			return
		default:
			say("250 fine")
		}
	}
}

func (m *mailbox) letters() []string { m.mu.Lock(); defer m.mu.Unlock(); return m.list }

// TestExperiments checks that the experiment decides correctly where the truth
// is known, and that a harmful rollout is stopped within a minute, with one
// alert by webhook and mail.
func TestExperiments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	post := newMailbox(t)
	var mu sync.Mutex
	type hook struct {
		body      []byte
		signature string
	}
	var hooks []hook
	fails := 1 // the first attempt is rejected
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if fails > 0 {
			fails--
			rw.WriteHeader(500)
			return
		}
		hooks = append(hooks, hook{b, r.Header.Get("X-Hedgerow-Signature")})
	}))
	defer receiver.Close()
	w.env = append(w.env, "HEDGEROW_SMTP_URL=smtp://"+post.addr, "HEDGEROW_SMTP_FROM=hedgerow@example.com")
	p := w.start()
	var alerts struct{ Secret string }
	p.call("PUT", "/api/v1/alerts", fmt.Sprintf(`{"webhook_url": "%s/hook", "emails": ["oncall@example.com"]}`, receiver.URL), &alerts)

	better := p.rollOut("helpful")
	p.simulate("helpful", 0, 700, map[string]truth{"control": {0.55, 0.05}, "treatment": {0.72, 0.05}})
	var v experimentReport
	w.await(func() bool { v = p.experiment(better); return v.Report.State == "winner" }, func() string { return fmt.Sprintf("no winner: %+v", v.Report) })
	if d := v.Report.Primary.Differences[0].Interval; v.Report.Winner != "treatment" || d.Lower > 0.17 || d.Upper < 0.17 || v.Report.SampleRatio.Mismatch || len(v.Experiment.Breaches) != 0 {
		t.Errorf("%+v", v)
	}
	if n := v.Report.Variants[0].Users + v.Report.Variants[1].Users; n != 700 {
		t.Errorf("%d users, want 700", n)
	}

	harmful := p.rollOut("harmful")
	began := time.Now()
	p.simulate("harmful", 0, 500, map[string]truth{"control": {0.6, 0.05}, "treatment": {0.6, 0.3}})
	sent := time.Now()
	var rollout struct {
		Rollout struct {
			Stopped   bool
			Reason    string
			StoppedBy string    `json:"stopped_by"`
			StoppedAt time.Time `json:"stopped_at"`
		}
	}
	w.await(func() bool {
		p.call("GET", "/api/v1/prompts/harmful/rollout", "", &rollout)
		return rollout.Rollout.Stopped
	}, func() string { return fmt.Sprintf("the rollout is still active: %+v", p.experiment(harmful)) })
	took := rollout.Rollout.StoppedAt.Sub(sent)
	t.Logf("the rollout was stopped %v after the last event, %v after the first", took.Round(100*time.Millisecond), rollout.Rollout.StoppedAt.Sub(began).Round(100*time.Millisecond))
	if took > time.Minute || rollout.Rollout.StoppedBy != "guardrail" || !strings.Contains(rollout.Rollout.Reason, "scalation rate of treatment") {
		t.Errorf("stopped after %v: %+v", took, rollout)
	}
	for i := range 40 {
		var got struct{ Version struct{ Number int } }
		p.call("POST", "/api/v1/prompts/harmful/resolve", fmt.Sprintf(`{"distinct_id": "harmful-user-%d"}`, i), &got)
		if got.Version.Number != 1 {
			t.Fatalf("user %d still gets version %d", i, got.Version.Number)
		}
	}
	w.await(func() bool {
		v = p.experiment(harmful)
		return len(v.Experiment.Breaches) == 1 && v.Experiment.Breaches[0].Webhook.State == "done" && v.Experiment.Breaches[0].Email.State == "done"
	}, func() string { return fmt.Sprintf("no alert was sent: %+v", v.Experiment) })
	if v.Report.State != "guardrail_broken" || v.Experiment.StoppedAt.IsZero() || v.Experiment.Breaches[0].Webhook.Attempts != 2 {
		t.Errorf("%+v", v)
	}
	time.Sleep(16 * time.Second) // one more evaluation: no second alert
	mu.Lock()
	if len(hooks) != 1 {
		t.Fatalf("the webhook was called %d times", len(hooks))
	}
	sig := regexp.MustCompile(`^t=(\d+),v1=([0-9a-f]{64})$`).FindStringSubmatch(hooks[0].signature)
	mac := hmac.New(sha256.New, []byte(alerts.Secret))
	if sig == nil {
		t.Fatalf("signature %q", hooks[0].signature)
	}
	mac.Write([]byte(sig[1] + "." + string(hooks[0].body)))
	if hex.EncodeToString(mac.Sum(nil)) != sig[2] || !strings.Contains(string(hooks[0].body), `"rollout_stop":"done"`) || !strings.Contains(string(hooks[0].body), p.base+"/p/default/experiments/"+harmful) {
		t.Errorf("%s with %q", hooks[0].body, hooks[0].signature)
	}
	mu.Unlock()
	if l := post.letters(); len(l) != 1 || !strings.Contains(l[0], "guardrail broken in Kinder harmful") || !strings.Contains(l[0], "oncall@example.com") {
		t.Errorf("letters %q", l)
	}
	if strings.Contains(p.logs(), "oncall@") || strings.Contains(p.logs(), alerts.Secret) {
		t.Error("the log contains the recipients")
	}

	for _, line := range strings.Split(strings.TrimSpace(string(browse(t, p, "experiments.mjs", "experiments", "BETTER="+better, "HARMFUL="+harmful))), "\n") {
		var r struct {
			Step    string
			Trouble []string
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil || len(r.Trouble) > 0 {
			t.Errorf("%s: %v", line, err)
		}
	}
}

var shBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// The tutorial of docs/experiments.md is run as written.
func TestExperimentTutorial(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"bash", "awk", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s", tool)
		}
	}
	doc, err := os.ReadFile("../../docs/experiments.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("set -eu -o pipefail\n")
	blocks := shBlock.FindAllSubmatch(doc, -1)
	if len(blocks) < 6 {
		t.Fatalf("%d blocks", len(blocks))
	}
	for _, b := range blocks {
		script.Write(b[1])
	}
	w := newWorld(t)
	p := w.start()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Env = append(os.Environ(), "HEDGEROW="+p.base, "KEY="+w.key, "TOKEN="+p.token())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var list struct{ Experiments []struct{ ID string } }
	p.call("GET", "/api/v1/experiments", "", &list)
	if len(list.Experiments) != 1 {
		t.Fatalf("%+v\n%s", list, out)
	}
	var v experimentReport
	w.await(func() bool {
		v = p.experiment(list.Experiments[0].ID)
		return v.Report.State == "winner"
	}, func() string { return fmt.Sprintf("no winner: %+v\n%s", v.Report, out) })
	if v.Report.Winner != "treatment" || !strings.Contains(v.Report.Summary, "treatment is better than control") {
		t.Errorf("%+v", v.Report)
	}
}
