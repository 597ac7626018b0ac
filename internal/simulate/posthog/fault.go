package posthog

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Fault is a failure to come. What is zero does not happen; a Fault with only a
// Delay is a slow answer.
type Fault struct {
	Path   string        // only requests whose path begins so. Defaults to every capture route
	Times  int           // how many requests. 0 means one; negative, until ClearFaults or Reset
	Delay  time.Duration // wait first, unless the client goes away
	Accept bool          // take the events and then fail: a success whose answer gets lost

	Status     int    // answer with this status
	RetryAfter string // its Retry-After header
	Body       string // its body. Defaults to the status text

	Reset   bool // break the connection instead of answering
	Partial bool // break it halfway through the answer's body
}

// Fail makes requests fail, in the order of the calls: the first fault that
// matches a request and has times left is the one that happens.
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

// ClearFaults ends every failure that [Server.Fail] has asked for.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	s.signal()
}

// SetDown makes the server break every connection, as an outage does, until it
// is called with false. See [Server.Stop] for a refused connection.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	s.signal()
}

// SetAIRoute turns /i/v0/ai/batch off and on: an older self-hosted PostHog
// answers 404 there.
func (s *Server) SetAIRoute(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noAI = !on
	s.signal()
}

// SetQuota puts the given resources over their quota, and no others: "events",
// "llm_events", "feature_flags". Events over quota are answered 200 and dropped.
func (s *Server) SetQuota(resources ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quota = make(map[string]bool, len(resources))
	for _, r := range resources {
		s.quota[r] = true
	}
	s.signal()
}

// Refuse makes a request that holds an event for which why returns a message be
// answered 400 as a whole (on the v1 route, that event is dropped by name). nil
// ends it.
func (s *Server) Refuse(why func(Event) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = why
}

// takeFault returns the fault that happens to a request, if any.
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

// inflict answers, or does not, as the fault says.
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
			_ = tcp.SetLinger(0) // a reset rather than an orderly end
		}
		_ = conn.Close()
	}
	panic(http.ErrAbortHandler)
}
