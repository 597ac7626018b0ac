package provider_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// recordings keeps the exchanges of a socket as the gateway does.
type recordings struct {
	base  provider.Call
	calls []*provider.Call
}

type recording struct {
	of   *recordings
	call provider.Call
}

func (r *recordings) Begin(op string, request []byte, truncated bool, at time.Time) provider.SocketRecording {
	c := r.base
	c.Socket, c.Status, c.Start = op, http.StatusSwitchingProtocols, at
	c.Request, c.RequestBytes, c.RequestTruncated = bytes.Clone(request), int64(len(request)), truncated
	return &recording{r, c}
}

func (r *recording) Add(message []byte, at time.Time) {
	if message == nil {
		r.call.ResponseTruncated = true
		return
	}
	line := append(append([]byte("data: "), bytes.ReplaceAll(message, []byte("\n"), []byte(" "))...), "\n\n"...)
	r.call.Response = append(r.call.Response, line...)
	r.call.ResponseBytes = int64(len(r.call.Response))
	r.call.Marks = append(r.call.Marks, provider.Mark{Offset: r.call.ResponseBytes, At: at.Sub(r.call.Start)})
}

func (r *recording) End(request []byte, at time.Time) {
	if request != nil {
		r.call.Request, r.call.RequestBytes = bytes.Clone(request), int64(len(request))
	}
	r.call.Latency = at.Sub(r.call.Start)
	r.of.calls = append(r.of.calls, &r.call)
}

// socketFile is a golden file: a line "OPERATION PATH PROVIDER DIALECT",
// headers of the request (Request-…), the messages (> the caller's, < the
// provider's; other lines continue one), and the section want.
type socketFile struct {
	path, head, want string
	op, url          string
	base             provider.Call
	messages         []string
}

func socketFiles(t testing.TB) []*socketFile {
	t.Helper()
	files, err := filepath.Glob("testdata/sockets/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	var out []*socketFile
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f := &socketFile{path: path}
		f.head, f.want, _ = strings.Cut(string(b), "\n-- want --\n")
		f.head = strings.TrimSuffix(f.head, "\n")
		f.base = provider.Call{Method: "GET", BaseURL: "https://provider.test", RequestHeader: http.Header{}}
		for i, line := range strings.Split(f.head, "\n") {
			switch {
			case i == 0:
				if _, err := fmt.Sscan(line, &f.op, &f.url, &f.base.Provider, &f.base.Dialect); err != nil {
					t.Fatalf("%s: %v", path, err)
				}
				f.base.Path, _, _ = strings.Cut(f.url, "?")
			case strings.HasPrefix(line, "Request-"):
				k, v, _ := strings.Cut(strings.TrimPrefix(line, "Request-"), ": ")
				f.base.RequestHeader.Set(k, v)
			case strings.HasPrefix(line, "> "), strings.HasPrefix(line, "< "):
				f.messages = append(f.messages, line)
			default:
				f.messages[len(f.messages)-1] += "\n" + line
			}
		}
		out = append(out, f)
	}
	return out
}

// play has a socket read the messages, one every 10 ms, and returns its events.
func (f *socketFile) play(change func(message string) (string, bool)) []*event.Event {
	u, _ := url.Parse(f.url)
	rec := &recordings{base: f.base}
	s := provider.NewSocket(f.op, u.Query(), rec)
	at := start
	for _, m := range f.messages {
		at = at.Add(10 * time.Millisecond)
		b, truncated := m[2:], false
		if change != nil {
			b, truncated = change(b)
		}
		buf := []byte(b)
		if m[0] == '>' {
			s.FromCaller(buf, truncated, at)
		} else {
			s.FromProvider(buf, truncated, at)
		}
		for i := range buf { // the socket must not keep a provider's message
			if m[0] == '<' {
				buf[i] = '#'
			}
		}
	}
	s.Close(at.Add(10 * time.Millisecond))
	var events []*event.Event
	for _, c := range rec.calls {
		events = append(events, provider.Parse(c))
	}
	return events
}

// TestSockets parses conversations over WebSockets.
func TestSockets(t *testing.T) {
	for _, f := range socketFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(f.path), ".txt"), func(t *testing.T) {
			if got := provider.SocketOperation(f.url); got != f.op {
				t.Errorf("SocketOperation(%s) = %q, want %q", f.url, got, f.op)
			}
			var b strings.Builder
			for _, e := range f.play(nil) {
				e.ProjectID = "default"
				if err := e.Validate(); err != nil {
					t.Errorf("not a valid event: %v", err)
				}
				e.ProjectID = ""
				b.WriteString(describe(t, e))
			}
			got := b.String()
			if *update {
				if err := os.WriteFile(f.path, []byte(f.head+"\n-- want --\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != f.want {
				t.Errorf("got\n%s\nwant\n%s\n(go test -update rewrites it)", got, f.want)
			}
		})
	}
}

