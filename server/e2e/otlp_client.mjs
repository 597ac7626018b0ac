// Exports one agent run with npm's OpenTelemetry exporters, as protobuf and as
// JSON, and prints the trace ids.
//
//   node otlp_client.mjs HOST TOKEN
import { context, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { OTLPTraceExporter as JSONExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtoExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const [host, token] = process.argv.slice(2);
const out = [];
for (const path of ["/v1/traces", "/i/v0/ai/otel"]) {
  for (const [encoding, Exporter] of [["protobuf", ProtoExporter], ["json", JSONExporter]]) {
    for (const compression of ["none", "gzip"]) {
      const exporter = new Exporter({ url: host + path, headers: { Authorization: `Bearer ${token}` }, compression });
      let failed;
      const watched = { // the processor does not report the result of an export
        export: (spans, done) => exporter.export(spans, (r) => { failed ??= r.error && String(r.error); done(r); }),
        shutdown: () => exporter.shutdown(), forceFlush: () => exporter.forceFlush(),
      };
      const provider = new BasicTracerProvider({ resource: resourceFromAttributes({ "service.name": "e2e-js" }),
        spanProcessors: [new BatchSpanProcessor(watched, { maxExportBatchSize: 2 })] });
      const tracer = provider.getTracer("e2e");
      const root = tracer.startSpan("invoke_agent helper", { attributes: { "gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": "conv-js", "user.id": "ada" } });
      const under = trace.setSpan(context.active(), root);
      const chat = tracer.startSpan("chat gpt-4.1-mini", { kind: SpanKind.CLIENT, attributes: {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4.1-mini", "gen_ai.response.model": "gpt-4.1-mini-2025-04-14", "gen_ai.response.id": `chatcmpl-${out.length}`,
        "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100, "gen_ai.response.finish_reasons": ["stop"], "user.id": "ada",
        "gen_ai.input.messages": JSON.stringify([{ role: "user", parts: [{ type: "text", content: "Which bird? 🐦" }] }]),
        "gen_ai.output.messages": JSON.stringify([{ role: "assistant", parts: [{ type: "text", content: "A wren." }], finish_reason: "stop" }]) } }, under);
      chat.end();
      const tool = tracer.startSpan("execute_tool search", { attributes: { "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search" } }, under);
      tool.recordException(new Error("the hedge is on fire"));
      tool.setStatus({ code: SpanStatusCode.ERROR, message: "the hedge is on fire" });
      tool.end();
      root.end();
      await provider.shutdown();
      out.push({ path, encoding, compression, trace: root.spanContext().traceId, failed });
    }
  }
}
console.log(JSON.stringify(out));
