// Drives npm's posthog-node and @posthog/ai, unchanged except for the host, and
// prints what the callers received. The Go test compares what was stored with
// what PostHog would have received.
import { Anthropic } from "@posthog/ai/anthropic";
import { OpenAI } from "@posthog/ai/openai";
import { PostHog } from "posthog-node";

const [host, key, openaiURL, anthropicURL, which] = process.argv.slice(2);
const posthog = new PostHog(key, { host, flushAt: 3, flushInterval: 50, fetchRetryCount: 0, disableGeoip: false });
const openai = new OpenAI({ apiKey: "sk-e2e-caller-key-000000000000", baseURL: openaiURL, maxRetries: 0, posthog });
const anthropic = new Anthropic({ apiKey: "sk-ant-e2e-caller-key-0000000000", baseURL: anthropicURL, maxRetries: 0, posthog });
const messages = [{ role: "user", content: "Which bird nests in the hedge? 🐦" }];
const tools = [{ type: "function", function: { name: "get_weather", description: "Weather of a place", parameters: { type: "object", properties: { place: { type: "string" } } } } }];
const out = {};

const by = (trace) => ({ posthogDistinctId: "user-js", posthogTraceId: trace, posthogProperties: { plan: "pro", nested: { a: [1, 2.5, null] } }, posthogGroups: { company: "acme" } });

if (which !== "gateway") {
  posthog.capture({ distinctId: "user-js", event: "prompt_shared", properties: { surface: "Chat", n: 1.5, list: [1, "two", null], $set: { plan: "pro" }, $set_once: { first: "x" } }, groups: { company: "acme" } });
  posthog.identify({ distinctId: "user-js", properties: { email: "user@example.com" } });
  posthog.alias({ distinctId: "user-js", alias: "user-other" });
  posthog.groupIdentify({ groupType: "company", groupKey: "acme", properties: { seats: 12 } });
  posthog.captureException(new Error("the hedge is on fire"), "user-js", { where: "test" });
  await posthog.captureImmediate({ distinctId: "user-js", event: "immediate", properties: { text: "ümläut \u0000 <&> \"quoted\" \\ 猫" }, timestamp: new Date(Date.now() - 3600_000) });
  out.flags = await posthog.getAllFlags("user-js");
  out.beta = await posthog.isFeatureEnabled("beta", "user-js");
}

await openai.chat.completions.create({ model: "gpt-4.1-mini", messages, tools, temperature: 0.2, ...by("js-chat") });
for await (const _ of await openai.chat.completions.create({ model: "gpt-4.1-mini", messages, stream: true, stream_options: { include_usage: true }, ...by("js-chat-stream") }));
await anthropic.messages.create({ model: "claude-sonnet-4-5", max_tokens: 100, system: "Be brief.", messages, ...by("js-messages") });
for await (const _ of await anthropic.messages.create({ model: "claude-sonnet-4-5", max_tokens: 100, messages, stream: true, ...by("js-messages-stream") }));
if (which !== "gateway") {
  await openai.chat.completions.create({ model: "gpt-4.1-mini", messages, posthogPrivacyMode: true, posthogTraceId: "js-private" });
  await openai.responses.create({ model: "gpt-4.1-mini", input: "Which bird?", instructions: "Be brief.", ...by("js-responses") });
  await openai.embeddings.create({ model: "text-embedding-3-small", input: ["wren", "robin"], ...by("js-embeddings") });
  await openai.chat.completions.create({ model: "gpt-4.1-mini", messages, ...by("js-error") }, { headers: { "X-Sim": "rate_limit" } }).catch((e) => { out.error = e.status; });
}
await posthog.shutdown();
console.log(JSON.stringify(out));
