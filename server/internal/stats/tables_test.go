package stats_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// effect is the true one: what the same users would do with the treatment and without.
func (g *game) effect(rng *rand.Rand, users int) float64 {
	var without, with, n float64
	for range users {
		y, calls := g.user(rng, rng.NormFloat64())
		treated := g.lift(rng, y, calls)
		if g.trimmed {
			y, treated = min(y, g.limit*calls), min(treated, g.limit*calls)
		}
		without, with, n = without+y, with+treated, n+calls
	}
	return (with - without) / n
}

// The tables of "make stats", which runs each in a process of its own.

// With the users that the forecast says, effects are found with a power of 80 % or more.
// A test of a fixed sample without the users' past is the measure.
func TestSimulatedPower(t *testing.T) {
	sizes, pilot := [ways]int{400, 400, 2000, 2000}, 1_000_000 // planned looks promise no more than 80 %
	if !full {
		sizes, pilot = [ways]int{20, 20, 20, 20}, 40_000
	}
	var table strings.Builder
	fmt.Fprintf(&table, "power in %d experiments, of planned looks in %d (standard errors %.1f and %.1f at 80 %%)\n%-14s %-22s %8s %8s %8s %8s %10s", sizes[anytime], sizes[planned], 100*standardError(0.8, sizes[anytime]), 100*standardError(0.8, sizes[planned]), "metric", "design", "fixed n", "users", "of fixed", "power %", "mean users")
	for i, name := range []string{"rate 50 %", "score", "count", "cost", "cost per task"} {
		m := metrics[name]
		p := game{metric: m, share: 0.5, lifted: true}
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		for u := range pilot {
			if p.add(rng); u == plannedUsers {
				p.fix()
			}
		}
		plain := p.difference(false)
		plain.Value = p.effect(rng, pilot)
		z := 1.959964 + 0.841621
		fixed := z * z / (plain.Value * plain.Value) * plain.Variance * plain.Users
		for way := range ways {
			d := p.difference(way == anytimeCUPED || way == plannedCUPED)
			needed, ok := stats.Plan{Alpha: stats.DefaultAlpha, Users: plannedUsers}.Needed(plain.Value, d)
			if way >= planned {
				needed, ok = stats.Planned{Alpha: stats.DefaultAlpha, Looks: plannedLooks}.Needed(plain.Value, d)
			}
			if !ok {
				t.Fatalf("%s: no number of users", name)
			}
			users, experiments, found, total := int(needed), sizes[way], 0, 0.0
			for k := range experiments {
				g := game{metric: m, share: 0.5, lifted: true, only: &way}
				switch r := g.play(rand.New(rand.NewPCG(uint64(100+10*i+way), uint64(k))), users)[way]; {
				case r.users > 0 && r.up == (plain.Value > 0):
					found++
					total += float64(r.users)
				case r.users > 0:
					total += float64(r.users)
				default:
					total += needed
				}
			}
			power := float64(found) / float64(experiments)
			fmt.Fprintf(&table, "\n%-14s %-22s %8.0f %8.0f %8.2f %8.1f %10.0f", name, wayNames[way], fixed, needed, needed/fixed, 100*power, total/float64(experiments))
			if power < 0.8-3*standardError(0.8, experiments) {
				t.Errorf("%s, %s: with %.0f users %.1f %% find the effect", name, wayNames[way], needed, 100*power)
			}
			if way == planned && math.Abs(needed/fixed-1.03) > 0.03 { // 1.02, and what skewness adds
				t.Errorf("%s: planned looks need %.2f times a fixed sample", name, needed/fixed)
			}
		}
	}
	t.Log(table.String())
}

func TestSimulatedRate50(t *testing.T)      { noDifference(t, "rate 50 %", 1) }
func TestSimulatedRate10(t *testing.T)      { noDifference(t, "rate 10 %", 2) }
func TestSimulatedRate1(t *testing.T)       { noDifference(t, "rate 1 %", 3) }
func TestSimulatedScore(t *testing.T)       { noDifference(t, "score", 4) }
func TestSimulatedCount(t *testing.T)       { noDifference(t, "count", 5) }
func TestSimulatedCost(t *testing.T)        { noDifference(t, "cost", 6) }
func TestSimulatedCostPerTask(t *testing.T) { noDifference(t, "cost per task", 7) }
func TestSimulatedP50(t *testing.T)         { noDifference(t, "p50", 8) }
func TestSimulatedP95(t *testing.T)         { noDifference(t, "p95", 9) }

// noDifference: none is found where there is none, in at most 5 % of experiments, for five
// splits and three sizes, by users of the smaller variant.
func noDifference(t *testing.T, name string, seed uint64) {
	sizes, experiments := []int{60, 250, 1000}, 1000
	if !full {
		sizes, experiments = sizes[:2], 60
	}
	splits := []float64{0.5, 0.2, 0.1, 0.05, 0.01}
	m := metrics[name]
	used := ways
	if m.quantile > 0 {
		used = 1
	}
	rows := make([]strings.Builder, used)
	var head strings.Builder
	for i, share := range splits {
		for j, size := range sizes {
			if !full && j > 0 && i%3 > 0 {
				continue // 50/50 and 95/5 only
			}
			var hits [ways]int
			for k := range experiments {
				g := game{metric: m, share: share}
				r := g.play(rand.New(rand.NewPCG(1000*seed+uint64(10*i+j), uint64(k))), int(float64(size)/share))
				for w := range used {
					if r[w].users > 0 {
						hits[w]++
					}
				}
			}
			fmt.Fprintf(&head, " %10s", fmt.Sprintf("%.0f/%.0f %d", 100-100*share, 100*share, size))
			for w := range used {
				got := float64(hits[w]) / float64(experiments)
				fmt.Fprintf(&rows[w], " %10.1f", 100*got)
				if got > atMost(stats.DefaultAlpha, experiments) {
					t.Errorf("%s, %s, split %v, %d users: %.1f %% find a difference that is not there", name, wayNames[w], share, size, 100*got)
				}
			}
		}
	}
	var table strings.Builder
	for w := range used {
		fmt.Fprintf(&table, "\n%-22s%s", wayNames[w], rows[w].String())
	}
	t.Logf("%s: %% of %d experiments without a difference that find one (standard error %.1f at 5 %%), by split and users of the smaller variant\n%-22s%s%s",
		name, experiments, 100*standardError(stats.DefaultAlpha, experiments), "", head.String(), table.String())
}
