"""The Langfuse SDK's wrapper of the openai package; its spans go to hedgerow too."""

from langfuse import Langfuse, propagate_attributes
from setting import KEY, OPENAI, SESSION, TOOL, USER, WORDS, otlp

provider = otlp()
langfuse = Langfuse(public_key="pk-lf-0", secret_key="sk-lf-0", base_url="http://127.0.0.1:9", tracer_provider=provider)
from langfuse.openai import OpenAI  # noqa: E402

client = OpenAI(api_key=KEY, base_url=OPENAI, max_retries=0)
with langfuse.start_as_current_observation(name="answer", as_type="span"), propagate_attributes(user_id=USER, session_id=SESSION):
    client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": WORDS}], tools=[{"type": "function", "function": TOOL}])
provider.force_flush()
