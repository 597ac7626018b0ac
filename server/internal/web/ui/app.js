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

// The server writes times in the reader's zone, which only the browser knows.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const told = "hedgerow_zone=" + encodeURIComponent(zone ?? "");
if (zone && !document.cookie.split("; ").includes(told)) {
  document.cookie = told + "; path=/; max-age=31536000; samesite=lax" + (location.protocol === "https:" ? "; secure" : "");
}

// Theme and side bar change at once; the cookie, for the next page, comes with the
// answer.
document.addEventListener("submit", (e) => {
  const { theme, side } = e.submitter ? { [e.submitter.name]: e.submitter.value } : {};
  if (!e.target.action.endsWith("/appearance") || !(theme || side)) return;
  e.preventDefault();
  const body = new URLSearchParams(new FormData(e.target, e.submitter));
  fetch(e.target.action, { method: "POST", body, redirect: "manual" });
  const root = document.documentElement;
  if (theme) root.dataset.theme = theme;
  if (side) root.dataset.side = side;
  document.getElementById("palette")?.close();
  if (theme) for (const b of document.querySelectorAll(".themes button")) b.setAttribute("aria-pressed", b.value === theme);
  document.dispatchEvent(new Event("theme"));
});

// A breadcrumb leads back to the list as it was left.
const left = (path) => "list " + path;
for (const a of document.querySelectorAll("a[data-crumb]")) {
  const query = sessionStorage.getItem(left(a.pathname));
  if (query && !a.search) a.search = query;
}
addEventListener("pagehide", () => { if (document.querySelector("[data-range]")) sessionStorage.setItem(left(location.pathname), location.search); });

// An error has none of the part that was asked for: it is shown as it is.
document.addEventListener("htmx:beforeSwap", (e) => {
  if (e.detail.xhr.status >= 400 && e.detail.elt.hasAttribute("hx-select")) e.detail.selectOverride = "h1, p";
});

// Times are written as the clock shows them or, if the reader wants, as how long
// ago they were.
const steps = [[60, "second", 1], [3600, "minute", 60], [86400, "hour", 3600], [Infinity, "day", 86400]];
const ago = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
function times(root) {
  const relative = localStorage.getItem("times") === "relative";
  for (const t of root.querySelectorAll("time[datetime]")) {
    t.dataset.clock ??= t.textContent;
    const seconds = (Date.parse(t.dateTime) - Date.now()) / 1000;
    const [, unit, size] = steps.find(([below]) => Math.abs(seconds) < below);
    t.textContent = relative ? ago.format(Math.round(seconds / size), unit) : t.dataset.clock;
    t.title = relative ? t.dataset.clock : "";
  }
  for (const button of root.querySelectorAll("button[data-times]")) {
    button.setAttribute("aria-pressed", relative);
    button.onclick = () => {
      localStorage.setItem("times", relative ? "clock" : "relative");
      times(document);
    };
  }
}
setInterval(() => { if (localStorage.getItem("times") === "relative" && !document.hidden) times(document); }, 10_000);

// Addresses stay short: a field that is empty is no filter.
document.addEventListener("htmx:configRequest", (e) => {
  if (!e.detail.elt.matches("form.picker, form.find")) return;
  for (const [name, value] of [...e.detail.formData.entries()]) if (value === "") e.detail.formData.delete(name);
});

