package posthog

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The states of a connection's delivery.
const (
	StateSending  = "sending"  // events are being sent
	StateIdle     = "idle"     // everything has been sent
	StateRetrying = "retrying" // PostHog cannot be reached or is in trouble; events wait
	StateRefused  = "refused"  // PostHog rejects the key or the address; events wait for other settings
	StateDisabled = "disabled" // nothing leaves any more
	StateStopped  = "stopped"  // no server runs
)

// Status is the state of delivery to one connection. Counts are since the
// start.
type Status struct {
	State       string
	LastSuccess time.Time     // of the last 2xx; zero if there was none
	LastError   string        // in words, without keys or content; "" once all is well again
	Sent        int64         // events that PostHog has taken
	Failed      int64         // requests that failed
	Retried     int64         // events that were sent more than once
	Dead        int64         // events that became dead letters
	Filtered    int64         // events that were not for this connection
	Withheld    int64         // properties that were left out of events because they quote content
	Quoting     []string      // their names, of the last day, latest first; at most 20
	Quota       int64         // events of Sent that PostHog reported as dropped, over quota
	Held        int           // events out of the queue and not ended
	Lag         time.Duration // age of the oldest unacknowledged event; 0 without any
}

// OK reports whether nothing is wrong.
func (s *Status) OK() bool { return s.State == StateSending || s.State == StateIdle }

// Delivery is the state of delivery to a connection: this process's, and the
// journal's backlog.
type Delivery struct {
	Status
	Waiting int64 // events in the journal that it has yet to get
}

// stats are the source of a status and the metrics. They outlive the
// deliverer, which ends when its connection is disabled.
type stats struct {
	runners                                     atomic.Int64 // running or stopping deliverers
	sent, retried, dead, filtered, quota        atomic.Int64
	withheld                                    atomic.Int64
	inFlight                                    atomic.Int64
	reqOK, reqRetry, reqRefused, reqBad, reqBig atomic.Int64
	reqNoRoute, reqCanceled                     atomic.Int64

	recent sentLog

	mu          sync.Mutex
	lastSuccess time.Time
	lastError   string
	trouble     map[any]string // by batch or cause: StateRetrying or StateRefused
	held        func() (n int, oldest time.Time)
	quoting     []quoting // the latest first
}

// quoting is a property that was found to quote content.
type quoting struct {
	name       string
	at, logged time.Time
}

const (
	mostQuoting = 20
	quotingFor  = 24 * time.Hour // how long a find is shown
	quotingLog  = time.Minute    // between two lines of the log about one name
)

// warn notes that a property quotes content, and reports whether that is to be
// logged.
func (s *stats) warn(name string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := quoting{name: name}
	if i := slices.IndexFunc(s.quoting, func(q quoting) bool { return q.name == name }); i >= 0 {
		q = s.quoting[i]
		s.quoting = slices.Delete(s.quoting, i, i+1)
	}
	q.at = now
	log := now.Sub(q.logged) >= quotingLog
	if log {
		q.logged = now
	}
	s.quoting = slices.Insert(s.quoting, 0, q)
	if len(s.quoting) > mostQuoting {
		s.quoting = s.quoting[:mostQuoting]
	}
	return log
}

// ok records a 2xx; note is PostHog's warning, if any.
func (s *stats) ok(now time.Time, note string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastSuccess = now
	if note != "" || len(s.trouble) == 0 {
		s.lastError = note
	}
}

// troubled reports whether anything is waiting.
func (s *stats) troubled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.trouble) > 0
}

// fail records an error.
func (s *stats) fail(words string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastError = words
}

// setTrouble marks who as waiting in a state; "" ends it.
func (s *stats) setTrouble(who any, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == "" {
		delete(s.trouble, who)
		return
	}
	if s.trouble == nil {
		s.trouble = make(map[any]string)
	}
	s.trouble[who] = state
}

func (s *stats) setHeld(f func() (int, time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = f
}

func (s *stats) lag(now time.Time) (n int, lag time.Duration) {
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	if held == nil {
		return 0, 0
	}
	n, oldest := held()
	if n > 0 {
		lag = max(0, now.Sub(oldest))
	}
	return n, lag
}

func (s *stats) failed() int64 {
	return s.reqRetry.Load() + s.reqRefused.Load() + s.reqBad.Load() + s.reqBig.Load()
}

func (s *stats) status(now time.Time) Status {
	held, lag := s.lag(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{State: StateIdle, LastSuccess: s.lastSuccess, LastError: s.lastError,
		Sent: s.sent.Load(), Failed: s.failed(), Retried: s.retried.Load(), Dead: s.dead.Load(),
		Filtered: s.filtered.Load(), Quota: s.quota.Load(), Withheld: s.withheld.Load(), Held: held, Lag: lag}
	for _, q := range s.quoting {
		if now.Sub(q.at) < quotingFor {
			st.Quoting = append(st.Quoting, q.name)
		}
	}
	if held > 0 {
		st.State = StateSending
	}
	for _, t := range s.trouble {
		if st.State != StateRefused {
			st.State = t
		}
	}
	if s.runners.Load() == 0 {
		st.State = StateDisabled
	}
	return st
}
