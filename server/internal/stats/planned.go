package stats

import "math"

// Planned is a design with few looks at fixed times, the last of which is the end. It
// needs little more data than a test that is looked at once, and a look
// between them says nothing.
type Planned struct {
	Alpha float64 // two-sided, over all looks
	Looks int     // at equal distances
}

// Spent is how much of the error may have been spent at a part t (0 to 1) of the time:
// the spending function of Lan and DeMets (Biometrika 70, 1983) that resembles the
// bounds of O'Brien and Fleming (Biometrics 35, 1979), for each of two sides:
//
//	α(t) = 2·(2 − 2·Φ(z/√t)),   z = Φ⁻¹(1 − α/4)
func (p Planned) Spent(t float64) float64 {
	if t <= 0 {
		return 0
	}
	return 4 * tail(normal.Quantile(1-p.Alpha/4)/math.Sqrt(min(t, 1)))
}

// tail is the chance of more than z. normal.Survival loses its digits there: it takes
// the chance of less from 1.
func tail(z float64) float64 { return normal.CDF(-z) }

// Bounds are the bounds of |Z| at the looks that have been, from the information
// (1/V) that there was at each. Error is spent by the time of a look, and looks are
// correlated by their information (Lan and DeMets, "Group sequential procedures:
// calendar versus information time", Statistics in Medicine 8, 1989).
//
// Each bound spends exactly what is new at its look: the density of the score among
// the experiments that were not stopped is integrated look by look (Armitage,
// McPherson and Rowe, JRSS A 132, 1969; Jennison and Turnbull, Group Sequential
// Methods, 2000, chapter 19).
func (p Planned) Bounds(information []float64) []float64 {
	var out []float64
	d := density{grid: 400}
	before := 0.0
	for k, info := range information {
		spent := p.Spent(float64(k+1) / float64(p.Looks))
		d.step(info, 0)
		z := d.bound(spent - before)
		if out, before = append(out, z), spent; len(out) < len(information) {
			d.stop(z)
		}
	}
	return out
}

// crossing is the chance that |Z| is beyond a bound at one of equally spaced looks, of
// which the last has the information 1; drift is the mean of its Z.
func crossing(bounds []float64, drift float64) float64 {
	d := density{grid: 120} // looks are equally spaced here, so that the density is wide
	var sum float64
	for k, z := range bounds {
		d.step(float64(k+1)/float64(len(bounds)), drift)
		sum += d.beyond(z)
		d.stop(z)
	}
	return sum
}

// Power is the chance that an effect is found at one of the looks, if users come evenly and
// the last look has this many, given an estimate of the users so far. The bounds are
// widened for skewness, as those of [Planned.Intervals] are.
func (p Planned) Power(effect float64, e Estimate, users float64) float64 {
	if effect == 0 || users <= 0 || !e.Known || e.Variance <= 0 {
		return 0
	}
	information := make([]float64, p.Looks)
	for k := range information {
		information[k] = float64(k + 1)
	}
	bounds := p.Bounds(information)
	for k, z := range bounds {
		at := e.With(users * float64(k+1) / float64(p.Looks))
		bounds[k] = bernstein(z*z, at) / math.Sqrt(at.Variance)
	}
	return crossing(bounds, math.Abs(effect)/math.Sqrt(e.With(users).Variance))
}

