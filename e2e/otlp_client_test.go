package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/query"
)

// TestOTLPJS: OpenTelemetry's exporters for JavaScript, by protobuf and by JSON,
// plain and gzip, to both paths. Whichever way it came, the run is the same.
func TestOTLPJS(t *testing.T) {
	w := newWorld(t)
	p := w.start()
	w.keepContent()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "otlp_client.mjs", p.base, phKey)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("otlp_client.mjs: %v\n%s%s", err, b, stderr.String())
	}
	var runs []struct{ Path, Encoding, Compression, Trace, Failed string }
	if err := json.Unmarshal(b, &runs); err != nil || len(runs) != 8 {
		t.Fatalf("%d runs, %v in %s", len(runs), err, b)
	}
	for _, r := range runs {
		name := r.Encoding + " " + r.Compression + " to " + r.Path
		if r.Failed != "" {
			t.Errorf("%s: the exporter saw %s", name, r.Failed)
			continue
		}
		p.awaitStored("trace_id="+r.Trace, 3)
		var answer struct{ Trace query.Trace }
		p.get("/api/v1/traces/"+r.Trace, &answer)
		tr := answer.Trace
		if len(tr.Roots) != 1 || tr.Roots[0].Event.Name != event.Trace || len(tr.Roots[0].Children) != 2 || tr.SessionID != "conv-js" || tr.User != "ada" {
			t.Errorf("%s: %+v", name, tr)
			continue
		}
		if s := tr.Rollup; s.Events != 3 || s.Calls != 1 || s.Errors != 1 || s.InputTokens.Value != 1000 || s.OutputTokens.Value != 100 || !s.CostUSD.Known || s.UncostedCalls != 0 {
			t.Errorf("%s: totals %+v", name, s)
		}
		for _, n := range tr.Roots[0].Children {
			var one struct{ Event query.Event }
			p.get("/api/v1/events/"+n.Event.UUID+"?content=true", &one)
			switch e := one.Event; e.Name {
			case event.Generation:
				if e.Model != "gpt-4.1-mini-2025-04-14" || e.Provider != "openai" || e.StopReason != "stop" || e.DistinctID != "ada" || e.Content == nil ||
					!strings.Contains(string(e.Content.Input), "Which bird? 🐦") || !strings.Contains(string(e.Content.Output), "A wren.") || e.Source != event.SourceOTLP {
					t.Errorf("%s: %+v", name, e)
				}
			case event.Span:
				if !e.IsError || e.ErrorMessage != "the hedge is on fire" {
					t.Errorf("%s: the tool's error is %v %q", name, e.IsError, e.ErrorMessage)
				}
			default:
				t.Errorf("%s: a %s", name, e.Name)
			}
			w.await(15*time.Second, func() bool { return len(w.ph.ByUUID(n.Event.UUID)) == 1 }, func() string { return name + " did not reach PostHog" })
		}
	}
	p.stop()
}
