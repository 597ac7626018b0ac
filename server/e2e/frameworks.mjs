// Calls a model through frameworks that report to PostHog, as in
// docs/clients/langchain.md and docs/clients/vercel-ai-sdk.md, with hedgerow as
// the host, and prints the traces.
//
//   node frameworks.mjs HOST TOKEN OPENAI_BASE_URL
import { createOpenAI } from "@ai-sdk/openai";
import { ChatOpenAI } from "@langchain/openai";
import { trace } from "@opentelemetry/api";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { LangChainCallbackHandler } from "@posthog/ai/langchain";
import { PostHogSpanProcessor, PostHogTraceExporter } from "@posthog/ai/otel";
import { withTracing } from "@posthog/ai/vercel";
import { generateText, streamText } from "ai";
import { PostHog } from "posthog-node";

const [host, token, baseURL] = process.argv.slice(2);
const posthog = new PostHog(token, { host, flushAt: 1 });
const apiKey = "sk-e2e-caller-key-000000000000";
const words = "Which bird nests in the hedge? 🐦";
const out = {};

// LangChain.js
const langchain = new ChatOpenAI({ model: "gpt-4.1-mini", apiKey, maxRetries: 0, configuration: { baseURL } });
for (const [name, call] of [
  ["langchain", (callbacks) => langchain.invoke(words, { callbacks })],
  ["langchain-stream", async (callbacks) => { for await (const _ of await langchain.stream(words, { callbacks })); }],
]) {
  await call([new LangChainCallbackHandler({ client: posthog, distinctId: "ada", traceId: name, properties: { plan: "pro" } })]);
  out[name] = name;
}

// Vercel AI SDK, with PostHog's wrapper
const vercel = createOpenAI({ apiKey, baseURL });
const model = (name) => withTracing(vercel.chat("gpt-4.1-mini"), posthog, { posthogDistinctId: "ada", posthogTraceId: name, posthogProperties: { plan: "pro" } });
await generateText({ model: model("vercel"), prompt: words, maxRetries: 0 });
out["vercel"] = "vercel";
const stream = streamText({ model: model("vercel-stream"), prompt: words, maxRetries: 0 });
for await (const _ of stream.textStream);
out["vercel-stream"] = "vercel-stream";

// Vercel AI SDK's own spans, by PostHog's processor and by its exporter
for (const [name, processor] of [
  ["vercel-processor", new PostHogSpanProcessor({ projectToken: token, host })],
  ["vercel-exporter", new BatchSpanProcessor(new PostHogTraceExporter({ projectToken: token, host }))],
]) {
  const provider = new BasicTracerProvider({ spanProcessors: [processor] });
  const tracer = provider.getTracer("ai");
  let id;
  const watched = { // the SDK does not return the trace's id
    startSpan: (...a) => { const s = tracer.startSpan(...a); id = s.spanContext().traceId; return s; },
    startActiveSpan: (n, ...a) => tracer.startActiveSpan(n, ...a.slice(0, -1), (s) => { id = s.spanContext().traceId; return a.at(-1)(s); }),
  };
  await generateText({ model: vercel.chat("gpt-4.1-mini"), prompt: words, maxRetries: 0, experimental_telemetry: { isEnabled: true, tracer: watched, metadata: { posthog_distinct_id: "ada", plan: "pro" } } });
  await provider.shutdown();
  out[name] = id;
  trace.disable();
}

await posthog.shutdown();
console.log(JSON.stringify(out));
