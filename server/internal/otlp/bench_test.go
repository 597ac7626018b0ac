package otlp_test

import (
	"context"
	"encoding/binary"
	"syscall"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/otlp"
)

type nowhere struct{}

func (nowhere) Append(context.Context, ...*event.Event) error { return nil }

// batch is a request of n LLM spans, made from a golden one: about 1.4 KB per
// span in protobuf, including content.
func batch(b *testing.B, n int) *collector.ExportTraceServiceRequest {
	req := readSpans(b, "semconv_current")
	ss := req.ResourceSpans[0].ScopeSpans[0]
	one := ss.Spans[1]
	ss.Spans = nil
	for i := range n {
		s := proto.Clone(one).(*trace.Span)
		binary.BigEndian.PutUint32(s.SpanId, uint32(i+1))
		ss.Spans = append(ss.Spans, s)
	}
	return req
}

// cpu returns the CPU time of the process, including garbage collection.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkExport measures from the request to events, with an Append that does
// nothing.
func BenchmarkExport(b *testing.B) {
	const n = 512 // the default batch size of OpenTelemetry's SDKs
	req := batch(b, n)
	for _, tc := range []struct {
		name, form string
		body       []byte
	}{{"proto", "application/x-protobuf", marshal(b, req)}, {"json", "application/json", otlpJSON(req)}} {
		b.Run(tc.name, func(b *testing.B) {
			h, err := otlp.New(otlp.Config{Project: projectOf, Append: nowhere{}})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(tc.body)))
			b.ReportAllocs()
			before := cpu()
			for b.Loop() {
				if w := post(h, tc.body, "Content-Type", tc.form); w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "spans/s")
			// CPU time only, since machines are shared.
			used := cpu() - before
			b.ReportMetric(used.Seconds()*1e6/float64(n)/float64(b.N), "cpu-µs/span")
			b.ReportMetric(float64(len(tc.body))/n, "B/span")
		})
	}
}
