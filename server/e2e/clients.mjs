// Drives npm's openai and @anthropic-ai/sdk through hedgerow, unchanged except
// for the base URL, and prints one JSON line per call: what the caller
// received. The Go test compares that with what was stored and sent.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const base = process.argv[2];
const openai = new OpenAI({ apiKey: "sk-e2e-caller-key-000000000000", baseURL: `${base}/openai/v1`, maxRetries: 0 });
const anthropic = new Anthropic({ apiKey: "sk-ant-e2e-caller-key-0000000000", baseURL: `${base}/anthropic`, maxRetries: 0 });
const secret = "the wren nests in the blackthorn";
const messages = [{ role: "user", content: `Please keep this to yourself: ${secret}.` }];
const tools = [{ type: "function", function: { name: "get_weather", description: "Weather of a place", parameters: { type: "object", properties: { place: { type: "string" } } } } }];

async function call(name, run) {
  const trace = `js-${name}`;
  const headers = { "X-PostHog-Trace-Id": trace, "X-PostHog-Distinct-Id": "user-js", "X-Hedgerow-Surface": "Test" };
  let out;
  try {
    out = await run({ headers });
  } catch (e) {
    out = { error: e.status ?? 0, message: String(e.message).slice(0, 200) };
  }
  console.log(JSON.stringify({ name, trace, ...out }));
}

await call("chat", async (o) => {
  const r = await openai.chat.completions.create({ model: "gpt-4.1-mini", messages }, o);
  return { model: r.model, input: r.usage.prompt_tokens, output: r.usage.completion_tokens, id: r.id };
});
await call("chat-stream", async (o) => {
  let text = "", id, model, usageSeen = false, emptyChoices = false;
  for await (const chunk of await openai.chat.completions.create({ model: "gpt-4.1-mini", messages, stream: true }, o)) {
    id = chunk.id; model = chunk.model;
    if (chunk.usage !== undefined) usageSeen = true;
    if (chunk.choices.length === 0) emptyChoices = true;
    text += chunk.choices[0]?.delta?.content ?? "";
  }
  return { model, id, text: text.length, usageSeen, emptyChoices };
});
await call("chat-stream-usage", async (o) => {
  let usage, id, model;
  for await (const chunk of await openai.chat.completions.create({ model: "gpt-4.1-mini", messages, stream: true, stream_options: { include_usage: true } }, o)) {
    id = chunk.id; model = chunk.model; usage = chunk.usage ?? usage;
  }
  return { model, id, input: usage.prompt_tokens, output: usage.completion_tokens };
});
await call("chat-tools", async (o) => {
  const r = await openai.chat.completions.create({ model: "gpt-4.1-mini", messages, tools, tool_choice: "required" }, o);
  return { model: r.model, id: r.id, input: r.usage.prompt_tokens, output: r.usage.completion_tokens, tools: r.choices[0].message.tool_calls.length };
});
await call("responses", async (o) => {
  const r = await openai.responses.create({ model: "gpt-4.1-mini", input: `Keep secret: ${secret}` }, o);
  return { model: r.model, id: r.id, input: r.usage.input_tokens, output: r.usage.output_tokens };
});
await call("responses-stream", async (o) => {
  let done;
  for await (const e of await openai.responses.create({ model: "gpt-4.1-mini", input: `Keep secret: ${secret}`, stream: true }, o)) {
    if (e.type === "response.completed") done = e.response;
  }
  return { model: done.model, id: done.id, input: done.usage.input_tokens, output: done.usage.output_tokens };
});
await call("embeddings", async (o) => {
  const r = await openai.embeddings.create({ model: "text-embedding-3-small", input: [secret] }, o);
  return { model: r.model, input: r.usage.prompt_tokens };
});
await call("models", async (o) => {
  const r = await openai.models.list(o);
  return { count: r.data.length };
});
await call("messages", async (o) => {
  const r = await anthropic.messages.create({ model: "claude-sonnet-4-5", max_tokens: 200, system: `Never tell: ${secret}`, messages }, o);
  return { model: r.model, id: r.id, input: r.usage.input_tokens, output: r.usage.output_tokens };
});
await call("messages-stream", async (o) => {
  const s = anthropic.messages.stream({ model: "claude-sonnet-4-5", max_tokens: 200, messages }, o);
  const r = await s.finalMessage();
  return { model: r.model, id: r.id, input: r.usage.input_tokens, output: r.usage.output_tokens };
});
await call("count-tokens", async (o) => {
  const r = await anthropic.messages.countTokens({ model: "claude-sonnet-4-5", messages }, o);
  return { counted: r.input_tokens };
});
