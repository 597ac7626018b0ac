// Uses the pages of a demo as a person would, then checks each of them at the
// widths of a desktop and of a phone, light and dark. Prints one line of JSON
// per task and per page; the Go test that starts it evaluates them.
//
//   node demo.mjs BASE SIGN_IN_URL FOLDER
import { base, drawn, enter, grave, launch, schemes, shot, until, visit, watch, ways, weigh } from "./look.mjs";

const browser = await launch();
const say = (o) => console.log(JSON.stringify(o));

const { page } = await visit(browser);
await enter(page);
const storageState = await page.context().storageState();

let clicks = 0;
const go = async (act) => { clicks++; await Promise.all([page.waitForURL((u) => u.href !== here), act()]); here = page.url(); };
let here = "";
const start = async () => { await page.goto(base + "/p/default/overview"); clicks = 0; here = page.url(); };
const canvas = () => page.waitForSelector("canvas");

// Which prompt version made errors jump last Tuesday? Show me one such call.
await start();
await go(() => page.getByRole("link", { name: "Dashboards", exact: true }).click());
await canvas();
// The chart's legend and its table name the version of the most failures first.
const rate = page.locator("section", { has: page.getByRole("heading", { name: "Error rate by prompt version" }) });
await rate.locator("summary").click(); clicks++;
const tuesday = new Date();
do tuesday.setUTCDate(tuesday.getUTCDate() - 1); while (tuesday.getUTCDay() !== 2);
const dayOf = (d) => d.toLocaleDateString("en-GB", { weekday: "short", day: "2-digit", month: "short", timeZone: "UTC" }).replace(",", "");
let jump = rate.locator("tbody tr", { hasText: dayOf(tuesday) });
if (!await jump.count()) { // on a Tuesday the last one is no longer in the seven days: it lasted until Wednesday
  tuesday.setUTCDate(tuesday.getUTCDate() + 1);
  jump = rate.locator("tbody tr", { hasText: dayOf(tuesday) });
}
// The row of that day says which version it was; its number shows the failures.
const [worst, column] = await jump.evaluate((row) => {
  const heads = [...row.closest("table").tHead.rows[0].cells].map((h) => h.textContent.trim());
  const rates = [...row.cells].map((c) => Number(c.dataset.value || -1));
  const most = rates.indexOf(Math.max(...rates));
  return [heads[most], most];
});
const drawer = page.locator("#drawer");
await jump.locator("td").nth(column).getByRole("button").click(); clicks++;
await drawer.locator(".examples li").first().waitFor();
const body = await drawer.textContent();
await go(() => drawer.locator(".examples a").first().click());
say({ walk: "which prompt version made errors jump last Tuesday", clicks, found: /\/traces\//.test(here) && worst === "support_answer@4" && body.includes("does not match the schema") && body.includes("support_answer@4") && body.includes(tuesday.toISOString().slice(0, 10)) });

// What did user X cost this week, and why?
await start();
await go(() => page.getByRole("link", { name: "Users", exact: true }).click());
await go(() => page.locator("table tbody a").first().click());
await drawn(page);
const spent = await page.locator("main").textContent();
await go(() => page.locator("section", { has: page.getByRole("heading", { name: "Most expensive traces" }) }).locator("tbody a").first().click());
say({ walk: "what did a user cost and why", clicks, found: /Cost\s*\$\d/.test(spent) && spent.includes("by model") && (await page.locator("table.fall tr").count()) > 1 });

// A click into a chart shows examples of that point, and leads to all of them.
await page.goto(base + "/p/default/traffic?range=14d");
await canvas();
here = page.url(); clicks = 0;
const box = await page.locator("[data-chart=t-by-model] canvas").boundingBox();
await page.mouse.click(box.x + box.width * 0.6, box.y + box.height * 0.75); clicks++;
await drawer.locator(".examples li").first().waitFor();
await go(() => drawer.locator("a.all").click());
say({ walk: "a click into a chart", clicks, found: /\/events\?/.test(here) && new URL(here).searchParams.has("from") && new URL(here).searchParams.get("measure") === "calls" && (await page.locator("td.t").count()) > 0 });

// A dashboard, by keyboard: a copied chart, a new one, arranged.
const press = async (locator, to) => { await locator.focus(); await Promise.all([page.waitForURL(to), page.keyboard.press("Enter")]); };
const pick = async (name, value, to) => { await page.getByRole("combobox", { name, exact: true }).selectOption(value); await page.waitForURL(to); };
await page.goto(base + "/p/default/traffic?range=30d&prompt_name=support_answer");
await press(page.getByRole("link", { name: "Open in chart builder: Error rate by prompt version" }), /explore/);
await page.getByLabel("Title").fill("Which version fails");
await page.getByLabel("New dashboard name").fill("Support");
await press(page.getByRole("button", { name: "Save" }), /dashboards\/d_/);
await press(page.getByRole("link", { name: "Add a chart" }), /explore/);
await pick("Metric", "cost_usd", /m=cost_usd/);
await pick("Break down by", "model_asked", /by=model_asked/);
await pick("Chart type", "stack", /draw=stack/);
await page.getByLabel("Title").fill("What it costs");
await press(page.getByRole("button", { name: "Save" }), /dashboards\/d_/);
await press(page.getByRole("link", { name: "Arrange" }), /edit=1/);
await press(page.getByRole("button", { name: "← Earlier: What it costs" }), /focus=/);
await page.waitForFunction(() => document.activeElement !== document.body);
const kept = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
await press(page.getByRole("button", { name: "Full width: What it costs" }), /width/);
const order = await page.locator(".place h2").allTextContents();
const board = new URL(page.url()).pathname;
await page.goto(base + board + "?range=30d");
await drawn(page);
const file = await page.evaluate(async () => (await (await fetch([...document.querySelectorAll("a")].find((a) => a.getAttribute("aria-label") === "CSV of Which version fails").href)).text()));
say({ walk: "an own dashboard by keyboard", clicks: 0, found: order.join() === "What it costs,Which version fails" && kept === "← Earlier: What it costs" && (await page.locator(".place.wide").count()) === 1 && /support_answer@4/.test(file.split("\n")[0]) && !/agent_plan/.test(file) });

// Search in calls' metadata and in their content.
const rows = () => page.locator("#board tbody tr");
await page.goto(base + "/p/default/events?kind=errors");
await page.getByLabel("Search", { exact: true }).fill("does not match the SCHEMA");
await Promise.all([page.waitForURL(/q=does/), page.keyboard.press("Enter")]);
await page.waitForFunction(() => /does not match/.test(document.querySelector(".chips")?.textContent ?? ""));
const versions = new Set(await page.locator("#board tbody td:nth-child(3)").allTextContents());
await page.getByLabel("In prompts and responses").fill("order");
await Promise.all([page.waitForURL(/said=order/), page.keyboard.press("Enter")]);
await page.getByText("prompts and responses searched for “order”").waitFor();
say({ walk: "words are found", clicks: 0, found: versions.size > 0 && [...versions].every((v) => v.startsWith("support_answer")) && (await page.getByLabel("Search", { exact: true }).inputValue()) === "does not match the SCHEMA" });

// A saved view.
await page.goto(base + "/p/default/events?kind=errors&sort=latency");
await page.getByText("Save this view").click();
await page.getByRole("textbox", { name: "Name" }).fill("Slow failures");
await page.getByRole("button", { name: "Save", exact: true }).click();
await page.goto(base + "/p/default/events");
await Promise.all([page.waitForURL(/kind=errors/), page.getByRole("link", { name: "Slow failures" }).click()]);
const kind = new URL(page.url()).searchParams;
await page.getByRole("button", { name: "Delete the saved view Slow failures" }).click();
await page.waitForURL(/\/events$/);
say({ walk: "a saved view", clicks: 0, found: kind.get("sort") === "latency" && (await page.getByRole("link", { name: "Slow failures" }).count()) === 0 });

// Absolute or relative times, on every page.
const time = () => page.locator("#board time").first().textContent();
const toggle = page.getByRole("button", { name: "Relative time" });
await page.goto(base + "/p/default/events");
const clock = await time();
await toggle.click();
const since = await time();
await page.goto(base + "/p/default/traces");
const there = await time();
const pressed = await toggle.getAttribute("aria-pressed");
await toggle.click();
say({ walk: "how long ago", clicks: 0, found: /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/.test(clock) && /ago|now/.test(since) && /ago|now/.test(there) && pressed === "true" && /^\d{4}/.test(await time()) });

// What of a call was sent to PostHog, on its own page.
const newest = async () => {
  await page.goto(base + "/p/default/events?event=$ai_generation");
  await page.goto(base + await page.locator("#board tbody a").first().getAttribute("href"));
  await page.locator("#sent .pill").first().waitFor();
  return page.locator("#sent");
};
const sent = await newest();
await until(async () => {
  if (/\bsent\b/.test(await sent.locator(".pill").first().textContent())) return true;
  await page.waitForTimeout(500);
  await page.reload();
  await page.locator("#sent .pill").first().waitFor();
});
await sent.locator("summary").first().click();
const wire = JSON.parse(await sent.locator("pre").first().textContent());
say({ walk: "what was sent to PostHog", clicks: 0, found: /\d\d:\d\d:\d\d/.test(await sent.textContent()) && wire.event === "$ai_generation" && wire.properties.$ai_input === null });

// Lists show new events, errors too.
const followed = [];
for (const list of ["events", "traces", "sessions", "people", "errors"]) {
  await page.goto(base + "/p/default/" + list);
  await Promise.all([page.waitForURL(/live=1/), page.getByRole("link", { name: "Follow live" }).click()]);
  await page.waitForResponse((r) => new URL(r.url()).pathname.endsWith("/" + list) && r.request().headers()["hx-request"] === "true" && r.status() === 200);
  await page.getByRole("link", { name: "Stop" }).waitFor();
  followed.push((await rows().count()) > 0);
}
say({ walk: "lists that follow", clicks: 0, found: followed.length === 5 && followed.every(Boolean) });

// Rows by keyboard, and the list of shortcuts.
await page.goto(base + "/p/default/traces");
const at = () => page.evaluate(() => [...document.querySelectorAll("#board tbody tr")].indexOf(document.activeElement.closest("tr")));
const steps = [];
for (const key of ["j", "j", "k", "ArrowDown", "ArrowDown", "ArrowUp", "k", "k"]) { await page.keyboard.press(key); steps.push(await at()); }
const outlined = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle !== "none");
await page.keyboard.press("?");
await page.getByRole("region", { name: "Keyboard" }).waitFor();
const complaints = await grave(page);
await shot(page, "keyboard", false);
await page.keyboard.press("Escape");
await page.keyboard.press("j");
await Promise.all([page.waitForURL(/\/traces\/.+/), page.keyboard.press("Enter")]);
say({ walk: "rows by keyboard", clicks: 0, found: steps.join() === "0,1,0,1,2,1,0,0" && outlined && complaints.length === 0 });

// Which summary is better, and a thread that the other one failed?
await start();
await go(() => page.getByRole("link", { name: "Experiments" }).click());
const open = await page.locator("main").innerText();
await go(() => page.getByRole("link", { name: "Decisions first" }).click());
const verdict = await page.locator("main").innerText();
await go(() => page.getByRole("region", { name: "Primary metric" }).getByRole("link").first().click());
await go(() => page.locator("main tbody a.mono").first().click());
const thread = await page.locator("main").innerText();
say({ walk: "which version of a prompt is better", clicks, said: [open, verdict, thread], found: open.includes("Fewer, larger steps") && verdict.includes("treatment is better than control") && verdict.includes("Escalation rate") && thread.includes("summarise") });

// Which version is not brief? A long response of it.
await start();
await go(() => page.getByRole("link", { name: "Evaluations" }).click());
const checks = await page.locator("main").innerText();
await page.goto(base + "/p/default/events?range=30d&event=llm_output_rated&prop.eval_name=brief&prop.eval_passed=false");
const failed4 = await page.locator("main").innerText();
say({ walk: "a check of the past", clicks, found: ["brief", "promises no day", "accuracy"].every((t) => checks.includes(t)) && failed4.includes("llm_output_rated") && failed4.includes("support_answer@4") });

// A dataset with two finished runs, side by side.
await start();
await go(() => page.getByRole("link", { name: "Datasets" }).click());
await go(() => page.getByRole("link", { name: "tickets that went wrong" }).click());
await until(async () => {
  if ((await page.locator("main .pill.good").count()) >= 2) return true;
  await page.waitForTimeout(300);
  await page.reload();
});
await go(() => page.locator("main a[href*='/runs/']").first().click());
const run = new URL(page.url()).pathname;
await go(() => page.getByRole("button", { name: "Compare side by side" }).click());
say({ walk: "two versions over one dataset", clicks, found: (await page.locator(".pair").count()) === 8 });

const find = async (path, pattern) => {
  await page.goto(base + path);
  return page.evaluate((p) => [...document.querySelectorAll("main a")].map((a) => a.getAttribute("href")).find((h) => new RegExp(p).test(h)), pattern);
};
const p = "/p/default";
const failed = await find(p + "/events?kind=calls&status=validation_failed", "^/p/default/events/[0-9a-f]");
const trace = await find(p + "/traces?sort=errors", "^/p/default/traces/[0-9a-f]");
const pages = {
  overview: p + "/overview", traffic: p + "/traffic?range=30d", filtered: p + "/traffic?range=30d&prompt_name=support_answer&environment=production", "latency-cost": p + "/latency-cost?range=30d", quality: p + "/quality?range=30d",
  agents: p + "/agents?range=30d", models: p + "/models?range=14d", calls: p + "/events?kind=calls&sort=cost", event: failed, traces: p + "/traces", trace,
  step: trace + "?span=" + (await find(trace, "span=")).match(/span=([0-9a-f-]+)/)[1], sessions: p + "/sessions?sort=calls", session: await find(p + "/sessions?sort=calls", "^/p/default/sessions/"),
  people: p + "/people?sort=cost", person: p + "/people/user_001?range=14d", errors: p + "/errors?range=14d",
  evals: p + "/evals?range=30d", check: await find(p + "/evals", "/evals/ev_"), dataset: run.split("/runs/")[0], run, experiments: p + "/experiments", experiment: await find(p + "/experiments", "/experiments/x_"), rollout: p + "/rollouts/summarise?range=30d",
  dashboards: p + "/dashboards", dashboard: board + "?range=30d", arrange: board + "?range=30d&edit=1", explore: p + "/explore?range=30d&m=latency_p95_ms&by=model_asked",
};
// Pages without charts have the same size as others without their charts.
const lists = new Set(["check", "dataset", "run", "experiments", "experiment", "rollout"]);
for (const [width, loaded] of ways) {
  const { page: look, trouble } = await visit(browser, { storageState, viewport: { width, height: 900 }, colorScheme: loaded });
  await watch(look.context());
  for (const [name, path] of Object.entries(pages)) {
    const { response, ...weight } = await weigh(look, base + path);
    if (!lists.has(name)) say({ weight: name, width, ...weight });
    await drawn(look);
    await schemes(look, loaded, async (scheme, grave) => {
      const facts = await look.evaluate(() => ({
        overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth, h1: document.querySelectorAll("h1").length,
        charts: document.querySelectorAll("[data-chart]").length, drawn: document.querySelectorAll("[data-chart] canvas").length, nothing: document.querySelectorAll(".chart.nothing").length,
        unnamed: [...document.querySelectorAll("a,button,input,select,summary")].filter((e) => !(e.tagName !== "SELECT" && e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length || e.type === "hidden")).length,
      }));
      await shot(look, `${name}-${width}-${scheme}`);
      say({ page: name, width, scheme, status: response.status(), ...facts, grave, trouble: trouble.splice(0) });
    });
  }
  await look.context().close();
}
await browser.close();
