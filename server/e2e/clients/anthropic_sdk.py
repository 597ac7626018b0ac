"""The anthropic package, with nothing but another base URL."""

from anthropic import Anthropic
from setting import ANTHROPIC, HEADERS, KEY, TOOL, WORDS

client = Anthropic(api_key=KEY, base_url=ANTHROPIC, default_headers=HEADERS, max_retries=0)
ask = {"model": "claude-sonnet-4-5", "max_tokens": 400, "messages": [{"role": "user", "content": WORDS}]}
client.messages.create(**ask)
for _ in client.messages.create(**ask, stream=True):
    pass
client.messages.create(**ask, tools=[{"name": TOOL["name"], "input_schema": TOOL["parameters"]}])
with client.messages.stream(**ask) as stream:
    stream.get_final_message()
