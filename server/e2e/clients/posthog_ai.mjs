// @posthog/ai's wrapper of the openai package.
import { OpenAI } from "@posthog/ai/openai";
import { PostHog } from "posthog-node";
import { HEDGEROW, KEY, OPENAI, SESSION, TOKEN, USER, WORDS } from "./setting.mjs";

const posthog = new PostHog(TOKEN, { host: HEDGEROW, flushAt: 1 });
const client = new OpenAI({ apiKey: KEY, baseURL: OPENAI, maxRetries: 0, posthog });
const ask = { model: "gpt-4.1-mini", messages: [{ role: "user", content: WORDS }] };
const who = { posthogDistinctId: USER, posthogTraceId: "posthog-ai", posthogProperties: { $ai_session_id: SESSION } };
await client.chat.completions.create({ ...ask, ...who });
for await (const _ of await client.chat.completions.create({ ...ask, ...who, stream: true, stream_options: { include_usage: true } }));
await client.responses.create({ model: "gpt-4.1-mini", input: WORDS, ...who });
await posthog.shutdown();
