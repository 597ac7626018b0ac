"""posthog-python's wrapper of the openai package."""

from posthog.ai.openai import OpenAI
from setting import KEY, OPENAI, SESSION, TOOL, USER, WORDS, posthog

ph = posthog()
client = OpenAI(api_key=KEY, base_url=OPENAI, max_retries=0, posthog_client=ph)
who = {"posthog_distinct_id": USER, "posthog_trace_id": "posthog-openai", "posthog_properties": {"$ai_session_id": SESSION}}
ask = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": WORDS}]}
client.chat.completions.create(**ask, **who)
for _ in client.chat.completions.create(**ask, stream=True, **who):
    pass
client.chat.completions.create(**ask, tools=[{"type": "function", "function": TOOL}], **who)
client.responses.create(model="gpt-4.1-mini", input=WORDS, **who)
for _ in client.responses.create(model="gpt-4.1-mini", input=WORDS, stream=True, **who):
    pass
ph.shutdown()
