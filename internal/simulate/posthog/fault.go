package posthog

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Fault is a failure of a later request. Zero fields have no effect; a Fault
// with only a Delay is a slow response.
type Fault struct {
	Path   string        // only requests whose path has this prefix. Defaults to every capture route
	Times  int           // number of requests. 0 means one; negative, until ClearFaults or Reset
	Delay  time.Duration // wait first, unless the client disconnects
	Accept bool          // store the events and then fail: a success whose response is lost

	Status     int    // respond with this status code
	RetryAfter string // its Retry-After header
	Body       string // its body. Defaults to the status text

	Reset   bool // reset the connection instead of responding
	Partial bool // reset it in the middle of the response body
}

// Fail adds faults. For each request, the first fault that matches it and has
// requests left is used.
func (s *Server) Fail(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		if f.Times == 0 {
			f.Times = 1
		}
		s.faults = append(s.faults, &f)
	}
}

// ClearFaults removes all faults added by [Server.Fail].
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	s.signal()
}

// SetDown makes the server reset every connection, as in an outage, until it is
// called with false. See [Server.Stop] for a refused connection.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	s.signal()
}

// SetAIRoute disables and enables /i/v0/ai/batch: an older self-hosted PostHog
// responds with 404 there.
func (s *Server) SetAIRoute(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noAI = !on
	s.signal()
}

// SetQuota puts exactly the given resources over their quota: "events",
// "llm_events", "feature_flags". Events over quota get 200 and are dropped.
func (s *Server) SetQuota(resources ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quota = make(map[string]bool, len(resources))
	for _, r := range resources {
		s.quota[r] = true
	}
	s.signal()
}

// Refuse makes the server reject a request with 400 if it contains an event for
// which why returns a message (on the v1 route, only that event is dropped).
// nil ends it.
func (s *Server) Refuse(why func(Event) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = why
}

// takeFault returns the fault for a request, if any.
func (s *Server) takeFault(path string, capture bool) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Times == 0 || f.Path == "" && !capture || !strings.HasPrefix(path, f.Path) {
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		return f
	}
	return nil
}

// inflict responds, or fails, as the fault says.
func (f *Fault) inflict(w http.ResponseWriter) {
	if f.Reset {
		breakConnection(w)
	}
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	status, body := f.Status, f.Body
	if status == 0 {
		status = http.StatusOK
	}
	if body == "" {
		body = http.StatusText(status)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !f.Partial {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body[:len(body)/2]))
	_ = http.NewResponseController(w).Flush()
	breakConnection(w)
}

// breakConnection resets the client's connection and ends the handler.
func breakConnection(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset rather than an orderly close
		}
		_ = conn.Close()
	}
	panic(http.ErrAbortHandler)
}
