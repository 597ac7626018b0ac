package hedgerow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
)

// PostHog's capture routes and their limits, in bytes of one event (contract section
// 1.4). PostHog rejects a whole batch request that contains a larger LLM event.
const (
	pathBatch = "/batch/"
	pathAI    = "/i/v0/ai/batch/"

	limitBatch = 983_040
	limitAI    = 8 << 20

	batchBytes = 5 << 20 // of one request, before compression
)

// homePrefix is the prefix of hedgerow's project tokens.
const homePrefix = "phc_hedgerow_"

const (
	backoffMin    = 250 * time.Millisecond // before the first retry; doubles
	backoffMax    = 30 * time.Second
	retryAfterMax = 5 * time.Minute // a longer Retry-After is not trusted
	noAIFor       = time.Hour       // how long a 404 of the AI route is remembered
	responseBytes = 16 << 10
)

// outgoing is an encoded event. Its bytes, uuid and timestamp are the same in every
// attempt, as PostHog's deduplication requires.
type outgoing struct {
	e     *event.Event
	body  []byte
	trace string // its trace_url; "" is none
	light bool   // its content has been removed to make it fit
	ai    bool   // it is sent by PostHog's AI route

	number uint64 // in the spool; 0 without one
	kept   bool   // it stays in the spool
}

// name returns the event's name, for logs.
func (o *outgoing) name() string {
	if o.e == nil {
		return gjson.GetBytes(o.body, "event").Str
	}
	return o.e.Name
}

// encode encodes the events of a batch. Those that cannot be encoded are dropped.
func (c *Client) encode(batch []item) []*outgoing {
	out := make([]*outgoing, 0, len(batch))
	for i := range batch {
		if o := batch[i].out; o != nil {
			out = append(out, o...)
			continue
		}
		if c.ctx.Err() != nil {
			c.drop(DropClosed, int64(len(batch)-i), nil)
			return out
		}
		out = append(out, c.encodeItem(&batch[i])...)
	}
	return out
}

// encodeItem encodes the events of an item, of which the schema may create several.
// What cannot be encoded is dropped.
func (c *Client) encodeItem(it *item) (out []*outgoing) {
	events, reason, err := c.leaving(it)
	if reason != "" {
		c.drop(reason, 1, err)
		return nil
	}
	for _, l := range events {
		o, reason, err := c.encodeOne(l)
		if reason != "" {
			c.drop(reason, 1, err)
			continue
		}
		out = append(out, o)
	}
	return out
}

// encodeOne calls BeforeSend and encodes an event.
func (c *Client) encodeOne(l leaving) (o *outgoing, reason string, err error) {
	stage := DropInvalid
	defer func() {
		if p := recover(); p != nil {
			o, reason, err = nil, stage, fmt.Errorf("panic while building an event: %T", p)
		}
	}()
	e := l.e
	if c.c.BeforeSend != nil {
		stage = DropBeforeSend
		if e = c.c.BeforeSend(e); e == nil {
			return nil, DropBeforeSend, nil
		}
		stage = DropInvalid
	}
	if e.UUID == "" {
		e.UUID = event.NewID()
	}
	o = &outgoing{e: e, trace: l.traceURL}
	if o.body, err = c.marshal(o); err != nil {
		return nil, DropInvalid, fmt.Errorf("encode %s: %w", e.Name, err)
	}
	return o, "", nil
}

func (c *Client) marshal(o *outgoing) ([]byte, error) {
	return o.e.MarshalPostHog(event.Wire{Lib: libName, LibVersion: Version, TraceURL: o.trace, Home: c.c.home()})
}

// lighten removes the content of an event. It reports false if that was done before
// or does not help.
func (c *Client) lighten(o *outgoing, limit int) bool {
	if o.e == nil { // from the spool
		e, err := event.UnmarshalPostHog(o.body)
		if err != nil {
			return false
		}
		o.e = e
	}
	if o.light || o.e.Content.IsZero() {
		return false
	}
	lean := &outgoing{e: o.e.Clone(), trace: o.trace}
	lean.e.DropContent()
	_ = lean.e.SetProperty("content_dropped", "too_large") // marshalling a string cannot fail
	body, err := c.marshal(lean)
	if err != nil || len(body) > limit {
		return false
	}
	o.e, o.body, o.light = lean.e, body, true
	return true
}

// deliver delivers or drops every event of a batch.
func (c *Client) deliver(batch []*outgoing) {
	work := split(batch, batchBytes, max(maxBatch, c.c.FlushAt))
	for len(work) > 0 {
		part := work[0]
		work = append(c.send(part), work[1:]...) // parts of a part first: order is kept
	}
}

