package journal_test

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/journal"
	"github.com/nats-io/nats.go"
)

// FuzzFrame writes arbitrary bytes instead of a frame: a fetch returns an event
// of that project, or the bytes become a dead letter; the next event is
// delivered.
func FuzzFrame(f *testing.F) {
	whole, err := newEvent("p1", 300).AppendFrame(nil)
	if err != nil {
		f.Fatal(err)
	}
	stray, err := newEvent("p2", 0).AppendFrame(nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{nil, whole, whole[:len(whole)-1], whole[:20], append(bytes.Clone(whole), 0), stray,
		[]byte("HRE1"), []byte("HRE1\x02{}"), []byte("HRE1\x02{}\x00\x00\x00\x00\x00"), []byte("HRE1\x0f{\"project\":\"p1\"}\x00\x00\x00\x00\x00")} {
		f.Add(b)
	}
	j := open(f, journal.Config{Keep: -1, JanitorEvery: 100 * time.Millisecond, DeadMaxBytes: 4 << 20})
	q := mustQueue(f, j, "q", journal.QueueOptions{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		before, err := j.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := j.PublishRaw(t.Context(), "events.p1", frame); err != nil {
			t.Skip() // larger than a message may be
		}
		marker := newEvent("p1", 0)
		mustAppend(t, j, marker)
		came := 0
		for {
			ds, err := q.Fetch(t.Context(), 2, 0)
			if err != nil {
				t.Fatal(err)
			}
			done := false
			for _, d := range ds {
				if d.Event.ProjectID != "p1" {
					t.Errorf("an event of project %q came", d.Event.ProjectID)
				}
				if done = d.Event.UUID == marker.UUID; !done {
					came++
				}
				d.Ack()
			}
			if done {
				break
			}
		}
		_, derr := event.DecodeFrame(frame)
		if derr != nil && came != 0 || came > 1 {
			t.Errorf("%d events came of a frame with error %v", came, derr)
		}
		if came == 0 {
			ds, err := j.DeadLetters(t.Context(), journal.DeadFilter{Limit: 1})
			if err != nil || len(ds) != 1 || ds[0].Seq != before.LastSeq+1 || !strings.HasPrefix(ds[0].Reason, "unreadable frame") {
				t.Errorf("dead letter %+v, %v", ds, err)
			}
			if _, err := j.DeleteDead(t.Context(), journal.DeadFilter{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzReason encodes any reason from a sink as one header line.
func FuzzReason(f *testing.F) {
	f.Add("store: the disk is full", 1000)
	f.Add("a\r\nNats-Msg-Id: x\r\n\r\n", 1000)
	f.Add("äöü\xff\x00\u2028", 5)
	f.Fuzz(func(t *testing.T, s string, n int) {
		n = 1 + int(uint(n)%2000)
		got := journal.OneLine(s, n)
		if len(got) > n || !utf8.ValidString(got) || strings.ContainsAny(got, "\r\n\x00") {
			t.Fatalf("%q of at most %d bytes", got, n)
		}
		if got != journal.OneLine(got, n) {
			t.Errorf("%q changes once more", got)
		}
		// As NATS writes and reads it.
		m := &nats.Msg{Header: nats.Header{"Hedgerow-Reason": []string{got}}}
		var b bytes.Buffer
		if err := http.Header(m.Header).Write(&b); err != nil {
			t.Fatal(err)
		}
		if strings.Count(b.String(), "\r\n") != 1 {
			t.Errorf("header %q", b.String())
		}
	})
}

// FuzzToken: an accepted name is one token of a subject and is decoded
// unchanged.
func FuzzToken(f *testing.F) {
	for _, s := range []string{"default", "a.b", "*", ">", "", "ä", "a b", "posthog-01", strings.Repeat("x", 129)} {
		f.Add(s, "p1")
		f.Add("q", s)
	}
	f.Fuzz(func(t *testing.T, queue, project string) {
		if !journal.ValidToken(queue) || !journal.ValidToken(project) {
			return
		}
		for _, prefix := range []string{"dead.", "replay."} {
			s := prefix + queue + "." + project
			if journal.SubjectQueue(s) != queue || journal.SubjectProject(s) != project || strings.Count(s, ".") != 2 || strings.ContainsAny(s, "*> \t\r\n/\\") {
				t.Errorf("subject %q", s)
			}
		}
	})
}

// FuzzBlock reads arbitrarily damaged blocks: returned records are complete,
// within the block and in order, and missing ones are counted.
func FuzzBlock(f *testing.F) {
	block := journal.MakeBlock("EVENTS", 1, "events.p1", "one", "two", "three")
	f.Add(block, 0, byte(0))
	f.Add(block, len(block)/2, byte(0xff))
	f.Add(block[:len(block)-3], 3, byte(1))
	f.Add([]byte("\x00\x00\x00\x00"), 0, byte(7))
	f.Fuzz(func(t *testing.T, raw []byte, at int, flip byte) {
		if len(raw) > 1<<16 {
			return
		}
		raw = slices.Clone(raw)
		if len(raw) > 0 {
			raw[((at%len(raw))+len(raw))%len(raw)] ^= flip
		}
		read, bad := journal.ReadBlock("EVENTS", 1, raw)
		if read+bad != len(raw) {
			t.Errorf("%d bytes read and %d not, of %d", read, bad, len(raw))
		}
	})
}
