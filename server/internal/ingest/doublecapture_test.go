package ingest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
	"github.com/hedgerow/hedgerow/server/internal/join"
	"github.com/hedgerow/hedgerow/server/internal/join/jointest"
)

// TestRecordedDoubleCaptures has what real wrappers sent of calls that went through
// the gateway as well: each call counts once, whichever half comes first, and a call
// of another model with the same counts stays one of its own.
func TestRecordedDoubleCaptures(t *testing.T) {
	at := time.Date(2026, 11, 30, 0, 4, 2, 0, time.UTC)
	for file, calls := range map[string]int{"both-openai.json": 1, "both-langgraph.json": 2} {
		for _, gatewayFirst := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/gateway first %v", file, gatewayFirst), func(t *testing.T) {
				b, err := os.ReadFile("testdata/" + file)
				if err != nil {
					t.Fatal(err)
				}
				var recorded struct {
					Path string
					Body []byte `json:"body_b64"`
				}
				if err := json.Unmarshal(b, &recorded); err != nil {
					t.Fatal(err)
				}
				body := strings.ReplaceAll(string(recorded.Body), "PROJECT_TOKEN", settings.def.Token)
				for _, e := range strings.SplitAfter(body, `"api_key": "`)[1:] {
					token, _, _ := strings.Cut(e, `"`)
					body = strings.ReplaceAll(body, token, settings.def.Token)
				}
				k := &kept{}
				h, _ := newHandler(t, ingest.Config{Append: k, Now: func() time.Time { return at }})
				other := &event.Event{UUID: event.NewID(), ProjectID: settings.def.ID, Name: event.Generation, Source: event.SourceGateway, Timestamp: at, Provider: "openai", BaseURL: "https://api.openai.com",
					ModelAsked: "gpt-5", Model: "gpt-5-2025-08-07", CompletionID: "chatcmpl-ffffffffffffffffffffffffffffffff", Usage: event.Usage{Input: event.Some[int64](1284), Output: event.Some[int64](312)}}
				gateway := []*event.Event{other}
				for i := range calls {
					e := other.Clone()
					e.UUID, e.ModelAsked, e.Model, e.CompletionID = event.NewID(), "gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", fmt.Sprintf("chatcmpl-%032x", i+1)
					gateway = append(gateway, e)
				}
				wrapper := func() {
					if res := call(h, "POST", recorded.Path, []byte(body), "Content-Type", "application/json"); res.Code != 200 {
						t.Fatalf("%d %s", res.Code, res.Body)
					}
				}
				if !gatewayFirst {
					wrapper()
				}
				if err := k.Append(t.Context(), gateway...); err != nil {
					t.Fatal(err)
				}
				if gatewayFirst {
					wrapper()
				}
				merges := joined(t, at, k.events(t))
				halves := make(map[string]bool)
				for _, m := range merges {
					if m.Call == other.UUID || halves[m.Other] || !slices.ContainsFunc(gateway, func(e *event.Event) bool { return e.UUID == m.Call }) {
						t.Errorf("merged: %+v", m)
					}
					halves[m.Other] = true
				}
				if len(merges) != calls {
					t.Errorf("%d merges, want %d", len(merges), calls)
				}
			})
		}
	}
}

// joined returns the merges of events that the journal has.
func joined(t *testing.T, at time.Time, events []*event.Event) (merges []join.Merge) {
	t.Helper()
	isGateway := func(u string) bool { return strings.HasPrefix(u, "http://127.0.0.1:21120/") }
	for _, e := range jointest.Merges(t, at, join.JoinerConfig{Gateway: isGateway}, events...) {
		if m, ok := join.MergeOf(e); ok {
			merges = append(merges, m)
		}
	}
	return merges
}