// split divides a batch where its size or number of events exceeds the limit, and
// where the route changes: a schema may turn a call into product events. A single
// event is never split off.
func split(batch []*outgoing, limit, most int) (parts [][]*outgoing) {
	ai, other := func(o *outgoing) bool { return o.ai }, func(o *outgoing) bool { return !o.ai }
	if slices.ContainsFunc(batch, ai) && slices.ContainsFunc(batch, other) {
		llm := slices.DeleteFunc(slices.Clone(batch), other)
		rest := slices.DeleteFunc(slices.Clone(batch), ai)
		return append(split(rest, limit, most), split(llm, limit, most)...)
	}
	start, size := 0, 0
	for i, o := range batch {
		if i > start && (size+len(o.body) > limit || i-start == most) {
			parts = append(parts, batch[start:i:i])
			start, size = i, 0
		}
		size += len(o.body)
	}
	if start < len(batch) {
		parts = append(parts, batch[start:])
	}
	return parts
}

// send sends a batch, with retries. It returns parts that have to be sent
// instead.
func (c *Client) send(batch []*outgoing) (halves [][]*outgoing) {
	ai := len(batch) > 0 && batch[0].ai
	delay := backoffMin
	for try := 0; ; {
		path, limit := pathBatch, limitBatch
		if ai && c.hasAI() {
			path, limit = pathAI, limitAI
		}
		if batch = c.fit(batch, limit); len(batch) == 0 {
			return nil
		}
		if c.ctx.Err() != nil {
			c.left(batch)
			return nil
		}
		c.debug("delivery starts", "path", path, "events", len(batch), "bytes", size(batch), "try", try+1)
		began := time.Now()
		status, after, err := c.post(path, batch)
		switch v := judge(status, path, err); v {
		case taken:
			c.stats.Lock()
			c.stats.sent += int64(len(batch))
			c.stats.Unlock()
			c.debug("delivered", "path", path, "events", len(batch), "status", status, "took", time.Since(began))
			return nil
		case noRoute:
			c.log.Info("the host has no route for LLM events: using " + pathBatch)
			c.noAI.Store(time.Now().Add(noAIFor).UnixNano())
		case tooLarge, invalid:
			// Nothing of a rejected batch was stored: sending parts finds the bad event.
			if n := len(batch) / 2; n > 0 {
				return [][]*outgoing{batch[:n:n], batch[n:]}
			}
			o := batch[0]
			if v == tooLarge {
				if c.lighten(o, len(o.body)-1) {
					continue
				}
				c.log.Warn("event too large for the host", "event", o.name(), "bytes", len(o.body))
				c.drop(DropTooLarge, 1, nil)
				return nil
			}
			c.drop(DropRefused, 1, err)
			return nil
		case refused:
			c.refusal(err)
			c.drop(DropRefused, int64(len(batch)), err)
			return nil
		case later:
			if try++; try > c.c.MaxRetries && (c.spool == nil || c.c.MaxRetries != 0) {
				c.drop(DropRetries, int64(len(batch)), err)
				return nil
			}
			// Random, up to a fifth less, so that clients do not retry in step.
			wait := max(delay-time.Duration(rand.Int64N(int64(delay)/5)), after)
			c.debug("retrying delivery", "retry", try, "after", wait, "events", len(batch), "err", err)
			c.sleep(wait)
			delay = min(2*delay, backoffMax)
		}
	}
}

// size returns the total size of a batch in bytes.
func size(batch []*outgoing) (n int) {
	for _, o := range batch {
		n += len(o.body)
	}
	return n
}

// refusal logs that the host rejects every event: immediately, then at
// intervals.
func (c *Client) refusal(err error) {
	c.stats.Lock()
	now := time.Now()
	due := now.Sub(c.stats.refused) >= dropLogEvery
	if due {
		c.stats.refused = now
	}
	c.stats.Unlock()
	if due {
		c.log.Error("the host rejects the events: check the API key and the host", "err", err)
	}
}

// left drops events for which no time remains; a spool keeps them for the next
// client.
func (c *Client) left(batch []*outgoing) {
	if c.spool == nil {
		c.drop(DropClosed, int64(len(batch)), nil)
		return
	}
	for _, o := range batch {
		if o.kept = c.spool.holds(o); !o.kept {
			c.drop(DropClosed, 1, nil)
		}
	}
}

// fit shrinks the events of a batch to the limit of a route, or drops them.
func (c *Client) fit(batch []*outgoing, limit int) []*outgoing {
	fits := true
	for _, o := range batch {
		fits = fits && len(o.body) <= limit
	}
	if fits {
		return batch
	}
	out := make([]*outgoing, 0, len(batch))
	for _, o := range batch {
		if len(o.body) > limit && !c.lighten(o, limit) {
			c.log.Warn("event too large", "event", o.name(), "bytes", len(o.body), "limit", limit)
			c.drop(DropTooLarge, 1, nil)
			continue
		}
		out = append(out, o)
	}
	return out
}

