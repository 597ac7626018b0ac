package ingest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
	"github.com/hedgerow/hedgerow/server/internal/join"
	"github.com/hedgerow/hedgerow/server/internal/join/jointest"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
	"github.com/hedgerow/hedgerow/server/internal/pipeline"
)

// clientCase is a recorded request of a wrapper, and the gateway's calls of which it tells.
type clientCase struct {
	file          string
	ids           []string // of the gateway's answers
	provider      string
	asked, model  string
	input, output int64
	user, session string // that the wrapper names
}

const asked, answered = "gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"

var clientCases = []clientCase{
	{"posthog-python-openai-both-user-lost", []string{"chatcmpl-1f2cd5f1d7f04ed5a0d1c4a7b8e9f0a1"}, "openai", asked, answered, 1284, 312, "user_1", "sess-1"},
	{"posthog-python-langgraph-both-split", []string{"chatcmpl-ab72646db57d4602ab3c78d053c57e7c", "chatcmpl-5be600d898994787983bf4e36c2f9f74"}, "openai", asked, answered, 1284, 312, "user_1", "sess-1"},
	{"posthog-python-gemini-both-double", []string{"k3BradXnN4Kp1MkP0b6V8Ak"}, "gemini", "gemini-2.5-flash", "gemini-2.5-flash", 1000, 250, "user_1", "sess-1"},
	{"posthog-python-agents-both-double", []string{"resp_54ae839e948f46c9a83d5fcca78295bb", "resp_b083e49a745c4390b6ac73a31c9c47d1"}, "openai", asked, answered, 1284, 312, "user_1", ""},
	{"litellm-both-double", []string{"chatcmpl-3af2caf059284c98a142c216e6f457c9"}, "openai", asked, answered, 1284, 312, "user_1", ""},
	{"openinference-openai-both-double", []string{"chatcmpl-dcddaaa30423470d8507712d88e35373"}, "openai", asked, answered, 1284, 312, "user_1", "sess-1"},
	{"aisdk-both-split", []string{"resp_c0ec8b1acba7463cacf7cb83235a0ec7", "resp_da67f04d81834909bbfce793aff605fa"}, "openai", asked, answered, 1284, 312, "user_1", "sess-1"},
	{"anthropic-sdk-native-spans-plus-pydantic", []string{"msg_e07a9d922d194acbacaaa4914dc1de27", "msg_0d835f6046934258883d49f6e9c912c9"}, "anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929", 7100, 50, "", "01a229cb-f5f5-7438-98bb-09213c9166bb"},
}

// TestClientCases has what real wrappers have reported of calls that went through the
// gateway as well, before and after the gateway's: each of the wrapper's generations is
// merged into one of the gateway's, which gets its user and session. The gateway's caller
// names no user.
func TestClientCases(t *testing.T) {
	for _, c := range clientCases {
		for _, gatewayFirst := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/gateway first %t", c.file, gatewayFirst), func(t *testing.T) {
				b, err := os.ReadFile("../../e2e/testdata/clients/" + c.file + ".json")
				if err != nil {
					t.Fatal(err)
				}
				var recorded struct {
					Path    string
					Headers map[string]string
					Body    []byte `json:"body_b64"`
				}
				if err := json.Unmarshal(b, &recorded); err != nil {
					t.Fatal(err)
				}
				at := time.Date(2026, 11, 30, 0, 3, 48, 0, time.UTC)
				k := &kept{}
				table := price.Default()
				events, err := pipeline.New(pipeline.Config{Price: table.Price})
				if err != nil {
					t.Fatal(err)
				}
				events.Open(k, nil)
				now := func() time.Time { return at }
				var h http.Handler
				h, _ = newHandler(t, ingest.Config{Append: events, Now: now})
				if recorded.Headers["Content-Type"] == "application/x-protobuf" || recorded.Headers["content-type"] == "application/x-protobuf" {
					if h, err = otlp.New(otlp.Config{Project: func(string) (string, error) { return settings.def.ID, nil }, Append: events, Now: now}); err != nil {
						t.Fatal(err)
					}
				}
				var header []string
				for name, v := range recorded.Headers {
					header = append(header, name, strings.ReplaceAll(v, "PROJECT_TOKEN", settings.def.Token))
				}
				body := recorded.Body
				if recorded.Headers["Content-Type"] == "application/json" {
					body = []byte(strings.ReplaceAll(string(body), "phc_clientsclientsclientsclientsclientsclients1", settings.def.Token))
				}
				wrapper := func() {
					if res := call(h, "POST", recorded.Path, body, header...); res.Code != 200 {
						t.Fatalf("%d %s", res.Code, res.Body)
					}
				}
				calls := make(map[string]*event.Event)
				gateway := func() {
					for i, id := range c.ids {
						e := &event.Event{UUID: event.NewID(), ProjectID: settings.def.ID, Name: event.Generation, Source: event.SourceGateway, Timestamp: at.Add(time.Duration(i) * 100 * time.Millisecond), TraceID: event.NewID(),
							Provider: c.provider, ModelAsked: c.asked, Model: c.model, CompletionID: id, Latency: event.Some(90 * time.Millisecond), Usage: event.Usage{Input: event.Some(c.input), Output: event.Some(c.output)}}
						calls[e.UUID] = e
						if err := k.Append(t.Context(), e); err != nil {
							t.Fatal(err)
						}
					}
				}
				if gatewayFirst {
					gateway()
				}
				wrapper()
				if !gatewayFirst {
					gateway()
				}
				journaled := k.events(t)
				reported := 0
				for _, e := range journaled {
					if e.IsCosted() && e.Source != event.SourceGateway {
						reported++
					}
				}
				halves := make(map[string]bool)
				isGateway := func(u string) bool { return strings.HasPrefix(u, "http://127.0.0.1:21120/") }
				for _, me := range jointest.Merges(t, at, join.JoinerConfig{Gateway: isGateway}, journaled...) {
					m, ok := join.MergeOf(me)
					e := calls[m.Call]
					if !ok || e == nil || halves[m.Other] {
						t.Errorf("merged: %+v", m)
						continue
					}
					halves[m.Other] = true
					delete(calls, m.Call)
					join.Apply(me, e)
					i := slices.IndexFunc(journaled, func(o *event.Event) bool { return o.UUID == m.Other })
					half := journaled[i]
					if e.DistinctID != c.user || e.SessionID != c.session || e.TraceID != half.TraceID || e.SpanID != half.SpanID || e.ParentID != half.ParentID {
						t.Errorf("%s is of %q, session %q, in %s", e.CompletionID, e.DistinctID, e.SessionID, e.TraceID)
					}
				}
				if reported != len(c.ids) || len(halves) != reported || len(calls) != 0 {
					t.Errorf("%d generations reported, %d merged, %d of the gateway's alone, of %d calls", reported, len(halves), len(calls), len(c.ids))
				}
			})
		}
	}
}
