// What scripts add to pages that work without them. The content security policy
// allows no eval and no inline style or script: htmx is told to do without.
import htmx from "htmx.org";

Object.assign(htmx.config, {
  allowEval: false,
  allowScriptTags: false,
  includeIndicatorStyles: false,
  selfRequestsOnly: true,
  historyCacheSize: 0, // pages of a signed-in person are not kept in the browser
  refreshOnHistoryMiss: true,
  responseHandling: [
    { code: "204", swap: false },
    { code: "...", swap: true }, // errors are fragments too: they say what to do
  ],
});

function enhance(root) {
  for (const button of root.querySelectorAll("button[data-copy]")) {
    if (!navigator.clipboard) continue; // only over HTTPS and on loopback
    button.hidden = false;
    button.onclick = async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
      button.textContent = "Copied";
    };
  }
  for (const field of root.querySelectorAll("[data-autosubmit]")) {
    field.onchange = () => field.form.requestSubmit();
  }
  for (const part of root.querySelectorAll("[data-live]")) {
    if (!part.dataset.live || part.source) continue;
    part.source = new EventSource(part.dataset.live);
    part.source.addEventListener("changed", () => {
      if (part.isConnected) htmx.trigger(part, "changed");
      else part.source.close(); // the page has turned
    });
  }
  const charts = root.querySelectorAll("[data-chart]");
  if (charts.length) import("./charts.js").then((m) => charts.forEach(m.draw));
}

enhance(document);
document.addEventListener("htmx:afterSettle", (e) => enhance(e.detail.elt));
