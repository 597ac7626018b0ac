// What the browser scripts share: their start, and what they check -
// accessibility, page size, load time and layout shifts.
//
// A machine may be ten times slower than the one on which a script was written:
// each waits up to [patience], and never checks only once for what may still be
// loading.
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

// base is the server's address, signIn a sign-in link. Screenshots for people
// to check are written to folder; without one none are taken.
export const [base, signIn, folder] = process.argv.slice(2);

// patience is how long anything may take, in milliseconds.
export const patience = 120_000;

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);

export const launch = () => chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });

// visit opens a page with its own cookies. It adds uncaught exceptions and
// console errors to the list trouble, except for tolerated statuses.
export async function visit(browser, { tolerated = /^$/, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  const trouble = [];
  page.on("console", (m) => { if (m.type() === "error" && !tolerated.test(m.text())) trouble.push(m.text()); });
  page.on("pageerror", (e) => trouble.push(String(e)));
  return { page, trouble };
}

// enter signs in with the link.
export async function enter(page) {
  await page.goto(signIn);
  await page.getByRole("button").first().click();
  await page.waitForURL(/\/(welcome|account|overview)/);
}

// until polls, and returns whether the result became true.
export async function until(ask) {
  for (const end = Date.now() + patience; ; await new Promise((done) => setTimeout(done, 50))) {
    if (await ask()) return true;
    if (Date.now() > end) return false;
  }
}

// sees returns whether a page shows texts within patience; counts, whether
// there are n of a locator.
export async function sees(page, ...texts) {
  const shown = (text) => page.locator("body").innerText().then((body) => body.includes(text), () => false); // false during a navigation
  for (const text of texts) if (!await until(() => shown(text))) return false;
  return true;
}
export const counts = (locator, n) => until(async () => await locator.count() === n);

// shot takes a screenshot.
export async function shot(page, name, fullPage = true) {
  if (folder) await page.screenshot({ path: `${folder}/${name}.png`, fullPage });
}

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// grave returns axe-core's findings of impact serious and critical, a line
// each. Rules that cannot find any of these are left out; with colours, all
// except those that depend on the color scheme.
export async function grave(page, { colours = false } = {}) {
  if (!await page.evaluate(() => Boolean(window.axe))) await page.evaluate(axe);
  const { violations } = await page.evaluate((colours) => {
    const graver = axe._audit.rules.filter((r) => r.enabled && !r.tags.includes("experimental") && /serious|critical/.test(r.impact)).map((r) => r.id);
    const values = colours ? ["color-contrast", "link-in-text-block"] : graver;
    return axe.run(document, { runOnly: { type: "rule", values }, resultTypes: ["violations"] });
  }, colours);
  return violations.filter((v) => v.impact === "serious" || v.impact === "critical")
    .flatMap((v) => v.nodes.slice(0, 3).map((n) => `${v.id}: ${n.html.slice(0, 160)} ${n.any.map((x) => x.message).join("; ").slice(0, 200)}`));
}

// schemes shows a page in one color scheme, then in the other, as when the
// system switches to dark mode. It calls look with the scheme and with what
// axe-core finds, and leaves the page in the first scheme.
export async function schemes(page, first, look) {
  const second = first === "light" ? "dark" : "light";
  await page.emulateMedia({ colorScheme: first, reducedMotion: "reduce" });
  await look(first, await grave(page));
  await page.emulateMedia({ colorScheme: second, reducedMotion: "reduce" });
  await look(second, await grave(page, { colours: true }));
  await page.emulateMedia({ colorScheme: first, reducedMotion: "reduce" });
}

// The widths of a desktop and of a phone, and the color scheme in which pages
// are loaded there: together they test the change in both directions.
export const ways = [[1440, "light"], [390, "dark"]];

// watch records a page's layout shifts and how long its scripts block; it is
// added to a context before the first page.
export const watch = (context) => context.addInitScript(() => {
  window.shift = 0; window.blocked = 0; window.moved = [];
  new PerformanceObserver((l) => l.getEntries().forEach((e) => {
    if (e.hadRecentInput) return;
    window.shift += e.value;
    window.moved.push(...e.sources.map((s) => (s.node?.nodeType === 1 ? s.node : s.node?.parentElement)?.outerHTML.slice(0, 100) ?? "gone"));
  })).observe({ type: "layout-shift", buffered: true });
  new PerformanceObserver((l) => l.getEntries().forEach((e) => { window.blocked = Math.max(window.blocked, e.startTime + e.duration); })).observe({ type: "longtask", buffered: true });
});

// weigh opens an address with an empty cache and measures: transferred bytes,
// including headers; milliseconds from the start of the navigation until the
// document is loaded, each chart in the window is drawn and no task of 50 ms or
// more runs; how much the layout shifted.
export async function weigh(page, url) {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Network.enable");
  await cdp.send("Network.setCacheDisabled", { cacheDisabled: true });
  let bytes = 0, requests = 0;
  cdp.on("Network.loadingFinished", (e) => { bytes += e.encodedDataLength; requests++; });
  const response = await page.goto(url);
  const interactive = await page.evaluate(async () => {
    const frame = () => new Promise((r) => requestAnimationFrame(() => r()));
    const charts = () => [...document.querySelectorAll("[data-chart]")].every((c) => c.querySelector("canvas") || c.getBoundingClientRect().top > innerHeight);
    while (document.querySelector("[data-pending]") || !charts() || performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd === 0) await frame();
    const at = performance.now();
    await new Promise((r) => setTimeout(r, 300));
    return Math.round(Math.max(window.blocked, at));
  });
  const { shift, moved } = await page.evaluate(() => ({ shift: window.shift, moved: window.moved }));
  await cdp.detach();
  return { response, bytes, requests, interactive, shift: +shift.toFixed(4), moved: moved.slice(0, 5) };
}

// drawn waits until each chart of a page is drawn, which happens when it comes
// near the window.
export async function drawn(page) {
  const left = await page.evaluate(async (patience) => {
    const end = performance.now() + patience;
    const waiting = async (done) => { while (!done() && performance.now() < end) await new Promise((r) => requestAnimationFrame(r)); return !done(); };
    if (await waiting(() => !document.querySelector("[data-pending]"))) return "the page";
    for (const chart of document.querySelectorAll("[data-chart]")) {
      chart.scrollIntoView({ block: "nearest" });
      if (await waiting(() => chart.querySelector("canvas"))) return chart.dataset.chart;
    }
    scrollTo(0, 0);
    return "";
  }, patience);
  if (left) throw new Error(`${left} is not drawn at ${page.url()}`);
}

// everyWay shows a page at the widths of a desktop and of a phone, light and
// dark, and returns what is wrong in each; then it restores desktop width and
// light.
export async function everyWay(page, name, tell) {
  for (const [width, first] of ways) {
    await page.setViewportSize({ width, height: 900 });
    await schemes(page, first, async (scheme, trouble) => {
      await shot(page, `${name}-${width}-${scheme}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (wide > 0) trouble.push(`${wide} px too wide`);
      await tell({ at: `${width} px, ${scheme}`, trouble });
    });
  }
  await page.setViewportSize({ width: 1440, height: 900 });
  await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
}
