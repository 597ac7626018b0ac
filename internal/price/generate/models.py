"""Writes what genai-prices and LiteLLM charge for standard usages of every model that
they know: models.py FOLDER. TestModels compares it with hedgerow's table.

A line is PROVIDER, MODEL and USAGE=USD for each usage that the source has a price for,
parted by tabs. A usage is 1,000 tokens of a kind, or one piece; see USAGES. Behind it
stand, where they matter, +N for a prompt that exceeds N tokens (input is then N +
1,000), /KEY=VALUE for a way of calling, and @TIME. genai-prices' prices are what its
own calculator answers; those of LiteLLM are its file's, times the count.
"""
import datetime
import json
import re
import sys
from decimal import Decimal
from importlib.metadata import version
from importlib.util import find_spec

from genai_prices import types
from genai_prices.data import providers

NOW = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.timezone.utc)

# Usage, genai-prices' price, its counts, LiteLLM's price.
K = 1000
USAGES = [
    ("input", "input_mtok", {"input_tokens": K}, "input_cost_per_token"),
    ("output", "output_mtok", {"output_tokens": K}, "output_cost_per_token"),
    ("cache_read", "cache_read_mtok", {"input_tokens": K, "cache_read_tokens": K}, "cache_read_input_token_cost"),
    ("cache_write", "cache_write_mtok", {"input_tokens": K, "cache_write_tokens": K}, "cache_creation_input_token_cost"),
    ("cache_write_1h", "cache_write_1h_mtok", {"input_tokens": K, "cache_write_tokens": K, "cache_write_1h_tokens": K}, "cache_creation_input_token_cost_above_1hr"),
    ("cache_write_12h", None, None, "cache_creation_input_token_cost_above_12hr"),
    ("reasoning", "output_reasoning_mtok", {"output_tokens": K, "output_reasoning_tokens": K}, "output_cost_per_reasoning_token"),
    ("input_audio", "input_audio_mtok", {"input_tokens": K, "input_audio_tokens": K}, "input_cost_per_audio_token"),
    ("output_audio", "output_audio_mtok", {"output_tokens": K, "output_audio_tokens": K}, "output_cost_per_audio_token"),
    ("cache_read_audio", "cache_audio_read_mtok", {"input_tokens": K, "input_audio_tokens": K, "cache_read_tokens": K, "cache_audio_read_tokens": K}, "cache_read_input_audio_token_cost"),
    ("input_image", "input_image_mtok", {"input_tokens": K, "input_image_tokens": K}, "input_cost_per_image_token"),
    ("output_image", "output_image_mtok", {"output_tokens": K, "output_image_tokens": K}, "output_cost_per_image_token"),
    ("cache_read_image", "cache_image_read_mtok", {"input_tokens": K, "input_image_tokens": K, "cache_read_tokens": K, "cache_image_read_tokens": K}, "cache_read_input_image_token_cost"),
    ("input_video", "input_video_mtok", {"input_tokens": K, "input_video_tokens": K}, "input_cost_per_video_token"),
    ("output_video", "output_video_mtok", {"output_tokens": K, "output_video_tokens": K}, "output_cost_per_video_token"),
    ("citation", "output_citation_mtok", {"output_tokens": K, "output_citation_tokens": K}, "citation_cost_per_token"),
    ("request", "requests_kcount", {}, "input_cost_per_request"),
    ("web_search", "web_searches_kcount", {"web_searches": 1}, None),
    ("file_search", "storage_searches_kcount", {"storage_searches": 1}, None),
    ("search_unit", "rerank_searches_kcount", {"rerank_searches": 1}, None),
    ("code_session", None, None, "code_interpreter_cost_per_session"),
    ("hour", "audio_hours", {"audio_seconds": 3600, "input_audio_seconds": 3600}, None),
    ("hour", "input_audio_hours", {"audio_seconds": 3600, "input_audio_seconds": 3600}, None),
    ("character", "input_mchars", {"input_characters": K}, None),
    ("page", "input_document_kpages", {"input_document_pages": 1}, "ocr_cost_per_page"),
    ("annotated_page", "input_annotated_document_kpages", {"input_document_pages": 1, "input_annotated_document_pages": 1}, "annotation_cost_per_page"),
    ("message", "input_text_messages_kcount", {"input_text_messages": 1}, "input_cost_per_text_message"),
    ("image", None, None, None),
]


