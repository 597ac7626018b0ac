package otlp

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/gjson"
	logscollector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/httpbody"
)

// Limits of the log records that are remembered until their span arrives. The
// content itself is in the journal: what is forgotten here reaches its span in
// the store.
const (
	loggedFor   = 15 * time.Minute // longest call plus its exporter's delay
	loggedBytes = 32 << 20         // as protobuf
	loggedSpans = 20_000
)

// takeLogs accepts log records: those of GenAI events, which have a span's
// messages, become content of their span; all others are discarded.
func (h *Handler) takeLogs(ctx context.Context, x exchange, project string, f form, raw []byte) (proto.Message, *httpbody.Refusal) {
	req := &logscollector.ExportLogsServiceRequest{}
	if bad := x.decodeInto(req, logsKind, f, raw, h.limits); bad != nil {
		return nil, bad
	}
	bySpan, order, discarded := genAIRecords(req, f)
	h.discarded.Add(float64(discarded))
	if len(order) > h.limits.Spans {
		return nil, httpbody.Refuse(http.StatusRequestEntityTooLarge, httpbody.ReasonTooLarge, "log records of %d spans in one request, at most %d are accepted: send smaller batches", len(order), h.limits.Spans)
	}
	var events []*event.Event
	for _, id := range order {
		records := bySpan[id]
		if e := h.contentOf(project, id, records); e != nil {
			events = append(events, e)
			h.logged.keep(project, id, records)
		}
	}
	refused, why, bad := h.store(ctx, events)
	if bad != nil {
		return nil, bad
	}
	response := &logscollector.ExportLogsServiceResponse{}
	if refused > 0 {
		h.Warnings.Warn("rejected", "log records of a request were rejected", "records", refused, "err", why)
		response.PartialSuccess = &logscollector.ExportLogsPartialSuccess{RejectedLogRecords: int64(refused), ErrorMessage: fmt.Sprintf("the log records of %d spans were rejected, the first because %s", refused, why)}
	}
	return response, nil
}

// spanID identifies a span by its trace id and its own id.
type spanID struct{ trace, span string }

// genAIRecords returns the records of GenAI events that have a span id, by span
// and in the order of the request, and the number of all other records.
func genAIRecords(req *logscollector.ExportLogsServiceRequest, f form) (bySpan map[spanID][]*logspb.LogRecord, order []spanID, discarded int) {
	bySpan = make(map[spanID][]*logspb.LogRecord)
	for _, rl := range req.GetResourceLogs() {
		for _, sl := range rl.GetScopeLogs() {
			for _, r := range sl.GetLogRecords() {
				if r == nil {
					continue
				}
				if f == asJSON {
					r.TraceId, r.SpanId = hexID(r.GetTraceId(), 16), hexID(r.GetSpanId(), 8)
				}
				if !strings.HasPrefix(recordName(r), "gen_ai.") || !validID(r.GetTraceId(), 16) || !validID(r.GetSpanId(), 8) {
					discarded++
					continue
				}
				id := spanID{string(r.GetTraceId()), string(r.GetSpanId())}
				if bySpan[id] == nil {
					order = append(order, id)
				}
				bySpan[id] = append(bySpan[id], r)
			}
		}
	}
	return bySpan, order, discarded
}

// recordName returns the event name of a record: a field in OTLP 1.5 and later, an
// attribute before.
func recordName(r *logspb.LogRecord) string {
	if name := r.GetEventName(); name != "" {
		return name
	}
	for _, kv := range r.GetAttributes() {
		if kv.GetKey() == "event.name" {
			return textOf(kv)
		}
	}
	return ""
}

// contentOf creates the event with the content of records for the store, or nil
// if they have none. Equal records give equal uuids.
func (h *Handler) contentOf(project string, id spanID, records []*logspb.LogRecord) *event.Event {
	attrs := &attributes{index: make(map[string]int), families: make(map[string][]int)}
	var old spanEvents
	for _, r := range records {
		takeRecord(attrs, &old, r)
	}
	attrs.own = len(attrs.list)
	e := &event.Event{Name: event.Generation} // so that messages are read as those of a call
	content(e, attrs, old)
	if e.Content.IsZero() {
		return nil
	}
	at := time.Unix(0, int64(recordTime(records[0]))).UTC()
	if now := h.Now(); at.Year() < 2000 || at.After(now) {
		at = now.UTC()
	}
	e.Name, e.Source, e.ProjectID, e.Timestamp = event.SpanContent, event.SourceOTLP, project, at
	e.TraceID, e.SpanID = hex.EncodeToString([]byte(id.trace)), hex.EncodeToString([]byte(id.span))
	e.StopReason = ""
	e.UUID = event.DerivedID(strings.Join([]string{project, id.trace, id.span, string(e.Content.Input), string(e.Content.Output), string(e.Content.Tools)}, "\x00"), at)
	return e
}

