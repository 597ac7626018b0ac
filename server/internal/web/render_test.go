package web_test

import (
	"html"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/query"
)

// shown is a figure as a page writes it, read back: in milliseconds, dollars,
// shares of one, or as it is.
type shown struct {
	value, slack float64 // slack is half of its last digit
	known        bool
}

// readShown reads a figure with its unit, and fails for other text.
func readShown(t *testing.T, s string) (n shown) {
	t.Helper()
	text, unit := strings.ReplaceAll(strings.TrimPrefix(strings.TrimSpace(s), "at least "), ",", ""), 1.0
	switch {
	case text == "–":
		return shown{}
	case text == "<1 ms":
		return shown{0.5, 0.5, true}
	case strings.HasSuffix(text, " %"):
		text, unit = strings.TrimSuffix(text, " %"), 0.01
	case strings.HasSuffix(text, " tok"):
		text = strings.TrimSuffix(text, " tok")
	case strings.HasSuffix(text, " ms"):
		text = strings.TrimSuffix(text, " ms")
	case strings.Contains(text, " min"):
		d, err := time.ParseDuration(strings.NewReplacer(" min", "m", " ", "").Replace(text))
		if err != nil {
			t.Fatalf("%q is no figure", s)
		}
		if strings.Contains(text, " h ") {
			return shown{float64(d.Milliseconds()), 30_000, true}
		}
		return shown{float64(d.Milliseconds()), 500, true}
	case strings.HasSuffix(text, " s"):
		text, unit = strings.TrimSuffix(text, " s"), 1000
	}
	text = strings.TrimPrefix(text, "$")
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatalf("%q is no figure", s)
	}
	places := 0
	if _, after, ok := strings.Cut(text, "."); ok {
		places = len(after)
	}
	return shown{v * unit, 0.5 * math.Pow10(-places) * unit, true}
}

// wantShown compares what a page writes with a figure. A page that counts writes
// 0 where nothing is there.
func wantShown(t *testing.T, what, text string, want query.Number) {
	t.Helper()
	got := readShown(t, text)
	if got.known != want.Known || math.Abs(got.value-want.Value) > got.slack*1.000001+1e-9*math.Abs(want.Value) {
		t.Errorf("%s: the page says %q, want %v", what, text, want)
	}
}

// wantChange compares what a page writes of the change against the period before.
func wantChange(t *testing.T, what, text string, m query.Measure, now, before query.Number) {
	t.Helper()
	rate := strings.HasSuffix(string(m), "_rate") || strings.HasSuffix(string(m), "_share")
	want, digit, unit := 0.0, 0.5, " %"
	switch {
	case !now.Known || !before.Known, !rate && before.Value == 0 && now.Value == 0, !rate && before.Value == 0 && text != "new":
		if text != "" {
			t.Errorf("%s: changed by %q, from %v to %v", what, text, before, now)
		}
		return
	case rate:
		want, digit, unit = 100*(now.Value-before.Value), 0.05, " points"
	case before.Value == 0:
		return // new
	default:
		want = 100 * (now.Value/before.Value - 1)
	}
	sign := "±"
	if want <= -digit {
		sign = "−"
	} else if want >= digit {
		sign = "+"
	}
	got, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSuffix(strings.TrimLeft(text, "+−±"), unit), ",", ""), 64)
	if err != nil || !strings.HasSuffix(text, unit) || math.Abs(got-math.Abs(want)) > digit+1e-6 || !strings.HasPrefix(text, sign) && math.Abs(math.Abs(want)-digit) > 1e-6 {
		t.Errorf("%s: changed by %q, want %s%.2f%s, from %v to %v", what, text, sign, math.Abs(want), unit, before, now)
	}
}

// grid is a table of a page.
type grid struct {
	head []string
	rows [][]gridCell
}

type gridCell struct {
	text   string
	change string // against the period before
	exact  string // the chart's number
	raw    string
}

var (
	rowTag    = regexp.MustCompile(`(?s)<tr[^>]*>(.*?)</tr>`)
	cellTag   = regexp.MustCompile(`(?s)<t[hd]([^>]*)>(.*?)</t[hd]>`)
	anyTag    = regexp.MustCompile(`<[^>]*>`)
	deltaTag  = regexp.MustCompile(`(?s)<span class="delta[a-z ]*" title="compared with [^"]*">([^<]*)<span class="hide"> compared with [^<]*</span></span>`)
	exactAttr = regexp.MustCompile(`data-value="([^"]*)"`)
)

func words(s string) string {
	return strings.Join(strings.Fields(html.UnescapeString(anyTag.ReplaceAllString(s, " "))), " ")
}

// gridAfter reads the first table that begins after a mark in a page, if there is
// one before the section's end.
func gridAfter(page, mark string) (g grid, ok bool) {
	_, rest, ok := strings.Cut(page, mark)
	if !ok {
		return g, false
	}
	rest, _, _ = strings.Cut(rest, "</section>")
	rest, _, ok = strings.Cut(rest, "</table>")
	if !ok {
		return g, false
	}
	for i, m := range rowTag.FindAllStringSubmatch(rest, -1) {
		var row []gridCell
		for _, c := range cellTag.FindAllStringSubmatch(m[1], -1) {
			x := gridCell{raw: c[2]}
			if d := deltaTag.FindStringSubmatch(c[2]); d != nil {
				x.change = html.UnescapeString(d[1])
			}
			x.text = words(deltaTag.ReplaceAllString(c[2], ""))
			if v := exactAttr.FindStringSubmatch(c[1]); v != nil {
				x.exact = v[1]
			}
			row = append(row, x)
		}
		if i > 0 {
			g.rows = append(g.rows, row)
			continue
		}
		for _, x := range row {
			g.head = append(g.head, strings.TrimSuffix(x.text, " ↓"))
		}
	}
	return g, true
}

// col is the place of a heading.
func (g grid) col(t *testing.T, name string) int {
	t.Helper()
	for i, h := range g.head {
		if h == name {
			return i
		}
	}
	t.Fatalf("no column %q in %q", name, g.head)
	return 0
}

var tileTag = regexp.MustCompile(`(?s)<div class="tile"><div class="label">(.*?)</div><div class="num">(.*?)</div><div class="note">(.*?)</div>`)

// tilesOf are the tiles of a page in order: label, number and note.
func tilesOf(page string) (out [][3]string) {
	for _, m := range tileTag.FindAllStringSubmatch(page, -1) {
		out = append(out, [3]string{words(m[1]), words(m[2]), words(m[3])})
	}
	return out
}
