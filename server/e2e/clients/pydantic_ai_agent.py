"""A pydantic-ai agent with one tool, and posthog-python's span processor."""

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from posthog import identify_context, new_context
from posthog.ai.otel import PostHogSpanProcessor
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from setting import HEDGEROW, KEY, OPENAI, SESSION, TOKEN, USER, WORDS

provider = TracerProvider()
provider.add_span_processor(PostHogSpanProcessor(api_key=TOKEN, host=HEDGEROW))
trace.set_tracer_provider(provider)
Agent.instrument_all()
agent = Agent(OpenAIChatModel("gpt-4.1-mini", provider=OpenAIProvider(base_url=OPENAI, api_key=KEY)))


@agent.tool_plain
def width(kind: str) -> str:
    """How wide a hedge is."""
    return "one metre"


with new_context():
    identify_context(USER)
    agent.run_sync(WORDS, conversation_id=SESSION)
provider.shutdown()
