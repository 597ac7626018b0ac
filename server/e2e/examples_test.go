package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestExamplesWalk clicks a point of each chart of each dashboard of a demo:
// the click shows as many examples as the chart counts, and the first links to
// its trace. make long clicks all charts, make test every second one.
func TestExamplesWalk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	link := w.demo("0.2")
	first := regexp.MustCompile(`: ([\d,]+)`)
	share := regexp.MustCompile(` · ([\d.]+) %`)
	number := func(s string) float64 {
		n, err := strconv.ParseFloat(strings.ReplaceAll(s, ",", ""), 64)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		return n
	}
	charts, counted, walks, looks := 0, 0, 0, 0
	for sc := bufio.NewScanner(bytes.NewReader(node(t, nil, "examples.mjs", "http://"+w.addr, link, shots(t, "examples")))); sc.Scan(); {
		var r struct {
			Chart   string   `json:"chart"`
			Opened  bool     `json:"opened"`
			Row     string   `json:"row"`
			Column  string   `json:"column"`
			Value   string   `json:"value"` // of the point, in the chart
			Unit    string   `json:"unit"`
			Count   string   `json:"count"` // in the examples
			Rows    int      `json:"rows"`
			Trace   bool     `json:"trace"` // the first example links to its trace
			List    string   `json:"list"`
			Trouble []string `json:"trouble"`
			Walk    string   `json:"walk"`
			Found   bool     `json:"found"`
			Look    string   `json:"look"`
			Grave   []string `json:"grave"` // axe-core's findings
		}
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			t.Fatalf("%v in %s", err, sc.Text())
		}
		switch {
		case r.Walk != "":
			if walks++; !r.Found {
				t.Errorf("%s: not found", r.Walk)
			}
		case r.Look != "":
			if looks++; len(r.Grave) > 0 {
				t.Errorf("%s: %q", r.Look, r.Grave)
			}
		default:
			charts++
			if !r.Opened || r.Rows == 0 || !r.Trace || r.Value == "" || len(r.Trouble) > 0 {
				t.Errorf("chart %+v", r)
				continue
			}
			n := number(first.FindStringSubmatch(r.Count)[1])
			value := number(r.Value)
			if rows := math.Min(n, 20); float64(r.Rows) != rows {
				t.Errorf("%s: %d examples of %v", r.Chart, r.Rows, n)
			}
			switch m := share.FindStringSubmatch(r.Count); {
			case r.Unit == "rate" && m != nil && !strings.Contains(r.List, "kind=errors"):
				if counted++; math.Abs(value-number(m[1])) > 0.051 {
					t.Errorf("%s, %s, %s: %s %% in the chart, %s in the examples", r.Chart, r.Row, r.Column, r.Value, r.Count)
				}
			case strings.HasPrefix(r.Count, "Retried steps"):
				if counted++; n > value { // a step can be retried more than once
					t.Errorf("%s, %s, %s: %s retries in the chart, %s in the examples", r.Chart, r.Row, r.Column, r.Value, r.Count)
				}
			case r.Unit == "" && r.Column != "Cost":
				if counted++; n != value {
					t.Errorf("%s, %s, %s: %s in the chart, %s in the examples", r.Chart, r.Row, r.Column, r.Value, r.Count)
				}
			}
		}
	}
	atLeast := [2]int{19, 6}
	if os.Getenv("HEDGEROW_LONG") != "" {
		atLeast = [2]int{38, 12}
	}
	if charts < atLeast[0] || counted < atLeast[1] || walks != 2 || looks != 12 {
		t.Errorf("%d charts, %d of them counts or shares, %d walks, %d pages", charts, counted, walks, looks)
	}
}
