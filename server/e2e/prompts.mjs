// Creates, changes, compares, labels, tries, exports and imports a prompt in a
// real browser, calls it through the gateway, lets it drift, and reads it with
// PostHog's own client.
//
//   KEY=hr_… TOKEN=phc_… node prompts.mjs BASE SIGN_IN_URL FOLDER
//
// It prints a line of JSON for each step that passed, and stops at the first
// failure.
import { Prompts } from "@posthog/ai";
import { readFileSync } from "node:fs";
import { base, counts, enter, everyWay, launch, sees as shows, until, visit } from "./look.mjs";

const { KEY, TOKEN } = process.env;
const browser = await launch();
const { page, trouble } = await visit(browser, { tolerated: /status of 4\d\d/ });

const step = async (name, ok, why = "") => {
  if (!ok) throw new Error(`${name}: not so at ${page.url()} ${why}\n${await page.locator("body").innerText()}`);
  console.log(JSON.stringify({ step: name }));
};
const sees = (text) => shows(page, text);
const looks = (name) => everyWay(page, name, (found) => step(`${name}, ${found.at}`, found.trouble.length === 0, found.trouble.join("\n")));
const field = (name) => page.locator(`main [name="${name}"]`);
const open = (path) => page.goto(base + "/p/default" + path);
const call = async (prompt, system) => {
  const headers = { "Content-Type": "application/json", Authorization: "Bearer sk-simulated" };
  if (prompt) headers["X-Hedgerow-Prompt"] = prompt;
  const r = await fetch(base + "/openai/v1/chat/completions", { method: "POST", headers, body: JSON.stringify({ model: "gpt-4.1-mini", messages: [{ role: "system", content: system }, { role: "user", content: "Where is my parcel?" }] }) });
  if (r.status !== 200) throw new Error(`the call answers ${r.status}`);
  await r.text();
};

await enter(page);
await open("/overview");
await page.getByRole("link", { name: "Prompts", exact: true }).click();
await step("there is none yet", await sees("No prompts yet"));
await looks("empty");

// Two versions.
await page.getByRole("link", { name: "New prompt" }).click();
await field("name").fill("support_answer");
await field("description").fill("Answers the ticket of a customer");
await field("message_0_content").fill("You answer the tickets of {{shop}}, a shop for plants.\nBe kind.\nWrite at most {{sentences}} sentences.");
await page.getByRole("button", { name: "Detect variables" }).click();
await step("the variables are found", await sees("sentences"));
await field("variable_1_type").selectOption("integer");
await field("variable_1_default").fill("three");
await page.getByRole("button", { name: "Create prompt" }).click();
await step("a default of another type is refused, and nothing typed is lost", await sees("is not of type integer") && await field("description").inputValue() === "Answers the ticket of a customer");
await field("variable_1_default").fill("3");
await field("variable_0_default").fill("Elm Street");
await field("model").fill("gpt-4.1-mini");
await field("params").fill('{"temperature": 0.2}');
await field("note").fill("the first one");
await looks("editor");
await page.getByRole("button", { name: "Create prompt" }).click();
await step("the prompt is made", await sees("Version 1 has the label production"));

await page.getByRole("link", { name: "New version" }).click();
await page.getByRole("button", { name: "Save as new version" }).click();
await step("the same is no version", await sees("No changes from version 1"));
const text = field("message_0_content");
await step("the text is kept as it was typed", (await text.inputValue()).startsWith("You answer the tickets") && (await text.inputValue()).split("\n").length === 3);
await text.fill("You answer the tickets of {{shop}}, a shop for plants.\nBe kind, and say what happens next.\nWrite at most {{sentences}} sentences.");
await page.getByRole("button", { name: "Add message" }).click();
await field("message_1_content").fill("{{ticket}}");
await field("note").fill("says what happens next");
await field("label").selectOption("staging");
await page.getByRole("button", { name: "Save as new version" }).click();
await step("a second version is saved", await sees("Version 2 saved with the label staging"));

// The difference.
await page.getByRole("link", { name: "Changes" }).click();
await step("the difference shows both lines", await sees("Be kind, and say what happens next.") && await page.locator(".diff .removed", { hasText: "Be kind." }).count() === 1 && await page.locator(".diff .added").count() >= 2);
await looks("compare");

