package stats

import "math"

// Adjust takes from two variants' estimates what the users' own past explains (CUPED:
// Deng, Xu, Kohavi and Walker, "Improving the sensitivity of online controlled
// experiments by utilizing pre-experiment data", WSDM 2013). The past of a user, x =
// p − R′·q with R′ = Σp/Σq over both variants, is 0 for a user without one. It was
// before they met a variant, so that its mean differs between variants by chance
// only:
//
//	R − θ·(x̄ − x̄ of both),   θ = ΣCov(R, x̄) / ΣVar(x̄), summed over both variants
//
// Of a ratio, the covariance is that of its linearised values (y − R·n)/n̄, as in [Ratio].
//
// gain is the part of the difference's variance that goes: with it, as many fewer users
// are needed. 0: there is no past, or it says nothing.
func Adjust(control, treatment Moments, s Scale) (c, t Estimate, gain float64) {
	c, t = Ratio(control, s), Ratio(treatment, s)
	q := control.Past.Q + treatment.Past.Q
	if !c.Known || !t.Known || q <= 0 {
		return c, t, 0
	}
	r := (control.Past.P + treatment.Past.P) / q
	pc, pt := control.explained(c.Value, r), treatment.explained(t.Value, r)
	spread := pc.variance + pt.variance
	if !(spread > 0) {
		return c, t, 0
	}
	theta := (pc.covariance + pt.covariance) / spread
	all := (pc.mean*c.Users + pt.mean*t.Users) / (c.Users + t.Users)
	before := c.Variance + t.Variance
	c, t = pc.from(c, theta, all), pt.from(t, theta, all)
	if before <= 0 {
		return c, t, 0
	}
	return c, t, max(0, 1-(c.Variance+t.Variance)/before)
}

// explained is what the past of a variant's users says.
type explained struct {
	mean       float64 // x̄
	variance   float64 // of x̄
	covariance float64 // of x̄ and the estimate
}

func (m Moments) explained(value, r float64) explained {
	p, u := m.Past, m.Users
	sum := p.P - r*p.Q
	squares := max(0, p.PP-2*r*p.PQ+r*r*p.QQ-sum*sum/u)
	products := (p.YP - r*p.YQ - value*(p.NP-r*p.NQ)) * u / m.N // the linearised values add up to 0
	return explained{mean: sum / u, variance: squares / u / (u - 1), covariance: products / u / (u - 1)}
}

// from adjusts an estimate. Its skewness is taken to stay.
func (x explained) from(e Estimate, theta, all float64) Estimate {
	g := e.Skewness()
	e.Value -= theta * (x.mean - all)
	e.Variance = max(0, e.Variance-2*theta*x.covariance+theta*theta*x.variance)
	e.Third = g * e.Variance * math.Sqrt(e.Variance)
	return e
}

// Stratify estimates two variants as if both had the same mix of strata (post-stratification:
// Miratrix, Sekhon and Yu, "Adjusting treatment effect estimates by
// post-stratification in randomized experiments", JRSS B 75, 2013): a figure is
// Σ wₛ·Rₛ, where wₛ is the part of both variants' Σn in the stratum. Strata in which a
// variant has fewer than [MinStratum] users count as one.
//
// gain is the part of the difference's variance that goes; it is negative where strata say
// nothing.
func Stratify(strata [][2]Moments, s Scale) (c, t Estimate, gain float64) {
	var rest, whole [2]Moments
	var kept [][2]Moments
	for _, x := range strata {
		whole[0], whole[1] = whole[0].Plus(x[0]), whole[1].Plus(x[1])
		if min(x[0].Users, x[1].Users) < MinStratum || min(x[0].N, x[1].N) <= 0 {
			rest[0], rest[1] = rest[0].Plus(x[0]), rest[1].Plus(x[1])
			continue
		}
		kept = append(kept, x)
	}
	if min(rest[0].Users, rest[1].Users) < 2 || min(rest[0].N, rest[1].N) <= 0 {
		if len(kept) > 0 { // too few for a stratum of their own: with the last one
			l := &kept[len(kept)-1]
			l[0], l[1] = l[0].Plus(rest[0]), l[1].Plus(rest[1])
		}
	} else {
		kept = append(kept, rest)
	}
	plainC, plainT := Ratio(whole[0], s), Ratio(whole[1], s)
	if len(kept) < 2 || !plainC.Known || !plainT.Known {
		return plainC, plainT, 0
	}
	var out [2]Estimate
	for i := range out {
		out[i] = Estimate{Users: whole[i].Users, Known: true}
		for _, x := range kept {
			w := (x[0].N + x[1].N) / (whole[0].N + whole[1].N)
			e := Ratio(x[i], s)
			out[i].Value += w * e.Value
			out[i].Variance += w * w * e.Variance
			out[i].Third += w * w * w * e.Third
		}
	}
	if before := plainC.Variance + plainT.Variance; before > 0 {
		gain = 1 - (out[0].Variance+out[1].Variance)/before
	}
	return out[0], out[1], gain
}

// MinStratum is how many users a variant needs in a stratum of its own.
const MinStratum = 20
