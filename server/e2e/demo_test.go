package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Limits of a page's size over the network with an empty cache, in bytes, and
// of its layout shift while loading (Cumulative Layout Shift, web.dev/cls; up
// to 0.1 is good).
const (
	maxWeight = 300_000
	maxShift  = 0.02
)

// demo starts "hedgerow demo" with the given calls per second, and returns its
// sign-in link once its history is written.
func (w *world) demo(rate string) (link string) {
	w.t.Helper()
	cmd := exec.Command(binary, "demo", "--listen", w.addr, "--data", filepath.Join(w.t.TempDir(), "demo"), "--rate", rate)
	cmd.Env = w.environ()
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	var logs bytes.Buffer
	cmd.Stderr = &logs
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	signIn := regexp.MustCompile(`http://\S+/sign-in\?token=[\w-]+`)
	for sc := bufio.NewScanner(out); sc.Scan(); {
		if m := signIn.FindString(sc.Text()); m != "" {
			link = m
		}
		if strings.HasPrefix(sc.Text(), "wrote ") {
			w.t.Logf("%s; %.1f s after the start", sc.Text(), time.Since(begin).Seconds())
			break
		}
	}
	if link == "" {
		w.t.Fatalf("no sign-in link, or no history\n%s", logs.String())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return link
}

// TestDemo starts the demo as a new user does, answers two questions on its
// pages in Chromium, and checks each page over a month of data.
func TestDemo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	link := w.demo("0.5")
	b := node(t, nil, "demo.mjs", "http://"+w.addr, link, shots(t, "demo"))
	pages, walks, weighed := 0, 0, 0
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		var r struct {
			Walk     string   `json:"walk"`
			Clicks   int      `json:"clicks"`
			Found    bool     `json:"found"`
			Said     []string `json:"said"` // what the pages of a walk said
			Page     string   `json:"page"`
			Width    int      `json:"width"`
			Scheme   string   `json:"scheme"`
			Status   int      `json:"status"`
			Overflow int      `json:"overflow"`
			Charts   int      `json:"charts"`
			Drawn    int      `json:"drawn"`
			Nothing  int      `json:"nothing"` // charts without data
			Unnamed  int      `json:"unnamed"`
			H1       int      `json:"h1"`
			Grave    []string `json:"grave"` // axe-core's findings
			Trouble  []string `json:"trouble"`

			Weight      string   `json:"weight"`
			Bytes       int      `json:"bytes"`
			Requests    int      `json:"requests"`
			Interactive int      `json:"interactive"` // ms
			Shift       float64  `json:"shift"`       // cumulative layout shift
			Moved       []string `json:"moved"`
		}
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			t.Fatalf("%v in %s", err, sc.Text())
		}
		switch {
		case r.Walk != "":
			walks++
			if !r.Found || r.Clicks > 4 {
				t.Errorf("%s: %d clicks, found %v in %q", r.Walk, r.Clicks, r.Found, r.Said)
			}
		case r.Weight != "":
			weighed++
			t.Logf("%-12s at %4d px: %3d KB in %d requests, interactive after %4d ms, layout shift %.3f", r.Weight, r.Width, r.Bytes/1000, r.Requests, r.Interactive, r.Shift)
			if r.Bytes > maxWeight || r.Shift > maxShift {
				t.Errorf("%s at %d px weighs %d bytes and shifts by %.3f: %q", r.Weight, r.Width, r.Bytes, r.Shift, r.Moved)
			}
		default:
			pages++
			if r.Status != 200 || r.Overflow > 0 || r.Drawn != r.Charts || r.Nothing > 0 || r.Unnamed > 0 || r.H1 != 1 || len(r.Trouble) > 0 || len(r.Grave) > 0 {
				t.Errorf("page %+v", r)
			}
		}
	}
	if walks != 13 || pages < 4*27 || weighed < 2*21 {
		t.Errorf("%d walks, %d pages, %d weighed", walks, pages, weighed)
	}
}
