// Goes from a check, by saving an answer, to two runs side by side, in a real
// browser; then checks each page at the widths of a desktop and of a phone,
// light and dark, and prints what it found as JSON, one line per page.
//
//   node evals.mjs BASE SIGN_IN_URL FOLDER
import { base, counts, drawn, enter, launch, schemes, shot, until, visit, ways } from "./look.mjs";

const browser = await launch();
const { page } = await visit(browser);
await enter(page);
const project = base + "/p/default";
const must = async (what, ok) => { if (!await ok) throw new Error(what + " at " + page.url() + "\n" + await page.locator("main").innerText()); };

// A check, which is tried on an answer.
await page.goto(project + "/evals");
await page.getByText("No checks yet").waitFor();
await page.getByRole("link", { name: "Length", exact: true }).click();
await page.locator("input[name=name]").fill("short enough");
await page.locator("input[name=max_chars]").fill("40");
await page.locator("input[name=sample]").fill("many");
await page.getByRole("button", { name: "Save" }).click();
await page.getByRole("alert").waitFor();
await must("a refused form keeps what was typed", (await page.locator("input[name=name]").inputValue()) === "short enough");
await page.locator("input[name=sample]").fill("100");
await page.getByRole("button", { name: "Save" }).click();
await page.waitForURL(/\/evals\/ev_/);
const check = page.url().slice(base.length);
await page.getByRole("button", { name: "Try" }).click();
await page.locator("[role=status] .pill.bad").waitFor();
await page.getByText("too_long").first().waitFor();

// A judge, whose reasoning is shown.
await page.goto(project + "/evals/new?kind=judge");
await page.locator("input[name=name]").fill("polite");
await page.locator("textarea[name=instruction]").fill("It is polite and answers the question.");
await page.locator("input[name=provider]").fill("openai");
await page.locator("input[name=model]").fill("gpt-4.1-nano");
await page.getByRole("button", { name: "Save" }).click();
await page.waitForURL(/\/evals\/ev_/);
const judge = page.url().slice(base.length);
await page.getByRole("button", { name: "Try" }).click();
await page.getByRole("link", { name: "Judge output" }).waitFor();

// New answers are checked; the page of an answer shows it.
await fetch(base + "/openai/v1/chat/completions", { method: "POST", headers: { "content-type": "application/json", authorization: "Bearer sk-e2e-caller", "x-posthog-trace-id": "walk", "x-hedgerow-surface": "Conversation" },
  body: JSON.stringify({ model: "gpt-4.1-mini", messages: [{ role: "user", content: "Where is my order? Tell me at length." }] }) });
await must("the answer is checked", until(async () => {
  await page.goto(base + "/traces/walk");
  return page.getByRole("region", { name: "Evaluations and feedback" }).isVisible();
}));
const trace = new URL(page.url()).pathname;
await page.goto(project + "/events?trace_id=walk&event=%24ai_generation");
await page.locator("td.t a").first().click();
await page.getByRole("region", { name: "Evaluations and feedback" }).waitFor();
const event = new URL(page.url()).pathname;

// It is saved to a dataset that does not exist yet, and others are imported.
await page.getByText("Save to a dataset").click();
await page.locator("input[name=name]").fill("golden");
await page.getByLabel("Use as expected response").check();
await page.getByRole("button", { name: "Save", exact: true }).click();
await page.getByText("Saved to dataset golden.").waitFor();
await page.goto(project + "/datasets");
await page.getByRole("link", { name: "golden" }).click();
await page.waitForURL(/\/datasets\/ds_/);
const set = new URL(page.url()).pathname;
await page.locator("summary", { hasText: "Import" }).click();
await page.locator("input[name=file]").setInputFiles({ name: "more.jsonl", mimeType: "application/jsonl",
  buffer: Buffer.from(["Can I send it back?", "Do you ship to Norway?", "Is it waterproof?"].map((input) => JSON.stringify({ input, provider: "openai", model: "gpt-4.1-mini" })).join("\n")) });
await page.getByRole("button", { name: "Import" }).click();
await page.getByText("3 examples imported.").waitFor();

// Two runs.
const run = async (model) => {
  await page.goto(base + set);
  if (!await page.getByRole("button", { name: "Start run" }).isVisible()) await page.locator("summary", { hasText: "New run" }).click();
  await page.locator("input[name=model]").fill(model);
  await page.getByRole("button", { name: "Start run" }).click();
  await page.waitForURL(/\/runs\/run_/);
  await page.locator(".sub .pill.good").waitFor().catch(async () => must("the page follows the run to its end", false));
  return new URL(page.url()).pathname;
};
await run("gpt-4.1-mini");
const second = await run("gpt-4.1");
await page.getByRole("button", { name: "Compare side by side" }).click();
await page.waitForURL(/\/compare\?/);
await must("four pairs", counts(page.locator(".pair"), 4));
const compare = page.url().slice(base.length);
await page.getByRole("link", { name: "trace", exact: true }).first().click();
await page.waitForURL(/\/traces\//);

const cookies = await page.context().cookies();
const pages = { evals: "/p/default/evals", check, judge, new: "/p/default/evals/new?kind=json_schema", event, trace, datasets: "/p/default/datasets", dataset: set, run: second, compare };
for (const [width, loaded] of ways) {
  const { page: p, trouble } = await visit(browser, { viewport: { width, height: 900 }, colorScheme: loaded });
  await p.context().addCookies(cookies);
  for (const [name, path] of Object.entries(pages)) {
    const source = await (await p.goto(base + path)).text();
    const inline = (source.match(/<[^>]+\sstyle=|<style|<script(?![^>]*\ssrc=)/g) ?? []).length;
    await drawn(p);
    await schemes(p, loaded, async (colorScheme, grave) => {
      const facts = await p.evaluate(() => ({
        overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        unnamed: [...document.querySelectorAll("a,button,input,select,textarea")].filter((e) =>
          !(e.matches("a,button") && e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length || e.type === "hidden" || e.closest("label"))).length,
      }));
      await shot(p, `${name}-${width}-${colorScheme}`);
      console.log(JSON.stringify({ name: `${name}-${width}-${colorScheme}`, path, inline, grave, ...facts, trouble: trouble.splice(0) }));
    });
  }
  await p.context().close();
}
await browser.close();
