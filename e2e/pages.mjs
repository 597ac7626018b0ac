// Opens every page of a hedgerow in a real browser, at the widths of a desk and
// of a phone, light and dark, and reports what it found as JSON, one line a page.
//
//   node pages.mjs BASE SIGN_IN_URL FOLDER
//
// It fails on nothing itself: the Go test that starts it decides.
import { chromium } from "playwright-core";
import { existsSync } from "node:fs";
import { drawn, grave } from "./look.mjs";

const [base, signIn, folder] = process.argv.slice(2);
const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });

const first = await browser.newContext();
const page = await first.newPage();
await page.goto(signIn);
await page.getByRole("button").first().click();
await page.waitForURL(/\/(welcome|account)/);
if (process.env.SET_PASSWORD) {
  await page.getByLabel("E-mail").fill("ada@example.com");
  await page.getByLabel("New password", { exact: false }).first().fill(process.env.SET_PASSWORD);
  await page.getByLabel("New password again").fill(process.env.SET_PASSWORD);
  await page.getByRole("button", { name: "Set password" }).click();
  await page.waitForURL(/overview/);
}
const cookies = await first.cookies();
const link = async (pattern) => page.evaluate((p) => [...document.querySelectorAll("a")].map((a) => a.getAttribute("href")).find((h) => new RegExp(p).test(h)), pattern);
await page.goto(base + "/p/default/events");
const event = await link("^/p/default/events/[0-9a-f-]{36}");
if (event) await page.goto(base + event);
const trace = await link("^/p/default/traces/");
await page.goto(base + "/users");
const user = await link("^/users/u_");
const project = "/p/default";
async function connection() {
  await page.goto(base + project + "/connections");
  return link("^/p/default/connections/");
}
const pages = {
  overview: project + "/overview", events: project + "/events", filtered: project + "/events?status=error", empty: project + "/events?model=no-such-model",
  event, trace, missing: project + "/events/0192b1c0-7e1a-7c3e-9a51-0123456789ab", notfound: "/no-such-page", foreign: "/p/p_nobodys/overview",
  traffic: project + "/traffic", "latency-cost": project + "/latency-cost", quality: project + "/quality", agents: project + "/agents", models: project + "/models",
  dashboards: project + "/dashboards", explore: project + "/explore",
  traces: project + "/traces", sessions: project + "/sessions", people: project + "/people", person: project + "/people/ada", errors: project + "/errors", noconversation: project + "/sessions/none",
  connections: project + "/connections", connection: await connection(), analytics: project + "/analytics",
  keys: project + "/keys", settings: project + "/settings", projects: "/projects", users: "/users", user, audit: "/audit", account: "/account", welcome: "/welcome",
};
const strangers = { signin: "/sign-in", link: "/sign-in?token=none" };

for (const width of [1440, 390]) {
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, reducedMotion: "reduce" });
    const p = await context.newPage();
    const trouble = [];
    p.on("console", (m) => { if (m.type() === "error" && !/status of 40/.test(m.text())) trouble.push(m.text()); });
    p.on("pageerror", (e) => trouble.push(String(e)));
    p.on("requestfailed", (r) => { if (!r.url().endsWith("/live")) trouble.push("failed: " + r.url()); }); // a stream ends with its page
    for (const [name, path] of Object.entries({ ...strangers, ...pages })) {
      if (name === "overview") await context.addCookies(cookies);
      if (!path) { console.log(JSON.stringify({ name, width, colorScheme, missing: true })); continue; }
      const response = await p.goto(base + path);
      const source = await response.text();
      await drawn(p);
      const facts = await p.evaluate(() => {
        const lum = (c) => { const [r, g, b] = c.match(/[\d.]+/g).map(Number); return (0.299 * r + 0.587 * g + 0.114 * b) / 255; };
        const body = getComputedStyle(document.body);
        const unnamed = [...document.querySelectorAll("a,button,input,select")].filter((e) =>
          !(e.tagName !== "SELECT" && e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length || e.type === "hidden" || e.closest("label"))).length;
        return {
          title: document.title, overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
          h1: document.querySelectorAll("h1").length, lang: document.documentElement.lang, background: lum(body.backgroundColor), text: lum(body.color), unnamed,
        };
      });
      facts.inline = (source.match(/<[^>]+\sstyle=|<style|<script(?![^>]*\ssrc=)/g) ?? []).length;
      if (await p.evaluate(() => document.activeElement === document.body)) await p.keyboard.press("Tab");
      facts.focus = await p.evaluate(() => {
        if (!document.querySelector("a,button,input,summary")) return true;
        const e = document.activeElement;
        return e && e !== document.body ? getComputedStyle(e).outlineStyle !== "none" || getComputedStyle(e).boxShadow !== "none" : false;
      });
      await p.evaluate(() => document.activeElement?.blur());
      await p.screenshot({ path: `${folder}/${name}-${width}-${colorScheme}.png`, fullPage: true });
      facts.grave = await grave(p);
      console.log(JSON.stringify({ name, width, colorScheme, status: response.status(), ...facts, trouble: trouble.splice(0) }));
    }
    if (width === 390) { // the side bar is behind a button there
      await p.goto(base + pages.overview);
      const menu = p.getByRole("navigation", { name: "Pages" });
      const hidden = !(await menu.isVisible());
      await p.getByRole("button", { name: "Menu" }).focus();
      await p.keyboard.press("Enter");
      const opened = await menu.isVisible();
      await p.screenshot({ path: `${folder}/menu-${width}-${colorScheme}.png` });
      await p.keyboard.press("Escape");
      console.log(JSON.stringify({ name: "menu", width, colorScheme, menu: hidden && opened && !(await menu.isVisible()) }));
    }
    await context.close();
  }
}
await browser.close();