// Needed is the number of users, over both variants, at which an effect is found with a
// chance of 80 % at one of the looks, given an estimate of the users so far: those of a
// test that is looked at once, 1 to 5 % more for the looks, and more for the skewness by
// which the last bound is widened. Its power is within half a point of that of
// [Planned.Power], without the integrals.
func (p Planned) Needed(effect float64, e Estimate) (users float64, ok bool) {
	if effect == 0 || !e.Known || e.Variance <= 0 {
		return 0, false
	}
	// Fitted to the integrals: what the looks take, and that earlier ones are widened more.
	early := 1 - 1/float64(p.Looks)
	inflation, widened := math.Sqrt(1+0.05*math.Pow(early, 2.5)), 1+0.27*math.Pow(early, 4.3)
	last := inflation * normal.Quantile(1-p.Alpha/2)
	mean := inflation * (normal.Quantile(1-p.Alpha/2) + normal.Quantile(targetPower))
	enough := func(users float64) bool {
		at := e.With(users)
		sd := math.Sqrt(at.Variance)
		return math.Abs(effect)/sd >= mean+widened*(bernstein(last*last, at)/sd-last)
	}
	low, high := 1.0, maxNeeded
	if !enough(high) {
		return 0, false
	}
	for high/low > 1+1e-9 {
		if mid := math.Sqrt(low * high); enough(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return math.Ceil(high - 1e-6), true
}

// Interval is the repeated confidence interval of the last look (Jennison and Turnbull,
// JRSS B 51, 1989): those of all looks hold together. estimates are those of the
// looks that have been, each made of all data until then.
func (p Planned) Interval(estimates []Estimate) Interval {
	all := p.Intervals(estimates)
	if len(all) == 0 {
		return Interval{}
	}
	return all[len(all)-1]
}

// Intervals are the repeated confidence intervals of all looks. A look at which nothing is
// known has none, and spends its error with the next.
func (p Planned) Intervals(estimates []Estimate) []Interval {
	information := make([]float64, len(estimates))
	last := math.SmallestNonzeroFloat32
	for i, e := range estimates {
		// Information does not shrink: where an estimated variance rose, next to nothing came.
		last *= 1 + 1e-6
		if e.Known && e.Variance > 0 {
			last = max(last, 1/e.Variance)
		}
		information[i] = last
	}
	bounds := p.Bounds(information)
	var out []Interval
	for i, e := range estimates {
		if !e.Known || e.Variance <= 0 {
			out = append(out, Interval{})
			continue
		}
		out = append(out, around(e, bernstein(bounds[i]*bounds[i], e), p.Alpha))
	}
	return out
}

// density is that of the score Z·√I among experiments that go on. The zero density is
// before the first look.
type density struct {
	grid       int       // intervals by which it is integrated (Simpson's rule)
	at, weight []float64 // points and what each represents
	info       float64   // at the last look
	next, mean float64   // information at the look that is being made, and what the score grows by
}

// step goes to the look with this information; drift is the mean of Z at an information of 1.
func (d *density) step(info, drift float64) { d.next, d.mean = info, drift*(info-d.info) }

// beyond is the chance to go on until the look and to be beyond ±z there.
func (d *density) beyond(z float64) float64 {
	c, sd := z*math.Sqrt(d.next), math.Sqrt(d.next-d.info)
	if d.at == nil {
		return tail((c-d.mean)/sd) + tail((c+d.mean)/sd)
	}
	var sum float64
	for i, x := range d.at {
		sum += d.weight[i] * (tail((c-x-d.mean)/sd) + tail((c+x+d.mean)/sd))
	}
	return sum
}

// bound is the z beyond which this much of the error lies.
func (d *density) bound(spend float64) float64 {
	low, high := 0.0, 38.0
	for range 80 {
		if mid := (low + high) / 2; d.beyond(mid) > spend {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// stop ends the experiments beyond ±z and continues with the others.
func (d *density) stop(z float64) {
	// Beyond 12 standard deviations nothing is left to integrate.
	c, sd := min(z, 12+math.Abs(d.mean)/math.Sqrt(d.next))*math.Sqrt(d.next), math.Sqrt(d.next-d.info)
	at, weight := make([]float64, d.grid+1), make([]float64, d.grid+1)
	h := 2 * c / float64(d.grid)
	for i := range at {
		at[i] = -c + h*float64(i)
		var f float64
		if d.at == nil {
			f = normal.Prob((at[i]-d.mean)/sd) / sd
		} else {
			for j, x := range d.at {
				z := (at[i] - x - d.mean) / sd
				f += d.weight[j] * math.Exp(-z*z/2)
			}
			f /= sd * math.Sqrt(2*math.Pi)
		}
		simpson := 2.0
		switch {
		case i == 0 || i == d.grid:
			simpson = 1
		case i%2 == 1:
			simpson = 4
		}
		weight[i] = f * simpson * h / 3
	}
	d.at, d.weight, d.info = at, weight, d.next
}
