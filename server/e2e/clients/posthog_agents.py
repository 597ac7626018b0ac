"""The openai-agents package with one tool, and posthog-python's tracing."""

import asyncio

from agents import Agent, Runner, function_tool, set_default_openai_client
from agents.tracing import set_trace_processors
from openai import AsyncOpenAI
from posthog.ai.openai_agents import instrument
from setting import KEY, OPENAI, SESSION, USER, WORDS, posthog


@function_tool
def width(kind: str) -> str:
    """How wide a hedge is."""
    return "one metre"


ph = posthog()
set_trace_processors([])  # OpenAI's own tracing cannot be reached
set_default_openai_client(AsyncOpenAI(api_key=KEY, base_url=OPENAI, max_retries=0), use_for_tracing=False)
instrument(client=ph, distinct_id=USER, properties={"$ai_session_id": SESSION})
asyncio.run(Runner.run(Agent(name="hedge", model="gpt-4.1-mini", tools=[width]), WORDS))
ph.shutdown()
