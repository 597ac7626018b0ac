package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/gateway"
)

// submissions keeps values across a restart.
type submissions struct {
	mu   sync.Mutex
	all  map[string][]byte
	fail bool
}

func (s *submissions) Load(project, id string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[project+"."+id]
}

func (s *submissions) Save(_ context.Context, project, id string, v []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail {
		return errors.New("the journal is unavailable")
	}
	if s.all == nil {
		s.all = make(map[string][]byte)
	}
	s.all[project+"."+id] = bytes.Clone(v)
	return nil
}

func (s *submissions) IDs(project string) (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.all {
		if id, ok := strings.CutPrefix(k, project+"."); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// upload sends a file of requests and returns its id.
func upload(t *testing.T, base, content string, headers ...string) string {
	t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	_ = form.WriteField("purpose", "batch")
	w, _ := form.CreateFormFile("file", "requests.jsonl")
	_, _ = io.WriteString(w, content)
	_ = form.Close()
	got := call(t, "POST", base+"/openai/v1/files", b.String(), append(headers, "Content-Type: "+form.FormDataContentType(), "Authorization: Bearer sk-own")...)
	return member(t, got, "id")
}

func member(t *testing.T, a response, name string) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil || a.status != 200 {
		t.Fatalf("%d %v: %s", a.status, err, a.body)
	}
	s, _ := m[name].(string)
	return s
}

const batchRequests = `{"custom_id":"one","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"How wide?"}]}}
{"custom_id":"two","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"How tall?"}]}}
{"custom_id":"three","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4.1-mini#rate_limit","messages":[{"role":"user","content":"How old?"}]}}
`

// TestBatch submits a batch and fetches its results twice, the second time
// after a restart: each line is one event, with the attribution of the
// submitter.
func TestBatch(t *testing.T) {
	kept := new(submissions)
	r, sim := simulate(t, gateway.Config{Submissions: kept})
	who := []string{"X-PostHog-Distinct-Id: alice", "X-PostHog-Session-Id: s-1", "X-PostHog-Trace-Id: night-run", "X-PostHog-Property-Team: hedges"}
	file := upload(t, r.url, batchRequests, who...)
	r.sink.await(t, 1)
	auth := "Authorization: Bearer sk-own"
	created := call(t, "POST", r.url+"/openai/v1/batches", `{"input_file_id":"`+file+`","endpoint":"/v1/chat/completions","completion_window":"24h"}`, "Content-Type: application/json", auth)
	batch := member(t, created, "id")
	r.sink.await(t, 2)
	got := call(t, "GET", r.url+"/openai/v1/batches/"+batch, "", auth)
	results := member(t, got, "output_file_id")
	poll := r.sink.await(t, 3)[2]
	if poll.Name != event.Span || !poll.Usage.Input.Known || poll.Cost.Total.Known || string(poll.ProviderMetadata["batch_status"]) != `"completed"` || poll.ProviderMetadata["batch_usage"] == nil {
		t.Errorf("the poll is %s with usage %+v, %s", poll.Name, poll.Usage, poll.ProviderMetadata)
	}
	fetch := func(r *rig, n int) []*event.Event {
		t.Helper()
		a := call(t, "GET", r.url+"/openai/v1/files/"+results+"/content", "", auth, "X-PostHog-Distinct-Id: cron", "Accept-Encoding: gzip")
		if a.status != 200 || strings.Count(a.body, "\n") != 3 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		events := r.sink.await(t, n+4)[n:]
		var lines []*event.Event
		for _, e := range events {
			if e.Properties["batch_id"] != nil {
				lines = append(lines, e)
			}
		}
		if len(lines) != 3 {
			t.Fatalf("%d lines of results were recorded", len(lines))
		}
		return lines
	}
	first := fetch(r, 3)
	again, _ := simulate(t, gateway.Config{Submissions: kept, Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: sim.OpenAIURL()}}})
	for k, lines := range [][]*event.Event{first, fetch(again, 0)} {
		for i, e := range lines {
			if e.UUID != first[i].UUID || !e.Timestamp.Equal(first[i].Timestamp) || e.Name != event.Generation || e.Operation != "chat" || e.ServiceTier != "batch" {
				t.Errorf("fetch %d, line %d: %s %s at %v, operation %s, tier %q", k, i, e.UUID, e.Name, e.Timestamp, e.Operation, e.ServiceTier)
			}
			if e.DistinctID != "alice" || e.SessionID != "s-1" || e.TraceID != "night-run" || string(e.Properties["team"]) != `"hedges"` || string(e.Properties["batch_id"]) != `"`+batch+`"` {
				t.Errorf("fetch %d, line %d: %q in session %q, trace %q, %s", k, i, e.DistinctID, e.SessionID, e.TraceID, e.Properties)
			}
			if e.Latency.Known {
				t.Errorf("a latency of %v", e.Latency.Value)
			}
		}
		if ok := lines[0]; ok.IsError || !ok.Usage.Output.Known || len(ok.Content.Output) == 0 || string(ok.Properties["batch_request"]) != `"one"` {
			t.Errorf("%+v", ok)
		}
		if failed := lines[2]; !failed.IsError || failed.HTTPStatus != 429 || failed.ErrorType != "rate_limit_exceeded" {
			t.Errorf("%+v", failed)
		}
	}
	if first[0].UUID == first[1].UUID {
		t.Error("two lines have the same uuid")
	}
}

