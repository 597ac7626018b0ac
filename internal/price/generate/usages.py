"""Prices usages with the calculators of genai-prices and LiteLLM: usages.py FOLDER.
TestUsages compares what they say with hedgerow.

A line is PROVIDER, MODEL, SHAPE, USAGE, and what genai-prices and LiteLLM calculate in
USD, parted by tabs; "?" where one cannot. USAGE is NAME=COUNT … as in PRICED; input
includes what was read from or written to a cache, output includes reasoning.
"""
import datetime
import json
import os
import sys
from decimal import Decimal
from importlib.metadata import version

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import genai_prices
import litellm
from genai_prices.data import providers
from litellm.cost_calculator import batch_cost_calculator, default_image_cost_calculator, ocr_cost, rerank_cost
from litellm.litellm_core_utils.llm_cost_calc import utils as litellm_utils
from litellm.types.utils import Usage

# genai-prices' provider, LiteLLM's, and the models; the last item is how many models of
# those that both know are taken besides.
PROVIDERS = [
    ("openai", "openai", ["gpt-6.1-sol", "gpt-5", "gpt-4.1", "gpt-4o", "gpt-4o-mini", "o3", "gpt-audio", "gpt-image-1", "text-embedding-3-small", "text-embedding-3-large"], 4),
    ("anthropic", "anthropic", ["claude-opus-4-6", "claude-opus-5-5", "claude-sonnet-4-5", "claude-sonnet-5-5", "claude-haiku-5-5"], 3),
    ("google", "gemini", ["gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-3.1-pro-preview", "gemini-3.8-flash", "gemini-embedding-001"], 3),
    ("x-ai", "xai", ["grok-4.20"], 7),
    ("mistral", "mistral", ["mistral-large-2512", "mistral-small-latest", "codestral-latest", "mistral-embed"], 6),
    ("deepseek", "deepseek", ["deepseek-flash", "deepseek-v4-pro"], 2),
    ("groq", "groq", ["llama-3.3-70b-versatile", "openai/gpt-oss-120b"], 4),
    ("together", "together_ai", [], 12),
    ("fireworks", "fireworks_ai", [], 12),
    ("aws", "bedrock", ["us.anthropic.claude-sonnet-4-5-20250929-v1:0", "global.anthropic.claude-opus-5-5", "amazon.nova-pro-v1:0", "amazon.titan-embed-text-v2:0"], 6),
    ("azure", "azure", ["gpt-4o", "gpt-4.1", "gpt-5", "text-embedding-3-large"], 6),
    ("cohere", "cohere", ["command-a-03-2025", "command-r-08-2024"], 3),
    ("voyageai", "voyage", ["voyage-3-large"], 7),
    ("moonshotai", "moonshot", [], 8),
    ("zai", "zai", [], 8),
    ("minimax", "minimax", [], 6),
]
NOON = datetime.datetime(2026, 11, 30, 12, 30, tzinfo=datetime.timezone.utc)