// TestSocketTruncated truncates every message: no failure of the provider and
// no count is invented.
func TestSocketTruncated(t *testing.T) {
	for _, f := range socketFiles(t) {
		for n := range 8 {
			for _, e := range f.play(func(m string) (string, bool) { return m[:len(m)*n/8], true }) {
				if e.IsError && e.ErrorType != event.ErrTypeTruncated || e.Usage != (event.Usage{}) {
					t.Errorf("%s: error %q %q, usage %+v", f.path, e.ErrorType, e.ErrorMessage, e.Usage)
				}
			}
		}
	}
}

// TestRealtimeCost prices a response by modality: gpt-realtime costs 4 USD per
// million text tokens and 32 per million audio tokens, 0.40 cached, 16 and 64
// for output (https://platform.openai.com/docs/pricing).
func TestRealtimeCost(t *testing.T) {
	for _, f := range socketFiles(t) {
		if !strings.HasSuffix(f.path, "realtime_voice.txt") {
			continue
		}
		events := f.play(nil)
		price.Default().Price(events[1])
		// Uncached: 59 of text and 9 of audio; 64 cached; output: 30 of text
		// and 91 of audio.
		const want = "0.0068536"
		if got := events[1].Cost.Total; !got.Known || got.Value.String() != want {
			t.Errorf("%s costs %v, want %s; unpriced %q", events[1].ModelName(), got, want, events[1].Cost.Unpriced)
		}
		price.Default().Price(events[0])
		if got := events[0].Cost.Total; !got.Known || events[0].ModelName() != "gpt-4o-mini-transcribe" {
			t.Errorf("transcription by %s: cost %v; unpriced %q", events[0].ModelName(), got, events[0].Cost.Unpriced)
		}
	}
}

// FuzzSocket reads any messages. Lines that begin with > are the caller's.
func FuzzSocket(f *testing.F) {
	for i, file := range socketFiles(f) {
		f.Add(uint8(i), strings.Join(file.messages, "\n"))
	}
	f.Fuzz(func(t *testing.T, n uint8, lines string) {
		file := &socketFile{op: []string{"responses", "realtime_response", "live_turn"}[n%3], url: "/x?model=m", base: provider.Call{Method: "GET", Path: "/x", Provider: "p", Dialect: provider.OpenAI}}
		for line := range strings.SplitSeq(lines, "\n") {
			if len(line) > 2 {
				file.messages = append(file.messages, line)
			}
		}
		for _, e := range file.play(nil) {
			e.ProjectID = "default"
			if err := e.Validate(); err != nil {
				t.Fatal(err)
			}
			for _, v := range []json.RawMessage{e.Content.Input, e.Content.Output, e.Content.Tools} {
				if v != nil && !json.Valid(v) {
					t.Fatalf("not JSON: %s", v)
				}
			}
			if e.ParseError == "the parser failed on this exchange; its format is not known to hedgerow" {
				t.Fatal("the parser panicked")
			}
		}
	})
}

// TestSocketMemory has a socket read messages of which little is needed
// later: it does not keep the rest of them.
func TestSocketMemory(t *testing.T) {
	pad := strings.Repeat("p", 400_000)
	for _, c := range []struct {
		name, op string
		message  func(n int) string // '>' the caller's, '<' the provider's
	}{
		{"requests", "realtime_response", func(int) string {
			return `>{"type":"response.create","event_id":"e","response":{},"pad":"` + pad + `"}`
		}},
		{"ids of requests", "realtime_response", func(int) string { return `>{"type":"response.create","event_id":"` + pad + `"}` }},
		{"streams", "responses", func(n int) string {
			return fmt.Sprintf(`>{"type":"response.create","model":"m","stream_id":"%d%s"}`, n, pad)
		}},
		{"replaced items", "realtime_response", func(n int) string {
			text := "short"
			if n >= 100 {
				text = pad
			}
			return fmt.Sprintf(`<{"type":"conversation.item.created","item":{"id":"i%d","type":"message","role":"user","content":[{"type":"input_text","text":"%s"}]}}`, n%100, text)
		}},
		{"long conversation", "live_turn", func(int) string {
			return `>{"clientContent":{"turns":[{"role":"user","parts":[{"text":"` + pad + `"}]}]}}`
		}},
		{"items with long ids", "realtime_response", func(n int) string {
			return fmt.Sprintf(`<{"type":"conversation.item.created","item":{"id":"%d%s","type":"message","role":"user","content":[]}}`, n, pad)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			used := func() uint64 {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return m.HeapAlloc
			}
			s := provider.NewSocket(c.op, nil, noRecordings{})
			before := used()
			for n := range 200 {
				m := c.message(n)
				if m[0] == '>' {
					s.FromCaller([]byte(m[1:]), false, start)
				} else {
					s.FromProvider([]byte(m[1:]), false, start)
				}
			}
			if kept := int64(used() - before); kept > 8<<20 {
				t.Errorf("%d bytes are kept", kept)
			}
			runtime.KeepAlive(s)
		})
	}
}

// noRecordings keeps nothing.
type noRecordings struct{}

func (noRecordings) Begin(string, []byte, bool, time.Time) provider.SocketRecording {
	return noRecordings{}
}
func (noRecordings) Add([]byte, time.Time) {}
func (noRecordings) End([]byte, time.Time) {}
