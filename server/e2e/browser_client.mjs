// Uses npm's posthog-js in Chromium as a site does, on a page of another origin
// than its host, and leaves the page with events still queued. Prints what the
// page received.
//
//   node browser_client.mjs PAGE
import { launch, patience, visit } from "./look.mjs";

const [url] = process.argv.slice(2);
const browser = await launch();
const { page, trouble } = await visit(browser);
const out = { trouble, requests: [] };
setTimeout(() => { console.error("it hangs:", JSON.stringify(out)); process.exit(1); }, patience).unref();
page.on("requestfailed", (r) => out.trouble.push(`${r.method()} ${new URL(r.url()).pathname}: ${r.failure()?.errorText}`));
page.on("response", (r) => out.requests.push({ method: r.request().method(), path: new URL(r.url()).pathname, type: r.request().resourceType(), status: r.status() }));

await page.goto(url);
await page.waitForFunction(() => window.flags);
Object.assign(out, await page.evaluate(async () => {
  const { posthog } = window;
  posthog.capture("prompt_shared", { surface: "Chat", n: 1.5, list: [1, "two", null], nested: { a: { b: "ümläut \u0000 <&> \"quoted\" \\ 猫" } } });
  posthog.register({ release: "1.2.3" });
  posthog.identify("user-browser", { email: "user@example.com" }, { first_seen: "2026-01-01" });
  posthog.group("company", "acme", { seats: 12 });
  posthog.capture("$ai_generation", { $ai_trace_id: "js-browser", $ai_provider: "openai", $ai_model: "gpt-4.1-mini", $ai_input: [{ role: "user", content: "hi" }],
    $ai_output_choices: [{ role: "assistant", content: "ho" }], $ai_input_tokens: 10, $ai_output_tokens: 3, $ai_latency: 0.25, $ai_http_status: 200 });
  posthog.capture("at once", {}, { send_instantly: true });
  // Not a "simple" request: the browser sends a preflight request first.
  const told = await fetch(posthog.config.api_host + "/i/v0/e/", { method: "POST", headers: { "content-type": "application/json", "x-mine": "1" },
    body: JSON.stringify({ api_key: posthog.config.token, event: "asked first", distinct_id: "user-browser", uuid: crypto.randomUUID(), properties: { $lib: "fetch", $lib_version: "1" }, timestamp: new Date() }) });
  return { told: await told.json(), beta: posthog.isFeatureEnabled("beta"), color: posthog.getFeatureFlag("color"), recording: posthog.sessionRecordingStarted() };
}));
await page.waitForTimeout(500);
await page.evaluate(() => window.posthog.capture("last words", { why: "unload" }));
await page.goto("about:blank"); // $pageleave and queued events are sent by sendBeacon
await page.waitForTimeout(500);
await browser.close();
console.log(JSON.stringify(out));
