package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// Submissions stores the submitters of batches, so that results can be
// attributed after a restart too. Values are JSON of less than 64 KiB.
type Submissions interface {
	// Load returns a stored value, or nil. It must not do I/O.
	Load(projectID, id string) []byte
	// Save stores a value.
	Save(ctx context.Context, projectID, id string, value []byte) error
	// IDs returns the ids of a project's values.
	IDs(projectID string) []string
}

const (
	maxSubmissions   = 10_000 // in memory, the newest
	maxSubmission    = 64 << 10
	submissionWait   = 2 * time.Second // for one Save
	longestBatchLine = 8 << 20         // a longer line of results is not recorded
)

// submission is what is known of a batch, or of one of its files.
type submission struct {
	Batch    string       `json:"batch,omitempty"` // of a results file
	Endpoint string       `json:"endpoint,omitempty"`
	Created  time.Time    `json:"created,omitzero"`
	Asked    *event.Event `json:"asked,omitempty"` // the call that submitted it; nil if it was not seen
	From     []string     `json:"from,omitempty"`  // uuids of the events with Asked's values
	saved    bool         // under batches.saving
}

// batches attributes the results of batches to the calls that submitted them. It is
// safe for concurrent use.
type batches struct {
	kept Submissions // nil: memory only

	saving sync.Mutex // held by set
	mu     sync.Mutex
	of     *simplelru.LRU[responseID, *submission]
}

// idForm is the form of ids that are kept.
var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)

// get returns the entry of an id, or nil.
func (b *batches) get(project, id string) *submission {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of != nil {
		if s, ok := b.of.Get(responseID{project, id}); ok {
			return s
		}
	}
	s := b.load(project, id)
	if s != nil {
		b.put(project, id, s)
	}
	return s
}

// load returns the stored entry of an id, or nil.
func (b *batches) load(project, id string) *submission {
	if b.kept == nil || !idForm.MatchString(id) {
		return nil
	}
	s := &submission{saved: true}
	if v := b.kept.Load(project, id); v == nil || json.Unmarshal(v, s) != nil {
		return nil
	}
	return s
}

// put keeps s in memory. The caller holds mu.
func (b *batches) put(project, id string, s *submission) {
	if b.of == nil {
		b.of, _ = simplelru.NewLRU[responseID, *submission](maxSubmissions, nil) // an error only for size 0
	}
	b.of.Add(responseID{project, id}, s)
}

// set keeps s, unless it is unchanged. If it cannot be stored, the next call
// that names the batch tries again. The first time that is known of a batch
// stays: the uuids of its results depend on it.
func (b *batches) set(ctx context.Context, project, id string, s *submission) error {
	if !idForm.MatchString(id) {
		return nil
	}
	b.saving.Lock()
	defer b.saving.Unlock()
	if old := b.get(project, id); old != nil {
		if !old.Created.IsZero() {
			s.Created = old.Created
		}
		same := (old.Asked != nil || s.Asked == nil) && old.Batch == s.Batch && cmp.Or(old.Endpoint, s.Endpoint) == old.Endpoint && old.Created.Equal(s.Created)
		if same && (old.saved || b.kept == nil) {
			return nil
		}
		if old.Asked != nil {
			s.Asked, s.From = old.Asked, old.From
		}
		s.Endpoint = cmp.Or(old.Endpoint, s.Endpoint)
	}
	return b.save(ctx, project, id, s)
}

// save keeps s in memory and stores it. The caller holds saving.
func (b *batches) save(ctx context.Context, project, id string, s *submission) error {
	v, err := json.Marshal(s)
	if err == nil && len(v) > maxSubmission && s.Asked != nil {
		asked := *s.Asked
		asked.Properties = nil // the only part that can be this large
		s.Asked = &asked
		v, err = json.Marshal(s)
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.put(project, id, s)
	b.mu.Unlock()
	if b.kept == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, submissionWait)
	defer cancel()
	if err := b.kept.Save(ctx, project, id, v); err != nil {
		return err
	}
	s.saved = true
	return nil
}

// forget removes the values of events from the entries of a project.
func (b *batches) forget(ctx context.Context, project string, uuids []string) error {
	b.saving.Lock()
	defer b.saving.Unlock()
	entries := make(map[string]*submission)
	b.mu.Lock()
	if b.of != nil {
		for _, k := range b.of.Keys() {
			if s, ok := b.of.Peek(k); ok && k.project == project {
				entries[k.completion] = s
			}
		}
	}
	b.mu.Unlock()
	if b.kept != nil {
		for _, id := range b.kept.IDs(project) {
			if s := b.load(project, id); s != nil {
				entries[id] = s
			}
		}
	}
	for id, s := range entries {
		if s.Asked == nil || !slices.ContainsFunc(s.From, func(u string) bool { return slices.Contains(uuids, u) }) {
			continue
		}
		if err := b.save(ctx, project, id, &submission{Batch: s.Batch, Endpoint: s.Endpoint, Created: s.Created}); err != nil {
			return err
		}
	}
	return nil
}

