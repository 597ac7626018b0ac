"""Writes the prices of the installed package genai-prices in the form of its feed,
new_data/v2/data.json, which the package itself does not hold: dump.py FILE."""
import json
import re
import sys

from genai_prices import types as t
from genai_prices.data import providers


def price(v):
    if isinstance(v, t.TieredPrices):
        return {"base": price(v.base), "tiers": [{"start": x.start, "price": price(x.price)} for x in v.tiers]}
    return "@@" + format(v, "f") + "@@"


def prices(p):
    return {k: price(v) for k, v in p.__dict__.items() if v is not None}


def clause(c):
    if isinstance(c, t.ClauseOr):
        return {"or": [clause(x) for x in c.or_]}
    if isinstance(c, t.ClauseAnd):
        return {"and": [clause(x) for x in c.and_]}
    for kind in ("starts_with", "ends_with", "contains", "regex", "equals"):
        if hasattr(c, kind):
            return {kind: getattr(c, kind)}
    raise TypeError(c)


def conditional(c, **more):
    if c.constraint is None:
        return dict(more, prices=prices(c.prices))
    if isinstance(c.constraint, t.StartDateConstraint):
        when = {"start_date": c.constraint.start_date.isoformat()}
    else:
        when = {"start_time": c.constraint.start_time.isoformat(), "end_time": c.constraint.end_time.isoformat()}
    return dict(more, constraint=when, prices=prices(c.prices))


def model(m):
    e = {"id": m.id, "match": clause(m.match)}
    e["prices"] = prices(m.prices) if isinstance(m.prices, t.ModelPrice) else [conditional(c) for c in m.prices]
    if m.price_variants:
        e["price_variants"] = [conditional(v, when=v.when) for v in m.price_variants]
    return e


text = json.dumps([{"id": p.id, "name": p.name, "models": [model(m) for m in p.models]} for p in providers], separators=(",", ":"))
with open(sys.argv[1], "w") as f:
    f.write(re.sub(r'"@@([0-9.]+)@@"', r"\1", text))
