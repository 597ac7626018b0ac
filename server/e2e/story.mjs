// The whole life of a prompt in a real browser, without the API: a prompt and
// its second version, the difference, labels, a rollout behind PostHog's flag,
// an experiment, traffic through the gateway, the verdict, a trace of a lost
// ticket, and the better version for all users.
//
//   TOKEN=phc_… node story.mjs BASE SIGN_IN_URL FOLDER
//
// In the traffic a ticket is resolved in 80 % of the conversations in which the
// provider was instructed to say what happens next, else in 40 %. It prints a
// line of JSON for each step that passed, and stops at the first failure.
import { base, counts, enter, everyWay, launch, sees as shows, until, visit } from "./look.mjs";

const { TOKEN, KEY } = process.env;
const browser = await launch();
const { page, trouble } = await visit(browser, { tolerated: /status of 4\d\d/ });
const step = async (name, ok, why = "") => {
  if (!ok) throw new Error(`${name}: not so at ${page.url()} ${why}\n${await page.locator("body").innerText()}`);
  console.log(JSON.stringify({ step: name }));
};
const sees = (...texts) => shows(page, ...texts);
const looks = (name) => everyWay(page, name, (found) => step(`${name}, ${found.at}`, found.trouble.length === 0, found.trouble.join("\n")));
const field = (name) => page.locator(`main [name="${name}"]`);
const side = (name) => page.getByRole("navigation").getByRole("link", { name, exact: true }).first().click();

await enter(page);

// A prompt, and a version that says more.
await page.goto(base + "/p/default/overview");
await side("Prompts");
await page.getByRole("link", { name: "New prompt" }).click();
await field("name").fill("support_answer");
await field("message_0_content").fill("You answer the tickets of {{shop}}.\nBe kind.");
await field("model").fill("gpt-4.1-mini");
await field("note").fill("the first one");
await page.getByRole("button", { name: "Create prompt" }).click();
await step("the prompt is made", await sees("Version 1 has the label production"));
await page.getByRole("link", { name: "New version" }).click();
await field("message_0_content").fill("You answer the tickets of {{shop}}.\nBe kind, and say what happens next.");
await field("note").fill("says what happens next");
await field("label").selectOption("staging");
await page.getByRole("button", { name: "Save as new version" }).click();
await step("the second version has its label", await sees("Version 2 saved with the label staging"));
await page.getByRole("link", { name: "Changes" }).click();
await step("the difference is seen", await counts(page.locator(".diff .removed", { hasText: "Be kind." }), 1) && await counts(page.locator(".diff .added", { hasText: "say what happens next" }), 1));

// Version 2 for the variant treatment, behind PostHog's flag.
await side("Rollouts");
await page.getByRole("combobox", { name: "Prompt" }).selectOption("support_answer");
await page.getByRole("button", { name: "Choose" }).click();
await field("flag").fill("support-prompt");
await field("version-0").selectOption("1");
await step("the newest version is offered to the treatment", await field("version-1").inputValue() === "2" && await sees("The PostHog flag with this key decides"));
await page.getByRole("button", { name: "Start rollout" }).click();
await step("the rollout is in force", await sees("Rollout started"));

// Primary metric and guardrails, set before there is any data.
await page.getByRole("link", { name: "Compare the variants in an experiment" }).click();
await step("the form knows the rollout", await field("flag").inputValue() === "support-prompt" && await field("arm0").inputValue() === "control" && await field("arm1").inputValue() === "treatment");
await field("name").fill("Says what happens next");
await field("primary").selectOption({ label: "Custom metric (event and property)" });
await page.getByText("Custom metric, evaluation").first().click();
await field("primary_event").fill("support_ticket_resolved");
await field("primary_property").fill("resolved");
await field("detect").fill("15");
await field("planned").fill("400");
await field("guard0").selectOption("escalation_rate");
await field("guard0_versus").selectOption("control");
await field("guard0_limit").fill("20");
await field("guard1").selectOption("latency_p95_ms");
await field("guard1_versus").selectOption("value");
await field("guard1_limit").fill("20000");
await page.getByRole("button", { name: "Save", exact: true }).click();
await step("the experiment has begun", await sees("Experiment saved") && await sees("collecting"));
const experiment = page.url().split("?")[0];

