"""Makes ../testdata/agreement.json: python3 agreement.py > ../testdata/agreement.json

200 random configurations, computed independently of the Go code with numpy and scipy:
from users one by one and not from sums; the bound of the normal mixture by integrating the
mixture and finding its root; the bounds of planned looks by Gauss-Legendre
quadrature; the sample ratio with scipy's distributions. "make stats" runs it anew.

Users are made by the same generator of integers as in agreement_test.go (SplitMix64), so that the
file holds results only.
"""
import json
import math
import multiprocessing

import numpy as np
from scipy import optimize, special, stats

CONFIGURATIONS = 200
WINSORISED = 0.95
SETTLED = 0.15


class SplitMix64:
    def __init__(self, seed):
        self.state = seed

    def float(self):
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 11) / (1 << 53)


def call(rng, kind, habit):
    u = rng.float()
    if kind == "rate":
        return 1.0 if u < 0.1 + habit * 0.8 else 0.0
    if kind == "score":
        return (habit + u) / 2
    amount = (habit + 0.05) / (1.005 - u)
    return math.floor(amount * 3) if kind == "count" else amount


def make_users(rng, kind, count, most):
    """y, n, p, q and the stratum of each user, and the values of their calls."""
    rows, values = [], []
    for _ in range(count):
        habit = rng.float()
        n = 1 + math.floor(rng.float() * most)
        calls = [call(rng, kind, habit) for _ in range(n)]
        p, q = 0.0, 0
        if rng.float() < 0.7:
            q = 1 + math.floor(rng.float() * 3)
            p = float(sum(call(rng, kind, habit) for _ in range(q)))
        rows.append((float(sum(calls)), n, p, q, math.floor(habit * 3)))
        values.append(calls)
    return np.array(rows, dtype=float), values


def estimate(y, n, ends):
    value = y.sum() / n.sum()
    if ends:
        y, n = np.append(y, ends), np.append(n, [1, 1])
    influence = (y - y.sum() / n.sum() * n) / n.mean()
    return {"value": value, "variance": influence.var(ddof=1) / len(y), "third": (influence**3).sum() / len(y) ** 3, "users": len(y) - (2 if ends else 0)}


def minus(t, c):
    return {"value": t["value"] - c["value"], "variance": t["variance"] + c["variance"], "third": t["third"] - c["third"], "users": t["users"] + c["users"]}


def cut(y, n, limit):
    return np.where(y > limit * n, limit * n, y)


def adjust(c, t, control, treatment):
    """CUPED as a regression of linearised values on the past."""
    y, n, p, q = (np.concatenate([control[i], treatment[i]]) for i in range(4))
    r = p.sum() / q.sum()
    cov, var, mean = [], [], []
    for e, (y, n, p, q) in ((c, control), (t, treatment)):
        m = np.cov((y - e["value"] * n) / n.mean(), p - r * q) / len(y)
        cov.append(m[0, 1])
        var.append(m[1, 1])
        mean.append((p - r * q).mean())
    theta = sum(cov) / sum(var)
    pooled = np.average(mean, weights=[c["users"], t["users"]])
    out = []
    for e, k, v, x in zip((c, t), cov, var, mean):
        variance = e["variance"] - 2 * theta * k + theta**2 * v
        out.append({"value": e["value"] - theta * (x - pooled), "variance": variance, "third": e["third"] * (variance / e["variance"]) ** 1.5, "users": e["users"]})
    return out[0], out[1], max(0, 1 - (out[0]["variance"] + out[1]["variance"]) / (c["variance"] + t["variance"]))


def stratify(control, treatment, ends):
    strata = [0, 1, 2]
    total = control[1].sum() + treatment[1].sum()
    out = []
    for side in (control, treatment):
        value = variance = 0.0
        for s in strata:
            w = sum(x[1][x[4] == s].sum() for x in (control, treatment)) / total
            e = estimate(side[0][side[4] == s], side[1][side[4] == s], ends)
            value += w * e["value"]
            variance += w * w * e["variance"]
        out.append((value, variance))
    return out[1][0] - out[0][0], out[1][1] + out[0][1]


def mixture(d, variance, tau2):
    """Logarithm of the mixture of likelihood ratios of a difference d against 0, integrated."""
    centre, sd = d * tau2 / (tau2 + variance), math.sqrt(tau2 * variance / (tau2 + variance))
    x = centre + sd * np.linspace(-12, 12, 1201)
    f = x * d / variance - x * x / (2 * variance) + stats.norm.logpdf(x, scale=math.sqrt(tau2))
    return special.logsumexp(f) + math.log(x[1] - x[0])


