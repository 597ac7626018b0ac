package reconcile

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
)

// fake is a provider's admin API.
type fake struct {
	*httptest.Server
	asked  []string // path?query of each request
	answer func(w http.ResponseWriter, r *http.Request)
	waits  []time.Duration
}

func newFake(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) (*fake, *Fetcher) {
	f := &fake{answer: answer}
	f.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked = append(f.asked, r.URL.Path+"?"+r.URL.RawQuery)
		f.answer(w, r)
	}))
	t.Cleanup(f.Close)
	return f, &Fetcher{
		Client: f.Client(), Base: func(string) string { return f.URL },
		Sleep: func(_ context.Context, d time.Duration) error { f.waits = append(f.waits, d); return nil },
		Now:   func() time.Time { return time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC) },
	}
}

var november = [2]time.Time{time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC)}

// TestFetchOpenAI reads two pages of costs and one of each usage report, with the real
// form of requests and answers; a report that the account does not have is left out.
func TestFetchOpenAI(t *testing.T) {
	f, fetcher := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.Header.Get("Authorization") != "Bearer sk-admin-1" || q.Get("start_time") != "1793491200" || q.Get("end_time") != "1793664000" || q.Get("bucket_width") != "1d" {
			t.Errorf("%s with %v", r.URL, r.Header)
		}
		switch path := r.URL.Path; {
		case path == "/v1/organization/costs" && q.Get("page") == "":
			if !slices.Equal(q["group_by[]"], []string{"line_item"}) {
				t.Errorf("costs by %v", q["group_by[]"])
			}
			fmt.Fprint(w, `{"object":"page","data":[{"object":"bucket","start_time":1793491200,"end_time":1793577600,"results":[{"object":"organization.costs.result","amount":{"value":0.5,"currency":"usd"},"line_item":"gpt-4o, input"}]}],"has_more":true,"next_page":"p2"}`)
		case path == "/v1/organization/costs" && q.Get("page") == "p2":
			fmt.Fprint(w, `{"object":"page","data":[{"object":"bucket","start_time":1793577600,"end_time":1793664000,"results":[]}],"has_more":false,"next_page":null}`)
		case path == "/v1/organization/usage/completions":
			if !slices.Equal(q["group_by[]"], []string{"model", "batch", "service_tier"}) {
				t.Errorf("usage by %v", q["group_by[]"])
			}
			fmt.Fprint(w, `{"object":"page","data":[{"object":"bucket","start_time":1793491200,"end_time":1793577600,"results":[{"object":"organization.usage.completions.result","input_tokens":100,"output_tokens":5,"num_model_requests":2,"model":"gpt-4o"}]}],"has_more":false,"next_page":null}`)
		case path == "/v1/organization/usage/images":
			http.NotFound(w, r)
		default:
			fmt.Fprint(w, `{"object":"page","data":[],"has_more":false,"next_page":null}`)
		}
	})
	files, err := fetcher.Fetch(t.Context(), OpenAI, "sk-admin-1", november[0], november[1])
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 6 || len(f.asked) != 7 {
		t.Errorf("%d pages of %v", len(files), f.asked)
	}
	exports, err := Parse(files...)
	if err != nil {
		t.Fatal(err)
	}
	got := describe(exports)
	for _, want := range []string{"feed openai-costs, days 2026-11-01 2026-11-02", "kind input | item gpt-4o, input | $0.5 of 1", "feed openai-usage-completions, days 2026-11-01,", "kind input | n 100 | calls 2"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestFetchAnthropicAndOpenRouter(t *testing.T) {
	f, fetcher := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch r.URL.Path {
		case "/v1/organizations/cost_report", "/v1/organizations/usage_report/messages":
			if r.Header.Get("X-Api-Key") != "sk-ant-admin01-x" || r.Header.Get("Anthropic-Version") != "2023-06-01" || q.Get("starting_at") != "2026-11-01T00:00:00Z" || q.Get("ending_at") != "2026-11-03T00:00:00Z" {
				t.Errorf("%s with %v", r.URL, r.Header)
			}
			if strings.HasSuffix(r.URL.Path, "cost_report") {
				_, _ = w.Write(read(t, "testdata/anthropic-costs.json"))
			} else {
				_, _ = w.Write(read(t, "testdata/anthropic-usage.json"))
			}
		case "/api/v1/activity":
			if r.Header.Get("Authorization") != "Bearer sk-or-v1-x" || r.Header.Get("X-Api-Key") != "" {
				t.Errorf("%v", r.Header)
			}
			_, _ = w.Write(read(t, "testdata/openrouter-activity.json"))
		default:
			t.Errorf("asked for %s", r.URL)
		}
	})
	for provider, key := range map[string]string{Anthropic: "sk-ant-admin01-x", OpenRouter: "sk-or-v1-x"} {
		files, err := fetcher.Fetch(t.Context(), provider, key, november[0], november[1])
		if err != nil {
			t.Fatal(err)
		}
		exports, err := Parse(files...)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int{Anthropic: 2, OpenRouter: 1}[provider]
		if len(exports) != want {
			t.Errorf("%s: %d exports of %v", provider, len(exports), f.asked)
		}
	}
}

