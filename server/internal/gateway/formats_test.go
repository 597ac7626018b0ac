package gateway_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	simprovider "github.com/hedgerow/hedgerow/internal/simulate/provider"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// golden is an exchange from the parser's golden files.
type golden struct {
	method, path, provider  string
	status                  int
	header                  http.Header
	request, response, want []byte
}

func readGolden(t *testing.T, file string) (g golden) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := bytes.Cut(b, []byte("\n-- request --\n"))
	request, rest, ok2 := bytes.Cut(append([]byte("\n"), rest...), []byte("\n-- response --\n"))
	request = bytes.TrimPrefix(request, []byte("\n")) // "" has no line
	response, want, ok3 := bytes.Cut(rest, []byte("\n-- want --\n"))
	if !ok || !ok2 || !ok3 {
		t.Fatalf("%s lacks a section", file)
	}
	g.header, g.request, g.response, g.want = http.Header{}, request, response, want
	for i, line := range strings.Split(string(head), "\n") {
		if i == 0 {
			var dialect string
			if _, err := fmt.Sscan(line, &g.method, &g.path, &g.provider, &dialect, &g.status); err != nil {
				t.Fatal(err)
			}
			continue
		}
		k, v, _ := strings.Cut(line, ": ")
		g.header.Set(k, v)
	}
	if strings.HasPrefix(g.header.Get("Content-Type"), "text/event-stream") {
		g.response = append(bytes.TrimRight(g.response, "\n"), "\n\n"...)
	}
	if g.header.Get("Content-Type") == "application/vnd.amazon.eventstream" {
		g.response = simprovider.AmazonEvents(string(g.response))
	}
	return g
}

// TestFormats sends the parser's golden exchanges of providers with routes of
// their own through the gateway: each byte is forwarded as it is, in both
// directions, and the event is the golden one.
func TestFormats(t *testing.T) {
	for _, tt := range []struct{ route, files string }{
		{"vertex", "vertex_*.txt"},
		{"cohere", "cohere_*.txt"},
		{"bedrock", "bedrock_*.txt"},
	} {
		files, err := filepath.Glob(filepath.Join("../../../internal/provider/testdata/exchanges", tt.files))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files %s: %v", tt.files, err)
		}
		for _, file := range files {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { testFormat(t, tt.route, readGolden(t, file)) })
		}
	}
}

func testFormat(t *testing.T, route string, g golden) {
	type arrival struct {
		path string
		key  string
		body []byte
	}
	arrived := make(chan arrival, 1)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		arrived <- arrival{r.RequestURI, r.Header.Get("Authorization"), b}
		for k, v := range g.header {
			w.Header()[k] = v
		}
		w.WriteHeader(g.status)
		for rest := g.response; len(rest) > 0; { // in pieces that match no chunk boundary
			n := min(97, len(rest))
			_, _ = w.Write(rest[:n])
			_ = http.NewResponseController(w).Flush()
			rest = rest[n:]
		}
	}))
	defer up.Close()
	r := start(t, gateway.Config{Upstreams: map[string]gateway.Upstream{route: {BaseURL: up.URL}}})
	got := call(t, g.method, r.url+"/"+route+g.path, string(g.request), "Content-Type: application/json", "Authorization: Bearer caller-token")
	if got.err != nil || got.status != g.status || got.body != string(g.response) {
		t.Errorf("the caller got %d %v, %d bytes, want the provider's %d", got.status, got.err, len(got.body), len(g.response))
	}
	if a := receive(t, arrived, "the call"); a.path != g.path || a.key != "Bearer caller-token" || !bytes.Equal(a.body, g.request) {
		t.Errorf("arrived: %s %s %s", a.path, a.key, a.body)
	}
	var want struct {
		Event  event.Event
		Output json.RawMessage
	}
	if err := json.Unmarshal(g.want, &want); err != nil {
		t.Fatal(err)
	}
	e, w := r.one(t), &want.Event
	if e.Name != w.Name || e.Provider != g.provider || e.ModelAsked != w.ModelAsked || e.Model != w.Model || e.Operation != w.Operation || e.StopReason != w.StopReason ||
		e.Status != w.Status || e.ErrorType != w.ErrorType || e.ErrorMessage != w.ErrorMessage || e.ResponseBytes != int64(len(g.response)) {
		t.Errorf("event %+v, want %+v", e, w)
	}
	usage, err := json.Marshal(e.Usage)
	if err != nil {
		t.Fatal(err)
	}
	if wanted, _ := json.Marshal(w.Usage); !bytes.Equal(usage, wanted) {
		t.Errorf("usage %s, want %s", usage, wanted)
	}
	var output bytes.Buffer
	if len(want.Output) > 0 {
		if err := json.Compact(&output, want.Output); err != nil {
			t.Fatal(err)
		}
	}
	if string(e.Content.Output) != output.String() {
		t.Errorf("output %s, want %s", e.Content.Output, output.String())
	}
}
