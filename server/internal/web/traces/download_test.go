package traces_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/web/traces"
)

// chain is a trace of spans nested in each other.
func chain(depth int) *query.Trace {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	t := &query.Trace{ID: "t", Start: at, End: at}
	into := &t.Roots
	for i := range depth {
		n := &query.Node{Event: &query.Event{UUID: event.NewID(), Name: event.Span, Timestamp: at, SpanName: fmt.Sprint("<span> ", i), Properties: map[string]json.RawMessage{"a": json.RawMessage(`"<b>"`)}}, Children: []*query.Node{}}
		*into = []*query.Node{n}
		into = &n.Children
	}
	return t
}

// TestWriteTrace holds that the file is the trace, and grows with its depth and
// no faster.
func TestWriteTrace(t *testing.T) {
	var got bytes.Buffer
	if err := traces.WriteTrace(&got, chain(20)); err != nil {
		t.Fatal(err)
	}
	var back, want any
	b, _ := json.Marshal(chain(20))
	if json.Unmarshal(got.Bytes(), &back) != nil || json.Unmarshal(b, &want) != nil {
		t.Fatalf("not JSON: %s", got.Bytes())
	}
	strip := func(v any) string {
		b, _ := json.Marshal(v)
		return strings.Join(strings.Split(string(b), `"uuid"`), "")
	}
	if len(strip(back)) != len(strip(want)) {
		t.Errorf("%s\nwant\n%s", strip(back), strip(want))
	}
	sizes := make(map[int]int)
	for _, depth := range []int{1_000, 2_000, 4_000} {
		n := new(counter)
		if err := traces.WriteTrace(n, chain(depth)); err != nil {
			t.Fatal(err)
		}
		sizes[depth] = n.bytes
		if n.largest > 64<<10 {
			t.Errorf("%d spans: written in pieces of up to %d bytes, want a stream", depth, n.largest)
		}
	}
	if each := sizes[2_000] - sizes[1_000]; sizes[4_000]-sizes[2_000] > 2*each+each/10 || sizes[4_000] > 4_000*4_000 {
		t.Errorf("sizes by depth: %v, want them linear", sizes)
	}
}

type counter struct{ bytes, largest int }

func (c *counter) Write(b []byte) (int, error) {
	c.bytes += len(b)
	c.largest = max(c.largest, len(b))
	return len(b), nil
}

var _ io.Writer = (*counter)(nil)

// TestShownIsBounded shows what grows when it is shown: deep nesting, which
// indenting squares, long texts, many messages and many parts.
func TestShownIsBounded(t *testing.T) {
	deep := "[" + strings.TrimSuffix(strings.Repeat(strings.Repeat("[", 900)+strings.Repeat("]", 900)+",", 1000), ",") + "]"
	wide := "[" + strings.TrimSuffix(strings.Repeat("1,", 100_000), ",") + "]"
	for name, raw := range map[string]string{"deep": deep, "wide": strings.Repeat("[", 25) + wide + strings.Repeat("]", 25), "long": `"` + strings.Repeat("x", 5<<20) + `"`} {
		if got := traces.Indent(json.RawMessage(raw)); len(got) > 300<<10 || !strings.Contains(got, "more, available through the API") {
			t.Errorf("%s: %d bytes of %d are shown", name, len(got), len(raw))
		}
	}
	if got := traces.Indent(json.RawMessage(`{"a":[1]}`)); got != "{\n  \"a\": [\n    1\n  ]\n}" {
		t.Errorf("a short value is shown as %s", got)
	}
	message := func(content string) string { return `{"role":"user","content":` + content + `}` }
	list := func(of string, n int) string { return "[" + strings.TrimSuffix(strings.Repeat(of+",", n), ",") + "]" }
	for name, content := range map[string]string{
		"long":  list(message(`"`+strings.Repeat("x", 8<<20)+`"`), 1),
		"many":  list(message(`""`), 200_000),
		"parts": list(message(list(`{"type":"text","text":"x"}`, 100_000)), 3),
		"all":   list(message(`"`+strings.Repeat("x", 100_000)+`"`), 80),
	} {
		if size, n := traces.SaidSize(content); size > 1500<<10 || n > 401 {
			t.Errorf("%s: %d bytes of %d messages are shown", name, size, n)
		}
	}
}
