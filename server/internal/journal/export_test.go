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

// Seeds of the fuzz targets.
var (
	ValidToken     = validToken
	OneLine        = oneLine
	SubjectQueue   = subjectQueue
	SubjectProject = subjectProject
	SplitBatch     = splitBatch
	BatchLen       = batchLen
	MetaSum        = metaSum
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

// PurgeAll drops all events, even those that queues still need.
func (j *Journal) PurgeAll(ctx context.Context) error { return j.now.Load().events.Purge(ctx) }

// Waiting is how many fetches wait on the queue.
func (j *Journal) Waiting(ctx context.Context, queue string) int {
	c, err := j.now.Load().events.Consumer(ctx, queue)
	if err != nil {
		return -1
	}
	return c.CachedInfo().NumWaiting
}

// MakeBlock is a block of these messages, as JetStream writes it.
func MakeBlock(stream string, index int, subject string, bodies ...string) []byte {
	r, err := newBlockReader(stream, index, nil)
	if err != nil {
		panic(err)
	}
	var out []byte
	for i, b := range bodies {
		head := binary.LittleEndian.AppendUint32(nil, uint32(recordHead+len(subject)+len(b)+recordSum))
		head = binary.LittleEndian.AppendUint64(head, uint64(i+1))
		head = binary.LittleEndian.AppendUint64(head, uint64(i))
		head = binary.LittleEndian.AppendUint16(head, uint16(len(subject)))
		r.sum.Reset()
		r.sum.Write(head[4:20])
		r.sum.Write([]byte(subject + b))
		out = append(append(append(append(out, head...), subject...), b...), r.sum.Sum(nil)...)
	}
	return out
}

// ReadBlock returns how many bytes of a block can be read, and how many cannot.
func ReadBlock(stream string, index int, raw []byte) (read, bad int) {
	r, err := newBlockReader(stream, index, raw)
	if err != nil {
		panic(err)
	}
	end := 0
	bad, _ = r.read(func(rec blockRecord) {
		if rec.from < end || rec.to > len(raw) {
			panic("a record that is not in its place")
		}
		end = rec.to
		read += rec.to - rec.from
		readHeaders(rec.headers)
	})
	return read, bad
}

// Watch records the folders of an open journal and returns a function that
// reports whether they were removed.
func Watch(dir string) (gone func() bool) { return foldersOf(dir).gone }
