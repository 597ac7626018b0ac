package servertest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow"
	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/api"
	"github.com/hedgerow/hedgerow/server/internal/project"
	registry "github.com/hedgerow/hedgerow/server/internal/prompt"
	"github.com/hedgerow/hedgerow/server/internal/servertest"
)

// promptServer is hedgerow's own API before a registry, which can be made to fail.
type promptServer struct {
	*httptest.Server
	key      string
	prompts  *registry.Registry
	requests atomic.Int64
	fail     atomic.Int64 // answer this status instead
	hold     chan struct{}
	arrived  chan struct{}
	clock    atomic.Int64 // seconds
	now      func() time.Time
}

func newPromptServer(t *testing.T) *promptServer {
	t.Helper()
	server := servertest.Open(t, servertest.Options{})
	s := &promptServer{key: server.Key(project.DefaultID, project.RoleViewer), prompts: server.Prompts}
	h := api.New(api.Config{Services: server.Services})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if s.hold != nil {
			select {
			case s.arrived <- struct{}{}:
			default:
			}
			<-s.hold
		}
		if status := s.fail.Load(); status != 0 {
			w.WriteHeader(int(status))
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	start := time.Now()
	s.now = func() time.Time { return start.Add(time.Duration(s.clock.Load()) * time.Second) }
	return s
}

func (s *promptServer) reader(t *testing.T) *hedgerow.Prompts {
	t.Helper()
	p, err := hedgerow.NewPrompts(hedgerow.PromptsConfig{Key: s.key, Host: s.URL, Now: s.now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *promptServer) create(t *testing.T, name string, texts ...string) {
	t.Helper()
	draft := func(s string) registry.Draft {
		return registry.Draft{Messages: []registry.Message{{Role: "system", Content: s}, {Role: "user", Content: "{{ticket}}"}}, Model: "gpt-4.1-mini", Params: map[string]any{"temperature": 0.2}}
	}
	if _, err := s.prompts.Create(t.Context(), "ann", project.DefaultID, name, "", draft(texts[0])); err != nil {
		t.Fatal(err)
	}
	for _, text := range texts[1:] {
		if _, _, err := s.prompts.AddVersion(t.Context(), "ann", project.DefaultID, name, draft(text)); err != nil {
			t.Fatal(err)
		}
	}
}

func says(p *hedgerow.Prompt, err error) string {
	if err != nil {
		return "error " + string(event.AsError(err).Code)
	}
	return fmt.Sprintf("v%d %s %s", p.Version, p.Source, p.Messages[0].Content)
}

func TestPromptsCache(t *testing.T) {
	s := newPromptServer(t)
	s.create(t, "support", "one", "two")
	p, ctx := s.reader(t), t.Context()
	check := func(what, want string, requests int64, options ...hedgerow.PromptOption) {
		t.Helper()
		before := s.requests.Load()
		if got := says(p.Get(ctx, "support", options...)); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
		if n := s.requests.Load() - before; n != requests {
			t.Errorf("%s: %d requests, want %d", what, n, requests)
		}
	}
	check("first", "v1 server one", 1)
	check("again", "v1 cache one", 0)
	check("label latest", "v2 server two", 1, hedgerow.PromptLabel("latest"))
	check("number", "v2 server two", 1, hedgerow.PromptVersion(2))
	check("unknown label", "error not_found", 1, hedgerow.PromptLabel("canary"))
	check("unknown label, soon again", "error not_found", 0, hedgerow.PromptLabel("canary"))

	if err := s.prompts.SetLabel(ctx, "ann", project.DefaultID, "support", "production", "2", ""); err != nil {
		t.Fatal(err)
	}
	s.clock.Add(299)
	check("just young enough", "v1 cache one", 0)
	s.clock.Add(1)
	check("too old", "v2 server two", 1)
	check("a number never is", "v2 cache two", 0, hedgerow.PromptVersion(2))

	s.clock.Add(300)
	s.fail.Store(503)
	check("trouble", "v2 stale two", 1)
	check("trouble, soon again", "v2 stale two", 0)
	s.clock.Add(10)
	check("trouble, later", "v2 stale two", 1)
	s.fail.Store(0)
	s.clock.Add(10)
	check("well again", "v2 server two", 1)
	p.Clear("support")
	check("forgotten", "v2 server two", 1)

	if err := s.prompts.RemoveLabel(ctx, "ann", project.DefaultID, "support", "production", ""); err != nil {
		t.Fatal(err)
	}
	p.Clear("")
	check("without production the newest", "v2 server two", 2)
}

func TestPromptsFallback(t *testing.T) {
	s := newPromptServer(t)
	s.fail.Store(500)
	p := s.reader(t)
	own := hedgerow.PromptFallback(hedgerow.PromptMessage{Content: "Answer {{ticket}}."})
	got, err := p.Get(t.Context(), "support", own)
	if want := "v0 fallback Answer {{ticket}}."; says(got, err) != want {
		t.Errorf("%s, want %s", says(got, err), want)
	}
	out, err := got.Render(map[string]any{"ticket": "42"})
	if err != nil || out.Instructions() != "Answer 42." {
		t.Errorf("rendered %+v, %v", out, err)
	}
	if _, err := p.Get(t.Context(), "other"); event.AsError(err).Code != event.CodeUnavailable {
		t.Errorf("without a fallback: %v", err)
	}
	var none *hedgerow.Prompts
	if got := says(none.Get(t.Context(), "support", own)); got != "v0 fallback Answer {{ticket}}." {
		t.Errorf("without a reader: %s", got)
	}
	if _, err := none.Get(t.Context(), "support"); err == nil {
		t.Error("without a reader and a fallback there is no error")
	}
	none.Clear("")
}

// Many callers at one time make one request; one who gives up spoils nothing for
// the others.
func TestPromptsOneRequest(t *testing.T) {
	s := newPromptServer(t)
	s.create(t, "support", "one")
	s.hold, s.arrived = make(chan struct{}), make(chan struct{}, 1)
	p := s.reader(t)
	hurried, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if _, err := p.Get(hurried, "support"); err == nil {
			t.Error("the hurried caller got a prompt")
		}
	}()
	<-s.arrived
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got, err := p.Get(t.Context(), "support"); err != nil || got.Version != 1 {
				t.Error(got, err)
			}
		})
	}
	cancel()
	<-gone
	close(s.hold)
	wg.Wait()
	if n := s.requests.Load(); n > 2 {
		t.Errorf("%d requests, want one of the hurried and one for all others", n)
	}
}

