package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
)

// agentRun creates the spans of one agent run: root, call, tool and an HTTP
// request.
func agentRun(ctx context.Context, p *sdk.TracerProvider, said string) (traceID string) {
	tracer := p.Tracer("e2e-agent")
	ctx, root := tracer.Start(ctx, "invoke_agent helper")
	root.SetAttributes(attribute.String("gen_ai.operation.name", "invoke_agent"), attribute.String("gen_ai.conversation.id", "conv-e2e"), attribute.String("user.id", "ada"))
	_, call := tracer.Start(ctx, "chat gpt-4o")
	call.SetAttributes(attribute.String("gen_ai.operation.name", "chat"), attribute.String("gen_ai.provider.name", "openai"), attribute.String("gen_ai.request.model", "gpt-4o"),
		attribute.Int("gen_ai.usage.input_tokens", 1000), attribute.Int("gen_ai.usage.output_tokens", 100), attribute.String("user.id", "ada"),
		attribute.String("gen_ai.input.messages", `[{"role":"user","parts":[{"type":"text","content":"`+said+`"}]}]`))
	call.End()
	_, tool := tracer.Start(ctx, "execute_tool search")
	tool.SetAttributes(attribute.String("gen_ai.operation.name", "execute_tool"), attribute.String("gen_ai.tool.call.arguments", `{"q":"`+said+`"}`))
	_, http := tracer.Start(ctx, "GET")
	http.End()
	tool.End()
	root.End()
	return root.SpanContext().TraceID().String()
}

// TestOTLP sends a run with OpenTelemetry's Go SDK, on each path and with each
// kind of token, one span per request and the root last, and then all of it
// again: there is one tree, priced, once, across a kill -9, and PostHog gets it
// without content.
func TestOTLP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rpc := freeAddr(t)
	w.env = append(w.env, "HEDGEROW_OTLP_GRPC_LISTEN="+rpc)
	p := w.start()
	w.flushFast()
	const said = "a very private question"
	type run struct{ path, token, trace string }
	runs := []*run{{path: "/v1/traces", token: phKey}, {path: "/i/v0/ai/otel", token: phKey}, {path: "/v1/traces", token: p.w.key}, {path: "grpc", token: phKey}}
	var spans [][]sdk.ReadOnlySpan
	x := newTee(t, p) // of the first process
	to := x.server.URL
	send := func(r *run, batch []sdk.ReadOnlySpan) {
		t.Helper()
		header := map[string]string{"Authorization": "Bearer " + r.token}
		var e sdk.SpanExporter
		var err error
		if r.path == "grpc" {
			e, err = otlptracegrpc.New(t.Context(), otlptracegrpc.WithEndpoint(rpc), otlptracegrpc.WithInsecure(), otlptracegrpc.WithHeaders(header), otlptracegrpc.WithCompressor("gzip"))
		} else {
			e, err = otlptracehttp.New(t.Context(), otlptracehttp.WithEndpointURL(to+r.path), otlptracehttp.WithHeaders(header), otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := e.ExportSpans(t.Context(), batch); err != nil {
			t.Fatalf("%s: %v\n%s", r.path, err, p.logs())
		}
		_ = e.Shutdown(context.Background())
	}
	for _, r := range runs {
		kept := &spanKeeper{}
		tp := sdk.NewTracerProvider(sdk.WithSyncer(kept), sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "e2e"), attribute.String("deployment.environment.name", "test"))))
		r.trace = agentRun(t.Context(), tp, said)
		for _, s := range kept.spans { // children end before their parents: the root is last
			send(r, []sdk.ReadOnlySpan{s})
		}
		spans = append(spans, kept.spans)
	}
	// Everything is acknowledged, so it survives. An exporter that missed the
	// responses sends it again.
	p.kill()
	p = w.start()
	to = p.base
	for i, r := range runs {
		send(r, spans[i])
	}
	for _, r := range runs {
		got := p.awaitStored("trace_id="+r.trace, 3)
		if len(got) != 3 {
			t.Errorf("%s: %d events, want 3", r.path, len(got))
		}
	}
	x.compareSpans(t, p, 6) // the third token is hedgerow's own: PostHog drops its spans
	w.await(func() bool { return len(w.ph.Events()) >= 3*len(runs) }, func() string {
		return fmt.Sprintf("%d events at PostHog\n%s", len(w.ph.Events()), p.logs())
	})
	for _, r := range runs {
		var answer struct{ Trace query.Trace }
		p.get("/api/v1/traces/"+r.trace, &answer)
		tr := answer.Trace
		if len(tr.Roots) != 1 || tr.Roots[0].Event.Name != event.Trace || len(tr.Roots[0].Children) != 2 || tr.SessionID != "conv-e2e" || tr.User != "ada" {
			t.Fatalf("%s: %+v", r.path, tr)
		}
		if tr.Rollup.Calls != 1 || tr.Rollup.InputTokens.Value != 1000 || tr.Rollup.OutputTokens.Value != 100 || !tr.Rollup.CostUSD.Known || tr.Rollup.UncostedCalls != 0 {
			t.Errorf("%s: totals %+v", r.path, tr.Rollup)
		}
	}
	// The same search finds the content in the store and the names at PostHog,
	// so that finding no content there is meaningful.
	named := 0
	for _, e := range w.ph.Events() {
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), said) {
			t.Errorf("PostHog received content: %s", b)
		}
		if strings.Contains(string(b), "chat gpt-4o") {
			named++
		}
	}
	if named != len(runs) {
		t.Errorf("%d calls are found by name in what PostHog got, want %d", named, len(runs))
	}
	for _, e := range p.stored("trace_id=" + runs[0].trace) {
		var one json.RawMessage
		p.get("/api/v1/events/"+e.UUID+"?content=true", &one)
		if wants := e.Name != event.Trace; strings.Contains(string(one), said) != wants {
			t.Errorf("content in the store: %v, want %v: %s", !wants, wants, one)
		}
	}
	// A wrong token and an invalid body get an OTLP error, and are not
	// forwarded by the gateway.
	for _, tc := range []struct {
		token, body string
		status      int
	}{{"phc_wrong", "{}", 401}, {phKey, "{", 400}} {
		req, _ := http.NewRequest("POST", p.base+"/v1/traces", bytes.NewReader([]byte(tc.body)))
		req.Header.Set("Authorization", "Bearer "+tc.token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tc.status || !strings.Contains(string(b), `"message"`) {
			t.Errorf("%d %s", resp.StatusCode, b)
		}
	}
	p.stop()
}

// spanKeeper keeps the spans that the SDK would export.
type spanKeeper struct{ spans []sdk.ReadOnlySpan }

func (k *spanKeeper) ExportSpans(_ context.Context, s []sdk.ReadOnlySpan) error {
	k.spans = append(k.spans, s...)
	return nil
}

func (k *spanKeeper) Shutdown(context.Context) error { return nil }
