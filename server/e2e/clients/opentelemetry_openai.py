"""OpenTelemetry's own instrumentation of the openai package, under a span of the program's."""

from openai import OpenAI
from opentelemetry import trace
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from setting import KEY, OPENAI, SESSION, USER, WORDS, otlp

provider = otlp()
OpenAIInstrumentor().instrument(tracer_provider=provider)
client = OpenAI(api_key=KEY, base_url=OPENAI, max_retries=0)
ask = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": WORDS}]}
with trace.get_tracer("program").start_as_current_span("answer", attributes={"user.id": USER, "session.id": SESSION}):
    client.chat.completions.create(**ask)
    for _ in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
        pass
provider.shutdown()
