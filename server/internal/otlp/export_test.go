package otlp

import (
	"context"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/httpbody"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
)

// Decode decodes a request without a receiver.
func Decode(json bool, b []byte, l Limits) (*collector.ExportTraceServiceRequest, error) {
	l = l.withDefaults()
	x := exchange{httpbody.NewMemory(l.Memory).Open(context.Background())}
	defer x.End()
	req, bad := x.decode(form(json), b, l)
	if bad != nil {
		return nil, bad
	}
	return req, nil
}

// Convert returns the events of a request.
func Convert(project string, req *collector.ExportTraceServiceRequest) (events []*event.Event, skipped, rejected int) {
	c := converter{project: project}
	c.convert(req)
	return c.events, c.skipped, c.rejected
}

// ConvertInTurn returns the events of successive requests.
func ConvertInTurn(project string, requests ...*collector.ExportTraceServiceRequest) (events []*event.Event) {
	r := newRecent()
	for _, req := range requests {
		c := converter{project: project, recent: r}
		c.convert(req)
		events = append(events, c.events...)
	}
	return events
}

// HeldBytes returns the memory held by requests in progress.
func (h *Handler) HeldBytes() int64 { return h.Memory.Used() }
