package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	simposthog "github.com/hedgerow/hedgerow/internal/simulate/posthog"
)

// clientsKey is the project key in the recorded requests.
const clientsKey = "phc_clientsclientsclientsclientsclientsclients1"

// leakWorld is a hedgerow with a connection of clientsKey, in privacy mode.
func leakWorld(t *testing.T) (*world, *proc) {
	t.Helper()
	w := newWorld(t)
	w.ph = simposthog.New(simposthog.Options{Projects: []simposthog.Project{{Name: "clients", Token: clientsKey}}, KeepRequests: 100_000})
	if err := w.ph.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.ph.Stop)
	w.env = append(w.env, "POSTHOG_API_KEY="+clientsKey, "POSTHOG_HOST="+w.ph.URL())
	p := w.start()
	w.mustRun("connection", "set", "--flush-interval", "100ms", "--flush-at", "500", "--skip-test")
	return w, p
}

// delivered waits until delivery is complete, and returns all events that
// PostHog received.
func (w *world) delivered(p *proc, least int) []simposthog.Event {
	w.t.Helper()
	var status struct {
		Connections []struct {
			Delivery struct {
				Sent, Waiting, Dead int
			}
		}
	}
	w.await(func() bool {
		p.call("GET", "/api/v1/connections", "", &status)
		d := status.Connections[0].Delivery
		return d.Sent+d.Dead >= least && d.Waiting == 0
	}, func() string { return fmt.Sprintf("of %d events are %+v", least, status) })
	return w.ph.Events()
}

// TestClientsLeakNothing replays recorded requests of real clients, and
// searches PostHog for their content.
func TestClientsLeakNothing(t *testing.T) {
	t.Parallel()
	w, p := leakWorld(t)
	files, err := filepath.Glob("testdata/clients/*.json")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d recorded requests, %v", len(files), err)
	}
	said := map[string]string{} // content that must not be sent, and its source
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var c struct {
			Method, Path string
			Headers      map[string]string
			Body         []byte `json:"body_b64"`
		}
		if err := json.Unmarshal(b, &c); err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), c.Method, p.base+c.Path, bytes.NewReader(c.Body))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range c.Headers {
			r.Header.Set(k, strings.ReplaceAll(v, "PROJECT_TOKEN", p.token()))
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", f, resp.StatusCode, answer)
		}
		for _, s := range sentences(c.Body) {
			said[s] = filepath.Base(f)
		}
	}
	for _, s := range []string{"quick hedgehog", "private answer", "secret prompt", "secret tool", "be short"} {
		said[s] = "the recordings"
	}
	if len(said) < 10 {
		t.Fatalf("%d sentences in the recordings", len(said))
	}
	events := w.delivered(p, 60)
	for _, e := range events {
		for _, text := range spoken(e.Raw) {
			for s, of := range said {
				if strings.Contains(text, s) {
					t.Errorf("%q of %s was sent in %s: %s", s, of, e.Name, e.Raw)
				}
			}
		}
	}
	t.Logf("%d recorded requests, %d events at PostHog, %d sentences searched", len(files), len(events), len(said))

	// Properties for charts are present nevertheless.
	for _, want := range []string{`"plan":"pro"`, `"$ai_model":"gpt-4.1-mini`, `"$ai_input_tokens":1284`, `"langfuse.trace.metadata.plan":"pro"`, `"mastra.metadata.plan":"pro"`, `"gen_ai.tool.name":"get_weather"`, `"service.name":"app"`} {
		found := false
		for _, e := range events {
			found = found || bytes.Contains(e.Raw, []byte(want))
		}
		if !found {
			t.Errorf("no event has %s", want)
		}
	}
}

// spokenRuns match runs of prose.
var spokenRuns = regexp.MustCompile(`[A-Za-z][A-Za-z0-9 ,.'?!:-]{23,}`)

// sentences are the texts of a recorded body that look like content: at least
// 24 characters with four words.
func sentences(body []byte) (out []string) {
	if z, err := gzip.NewReader(bytes.NewReader(body)); err == nil {
		body, _ = io.ReadAll(z)
	}
	for _, s := range spokenRuns.FindAllString(string(body), -1) {
		if s = strings.TrimSpace(s); len(strings.Fields(s)) >= 4 && len(s) >= 24 && !machine(s) {
			out = append(out, s)
		}
	}
	return out
}

