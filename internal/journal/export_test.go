package journal

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/nats-io/nats.go"
)

// PublishRaw puts a message into the journal's streams as it is.
func (j *Journal) PublishRaw(ctx context.Context, subject string, data []byte) error {
	_, err := j.now.Load().ctlJS.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data})
	return err
}

// Clean runs the janitor once.
func (j *Journal) Clean(ctx context.Context) error { return j.clean(ctx, j.now.Load()) }

// What the fuzz targets try.
var (
	ValidToken     = validToken
	OneLine        = oneLine
	SubjectQueue   = subjectQueue
	SubjectProject = subjectProject
	SplitBatch     = splitBatch
	BatchLen       = batchLen
)

// PublishBatch puts one message of these frames into the journal.
func PublishBatch(t testing.TB, j *Journal, project string, frames ...[]byte) {
	t.Helper()
	body := binary.BigEndian.AppendUint32([]byte(batchMagic), uint32(len(frames)))
	for _, f := range frames {
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(f))), f...)
	}
	if err := j.PublishRaw(t.Context(), "events."+project, body); err != nil {
		t.Fatal(err)
	}
}

// PurgeAll drops all events, whoever still needs them.
func (j *Journal) PurgeAll(ctx context.Context) error { return j.now.Load().events.Purge(ctx) }

// Waiting is how many fetches wait on the queue.
func (j *Journal) Waiting(ctx context.Context, queue string) int {
	c, err := j.now.Load().events.Consumer(ctx, queue)
	if err != nil {
		return -1
	}
	return c.CachedInfo().NumWaiting
}