func TestNewPrompts(t *testing.T) {
	t.Setenv("HEDGEROW_PROMPTS_KEY", "")
	t.Setenv("HEDGEROW_HOST", "")
	for name, c := range map[string]hedgerow.PromptsConfig{
		"no host":       {Key: "hr_x"},
		"no key":        {Host: "http://127.0.0.1:4100"},
		"project token": {Host: "http://127.0.0.1:4100", Key: "phc_hedgerow_secret"},
		"no URL":        {Host: "127.0.0.1:4100", Key: "hr_x"},
		"negative":      {Host: "http://127.0.0.1:4100", Key: "hr_x", TTL: -1},
	} {
		p, err := hedgerow.NewPrompts(c)
		var e *event.Error
		if p != nil || !errors.As(err, &e) || e.Code != event.CodeInvalid || e.Hint == "" || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv("HEDGEROW_PROMPTS_KEY", "hr_x")
	t.Setenv("HEDGEROW_HOST", "http://127.0.0.1:4100")
	if _, err := hedgerow.NewPrompts(hedgerow.PromptsConfig{}); err != nil {
		t.Errorf("from the environment: %v", err)
	}
}

// A call made with a prompt's context has its name, version and id.
func TestPromptsUse(t *testing.T) {
	s := newPromptServer(t)
	s.create(t, "support", "Answer {{ticket}}.")
	ctx, out, err := s.reader(t).Use(t.Context(), "support", map[string]any{"ticket": "42"})
	if err != nil {
		t.Fatal(err)
	}
	if out.Model != "gpt-4.1-mini" || out.Params["temperature"] != 0.2 || out.Messages[0].Content != "Answer 42." || out.Messages[1].Content != "42" {
		t.Errorf("rendered %+v", out)
	}
	var got *event.Event
	client, err := hedgerow.New(hedgerow.Config{APIKey: "phc_x", Host: s.URL, BeforeSend: func(e *event.Event) *event.Event { got = e; return nil }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	client.CaptureGeneration(ctx, hedgerow.Generation{Model: out.Model})
	_ = client.Close(t.Context()) // what BeforeSend drops is an event that was lost
	v, _ := s.prompts.Version(project.DefaultID, "support", "1")
	if got == nil || got.PromptName != "support" || got.PromptVersion != "1" || got.PromptVersionID != v.ID {
		t.Errorf("the call bears %+v", got)
	}
	if _, _, err := s.reader(t).Use(t.Context(), "support", map[string]any{"ticket": 42}); event.AsError(err).Code != event.CodeInvalid {
		t.Errorf("a value of another type: %v", err)
	}
}
