package gateway_test

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/enrich"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// exchangeCase is one or several calls that were once recorded or priced wrong, and
// what is right.
type exchangeCase struct {
	Why   string
	At    time.Time // where the price depends on it
	Steps []struct {
		Method, Path string
		Headers      map[string]string
		Request      json.RawMessage
		Answer       struct {
			Status  int
			Headers map[string]string
			Body    string
			JSON    json.RawMessage
			Cut     bool // the connection ends within the body
		}
	}
	Expect struct {
		Generations            *int // 1 if absent
		Input, Output          *int64
		CacheRead              *int64   `json:"cache_read"`
		CostUSD                *float64 `json:"cost_usd"`
		InputUSD               *float64 `json:"input_usd"`
		IsError                bool     `json:"is_error"`
		Message, Session, User string
		Tools                  [][2]any
		ToolNames              []string `json:"tools_names"`
		OutputHas              []string `json:"output_has"`
		BatchUsage             []int64  `json:"batch_usage"` // input and output, on the span
	}
}

// TestCases sends each case through the gateway, with a provider that answers with
// its bytes, and prices what is captured.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/cases/*.json")
	if err != nil || len(files) < 45 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var c exchangeCase
			if err := json.Unmarshal(b, &c); err != nil {
				t.Fatal(err)
			}
			c.run(t)
		})
	}
}

func (c *exchangeCase) run(t *testing.T) {
	i := 0
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		a := c.Steps[i].Answer
		for k, v := range a.Headers {
			w.Header().Set(k, v)
		}
		if a.Status != 0 {
			w.WriteHeader(a.Status)
		}
		_, _ = io.WriteString(w, a.Body)
		_, _ = w.Write(a.JSON)
		if a.Cut {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(provider.Close)
	ups := make(map[string]gateway.Upstream)
	for _, s := range c.Steps {
		name, _, _ := strings.Cut(s.Path[1:], "/")
		ups[name] = gateway.Upstream{BaseURL: provider.URL}
	}
	r := start(t, gateway.Config{Upstreams: ups})
	for ; i < len(c.Steps); i++ {
		s := c.Steps[i]
		req, err := http.NewRequestWithContext(t.Context(), s.Method, r.url+s.Path, strings.NewReader(string(s.Request)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		for k, v := range s.Headers {
			req.Header.Set(k, v)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if want := s.Answer.Body + string(s.Answer.JSON); string(got) != want || (err != nil) != s.Answer.Cut {
			t.Errorf("the caller reads %q, %v", got, err)
		}
		r.sink.await(t, i+1)
	}
	generations := 0
	var e *event.Event
	for _, captured := range r.sink.all() {
		// The expected prices are those of that day, unless a case names another.
		day := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
		captured.Timestamp = day
		if !c.At.IsZero() {
			captured.Timestamp = c.At
		}
		enrich.Normalise(captured, day)
		price.Default().Price(captured)
		if captured.IsCosted() {
			generations++
			e = captured
		}
	}
	want := 1
	if c.Expect.Generations != nil {
		want = *c.Expect.Generations
	}
	if generations != want {
		t.Fatalf("%d generations, want %d: %s", generations, want, c.Why)
	}
	if e == nil {
		e = r.sink.all()[0]
	}
	c.check(t, e)
}

func (c *exchangeCase) check(t *testing.T, e *event.Event) {
	x := c.Expect
	for _, n := range []struct {
		name string
		want *int64
		got  event.Int
	}{{"input", x.Input, e.Usage.Input}, {"output", x.Output, e.Usage.Output}, {"cache read", x.CacheRead, e.Usage.CacheRead}} {
		if n.want != nil && n.got != event.Some(*n.want) {
			t.Errorf("%s %+v, want %d: %s", n.name, n.got, *n.want, c.Why)
		}
	}
	if total := e.Cost.Total; x.CostUSD != nil && (!total.Known || math.Abs(total.Value.InexactFloat64()-*x.CostUSD) > 1e-9) {
		t.Errorf("cost %+v, want %v, unpriced %q, usage %+v: %s", total, *x.CostUSD, e.Cost.Unpriced, e.Usage, c.Why)
	}
	if in := e.Cost.Input; x.InputUSD != nil && (!in.Known || math.Abs(in.Value.InexactFloat64()-*x.InputUSD) > 1e-9) {
		t.Errorf("input cost %+v, want %v: %s", in, *x.InputUSD, c.Why)
	}
	if e.IsError != x.IsError || !strings.Contains(e.ErrorMessage, x.Message) {
		t.Errorf("error %t %q, want %t %q: %s", e.IsError, e.ErrorMessage, x.IsError, x.Message, c.Why)
	}
	if x.Session != "" && e.SessionID != x.Session || x.User != "" && e.DistinctID != x.User {
		t.Errorf("session %q of %q, want %q of %q: %s", e.SessionID, e.DistinctID, x.Session, x.User, c.Why)
	}
	for _, text := range x.OutputHas {
		if !strings.Contains(string(e.Content.Output), text) {
			t.Errorf("the output lacks %s: %s", text, e.Content.Output)
		}
	}
	names, calls := toolCalls(t, e)
	if x.ToolNames != nil && !slices.Equal(names, x.ToolNames) {
		t.Errorf("tools %q, want %q: %s", names, x.ToolNames, c.Why)
	}
	if x.Tools != nil && !reflect.DeepEqual(calls, x.Tools) {
		t.Errorf("tool calls %v, want %v: %s", calls, x.Tools, c.Why)
	}
	if x.BatchUsage != nil {
		var u struct {
			Input  int64 `json:"input_tokens"`
			Output int64 `json:"output_tokens"`
		}
		if err := json.Unmarshal(e.ProviderMetadata["batch_usage"], &u); err != nil || u.Input != x.BatchUsage[0] || u.Output != x.BatchUsage[1] {
			t.Errorf("batch usage %+v, %v, want %d", u, err, x.BatchUsage)
		}
	}
}

// toolCalls returns the tool calls of an event's output: their names, and names with
// decoded arguments.
func toolCalls(t *testing.T, e *event.Event) (names []string, calls [][2]any) {
	t.Helper()
	var output []struct{ Content json.RawMessage }
	if json.Unmarshal(e.Content.Output, &output) != nil {
		return nil, nil
	}
	for _, m := range output {
		var parts []struct {
			Function struct{ Name, Arguments string }
		}
		if json.Unmarshal(m.Content, &parts) != nil { // text
			continue
		}
		for _, p := range parts {
			if p.Function.Name == "" {
				continue
			}
			var args any
			_ = json.Unmarshal([]byte(p.Function.Arguments), &args) // cut arguments are none
			names, calls = append(names, p.Function.Name), append(calls, [2]any{p.Function.Name, args})
		}
	}
	return names, calls
}
