package experiment_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	netmail "net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/experiment"
	"github.com/hedgerow/hedgerow/server/internal/mail"
	"github.com/hedgerow/hedgerow/server/internal/project"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// harm is what the store says of a treatment that escalates far too often.
func harm() *answer {
	return &answer{x: query.Experiment{Cells: []query.Cell{
		cell("control", 1000, shares(550, 1000), shares(50, 1000), slow(2500, 1000), dollars(0.02, 0.01, 1000)),
		cell("treatment", 1000, shares(680, 1000), shares(180, 1000), slow(2500, 1000), dollars(0.02, 0.01, 1000)),
	}}}
}

// calls notes what a guard does.
type calls struct {
	mu     sync.Mutex
	list   []string
	alerts []experiment.Alert
	fail   map[string]error
}

func (c *calls) note(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, what)
	return c.fail[strings.Fields(what)[0]]
}

func (c *calls) way(name string) func(context.Context, experiment.Alert) error {
	return func(_ context.Context, a experiment.Alert) error {
		c.mu.Lock()
		c.alerts = append(c.alerts, a)
		c.mu.Unlock()
		return c.note(name)
	}
}

func (c *calls) guard(r *experiment.Registry, ask experiment.Asker) *experiment.Guard {
	return &experiment.Guard{
		Registry: r, Ask: ask,
		Stop: func(_ context.Context, actor string, d *experiment.Definition, variant, _ string) error {
			return c.note("stop " + actor + " " + d.Project + " " + d.Prompt + " " + variant)
		},
		Ways: func(string) experiment.Ways {
			return experiment.Ways{Webhook: c.way("webhook"), Email: c.way("email")}
		},
		Link: func(d experiment.Definition) string { return "https://hedgerow.example/experiments/" + d.ID },
	}
}

func TestGuardStopsAndTellsOnce(t *testing.T) {
	r, b := open(t)
	d, err := r.Create(t.Context(), ann, seed())
	if err != nil {
		t.Fatal(err)
	}
	c := new(calls)
	// Two replicas check the same time, and again.
	guards := []*experiment.Guard{c.guard(r, harm()), c.guard(b.open(t), harm())}
	for range 3 {
		var wg sync.WaitGroup
		for _, g := range guards {
			wg.Go(func() { g.Check(t.Context()) })
		}
		wg.Wait()
		b.clock.add(time.Minute)
	}
	if len(c.list) > 1 {
		slices.Sort(c.list[1:]) // one replica may send the one, and the other the other
	}
	if want := []string{"stop guardrail default support_answer treatment", "email", "webhook"}; !slices.Equal(c.list, want) {
		t.Errorf("done %q, want %q", c.list, want)
	}
	d, _ = r.Experiment("default", d.ID)
	if len(d.Breaches) != 1 || d.Running() || !strings.HasPrefix(d.StopReason, "Escalation rate of treatment is +13.0 points") {
		t.Fatalf("%+v", d)
	}
	br := d.Breaches[0]
	if br.Rollout.State != experiment.ActionDone || br.Webhook.State != experiment.ActionDone || br.Email.State != experiment.ActionDone || br.Rollout.Attempts != 1 {
		t.Errorf("%+v", br)
	}
	a := c.alerts[0]
	if a.Type != experiment.AlertGuardrail || a.Rollout != experiment.ActionDone || a.URL != "https://hedgerow.example/experiments/"+d.ID || a.Why != br.Words || a.ID != c.alerts[1].ID ||
		!strings.Contains(a.Text(), "The rollout was stopped") || a.Subject() != "hedgerow: guardrail broken in Kinder answers" {
		t.Errorf("%+v\n%s", a, a.Text())
	}
	if !slices.Contains(b.audit.list, "guardrail experiment.guardrail_broken default Kinder answers "+br.Words) {
		t.Errorf("audit %q", b.audit.list)
	}
}

