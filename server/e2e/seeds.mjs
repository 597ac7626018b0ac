// A support backend that reports its model calls itself: posthog-node sends an
// event before each call and one after it. The Go test compares what hedgerow
// makes of the events with what PostHog receives from the same program
// directly.
//
// arguments: report HOST KEY PROVIDER  the reporting backend
//            wrap HOST KEY PROVIDER    @posthog/ai's client, with fields of the application's own in the call
import { OpenAI as WrappedOpenAI } from "@posthog/ai/openai";
import OpenAI from "openai";
import { PostHog } from "posthog-node";

const [mode, host, key, provider] = process.argv.slice(2);
const posthog = new PostHog(key, { host, flushAt: 3, flushInterval: 50, fetchRetryCount: 0 });
const clientOptions = { apiKey: "sk-e2e-caller-key-000000000000", baseURL: provider, maxRetries: 0 };
const question = "the wren nests in the blackthorn";

// A model that costs 2 dollars a million tokens in, 8 out.
async function askModel(openai, ticket) {
  const answer = await openai.chat.completions.create({ model: "gpt-4.1-mini", messages: [{ role: "user", content: question }] }, { headers: { "X-Sim": ticket.sim } });
  const { prompt_tokens: input_tokens, completion_tokens: output_tokens } = answer.usage;
  return { text: answer.choices[0].message.content, usage: { input_tokens, output_tokens }, estimated_cost_usd: (2 * input_tokens + 8 * output_tokens) / 1e6 };
}

async function replyTo(openai, ticket) {
  const about = {
    trace_id: `trace-${ticket.name}`, request_id: `request-${ticket.name}`, account_id: "account-7", prompt_name: "ticket_reply", prompt_version_id: "pv_2026_11_30_002",
    provider: "openai", model: "gpt-4.1-mini", environment: process.env.NODE_ENV,
    temperature: 0.2, retrieval_config_id: "rc_4", agent_config_id: "ac_9",
  };
  const report = (event, more) => posthog.capture({ distinctId: ticket.user, event, properties: { ...about, ...more } });
  const began = Date.now();
  report("llm_request_started");
  try {
    const result = await askModel(openai, ticket);
    report("llm_request_completed", {
      task_type: "ticket", latency_ms: Date.now() - began, ...result.usage, estimated_cost_usd: result.estimated_cost_usd, status: "success",
      input_length_bucket: "short", output_category: "answer_with_source", trace_url: `https://traces.example/${about.trace_id}`,
    });
    return { tokens: result.usage, cost: result.estimated_cost_usd };
  } catch (e) {
    report("llm_request_failed", { latency_ms: Date.now() - began, status: "error", error_type: e.constructor.name, error_code: e.code || "unknown" });
    return { type: e.constructor.name, code: e.code || "unknown" };
  }
}

async function reporting() {
  const openai = new OpenAI(clientOptions);
  const unreachable = new OpenAI({ ...clientOptions, baseURL: "http://127.0.0.1:1/v1" });
  return {
    plain: await replyTo(openai, { name: "plain", user: "user-ada", sim: "input=1200; output=300; first=30ms" }),
    other: await replyTo(openai, { name: "other", user: "user-bob", sim: "input=100; output=20; first=60ms" }),
    refused: await replyTo(openai, { name: "refused", user: "user-ada", sim: "rate_limit" }),
    away: await replyTo(unreachable, { name: "away", user: "user-ada", sim: "" }),
  };
}

async function wrapped() {
  const openai = new WrappedOpenAI({ ...clientOptions, defaultHeaders: { "X-Sim": "known_only" }, posthog }); // a provider that rejects unknown fields
  const out = {};
  for (const [name, stream] of [["whole", false], ["streamed", true]]) {
    const about = { user: "user_12", session: `session-${name}`, feature: "hedge_finder" };
    try {
      const answer = await openai.chat.completions.create({
        model: "gpt-4.1-mini", messages: [{ role: "user", content: question }], ...about, ...(stream ? { stream, stream_options: { include_usage: true } } : {}), posthogTraceId: `wrapped-${name}`,
      });
      out[name] = stream ? "" : answer.choices[0].message.content;
      if (stream) for await (const part of answer) out[name] += part.choices[0]?.delta?.content ?? "";
    } catch (e) {
      out[name] = `${e.status} ${e.message}`;
    }
  }
  return out;
}

const out = await { report: reporting, wrap: wrapped }[mode]();
await posthog.shutdown();
console.log(JSON.stringify(out));
