package otlp_test

import (
	"encoding/hex"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
)

// requestsOf makes one request of each group of a file's spans, given by their
// ids.
func requestsOf(t *testing.T, name string, groups ...[]string) (requests []*collector.ExportTraceServiceRequest) {
	t.Helper()
	for _, group := range groups {
		req := readSpans(t, name)
		n := 0
		for _, ss := range req.ResourceSpans[0].ScopeSpans {
			var kept []*trace.Span
			for _, id := range group {
				for _, s := range ss.Spans {
					if hex.EncodeToString(s.SpanId) == id {
						kept = append(kept, s)
					}
				}
			}
			ss.Spans = kept
			n += len(kept)
		}
		if n != len(group) {
			t.Fatalf("%s has %d of the spans %v", name, n, group)
		}
		requests = append(requests, req)
	}
	return requests
}

// TestAcrossRequests checks what a span takes from another span of its trace
// that arrived in an earlier request.
func TestAcrossRequests(t *testing.T) {
	const root, invocation, outer, inner = "0000000000000a01", "0000000000000a02", "0000000000000a03", "0000000000000a04"
	for name, c := range map[string]struct {
		groups [][]string
		kinds  map[string]string
		users  map[string]string
	}{
		"together":                 {[][]string{{inner, outer, invocation, root}}, map[string]string{inner: event.Generation, outer: event.Span}, map[string]string{inner: "u7", outer: "u7", invocation: "u7"}},
		"the inner call first":     {[][]string{{inner}, {outer, invocation, root}}, map[string]string{inner: event.Generation, outer: event.Span}, map[string]string{inner: "", outer: "u7"}},
		"the root first":           {[][]string{{root}, {inner}, {outer}}, map[string]string{inner: event.Generation, outer: event.Span}, map[string]string{inner: "u7", outer: "u7"}},
		"the outer one is missing": {[][]string{{inner}}, map[string]string{inner: event.Generation}, nil},
		"no call within":           {[][]string{{outer, root}}, map[string]string{outer: event.Generation}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, e := range otlp.ConvertInTurn("default", requestsOf(t, "adk", c.groups...)...) {
				if want, ok := c.kinds[e.SpanID]; ok && e.Name != want {
					t.Errorf("%s is %s, want %s", e.SpanName, e.Name, want)
				}
				if want, ok := c.users[e.SpanID]; ok && e.DistinctID != want {
					t.Errorf("%s has user %q, want %q", e.SpanName, e.DistinctID, want)
				}
			}
		})
	}
}
