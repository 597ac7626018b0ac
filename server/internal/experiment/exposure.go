package experiment

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hedgerow/hedgerow/server/internal/query"
	"github.com/hedgerow/hedgerow/server/internal/stats"
)

// Users count for the variant that they met first, whatever they met later
// (analysis by intention to treat; Kohavi, Tang and Xu, Trustworthy Online
// Controlled Experiments, 2020, chapter 20). Dropping those who met several
// selects users by what happened to them: if calls of the treatment sometimes
// fall back to the control, its most active users are dropped and those of the
// control are not.

// first is how many users met each variant first, those who are left out
// because they met others too included.
func (j *judging) first(r []VariantReport) (counts []float64) {
	for _, a := range r {
		n := a.Users
		if j.d.Exclude.Mixed {
			n += a.Mixed
		}
		counts = append(counts, float64(n))
	}
	return counts
}

// ratio compares counts of users with the planned shares; got is "" without any.
func (j *judging) ratio(counts []float64, level float64) (r RatioReport, got, want string) {
	var total, intended float64
	var shares []float64
	for i, a := range j.d.Variants {
		shares = append(shares, a.Share)
		total, intended = total+counts[i], intended+a.Share
	}
	s := stats.CheckRatio(counts, shares)
	var gots, wants []string
	for i := range counts {
		wants = append(wants, percent(shares[i]/intended, 1))
		if total > 0 {
			gots = append(gots, percent(counts[i]/total, 1))
		}
	}
	return RatioReport{ChiSquare: s.ChiSquare, P: s.P, AlwaysP: s.AlwaysP, Mismatch: s.AlwaysP < level}, strings.Join(gots, " / "), strings.Join(wants, " / ")
}

// sampleRatio checks the users of all variants, or those of a segment: level is
// the p-value below which it reports a mismatch.
func (j *judging) sampleRatio(variants []VariantReport, level float64) RatioReport {
	counts := j.first(variants)
	r, got, want := j.ratio(counts, level)
	switch {
	case got == "":
		r.Words = "no users yet"
	case r.Mismatch:
		r.Words = fmt.Sprintf("Users are not split as planned: %s instead of %s (p %s). Users of one variant are lost or counted twice, or the percentages were changed during the experiment. Until this is fixed the variants cannot be compared.",
			got, want, probability(r.AlwaysP))
	default:
		r.Words = fmt.Sprintf("no sample ratio mismatch: %s, planned %s (p %s)", got, want, probability(r.AlwaysP))
	}
	return r
}

// segmentRatios checks the sample ratio of each segment of the definition's breakdowns, of
// which a query reads the [query.MaxSegments] largest.
func segmentRatios(ctx context.Context, ask Asker, d Definition, now time.Time) (SegmentRatios, error) {
	out := SegmentRatios{Mismatches: []SegmentRatio{}}
	type segment struct {
		by    query.GroupBy
		cells []query.Cell
	}
	var all []segment
	for _, by := range d.Segments {
		q := d.question(now, by)
		q.Metrics = nil
		x, err := ask.Experiment(ctx, q)
		if err != nil {
			return out, err
		}
		for _, cells := range bySegment(x) {
			all = append(all, segment{by, cells})
		}
	}
	out.Checked = len(all)
	for _, s := range all {
		j := newJudge(d, s.cells, now)
		r, got, want := j.ratio(j.first(j.variants()), MismatchLevel/float64(len(all)))
		if !r.Mismatch {
			continue
		}
		name := strings.TrimPrefix(string(s.by), "property:") + " " + cmp.Or(s.cells[0].Segment, "(none)")
		r.Words = fmt.Sprintf("Users with %s are not split as planned: %s instead of %s (p %s). Users of one variant are lost there, or the variant itself decides who is in this segment.", name, got, want, probability(r.AlwaysP))
		out.Mismatches = append(out.Mismatches, SegmentRatio{By: s.by, Value: s.cells[0].Segment, RatioReport: r})
	}
	return out, nil
}

// mixing tests whether meeting a second variant depends on the first. If it does
// not, users who met several are split by their first variant as all users are
// meant to be, so that the always-valid test of [stats.CheckRatio] (Lindon and Malek,
// NeurIPS 2022) applies to them: each user who comes to be mixed is one more
// draw from the planned shares. It is asymmetric if, for example, calls of the
// treatment fall back to the control, while those of the control stay.
//
// If mixed users are excluded, the p-value of a single look decides. It sees a
// dependence much earlier, and errs on the side of naming no winner.
func (j *judging) mixing(variants []VariantReport) RatioReport {
	var counts []float64
	var parts []string
	for _, a := range variants {
		counts = append(counts, float64(a.Mixed))
		all := a.Users
		if j.d.Exclude.Mixed {
			all += a.Mixed
		}
		if all > 0 {
			parts = append(parts, fmt.Sprintf("%s of %s", percent(float64(a.Mixed)/float64(all), 1), a.Key))
		}
	}
	r, got, want := j.ratio(counts, MismatchLevel)
	p := r.AlwaysP
	if j.d.Exclude.Mixed {
		p = r.P
		r.Mismatch = p < MismatchLevel
	}
	switch {
	case got == "":
		r.Words = "no user saw more than one variant"
	case r.Mismatch:
		r.Words = fmt.Sprintf("Which users see more than one variant depends on the variant that they saw first: %s (%s of these users, planned %s, p %s). Calls of one variant may fall back to another, or the percentages were changed.",
			strings.Join(parts, ", "), got, want, probability(p))
	default:
		r.Words = fmt.Sprintf("users who saw more than one variant: %s, which does not depend on the first one (p %s)", strings.Join(parts, ", "), probability(p))
	}
	return r
}

// mixed describes users who met more than one variant, where they are more than
// 1 % of all or their variants differ in them.
func (j *judging) mixed(r *Report) []string {
	var all float64
	for _, n := range j.first(r.Variants) {
		all += n
	}
	if all == 0 {
		return nil
	}
	var out []string
	share := float64(r.MixedUsers) / all
	if share > 0.01 || r.Mixing.Mismatch {
		what := "count for the variant that they saw first"
		if j.d.Exclude.Mixed {
			what = "are excluded"
		}
		out = append(out, fmt.Sprintf("%s of users (%s) saw more than one variant and %s; this happens when calls fall back to another variant, or percentages or conditions change while the experiment runs.", percent(share, 1), count(r.MixedUsers), what))
	}
	if r.Mixing.Mismatch && !j.d.Exclude.Mixed { // else it is the summary
		out = append(out, r.Mixing.Words+" Each variant keeps its users, so that the comparison holds; the difference is understated.")
	}
	return out
}
