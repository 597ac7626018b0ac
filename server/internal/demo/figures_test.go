package demo

import (
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/hedgerow/hedgerow/event"
	"github.com/hedgerow/hedgerow/internal/price"
	"github.com/hedgerow/hedgerow/internal/privacy"
	"github.com/hedgerow/hedgerow/server/internal/pipeline"
	"github.com/hedgerow/hedgerow/server/internal/servertest"
	"github.com/hedgerow/hedgerow/server/internal/web"
)

// states are the tiles that count nothing: times, and what an experiment needs.
var states = []string{"Duration", "Last seen", "First value", "Last used", "Minimum detectable effect", "Current power", "Users needed", "Time left", "With planned looks"}

// perMeasure bounds the figures of one page with the same measure, and the cells of one
// chart, that the test follows.
var perMeasure = map[bool]int{true: 25, false: 1}[os.Getenv("HEDGEROW_LONG") != ""]

var (
	figureTag = regexp.MustCompile(`(?s)<a class="figure" href="([^"]*)" data-figure="([^"]*)">(.*?)</a>`)
	totalTag  = regexp.MustCompile(`(?s)<(?:strong|span) data-total="([^"]*)">(.*?)</`)
	tileTag   = regexp.MustCompile(`(?s)<div class="tile">.*?<div class="note">`)
	labelTag  = regexp.MustCompile(`(?s)<div class="label">(.*?)</div>`)
	tableTag  = regexp.MustCompile(`(?s)<table id="t-([^"]*)" data-href="([^"]*)" data-unit="([^"]*)">(.*?)</table>`)
	headTag   = regexp.MustCompile(`(?s)<th class="n"[^>]*data-q="([^"]*)"`)
	rowTag    = regexp.MustCompile(`(?s)<tr data-q="([^"]*)">(.*?)</tr>`)
	cellTag   = regexp.MustCompile(`(?s)<td class="n" data-value="([^"]*)">(.*?)</td>`)
	linkTag   = regexp.MustCompile(`<a [^>]*?href="(/p/default/(traces|sessions|people|prompts|experiments)/[^"?/]+)`)
	navTag    = regexp.MustCompile(`href="(/p/default/[a-z-]+)"`)
	anyTag    = regexp.MustCompile(`<[^>]*>`)
)

func words(s string) string {
	return strings.Join(strings.Fields(html.UnescapeString(anyTag.ReplaceAllString(s, " "))), " ")
}

// pair is a figure, and the page that lists what it counts.
type pair struct{ page, measure, text, to string }

// TestFiguresLead follows the figures of all pages of the demo to the lists of what they
// count, and finds the same number there. The lists count on their own, event by event.
func TestFiguresLead(t *testing.T) {
	s := newCrawler(t)
	var pairs []pair
	seen := make(map[string]bool)
	for _, page := range s.pages() {
		body := s.open(page)
		for _, tile := range tileTag.FindAllString(body, -1) {
			label := words(labelTag.FindStringSubmatch(tile)[1])
			if slices.Contains(states, label) {
				continue
			}
			if !strings.Contains(tile, `class="figure"`) || !strings.Contains(tile, `popovertarget="about-`) {
				t.Errorf("%s: the tile %q has no link to what it counts, or no definition", page, label)
			}
		}
		for _, p := range append(figures(page, body), cells(page, body)...) {
			if key := p.to + " " + p.measure; !seen[key] {
				seen[key] = true
				pairs = append(pairs, p)
			}
		}
	}
	for _, p := range pairs {
		var found []string
		for _, m := range totalTag.FindAllStringSubmatch(s.open(p.to), -1) {
			if m[1] == p.measure {
				found = append(found, words(m[2]))
			}
		}
		if len(found) != 1 || found[0] != p.text {
			t.Errorf("%s says %s %q, %s %q", p.page, p.measure, p.text, p.to, found)
		}
	}
	if t.Logf("%d figures lead to lists that say the same", len(pairs)); len(pairs) < 200 {
		t.Errorf("only %d figures were followed", len(pairs))
	}
}

// figures are those of a page that are links.
func figures(page, body string) (out []pair) {
	of := make(map[string]int)
	for _, m := range figureTag.FindAllStringSubmatch(body, -1) {
		if of[m[2]]++; of[m[2]] <= perMeasure {
			out = append(out, pair{page, m[2], words(m[3]), html.UnescapeString(m[1])})
		}
	}
	return out
}

// cells are those of a page's charts, each of which leads to what it counts as the scripts
// put its address together.
func cells(page, body string) (out []pair) {
	for _, table := range tableTag.FindAllStringSubmatch(body, -1) {
		base, err := url.Parse(html.UnescapeString(table[2]))
		if err != nil || !strings.HasSuffix(base.Path, "/events") {
			continue
		}
		heads, n := headTag.FindAllStringSubmatch(table[4], -1), 0
		for _, row := range rowTag.FindAllStringSubmatch(table[4], -1) {
			for i, cell := range cellTag.FindAllStringSubmatch(row[2], -1) {
				q := base.Query()
				for _, more := range []string{row[1], heads[i][1]} {
					add, _ := url.ParseQuery(html.UnescapeString(more))
					for k, v := range add {
						if q[k] = v; k == "sort" && v[0] == "" {
							q.Del(k)
						}
					}
				}
				measure := q.Get("measure")
				if cell[1] == "" || cell[1] == "0" || table[3] == "rate" && measure == "calls" { // a share of all calls
					continue
				}
				if n++; n <= perMeasure {
					out = append(out, pair{page + " chart " + table[1], measure, words(cell[2]), base.Path + "?" + q.Encode()})
				}
			}
		}
	}
	return out
}

