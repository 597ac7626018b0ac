// The search of the documentation. The index, docsIndex, has every section as address, page,
// heading, text. It is loaded when the search is used first. Everything runs in the browser.

// words are the words of a text in lower case, without a plural's s.
function words(text) {
  return (text.toLowerCase().match(/[\p{L}\p{N}_$]+/gu) ?? []).map((w) => (w.length > 3 && w.endsWith("s") && !w.endsWith("ss") ? w.slice(0, -1) : w));
}

// prepare reads an index once: the words of each section.
function prepare(index) {
  return index.map(([address, page, heading, text]) => ({ address, page, heading, text, parts: [[8, words(heading)], [5, words(page)], [3, words(text)]] }));
}

// likeness of a word to a term of the question: 1 for equal, less for a beginning or a part.
function likeness(word, term) {
  if (word === term) return 1;
  if (word.startsWith(term)) return 0.5;
  return term.length > 3 && word.includes(term) ? 0.25 : 0;
}

// rank returns the sections that have all words of the question, or if none has them all,
// those that have some; the best first. A term that few sections have counts more, and many
// mentions count more than one, though ever less, and less in a long text.
function rank(sections, question) {
  const terms = [...new Set(words(question))];
  const scores = terms.map((term) =>
    sections.map(({ parts }) =>
      parts.reduce((sum, [weight, list]) => {
        let likes = 0;
        for (const word of list) likes += likeness(word, term);
        return sum + (weight * likes) / (likes + 0.5 + list.length / 150);
      }, 0)));
  const rarity = scores.map((list) => Math.log(1 + sections.length / (1 + list.filter((s) => s > 0).length)));
  const hits = sections.map((section, i) => ({
    section,
    has: scores.filter((list) => list[i] > 0).length,
    score: scores.reduce((sum, list, t) => sum + list[i] * rarity[t], 0),
  }));
  const most = Math.max(...hits.map((h) => h.has), 0);
  if (most === 0) return [];
  return hits.filter((h) => h.has === most).sort((a, b) => b.score - a.score).map((h) => h.section);
}

// excerpt is the part of a text around the first term, in pieces: [text, whether it is a term].
function excerpt(text, question) {
  const terms = words(question).map((t) => t.replace(/\$/g, "\\$"));
  if (terms.length === 0) return [];
  const term = new RegExp(`(${terms.join("|")})`, "giu");
  const start = Math.max(0, text.search(term) - 60);
  const from = start === 0 ? 0 : text.indexOf(" ", start) + 1;
  const part = (from > 0 ? "… " : "") + text.slice(from, from + 190) + (text.length > from + 190 ? " …" : "");
  return part.split(term).map((piece, i) => [piece, i % 2 === 1]);
}

function start() {
  const root = document.currentScript.dataset.root;
  const form = document.querySelector("form[role=search]");
  const input = form.querySelector("input");
  const found = document.getElementById("found");
  const status = form.querySelector("[role=status]");
  const results = document.getElementById("results"); // on the page of results only
  let sections;

  const load = () => (sections ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `${root}index.js`;
    script.onload = () => resolve(prepare(globalThis.docsIndex));
    script.onerror = () => { sections = undefined; reject(new Error("the index could not be loaded")); };
    document.head.append(script);
  }));

  const element = (name, className, ...children) => {
    const e = document.createElement(name);
    if (className) e.className = className;
    e.append(...children);
    return e;
  };
  const hit = (section, question) => {
    const a = element("a", "hit", element("b", "", section.heading));
    if (section.page !== section.heading) a.append(" ", element("span", "page", section.page));
    a.append(element("span", "text", ...excerpt(section.text, question).map(([text, term]) => (term ? element("mark", "", text) : text))));
    a.href = root + section.address;
    return a;
  };
  const show = async (into, question, most) => {
    let content, said;
    try {
      const hits = question.trim() ? rank(await load(), question) : [];
      said = question.trim() ? `${hits.length === 1 ? "1 section" : `${hits.length} sections`} found` : "";
      content = hits.slice(0, most).map((section) => hit(section, question));
      if (into === results || hits.length === 0) content.unshift(element("p", "", said || "Type what you look for above."));
    } catch (err) {
      said = `Search failed: ${err.message}.`;
      content = [element("p", "", said)];
    }
    if (question !== input.value) return; // a newer question is on its way
    into.replaceChildren(...content);
    status.textContent = said;
  };
  const close = () => { found.hidden = true; };

  input.addEventListener("focus", () => load().catch(() => {})); // reported when a question is asked
  input.addEventListener("input", () => {
    if (results) {
      history.replaceState(null, "", input.value ? `?q=${encodeURIComponent(input.value)}` : location.pathname);
      show(results, input.value, 40);
      return;
    }
    found.hidden = !input.value.trim();
    if (!found.hidden) show(found, input.value, 8);
  });
  form.addEventListener("keydown", (e) => {
    const stops = [input, ...(results ?? found).querySelectorAll("a")];
    const at = stops.indexOf(document.activeElement);
    if (e.key === "Escape" && !found.hidden) {
      close();
      input.focus();
    } else if ((e.key === "ArrowDown" || e.key === "ArrowUp") && stops.length > 1) {
      stops[(at + (e.key === "ArrowDown" ? 1 : stops.length - 1)) % stops.length].focus();
    } else {
      return;
    }
    e.preventDefault();
  });
  form.addEventListener("focusout", (e) => { if (!form.contains(e.relatedTarget)) close(); });
  found.addEventListener("mousedown", (e) => e.preventDefault()); // a click must not close the list first
  form.addEventListener("submit", (e) => { if (results) e.preventDefault(); });
  document.addEventListener("keydown", (e) => {
    if (e.key === "/" && !e.ctrlKey && !e.metaKey && !e.altKey && document.activeElement !== input) {
      e.preventDefault();
      input.focus();
    }
  });
  if (results) {
    input.value = new URLSearchParams(location.search).get("q") ?? "";
    if (input.value) show(results, input.value, 40);
    input.focus();
  }
}

if (typeof document !== "undefined") start();