def half(variance, users, third, alpha, planned, spread=0):
    rho2 = -special.lambertw(-alpha * alpha / math.e, -1).real - 1
    tau2 = rho2 * (spread or variance * users) / planned
    sd = math.sqrt(variance)
    normal = optimize.brentq(lambda d: mixture(d, variance, tau2) + math.log(alpha), 0, 1000 * sd, xtol=1e-13 * sd, rtol=1e-13)
    return widen(normal / sd, variance, third)


def widen(z, variance, third):
    g, sd = 2 * abs(third) / (3 * variance), math.sqrt(variance)
    return optimize.brentq(lambda h: h * h - z * z * (variance + g * h), z * sd * 0.999, z * sd + z * z * g + sd, xtol=1e-13 * sd, rtol=1e-13)


def around(e, h):
    return [e["value"], e["value"] - h, e["value"] + h]


def interval(e, alpha, planned, spread=0):
    return around(e, half(e["variance"], e["users"], e["third"], alpha, planned, spread))


def needed(effect, variance, users, alpha, planned):
    def power(n):
        v = variance * users / n
        return stats.norm.cdf((effect - half(v, n, 0, alpha, planned, variance * users)) / math.sqrt(v))

    return math.ceil(optimize.brentq(lambda n: power(n) - 0.8, 2, 1e9, rtol=1e-12) - 1e-6)


class Walk:
    """The score among experiments that go on, on Gauss-Legendre nodes."""

    NODES, WEIGHTS = np.polynomial.legendre.leggauss(600)

    def __init__(self):
        self.x, self.w, self.info = np.zeros(1), np.ones(1), 0.0

    def beyond(self, z, info, drift=0):
        c, sd, m = z * math.sqrt(info), math.sqrt(info - self.info), drift * (info - self.info)
        return float((self.w * (stats.norm.sf((c - self.x - m) / sd) + stats.norm.cdf((-c - self.x - m) / sd))).sum())

    def stop(self, z, info, drift=0):
        c, sd, m = min(z, 14) * math.sqrt(info), math.sqrt(info - self.info), drift * (info - self.info)
        x = c * self.NODES
        density = (stats.norm.pdf((x[:, None] - self.x[None, :] - m) / sd) / sd) @ self.w
        self.x, self.w, self.info = x, density * self.WEIGHTS * c, info


def bounds(information, looks, alpha):
    walk, spent, out = Walk(), 0.0, []
    for k, info in enumerate(information):
        target = 2 * 2 * stats.norm.sf(stats.norm.isf(alpha / 4) / math.sqrt((k + 1) / looks))
        z = optimize.brentq(lambda z: walk.beyond(z, info) - (target - spent), 0, 38, xtol=1e-12)
        walk.stop(z, info)
        spent = target
        out.append(z)
    return out


def inflation(looks, alpha):
    z = bounds([(k + 1) / looks for k in range(looks)], looks, alpha)

    def power(drift):
        walk, found = Walk(), 0.0
        for k, bound in enumerate(z):
            info = (k + 1) / looks
            found += walk.beyond(bound, info, drift)
            walk.stop(bound, info, drift)
        return found

    once = stats.norm.isf(alpha / 2) + stats.norm.isf(0.2)
    return (optimize.brentq(lambda d: power(d) - 0.8, once * 0.99, once * 1.5, xtol=1e-9) / once) ** 2


def at(values, level):
    x = level * (len(values) - 1)
    i = min(int(x), len(values) - 2)
    return values[i] + (x - i) * (values[i + 1] - values[i])


def quantile(level, step, users):
    """The interval's parts of a quantile: its estimate, and what lies at level - h and level + h."""
    values = np.sort(np.array([v for calls in users for v in calls]))
    value = at(values, level)
    below = np.array([sum(v <= value for v in calls) for calls in users], dtype=float)
    levels = [level + step * i for i in range(-20, 20)]

    def around_level(h):
        low = max([at(values, l) for l in levels if l <= level - h], default=0.0)
        high = min([at(values, l) for l in levels if l >= level + h], default=math.inf)
        return low, high

    share = estimate(below, np.array([len(c) for c in users], dtype=float), [1, 0])
    low, high = around_level(stats.norm.isf(0.025) * math.sqrt(share["variance"]))
    side = max(value - low, high - value) / stats.norm.isf(0.025)
    return {"value": value, "variance": side * side, "third": 0.0, "users": share["users"]}, share, around_level


