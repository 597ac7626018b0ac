// Connects a PostHog in a real browser, as its owner would: a wrong host, a
// wrong key, the right one; watches events arrive; pauses, resumes, deletes.
//
//   node connect.mjs BASE SIGN_IN_URL FOLDER
//
// POSTHOG, KEY and PERSONAL name the PostHog; CALL is a URL to which a POST
// makes an LLM call. Prints one line of JSON per step, and stops at the first
// failure.
import { base, enter, launch, shot, until, visit, ways } from "./look.mjs";

const { POSTHOG, KEY, PERSONAL } = process.env;
const browser = await launch();
const { page } = await visit(browser);
const project = base + "/p/default";

let n = 0;
async function step(name) {
  n++;
  for (const [width, scheme] of ways) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme: scheme });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 0) throw new Error(`${name} is ${wide} px too wide at ${width}`);
    await shot(page, `${String(n).padStart(2, "0")}-${name}-${width}-${scheme}`);
  }
  await page.setViewportSize({ width: 1440, height: 900 });
  await page.emulateMedia({ colorScheme: "light" });
  console.log(JSON.stringify({ step: name }));
}
async function sees(text) {
  await page.getByText(text).first().waitFor({ state: "visible" });
}
async function call() {
  const r = await fetch(base + "/v1/chat/completions", {
    method: "POST", headers: { "content-type": "application/json", authorization: "Bearer sk-e2e-caller", "x-hedgerow-surface": "Compose" },
    body: JSON.stringify({ model: "gpt-4.1-mini", messages: [{ role: "user", content: "Say hedgerow." }] }),
  });
  if (!r.ok) throw new Error("the call failed: " + r.status);
}
async function connect(fields) {
  for (const [label, value] of Object.entries(fields)) await page.getByLabel(label, { exact: false }).first().fill(value);
}

await enter(page);

await page.goto(project + "/analytics");
await sees("No PostHog project is connected");
await step("disconnected");
await page.getByRole("link", { name: "Connect PostHog" }).click();
await sees("Connect a PostHog project");
await step("form");

await connect({ "Project API key": KEY, Host: POSTHOG.replace(/:\d+$/, ":1") });
await page.getByRole("button", { name: "Test and save" }).click();
await sees("nothing was saved");
await sees("Fix:");
await step("wrong-host");

await connect({ "Project API key": "phc_nobody_has_this_key_0123456789abcdefgh", Host: POSTHOG });
await page.getByRole("button", { name: "Test and save" }).click();
await sees("nothing was saved");
await step("wrong-key");

await page.getByText("Batching, sampling, filters").click();
await connect({ "Project API key": KEY, Host: POSTHOG, "Flush interval": "0.1" });
await page.getByRole("button", { name: "Test and save" }).click();
await page.waitForURL(/connections\/c_/);
const connection = page.url();
await sees("Connected.");
await step("connected");

await page.getByRole("button", { name: "Test", exact: true }).click();
await sees("Test results");
if (await page.locator(".checks .bad").count()) throw new Error("the test of a good connection finds something");
await step("tested");
if ((await page.content()).includes(KEY)) throw new Error("the key is shown after saving");

await page.goto(project + "/analytics");
await sees("Add a personal API key");
await call();
await page.locator("#now tbody tr", { hasText: "Compose" }).first().waitFor(); // live: the page was not reloaded
await step("project-key-only");

await page.goto(connection);
await connect({ "Personal API key": PERSONAL });
await page.getByRole("button", { name: "Save", exact: true }).click();
await sees("Saved.");
const agree = await until(async () => {
  await page.goto(project + "/analytics");
  await sees("PostHog’s counts");
  return await page.getByText("The counts match").count() > 0;
});
if (!agree) throw new Error("the figures never agreed: " + (await page.locator("main").innerText()));
await step("personal-key");

await page.goto(connection);
await page.getByRole("button", { name: "Pause" }).click();
await sees("Delivery paused.");
for (let i = 0; i < 3; i++) await call();
const wait = await until(async () => {
  await page.goto(connection);
  return await page.getByText("3 events queued").count() > 0;
});
if (!wait) throw new Error("three events should wait: " + (await page.locator("main").innerText()));
await step("paused");
await page.getByRole("button", { name: "Resume" }).click();
await sees("Delivery resumed.");
await step("resumed");

await page.goto(connection);
await page.getByLabel("to confirm").fill("production");
await page.getByRole("button", { name: "Delete connection" }).click();
await sees("its keys erased");
await step("deleted");
await page.goto(project + "/analytics");
await sees("No PostHog project is connected");
await browser.close();