// TestMessageBatch does the same with Anthropic's batches.
func TestMessageBatch(t *testing.T) {
	r, _ := simulate(t, gateway.Config{})
	created := call(t, "POST", r.url+"/anthropic/v1/messages/batches", `{"requests":[{"custom_id":"a","params":{"model":"claude-haiku-4-5","max_tokens":100,"messages":[{"role":"user","content":"How wide?"}]}},{"custom_id":"b","params":{"model":"claude-haiku-4-5","max_tokens":0,"messages":[]}}]}`,
		"Content-Type: application/json", "X-Api-Key: sk-ant", "Anthropic-Version: 2023-06-01", "X-PostHog-Distinct-Id: alice")
	batch := member(t, created, "id")
	r.sink.await(t, 1)
	for n := range 2 {
		call(t, "GET", r.url+"/anthropic/v1/messages/batches/"+batch+"/results", "", "X-Api-Key: sk-ant", "Anthropic-Version: 2023-06-01")
		r.sink.await(t, 4+3*n)
	}
	byID := make(map[string][]*event.Event)
	for _, e := range r.sink.all() {
		if e.Properties["batch_request"] != nil {
			byID[string(e.Properties["batch_request"])] = append(byID[string(e.Properties["batch_request"])], e)
		}
	}
	for _, id := range []string{`"a"`, `"b"`} {
		list := byID[id]
		if len(list) != 2 || list[0].UUID != list[1].UUID || list[0].DistinctID != "alice" || list[0].ServiceTier != "batch" || list[0].Name != event.Generation {
			t.Errorf("%s: %+v", id, list)
		}
	}
	if a := byID[`"a"`][0]; a.IsError || !a.Usage.Input.Known || a.Model == "" {
		t.Errorf("%+v", a)
	}
	if b := byID[`"b"`][0]; !b.IsError || b.ErrorType != "invalid_request_error" {
		t.Errorf("%+v", b)
	}
}

// TestBatchUnknown fetches results of a batch that was submitted elsewhere,
// results without a time, and a file that is not a result, while nothing can be
// stored.
func TestBatchUnknown(t *testing.T) {
	const embedding = `{"id":"batch_req_1","custom_id":"e","response":{"status_code":200,"request_id":"r","body":{"object":"list","model":"text-embedding-3-small","data":[{"object":"embedding","index":0,"embedding":[0.1]}],"usage":{"prompt_tokens":8,"total_tokens":8}}},"error":null}`
	const expired = `{"id":"batch_req_2","custom_id":"x","response":null,"error":{"code":"batch_expired","message":"This request could not be executed before the completion window expired."}}`
	for _, tt := range []struct {
		name, body string
		want       int
	}{
		{"results", embedding + "\n" + expired, 2}, // without a line end at the end
		{"not JSON", "a,b\n1,2\n", 0},
		{"other JSON", `{"custom_id":"one","method":"POST","url":"/v1/chat/completions","body":{}}` + "\n", 0},
		{"truncated", embedding + "\n" + embedding[:100], 1},
		{"many", strings.Repeat(embedding+"\n", 3000), 3000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/octet-stream")
				_, _ = io.WriteString(w, tt.body)
			}))
			defer up.Close()
			c := at(up.URL)
			c.Submissions = &submissions{fail: true}
			c.Limits.Queue = 500
			r := start(t, c)
			uuids := make(map[string]bool)
			for n := range 2 {
				if got := call(t, "GET", r.url+"/openai/v1/files/file-1/content", "", "X-PostHog-Distinct-Id: bob"); got.body != tt.body {
					t.Fatalf("%d bytes of %d", len(got.body), len(tt.body))
				}
				for _, e := range r.sink.await(t, (n+1)*(tt.want+1)) {
					if e.Properties["batch_request"] == nil {
						continue
					}
					uuids[e.UUID] = true
					if e.DistinctID != "bob" || e.ServiceTier != "batch" {
						t.Fatalf("%+v", e)
					}
					switch string(e.Properties["batch_request"]) {
					case `"e"`:
						if e.Name != event.Embedding || e.Usage.Input != event.Some(int64(8)) || e.IsError {
							t.Fatalf("%+v", e)
						}
					case `"x"`:
						if !e.IsError || e.ErrorCode != "batch_expired" {
							t.Fatalf("%+v", e)
						}
					}
				}
			}
			if want := min(tt.want, 2); tt.name != "many" && len(uuids) != want || tt.name == "many" && len(uuids) != 1 {
				t.Errorf("%d uuids", len(uuids))
			}
			r.quiet(t)
			if n := r.metric(t, "hedgerow_gateway_response_bytes"); n != 0 {
				t.Errorf("%v bytes were not released", n)
			}
			if s := r.Stats(); fmt.Sprint(s.Dropped) != "map[]" {
				t.Errorf("dropped: %v", s.Dropped)
			}
		})
	}
}