// Values.
await open("/prompts/support_answer/try?version=2");
await field("value_sentences").fill("many");
await page.getByRole("button", { name: "Render" }).click();
await step("a value of another type is refused", await sees("is not of type integer"));
await field("value_sentences").fill("2");
await field("value_ticket").fill("Where is {{my}} parcel?");
await page.getByRole("button", { name: "Render" }).click();
await step("the values are in the text", await sees("Write at most 2 sentences.") && await sees("Where is {{my}} parcel?"));
await looks("try");

// Calls: registered by name, by text alone, and changed without the registry.
const one = "You answer the tickets of Elm Street, a shop for plants.\nBe kind.\nWrite at most 3 sentences.";
await call("support_answer@1", one);
await call("support_answer@production", one);
await call("", one);
await call("support_answer@1", "You answer the tickets of Elm Street. Be rude.");
await call("elsewhere@4", "Another prompt, which nobody keeps here.");
await step("the version has its calls", await until(async () => {
  await open("/prompts/support_answer");
  return await page.locator("table a", { hasText: /^4$/ }).count() === 1;
}));
await step("drift is told", await sees("1 call drifted"));
await looks("prompt");
await page.getByRole("link", { name: "View these calls" }).click();
await step("the link leads to the call that drifted", await page.waitForURL(/\/events\?/).then(() => counts(page.locator("main table tbody tr"), 1)));

// The label.
await open("/prompts/support_answer?show=2");
await field("reason").fill("better in the trial");
await page.getByRole("button", { name: "Move", exact: true }).click();
await step("production is moved", await sees("Label production now points to version 2"));
await page.getByText("2 moves").click();
await step("the move is in its history", await sees("v1 → v2") && await sees("better in the trial"));

// Files.
const download = page.waitForEvent("download");
await page.getByRole("link", { name: "YAML" }).click();
const file = readFileSync(await (await download).path(), "utf8");
await step("the export is the prompt", file.includes("name: support_answer") && file.includes("say what happens next"));
await open("/prompts");
await field("file").setInputFiles({ name: "copy.yaml", mimeType: "application/yaml", buffer: Buffer.from(file.replace("name: support_answer", "name: support_copy")) });
await page.getByRole("button", { name: "Import" }).click();
await step("the file is imported", await sees("Imported as version 1") && page.url().endsWith("/prompts/support_copy"));
await open("/prompts");
await step("the list has both, and what only calls name", await sees("support_copy") && await sees("Unregistered prompts") && await sees("elsewhere"));
await looks("list");

// Deletion requires the name.
await open("/prompts/support_copy");
await page.getByText("Delete this prompt").click();
await field("confirm").fill("support_copy");
await page.getByRole("button", { name: "Delete", exact: true }).click();
await step("the copy is deleted", await sees("Prompt support_copy and all its versions deleted"));

// PostHog's own client, with this host.
const prompts = new Prompts({ personalApiKey: KEY, projectApiKey: TOKEN, host: base });
const newest = await prompts.get("support_answer", { fallback: "FALLBACK" });
await step("PostHog's client reads the newest", newest.source === "api" && newest.version === 2 && newest.prompt.includes("say what happens next") && newest.config.temperature === 0.2 && newest.config.model === "gpt-4.1-mini", JSON.stringify(newest));
const first = await prompts.get("support_answer", { version: 1 });
await step("… a version", first.version === 1 && prompts.compile(first.prompt, { shop: "Elm Street", sentences: 3 }) === one, JSON.stringify(first));
const labelled = await prompts.get("support_answer", { label: "staging" });
await step("… a label", labelled.version === 2 && labelled.label === "staging" && (await prompts.get("support_answer", { label: "staging" })).source === "cache");
const all = await prompts.getAll({ label: "production" });
await step("… all of a label", Object.keys(all).join() === "support_answer" && all.support_answer.version === 2 && Object.keys(await prompts.getAll()).length === 1);
const none = await prompts.get("no_such_prompt", { fallback: "FALLBACK" });
await step("… and falls back for one that is not there", none.source === "code_fallback" && none.prompt === "FALLBACK");
const stranger = await new Prompts({ personalApiKey: KEY, projectApiKey: "phc_another", host: base }).get("support_answer").then(() => "", String);
await step("… a token of another project is refused", stranger.includes("Access denied"), stranger);

await step("the browser has nothing to complain of", trouble.length === 0, trouble.join("\n"));
await browser.close();