// Traffic: the prompt and its values go to the gateway; the version that a user
// got is read from the provider's request.
const users = 400, batch = [], tasks = [];
let treated = 0;
const talk = async (i) => {
  const user = `customer-${i}`, trace = `ticket-${i}`;
  const r = await fetch(base + "/openai/v1/chat/completions", { method: "POST",
    headers: { "Content-Type": "application/json", Authorization: "Bearer sk-simulated", "X-Hedgerow-Prompt": "support_answer", "X-PostHog-Distinct-Id": user, "X-PostHog-Trace-Id": trace },
    body: JSON.stringify({ model: "any", prompt_variables: { shop: "Elm Street" }, messages: [{ role: "user", content: `Where is parcel ${i}?` }] }) });
  if (r.status !== 200) throw new Error(`the call answers ${r.status} ${await r.text()}`);
  await r.text();
  // The API returns the same for this user as the gateway.
  const { version: { number } } = await (await fetch(base + "/api/v1/prompts/support_answer/resolve", { method: "POST", headers: { Authorization: "Bearer " + KEY }, body: JSON.stringify({ distinct_id: user }) })).json();
  if (number === 2) treated++;
  batch.push({ event: "support_ticket_resolved", distinct_id: user, properties: { trace_id: trace, resolved: (i * 37) % 100 < (number === 2 ? 80 : 40) } },
    { event: "llm_task_completed", distinct_id: user, properties: { trace_id: trace, task_completed: true, escalated_to_human: i % 25 === 0 } });
};
for (let i = 0; i < users; i++) tasks.push(i);
await Promise.all(Array.from({ length: 8 }, async () => { while (tasks.length) await talk(tasks.pop()); }));
await step("both versions ran", treated > users / 5 && treated < users * 4 / 5, String(treated));
const told = await fetch(base + "/batch/", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ api_key: TOKEN, batch }) });
await step("the outcomes are taken", told.status === 200, await told.text());

// The verdict.
await until(async () => {
  await page.goto(experiment);
  return await page.getByRole("region", { name: "Result" }).getByText("treatment is better than control").count() && await page.getByRole("region", { name: "Variants" }).getByText(String(treated), { exact: true }).count();
});
const verdict = await page.locator("main").innerText();
await step("the verdict is the truth", /\bwinner\b/.test(verdict) && verdict.includes("treatment is better than control") && verdict.includes(String(treated)), verdict);
await looks("verdict");

// A ticket that the control lost.
await page.getByRole("region", { name: "Primary metric" }).getByRole("link").first().click();
await step("the worst come first", await sees("Worst first") && await sees("0 of 1"));
await looks("behind");
await page.locator("main tbody tr").first().getByRole("link").first().click();
await page.waitForURL(/\/traces\/ticket-/);
await step("the trace is the lost ticket's", await sees("gpt-4.1-mini"));
await page.locator("main").getByRole("link", { name: /gpt-4\.1-mini|chat|support_answer/ }).first().click();
await step("it shows what the control told the provider", await sees("You answer the tickets of Elm Street.") && !(await page.locator("main").innerText()).includes("say what happens next"));
await looks("losing-trace");

// The rollout shows its calls; then all users get the better version.
await side("Prompts");
await side("Rollouts");
await page.getByRole("link", { name: "support_answer" }).click();
await step("the arms have their calls", await counts(page.getByRole("region", { name: "Traffic split" }).getByRole("link", { name: String(treated), exact: true }), 1));
await looks("rollout");
await side("Prompts");
await page.getByRole("link", { name: "support_answer" }).click();
await field("version").selectOption("2");
await field("reason").fill("resolves more tickets");
await page.getByRole("button", { name: "Move", exact: true }).click();
await step("production is version 2", await sees("Label production now points to version 2"));
await step("the browser has nothing to complain of", trouble.length === 0, trouble.join("\n"));
await browser.close();