func TestGuardTriesAgain(t *testing.T) {
	r, b := open(t)
	d, err := r.Create(t.Context(), ann, seed())
	if err != nil {
		t.Fatal(err)
	}
	c := &calls{fail: map[string]error{
		"stop":    event.NewError(event.CodeUnavailable, "PostHog does not answer", "", nil),
		"webhook": event.NewError(event.CodeUpstream, "the webhook answered with status 500", "", nil),
		"email":   event.Invalid("no such address", ""),
	}}
	g := c.guard(r, harm())
	count := func(what string) (n int) {
		for _, l := range c.list {
			if strings.HasPrefix(l, what) {
				n++
			}
		}
		return n
	}
	g.Check(t.Context())
	g.Check(t.Context()) // not due again yet
	if count("stop") != 1 || count("webhook") != 1 || count("email") != 1 {
		t.Errorf("done %q", c.list)
	}
	if a := c.alerts[0]; !strings.Contains(a.Text(), "NOT stopped yet: PostHog does not answer") {
		t.Errorf("%s", a.Text())
	}
	b.clock.add(6 * time.Second)
	g.Check(t.Context())
	if count("stop") != 2 || count("webhook") != 2 || count("email") != 1 {
		t.Errorf("done %q", c.list)
	}
	delete(c.fail, "stop")
	for range 30 {
		b.clock.add(15 * time.Minute)
		g.Check(t.Context())
	}
	d, _ = r.Experiment("default", d.ID)
	br := d.Breaches[0]
	if br.Rollout.State != experiment.ActionDone || count("stop") != 3 {
		t.Errorf("rollout %+v after %d", br.Rollout, count("stop"))
	}
	if br.Webhook.State != experiment.ActionFailed || br.Webhook.Attempts != count("webhook") || br.Webhook.Error != "the webhook answered with status 500" || count("webhook") != 12 {
		t.Errorf("webhook %+v", br.Webhook)
	}
	if br.Email.State != experiment.ActionFailed || br.Email.Attempts != 1 {
		t.Errorf("e-mail %+v", br.Email)
	}
}

// An attempt interrupted by a crash is repeated by another process.
func TestGuardAfterCrash(t *testing.T) {
	r, b := open(t)
	if _, err := r.Create(t.Context(), ann, seed()); err != nil {
		t.Fatal(err)
	}
	c := new(calls)
	dying := c.guard(r, harm())
	ctx, crash := context.WithCancel(t.Context())
	dying.Stop = func(context.Context, string, *experiment.Definition, string, string) error {
		crash()
		return errors.New("killed")
	}
	dying.Check(ctx)
	b.clock.add(time.Minute)
	other := c.guard(b.open(t), harm())
	other.Check(t.Context())
	if want := []string{"stop guardrail default support_answer treatment", "webhook", "email"}; !slices.Equal(c.list, want) {
		t.Errorf("done %q, want %q", c.list, want)
	}
}

func TestGuardLeavesAlone(t *testing.T) {
	r, _ := open(t)
	d := seed()
	d.Started = time.Time{}
	if _, err := r.Create(t.Context(), ann, d); err != nil {
		t.Fatal(err)
	}
	d = seed()
	d.Name, d.StopOnBreach = "Only told", false
	told, err := r.Create(t.Context(), ann, d)
	if err != nil {
		t.Fatal(err)
	}
	c := new(calls)
	g := c.guard(r, harm())
	g.Ways = func(string) experiment.Ways { return experiment.Ways{} }
	g.Interval = time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := g.Run(ctx); err != nil {
		t.Error(err)
	}
	if len(c.list) != 0 {
		t.Errorf("done %q", c.list)
	}
	told, _ = r.Experiment("default", told.ID)
	if !told.Running() || len(told.Breaches) != 1 || told.Breaches[0].Rollout.State != experiment.ActionNone {
		t.Errorf("%+v", told)
	}
}

