// Goes through the first sign-ins in a real browser: the first administrator by
// a link, a password, an invitation, a viewer who sees one project only, keys,
// settings, a deleted project, signing out everywhere.
//
//   node signin.mjs BASE SIGN_IN_URL FOLDER
//
// It prints a line of JSON for each step that passed, and stops at the first
// failure.
import { base, launch, sees, shot, signIn, until, visit } from "./look.mjs";

const browser = await launch();
const troubles = [];
const person = async (options) => {
  const v = await visit(browser, { viewport: { width: 1200, height: 900 }, tolerated: /status of 4\d\d/, ...options });
  troubles.push(v.trouble);
  return v.page;
};
const step = async (name, page, ok) => {
  if (!ok) throw new Error(`${name}: not so at ${page.url()}\n${await page.locator("body").innerText()}`);
  await shot(page, name.replaceAll(" ", "-"), false);
  console.log(JSON.stringify({ step: name }));
};
const has = async (page, text) => (await page.locator("body").innerText().catch(() => "")).includes(text);
const setPassword = async (page, password) => {
  await page.getByLabel("New password", { exact: false }).first().fill(password);
  await page.getByLabel("Repeat new password").fill(password);
  await page.getByRole("button", { name: "Set password" }).click();
};
const enter = async (page, email, password) => {
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
};

const ada = await person();
await ada.goto(base + "/p/default/events");
await step("a stranger is asked to sign in", ada, ada.url().includes("/sign-in?next=") && await sees(ada, "hedgerow project sign-in-link"));
await ada.goto(signIn);
await ada.waitForFunction(() => document.activeElement?.tagName === "BUTTON");
await ada.keyboard.press("Enter");
await ada.waitForURL("**/welcome");
await step("the link asks for a password", ada, await sees(ada, "Welcome to hedgerow"));
await ada.getByLabel("E-mail").fill("ada@example.com");
await setPassword(ada, "a long password");
await ada.waitForURL("**/p/default/overview");
await step("the password is set", ada, await sees(ada, "Password set"));
await ada.getByRole("button", { name: "Sign out" }).click();
await ada.waitForURL("**/sign-in");
await enter(ada, "ada@example.com", "not the password");
await ada.getByRole("alert").waitFor();
await step("a wrong password is refused", ada, await sees(ada, "Wrong e-mail address or password"));
await ada.goto(base + "/p/default/events?model=x");
await enter(ada, "ada@example.com", "a long password");
await ada.waitForURL("**/p/default/events?model=x");
await step("signing in leads where one wanted to go", ada, await sees(ada, "No matching events"));

await ada.getByRole("link", { name: "Remove filter Response model" }).click();
await ada.waitForURL("**/p/default/events");
await ada.waitForFunction(() => document.title.startsWith("Events"));
await step("a filter is cleared without a reload", ada, (await ada.title()).startsWith("Events") && await ada.locator("nav[aria-label=Pages]").count() === 1);
await ada.goBack();
await ada.waitForURL("**/p/default/events?model=x");
await step("the way back works", ada, await sees(ada, "No matching events") && await ada.locator("nav[aria-label=Pages]").count() === 1);

await ada.getByRole("link", { name: "Server", exact: true }).click();
await ada.getByLabel("Name").fill("Orchard");
await ada.getByRole("button", { name: "Create project" }).click();
await ada.waitForURL("**/keys");
await step("a project is created", ada, await sees(ada, "Project Orchard created"));
await ada.getByRole("textbox", { name: /^Name/ }).fill("ci");
for (const scope of ["ingest", "gateway"]) await ada.locator(`input[name=scope][value=${scope}]`).uncheck();
await ada.getByRole("button", { name: "Create key" }).click();
const key = await ada.locator("#new-key").innerText();
await step("a key is shown once", ada, /^hr_\w{40}$/.test(key));
const answer = await fetch(base + "/api/v1/events", { headers: { authorization: "Bearer " + key } });
await step("the key works", ada, answer.status === 200);
await ada.getByRole("link", { name: "Keys" }).click();
await step("the key is not shown again", ada, await until(async () => await ada.locator("#new-key").count() === 0) && !(await ada.content()).includes(key));
await ada.locator("tr", { hasText: "ci" }).locator("summary", { hasText: "Revoke" }).click();
await ada.getByRole("button", { name: "Revoke ci" }).click();
await step("the key is revoked", ada, await sees(ada, "Key revoked") && (await fetch(base + "/api/v1/events", { headers: { authorization: "Bearer " + key } })).status === 401);

