package disk

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/server/internal/health"
)

const (
	mb = 1 << 20
	gb = 1 << 30
)

func size(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }

func TestLimit(t *testing.T) {
	for _, c := range []struct {
		in    string
		total int64
		want  int64
	}{
		{"", 100 * gb, 100 * gb / 100 * 2},
		{"auto", 10 * gb, 512 * mb},   // 2 % would be less
		{"auto", 4000 * gb, 10 * gb},  // 2 % would be more
		{"auto", 200 * mb, 50 * mb},   // a quarter
		{"auto", 1 * gb, 256 * mb},    // a quarter
		{"5%", 100 * gb, 5 * gb},      // no other bounds for what was given
		{"0.5 %", 100 * gb, gb / 2},   //
		{"40%", 100 * gb, 25 * gb},    // a quarter
		{"1048576", 100 * gb, 1 * mb}, // a size
		{"107374182400", 100 * gb, 25 * gb},
		{"0", 100 * gb, 0},
		{"0%", 100 * gb, 0},
	} {
		l, err := ParseLimit(c.in, size)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
		}
		if got := l.Of(c.total); got != c.want {
			t.Errorf("%q of %d: %d, want %d", c.in, c.total, got, c.want)
		}
	}
	for _, bad := range []string{"much", "101%", "-1%", "NaN%", "%", "2 percent"} {
		if l, err := ParseLimit(bad, size); err == nil {
			t.Errorf("%q: %+v", bad, l)
		}
	}
}

func FuzzParseLimit(f *testing.F) {
	for _, s := range []string{"", "auto", "2%", "1e308%", "5", "-5", "x%"} {
		f.Add(s, int64(gb))
	}
	f.Fuzz(func(t *testing.T, s string, total int64) {
		l, err := ParseLimit(s, size)
		if err != nil || total < 0 {
			return
		}
		if got := l.Of(total); got > total/4 {
			t.Errorf("%q of %d is %d: more than a quarter", s, total, got)
		}
	})
}

// TestLevels lets space go and come back. A level ends only with a margin.
func TestLevels(t *testing.T) {
	const limit = 100
	now := Normal
	for i, c := range []struct {
		free int64
		want Level
	}{
		{1000, Normal}, {200, Normal}, {199, Low}, {210, Low}, {219, Low}, {220, Normal},
		{149, NoContent}, {155, NoContent}, {165, Low}, {150, Low}, {149, NoContent},
		{99, Refuse}, {105, Refuse}, {109, Refuse}, {110, NoContent}, {0, Refuse},
		{164, NoContent}, {0, Refuse}, {219, Low}, {0, Refuse}, {1000, Normal},
	} {
		if now = next(now, c.free, limit); now != c.want {
			t.Errorf("step %d: %d free is level %d, want %d", i, c.free, now, c.want)
		}
	}
	if got := next(Normal, 0, 0); got != Normal {
		t.Errorf("a guard that is off says %d", got)
	}
}

func TestGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		use, fail := Usage{Free: 800 * mb, Total: 1000 * mb}, error(nil)
		set := func(free int64, err error) { mu.Lock(); defer mu.Unlock(); use.Free, fail = free, err }
		var levels []Level
		g := &Guard{Dir: "/data", Limit: Size(100 * mb), OnLevel: func(l Level) { levels = append(levels, l) },
			Usage: func(string) (Usage, error) { mu.Lock(); defer mu.Unlock(); return use, fail }}
		done := make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { defer close(done); _ = g.Run(ctx) }()
		synctest.Wait()
		if r := g.Health(); r.Status != health.OK || r.Message != "" || r.Hint != "" {
			t.Errorf("%+v", r)
		}
		set(140*mb, nil)
		g.Poke() // no second passes
		synctest.Wait()
		r := g.Health()
		if r.Status != health.Degraded || r.Message != "the disk is nearly full: 140 MB of 1000 MB are free on the disk of the data folder; prompts and responses are no longer kept" ||
			!strings.Contains(r.Hint, "once 165 MB are free") {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		set(140*mb, errors.New("gone"))
		time.Sleep(time.Second)
		synctest.Wait()
		if r := g.Health(); r.Status != health.Degraded || !strings.Contains(r.Message, "cannot be read") || g.Level() != NoContent {
			t.Errorf("%+v, level %d", r, g.Level())
		}
		set(900*mb, nil)
		time.Sleep(time.Second)
		synctest.Wait()
		if r := g.Health(); r.Status != health.OK || !r.Since.Equal(time.Now()) {
			t.Errorf("%+v", r)
		}
		stop()
		<-done
		if want := []Level{NoContent, NoContent, NoContent, Normal}; !slices.Equal(levels, want) {
			t.Errorf("told of %v, want %v", levels, want)
		}
	})
}

func TestMetrics(t *testing.T) {
	g := &Guard{Limit: Size(100), Usage: func(string) (Usage, error) { return Usage{Free: 120, Total: 1000}, nil }}
	g.Look()
	reg := prometheus.NewRegistry()
	reg.MustRegister(g)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	if want := map[string]float64{"hedgerow_disk_free_bytes": 120, "hedgerow_disk_min_free_bytes": 100, "hedgerow_disk_level": 2}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestOf asks this machine.
func TestOf(t *testing.T) {
	dir := t.TempDir()
	u, err := Of(dir)
	if err != nil || u.Total <= 0 || u.Free < 0 || u.Free > u.Total {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := Of(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
