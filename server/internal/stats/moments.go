package stats

import "math"

// Moments are sums over the users of one variant, from which every figure of an
// experiment is computed. A user u has a numerator y (solved tasks, dollars) and
// a denominator n (tasks, calls). A user with many calls is one observation (y,
// n): calls of a user are correlated, and treating them as independent would
// overstate the confidence.
//
// The figure itself is the ratio of the sums, Y / N: a rate, a mean, a cost per
// task.
type Moments struct {
	Users float64 `json:"users"` // that have an n or a y
	N     float64 `json:"n"`     // Σ n
	Y     float64 `json:"y"`     // Σ y
	NN    float64 `json:"nn"`    // Σ n²
	YY    float64 `json:"yy"`    // Σ y²
	NY    float64 `json:"ny"`    // Σ n·y

	Third Third `json:"third"`
	Past  Past  `json:"past"`
}

// Third are the sums of the third order, for skewness. All of them 0: not known,
// and no interval is widened for it.
type Third struct {
	NNN float64 `json:"nnn"`
	NNY float64 `json:"nny"`
	NYY float64 `json:"nyy"`
	YYY float64 `json:"yyy"`
}

// Past are the sums with what the same users did before they met their variant: y
// and n of that time are p and q. All of them 0: nothing is known.
type Past struct {
	P  float64 `json:"p"`
	Q  float64 `json:"q"`
	PP float64 `json:"pp"`
	QQ float64 `json:"qq"`
	PQ float64 `json:"pq"`
	YP float64 `json:"yp"`
	YQ float64 `json:"yq"`
	NP float64 `json:"np"`
	NQ float64 `json:"nq"`
}

// Add counts one user.
func (m *Moments) Add(y, n float64) {
	m.Users++
	m.N += n
	m.Y += y
	m.NN += n * n
	m.YY += y * y
	m.NY += n * y
	m.Third.NNN += n * n * n
	m.Third.NNY += n * n * y
	m.Third.NYY += n * y * y
	m.Third.YYY += y * y * y
}

// AddWithPast counts one user of whom p and q are known from before.
func (m *Moments) AddWithPast(y, n, p, q float64) {
	m.Add(y, n)
	s := &m.Past
	s.P += p
	s.Q += q
	s.PP += p * p
	s.QQ += q * q
	s.PQ += p * q
	s.YP += y * p
	s.YQ += y * q
	s.NP += n * p
	s.NQ += n * q
}

// Plus is the sums over the users of both.
func (m Moments) Plus(o Moments) Moments {
	m.Users, m.N, m.Y, m.NN, m.YY, m.NY = m.Users+o.Users, m.N+o.N, m.Y+o.Y, m.NN+o.NN, m.YY+o.YY, m.NY+o.NY
	t, p := &m.Third, &m.Past
	t.NNN, t.NNY, t.NYY, t.YYY = t.NNN+o.Third.NNN, t.NNY+o.Third.NNY, t.NYY+o.Third.NYY, t.YYY+o.Third.YYY
	p.P, p.Q, p.PP, p.QQ, p.PQ = p.P+o.Past.P, p.Q+o.Past.Q, p.PP+o.Past.PP, p.QQ+o.Past.QQ, p.PQ+o.Past.PQ
	p.YP, p.YQ, p.NP, p.NQ = p.YP+o.Past.YP, p.YQ+o.Past.YQ, p.NP+o.Past.NP, p.NQ+o.Past.NQ
	return m
}

// Scale is what a user's ratio y/n can be. The zero Scale has no ends.
type Scale struct {
	Low  float64
	High float64
}

// Share is the scale of a rate.
var Share = Scale{0, 1}

// Bounded reports whether a scale has ends.
func (s Scale) Bounded() bool { return s.High > s.Low }

// Estimate is a ratio Y / N with its variance.
type Estimate struct {
	Value    float64
	Variance float64 // of Value, not of the observations
	Third    float64 // third cumulant of Value: its skewness times Variance^1.5; 0 where it is not known
	Users    float64
	Known    bool // there were at least two users and something was counted
}

// Ratio estimates Y / N with the user as cluster. The variance is that of the
// ratio estimator, linearised (Cochran, Sampling Techniques, 3rd ed., eq. 6.13;
// the "delta method" of Deng, Knoblich and Lu, KDD 2018, doi
// 10.1145/3219819.3219919):
//
//	Var(R) = U/(U−1) · Σ(y − R·n)² / (Σn)²,   R = Σy / Σn, over U users
//
// With n = 1 for every user that is the variance of a mean, s²/U. The third cumulant
// is Σ(y − R·n)³ / (Σn)³.
//
// On a bounded scale both are taken with two users added, one at each end ("plus
// four" of Agresti and Coull, 1998, shared out to two variants): without them, a
// variant in which all succeed would be known without any doubt after its second
// user. The value itself is left as it is.
func Ratio(m Moments, s Scale) Estimate {
	e := Estimate{Users: m.Users}
	if m.N <= 0 {
		return e
	}
	e.Value = m.Y / m.N
	if m.Users < 2 {
		return e
	}
	e.Known = true
	third := m.Third != Third{}
	if s.Bounded() {
		m.Add(s.High, 1)
		m.Add(s.Low, 1)
	}
	r := m.Y / m.N
	// The sum is of squares: below 0 only by rounding.
	sum := max(0, m.YY-2*r*m.NY+r*r*m.NN)
	e.Variance = m.Users / (m.Users - 1) * sum / (m.N * m.N)
	if third {
		t := m.Third
		e.Third = (t.YYY - 3*r*t.NYY + 3*r*r*t.NNY - r*r*r*t.NNN) / (m.N * m.N * m.N)
	}
	return e
}

// Minus is the difference of two independent estimates.
func (e Estimate) Minus(o Estimate) Estimate {
	return Estimate{Value: e.Value - o.Value, Variance: e.Variance + o.Variance, Third: e.Third - o.Third, Users: e.Users + o.Users, Known: e.Known && o.Known}
}

// With is what the estimate is with another number of users of the same kind: cumulants of
// a mean fall with its users, the third with their square.
func (e Estimate) With(users float64) Estimate {
	f := e.Users / users
	e.Variance, e.Third, e.Users = e.Variance*f, e.Third*f*f, users
	return e
}

// Skewness is that of the estimate (not of the observations, whose skewness is
// √users as great).
func (e Estimate) Skewness() float64 {
	if e.Variance <= 0 {
		return 0
	}
	return e.Third / (e.Variance * math.Sqrt(e.Variance))
}

// settledSkewness is the skewness up to which a mean counts as about normal. The
// rule of Kohavi, Deng, Longbotham and Xu ("Seven Rules of Thumb for Web Site
// Experimenters", KDD 2014) asks for 355·s² users, where s is the skewness of the
// observations: a skewness of the mean of 1/√355 = 0.053. Intervals that are widened
// for skewness and valid at all times need less. The skewness of a heavy tail
// is underestimated for as long as its greatest values have not come: 0.15
// leaves room for that. With 0.2, 5.5 % of guardrails for a lognormal cost with σ = 2
// that is at its limit were called ok at some look within 12,000 users; with 0.15, 3.0 %.
const settledSkewness = 0.15

// Settled reports whether the mean of values without an upper end is about normal, and
// how many users that takes by the skewness so far. It depends on
// nothing that is compared: it is no choice between results.
func (e Estimate) Settled() (ok bool, users float64) {
	g := math.Abs(e.Skewness()) / settledSkewness
	return e.Known && g <= 1, math.Ceil(e.Users * g * g)
}