def finite(x):
    return x if math.isfinite(x) else None


def configuration(i):
    rng = SplitMix64(1000 + i)
    kind = ["rate", "score", "amount", "count", "quantile"][i % 5]
    c = {
        "seed": 2000 + i,
        "kind": kind,
        "alpha": [0.05, 0.025, 0.01, 0.1][math.floor(rng.float() * 4)],
        "planned": 200 + math.floor(rng.float() * 5000),
        "control_users": 150 + math.floor(rng.float() * 250),
        "treatment_users": 120 + math.floor(rng.float() * 80),
        "most": 1 + math.floor(rng.float() * 4),
        "spread": 0.5 + rng.float(),
        "level": [0.5, 0.95][math.floor(rng.float() * 2)],
        "looks": 1 + math.floor(rng.float() * 8),
    }
    data = SplitMix64(c["seed"])
    control, calls = make_users(data, kind, c["control_users"], c["most"])
    treatment, treated = make_users(data, kind, c["treatment_users"], c["most"])
    alpha, planned = c["alpha"], c["planned"]
    if kind == "quantile":
        step = (1 - c["level"]) / 20
        a, _, _ = quantile(c["level"], step, calls)
        b, share, around_level = quantile(c["level"], step, treated)
        low, high = around_level(half(share["variance"], share["users"], share["third"], alpha, planned / 2))
        c["single"] = [b["value"], low, finite(high)]
        d = minus(b, a)
        c["difference"] = interval(d, alpha, planned) if math.isfinite(d["variance"]) else [d["value"], None, None]
    else:
        ends = [1, 0] if kind in ("rate", "score") else []
        a, b = list(control.T), list(treatment.T)
        raw = estimate(b[0], b[1], ends)
        skewness = raw["third"] / raw["variance"] ** 1.5
        c["single"] = interval(raw, alpha, planned / 2)
        c["settled"], c["settled_users"] = bool(abs(skewness) <= SETTLED), math.ceil(raw["users"] * (skewness / SETTLED) ** 2)
        if not ends:
            limit = float(np.quantile(np.concatenate([a[0] / a[1], b[0] / b[1]]), WINSORISED))
            c["limit"], ends = limit, [limit, 0]
            for x in (a, b):
                x[0], x[2] = cut(x[0], x[1], limit), cut(x[2], x[3], limit)
        x, y = estimate(a[0], a[1], ends), estimate(b[0], b[1], ends)
        d = minus(y, x)
        spread = c["spread"] * d["variance"] * d["users"]
        c["variances"] = [x["variance"], y["variance"]]
        c["difference"] = interval(d, alpha, planned, spread)
        ax, ay, c["gain"] = adjust(x, y, a[:4], b[:4])
        ad = minus(ay, ax)
        c["adjusted"] = interval(ad, alpha, planned, spread)
        c["stratified"] = stratify(a, b, ends)
        effect = 2 * math.sqrt(d["variance"])
        c["needed"] = needed(effect, d["variance"], d["users"], alpha, planned)
    # Planned looks: information that grows by unequal steps.
    information, total = [], 0.0
    for _ in range(1 + math.floor(rng.float() * c["looks"])):
        total += 0.2 + rng.float()
        information.append(total)
    c["information"], c["bounds"] = information, bounds(information, c["looks"], alpha)
    if math.isfinite(d["variance"]):
        c["planned_interval"] = around(d, widen(c["bounds"][-1], d["variance"], d["third"]))
    counts, shares = [c["control_users"], c["treatment_users"]], [2, 1]
    theta = np.array(shares) / sum(shares)
    c["chi_p"] = float(stats.chisquare(counts, theta * sum(counts)).pvalue)
    c["always_p"] = min(1.0, math.exp(stats.multinomial.logpmf(counts, sum(counts), theta) - stats.dirichlet_multinomial.logpmf(counts, 500 * theta, sum(counts))))
    return c


def main():
    with multiprocessing.Pool() as pool:
        configurations = pool.map(configuration, range(CONFIGURATIONS))
    out = {"configurations": configurations, "inflation": {str(k): inflation(k, 0.05) for k in (1, 2, 3, 4, 5, 7, 10)}}
    rounded = json.loads(json.dumps(out), parse_float=lambda s: float(f"{float(s):.11g}"))
    print(json.dumps(rounded, separators=(",", ":")).replace('{"seed"', '\n{"seed"'))


if __name__ == "__main__":
    main()
