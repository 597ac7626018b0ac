"""Makes reference.json: python3 reference.py > reference.json

Independent of the Go code: the variance is taken from the users one by one, the
interval is in the form of the paper on asymptotic confidence sequences (with t
and rho), the chi-square tail is integrated numerically, and the multinomial
Bayes factor is multiplied user by user (its predictive form). Standard library
only.
"""
import json
import math
import random
import statistics


def ratio(users, rate):
    value = sum(y for y, n in users) / sum(n for y, n in users)
    seen = users + [(1, 1), (0, 1)] if rate else users
    total = sum(n for y, n in seen)
    r = sum(y for y, n in seen) / total
    mean_n = total / len(seen)
    influence = [(y - r * n) / mean_n for y, n in seen]
    # statistics.variance divides by U-1; the influence values add up to 0.
    return value, statistics.variance(influence) / len(seen), sum(i ** 3 for i in influence) / len(seen) ** 3


def rho2(alpha, t):
    """-W_{-1}(-alpha^2/e) - 1 over t, the Lambert function by bisection."""
    target = -alpha * alpha / math.e
    low, high = -200.0, -1.0
    for _ in range(300):
        mid = (low + high) / 2
        if mid * math.exp(mid) > target:
            low = mid
        else:
            high = mid
    return (-low - 1) / t


def half(variance, users, alpha, planned):
    """Theorem 2.2 of arXiv:2103.06476: sigma * sqrt(2 (t rho^2 + 1) / (t^2 rho^2) * log(sqrt(t rho^2 + 1) / alpha))."""
    t, sigma2, r2 = users, variance * users, rho2(alpha, planned)
    return math.sqrt(sigma2 * 2 * (t * r2 + 1) / (t * t * r2) * math.log(math.sqrt(t * r2 + 1) / alpha))


def widened(normal, variance, third):
    """The sub-gamma bound: h with h^2 / (v + g h) as for the normal one, by bisection."""
    if variance == 0:
        return 0
    level, g = normal ** 2 / variance, 2 * abs(third) / (3 * variance)
    low, high = normal, normal + g * level + 1
    for _ in range(200):
        mid = (low + high) / 2
        if mid * mid / (variance + g * mid) < level:
            low = mid
        else:
            high = mid
    return low


def chi_square_tail(x, k):
    """1 - integral of the density with Simpson's rule; u = sqrt(x) takes the pole at 0 away."""
    if x == 0:
        return 1.0
    c = 2 / (2 ** (k / 2) * math.gamma(k / 2))
    f = lambda u: c * u ** (k - 1) * math.exp(-u * u / 2)
    top, steps = math.sqrt(x), 20000
    h = top / steps
    s = f(0) + f(top) + sum((4 if i % 2 else 2) * f(i * h) for i in range(1, steps))
    return 1 - s * h / 3


def always_p(counts, shares, k):
    total = sum(shares)
    theta = [s / total for s in shares]
    seen, log_bf = [0] * len(counts), 0.0
    for i, c in enumerate(counts):
        for _ in range(c):
            log_bf += math.log((k * theta[i] + seen[i]) / (k + sum(seen)) / theta[i])
            seen[i] += 1
    return min(1.0, math.exp(-log_bf))


def cluster_rates(rng, users, p, spread):
    out = []
    for _ in range(users):
        q = min(1, max(0, rng.gauss(p, spread)))
        n = rng.randint(1, 6)
        out.append((sum(rng.random() < q for _ in range(n)), n))
    return out


def main():
    rng = random.Random(20261121)
    rates = lambda u, p: cluster_rates(rng, u, p, 0.2)
    single = lambda ones, zeros: [(1, 1)] * ones + [(0, 1)] * zeros
    costs = lambda u, mu: [(math.exp(rng.gauss(mu, 0.8)), rng.randint(1, 4)) for _ in range(u)]
    cases = [
        ("one task a user", True, single(45, 55), single(60, 40)),
        ("many tasks a user", True, rates(200, 0.55), rates(180, 0.65)),
        ("5 % of users", True, rates(950, 0.6), rates(50, 0.6)),
        ("no success at all", True, single(0, 40), single(0, 50)),
        ("all succeed", True, single(40, 0), single(50, 0)),
        ("all against none", True, single(0, 35), single(35, 0)),
        ("two users an arm", True, single(1, 1), single(2, 0)),
        ("costs", False, costs(300, -4), costs(280, -3.9)),
        ("latencies in ms", False, [(rng.gauss(1800, 400), 1) for _ in range(120)], [(rng.gauss(2300, 500), 1) for _ in range(90)]),
        ("the same for all", False, [(3, 1)] * 10, [(3, 1)] * 12),
    ]
    out = {"intervals": [], "needed": [], "ratios": []}
    for name, rate, control, treatment in cases:
        for alpha, planned in ((0.05, 2000), (0.01, 400)):
            c, vc, kc = ratio(control, rate)
            t, vt, kt = ratio(treatment, rate)
            h = widened(half(vc + vt, len(control) + len(treatment), alpha, planned), vc + vt, kt - kc) if vc + vt > 0 else 0
            out["intervals"].append({
                "name": name, "rate": rate, "alpha": alpha, "planned": planned, "control": control, "treatment": treatment,
                "control_value": c, "control_variance": vc, "treatment_value": t, "treatment_variance": vt,
                "difference": t - c, "lower": t - c - h, "upper": t - c + h,
            })
    for effect, sigma2, alpha, planned in ((0.05, 1.0, 0.05, 2000), (0.1, 1.0, 0.05, 2000), (0.02, 0.8, 0.05, 10000), (0.003, 0.0004, 0.01, 500)):
        # Walks up user by user from just below; sigma2 is V times users.
        power = lambda n: statistics.NormalDist().cdf((effect - half(sigma2 / n, n, alpha, planned)) / math.sqrt(sigma2 / n))
        n = 2
        while power(n) < 0.8:
            n += 1
        out["needed"].append({"effect": effect, "sigma2": sigma2, "alpha": alpha, "planned": planned, "users": n, "power": power(n)})
    for counts, shares in (([5000, 5000], [1, 1]), ([5200, 4800], [1, 1]), ([100, 0], [1, 1]), ([950, 50], [95, 5]), ([900, 100], [95, 5]), ([0, 0], [1, 1]), ([1, 0], [1, 1]), ([340, 310, 350], [1, 1, 1]), ([3400, 3100, 3500], [1, 1, 1])):
        n, total = sum(counts), sum(shares)
        x = sum((c - n * s / total) ** 2 / (n * s / total) for c, s in zip(counts, shares)) if n else 0
        out["ratios"].append({"counts": counts, "shares": shares, "chi_square": x, "p": chi_square_tail(x, len(counts) - 1), "always_p": always_p(counts, shares, 500)})
    # Table values of the chi-square distribution (upper 5 % and 1 % points), to check the integration above.
    for x, k, p in ((3.841458820694124, 1, 0.05), (6.634896601021213, 1, 0.01), (5.991464547107979, 2, 0.05), (9.210340371976182, 2, 0.01)):
        assert abs(chi_square_tail(x, k) - p) < 1e-9
    print(json.dumps(out))


main()
