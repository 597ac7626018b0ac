"""What a program of this folder learns from its environment: see TestClients."""

import os

HEDGEROW = os.environ["HEDGEROW"]
TOKEN = os.environ["TOKEN"]  # hedgerow's project token, for what reports
REPORT = os.environ.get("REPORT") == "1"  # the client reports its calls to hedgerow

OPENAI = os.environ["OPENAI"]  # base URLs: hedgerow's gateway or the provider itself
ANTHROPIC = os.environ["ANTHROPIC"]
GEMINI = os.environ["GEMINI"]
BEDROCK = os.environ["BEDROCK"]
COHERE = os.environ["COHERE"]

USER, SESSION = "ada", "session-ada"
KEY = "sk-caller-0000000000000000"
WORDS = "Which bird nests in the hedge?"

# A client that reports nothing says who calls in hedgerow's headers.
HEADERS = {} if REPORT else {"X-PostHog-Distinct-Id": USER, "X-PostHog-Session-Id": SESSION}

TOOL = {
    "name": "width",
    "description": "How wide a hedge is",
    "parameters": {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]},
}


def posthog():
    from posthog import Posthog

    return Posthog(TOKEN, host=HEDGEROW, flush_at=1)


def otlp():
    """A tracer provider whose spans go to hedgerow."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(HEDGEROW + "/v1/traces", headers={"Authorization": "Bearer " + TOKEN})))
    trace.set_tracer_provider(provider)
    return provider