func TestWebhook(t *testing.T) {
	var got struct {
		body   []byte
		header http.Header
	}
	status := 204
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.body, _ = io.ReadAll(r.Body)
		got.header = r.Header
		w.WriteHeader(status)
	}))
	defer srv.Close()
	at := time.Date(2026, 6, 4, 12, 0, 0, 0, time.UTC)
	w := experiment.Webhook{Client: srv.Client(), URL: srv.URL + "/hook?key=hush", Secret: project.NewSecret("whsec_test"), Now: func() time.Time { return at }}
	a := experiment.TestAlert("default", "https://hedgerow.example", at)
	if err := w.Send(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if sig := got.header.Get(experiment.SignatureHeader); sig != experiment.Sign("whsec_test", at, got.body) || !strings.HasPrefix(sig, "t=1780574400,v1=") || got.header.Get("X-Hedgerow-Delivery") != a.ID {
		t.Errorf("headers %v", got.header)
	}
	var back experiment.Alert
	if err := json.Unmarshal(got.body, &back); err != nil || back != a {
		t.Errorf("%s, %v", got.body, err)
	}
	status = 302
	wantCode(t, "redirect", w.Send(t.Context(), a), event.CodeUpstream)
	srv.Close()
	err := w.Send(t.Context(), a)
	wantCode(t, "gone", err, event.CodeUnavailable)
	if strings.Contains(err.Error(), "hush") {
		t.Errorf("the URL's secret is in %q", err)
	}
}

// openssl dgst -sha256 -hmac whsec_test, of 1780574400.{"a":1}
func TestSignatureReference(t *testing.T) {
	const want = "t=1780574400,v1=9d8bad4884aba840f64a88e2f7adcee83ece8afd1be0858ae4a950586e5b831b"
	if got := experiment.Sign("whsec_test", time.Unix(1780574400, 0), []byte(`{"a":1}`)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// postOffice takes one message by SMTP.
func postOffice(t *testing.T) (addr string, message <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	out := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = l.Close() // for one only
		say := func(s string) { _, _ = io.WriteString(conn, s+"\r\n") }
		say("220 test")
		var all strings.Builder
		for in := bufio.NewScanner(conn); in.Scan(); {
			switch line := in.Text(); {
			case strings.HasPrefix(line, "EHLO"):
				say("250-test")
				say("250 AUTH PLAIN")
			case strings.HasPrefix(line, "DATA"):
				say("354 go on")
				for in.Scan() && in.Text() != "." {
					all.WriteString(in.Text() + "\r\n")
				}
				say("250 taken")
				out <- all.String()
			case line == "QUIT":
				say("221 bye")
				return
			default:
				all.WriteString("> " + line + "\r\n")
				say("250 fine")
				if strings.HasPrefix(line, "AUTH") {
					all.Reset()
				}
			}
		}
	}()
	return l.Addr().String(), out
}

func TestMail(t *testing.T) {
	addr, message := postOffice(t)
	at := time.Date(2026, 6, 4, 12, 0, 0, 0, time.UTC)
	m, err := mail.New(mail.Config{URL: "smtp://" + addr, From: "hedgerow <alerts@example.com>", Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	a := experiment.Alert{ID: "x_1-1", Type: experiment.AlertGuardrail, Experiment: "Freundlichere Grüße\r\nBcc: x@evil.example", Variant: "treatment", Why: "Escalation rate of treatment is +13.0 points.", At: at, URL: "https://h/x", Rollout: experiment.ActionDone}
	s := experiment.Sender{Mailer: m, Project: func(string) (project.Project, bool) {
		return project.Project{Alerts: project.Alerts{Emails: []string{"ann@example.com", "bob@example.com"}}}, true
	}}
	if err := s.Ways("p").Email(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	raw := <-message
	head, rest, _ := strings.Cut(raw, "From: ")
	if head != "> MAIL FROM:<alerts@example.com> BODY=8BITMIME\r\n> RCPT TO:<ann@example.com>\r\n> RCPT TO:<bob@example.com>\r\n" && head != "> MAIL FROM:<alerts@example.com>\r\n> RCPT TO:<ann@example.com>\r\n> RCPT TO:<bob@example.com>\r\n" {
		t.Errorf("envelope %q", head)
	}
	msg, err := netmail.ReadMessage(strings.NewReader("From: " + rest))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(msg.Body))
	if err != nil || !strings.Contains(string(body), "Escalation rate of treatment is +13.0 points.") || !strings.Contains(string(body), "https://h/x") {
		t.Errorf("%s, %v", body, err)
	}
	if msg.Header.Get("Bcc") != "" || msg.Header.Get("Message-ID") != "<x_1-1@example.com>" || msg.Header.Get("To") != "ann@example.com, bob@example.com" {
		t.Errorf("%v", msg.Header)
	}
}
