package posthog

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// deliver ends every item of a batch, regardless of PostHog's response.
func (d *deliverer) deliver(ctx context.Context, l *lane, batch []*item) {
	work := [][]*item{batch}
	for len(work) > 0 {
		next := work[0]
		work = slices.Concat(d.send(ctx, l, next), work[1:]) // the parts first: order is kept
	}
}

// verdict is what an answer means for a batch.
type verdict int

const (
	taken    verdict = iota // it is PostHog's now
	later                   // PostHog is in trouble: the same again, later
	noRoute                 // this PostHog has no AI route: retry immediately with /batch/
	tooLarge                // halves, or a smaller event
	invalid                 // one of the events is bad
	refused                 // the key or the address is bad, not the events
	canceled                // hedgerow itself broke the request off
)

// judge applies the retry rules of PostHog's SDKs (capture protocol v0 in
// https://github.com/PostHog/posthog-sdk-test-harness). Statuses that
// they never retry, and those about the destination rather than
// the events, become refused: events must be kept until a key is corrected.
func judge(status int, rt route) verdict {
	switch {
	case status >= 200 && status < 300:
		return taken
	case status == http.StatusNotFound && rt.path == aiPath:
		return noRoute
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return later
	case status == http.StatusRequestEntityTooLarge:
		return tooLarge
	}
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusProxyAuthRequired, http.StatusGone, http.StatusMisdirectedRequest, http.StatusUnavailableForLegalReasons:
		return refused
	}
	if status < 400 {
		return refused // a redirect: not PostHog's ingestion host
	}
	return invalid
}

// Repeated 5xx answers to one batch, while PostHog accepts others, mean that
// an event in it is the cause: the batch is split and, finally, the event
// becomes a dead letter.
const (
	stubbornOthers = 10 // requests that have succeeded meanwhile
	stubbornSplit  = 10 // tries before a batch is split
	stubbornDead   = 30 // attempts before a single event becomes a dead letter: a quarter of an hour
)

// send retries a batch until it has ended, or returns the parts if it must be
// split. When ctx ends, the remaining events return to the queue.
func (d *deliverer) send(ctx context.Context, l *lane, batch []*item) (parts [][]*item) {
	cfg := d.m.c.Client
	var (
		self   = new(int) // names this batch among the troubles
		before = d.st.reqOK.Load()
		tries  int
		delay  time.Duration
		next   time.Time // no request of this batch before
	)
	defer d.st.setTrouble(self, "")
	for {
		s, ok := d.pause(ctx, l, &next, &delay)
		if !ok {
			d.releaseAll(batch)
			return nil
		}
		rt := d.m.route(s.conn.Host, l.ai)
		if batch = d.prepare(batch, s, l, rt); len(batch) == 0 {
			return nil
		}
		if parts := splitBytes(batch, rt.maxBatch); len(parts) > 1 {
			return parts
		}
		if tries++; tries > 1 {
			d.markRetried(batch)
		}
		a, v, why := d.post(ctx, s, rt, batch)
		log := []any{"status", a.status, "events", len(batch), "try", tries}
		switch v {
		case taken:
			d.st.setTrouble(self, "")
			d.taken(l, batch, a)
			return nil
		case canceled:
			d.releaseAll(batch)
			return nil
		case noRoute:
			d.m.setNoAI(s.conn.Host)
			tries--
		case tooLarge:
			if len(batch) > 1 {
				return halves(batch)
			}
			it := batch[0]
			if it.limit = len(it.body) / 2; !d.shrink(it, it.limit) {
				d.st.fail(why)
				d.dead(it, "PostHog finds the event too large (413), even without its content")
				return nil
			}
			tries-- // another event, in a way
		case invalid:
			if len(batch) > 1 {
				return halves(batch)
			}
			d.st.fail(why)
			d.dead(batch[0], why)
			return nil
		case refused:
			d.st.setTrouble(self, StateRefused)
			d.trouble(why, log...)
			l.pauseUntil(time.Now().Add(max(cfg.RefusedEvery, a.retryAfter)))
		case later:
			if a.status >= 500 && d.st.reqOK.Load()-before >= stubbornOthers && tries >= stubbornSplit {
				if len(batch) > 1 {
					return halves(batch)
				}
				if tries >= stubbornDead {
					d.dead(batch[0], fmt.Sprintf("PostHog keeps returning %d for this event, while it accepts others", a.status))
					return nil
				}
			}
			d.st.setTrouble(self, StateRetrying)
			d.trouble(why, log...)
			delay = min(max(2*delay, cfg.BackoffMin), cfg.BackoffMax)
			// Up to a fifth less, so that not all retry at the same time.
			next = time.Now().Add(max(delay-time.Duration(rand.Float64()*float64(delay)/5), a.retryAfter))
			if a.retryAfter > 0 {
				l.pauseUntil(time.Now().Add(a.retryAfter))
			}
		}
	}
}

