// Opens every page in a real browser, at the widths of a desktop and of a
// phone, light and dark, and prints what it found as JSON, one line per page.
//
//   node pages.mjs BASE SIGN_IN_URL FOLDER
//
// It does not fail itself: the Go test that starts it evaluates the output.
import { base, drawn, enter, launch, schemes, shot, visit, ways } from "./look.mjs";

const browser = await launch();

const { page } = await visit(browser);
await enter(page);
if (process.env.SET_PASSWORD) {
  await page.getByLabel("E-mail").fill("ada@example.com");
  await page.getByLabel("New password", { exact: false }).first().fill(process.env.SET_PASSWORD);
  await page.getByLabel("Repeat new password").fill(process.env.SET_PASSWORD);
  await page.getByRole("button", { name: "Set password" }).click();
  await page.waitForURL(/overview/);
}
const cookies = await page.context().cookies();
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

for (const [width, loaded] of ways) {
  const { page: p, trouble } = await visit(browser, { viewport: { width, height: 900 }, colorScheme: loaded, tolerated: /status of 40/ });
  p.on("requestfailed", (r) => { if (!r.url().endsWith("/live")) trouble.push("failed: " + r.url()); }); // a stream ends with its page
  for (const [name, path] of Object.entries({ ...strangers, ...pages })) {
    if (name === "overview") await p.context().addCookies(cookies);
    if (!path) { console.log(JSON.stringify({ name, width, colorScheme: loaded, missing: true })); continue; }
    const response = await p.goto(base + path);
    const source = await response.text();
    const inline = (source.match(/<[^>]+\sstyle=|<style|<script(?![^>]*\ssrc=)/g) ?? []).length;
    await drawn(p);
    await schemes(p, loaded, async (colorScheme, grave) => {
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
      // Tab continues from the last focus: in the second scheme, go back to
      // what it led to in the first.
      if (await p.evaluate(() => { window.tabbed?.focus(); return document.activeElement === document.body; })) await p.keyboard.press("Tab");
      facts.focus = await p.evaluate(() => {
        if (!document.querySelector("a,button,input,summary")) return true;
        const e = document.activeElement;
        const shown = e && e !== document.body && (getComputedStyle(e).outlineStyle !== "none" || getComputedStyle(e).boxShadow !== "none");
        window.tabbed = e;
        e?.blur();
        return shown;
      });
      await shot(p, `${name}-${width}-${colorScheme}`);
      console.log(JSON.stringify({ name, width, colorScheme, status: response.status(), inline, grave, ...facts, trouble: trouble.splice(0) }));
    });
  }
  if (width === 390) { // the side bar is behind a button there
    await p.goto(base + pages.overview);
    await schemes(p, loaded, async (colorScheme) => {
      const menu = p.getByRole("navigation", { name: "Pages" });
      const hidden = !(await menu.isVisible());
      await p.getByRole("button", { name: "Menu" }).focus();
      await p.keyboard.press("Enter");
      const opened = await menu.isVisible();
      await shot(p, `menu-${width}-${colorScheme}`, false);
      await p.keyboard.press("Escape");
      console.log(JSON.stringify({ name: "menu", width, colorScheme, menu: hidden && opened && !(await menu.isVisible()) }));
    });
  }
  await p.context().close();
}
await browser.close();
