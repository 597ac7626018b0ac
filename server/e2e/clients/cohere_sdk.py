"""The cohere package, version 2 of the API, with nothing but another base URL."""

import cohere
import httpx
from setting import COHERE, HEADERS, KEY, TOOL, WORDS

client = cohere.ClientV2(api_key=KEY, base_url=COHERE, httpx_client=httpx.Client(headers=HEADERS))
ask = {"model": "command-a-03-2025", "messages": [{"role": "user", "content": WORDS}]}
client.chat(**ask)
for _ in client.chat_stream(**ask):
    pass
client.chat(**ask, tools=[{"type": "function", "function": TOOL}])