// ForgetSubmitters removes what is kept of events about the batches that they
// submitted: results that are fetched later are not attributed to their users.
// Results themselves are events of their own.
func (g *Gateway) ForgetSubmitters(ctx context.Context, projectID string, uuids []string) error {
	if err := g.capture.batches.forget(ctx, projectID, uuids); err != nil {
		return fmt.Errorf("remove submitters of batches: %w", err)
	}
	return nil
}

// batch records the data that a call has about batches. e must have its trace
// id.
func (c *capture) batch(e *event.Event, r *record) {
	call := &r.call
	if call.Status/100 != 2 || call.Batch {
		return
	}
	keep := func(id string, s *submission) {
		if err := c.batches.set(c.ctx, e.ProjectID, id, s); err != nil {
			c.log.Warn("gateway: the submitter of a batch could not be stored, its results have no user after a restart", "batch", id, "err", err)
		}
	}
	switch e.Operation {
	case "files":
		if id := provider.UploadedFile(call.Response); call.Method == "POST" && id != "" {
			keep(id, &submission{Created: e.Timestamp, Asked: attributionOf(e), From: []string{e.UUID}})
		}
	case "batches", "message_batches":
		if _, results := provider.BatchResultsID(call.Method, call.Path); results {
			return
		}
		list := provider.Batches(call.Response)
		for _, b := range list {
			s := &submission{Endpoint: b.Endpoint, Created: b.Created}
			upload := c.batches.get(e.ProjectID, b.Input)
			if upload != nil && upload.Asked == nil {
				upload = nil
			}
			if call.Method == "POST" && len(list) == 1 {
				if named := new(event.Event); upload != nil {
					if attribute(named, r.header); named.TraceID == "" {
						e.TraceID, e.ParentID = upload.Asked.TraceID, upload.Asked.SpanID
					}
				}
				s.Asked, s.From = attributionOf(e), []string{e.UUID}
			}
			if upload != nil {
				if s.Asked == nil {
					s.Asked = new(event.Event)
				}
				complete(s.Asked, upload.Asked)
				s.From = append(s.From, upload.From...)
			}
			keep(b.ID, s)
			for _, file := range b.Results {
				keep(file, &submission{Batch: b.ID, Endpoint: b.Endpoint, Created: b.Created})
			}
		}
	}
}

// submitted returns the entry of the batch whose results have an id: that of a
// file, or of the batch itself.
func (c *capture) submitted(project, id string) (batch string, s submission) {
	found := c.batches.get(project, id)
	if found == nil {
		return id, s
	}
	if found.Batch != "" {
		if of := c.batches.get(project, found.Batch); of != nil {
			s = *of
			s.Created = found.Created
			return found.Batch, s
		}
		return found.Batch, *found
	}
	return id, *found
}

// result builds the event of a line of results. The same line always gives the
// same event: however often results are fetched, they count once.
func (c *capture) result(r *record) (e *event.Event) {
	batch, s := c.submitted(r.projectID, r.results)
	line, ok := provider.ReadResult(r.call.Response, s.Endpoint)
	if !ok {
		return nil
	}
	call := line.Call
	call.Provider, call.BaseURL = r.call.Provider, r.call.BaseURL
	call.ResponseHeader = nil
	if call.Start.IsZero() {
		call.Start = s.Created
	}
	if call.Start.IsZero() {
		// Neither the response nor the batch has a time: the first fetch sets
		// it for all lines.
		call.Start = r.call.Start.UTC().Truncate(time.Second)
		first := &submission{Created: call.Start}
		if err := c.batches.set(c.ctx, r.projectID, r.results, first); err != nil {
			c.log.Warn("gateway: the time of a batch could not be stored, results that are fetched again after a restart count twice", "results", r.results, "err", err)
		}
	}
	e = c.parse(&call)
	e.ProjectID = r.projectID
	id := line.ID
	if id == line.Request { // unique within these results only
		id = r.results + "/" + id
	}
	e.UUID = event.DerivedID(r.projectID+"/"+id, e.Timestamp)
	if s.Asked != nil {
		complete(e, s.Asked)
	} else {
		attribute(e, r.header)
	}
	e.DistinctID = event.FirstChars(cmp.Or(e.DistinctID, event.CleanValue(e.User)), event.MaxDistinctIDLen)
	e.AdoptLabels()
	e.Surface = cmp.Or(e.Surface, r.surface)
	e.TraceID = cmp.Or(e.TraceID, event.DerivedID(r.projectID+"/"+batch, e.Timestamp))
	e.SpanID = cmp.Or(e.SpanID, e.UUID)
	_ = e.SetProperty("batch_id", batch)
	_ = e.SetProperty("batch_request", line.Request)
	return e
}

