// Uses the pages of experiments as a person does: the list, a verdict, the
// worst trace behind a figure, a segment, a new experiment by the form, alerts.
// Prints one line of JSON per step, with what was wrong.
//
//   BETTER=x_… HARMFUL=x_… node experiments.mjs BASE SIGN_IN_URL FOLDER
import { base, enter, launch, schemes, sees, shot, visit, ways } from "./look.mjs";

const { BETTER, HARMFUL } = process.env;
const browser = await launch();
const { page, trouble } = await visit(browser, { tolerated: /status of 40/ });
async function step(name, does) {
  try { await does(); } catch (e) { trouble.push(String(e)); }
  await shot(page, name).catch(() => {});
  console.log(JSON.stringify({ step: name, trouble: trouble.splice(0) }));
}
const has = async (text) => { if (!await sees(page, text)) trouble.push("lacks " + text); };
const at = base + "/p/default";

await enter(page);
await step("list", async () => {
  await page.goto(at + "/overview");
  await page.getByRole("link", { name: "Experiments" }).click();
  for (const t of ["Kinder helpful", "Kinder harmful", "winner", "guardrail broken"]) await has(t);
});
await step("verdict", async () => {
  await page.getByRole("link", { name: "Kinder helpful" }).click();
  for (const t of ["treatment is better than control", "Guardrails", "at most 2 points more than control", "Current power", "Prompt versions"]) await has(t);
  if ((await page.locator("svg.interval").count()) < 3) trouble.push("intervals are not drawn");
});
await step("behind", async () => {
  await page.getByRole("region", { name: "Primary metric" }).getByRole("link").first().click();
  await has("Worst first");
  await has("0 of 1");
});
await step("losing-trace", async () => {
  await page.getByRole("cell", { name: /^helpful-user-/ }).first().getByRole("link").click();
  await page.waitForURL(/\/traces\//);
  await has("gpt-4.1-mini");
});
await step("segments", async () => {
  await page.goto(`${at}/experiments/${BETTER}?by=property:plan`);
  await has("free"); await has("pro");
});
await step("broken", async () => {
  await page.goto(`${at}/experiments/${HARMFUL}`);
  for (const t of ["guardrail broken", "stopped", "Escalation rate of treatment", "Rollout stopped at", "Webhook called at", "E-mail sent at"]) await has(t);
});
await step("new", async () => {
  await page.goto(at + "/experiments/new?prompt=helpful");
  if ((await page.getByLabel("Feature flag").inputValue()) !== "helpful-test") trouble.push("the rollout's flag is not filled in");
  await page.getByLabel("Name", { exact: true }).fill("Once more");
  await page.getByLabel("Planned users, all variants").fill("5");
  await page.getByRole("button", { name: "Save" }).click();
  await has("planned number of users"); // refused, and shows what was typed
  if ((await page.getByLabel("Name", { exact: true }).inputValue()) !== "Once more") trouble.push("what was typed is gone");
  await page.getByLabel("Planned users, all variants").fill("3000");
  await page.getByRole("button", { name: "Save" }).click();
  await has("Experiment saved");
});
await step("edit", async () => {
  await page.getByRole("link", { name: "Edit" }).click();
  await has("has started");
  await page.getByLabel("Name", { exact: true }).fill("Once more, longer");
  await page.getByRole("button", { name: "Save" }).click();
  await has("Once more, longer");
});
await step("stop", async () => {
  await page.getByText("Stop …").click();
  await page.getByLabel("Reason").fill("only a try");
  await page.getByRole("button", { name: "Stop experiment" }).click();
  await has("Experiment stopped");
});
await step("alerts", async () => {
  await page.getByRole("link", { name: "Project", exact: true }).click();
  await page.getByRole("link", { name: "Alerts" }).click();
  await page.getByRole("button", { name: "Send a test alert" }).click();
  await has("Webhook: sent. E-mail: sent.");
});
// Narrow and dark: nothing is wider than the screen or hard to read.
const cookies = await page.context().cookies();
for (const [width, loaded] of ways) {
  const { page: p } = await visit(browser, { viewport: { width, height: 900 }, colorScheme: loaded });
  await p.context().addCookies(cookies);
  for (const [name, path] of Object.entries({ list: "/experiments", page: `/experiments/${BETTER}?by=property:plan`, broken: `/experiments/${HARMFUL}`, new: "/experiments/new", alerts: "/alerts" })) {
    await p.goto(at + path);
    await schemes(p, loaded, async (colorScheme, trouble) => {
      const wide = await p.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wide > 0) trouble.push(`${wide} px too wide`);
      await shot(p, `${name}-${width}-${colorScheme}`);
      console.log(JSON.stringify({ step: `${name} ${width} ${colorScheme}`, trouble }));
    });
  }
  await p.context().close();
}
await browser.close();