func recordTime(r *logspb.LogRecord) uint64 {
	if t := r.GetTimeUnixNano(); t != 0 {
		return t
	}
	return r.GetObservedTimeUnixNano()
}

// takeRecord reads one record as takeEvents reads a span event: messages
// separately, attributes of the others into attrs.
func takeRecord(attrs *attributes, old *spanEvents, r *logspb.LogRecord) {
	name := recordName(r)
	if role, ok := oldRoles[name]; ok {
		old.add(name, oldMessage{role: role, body: recordBody(r)})
		return
	}
	for _, kv := range r.GetAttributes() {
		attrs.add(kv.GetKey(), kv.GetValue(), nil)
	}
	for _, kv := range r.GetBody().GetKvlistValue().GetValues() {
		attrs.add(kv.GetKey(), kv.GetValue(), nil)
	}
}

// recordBody is the message of a record: its body, a string or an object, or
// its attributes if it has no body.
func recordBody(r *logspb.LogRecord) gjson.Result {
	switch v := value(r.GetBody()); {
	case v.IsObject():
		return unwrapChoice(v)
	case v.Exists() && v.Type != gjson.Null:
		return gjson.Parse(`{"content":` + v.Raw + `}`)
	}
	return eventBody(r.GetAttributes())
}

// logged remembers the records of spans that have not arrived yet. It is
// bounded in number, bytes and time; the oldest are removed first. A nil
// *logged remembers nothing.
type logged struct {
	now func() time.Time

	mu    sync.Mutex
	spans map[loggedKey]*loggedSpan
	queue []loggedKey // in order of arrival
	bytes int
}

type loggedKey struct {
	project string
	id      spanID
}

type loggedSpan struct {
	at      time.Time
	bytes   int
	records []*logspb.LogRecord
}

func newLogged(now func() time.Time) *logged {
	return &logged{now: now, spans: make(map[loggedKey]*loggedSpan)}
}

// keep remembers records. A record that is sent again, because its exporter
// missed the response, is not kept twice.
func (l *logged) keep(project string, id spanID, records []*logspb.LogRecord) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	key := loggedKey{project, id}
	s := l.spans[key]
	if s == nil {
		s = &loggedSpan{at: now}
		l.spans[key] = s
		l.queue = append(l.queue, key)
	}
next:
	for _, r := range records {
		for _, have := range s.records {
			if proto.Equal(have, r) {
				continue next
			}
		}
		n := proto.Size(r)
		s.records = append(s.records, r)
		s.bytes += n
		l.bytes += n
	}
	for len(l.queue) > 0 {
		s := l.spans[l.queue[0]]
		if l.bytes <= loggedBytes && len(l.queue) <= loggedSpans && now.Sub(s.at) <= loggedFor {
			break
		}
		l.bytes -= s.bytes
		delete(l.spans, l.queue[0])
		l.queue = l.queue[1:]
	}
}

// addTo adds the content of earlier records to a span's attributes and messages. The
// span's own data takes precedence.
func (l *logged) addTo(project string, trace, span []byte, attrs *attributes, old *spanEvents) {
	if l == nil {
		return
	}
	l.mu.Lock()
	var records []*logspb.LogRecord
	if len(l.spans) > 0 {
		if s := l.spans[loggedKey{project, spanID{string(trace), string(span)}}]; s != nil && l.now().Sub(s.at) <= loggedFor {
			records = s.records[:len(s.records):len(s.records)]
		}
	}
	l.mu.Unlock()
	if len(records) == 0 {
		return
	}
	var logged spanEvents
	for _, r := range records {
		takeRecord(attrs, &logged, r)
	}
	if len(old.input) == 0 {
		old.input = logged.input
	}
	if len(old.output) == 0 {
		old.output = logged.output
	}
}