// machine reports whether a text is not content: what SDKs report about
// themselves.
func machine(s string) bool {
	return strings.Contains(s, "GMT") || strings.Contains(s, "Python") || strings.Contains(s, "Debian")
}

// spoken are the decodings of what was sent: unchanged, and with base64
// decoded.
func spoken(raw []byte) []string {
	out := []string{string(raw)}
	for _, run := range base64Runs.FindAll(raw, -1) {
		for at := range 4 {
			part := strings.NewReplacer("-", "+", "_", "/").Replace(string(run[at:]))
			b, err := base64.StdEncoding.DecodeString(part[:len(part)-len(part)%4])
			if err == nil {
				out = append(out, string(b))
			}
		}
	}
	return out
}

var base64Runs = regexp.MustCompile(`[A-Za-z0-9+/_-]{24,}`)

// secretMark is in each word of the generated spans' content, and nowhere else.
const secretMark = "zqxj"

// TestSpansLeakNothing sends spans of unknown libraries, with content under
// random names and in unusual encodings.
func TestSpansLeakNothing(t *testing.T) {
	t.Parallel()
	n := 10_000
	if testing.Short() || os.Getenv("HEDGEROW_LEAKS") == "" {
		n = 1_000
	}
	w, p := leakWorld(t)
	r := rand.New(rand.NewPCG(20261130, uint64(n)))
	for from := 0; from < n; from += 500 {
		spans := make([]*trace.Span, 0, 500)
		for i := range 500 {
			spans = append(spans, oddSpan(r, uint64(from+i+1)))
		}
		b, err := proto.Marshal(&collector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{
			Resource:   &resource.Resource{Attributes: []*common.KeyValue{text("service.name", "shop"), text("service.notes", utter(r, 9))}},
			ScopeSpans: []*trace.ScopeSpans{{Scope: &common.InstrumentationScope{Name: "openinference.instrumentation.new"}, Spans: spans}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), "POST", p.base+"/v1/traces", bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-protobuf")
		req.Header.Set("Authorization", "Bearer "+p.token())
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%d", resp.StatusCode)
		}
	}
	events := w.delivered(p, n)
	withheld, plans := 0, 0
	for _, e := range events {
		for _, s := range spoken(e.Raw) {
			if low := strings.ToLower(s); strings.Contains(low, secretMark) {
				t.Fatalf("content was sent: %s", e.Raw)
			}
		}
		if bytes.Contains(e.Raw, []byte(`"hedgerow_withheld"`)) {
			withheld++
		}
		if bytes.Contains(e.Raw, []byte(`"ai.telemetry.metadata.plan":"pro"`)) {
			plans++
		}
	}
	if withheld == 0 || plans != len(events) {
		t.Errorf("of %d events the canary has found something in %d, and %d have the caller's property", len(events), withheld, plans)
	}
	t.Logf("%d spans, %d events at PostHog, the canary found something in %d", n, len(events), withheld)

	var book struct {
		Left, Held []struct {
			Name, Reason string
			Count        int
		}
	}
	w.await(func() bool {
		p.call("GET", "/api/v1/connections/default/ledger", "", &book)
		return len(book.Left) > 10 && len(book.Held) > 100
	}, func() string { return fmt.Sprintf("the ledger has %d and %d names", len(book.Left), len(book.Held)) })
	if b, _ := json.Marshal(book); strings.Contains(strings.ToLower(string(b)), secretMark) {
		t.Error("the ledger contains content")
	}
}

// utter generates content with the given number of words.
func utter(r *rand.Rand, words int) string {
	out := make([]string, words)
	for i := range out {
		syllables := []string{"ba", "nor", "vel", "tu", "kim", "sol", "re", "dan"}
		out[i] = syllables[r.IntN(8)] + secretMark + syllables[r.IntN(8)]
	}
	return strings.Join(out, " ")
}

func text(key, v string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: v}}}
}

