// The AI SDK with one tool; its own spans by OpenTelemetry's exporter.
import { createOpenAI } from "@ai-sdk/openai";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { context } from "@opentelemetry/api";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { HEDGEROW, KEY, OPENAI, SESSION, TOKEN, USER, WORDS } from "./setting.mjs";

context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
const provider = new BasicTracerProvider({
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url: HEDGEROW + "/v1/traces", headers: { Authorization: "Bearer " + TOKEN } }))],
});
const telemetry = { isEnabled: true, tracer: provider.getTracer("ai"), metadata: { userId: USER, sessionId: SESSION } };
const openai = createOpenAI({ apiKey: KEY, baseURL: OPENAI });
const width = tool({ description: "How wide a hedge is", inputSchema: z.object({ kind: z.string() }), execute: async () => "one metre" });
await generateText({ model: openai.chat("gpt-4.1-mini"), prompt: WORDS, tools: { width }, stopWhen: stepCountIs(3), maxRetries: 0, experimental_telemetry: telemetry });
for await (const _ of streamText({ model: openai.chat("gpt-4.1-mini"), prompt: WORDS, maxRetries: 0, experimental_telemetry: telemetry }).textStream);
await provider.shutdown();
