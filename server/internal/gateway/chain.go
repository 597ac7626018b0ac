package gateway

import (
	"cmp"
	"sync"
	"time"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// mostChained is how many of the newest responses of one WebSocket are
// remembered.
const mostChained = 256

// chain assigns traces to the exchanges of one WebSocket if neither headers nor
// messages have any: responses that are linked by previous_response_id share
// one, and so do all of a Realtime or Live conversation.
type chain struct {
	began time.Time

	mu     sync.Mutex
	traces map[string]string // by response id
	order  []string          // oldest first
}

func newChain() *chain { return &chain{began: time.Now(), traces: make(map[string]string)} }

// of returns the trace of an exchange without one.
func (c *chain) of(e *event.Event) string {
	root := "conversation"
	if e.Operation == "responses" {
		previous := gjson.ParseBytes(e.ModelParameters["previous_response_id"]).Str
		c.mu.Lock()
		trace := c.traces[previous]
		c.mu.Unlock()
		if trace != "" {
			return trace
		}
		// The calls are recorded by several workers: of two that end within
		// milliseconds, the second may be processed first.
		if root = cmp.Or(previous, e.CompletionID); root == "" {
			return event.NewID()
		}
	}
	return event.DerivedID(root+c.began.String(), c.began)
}

// remember keeps the trace of a response.
func (c *chain) remember(e *event.Event) {
	if e.CompletionID == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.traces[e.CompletionID]; !known {
		c.order = append(c.order, e.CompletionID)
	}
	c.traces[e.CompletionID] = e.TraceID
	if len(c.order) > mostChained {
		delete(c.traces, c.order[0])
		c.order = c.order[1:]
	}
}