// pause waits until the batch and its lane may continue, and returns the
// current settings. New settings end every wait, and *delay starts over. It
// returns false when ctx has ended.
func (d *deliverer) pause(ctx context.Context, l *lane, next *time.Time, delay *time.Duration) (*settings, bool) {
	for {
		s := d.r.settings.Load()
		if ctx.Err() != nil {
			return nil, false
		}
		until := l.pausedUntil()
		if next.After(until) {
			until = *next
		}
		left := time.Until(until)
		if left <= 0 {
			return s, true
		}
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-s.stale:
			*next, *delay = time.Time{}, 0
			l.resume()
		case <-ctx.Done():
		}
		t.Stop()
	}
}

func (l *lane) pausedUntil() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pause
}

func (l *lane) pauseUntil(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.After(l.pause) {
		l.pause = t
	}
}

func (l *lane) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pause = time.Time{}
}

// deletedWait is until the deleted events are requested again after an error.
const deletedWait = 5 * time.Second

// prepare removes events deleted meanwhile, updates a batch to the current
// settings and the route's limit, and returns the rest.
func (d *deliverer) prepare(batch []*item, s *settings, l *lane, rt route) []*item {
	out := batch[:0:0]
	for _, it := range batch {
		switch gone, err := d.m.c.Deleted(it.from.d.Event); {
		case err != nil:
			d.trouble("deleted events cannot be looked up", "err", err)
			l.pauseUntil(d.m.c.Now().Add(deletedWait))
			d.release(it)
			continue
		case gone:
			d.finish(it)
			continue
		}
		if it.made != s && !d.remake(it, s) {
			continue
		}
		if it.out.IsLLM() != l.ai { // another name since: back, and into the other lane
			d.release(it)
			continue
		}
		limit := rt.maxEvent
		if it.limit > 0 {
			limit = min(limit, it.limit)
		}
		if len(it.body) > limit && !d.shrink(it, limit) {
			d.dead(it, fmt.Sprintf("the event is larger than PostHog's %d bytes, even without its content", limit))
			continue
		}
		out = append(out, it)
	}
	return out
}

// post sends a batch once. Only a request in flight outlives ctx, and not for
// long.
func (d *deliverer) post(ctx context.Context, s *settings, rt route, batch []*item) (a answer, v verdict, why string) {
	// It was checked when it was saved; whether hosts may be insecure can have
	// changed since.
	if err := CheckHost(s.conn.Host, d.m.c.AllowInsecureHosts, d.m.c.Client.AllowHosts); err != nil {
		d.st.reqRefused.Add(1)
		return a, refused, event.AsError(err).Message
	}
	bodies := make([][]byte, len(batch))
	for i, it := range batch {
		bodies[i] = it.body
	}
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.m.c.Client.Timeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		wait := stopWait
		if context.Cause(ctx) == errDisabled {
			wait = disableWait
		}
		time.AfterFunc(wait, cancel)
	})()
	d.st.inFlight.Add(1)
	start := time.Now()
	a, err := postBatch(rctx, d.m.http, s.conn.Host, rt.path, s.conn.ProjectKey.Reveal(), d.m.agent(), bodies, batch[0].out.Historical, d.m.c.Now())
	d.m.metrics.seconds.Observe(time.Since(start).Seconds())
	d.st.inFlight.Add(-1)
	if err != nil {
		if ctx.Err() != nil {
			d.st.reqCanceled.Add(1)
			return a, canceled, ""
		}
		d.st.reqRetry.Add(1)
		return a, later, explain(err, s.conn.Host).message
	}
	if v = judge(a.status, rt); v == taken && isHTML(a.body) {
		v = refused // a login or error page answers 200 to everything and stores nothing
	}
	switch v {
	case taken:
		d.st.reqOK.Add(1)
	case noRoute:
		d.st.reqNoRoute.Add(1)
	case tooLarge:
		d.st.reqBig.Add(1)
		why = fmt.Sprintf("PostHog finds an event too large (413%s)", quote(a.body))
	case invalid:
		d.st.reqBad.Add(1)
		why = fmt.Sprintf("PostHog rejects the event (%d%s)", a.status, quote(a.body))
	case refused:
		d.st.reqRefused.Add(1)
		why = refusal(a, s.conn.Host)
	default:
		d.st.reqRetry.Add(1)
		why = fmt.Sprintf("PostHog answers %d%s", a.status, quote(a.body))
	}
	return a, v, why
}

