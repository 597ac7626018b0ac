"""posthog-python's wrapper of the anthropic package."""

from posthog.ai.anthropic import Anthropic
from setting import ANTHROPIC, KEY, SESSION, USER, WORDS, posthog

ph = posthog()
client = Anthropic(api_key=KEY, base_url=ANTHROPIC, max_retries=0, posthog_client=ph)
who = {"posthog_distinct_id": USER, "posthog_trace_id": "posthog-anthropic", "posthog_properties": {"$ai_session_id": SESSION}}
ask = {"model": "claude-sonnet-4-5", "max_tokens": 400, "messages": [{"role": "user", "content": WORDS}]}
client.messages.create(**ask, **who)
for _ in client.messages.create(**ask, stream=True, **who):
    pass
ph.shutdown()