// TestFetchFails: temporary errors are retried, within limits, and no error
// contains the key.
func TestFetchFails(t *testing.T) {
	const key = "sk-ant-admin01-secret"
	for _, c := range []struct {
		name   string
		answer func(n int, w http.ResponseWriter)
		code   event.Code
		says   string
		asked  int
		waits  []time.Duration
	}{
		{"401", func(_ int, w http.ResponseWriter) { w.WriteHeader(401) }, event.CodeInvalid, "anthropic rejects the admin key (status 401)", 1, nil},
		{"403", func(_ int, w http.ResponseWriter) { w.WriteHeader(403) }, event.CodeInvalid, "rejects the admin key", 1, nil},
		{"404", func(_ int, w http.ResponseWriter) { w.WriteHeader(404) }, event.CodeNotFound, "no such report", 1, nil},
		{"400", func(_ int, w http.ResponseWriter) { w.WriteHeader(400) }, event.CodeInvalid, "rejects the request (status 400)", 1, nil},
		{"429 for ever", func(_ int, w http.ResponseWriter) { w.Header().Set("Retry-After", "7"); w.WriteHeader(429) }, event.CodeRateLimited, "rate limiting", 5, []time.Duration{7e9, 7e9, 7e9, 7e9}},
		{"429, an hour", func(_ int, w http.ResponseWriter) { w.Header().Set("Retry-After", "3600"); w.WriteHeader(429) }, event.CodeRateLimited, "rate limiting", 5, []time.Duration{60e9, 60e9, 60e9, 60e9}},
		{"500 for ever", func(_ int, w http.ResponseWriter) { w.WriteHeader(500) }, event.CodeUpstream, "status 500", 5, []time.Duration{1e9, 2e9, 4e9, 8e9}},
		{"429 once", func(n int, w http.ResponseWriter) {
			if n == 1 {
				w.WriteHeader(429)
				return
			}
			fmt.Fprint(w, `{"data":[],"has_more":false}`)
		}, "", "", 3, []time.Duration{1e9}},
		{"pages without end", func(_ int, w http.ResponseWriter) { fmt.Fprint(w, `{"data":[],"has_more":true,"next_page":"again"}`) }, event.CodeUpstream, "do not end", 2, nil},
		{"web page", func(_ int, w http.ResponseWriter) { fmt.Fprint(w, `<html>`) }, event.CodeUpstream, "is not JSON", 1, nil},
		{"redirect", func(_ int, w http.ResponseWriter) {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(302)
		}, event.CodeInvalid, "status 302", 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f *fake
			f, fetcher := newFake(t, func(w http.ResponseWriter, _ *http.Request) { c.answer(len(f.asked), w) })
			fetcher.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			_, err := fetcher.Fetch(t.Context(), Anthropic, key, november[0], november[1])
			if c.code == "" {
				if err != nil {
					t.Fatal(err)
				}
			} else {
				var e *event.Error
				if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Message, c.says) || e.Hint == "" || strings.Contains(err.Error(), key) {
					t.Errorf("%v, want %s %q", err, c.code, c.says)
				}
			}
			if len(f.asked) != c.asked || !slices.Equal(f.waits, c.waits) {
				t.Errorf("%d requests, waits %v", len(f.asked), f.waits)
			}
		})
	}
}

func TestFetchRefuses(t *testing.T) {
	f, fetcher := newFake(t, func(w http.ResponseWriter, _ *http.Request) { t.Error("asked") })
	for name, err := range map[string]error{
		"a key for calls":     second(fetcher.Fetch(t.Context(), OpenAI, "sk-proj-1", november[0], november[1])),
		"AWS":                 second(fetcher.Fetch(t.Context(), Bedrock, "AKIA", november[0], november[1])),
		"no period":           second(fetcher.Fetch(t.Context(), OpenAI, "sk-admin-1", november[1], november[0])),
		"the future":          second(fetcher.Fetch(t.Context(), OpenAI, "sk-admin-1", november[0].AddDate(1, 0, 0), november[1].AddDate(1, 0, 0))),
		"a key of Anthropic":  second(fetcher.Fetch(t.Context(), Anthropic, "sk-ant-api03-x", november[0], november[1])),
		"a key of OpenRouter": second(fetcher.Fetch(t.Context(), OpenRouter, "sk-1", november[0], november[1])),
	} {
		if e := (*event.Error)(nil); !errors.As(err, &e) || e.Code != event.CodeInvalid || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Without a test's own address the key is sent to the provider's host, over
	// TLS.
	for _, p := range Fetchable {
		if !strings.HasPrefix(APIHost(p), "https://") {
			t.Errorf("%s is at %s", p, APIHost(p))
		}
	}
	f.Close()
	if _, err := fetcher.Fetch(t.Context(), OpenAI, "sk-admin-1", november[0], november[1]); event.AsError(err).Code != event.CodeUpstream || len(f.waits) != 4 {
		t.Errorf("%v after %v", err, f.waits)
	}
}

func second[T any](_ T, err error) error { return err }