// refusal describes why a destination rejects everything.
func refusal(a answer, host string) string {
	switch {
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		return fmt.Sprintf("PostHog rejects the project key (%d%s): set the right one", a.status, quote(a.body))
	case a.status == http.StatusPaymentRequired:
		return "PostHog rejects events because of the project's billing (402)"
	case a.status < 300:
		return fmt.Sprintf("%s answers with a web page: it is not PostHog's ingestion host", hostName(host))
	case a.status < 400:
		return fmt.Sprintf("%s answers with a redirect (%d): it is not PostHog's ingestion host", hostName(host), a.status)
	}
	return fmt.Sprintf("%s answers %d: it is not PostHog's ingestion host", hostName(host), a.status)
}

// taken acknowledges what PostHog has.
func (d *deliverer) taken(l *lane, batch []*item, a answer) {
	note := ""
	if overQuota(a.body, l.ai) {
		// PostHog has taken the request and dropped the events: sending them again
		// would change nothing.
		note = "PostHog accepts the events and drops them: the project is over its quota"
		d.st.quota.Add(int64(len(batch)))
		d.trouble(note, "events", len(batch))
	} else {
		d.fine()
	}
	d.st.ok(d.m.c.Now(), note)
	d.st.sent.Add(int64(len(batch)))
	for _, it := range batch {
		d.st.recent.add(it.from.d.Event.UUID, d.m.c.Now())
		d.noteLeft(it)
		it.from.mu.Lock()
		it.from.sent = true
		it.from.mu.Unlock()
		d.finish(it)
	}
}

// noteLeft records in the ledger the properties sent to PostHog. It reads
// them from the sent body.
func (d *deliverer) noteLeft(it *item) {
	if d.m.c.Ledger == nil {
		return
	}
	properties := make(map[string]json.RawMessage, 48)
	gjson.GetBytes(it.body, "properties").ForEach(func(name, v gjson.Result) bool {
		properties[name.String()] = json.RawMessage(v.Raw)
		return true
	})
	d.m.c.Ledger.Left(d.r.settings.Load().conn.ID, d.m.c.Now(), properties)
}

// overQuota reads the optional quota_limited of a 2xx. Anything else in the body,
// and an unreadable one, is of no concern.
func overQuota(body []byte, ai bool) bool {
	var in struct {
		QuotaLimited []string `json:"quota_limited"`
	}
	if json.Unmarshal(body, &in) != nil {
		return false
	}
	resource := "events"
	if ai {
		resource = "llm_events"
	}
	return slices.Contains(in.QuotaLimited, resource)
}

func (d *deliverer) markRetried(batch []*item) {
	for _, it := range batch {
		if !it.retried {
			it.retried = true
			d.st.retried.Add(1)
		}
	}
}

func (d *deliverer) releaseAll(batch []*item) {
	for _, it := range batch {
		d.release(it)
	}
}

func halves(batch []*item) [][]*item {
	n := len(batch) / 2
	return [][]*item{batch[:n:n], batch[n:]}
}

// splitBytes cuts a batch where its bodies exceed a size. One event always fits.
func splitBytes(batch []*item, maxBytes int) [][]*item {
	var parts [][]*item
	start, size := 0, 0
	for i, it := range batch {
		if i > start && size+len(it.body) > maxBytes {
			parts = append(parts, batch[start:i:i])
			start, size = i, 0
		}
		size += len(it.body)
	}
	return append(parts, batch[start:])
}

// agent is the User-Agent of requests.
func (m *Manager) agent() string { return agentOf(m.c.Version) }

func agentOf(version string) string {
	if version == "" {
		return libName
	}
	return libName + "/" + version
}