def text(d):
    d = d.quantize(Decimal(1).scaleb(-15)).normalize()
    return format(d, "f")


def line(provider, model, costs):
    return "\t".join([provider, model, *(f"{k}={v}" for k, v in costs.items())])


def genai_lines():
    for p in providers:
        for m in p.models:
            yield line(p.id, m.id, dict(genai_costs(p, m)))


def genai_costs(p, m):
    moments = {"": NOW}
    if not isinstance(m.prices, types.ModelPrice):
        for c in m.prices:
            if isinstance(c.constraint, types.StartDateConstraint):
                for days in (-1, 1):
                    at = datetime.datetime.combine(c.constraint.start_date, datetime.time(12), datetime.timezone.utc) + datetime.timedelta(days)
                    moments["@" + at.strftime("%Y-%m-%dT%H:%MZ")] = at
            elif c.constraint:
                for clock in (c.constraint.start_time, c.constraint.end_time):
                    at = NOW.replace(hour=clock.hour, minute=clock.minute)
                    moments["@" + at.strftime("%Y-%m-%dT%H:%MZ")] = at
    contexts = {"": {}}
    for v in m.price_variants or ():
        contexts["".join(f"/{k}={x}" for k, x in sorted(v.when.items()))] = v.when
    standard = {}
    for time, at in moments.items():
        for way, context in contexts.items():
            prices = m.get_prices(at, context)
            steps = sorted({t.start for x in prices.__dict__.values() if isinstance(x, types.TieredPrices) for t in x.tiers})
            for step in [0, *steps]:
                for name, price, counts, _ in USAGES:
                    if price is None or getattr(prices, price) is None or name == "hour" and price == "audio_hours" and prices.input_audio_hours is not None:
                        continue
                    if step and (not isinstance(getattr(prices, price), types.TieredPrices) or name not in ("input", "output", "cache_read", "cache_write", "cache_write_1h")):
                        continue
                    counts = dict(counts)
                    if step:
                        counts["input_tokens"] = step + K
                    cost = m.calc_price(types.Usage(**counts), p, genai_request_timestamp=at, price_context=context).total_price
                    key = name + (f"+{step}" if step else "")
                    if (way or time) and standard.get(key) == cost:
                        continue  # as at the standard price
                    if not way and not time:
                        standard[key] = cost
                    yield key + way + time, text(cost)


# LiteLLM's suffixes of ways of calling.
WAYS = {"": "", "_batches": "/processing=batch", "_flex": "/service_tier=flex", "_priority": "/service_tier=priority", "_ultrafast": "/service_tier=ultrafast", "_balanced": "/service_tier=balanced"}
ABOVE = re.compile(r"_above_(\d+)k_tokens")
# Its names of providers, where they name an API and not who bills.
BILLED_BY = {"text-completion-openai": "openai", "azure_text": "azure", "bedrock_converse": "bedrock", "cohere_chat": "cohere", "fireworks_ai-embedding-models": "fireworks_ai", "codestral": "mistral", "text-completion-codestral": "mistral", "text-completion-inception": "inception", "bedrock_mantle": "bedrock"}


def litellm_lines(file):
    for key, record in file.items():
        provider = record.get("litellm_provider")
        if not provider or " " in provider:
            continue
        billed = "vertex_ai" if provider.startswith("vertex_ai") else BILLED_BY.get(provider, provider)
        model = key
        for prefix in (provider, billed, "vertex_ai", "bedrock", "bedrock_mantle", "fireworks_ai", "gemini"):
            if model.startswith(prefix + "/"):
                model = model[len(prefix) + 1 :]
                break
        if billed == "bedrock":
            model = model.removeprefix("invoke/")  # the API that LiteLLM is to call
            if model.startswith("claude_platform/"):  # Anthropic's own API, sold by AWS
                billed, model = "anthropic", model.removeprefix("claude_platform/")
        yield line(billed, model, litellm_costs(record))


