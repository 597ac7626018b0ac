"""The google-genai package, with nothing but another base URL."""

from google import genai
from google.genai import types
from setting import GEMINI, HEADERS, KEY, TOOL, WORDS

client = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=GEMINI, headers=HEADERS))
client.models.generate_content(model="gemini-2.5-flash", contents=WORDS)
for _ in client.models.generate_content_stream(model="gemini-2.5-flash", contents=WORDS):
    pass
tool = types.Tool(function_declarations=[types.FunctionDeclaration(name=TOOL["name"], parameters_json_schema=TOOL["parameters"])])
client.models.generate_content(model="gemini-2.5-flash", contents=WORDS, config=types.GenerateContentConfig(tools=[tool]))
