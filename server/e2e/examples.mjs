// Clicks a point of each chart of each dashboard: the click itself has to show
// examples, and the first example's link a trace. Prints one line of JSON per
// chart; the Go test that starts it evaluates them.
//
//   node examples.mjs BASE SIGN_IN_URL FOLDER
import { base, drawn, enter, folder, grave, launch, schemes, shot, until, visit } from "./look.mjs";

const browser = await launch();
const say = (o) => console.log(JSON.stringify(o));
const { page, trouble } = await visit(browser);
await enter(page);
const storageState = await page.context().storageState();
const asked = [];
page.on("request", (r) => { if (new URL(r.url()).pathname.endsWith("/examples")) asked.push(r.url()); });
const drawer = page.locator("#drawer");
const close = async () => { await page.keyboard.press("Escape"); await drawer.waitFor({ state: "hidden" }); };
const filled = () => until(async () => await drawer.locator("h1").count() > 0);

// meant finds the cell of a chart's table that an address refers to.
const meant = (table, href) => page.evaluate(([id, href]) => {
  const at = new URL(href).searchParams;
  const table = document.getElementById(id);
  const says = (e) => [...new URLSearchParams(e.dataset.q ?? "").entries()].every(([name, value]) => value === "" && !name.endsWith("group") || at.getAll(name).includes(value));
  const row = [...table.tBodies[0].rows].find(says);
  const head = [...table.tHead.rows[0].cells].find((h, i) => i > 0 && says(h));
  return { value: row?.cells[head?.cellIndex]?.dataset.value, row: row?.cells[0].textContent.trim(), column: head?.textContent.trim() };
}, [table, href]);

// click clicks into a chart, where its table has a number, until the drawer opens.
async function click(chart) {
  const spots = await chart.evaluate((box) => {
    const table = document.getElementById(box.dataset.chart);
    const rows = [...table.tBodies[0].rows];
    const lying = table.tHead.rows[0].cells[0].textContent.trim() === "Group" && [...table.tHead.rows[0].cells].every((h) => h.dataset.series !== "line");
    const filled = rows.flatMap((r, i) => [...r.cells].some((c) => c.dataset.value && c.dataset.value !== "0") ? [(i + 0.5) / rows.length] : []);
    if (lying) return filled.map((at) => [0.4, 0.1 + at * 0.82]);
    if (filled.length > 1) filled.pop(); // the last day gets more events after the chart was drawn
    return filled.reverse().flatMap((at) => [0.75, 0.45].map((y) => [0.1 + at * 0.88, y]));
  });
  for (const [x, y] of spots) {
    await chart.scrollIntoViewIfNeeded();
    const box = await chart.boundingBox();
    const before = asked.length;
    await page.mouse.click(box.x + box.width * x, box.y + box.height * y);
    await page.evaluate(() => new Promise((done) => setTimeout(done)));
    if (!await drawer.isVisible()) continue;
    await filled();
    if (asked.length !== before + 1) trouble.push(`a click asked ${asked.length - before} times`);
    if (await drawer.locator(".examples li").count() > 0) return true; // not a rate of 0
    await close();
  }
  return false;
}

const pages = process.env.ONLY ? process.env.ONLY.split(",") : ["overview", "traffic", "latency-cost", "quality", "agents", "models"];
for (const name of pages) {
  await page.goto(`${base}/p/default/${name}?range=14d`);
  await drawn(page);
  const ids = await page.locator("[data-chart]").evaluateAll((list) => list.map((e) => e.dataset.chart));
  for (const id of ids.filter((_, i) => process.env.HEDGEROW_LONG || i % 2 === 0)) { // a click takes seconds
    const chart = page.locator(`[data-chart=${id}]`);
    const opened = await click(chart);
    if (!opened) { say({ chart: `${name} ${id}`, opened }); continue; }
    await filled();
    const cell = await meant(id, asked.at(-1));
    const unit = await page.evaluate((id) => document.getElementById(id).dataset.unit ?? "", id);
    const count = (await drawer.locator(".sub").innerText()).trim();
    const rows = await drawer.locator(".examples li").count();
    const link = rows ? await drawer.locator(".examples a").first().getAttribute("href") : "";
    const trace = link ? await page.evaluate(async (href) => { const r = await fetch(href); return { status: r.status, body: await r.text() }; }, link) : { status: 0, body: "" };
    const all = await drawer.locator("a.all").getAttribute("href").catch(() => "") ;
    say({ chart: `${name} ${id}`, opened, row: cell.row, column: cell.column, value: cell.value ?? "", unit, count, rows, trace: link.startsWith("/p/default/traces/") && trace.status === 200 && trace.body.includes("class=\"fall"), list: all, trouble: trouble.splice(0) });
    await close();
  }
}

// Without a mouse: the numbers below a chart are buttons.
await page.goto(`${base}/p/default/traffic?range=14d`);
await drawn(page);
await page.locator("section", { has: page.getByRole("heading", { name: "Calls by model" }) }).locator("summary").focus();
await page.keyboard.press("Enter");
await page.locator("#t-by-model button.point").first().waitFor();
await page.locator("#t-by-model button.point").last().focus();
await page.keyboard.press("Enter");
await filled();
const inside = await page.evaluate(() => document.getElementById("drawer").contains(document.activeElement));
await close();
say({ walk: "keyboard", found: inside && await page.evaluate(() => document.activeElement.matches("button.point")) });

// Without scripts: the links of the numbers lead to the list with the same filter.
const plain = await browser.newContext({ javaScriptEnabled: false, storageState });
await plain.clearCookies({ name: "hedgerow_zone" }); // which scripts keep
const still = await plain.newPage();
await still.goto(`${base}/p/default/traffic?range=14d`);
const href = await still.locator("#t-by-model tbody a").last().getAttribute("href");
const list = await still.goto(base + href);
say({ walk: "no scripts", found: list.status() === 200 && /\/events\?.*measure=calls/.test(href) && (await still.locator("#board tbody tr").count()) > 0 });
await plain.close();

// A screenshot of the drawer, and axe-core's findings.
for (const [name, id] of [["traffic", "t-by-model"], ["quality", "t-negative"]]) {
  for (const [width, scheme] of [[390, "dark"], [1440, "light"], [1920, "light"]]) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    await page.goto(`${base}/p/default/${name}?range=14d`);
    await drawn(page);
    if (!await click(page.locator(`[data-chart=${id}]`))) { say({ look: `${name} ${width}`, grave: ["no drawer"] }); continue; }
    await filled();
    await schemes(page, scheme, async (now, trouble) => {
      await shot(page, `drawer-${name}-${width}-${now}`, false);
      const wide = await drawer.evaluate((d) => d.scrollWidth - d.clientWidth);
      say({ look: `${name} ${width} ${now}`, grave: wide > 0 ? [...trouble, `${wide} px too wide`] : trouble });
    });
    await close();
  }
}
await browser.close();
