// The ground of the page: words, elements, numbers, colours, files. Everything hangs on one global, `berth`.
"use strict";
const berth = (window.berth = { panels: {} });

berth.query = new URLSearchParams(location.search);
berth.lang = (berth.query.get("lang") || navigator.language || "en").toLowerCase().startsWith("ko") ? "ko" : "en";
document.documentElement.lang = berth.lang;

// Gradio takes its language from the browser alone; a language in the address is put into the store that it reads.
if (berth.query.get("lang")) {
  const runtime = performance.getEntriesByType("resource").find((entry) => /\/assets\/runtime-[^/]*\.js$/.test(entry.name));
  if (runtime) {
    import(runtime.name).then((module) => {
      for (const store of Object.values(module)) {
        let now = null;
        if (store && store.subscribe && store.set) store.subscribe((value) => (now = value))();
        if (typeof now === "string") store.set(berth.lang);
      }
    });
  }
}

/** The words for `key` in the reader's language, with {name} filled from `values`. */
berth.t = (key, values = {}) => {
  const words = window.gradio_config.i18n_translations[berth.lang];
  const text = words[key];
  return text === undefined ? key : text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
};
berth.knows = (key) => key in window.gradio_config.i18n_translations[berth.lang];

const SVG = new Set(["svg", "g", "rect", "line", "path", "text", "title", "circle"]);

/** An element. Children that are strings become text, never markup. */
berth.el = (tag, attributes = {}, ...children) => {
  const node = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child || child === 0));
  return node;
};

berth.button = (label, onclick, kind = "quiet", more = {}) =>
  berth.el("button", { type: "button", class: `bb ${kind}`, onclick, ...more }, label);

// numbers

berth.count = (number) => number.toLocaleString(berth.lang);
berth.fixed = (number, digits) =>
  number.toLocaleString(berth.lang, { minimumFractionDigits: digits, maximumFractionDigits: digits });
berth.percent = (share) => `${berth.fixed(share * 100, 2)} %`;
berth.bytes = (bytes) => {
  const [unit, size] = bytes >= 2 ** 30 ? ["GiB", 2 ** 30] : bytes >= 2 ** 20 ? ["MiB", 2 ** 20] : ["KiB", 2 ** 10];
  const value = bytes / size;
  return `${berth.fixed(value, value < 9.95 && bytes >= 2 ** 20 ? 1 : 0)} ${unit}`;
};
berth.ms = (ms) => (ms >= 1000 ? `${berth.fixed(ms / 1000, 2)} s` : `${berth.fixed(ms, ms < 10 ? 1 : 0)} ms`);
berth.seconds = (s) => (s >= 90 ? berth.t("minutes", { n: Math.round(s / 60) }) : berth.t("seconds", { n: Math.ceil(s) }));

// colours: one set that colour-blind readers can tell apart; a label keeps its own

const KNOWN = {
  PER: 0, PERSON: 0, PS: 0, ORG: 1, ORGANIZATION: 1, OG: 1, LOC: 2, LOCATION: 2, GPE: 2, LC: 2,
  DAT: 3, DATE: 3, DT: 3, TIM: 4, TIME: 4, TI: 4, MISC: 5, QTY: 6, QT: 6, EVT: 7,
  positive: 2, negative: 1, neutral: 7, POSITIVE: 2, NEGATIVE: 1, NEUTRAL: 7,
};
const COLOURS = 8; // the --c0 … --c7 of the stylesheet

/** Index of the colour of `label`: by what it means, else by where it stands among the model's labels. */
berth.colour = (label, labels = []) => {
  const bare = label.replace(/^[BIES]-/, "");
  if (bare in KNOWN) return KNOWN[bare];
  const bares = [...new Set(labels.map((other) => other.replace(/^[BIES]-/, "")))].sort();
  const place = bares.indexOf(bare);
  if (place >= 0) return place % COLOURS;
  let hash = 0;
  for (const letter of bare) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
  return hash % COLOURS;
};

// files and the clipboard

berth.save = (name, type, text) => {
  const url = URL.createObjectURL(new Blob([text], { type }));
  berth.el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
};

/** Rows as CSV. A cell that a spreadsheet would run as a formula is put behind an apostrophe. */
berth.csv = (rows) => {
  const cell = (value) => {
    const text = typeof value === "string" && /^[\s]*[=+\-@\t\r]/.test(value) ? `'${value}` : String(value ?? "");
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return "\ufeff" + rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n"; // the mark tells Excel: UTF-8
};

berth.copy = async (text, button) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = berth.el("textarea", { class: "off-screen" }); // no clipboard outside https and localhost
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const before = button.textContent;
  button.textContent = berth.t("copied");
  setTimeout(() => (button.textContent = before), 1200);
};

// tables that sort

/** A table. `columns`: {title, value(row), show(row)?, number?, wide?, last?}. A click on a heading sorts by it.
 *  Its `fill(rows)` puts in other rows and keeps the order; `cards` makes a card of each row on a phone. */
berth.table = (columns, rows, { cards = false } = {}) => {
  const { el } = berth;
  let by = null, down = false;
  const body = el("tbody");
  const arrow = () => el("span", { class: "arrow", "aria-hidden": "true" });
  const heads = columns.map((column, index) =>
    el("th", { scope: "col", class: column.number ? "number" : null },
      column.value ? el("button", { type: "button", onclick: () => sort(index) }, column.title, arrow()) : column.title));
  const kind = (column) => ["number", "wide", "last"].filter((name) => column[name]).join(" ") || null;
  const cell = (column, row) =>
    el("td", { class: kind(column), "data-title": column.title || null }, column.show ? column.show(row) : String(column.value(row)));
  const ordered = () => {
    if (by === null) return rows;
    const value = columns[by].value;
    const compare = (x, y) => (typeof x === "number" ? x - y : String(x).localeCompare(String(y), berth.lang));
    return [...rows].sort((a, b) => (down ? -1 : 1) * compare(value(a), value(b)));
  };
  const fill = (others = rows) => {
    rows = others;
    body.replaceChildren(...ordered().map((row) => el("tr", {}, columns.map((column) => cell(column, row)))));
  };
  const sort = (index) => {
    down = by === index ? !down : Boolean(columns[index].number);
    by = index;
    heads.forEach((head, at) => {
      if (at === by) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    fill();
  };
  fill();
  const box = el("div", { class: cards ? "table cards" : "table" }, el("table", {}, el("thead", {}, el("tr", {}, heads)), body));
  box.fill = fill;
  return box;
};

// panels

/** The heading of a section's options. What stands under it is in the page all the time, and shown when this says so. */
berth.panels.fold = ({ root, options }) => {
  const { el, t } = berth;
  const toggle = () => head.setAttribute("aria-expanded", String(head.getAttribute("aria-expanded") === "false"));
  const head = el("button", { type: "button", class: "fold", "aria-expanded": "false", onclick: toggle },
    el("span", { class: "arrow", "aria-hidden": "true" }, "▼"), el("span", {}, t("options")), el("span", { class: "summary" }));
  root.append(head);
  berth.summarise(options.section);
};

berth.onTab = new Set(); // called when another tab is shown

/** Called by Gradio for each Panel when it is put into the page. */
berth.open = (kind, options, element, props, trigger, server, watch) => {
  const root = element.querySelector(".berth-panel");
  berth.panels[kind]({ root, options, props, trigger, server, watch });
};