# Shapes: name, counts, context. A shape is taken where one of the sources has a price
# of what it is about.
SHAPES = [
    ("plain", {"input": 1523, "output": 417}, {}),
    ("agent", {"input": 98765, "output": 4321}, {}),
    ("cached", {"input": 24680, "cache_read": 20480, "output": 512}, {}),
    ("written", {"input": 12345, "cache_write": 10240, "output": 64}, {}),
    ("written for an hour", {"input": 12345, "cache_write": 10240, "cache_write_1h": 8192, "output": 64}, {}),
    ("read and written", {"input": 50000, "cache_read": 30000, "cache_write": 15000, "output": 2500}, {}),
    ("reasoning", {"input": 800, "output": 6400, "reasoning": 6016}, {}),
    ("sound in", {"input": 1400, "input_audio": 1250, "output": 300}, {}),
    ("sound out", {"input": 200, "output": 900, "output_audio": 750}, {}),
    ("picture in", {"input": 1100, "input_image": 1020, "output": 150}, {}),
    ("picture out", {"input": 120, "output": 4160, "output_image": 4160}, {}),
    ("batch", {"input": 31000, "output": 2300}, {"processing": "batch"}),
    ("flex", {"input": 4096, "output": 1024}, {"service_tier": "flex"}),
    ("priority", {"input": 4096, "output": 1024}, {"service_tier": "priority"}),
    ("priority, cached", {"input": 40960, "cache_read": 32768, "output": 1024}, {"service_tier": "priority"}),
    ("fast", {"input": 2000, "output": 3000}, {"speed": "fast"}),
    ("in the USA", {"input": 2000, "output": 3000}, {"geo": "us"}),
    ("long", {"input": 300001, "output": 2000}, {}),
    ("long, cached", {"input": 350000, "cache_read": 320000, "output": 2000}, {}),
    ("embedding", {"input": 8191}, {}),
]
# Usages of which a calculator has no general form.
PRICED = [
    ("openai", "openai", "tts-1", "speech", {"characters": 11}),
    ("openai", "openai", "tts-1-hd", "speech", {"characters": 4096}),
    ("openai", "openai", "whisper-1", "transcription", {"seconds": 60}),
    ("openai", "openai", "whisper-1", "transcription", {"seconds": 3607}),
    ("groq", "groq", "whisper-large-v3", "transcription", {"seconds": 3600}),
    ("groq", "groq", "whisper-large-v3-turbo", "transcription", {"seconds": 120}),
    ("mistral", "mistral", "mistral-ocr-latest", "pages", {"pages": 10}),
    ("mistral", "mistral", "mistral-ocr-2505", "pages", {"pages": 3}),
    ("mistral", "mistral", "mistral-ocr-2512", "pages", {"pages": 1}),
    ("cohere", "cohere", "rerank-v3.5", "rerank", {"search_units": 1}),
    ("cohere", "cohere", "rerank-v4.0-pro", "rerank", {"search_units": 7}),
    ("cohere", "cohere", "rerank-v4.0-fast", "rerank", {"search_units": 2}),
    ("openai", "openai", "ft:gpt-4.1-mini-2025-04-14:org::Bx1", "fine-tune", {"input": 1000, "output": 1000}),
    ("openai", "openai", "ft:gpt-4.1-2025-04-14:org:helper:Bx2", "fine-tune", {"input": 5000, "cache_read": 4000, "output": 70}),
    ("openai", "openai", "ft:gpt-4.1-nano-2025-04-14:org::Bx3", "fine-tune", {"input": 321, "output": 123}),
    ("openai", "openai", "ft:gpt-4o-2024-08-06:org::Bx4", "fine-tune", {"input": 9000, "output": 900}),
    ("openai", "openai", "ft:gpt-4o-mini-2024-07-18:org::Bx5", "fine-tune", {"input": 9000, "output": 900}),
    ("openai", "openai", "ft:gpt-3.5-turbo-0125:org::Bx6", "fine-tune", {"input": 700, "output": 70}),
    ("openai", "openai", "gpt-6-sol", "written for 12 hours", {"input": 11000, "cache_write": 10000, "cache_write_12h": 10000, "output": 10}),
]
# Times of the day at which DeepSeek's prices differ: a Monday, a Sunday.
TIMES = ["2026-11-30T00:59", "2026-11-30T01:00", "2026-11-30T03:59", "2026-11-30T04:00", "2026-11-30T06:00", "2026-11-30T09:59", "2026-11-30T10:00", "2026-11-30T23:00", "2026-11-29T02:00", "2026-11-28T08:00"]


def genai(provider, model, counts, context, at):
    names = {
        "input": "input_tokens", "output": "output_tokens", "cache_read": "cache_read_tokens", "cache_write": "cache_write_tokens", "cache_write_1h": "cache_write_1h_tokens",
        "reasoning": "output_reasoning_tokens", "input_audio": "input_audio_tokens", "output_audio": "output_audio_tokens", "input_image": "input_image_tokens", "output_image": "output_image_tokens",
        "characters": "input_characters", "pages": "input_document_pages", "search_units": "rerank_searches",
    }  # fmt: skip
    usage = {names[k]: v for k, v in counts.items() if k in names}
    if "seconds" in counts:
        usage |= {"audio_seconds": counts["seconds"], "input_audio_seconds": counts["seconds"]}
    if "cache_write_12h" in counts or "geo" in context:
        return None  # it knows neither
    found = genai_prices.calc_price(genai_prices.Usage(**usage), model, provider_id=provider, genai_request_timestamp=at, price_context=context or None)
    if context and found.model.calc_price(genai_prices.Usage(**usage), found.provider, genai_request_timestamp=at).total_price == found.total_price:
        return None  # it has no price of that way
    return found.total_price


def lite(provider, model, shape, counts, context, at):
    litellm_utils.current_billing_time = lambda: at
    if shape == "rerank":
        return sum(rerank_cost(model, provider, {"search_units": counts["search_units"]}))
    if shape == "speech":
        return sum(litellm.cost_per_token(model=model, custom_llm_provider=provider, prompt_characters=counts["characters"], call_type="speech"))
    if shape == "transcription":
        return sum(litellm.cost_per_token(model=model, custom_llm_provider=provider, audio_transcription_file_duration=counts["seconds"], call_type="transcription"))
    if shape == "pages":
        info = litellm.get_model_info(model=model, custom_llm_provider=provider)
        return Decimal(repr(info["ocr_cost_per_page"])) * counts["pages"]
    get = counts.get
    details = {"cached_tokens": get("cache_read", 0), "cache_creation_tokens": get("cache_write", 0), "audio_tokens": get("input_audio", 0), "image_tokens": get("input_image", 0)}
    if "cache_write_1h" in counts:
        details["cache_creation_token_details"] = {"ephemeral_5m_input_tokens": get("cache_write") - get("cache_write_1h"), "ephemeral_1h_input_tokens": get("cache_write_1h")}
    if "cache_write_12h" in counts:
        details["cache_creation_token_details"] = {"ephemeral_12h_input_tokens": get("cache_write_12h")}
    usage = Usage(
        prompt_tokens=get("input", 0), completion_tokens=get("output", 0), total_tokens=get("input", 0) + get("output", 0), prompt_tokens_details=details,
        completion_tokens_details={"reasoning_tokens": get("reasoning", 0), "audio_tokens": get("output_audio", 0), "image_tokens": get("output_image", 0)},
        cache_read_input_tokens=get("cache_read", 0), cache_creation_input_tokens=get("cache_write", 0),
    )  # fmt: skip
    if "geo" in context:
        usage.inference_geo = context["geo"]
    if "speed" in context:
        usage.speed = context["speed"]
    if context.get("processing") == "batch":
        return sum(batch_cost_calculator(usage=usage, model=model, custom_llm_provider=provider))
    return sum(litellm.cost_per_token(model=model, custom_llm_provider=provider, usage_object=usage, service_tier=context.get("service_tier"), call_type="embedding" if shape == "embedding" else "completion"))


