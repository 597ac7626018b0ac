"""The openai package, with nothing but another base URL."""

from openai import OpenAI
from setting import HEADERS, KEY, OPENAI, TOOL, WORDS

client = OpenAI(api_key=KEY, base_url=OPENAI, default_headers=HEADERS, max_retries=0)
ask = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": WORDS}]}
client.chat.completions.create(**ask)
for _ in client.chat.completions.create(**ask, stream=True):
    pass
client.chat.completions.create(**ask, tools=[{"type": "function", "function": TOOL}])
client.responses.create(model="gpt-4.1-mini", input=WORDS)
for _ in client.responses.create(model="gpt-4.1-mini", input=WORDS, stream=True):
    pass
