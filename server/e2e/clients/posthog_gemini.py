"""posthog-python's wrapper of the google-genai package."""

from google.genai import types
from posthog.ai.gemini import Client
from setting import GEMINI, KEY, SESSION, USER, WORDS, posthog

ph = posthog()
client = Client(api_key=KEY, http_options=types.HttpOptions(base_url=GEMINI), posthog_client=ph)
who = {"posthog_distinct_id": USER, "posthog_trace_id": "posthog-gemini", "posthog_properties": {"$ai_session_id": SESSION}}
client.models.generate_content(model="gemini-2.5-flash", contents=WORDS, **who)
for _ in client.models.generate_content_stream(model="gemini-2.5-flash", contents=WORDS, **who):
    pass
ph.shutdown()
