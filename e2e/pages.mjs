// Opens every page of a hedgerow in a real browser, at the widths of a desk and
// of a phone, light and dark, and reports what it found as JSON, one line a page.
//
//   node pages.mjs BASE SIGN_IN_URL FOLDER
//
// It fails on nothing itself: the Go test that starts it decides.
import { chromium } from "playwright-core";
import { existsSync } from "node:fs";

const [base, signIn, folder] = process.argv.slice(2);
const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });

const first = await browser.newContext();
const page = await first.newPage();
await page.goto(signIn);
await page.getByRole("button").first().click();
await page.waitForURL(base + "/overview");
const cookies = await first.cookies();
const link = async (pattern) => page.evaluate((p) => [...document.querySelectorAll("a")].map((a) => a.getAttribute("href")).find((h) => new RegExp(p).test(h)), pattern);
await page.goto(base + "/events");
const event = await link("^/events/[0-9a-f-]{36}");
if (event) await page.goto(base + event);
const trace = await link("^/traces/");
const pages = {
  overview: "/overview", events: "/events", filtered: "/events?errors=true", empty: "/events?model=no-such-model",
  event, trace, missing: "/events/0192b1c0-7e1a-7c3e-9a51-0123456789ab", notfound: "/no-such-page",
  ...JSON.parse(process.env.MORE_PAGES ?? "{}"),
};

for (const width of [1440, 390]) {
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
    await context.addCookies(cookies);
    const p = await context.newPage();
    const trouble = [];
    p.on("console", (m) => { if (m.type() === "error" && !/status of 40/.test(m.text())) trouble.push(m.text()); });
    p.on("pageerror", (e) => trouble.push(String(e)));
    p.on("requestfailed", (r) => trouble.push("failed: " + r.url()));
    for (const [name, path] of Object.entries(pages)) {
      if (!path) { console.log(JSON.stringify({ name, width, colorScheme, missing: true })); continue; }
      const response = await p.goto(base + path);
      const facts = await p.evaluate(() => {
        const lum = (c) => { const [r, g, b] = c.match(/[\d.]+/g).map(Number); return (0.299 * r + 0.587 * g + 0.114 * b) / 255; };
        const body = getComputedStyle(document.body);
        const inline = [...document.querySelectorAll("[style],script:not([src])")].length;
        const unnamed = [...document.querySelectorAll("a,button,input,select")].filter((e) =>
          !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length || e.type === "hidden" || e.closest("label"))).length;
        return {
          title: document.title, overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
          h1: document.querySelectorAll("h1").length, lang: document.documentElement.lang, background: lum(body.backgroundColor), text: lum(body.color), inline, unnamed,
        };
      });
      await p.keyboard.press("Tab");
      facts.focus = await p.evaluate(() => {
        const e = document.activeElement;
        return e && e !== document.body ? getComputedStyle(e).outlineStyle !== "none" || getComputedStyle(e).boxShadow !== "none" : false;
      });
      await p.evaluate(() => document.activeElement?.blur());
      await p.screenshot({ path: `${folder}/${name}-${width}-${colorScheme}.png`, fullPage: true });
      console.log(JSON.stringify({ name, width, colorScheme, status: response.status(), ...facts, trouble: trouble.splice(0) }));
    }
    await context.close();
  }
}
await browser.close();