// crawler reads pages.
type crawler struct {
	t      *testing.T
	client *http.Client
	server *httptest.Server
}

// newCrawler serves the demo's past of nine days, next to what it has not: calls that are
// priced in part or not at all, failed steps, and a user without a call.
func newCrawler(t *testing.T) *crawler {
	t.Helper()
	ctx, now := t.Context(), time.Date(2026, 11, 21, 12, 30, 0, 0, time.UTC)
	h := servertest.Open(t, servertest.Options{Now: func() time.Time { return now }})
	if err := keepDemoPrompts(ctx, &h.Services); err != nil {
		t.Fatal(err)
	}
	if err := keepDemoLoop(ctx, &h.Services, now); err != nil {
		t.Fatal(err)
	}
	in, err := pipeline.New(pipeline.Config{Price: price.Default().Price, Policy: func(string) privacy.StoragePolicy { return privacy.StoragePolicy{} }})
	if err != nil {
		t.Fatal(err)
	}
	in.Open(storeOnly{h.Store}, h.Prompts)
	past := newHistory(now)
	past.hour = now.Truncate(24*time.Hour).AddDate(0, 0, -8)
	var events []*event.Event
	for past.next(&events) {
	}
	events = slices.DeleteFunc(events, func(e *event.Event) bool { return e.Timestamp.After(now) })
	events = append(events, judged(ctx, &h.Services, h.Checks.Checks("default"), events)...)
	if err := in.Append(ctx, append(events, odd(now)...)...); err != nil {
		t.Fatal(err)
	}
	site := web.New(web.Config{Services: h.Services, Now: func() time.Time { return now }})
	token, _, err := h.Registry.CreateSession(ctx, h.Registry.Snapshot().Users()[0].ID, "a test")
	if err != nil {
		t.Fatal(err)
	}
	c := &crawler{t: t, server: httptest.NewServer(site), client: new(http.Client)}
	t.Cleanup(c.server.Close)
	c.client.Jar, _ = cookiejar.New(nil)
	base, _ := url.Parse(c.server.URL)
	c.client.Jar.SetCookies(base, []*http.Cookie{{Name: "hedgerow_session", Value: token, Path: "/"}})
	return c
}

// odd are events with what makes figures differ.
func odd(now time.Time) (out []*event.Event) {
	for i := range 6 {
		at := now.Add(-time.Duration(1+i*9) * time.Hour)
		call := func(model string) *event.Event {
			return &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Generation, Timestamp: at, TraceID: fmt.Sprint("odd-", i), SpanID: event.NewID(), DistinctID: fmt.Sprint("odd-user-", i%2), SessionID: "odd", Environment: "production",
				ModelAsked: model, Provider: "nobody", Latency: event.Some(time.Second), Usage: event.Usage{Input: event.Some(int64(100)), Output: event.Some(int64(7))}}
		}
		unpriced, part, failed := call("no-such-model"), call("part"), call("no-such-model")
		part.Usage.Output, part.Cost = event.Int{}, event.Cost{Input: event.Some(decimal.New(3, -3))}
		failed.IsError, failed.ErrorType, failed.ErrorMessage, failed.Usage = true, "overloaded", "no capacity", event.Usage{}
		step := &event.Event{UUID: event.NewID(), ProjectID: "default", Name: event.Span, Timestamp: at, TraceID: fmt.Sprint("odd-", i), SpanID: event.NewID(), SpanName: "lookup", Operation: "execute_tool", IsError: true, ErrorMessage: "no such table",
			DistinctID: "odd-user-without-calls", Latency: event.Some(time.Second), Usage: event.Usage{Input: event.Some(int64(500))}, Cost: event.Cost{Total: event.Some(decimal.New(9, 0))}}
		out = append(out, unpriced, part, failed, step)
	}
	return out
}

// pages are those with figures: of the side bar with their tabs, and one below each list,
// with and without filters, in a zone other than UTC.
func (c *crawler) pages() []string {
	const filtered = "?range=14d&environment=production&tz=America/New_York"
	const own = "?range=30d&measure=latency_p95_ms"
	out := []string{"/p/default/explore" + own, "/p/default/traces/odd-1", "/p/default/sessions/odd", "/p/default/people/odd-user-1"}
	plain := []string{"events", "generations", "connections", "keys", "audit", "settings", "prices", "reconcile"} // without figures of events, or the lists themselves
	first, listed := make(map[string]bool), []string{"/p/default/overview"}
	for i := 0; i < len(listed); i++ {
		page := listed[i]
		for _, m := range navTag.FindAllStringSubmatch(c.get(page, false), -1) {
			if !slices.Contains(listed, m[1]) {
				listed = append(listed, m[1])
			}
		}
		if slices.Contains(plain, strings.TrimPrefix(page, "/p/default/")) {
			continue
		}
		out = append(out, page, page+filtered)
		for _, below := range linkTag.FindAllStringSubmatch(c.open(page), -1) {
			if !first[below[2]] {
				first[below[2]] = true
				out = append(out, html.UnescapeString(below[1]))
			}
		}
	}
	return out
}

// open reads a page with its figures.
func (c *crawler) open(path string) string {
	c.t.Helper()
	return c.get(path, true)
}

// get reads a page as htmx does, which asks for the figures, or as a browser.
func (c *crawler) get(path string, figures bool) string {
	c.t.Helper()
	r, err := http.NewRequestWithContext(context.WithoutCancel(c.t.Context()), "GET", c.server.URL+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if figures {
		r.Header.Set("HX-Request", "true")
	}
	resp, err := c.client.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Errorf("%s: status %d, %v", path, resp.StatusCode, err)
	}
	return string(body)
}
