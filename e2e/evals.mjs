// Walks from a check over an answer that is saved to two runs side by side, in a
// real browser; then looks at each page at the widths of a desk and of a phone,
// light and dark, and reports what it found as JSON, one line a page.
//
//   node evals.mjs BASE SIGN_IN_URL FOLDER
import { chromium } from "playwright-core";
import { existsSync } from "node:fs";
import { drawn, grave } from "./look.mjs";

const [base, signIn, folder] = process.argv.slice(2);
const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const first = await browser.newContext({ viewport: { width: 1440, height: 900 } });
const page = await first.newPage();
page.setDefaultTimeout(20_000);
await page.goto(signIn);
await page.getByRole("button").first().click();
await page.waitForURL(/\/(welcome|account)/);
const project = base + "/p/default";
const must = async (what, ok) => { if (!await ok) throw new Error(what + " at " + page.url() + "\n" + await page.locator("main").innerText()); };

// A check, which is tried on an answer.
await page.goto(project + "/evals");
await must("no check yet", page.getByText("No check yet").isVisible());
await page.getByRole("link", { name: "Length", exact: true }).click();
await page.locator("input[name=name]").fill("short enough");
await page.locator("input[name=max_chars]").fill("40");
await page.locator("input[name=sample]").fill("many");
await page.getByRole("button", { name: "Save" }).click();
await must("a refused form keeps what was typed", page.getByRole("alert").isVisible());
await must("the name", (await page.locator("input[name=name]").inputValue()) === "short enough");
await page.locator("input[name=sample]").fill("100");
await page.getByRole("button", { name: "Save" }).click();
await page.waitForURL(/\/evals\/ev_/);
const check = page.url().slice(base.length);
await page.getByRole("button", { name: "Try" }).click();
await page.locator("[role=status] .pill.bad").waitFor();
await must("the reason", page.getByText("too_long").first().isVisible());

// A judge, of whose verdict one can read the words.
await page.goto(project + "/evals/new?kind=judge");
await page.locator("input[name=name]").fill("polite");
await page.locator("textarea[name=instruction]").fill("It is polite and answers the question.");
await page.locator("input[name=provider]").fill("openai");
await page.locator("input[name=model]").fill("gpt-4.1-nano");
await page.getByRole("button", { name: "Save" }).click();
await page.waitForURL(/\/evals\/ev_/);
const judge = page.url().slice(base.length);
await page.getByRole("button", { name: "Try" }).click();
await page.getByRole("link", { name: "Judge’s words" }).waitFor();

// New answers are checked; the page of an answer shows it.
await fetch(base + "/openai/v1/chat/completions", { method: "POST", headers: { "content-type": "application/json", authorization: "Bearer sk-e2e-caller", "x-posthog-trace-id": "walk", "x-hedgerow-surface": "Conversation" },
  body: JSON.stringify({ model: "gpt-4.1-mini", messages: [{ role: "user", content: "Where is my order? Tell me at length." }] }) });
for (let i = 0; i < 100; i++) {
  await page.goto(base + "/traces/walk");
  if (await page.getByRole("region", { name: "Evaluations and feedback" }).isVisible()) break;
  await page.waitForTimeout(100);
}
const trace = new URL(page.url()).pathname;
await page.goto(project + "/events?trace_id=walk&event=%24ai_generation");
await page.locator("td.t a").first().click();
await page.getByRole("region", { name: "Evaluations and feedback" }).waitFor();
const event = new URL(page.url()).pathname;

// It is saved to a dataset that does not exist yet, and others are imported.
await page.getByText("Save to a dataset").click();
await page.locator("input[name=name]").fill("golden");
await page.getByLabel("The answer is good").check();
await page.getByRole("button", { name: "Save", exact: true }).click();
await page.getByText("Saved to the dataset golden.").waitFor();
await page.goto(project + "/datasets");
await page.getByRole("link", { name: "golden" }).click();
await page.waitForURL(/\/datasets\/ds_/);
const set = new URL(page.url()).pathname;
await page.locator("summary", { hasText: "Import" }).click();
await page.locator("input[name=file]").setInputFiles({ name: "more.jsonl", mimeType: "application/jsonl",
  buffer: Buffer.from(["Can I send it back?", "Do you ship to Norway?", "Is it waterproof?"].map((input) => JSON.stringify({ input, provider: "openai", model: "gpt-4.1-mini" })).join("\n")) });
await page.getByRole("button", { name: "Import" }).click();
await page.getByText("3 examples are imported.").waitFor();

// Two runs.
const run = async (model) => {
  await page.goto(base + set);
  if (!await page.getByRole("button", { name: "Start the run" }).isVisible()) await page.locator("summary", { hasText: "New run" }).click();
  await page.locator("input[name=model]").fill(model);
  await page.getByRole("button", { name: "Start the run" }).click();
  await page.waitForURL(/\/runs\/run_/);
  await page.locator(".sub .pill.good").waitFor().catch(async () => must("the page follows the run to its end", false));
  return new URL(page.url()).pathname;
};
await run("gpt-4.1-mini");
const second = await run("gpt-4.1");
await page.getByRole("button", { name: "Side by side" }).click();
await page.waitForURL(/\/compare\?/);
await must("four pairs", (await page.locator(".pair").count()) === 4);
const compare = page.url().slice(base.length);
await page.getByRole("link", { name: "trace", exact: true }).first().click();
await page.waitForURL(/\/traces\//);

const cookies = await first.cookies();
const pages = { evals: "/p/default/evals", check, judge, new: "/p/default/evals/new?kind=json_schema", event, trace, datasets: "/p/default/datasets", dataset: set, run: second, compare };
for (const width of [1440, 390]) {
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, reducedMotion: "reduce" });
    await context.addCookies(cookies);
    const p = await context.newPage();
    const trouble = [];
    p.on("console", (m) => { if (m.type() === "error") trouble.push(m.text()); });
    p.on("pageerror", (e) => trouble.push(String(e)));
    for (const [name, path] of Object.entries(pages)) {
      const source = await (await p.goto(base + path)).text();
      await drawn(p);
      const facts = await p.evaluate(() => ({
        overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        unnamed: [...document.querySelectorAll("a,button,input,select,textarea")].filter((e) =>
          !(e.matches("a,button") && e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length || e.type === "hidden" || e.closest("label"))).length,
      }));
      facts.inline = (source.match(/<[^>]+\sstyle=|<style|<script(?![^>]*\ssrc=)/g) ?? []).length;
      await p.screenshot({ path: `${folder}/${name}-${width}-${colorScheme}.png`, fullPage: true });
      console.log(JSON.stringify({ name: `${name}-${width}-${colorScheme}`, path, trouble: trouble.splice(0), grave: await grave(p), ...facts }));
    }
    await context.close();
  }
}
await browser.close();