// Single keys, as in many places: "/" leads to the filters, j and k walk the rows
// of tables, and so do the arrows once a row has the focus. Enter opens what has
// it, which is the row's first link. "?" lists them.
const rowLinks = () => [...document.querySelectorAll("#page tbody tr")].map((r) => r.querySelector("a[href]")).filter((a) => a?.checkVisibility());
const keys = {
  "/": () => {
    const search = document.querySelector("main form.find input");
    const filters = document.querySelector(".picker details");
    if (!search && !filters) return false;
    if (!search) filters.open = true;
    (search ?? filters.querySelector("input:not([type=datetime-local])")).focus();
  },
  t: () => document.querySelector("select[data-range]")?.focus({ focusVisible: true }) ?? Boolean(document.querySelector("select[data-range]")),
  y: () => { navigator.clipboard?.writeText(location.href); },
  "[": () => [...document.querySelectorAll(".fold button")].find((b) => b.checkVisibility())?.click(),
  g: () => { prefix = Date.now(); },
  "?": () => document.getElementById("shortcuts")?.togglePopover(),
  j: () => walk(1),
  k: () => walk(-1),
  ArrowDown: () => inRow() && walk(1),
  ArrowUp: () => inRow() && walk(-1),
};
const inRow = () => Boolean(document.activeElement?.closest("#page tbody tr"));
function walk(by) {
  const links = rowLinks();
  const row = document.activeElement?.closest("tbody tr");
  const at = links.findIndex((a) => row?.contains(a));
  const next = links[at < 0 ? 0 : Math.min(Math.max(at + by, 0), links.length - 1)];
  if (!next) return false;
  next.focus({ focusVisible: true });
  next.closest("tr").scrollIntoView({ block: "nearest" });
}
// After "g", the key of an entry of the side bar.
let prefix = 0;
document.addEventListener("keydown", (e) => {
  if (e.key === "Escape" && e.target.matches("input, select, textarea")) {
    // A field gives the keyboard back to the page, and takes its folded form with it.
    if (e.target.closest("dialog")) return; // which closes
    const folded = e.target.closest(".picker details[open]");
    e.target.blur();
    if (folded) {
      folded.open = false;
      folded.querySelector("summary").focus();
    }
    return;
  }
  if (e.ctrlKey || e.metaKey || e.altKey || document.querySelector("dialog[open]") || e.target.closest("input, select, textarea")) return;
  const entry = Date.now() - prefix < 1500 && document.querySelector(`.menu a[data-key="${CSS.escape(e.key)}"]`);
  prefix = 0;
  if (entry) {
    e.preventDefault();
    location.href = entry.href;
    return;
  }
  if (Object.hasOwn(keys, e.key) && keys[e.key]() !== false) e.preventDefault();
});

// The command palette: the search page's results, in a dialog. Arrows walk them from
// the field, Enter opens the first.
const palette = document.getElementById("palette");
const field = palette?.querySelector("input");
function openPalette() {
  const page = document.querySelector("main form[action$='/search'] input");
  if (page) return page.focus();
  if (!palette || palette.open) return;
  palette.showModal();
  field.select();
  htmx.trigger(field, "open");
}
document.addEventListener("keydown", (e) => {
  if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === "k" && (palette || document.querySelector("main form[action$='/search']"))) {
    e.preventDefault();
    if (palette?.open) palette.close();
    else openPalette();
  }
});
document.addEventListener("click", (e) => {
  if (!e.target.closest("[data-palette]") || !palette || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey) return;
  e.preventDefault();
  openPalette();
});
palette?.addEventListener("click", (e) => { if (e.target === palette) palette.close(); });
palette?.addEventListener("keydown", (e) => {
  const items = [...palette.querySelectorAll(".found-item")];
  const at = items.indexOf(document.activeElement);
  if (e.key === "Enter" && document.activeElement === field && items.length) {
    e.preventDefault();
    items[0].click();
  }
  if (e.key !== "ArrowDown" && e.key !== "ArrowUp") return;
  e.preventDefault();
  const next = at + (e.key === "ArrowDown" ? 1 : -1);
  (next < 0 ? field : items[Math.min(next, items.length - 1)] ?? field).focus({ focusVisible: true });
});

// A row that is loaded anew keeps the focus.
let focused;
document.addEventListener("htmx:beforeSwap", () => { focused = inRow() ? document.activeElement.getAttribute("href") : null; });
document.addEventListener("htmx:afterSwap", () => {
  if (focused && document.activeElement === document.body) rowLinks().find((a) => a.getAttribute("href") === focused)?.focus({ focusVisible: true });
});

// Examples of a point of a chart: the table below a chart has an address, to which
// row and column add theirs. It is that of the list of events; with scripts, what the
// list would show first comes in a drawer beside the chart.
const drawer = document.getElementById("drawer");
function behind(table, row, column) {
  const to = new URL(table.dataset.href, location.href);
  for (const part of [row, table.tHead.rows[0].cells[column]]) {
    const more = new URLSearchParams(part?.dataset.q ?? "");
    for (const name of new Set(more.keys())) {
      to.searchParams.delete(name);
      for (const value of more.getAll(name)) if (value !== "" || name.endsWith("group")) to.searchParams.append(name, value);
    }
  }
  if (to.searchParams.has("from")) to.searchParams.delete("range");
  return to;
}
function showExamples(list) {
  const to = new URL(list, location.href);
  to.pathname = to.pathname.replace(/\/events$/, "/examples");
  const body = document.getElementById("drawer-body");
  body.textContent = "Loading examples …";
  if (!drawer.open) drawer.showModal();
  // By its hx-sync, what was asked for before does not come any more.
  htmx.ajax("GET", to.pathname + to.search, { source: body, target: body, swap: "innerHTML ignoreTitle:true" });
}
drawer?.addEventListener("click", (e) => { if (e.target === drawer) drawer.close(); });
document.addEventListener("point", (e) => showExamples(behind(e.target, e.detail.row, e.detail.column)));
document.addEventListener("click", (e) => {
  const at = e.target.closest("table[data-href] :is(a, button.point), a[data-point]");
  if (!at || !drawer || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey) return;
  e.preventDefault();
  const cell = at.closest("td");
  showExamples(at.href || behind(at.closest("table"), cell.closest("tr"), cell.cellIndex));
});