def number(price):
    return "?" if price is None else format(Decimal(repr(price) if isinstance(price, float) else price).quantize(Decimal(1).scaleb(-15)).normalize(), "f")


def line(provider, model, shape, counts, context, at, names, key=None):
    costs = []
    for f, arguments in ((genai, (names[0], model, counts, context, at)), (lite, (names[1], key or model, shape, counts, context, at))):
        try:
            cost = f(*arguments)
        except Exception:
            cost = None
        costs.append(number(cost))
    usage = " ".join(f"{k}={v}" for k, v in [*counts.items(), *context.items(), *([("at", at.strftime("%Y-%m-%dT%H:%M"))] if at != NOON else [])])
    return "\t".join([provider, model, shape, usage, *costs])


def entry(provider, model, file):
    """The key and the record of LiteLLM's file for a model; None, None where it has none."""
    for prefix in ("", provider + "/", provider + "/accounts/fireworks/models/"):
        for name in (model, model.lower()):
            if (record := file.get(prefix + name)) and record.get("litellm_provider", "").removesuffix("_converse") == provider:
                return (prefix + name).removeprefix(provider + "/"), record
    return None, None


def fits(shape, counts, context, record, prices, variants, steps):
    """Reports whether the shape says anything of the model."""
    embedding = not record.get("output_cost_per_token")
    needs = {
        "cached": "cache_read", "written": "cache_creation_input_token_cost", "written for an hour": "above_1hr", "read and written": "cache_creation_input_token_cost",
        "reasoning": "output_cost_per_token", "sound in": "input_cost_per_audio_token", "sound out": "output_cost_per_audio_token", "picture in": "input_cost_per_image_token",
        "picture out": "output_cost_per_image_token", "batch": "_batches", "flex": "_flex", "priority": "_priority", "priority, cached": "cache_read_input_token_cost_priority",
    }  # fmt: skip
    if shape == "embedding" or embedding:
        return shape == "embedding" and embedding
    if "long" in shape:
        return bool(steps) or any("_above_" in k and "tokens" in k for k in record)
    if shape == "fast" or shape == "in the USA":
        return bool((record.get("provider_specific_entry") or {}).get("fast" if shape == "fast" else "us"))
    if need := needs.get(shape):
        return any(need in k and v for k, v in record.items())
    return True


def main(folder):
    with open(os.path.dirname(litellm.__file__) + "/model_prices_and_context_window_backup.json") as f:
        file = json.load(f)
    known = {p.id: p for p in providers}
    lines = []
    for names in PROVIDERS:
        provider = known[names[0]]
        both = [m for m in provider.models if (entry(names[1], m.id, file)[1] or {}).get("input_cost_per_token")]
        more = [m.id for m in both if m.id not in names[2]]
        step = max(1, len(more) // names[3])
        for model in names[2] + more[::step][: names[3]]:
            key, record = entry(names[1], model, file)
            found = provider.find_model(model, all_providers=providers)
            if record is None or found is None:
                continue
            prices = found.get_prices(NOON)
            steps = any(hasattr(x, "tiers") for x in prices.__dict__.values())
            for shape, counts, context in SHAPES:
                if fits(shape, counts, context, record, prices, found.price_variants, steps):
                    lines.append(line(names[1], model, shape, counts, context, NOON, names, key))
    for genai_name, litellm_name, model, shape, counts in PRICED:
        lines.append(line(litellm_name, model, shape, counts, {}, NOON, (genai_name, litellm_name)))
    for model in ("deepseek-flash", "deepseek-v4-pro"):
        for time in TIMES:
            at = datetime.datetime.fromisoformat(time + "+00:00")
            lines.append(line("deepseek", model, "time of the day", {"input": 2000, "cache_read": 1000, "output": 1000}, {}, at, ("deepseek", "deepseek")))
    with open(folder + "/usages.txt", "w") as f:
        f.write(f"# Calculated by genai-prices {version('genai-prices')} (Copyright (c) Pydantic Services Inc., MIT license) and litellm {version('litellm')} (Copyright (c) Berri AI, MIT license). Written by make prices; read by TestUsages.\n")
        f.writelines(x + "\n" for x in lines)
    print(f"{len(lines)} usages of {len({x.split(chr(9))[0] for x in lines})} providers")


main(sys.argv[1])
