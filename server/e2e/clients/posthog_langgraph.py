"""A LangGraph agent with one tool, and posthog-python's callback."""

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from posthog.ai.langchain import CallbackHandler
from setting import KEY, OPENAI, SESSION, USER, WORDS, posthog


def width(kind: str) -> str:
    """How wide a hedge is."""
    return "one metre"


ph = posthog()
agent = create_agent(ChatOpenAI(model="gpt-4.1-mini", api_key=KEY, base_url=OPENAI, max_retries=0), tools=[width])
handler = CallbackHandler(client=ph, distinct_id=USER, trace_id="posthog-langgraph", properties={"$ai_session_id": SESSION})
agent.invoke({"messages": [{"role": "user", "content": WORDS}]}, config={"callbacks": [handler]})
ph.shutdown()
