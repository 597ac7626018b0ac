package app

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/backup"
	"github.com/hedgerow/hedgerow/server/internal/kv"
)

const (
	mostSubmissions = 10_000              // of all projects; the oldest are removed
	submissionsLast = 30 * 24 * time.Hour // as long as OpenAI keeps the results of a batch
)

// submission is what the gateway stores of a batch, and when.
type submission struct {
	Project string          `json:"project"`
	ID      string          `json:"id"`
	At      time.Time       `json:"at"`
	Value   json.RawMessage `json:"value"`
}

// submissions are a bucket of the journal, once that is open: the gateway serves before.
type submissions struct {
	open atomic.Pointer[kv.Collection[submission]]
	most int // 0: mostSubmissions
}

// Load implements [gateway.Submissions].
func (s *submissions) Load(projectID, id string) []byte {
	c := s.open.Load()
	if c == nil {
		return nil
	}
	v, _ := c.Get(projectID, id)
	return v.Value
}

// Save implements [gateway.Submissions].
func (s *submissions) Save(ctx context.Context, projectID, id string, value []byte) error {
	c := s.open.Load()
	if c == nil {
		return errNotOpen("the journal")
	}
	if _, ok := c.Get(projectID, id); ok {
		_, err := c.Change(ctx, projectID, id, func(v *submission) error { v.Value = value; return nil })
		return err
	}
	if err := s.prune(ctx, c); err != nil {
		return err
	}
	return c.Create(ctx, projectID, id, submission{projectID, id, time.Now().UTC(), value})
}

// IDs implements [gateway.Submissions].
func (s *submissions) IDs(projectID string) (ids []string) {
	if c := s.open.Load(); c != nil {
		for _, v := range c.List(projectID) {
			ids = append(ids, v.ID)
		}
	}
	return ids
}

// prune makes room for one more.
func (s *submissions) prune(ctx context.Context, c *kv.Collection[submission]) error {
	most := cmp.Or(s.most, mostSubmissions)
	all := c.List("")
	slices.SortFunc(all, func(a, b submission) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID))
	})
	old := time.Now().Add(-submissionsLast)
	for i, v := range all {
		if len(all)-i < most && v.At.After(old) {
			return nil
		}
		if err := c.Delete(ctx, v.Project, v.ID); err != nil {
			return err
		}
	}
	return nil
}

// openSubmissions opens the bucket, and again if it cannot be read. The start does not
// wait for it: results that are fetched before have the caller's own attribution.
func (a *App) openSubmissions(context.Context) error {
	a.run(closeData, "batches", func(ctx context.Context) error {
		bucket, err := a.journal.KeyValue(ctx, backup.BatchesBucket, 1)
		if err != nil {
			return err
		}
		c, err := kv.OpenCollection[submission](ctx, bucket, kv.CollectionConfig{Noun: "batch", Logger: a.log.With("part", "gateway")})
		if err != nil {
			return err
		}
		a.submissions.open.Store(c)
		<-ctx.Done()
		a.submissions.open.Store(nil)
		return c.Close()
	})
	return nil
}
