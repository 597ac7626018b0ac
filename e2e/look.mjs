// What the walks over the pages look at in common: accessibility, weight, time
// and steadiness.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// grave are axe-core's findings of impact serious and critical, a line each.
export async function grave(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.filter((v) => v.impact === "serious" || v.impact === "critical")
    .flatMap((v) => v.nodes.slice(0, 3).map((n) => `${v.id}: ${n.html.slice(0, 160)} ${n.any.map((x) => x.message).join("; ").slice(0, 200)}`));
}

// watch counts what a page moves and how long its scripts block; it goes into a
// context before the first page.
export const watch = (context) => context.addInitScript(() => {
  window.shift = 0; window.blocked = 0; window.moved = [];
  new PerformanceObserver((l) => l.getEntries().forEach((e) => {
    if (e.hadRecentInput) return;
    window.shift += e.value;
    window.moved.push(...e.sources.map((s) => (s.node?.nodeType === 1 ? s.node : s.node?.parentElement)?.outerHTML.slice(0, 100) ?? "gone"));
  })).observe({ type: "layout-shift", buffered: true });
  new PerformanceObserver((l) => l.getEntries().forEach((e) => { window.blocked = Math.max(window.blocked, e.startTime + e.duration); })).observe({ type: "longtask", buffered: true });
});

// weigh opens an address with an empty cache and measures: bytes over the wire,
// headers among them; milliseconds from the start of the navigation until the
// document stands, each chart in the window is drawn and no task of 50 ms or more runs; how
// much the layout shifted.
export async function weigh(page, url) {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Network.enable");
  await cdp.send("Network.setCacheDisabled", { cacheDisabled: true });
  let bytes = 0, requests = 0;
  cdp.on("Network.loadingFinished", (e) => { bytes += e.encodedDataLength; requests++; });
  await page.goto(url);
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
  return { bytes, requests, interactive, shift: +shift.toFixed(4), moved: moved.slice(0, 5) };
}

// drawn waits until each chart of a page is drawn, which happens when it comes
// near the window.
export async function drawn(page) {
  await page.locator("[data-pending]").waitFor({ state: "detached" });
  for (const chart of await page.locator("[data-chart]").all()) {
    await chart.scrollIntoViewIfNeeded();
    await chart.locator("canvas").waitFor();
  }
  await page.evaluate(() => scrollTo(0, 0));
}

// everyWay takes a page at the widths of a desk and of a phone, light and dark,
// and tells of each what is wrong there; then the page is a desk's and light
// again.
export async function everyWay(page, file, tell) {
  for (const width of [1440, 390]) {
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize({ width, height: 900 });
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.screenshot({ path: `${file}-${width}-${colorScheme}.png`, fullPage: true });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      const trouble = await grave(page);
      if (wide > 0) trouble.push(`${wide} px too wide`);
      await tell({ at: `${width} px, ${colorScheme}`, trouble });
    }
  }
  await page.setViewportSize({ width: 1440, height: 900 });
  await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
}
