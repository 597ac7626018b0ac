package hedgerow

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/enrich"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/internal/vocabulary"
)

// leaving is an event that is ready to encode, and the address of its trace.
type leaving struct {
	e        *event.Event
	traceURL string
}

// leaving builds the events to send. A hedgerow server gets the event with its
// content, without secrets: it prices the call and applies privacy. For PostHog the
// client does what the server would do: normalise, price, privacy, schema, in this
// order. Events that the schema does not include are omitted, which does not count
// as dropped.
func (c *Client) leaving(it *item) (out []leaving, reason string, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, reason, err = nil, DropInvalid, fmt.Errorf("panic while building an event: %T", p)
		}
	}()
	e := c.finish(it)
	switch n := utf8.RuneCountInString(e.Name); {
	case n == 0:
		return nil, DropInvalid, errors.New("event has no name")
	case n > event.MaxNameLen:
		return nil, DropInvalid, errors.New("event name is longer than 200 characters")
	}
	if c.c.PrivacyMode {
		e.Private = true
	}
	home := privacy.StoragePolicy{KeepContent: true, ScrubEmails: c.c.ScrubEmails}
	if c.c.home() {
		privacy.ApplyStorage(e, home)
		return []leaving{{e: privacy.Outbound(e, privacy.OutboundPolicy{})}}, "", nil
	}
	enrich.Normalise(e, time.Now())
	price.Default().Price(e)
	e.BoundCost() // a price can produce an implausible cost
	privacy.ApplyStorage(e, home)
	policy := privacy.OutboundPolicy{PrivacyMode: !c.c.SendContent, SendProperties: c.c.SendProperties, SendAttributes: c.c.SendAttributes}
	outcome := privacy.ApplyOutbound(e, policy)
	if outcome.Block != "" {
		return nil, DropWithheld, errors.New(outcome.Block)
	}
	for _, h := range outcome.Withheld {
		// Content is withheld by design; other withheld properties may surprise
		// the user.
		if h.Reason != privacy.ReasonContent && c.kept.first(h.Name) {
			c.log.Info("property withheld from PostHog", "property", h.Name, "reason", h.Reason, "option", optionFor(h))
		}
	}
	safe := outcome.Event
	if c.c.Schema != SchemaPostHog && !policy.PrivacyMode {
		policy.PrivacyMode = true
		safe = privacy.ApplyOutbound(e, policy).Event
	}
	traceURL := ""
	if c.c.UIBaseURL != "" && e.TraceID != "" {
		traceURL = c.c.UIBaseURL + "/traces/" + url.PathEscape(e.TraceID)
	}
	for _, e := range vocabulary.Events(c.c.Schema, outcome.Event, safe) {
		out = append(out, leaving{e, traceURL})
	}
	return out, "", nil
}

// optionFor names the setting that sends a property.
func optionFor(h privacy.Withheld) string {
	switch {
	case h.Reason == privacy.ReasonQuotes:
		return "SendContent"
	case h.Attribute:
		return "SendAttributes"
	}
	return "SendProperties"
}

// anonymous sets the default distinct id. Straight to PostHog such an event creates
// no person profile, unless its caller sets otherwise.
func (c *Client) anonymous(e *event.Event) {
	if e.DistinctID != "" {
		return
	}
	e.DistinctID = c.c.DefaultDistinctID
	if _, said := e.Properties[personProfile]; !said && !c.c.home() {
		e.Properties = put(e.Properties, personProfile, json.RawMessage("false"))
	}
}

const personProfile = "$process_person_profile"

// keptNames are the property names that have been logged.
type keptNames struct {
	mu sync.Mutex
	m  map[string]bool
}

// mostKeptNames limits how many names are remembered, because callers choose
// them.
const mostKeptNames = 200

// first reports whether a name is new.
func (k *keptNames) first(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.m[name] || len(k.m) == mostKeptNames {
		return false
	}
	if k.m == nil {
		k.m = make(map[string]bool)
	}
	k.m[name] = true
	return true
}
