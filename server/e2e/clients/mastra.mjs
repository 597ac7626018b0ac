// A Mastra agent with one tool. EXPORTER=posthog: by @mastra/posthog, else by OpenTelemetry.
import { createOpenAI } from "@ai-sdk/openai";
import { Agent } from "@mastra/core/agent";
import { Mastra } from "@mastra/core/mastra";
import { createTool } from "@mastra/core/tools";
import { Observability } from "@mastra/observability";
import { OtelExporter } from "@mastra/otel-exporter";
import { PosthogExporter } from "@mastra/posthog";
import { z } from "zod";
import { HEDGEROW, KEY, OPENAI, SESSION, TOKEN, USER, WORDS } from "./setting.mjs";

const exporter = process.env.EXPORTER === "posthog"
  ? new PosthogExporter({ apiKey: TOKEN, host: HEDGEROW })
  : new OtelExporter({ provider: { custom: { endpoint: HEDGEROW + "/v1/traces", protocol: "http/protobuf", headers: { Authorization: "Bearer " + TOKEN } } } });
const width = createTool({ id: "width", description: "How wide a hedge is", inputSchema: z.object({ kind: z.string() }), execute: async () => ({ width: "one metre" }) });
const agent = new Agent({ id: "hedge", name: "hedge", instructions: "Be short.", model: createOpenAI({ apiKey: KEY, baseURL: OPENAI }).chat("gpt-4.1-mini"), tools: { width } });
const mastra = new Mastra({ agents: { hedge: agent }, observability: new Observability({ configs: { hedgerow: { serviceName: "hedge", exporters: [exporter] } } }) });
await mastra.getAgent("hedge").generate(WORDS, { tracingOptions: { metadata: { userId: USER, sessionId: SESSION } } });
await exporter.flush?.();
await mastra.observability.shutdown?.();
await exporter.shutdown();
