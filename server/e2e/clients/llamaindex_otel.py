"""LlamaIndex's OpenAI client with OpenInference's instrumentation."""

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI
from openinference.instrumentation import using_session, using_user
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from setting import KEY, OPENAI, SESSION, USER, WORDS, otlp

provider = otlp()
LlamaIndexInstrumentor().instrument(tracer_provider=provider)
llm = OpenAI(model="gpt-4.1-mini", api_key=KEY, api_base=OPENAI, max_retries=0)
with using_session(SESSION), using_user(USER):
    llm.chat([ChatMessage(role="user", content=WORDS)])
    llm.complete(WORDS)
provider.shutdown()