// TestBatchSeenLater fetches results before and after the batch itself is
// seen: their time stays, so that they count once.
func TestBatchSeenLater(t *testing.T) {
	const result = `{"custom_id":"a","result":{"type":"succeeded","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-haiku-4-5","content":[],"usage":{"input_tokens":1,"output_tokens":1}}}}` + "\n"
	const embedding = `{"id":"batch_req_1","custom_id":"e","response":{"status_code":200,"body":{"object":"list","model":"text-embedding-3-small","data":[],"usage":{"prompt_tokens":8,"total_tokens":8}}},"error":null}` + "\n"
	for _, tt := range []struct{ name, batch, object, results, line string }{
		{"message batch", "/anthropic/v1/messages/batches/msgbatch_1", `{"id":"msgbatch_1","type":"message_batch","processing_status":"ended","created_at":"2026-01-02T03:04:05Z"}`, "/anthropic/v1/messages/batches/msgbatch_1/results", result},
		{"file", "/openai/v1/batches/batch_1", `{"id":"batch_1","object":"batch","endpoint":"/v1/embeddings","input_file_id":"file-0","output_file_id":"file-1","created_at":1767323045}`, "/openai/v1/files/file-1/content", embedding},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if strings.HasSuffix(tt.results, r.URL.Path) {
					_, _ = io.WriteString(w, tt.line)
					return
				}
				_, _ = io.WriteString(w, tt.object)
			}))
			defer up.Close()
			r := start(t, gateway.Config{Submissions: new(submissions), Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: up.URL}, "anthropic": {BaseURL: up.URL}}})
			for n, path := range []string{tt.results, tt.batch, tt.results} {
				call(t, "GET", r.url+path, "", "Anthropic-Version: 2023-06-01")
				r.sink.await(t, []int{2, 3, 5}[n])
			}
			var uuids []string
			for _, e := range r.sink.all() {
				if e.Properties["batch_request"] != nil {
					uuids = append(uuids, e.UUID)
				}
			}
			if len(uuids) != 2 || uuids[0] != uuids[1] {
				t.Errorf("the uuids are %v", uuids)
			}
		})
	}
}

// TestForgetSubmitters deletes the events of a batch's submitter: results that
// are fetched later have no user, after a restart either.
func TestForgetSubmitters(t *testing.T) {
	kept := new(submissions)
	r, sim := simulate(t, gateway.Config{Submissions: kept})
	file := upload(t, r.url, batchRequests, "X-PostHog-Distinct-Id: alice", "X-PostHog-Property-Team: hedges")
	uploaded := r.sink.await(t, 1)[0]
	auth := "Authorization: Bearer sk-own"
	batch := member(t, call(t, "POST", r.url+"/openai/v1/batches", `{"input_file_id":"`+file+`","endpoint":"/v1/chat/completions","completion_window":"24h"}`, "Content-Type: application/json", auth), "id")
	r.sink.await(t, 2)
	results := member(t, call(t, "GET", r.url+"/openai/v1/batches/"+batch, "", auth), "output_file_id")
	r.sink.await(t, 3)
	if err := r.ForgetSubmitters(t.Context(), "p_other", []string{uploaded.UUID}); err != nil {
		t.Fatal(err)
	}
	if all := fmt.Sprintf("%s", kept.all); strings.Count(all, "alice") < 2 {
		t.Fatalf("of another project's events: %s", all)
	}
	if err := r.ForgetSubmitters(t.Context(), uploaded.ProjectID, []string{uploaded.UUID}); err != nil {
		t.Fatal(err)
	}
	if all := fmt.Sprintf("%s", kept.all); strings.Contains(all, "alice") || strings.Contains(all, "hedges") || !strings.Contains(all, batch) {
		t.Errorf("what is kept: %s", all)
	}
	again, _ := simulate(t, gateway.Config{Submissions: kept, Upstreams: map[string]gateway.Upstream{"openai": {BaseURL: sim.OpenAIURL()}}})
	for _, g := range []*rig{r, again} {
		n := len(g.sink.all())
		call(t, "GET", g.url+"/openai/v1/files/"+results+"/content", "", auth)
		for _, e := range g.sink.await(t, n+4)[n:] {
			if e.DistinctID != "" || e.Properties["team"] != nil {
				t.Errorf("%q %s", e.DistinctID, e.Properties)
			}
		}
	}
}