def litellm_costs(record):
    costs = {}

    def put(key, price, count):
        if price is not None and key not in costs:
            costs[key] = text(Decimal(repr(price)) * count)

    known = {u[3]: u[0] for u in USAGES if u[3]}
    for key, price in sorted(record.items()):
        if not isinstance(price, (int, float)):
            continue
        step = ABOVE.search(key)
        kind = ABOVE.sub("", key)
        for suffix, way in WAYS.items():
            name = known.get(kind.removesuffix(suffix)) if kind.endswith(suffix) else None
            if name and (suffix or kind in known):
                above = int(step[1]) * K if step else 0
                token = "page" not in name and name not in ("request", "message", "code_session")
                count = K if token else 1
                if above and name != "output":
                    count = above + K if name == "input" else K
                if above and name != "input":
                    # The prompt that makes the call long is billed, too.
                    prompt = record.get(f"input_cost_per_token_above_{step[1]}k_tokens{suffix}")
                    if prompt is None:
                        continue
                    rest = above + K if name == "output" else above
                    costs.setdefault(f"{name}+{above}{way}", text(Decimal(repr(price)) * count + Decimal(repr(prompt)) * rest))
                else:
                    put(name + (f"+{above}" if above else "") + way, price, count)
                break
    mode = record.get("mode")
    for name, modes, field, count in (
        ("hour", ("audio_transcription",), "input_cost_per_second", 3600),
        ("hour", ("audio_transcription",), "input_cost_per_audio_per_second", 3600),
        ("hour", ("audio_speech",), "output_cost_per_second", 3600),
        ("hour", ("video_generation",), "output_cost_per_video_per_second", 3600),
        ("hour", ("video_generation",), "output_cost_per_second", 3600),
        ("image", ("image_generation", "image_edit"), "output_cost_per_image", 1),
        ("image", ("image_generation", "image_edit"), "input_cost_per_image", 1),
        ("search_unit", ("rerank",), "input_cost_per_query", 1),
        ("character", ("audio_speech",), "input_cost_per_character", K),
    ):
        if mode in modes:
            put(name, record.get(field), count)
    if isinstance(record.get("search_context_cost_per_query"), dict):
        put("web_search", record["search_context_cost_per_query"].get("search_context_size_medium"), 1)
    if record.get("file_search_cost_per_1k_calls"):
        put("file_search", record["file_search_cost_per_1k_calls"] / 1000, 1)
    for key, factor in (record.get("provider_specific_entry") or {}).items():
        for kind in ("input", "output"):
            if key in ("us", "fast") and kind in costs:
                put(kind + ("/geo=us" if key == "us" else "/speed=fast"), float(Decimal(costs[kind]) * Decimal(repr(factor))), 1)
    for geo in ("eu", "us"):
        if factor := record.get(f"regional_processing_uplift_multiplier_{geo}"):
            for kind in ("input", "output"):
                if kind in costs:
                    put(f"{kind}/geo={geo}", float(Decimal(costs[kind]) * Decimal(repr(factor))), 1)
    return costs


def main(folder):
    with open(find_spec("litellm").submodule_search_locations[0] + "/model_prices_and_context_window_backup.json") as f:
        file = json.load(f)
    for name, package, license, lines in (
        ("genai", "genai-prices", "Pydantic Services Inc.", genai_lines()),
        ("litellm", "litellm", "Berri AI", litellm_lines(file)),
    ):
        with open(f"{folder}/models-{name}.txt", "w") as f:
            f.write(f"# What {package} {version(package)} charges (data Copyright (c) {license}, MIT license). Written by make prices; read by TestModels.\n")
            f.writelines(x + "\n" for x in sorted(set(lines)))


main(sys.argv[1])
