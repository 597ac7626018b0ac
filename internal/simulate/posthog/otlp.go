package posthog

import (
	"net/http"
	"strings"
)

const (
	otelRoute  = "/i/v0/ai/otel"
	maxOTLP    = 4 << 20 // bytes
	maxSpans   = 1000    // per request
	maxAISpans = 100     // of them, those about LLMs
)

// serveOTLP serves /i/v0/ai/otel (contract section 5.1).
func (s *Server) serveOTLP(w http.ResponseWriter, r *http.Request, rec *Request, readErr error) {
	cors(w, r)
	if r.Method != http.MethodPost {
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || checkToken(token) != nil {
		http.Error(w, "a project token is needed as Bearer", http.StatusUnauthorized)
		return
	}
	if readErr != nil || len(rec.Body) > maxOTLP {
		http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
		return
	}
	events, spans, err := s.o.OTLP(r.Header, rec.Body)
	if err != nil {
		http.Error(w, "the body is not an ExportTraceServiceRequest", http.StatusBadRequest)
		return
	}
	if spans > maxSpans || len(events) > maxAISpans {
		http.Error(w, "too many spans", http.StatusBadRequest)
		return
	}
	now := s.o.Now().UTC()
	for _, e := range events {
		e.Token, e.Route, e.ReceivedAt = token, otelRoute, now
		rec.UUIDs = append(rec.UUIDs, e.UUID)
	}
	s.mu.Lock()
	over := s.quota["llm_events"]
	s.mu.Unlock()
	if over && len(events) > 0 {
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": "quota exceeded"})
		return
	}
	s.store(events)
	writeJSON(w, http.StatusOK, map[string]any{})
}