func (c *Client) hasAI() bool { return time.Now().UnixNano() >= c.noAI.Load() }

func (c *Client) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.ctx.Done():
	}
}

// verdict is the meaning of a response for a batch.
type verdict int

const (
	taken    verdict = iota
	later            // transient failure: retry later
	noRoute          // no AI route: send to /batch/ immediately
	tooLarge         // send halves, or a smaller event
	invalid          // one of the events is invalid
	refused          // the key or the host is wrong
)

// judge applies the retry rules of PostHog's capture protocol v0
// (https://github.com/PostHog/posthog-sdk-test-harness). err is nil only on success.
func judge(status int, path string, err error) verdict {
	switch {
	case err == nil:
		return taken
	case status == 0, status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return later
	case status == http.StatusNotFound && path == pathAI:
		return noRoute
	case status == http.StatusRequestEntityTooLarge:
		return tooLarge
	case status == http.StatusBadRequest:
		return invalid
	}
	return refused
}

var gzipWriters = sync.Pool{New: func() any { w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed); return w }}

// body returns the body of a request. It has no sent_at: PostHog would adjust all
// timestamps by it, differently in every attempt, and could not deduplicate retries.
func (c *Client) body(batch []*outgoing) []byte {
	size := 200
	for _, o := range batch {
		size += len(o.body) + 1
	}
	b := make([]byte, 0, size)
	b = append(b, `{"api_key":`...)
	key, _ := json.Marshal(c.c.APIKey) // marshalling a string cannot fail
	b = append(b, key...)
	b = append(b, `,"batch":[`...)
	for i, o := range batch {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, o.body...)
	}
	return append(b, "]}"...)
}

// post sends a batch once. The error is nil only if the host accepted it, and
// contains neither events nor the key.
func (c *Client) post(path string, batch []*outgoing) (status int, after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.c.Timeout)
	defer cancel()
	body := c.body(batch)
	target := c.c.Host + path
	if !c.c.DisableGzip {
		var buf bytes.Buffer
		z := gzipWriters.Get().(*gzip.Writer)
		z.Reset(&buf)
		// Writes to a bytes.Buffer do not fail.
		_, _ = z.Write(body)
		_ = z.Close()
		gzipWriters.Put(z)
		body = buf.Bytes()
		target += "?compression=gzip"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return 0, 0, errors.New("the host is not a valid URL")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", libName+"/"+Version)
	if !c.c.DisableGzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	res, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return 0, 0, fmt.Errorf("no response from %s: %w", req.URL.Host, err)
	}
	defer res.Body.Close()
	// Read to the end to reuse the connection. A 2xx counts even if its body is cut
	// off.
	response, _ := io.ReadAll(io.LimitReader(res.Body, responseBytes))
	status = res.StatusCode
	if status < 200 || status > 299 {
		return status, retryAfter(res.Header.Get("Retry-After"), time.Now()), fmt.Errorf("%s returned status %d", req.URL.Host, status)
	}
	if html(response) { // a sign-in page returns 200 for everything and stores nothing
		return http.StatusMisdirectedRequest, 0, fmt.Errorf("%s responded with an HTML page: it is not an ingestion host", req.URL.Host)
	}
	if bytes.Contains(response, []byte(`"quota_limited"`)) && bytes.Contains(response, []byte(`events"`)) {
		c.log.Warn("the host accepts events and drops them: the project is over its quota", "host", req.URL.Host)
	}
	return status, 0, nil
}

func html(b []byte) bool {
	b = bytes.ToLower(bytes.TrimSpace(b[:min(len(b), 256)]))
	return bytes.HasPrefix(b, []byte("<!doctype")) || bytes.HasPrefix(b, []byte("<html"))
}

// retryAfter parses seconds or an HTTP date (RFC 9110 section 10.2.3).
func retryAfter(s string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err == nil && n > 0 {
		d = time.Duration(min(n, retryAfterMax.Seconds()) * float64(time.Second))
	} else if t, err := http.ParseTime(s); err == nil {
		d = t.Sub(now)
	}
	return max(0, min(d, retryAfterMax))
}

// newHTTPClient returns a client that follows no redirects: one would send the key
// elsewhere, or turn a POST into a GET.
func newHTTPClient(c *Config) *http.Client {
	h := &http.Client{}
	if c.HTTPClient != nil {
		*h = *c.HTTPClient
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t = t.Clone()
		t.MaxIdleConnsPerHost = 4
		h.Transport = t
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return h
}
