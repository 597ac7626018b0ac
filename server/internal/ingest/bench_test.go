package ingest_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/server/internal/ingest"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/hedgerow/hedgerow/server/internal/pipeline"
)

// benchBatch is a batch of n events of about size bytes each: generations as
// @posthog/ai sends them, or product events as posthog-js sends them.
func benchBatch(n, size int, llm bool) []byte {
	events := make([]string, n)
	for i := range events {
		var e string
		if llm {
			e = fmt.Sprintf(`{"type":"capture","library":"posthog-node","library_version":"5.70.0","event":"$ai_generation","uuid":"%s","distinct_id":"user-%d","timestamp":"2026-11-21T11:59:59.123Z","properties":{"$lib":"posthog-node","$lib_version":"5.70.0","$ai_lib":"posthog-ai","$ai_lib_version":"8.13.1","$ai_provider":"openai","$ai_model":"gpt-4.1-mini-2025-04-14","$ai_model_parameters":{"temperature":0.2,"max_tokens":300},"$ai_input":[{"role":"user","content":"%s"}],"$ai_output_choices":[{"role":"assistant","content":"Of course."}],"$ai_http_status":200,"$ai_input_tokens":120,"$ai_output_tokens":30,"$ai_latency":0.813,"$ai_trace_id":"trace-%d","$ai_base_url":"https://api.openai.com/v1","$process_person_profile":false,"$geoip_disable":true}}`, event.NewID(), i, "%s", i)
		} else {
			e = fmt.Sprintf(`{"event":"$pageview","uuid":"%s","distinct_id":"user-%d","timestamp":"2026-11-21T11:59:59.123Z","properties":{"$lib":"web","$lib_version":"1.449.2","$os":"Mac OS X","$browser":"Chrome","$device_type":"Desktop","$current_url":"https://app.example.com/projects/12?tab=prompts","$host":"app.example.com","$pathname":"/projects/12","$screen_height":1080,"$screen_width":1920,"$session_id":"0192c0de-0000-7000-8000-000000000001","$groups":{"company":"acme"},"surface":"Chat","note":"%s"}}`, event.NewID(), i, "%s")
		}
		pad := max(0, size-len(e))
		events[i] = fmt.Sprintf(e, strings.Repeat("lorem ipsum ", pad/12+1)[:pad])
	}
	return batchOf(settings.def.Token, events...)
}

// BenchmarkDecode measures from the body to events, with an Append that does
// nothing.
func BenchmarkDecode(b *testing.B) {
	for _, llm := range []bool{true, false} {
		for _, size := range []int{1 << 10, 16 << 10} {
			b.Run(fmt.Sprintf("llm=%v/size=%d", llm, size), func(b *testing.B) {
				h, _ := newHandler(b, ingest.Config{Append: nowhere{}})
				body := benchBatch(100, size, llm)
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					if w := call(h, "POST", "/batch/", body); w.Code != 200 {
						b.Fatal(w.Code, w.Body)
					}
				}
				b.ReportMetric(float64(100*b.N)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}

// BenchmarkAccepted measures from the client's socket to the journal's
// acknowledgement: HTTP, decoding, enrichment, disk. The client runs on the
// same cores.
func BenchmarkAccepted(b *testing.B) {
	for _, c := range []struct {
		n, size int
		llm, gz bool
	}{{100, 1 << 10, true, false}, {100, 1 << 10, false, false}, {100, 1 << 10, true, true}, {20, 1 << 10, true, false}, {1, 1 << 10, true, false}, {100, 16 << 10, true, false}} {
		b.Run(fmt.Sprintf("batch=%d/size=%d/llm=%v/gzip=%v", c.n, c.size, c.llm, c.gz), func(b *testing.B) {
			j, err := journal.Open(b.Context(), journal.Config{Dir: b.TempDir(), MaxBytes: 16 << 30})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close(context.Background())
			table := price.Default()
			events, err := pipeline.New(pipeline.Config{Price: table.Price})
			if err != nil {
				b.Fatal(err)
			}
			events.Open(j, nil)
			h, _ := newHandler(b, ingest.Config{Append: events, Now: time.Now})
			s := httptest.NewServer(h)
			defer s.Close()
			body := benchBatch(c.n, c.size, c.llm)
			if c.gz {
				body = gzipOf(body)
			}
			b.SetParallelism(4)
			b.ResetTimer()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					res, err := http.Post(s.URL+"/batch/", "application/json", bytes.NewReader(body))
					if err != nil || res.StatusCode != 200 {
						b.Error(res, err)
						return
					}
					res.Body.Close()
				}
			})
			b.ReportMetric(float64(c.n*b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
