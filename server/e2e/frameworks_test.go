package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// TestFrameworks runs LangChain.js and the Vercel AI SDK with PostHog's
// callback, wrapper, span processor and exporter; only the host is changed.
func TestFrameworks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start()
	w.keepContent()
	x := newTee(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "frameworks.mjs", x.server.URL, phKey, w.sim.OpenAIURL()+"/v1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("frameworks.mjs: %v\n%s%s", err, b, stderr.String())
	}
	traces := make(map[string]string)
	if err := json.Unmarshal(b, &traces); err != nil || len(traces) != 6 {
		t.Fatalf("%v in %s", err, b)
	}
	for name, trace := range traces {
		got := p.awaitStored("event="+url.QueryEscape(event.Generation)+"&trace_id="+url.QueryEscape(trace), 1)
		var one struct{ Event query.Event }
		p.get("/api/v1/events/"+got[0].UUID+"?content=true", &one)
		e := one.Event
		if len(got) != 1 || e.Provider != "openai" || !strings.HasPrefix(e.Model+e.ModelAsked, "gpt-4.1-mini") || e.Usage.Input.Value == 0 || e.Usage.Output.Value == 0 || !e.Cost.Total.Known || e.IsError ||
			e.Content == nil || !strings.Contains(string(e.Content.Input), "Which bird nests") || len(e.Content.Output) < 20 {
			t.Errorf("%s: %d generations, %+v", name, len(got), e)
		}
		plan := `"pro"`
		if name == "vercel-processor" || name == "vercel-exporter" {
			plan = "" // PostHog drops a span's other metadata, and so does hedgerow
		}
		if e.DistinctID != "ada" || string(e.Properties["plan"]) != plan {
			t.Errorf("%s: of %q, plan %s", name, e.DistinctID, e.Properties["plan"])
		}
		w.await(func() bool { return len(w.ph.ByUUID(e.UUID)) == 1 }, func() string { return name + " did not reach PostHog" })
	}
	x.compare(t, p, x.direct.Count())
	p.stop()
}
