package disk

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hedgerow/hedgerow/server/internal/health"
)

// Level is what has to be done without. A level includes those before it.
type Level int32

const (
	Normal    Level = iota // nothing
	Low                    // below twice the limit: retention runs early
	NoContent              // below one and a half times the limit: content is no longer kept
	Refuse                 // below the limit: events from outside are rejected
)

// Component is the guard's name in health reports.
const Component = "disk"

// DefaultEvery is how often the guard looks.
const DefaultEvery = time.Second

// margin is by how much of a bound free space has to be above it, for the level
// below that bound to end: what is around it would else come and go.
const margin = 0.1

// Guard watches a folder's free space. Its methods may be called at the same
// time. Set the fields before the first one.
type Guard struct {
	Dir     string
	Limit   Limit
	Every   time.Duration               // Defaults to DefaultEvery
	Usage   func(string) (Usage, error) // Defaults to Of
	Logger  *slog.Logger                // nil: no log
	OnLevel func(Level)                 // called by Run at a change of the level, and at each look while it is not Normal; must return at once

	level atomic.Int32
	poke  atomic.Pointer[chan struct{}]

	mu    sync.Mutex
	use   Usage
	since time.Time // of the level, or of err
	err   error     // of the last look
}

// Level is the present one.
func (g *Guard) Level() Level { return Level(g.level.Load()) }

// Poke makes Run look at once: something could not be written.
func (g *Guard) Poke() {
	if c := g.poke.Load(); c != nil {
		select {
		case *c <- struct{}{}:
		default:
		}
	}
}

// Run looks until ctx ends. It returns nil.
func (g *Guard) Run(ctx context.Context) error {
	every := g.Every
	if every <= 0 {
		every = DefaultEvery
	}
	poke := make(chan struct{}, 1)
	g.poke.Store(&poke)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		g.Look()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-poke:
		}
	}
}

// Look looks once.
func (g *Guard) Look() {
	of := g.Usage
	if of == nil {
		of = Of
	}
	use, err := of(g.Dir)
	before := g.Level()
	after := before
	g.mu.Lock()
	if (err != nil) != (g.err != nil) || g.since.IsZero() {
		g.since = time.Now()
	}
	g.err = err
	if err == nil {
		g.use = use
		if after = next(before, use.Free, g.Limit.Of(use.Total)); after != before {
			g.since = time.Now()
		}
	}
	g.mu.Unlock()
	g.level.Store(int32(after))
	if after != before {
		g.say(before, after, use)
	}
	if g.OnLevel != nil && (after != before || after != Normal) {
		g.OnLevel(after)
	}
}

// bound is below how much free space a level begins.
func bound(l Level, limit int64) int64 {
	switch l {
	case Low:
		return 2 * limit
	case NoContent:
		return limit + limit/2
	case Refuse:
		return limit
	}
	return 0
}

// next is the level after a look. It goes up at a bound, and down only once
// there is a margin above it.
func next(now Level, free, limit int64) Level {
	at := Normal
	for _, l := range []Level{Low, NoContent, Refuse} {
		b := bound(l, limit)
		if l <= now {
			b += int64(margin * float64(b))
		}
		if free < b {
			at = l
		}
	}
	return at
}

func (g *Guard) say(before, after Level, use Usage) {
	if g.Logger == nil {
		return
	}
	attrs := []any{"dir", g.Dir, "free_bytes", use.Free, "min_free_disk_bytes", g.Limit.Of(use.Total), "disk_bytes", use.Total}
	r := g.Health()
	switch {
	case after == Normal:
		g.Logger.Info("enough disk is free again: everything is recorded", attrs...)
	case after < before:
		g.Logger.Warn("more disk is free, but not enough: "+r.Message, append(attrs, "hint", r.Hint)...)
	case after == Refuse:
		g.Logger.Error(r.Message, append(attrs, "hint", r.Hint)...)
	default:
		g.Logger.Warn(r.Message, append(attrs, "hint", r.Hint)...)
	}
}

// Health describes the free space.
func (g *Guard) Health() health.Report {
	g.mu.Lock()
	use, since, err := g.use, g.since, g.err
	g.mu.Unlock()
	r := health.Report{Component: Component, Status: health.OK, Since: since}
	if err != nil {
		r.Status, r.Message = health.Degraded, "the free space of the data folder cannot be read"
		r.Hint = "check that the folder " + g.Dir + " is there and that its disk is mounted"
		return r
	}
	limit := g.Limit.Of(use.Total)
	free := fmt.Sprintf("%s of %s are free on the disk of the data folder", FormatSize(use.Free), FormatSize(use.Total))
	r.Hint = fmt.Sprintf("free space there or enlarge the disk: everything is recorded again once %s are free. A shorter retention or a lower min_free_disk also helps", FormatSize(bound(NoContent, limit)+int64(margin*float64(bound(NoContent, limit)))))
	switch g.Level() {
	case Normal:
		r.Hint = ""
		return r
	case Low:
		r.Message = "the disk is getting full: " + free + "; retention runs early"
	case NoContent:
		r.Message = "the disk is nearly full: " + free + "; prompts and responses are no longer kept"
	case Refuse:
		r.Message = "the disk is full except for its reserve: " + free + "; events are rejected, calls are forwarded and recorded without prompts and responses"
	}
	r.Status = health.Degraded
	return r
}

// FormatSize is a size as people read it.
func FormatSize(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GB", n>>30)
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%d MB", n>>20)
	}
	return fmt.Sprintf("%d kB", n>>10)
}

// Describe and Collect make a Guard a [prometheus.Collector].
func (g *Guard) Describe(ch chan<- *prometheus.Desc) {
	ch <- descFree
	ch <- descLimit
	ch <- descLevel
}

func (g *Guard) Collect(ch chan<- prometheus.Metric) {
	g.mu.Lock()
	use := g.use
	g.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(descLevel, prometheus.GaugeValue, float64(g.Level()))
	if use.Total == 0 {
		return // not known yet
	}
	ch <- prometheus.MustNewConstMetric(descFree, prometheus.GaugeValue, float64(use.Free))
	ch <- prometheus.MustNewConstMetric(descLimit, prometheus.GaugeValue, float64(g.Limit.Of(use.Total)))
}

var (
	descFree  = prometheus.NewDesc("hedgerow_disk_free_bytes", "Free space on the disk of the data folder.", nil, nil)
	descLimit = prometheus.NewDesc("hedgerow_disk_min_free_bytes", "Effective min_free_disk on that disk, in bytes.", nil, nil)
	descLevel = prometheus.NewDesc("hedgerow_disk_level", "0: enough space. 1: below twice min_free_disk, retention runs early. 2: below one and a half times, content is not kept. 3: below it, events are rejected.", nil, nil)
)