// points makes each number of a chart's table a button that shows its examples: a
// chart without a mouse.
function points(table) {
  if (table.dataset.points) return;
  table.dataset.points = "true";
  for (const cell of table.tBodies[0].querySelectorAll("td[data-value]:not([data-value=''])")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "point";
    button.textContent = cell.textContent;
    button.setAttribute("aria-label", `${cell.textContent.trim()}: examples of ${cell.closest("tr").cells[0].textContent.trim()}, ${table.tHead.rows[0].cells[cell.cellIndex].textContent.trim()}`);
    cell.replaceChildren(button);
  }
}

function enhance(root) {
  times(root);
  for (const table of root.querySelectorAll("table[data-href]")) {
    const folded = table.closest("details");
    if (!folded) points(table);
    else folded.addEventListener("toggle", () => points(table), { once: true });
  }
  for (const select of root.querySelectorAll("select[data-range]")) {
    select.onchange = () => {
      for (const name of ["from", "to"]) select.form.elements[name].value = "";
      select.form.requestSubmit();
    };
  }
  for (const button of root.querySelectorAll("button[data-copy]")) {
    if (!navigator.clipboard) continue; // only over HTTPS and on loopback
    button.hidden = false;
    button.onclick = async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
      button.textContent = "Copied";
    };
  }
  for (const button of root.querySelectorAll("button[data-share]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.onclick = async () => {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "Copied";
    };
  }
  for (const board of root.querySelectorAll("[data-arrange]")) arrange(board);
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
  for (const box of root.querySelectorAll(".scroll, pre")) sideways.observe(box);
  for (const box of root.querySelectorAll("[data-chart]")) near.observe(box);
}

// arrange lets charts of a dashboard be dragged to another place; their buttons
// do the same without a mouse.
function arrange(board) {
  let dragged;
  board.addEventListener("dragstart", (e) => {
    dragged = e.target.closest(".place");
    dragged?.classList.add("dragged");
  });
  board.addEventListener("dragover", (e) => {
    const over = e.target.closest(".place");
    if (!dragged || !over) return;
    e.preventDefault();
    for (const p of board.children) p.classList.toggle("over", p === over && p !== dragged);
  });
  board.addEventListener("dragend", () => { for (const p of board.children) p.classList.remove("over", "dragged"); });
  board.addEventListener("drop", (e) => {
    const over = e.target.closest(".place");
    if (!dragged || !over || over === dragged) return;
    e.preventDefault();
    const later = [...board.children].indexOf(dragged) < [...board.children].indexOf(over);
    over[later ? "after" : "before"](dragged);
    const form = document.getElementById("order");
    form.elements.order.value = [...board.children].map((p) => p.dataset.id).join(",");
    form.requestSubmit();
  });
}

// Charts are drawn when they come near the window: a page of twelve is ready as
// soon as one of two.
const near = new IntersectionObserver((entries) => {
  const boxes = entries.filter((e) => e.isIntersecting).map((e) => e.target);
  if (!boxes.length) return;
  boxes.forEach((box) => near.unobserve(box));
  import("./charts.js").then((m) => boxes.forEach(m.draw));
}, { rootMargin: "300px" });

// What is wider or higher than its place can be scrolled by keyboard too.
const sideways = new ResizeObserver((entries) => {
  for (const { target: box } of entries) {
    const over = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (over && !box.querySelector("a, button, input, select, summary")) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
});

enhance(document);
// The side bar may be longer than the window: where one is, is in sight.
// Not by scrollIntoView, after which the browser would not restore the page's own place.
const side = document.querySelector(".side");
const chosen = side?.querySelector("[aria-current=page]")?.getBoundingClientRect();
if (chosen && chosen.bottom > innerHeight) side.scrollTop = chosen.bottom - innerHeight + 40;
document.addEventListener("htmx:afterSettle", (e) => enhance(e.detail.elt));
