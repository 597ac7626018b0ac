"""The litellm package: plain, or with its callback for PostHog."""

import os

from setting import ANTHROPIC, HEADERS, HEDGEROW, KEY, OPENAI, REPORT, SESSION, TOKEN, USER, WORDS

os.environ.update(POSTHOG_API_KEY=TOKEN, POSTHOG_API_URL=HEDGEROW, LITELLM_LOCAL_MODEL_COST_MAP="True")
import litellm  # noqa: E402

if REPORT:
    litellm.success_callback = ["posthog"]
who = {"metadata": {"user_id": USER, "$ai_session_id": SESSION}} if REPORT else {"extra_headers": HEADERS}
ask = {"messages": [{"role": "user", "content": WORDS}], "api_key": KEY, "num_retries": 0}
litellm.completion(model="openai/gpt-4.1-mini", api_base=OPENAI, **ask, **who)
for _ in litellm.completion(model="openai/gpt-4.1-mini", api_base=OPENAI, stream=True, stream_options={"include_usage": True}, **ask, **who):
    pass
litellm.completion(model="anthropic/claude-sonnet-4-5", api_base=ANTHROPIC, **ask, **who)