// oddSpan is a span of a call whose content is also in unexpected attributes.
func oddSpan(r *rand.Rand, id uint64) *trace.Span {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	said := utter(r, 6+r.IntN(40))
	words := strings.Fields(said)
	piece := func() string { // at least six words: more than 24 characters
		from := r.IntN(len(words) - 5)
		return strings.Join(words[from:from+6+r.IntN(len(words)-from-5)], " ")
	}
	name := func() string {
		part := func() string {
			return pick("step", "node", "llm", "agent", "user", "flow", "chunk", "doc", "query", "state", "payload", "value", "data", "ctx", "memo", "note", "title", "summaryText", "rawBody", "lastMessage") + pick("", "", "_1", "X", "s")
		}
		return pick("acme.", "newlib.", "ai.", "llm.", "gen_ai.", "langfuse.", "mastra.", "logfire.", "crewai.", "", "$ai_", "traceloop.", "openinference.", "posthog.") + part() + pick("", ".", "_", "/") + part()
	}
	form := func(s string) *common.AnyValue {
		q, _ := json.Marshal(s)
		str := func(s string) *common.AnyValue {
			return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: s}}
		}
		switch r.IntN(9) {
		case 0:
			return str(`{"text":` + string(q) + `}`)
		case 1:
			return str(string(q))
		case 2:
			return str(base64.StdEncoding.EncodeToString([]byte("x" + s)))
		case 3:
			return str(strings.ToUpper(s))
		case 4:
			return &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: &common.ArrayValue{Values: []*common.AnyValue{str(s), str("b")}}}}
		case 5:
			return &common.AnyValue{Value: &common.AnyValue_KvlistValue{KvlistValue: &common.KeyValueList{Values: []*common.KeyValue{text("q", s)}}}}
		case 6:
			return str(strings.ReplaceAll(s, " ", "_"))
		}
		return str(s)
	}
	at := uint64(time.Now().UnixNano())
	s := &trace.Span{TraceId: fmt.Appendf(nil, "%016d", id), SpanId: fmt.Appendf(nil, "%08d", id%100_000_000), Name: "chat gpt-4.1-mini", StartTimeUnixNano: at, EndTimeUnixNano: at + 1e6}
	q, _ := json.Marshal(said)
	switch r.IntN(4) {
	case 0: // a call by the GenAI conventions
		s.Attributes = append(s.Attributes, text("gen_ai.operation.name", "chat"), text("gen_ai.request.model", "gpt-4.1-mini"), text("gen_ai.input.messages", `[{"role":"user","parts":[{"type":"text","content":`+string(q)+`}]}]`))
	case 1: // content under OpenInference's name
		s.Attributes = append(s.Attributes, text("openinference.span.kind", "CHAIN"), text("input.value", said))
	case 2: // the AI SDK's outer span
		s.Attributes = append(s.Attributes, text("ai.operationId", "ai.embed"), text("ai.value", string(q)))
	default: // content that hedgerow does not recognise: in a long attribute only
		s.Attributes = append(s.Attributes, text("gen_ai.agent.name", "bot"), text("newlib.everything", said))
	}
	s.Attributes = append(s.Attributes, text("ai.telemetry.metadata.plan", "pro"))
	for range 1 + r.IntN(6) {
		s.Attributes = append(s.Attributes, &common.KeyValue{Key: name(), Value: form(piece())})
	}
	if r.IntN(3) == 0 { // as metadata of the caller
		s.Attributes = append(s.Attributes, &common.KeyValue{Key: pick("ai.telemetry.metadata.", "langfuse.trace.metadata.", "traceloop.association.properties.", "mastra.metadata.") + pick("label", "topic", "where", "ref"), Value: form(piece())})
	}
	if r.IntN(10) == 0 {
		s.Name = piece()
	}
	if r.IntN(10) == 0 {
		s.Attributes = append(s.Attributes, text("session.id", strings.ReplaceAll(piece(), " ", "-")), text("langfuse.trace.name", piece()))
	}
	if r.IntN(10) == 0 {
		s.Status = &trace.Status{Code: trace.Status_STATUS_CODE_ERROR, Message: "bad request: " + piece()}
	}
	return s
}
