package posthog

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// captureRoutes are the v0 routes, without trailing slash.
var captureRoutes = []string{"/batch", "/i/v0/e", "/e", "/capture", "/track", "/engage", aiRoute}

const (
	aiRoute = "/i/v0/ai/batch"
	v1Route = "/i/v1/analytics/events"
)

// ServeHTTP responds as PostHog does, or fails as configured by a [Fault].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(), At: s.o.Now()}
	defer func() { s.record(*rec) }()
	s.mu.Lock()
	down := s.down
	s.mu.Unlock()
	if down {
		breakConnection(w)
	}
	body, err := readAll(r.Body, MaxBody)
	rec.Body = body
	route := strings.TrimSuffix(r.URL.Path, "/")
	capture := slices.Contains(captureRoutes, route) || route == v1Route
	if f := s.takeFault(r.URL.Path, capture); f != nil {
		if f.Delay > 0 {
			t := time.NewTimer(f.Delay)
			defer t.Stop()
			select {
			case <-t.C:
			case <-r.Context().Done():
				return
			}
		}
		if f.Accept {
			s.route(&recorder{header: make(http.Header)}, r, route, rec, err)
		}
		if f.Status != 0 || f.Reset || f.Partial {
			if !f.Reset {
				rec.Status = cmp.Or(f.Status, http.StatusOK)
			}
			f.inflict(w)
			return
		}
		if f.Accept {
			return
		}
	}
	answer := &recorder{header: w.Header()}
	s.route(answer, r, route, rec, err)
	if rec.Status = answer.status; answer.wrote {
		w.WriteHeader(answer.status)
		_, _ = w.Write(answer.body.Bytes())
	}
}

func (s *Server) route(w http.ResponseWriter, r *http.Request, route string, rec *Request, readErr error) {
	if r.Method == http.MethodOptions {
		cors(w, r)
		return
	}
	s.mu.Lock()
	noAI := s.noAI
	s.mu.Unlock()
	switch {
	case noAI && strings.HasPrefix(route, "/i/v0/ai"):
		http.NotFound(w, r)
	case slices.Contains(captureRoutes, route):
		s.capture(w, r, route, rec, readErr)
	case route == v1Route:
		s.captureV1(w, r, rec, readErr)
	case route == otelRoute && s.o.OTLP != nil:
		s.serveOTLP(w, r, rec, readErr)
	case route == "/flags" || route == "/decide":
		s.serveFlags(w, r, rec)
	case route == "" || route == "/_readiness" || route == "/_liveness":
		_, _ = w.Write([]byte("capture"))
	case strings.HasPrefix(route, "/api/") || route == "/flags/definitions":
		s.private(w, r, route, rec)
	default:
		http.NotFound(w, r)
	}
}

func cors(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if origin := r.Header.Get("Origin"); origin != "" {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
		if want := r.Header.Get("Access-Control-Request-Headers"); want != "" {
			h.Set("Access-Control-Allow-Headers", want)
		}
	}
}

// capture serves the v0 routes.
func (s *Server) capture(w http.ResponseWriter, r *http.Request, route string, rec *Request, readErr error) {
	cors(w, r)
	if r.Method != http.MethodPost && (r.Method != http.MethodGet || route == aiRoute) {
		w.Header().Set("Allow", "GET, POST, OPTIONS")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	events, err := s.read(r, route, rec, readErr)
	if err != nil {
		http.Error(w, err.message, err.status)
		return
	}
	s.store(events)
	if r.URL.Query().Get("beacon") == "1" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"Ok"}`))
}

// read validates a v0 request as a whole: one event too large rejects all.
func (s *Server) read(r *http.Request, route string, rec *Request, readErr error) ([]*Event, *failure) {
	switch {
	case errors.Is(readErr, errTooBig):
		return nil, &failure{http.StatusRequestEntityTooLarge, "maximum event size exceeded: request body"}
	case readErr != nil:
		return nil, &failure{http.StatusRequestTimeout, "request body read stalled"}
	}
	p, sentAt, err := payload(r.URL.Query(), r.Header.Get("Content-Type"), rec.Body)
	if err != nil {
		return nil, err
	}
	req, err := parse(p)
	if err != nil {
		return nil, err
	}
	if req.sentAt.IsZero() {
		req.sentAt = sentAt
	}
	now := s.o.Now().UTC()
	token := req.token
	events := make([]*Event, 0, len(req.events))
	for _, raw := range req.events {
		e, err := req.event(raw, now)
		if err != nil {
			return nil, err
		}
		rec.UUIDs = append(rec.UUIDs, e.UUID)
		if e.Token != "" && req.token == "" {
			if token != "" && token != e.Token {
				return nil, &failure{http.StatusUnauthorized, "events submitted with inconsistent api_key values"}
			}
			token = e.Token
		}
		e.Route = route
		events = append(events, e)
	}
	if err := checkToken(token); err != nil {
		return nil, err
	}
	s.mu.Lock()
	refuse := s.refuse
	s.mu.Unlock()
	for _, e := range events {
		e.Token = token
		if limit := sizeLimit(route, e.Name); len(e.Raw) > limit {
			return nil, &failure{http.StatusRequestEntityTooLarge, "maximum event size exceeded: the limit is " + itoa(limit) + " bytes"}
		}
		if refuse != nil {
			if why := refuse(*e); why != "" {
				return nil, bad("%s", why)
			}
		}
	}
	return events, nil
}

func sizeLimit(route, name string) int {
	switch {
	case route == aiRoute:
		return MaxAIEvent
	case strings.HasPrefix(name, "$ai_"):
		return MaxAIEventBatch
	}
	return MaxAnalytics
}