await ada.getByRole("link", { name: "Server", exact: true }).click();
await ada.getByRole("link", { name: "Members" }).click();
await ada.getByLabel("E-mail").fill("bob@example.com");
await ada.getByLabel("Role").selectOption("viewer");
await ada.getByLabel("Orchard").check();
await ada.getByRole("button", { name: "Create invitation link" }).click();
const invitation = await ada.locator("#link").innerText();
await step("an invitation is shown once", ada, invitation.startsWith(base + "/sign-in?token="));

const bob = await person({ viewport: { width: 390, height: 800 }, javaScriptEnabled: false });
await bob.goto(invitation);
await bob.getByRole("button", { name: "Sign in" }).click();
await setPassword(bob, "another password");
await bob.waitForURL(/\/p\/p_\w+\/overview/);
await step("who is invited sets a password without JavaScript on a phone", bob, await sees(bob, "Project Orchard"));
await bob.getByRole("button", { name: "Menu" }).click();
await step("a viewer sees one project and no keys", bob, !await has(bob, "Keys") && !await has(bob, "default"));
for (const path of ["/p/default/overview", "/p/default/keys", "/p/default/settings"]) {
  const r = await bob.goto(base + path);
  await step("another project is not there for a viewer " + path.split("/").pop(), bob, r.status() === 404);
}
await step("users are for administrators", bob, (await bob.goto(base + "/users")).status() === 403);

// A form from another site, with Bob's cookies, as a browser sends it.
const evil = await bob.context().newPage();
await evil.setContent(`<form method="post" action="${base}/account/sign-out-everywhere"><input name="csrf" value="x"><button>Win a prize</button></form>`);
await evil.getByRole("button").click();
await evil.waitForURL("**/account/sign-out-everywhere");
await step("a form of another site is refused", evil, await sees(evil, "sent by another site") || evil.url().includes("/sign-in"));
await step("and has changed nothing", bob, (await bob.goto(base + "/account")).status() === 200 && bob.url().endsWith("/account"));

await ada.goto(base + "/users");
await ada.getByRole("link", { name: "bob@example.com" }).click();
await ada.getByText("Remove this member").click();
await ada.getByRole("button", { name: "Remove bob@example.com" }).click();
await step("a user is removed", ada, await sees(ada, "bob@example.com removed"));
await bob.goto(base + "/account");
await step("and out at once", bob, bob.url().includes("/sign-in"));

await ada.getByRole("link", { name: "Project", exact: true }).click();
await ada.getByLabel("Content retention in days").fill("7");
await ada.getByLabel("Mask e-mail addresses in content").check();
await ada.getByRole("button", { name: "Save" }).click();
await step("settings are saved", ada, await sees(ada, "Saved.") && await ada.getByLabel("Content retention in days").inputValue() === "7" && await ada.getByLabel("Mask e-mail addresses in content").isChecked());
await ada.getByLabel("Type Orchard to confirm").fill("orchard");
await ada.getByRole("button", { name: "Delete project" }).click();
await step("a project is not deleted by half its name", ada, await sees(ada, "The name does not match"));
await ada.getByLabel("Type Orchard to confirm").fill("Orchard");
await ada.getByRole("button", { name: "Delete project" }).click();
await step("a project is deleted", ada, await sees(ada, "Project Orchard deleted"));

await ada.getByRole("link", { name: "Audit log" }).click();
await step("the audit log tells", ada, await sees(ada, "project.delete") && await sees(ada, "user.delete") && await sees(ada, "key.revoke") && !await has(ada, key));

await ada.goto(base + "/account");
await ada.getByRole("button", { name: "Sign out everywhere" }).click();
await ada.waitForURL("**/sign-in");
await step("signed out everywhere", ada, await sees(ada, "Sign in"));
// After ten guesses each has to wait longer than the one before. On a slow machine the first
// of these waits are over when the next guess comes.
for (let i = 0, status = 0; i < 30 && status !== 429; i++) {
  const [r] = await Promise.all([ada.waitForResponse((r) => r.request().method() === "POST"), enter(ada, "ada@example.com", "guess " + i)]);
  await r.finished();
  status = r.status();
  await ada.waitForLoadState();
}
await step("guessing is bounded", ada, await sees(ada, "Too many failed sign-in attempts"));
const trouble = troubles.flat();
if (trouble.length) throw new Error("the browser complains: " + trouble.join("\n"));
await browser.close();
