package provider_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/internal/provider"
)

// answer is a case of testdata/answers: "==== name: why", then a line "PROVIDER
// DIALECT METHOD PATH CONTENT-TYPE", optionally with the error type of a failed
// exchange, and the sections request, answer and want.
type answer struct {
	name string
	call provider.Call
	want string
}

func answers(t testing.TB) (list []answer) {
	files, err := filepath.Glob("testdata/answers/*.txt")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for block := range strings.SplitSeq(strings.TrimPrefix(string(b), "==== "), "\n==== ") {
			head, rest, _ := strings.Cut(block, "\n-- request\n")
			request, rest, _ := strings.Cut(rest, "\n-- answer\n")
			body, want, ok := strings.Cut(rest, "\n-- want\n")
			title, line, _ := strings.Cut(head, "\n")
			name, _, _ := strings.Cut(title, ": ")
			a := answer{name: strings.TrimSuffix(filepath.Base(f), ".txt") + "/" + name, want: strings.TrimSpace(want)}
			c := &a.call
			var kind string
			if n, _ := fmt.Sscan(line, &c.Provider, &c.Dialect, &c.Method, &c.Path, &kind, &c.ErrType); n < 5 || !ok {
				t.Fatalf("%s: the case %q is incomplete", f, title)
			}
			if c.ErrType != "" {
				c.Err = errors.New("unexpected EOF")
			}
			if strings.Contains(kind, "event-stream") && body != "" {
				body += "\n\n"
			}
			c.BaseURL, c.Status, c.Start, c.Latency = "https://provider.test", 200, start, time.Second
			c.RequestHeader, c.ResponseHeader = http.Header{"Content-Type": {"application/json"}}, http.Header{"Content-Type": {kind}}
			c.Request, c.Response = []byte(request), []byte(body)
			c.RequestBytes, c.ResponseBytes = int64(len(request)), int64(len(body))
			list = append(list, a)
		}
	}
	return list
}

// TestAnswers parses responses that other recorders got wrong according to
// public reports: counts and costs, errors inside a 200, and tool calls.
func TestAnswers(t *testing.T) {
	for _, a := range answers(t) {
		t.Run(a.name, func(t *testing.T) {
			e := provider.Parse(&a.call)
			_ = describe(t, e)
			cost := ""
			if strings.Contains(a.want, ", cost ") {
				price.Default().Price(e)
				cost = ", cost " + e.Cost.Total.Value.String()
			}
			if got := summary(e) + cost; got != a.want {
				t.Errorf("got\n%s\nwant\n%s\nfrom %s", got, a.want, e.Content.Output)
			}
		})
	}
}

// summary formats counts, calls, notes and errors in one line.
func summary(e *event.Event) string {
	var b []string
	u := e.Usage
	for _, c := range []struct {
		name string
		n    event.Int
	}{
		{"input", u.Input}, {"output", u.Output}, {"cache read", u.CacheRead}, {"cache write", u.CacheWrite}, {"of it 5 m", u.CacheWrite5m}, {"of it 1 h", u.CacheWrite1h}, {"of it 12 h", u.CacheWrite12h},
		{"reasoning", u.Reasoning}, {"video", u.InputVideo}, {"documents", u.InputDocument}, {"searches", u.WebSearches}, {"estimated output", u.OutputEstimated},
	} {
		if c.n.Known {
			b = append(b, fmt.Sprintf("%s %d", c.name, c.n.Value))
		}
	}
	gjson.ParseBytes(e.Content.Output).ForEach(func(_, m gjson.Result) bool {
		m.Get("content").ForEach(func(_, item gjson.Result) bool {
			if f := item.Get("function"); f.Exists() {
				b = append(b, "call "+f.Get("name").String()+" "+f.Get("arguments").String())
			}
			return true
		})
		return true
	})
	if e.IsError {
		b = append(b, strings.TrimSuffix("error "+e.ErrorType+": "+e.ErrorMessage, ": "))
	}
	return strings.Join(b, ", ")
}
