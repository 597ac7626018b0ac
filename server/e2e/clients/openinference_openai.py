"""OpenInference's instrumentation of the openai package."""

from openai import OpenAI
from openinference.instrumentation import using_session, using_user
from openinference.instrumentation.openai import OpenAIInstrumentor
from setting import KEY, OPENAI, SESSION, USER, WORDS, otlp

provider = otlp()
OpenAIInstrumentor().instrument(tracer_provider=provider)
client = OpenAI(api_key=KEY, base_url=OPENAI, max_retries=0)
ask = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": WORDS}]}
with using_session(SESSION), using_user(USER):
    client.chat.completions.create(**ask)
    for _ in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
        pass
provider.shutdown()