// batchLines records the lines of a batch's results while they are forwarded.
// Lines that do not fit into the capture queue wait in memory, within the
// budget of responses: calls take precedence.
type batchLines struct {
	x       *exchange
	results string // the id of the results

	line  []byte
	held  int64
	skip  bool // the rest of a line that is too long
	begun bool // a line was a result
	none  bool // the response has no results

	mu      sync.Mutex
	waiting []*record
	ended   bool
	wake    chan struct{}
}

// fetchesResults reports whether the response may be the results of a batch.
func (x *exchange) fetchesResults() (id string, ok bool) {
	return provider.BatchResultsID(x.in.Method, x.route.below)
}

func newBatchLines(x *exchange, results string) *batchLines {
	return &batchLines{x: x, results: results, wake: make(chan struct{}, 1)}
}

// write reads forwarded bytes.
func (b *batchLines) write(p []byte) {
	for len(p) > 0 && !b.none {
		i := 0
		for i < len(p) && p[i] != '\n' {
			i++
		}
		whole := i < len(p)
		b.add(p[:i])
		if whole {
			b.end()
			i++
		}
		p = p[i:]
	}
}

// add appends a part of a line.
func (b *batchLines) add(p []byte) {
	if b.skip || len(p) == 0 {
		return
	}
	n := int64(len(p))
	if len(b.line)+len(p) > longestBatchLine || !b.x.g.responses.take(n) {
		b.drop()
		return
	}
	b.held += n
	b.line = append(b.line, p...)
}

// drop discards a line.
func (b *batchLines) drop() {
	b.x.g.capture.drop(dropQueueBytes, 1, nil)
	b.x.g.responses.give(b.held)
	b.line, b.held, b.skip = nil, 0, true
}

// end records a complete line.
func (b *batchLines) end() {
	line, held := b.line, b.held
	b.line, b.held = nil, 0
	if b.skip || len(line) == 0 {
		b.skip = false
		return
	}
	if _, ok := provider.ReadResult(line, ""); !ok {
		b.none = !b.begun // decided by the first line; a later invalid one is only skipped
		b.x.g.responses.give(held)
		return
	}
	x := b.x
	r := &record{projectID: x.rec.projectID, surface: x.rec.surface, header: x.in.Header, results: b.results}
	r.call = provider.Call{Provider: x.rec.call.Provider, BaseURL: x.route.base, Method: x.in.Method, Path: x.route.below, Start: x.start, Status: 200, Response: line, Batch: true}
	b.mu.Lock()
	b.waiting = append(b.waiting, r)
	b.mu.Unlock()
	if !b.begun {
		b.begun = true
		tracked := x.g.enterUpgrade()
		go func() {
			if tracked {
				defer x.g.upgrades.Done()
			}
			b.record()
		}()
	}
	b.signal()
}

func (b *batchLines) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// finish records the part after the last line end.
func (b *batchLines) finish() {
	if !b.none {
		b.end()
	}
	b.x.g.responses.give(b.held)
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	b.signal()
}

// record offers the lines to capture while less than half of its queue is used.
func (b *batchLines) record() {
	g := b.x.g
	for {
		b.mu.Lock()
		list, ended := b.waiting, b.ended
		b.waiting = nil
		b.mu.Unlock()
		for _, r := range list {
			for !g.capture.roomy() {
				select {
				case <-time.After(10 * time.Millisecond):
					continue
				case <-g.closing.Done():
				}
				break
			}
			n := int64(len(r.call.Response))
			g.capture.offer(r)
			g.responses.give(n)
		}
		if ended && len(list) == 0 {
			return
		}
		if len(list) == 0 {
			<-b.wake
		}
	}
}

// roomy reports whether less than half of the queue is used.
func (c *capture) roomy() bool {
	return c.depth.Load() < int64(cap(c.queue))/2+1 && c.bytes.used.Load() < c.bytes.limit/2
}
