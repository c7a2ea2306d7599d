// Where the reader is: what is typed, the address, the keyboard.
berth.at = {}; // section → the values on the screen, the model's name among them
berth.redraw = {}; // section → draws its code again
berth.tab = berth.startTab = berth.query.get("tab") || "classify";
for (const section of ["classify", "ner", "embed", "generate", "chat", "vision", "ask", "fill"]) berth.at[section] = {};

/** Called by Gradio when anything in a section changes. */
berth.seen = (section, names, values) => {
  Object.assign(berth.at[section], Object.fromEntries(names.map((name, index) => [name, values[index]])));
  berth.redraw[section]?.();
  berth.summarise(section);
};

/** Called when a model line has a model. */
berth.chosen = (section, role, name) => {
  berth.at[section][role] = name;
  berth.redraw[section]?.();
  berth.summarise(section);
  berth.told(); // much on the page depends on what this model can do
  if (section === berth.tab && role === "model") berth.address();
};

berth.address = () => {
  const query = new URLSearchParams(location.search);
  query.set("tab", berth.tab);
  const model = berth.at[berth.tab]?.model;
  if (model) query.set("model", model);
  else query.delete("model");
  if (berth.conversation[berth.tab]) query.set("conversation", berth.conversation[berth.tab]);
  else query.delete("conversation");
  history.replaceState(null, "", `${location.pathname}?${query.toString().replaceAll("%2F", "/")}`);
};

/** Called by Gradio when a tab is shown. */
berth.atTab = (name) => {
  berth.tab = name;
  berth.onTab.forEach((listener) => listener());
  document.getElementById(`tab-${name}-button`)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  berth.address();
  requestAnimationFrame(() => Object.keys(berth.at).forEach(berth.summarise));
};

/** The values behind a closed "Options", in its heading. */
berth.summarise = (section) => {
  const place = document.querySelector(`#options-${section} .summary`);
  const values = berth.summaries[section]?.(berth.at[section]);
  if (place && values) place.textContent = values.filter(Boolean).join(" · ");
};
berth.summaries = {
  classify: ({ top_k, per_line, compare }) => [
    berth.t("summary_top", { n: top_k }), !berth.namesPictures() && berth.t(per_line ? "summary_lines" : "summary_whole"),
    compare && berth.t("summary_compare", { model: compare }),
  ],
  ner: ({ aggregation }) => [aggregation],
  embed: ({ normalize }) => [berth.t(`normalize_${normalize}`)],
  generate: ({ max_tokens, temperature, seed, n }) => [
    berth.t("summary_tokens", { n: berth.count(max_tokens ?? 0) }), berth.t("summary_temperature", { n: temperature }),
    seed?.trim() && berth.t("summary_seed", { n: seed.trim() }), n > 1 && berth.t("summary_samples", { n }),
  ],
  chat: ({ max_tokens, temperature, seed }) => [
    berth.frame.named()?.title, berth.t("summary_tokens", { n: berth.count(max_tokens ?? 0) }),
    berth.t("summary_temperature", { n: temperature }), seed?.trim() && berth.t("summary_seed", { n: seed.trim() }),
  ],
  vision: ({ max_tokens, temperature, seed }) => [
    berth.t("summary_tokens", { n: berth.count(max_tokens ?? 0) }),
    berth.t("summary_temperature", { n: temperature }), seed?.trim() && berth.t("summary_seed", { n: seed.trim() }),
  ],
  ask: ({ top_k }) => [berth.t("summary_top", { n: top_k })],
  fill: ({ top_k }) => [berth.t("summary_top", { n: top_k })],
};

/** What Classify asks for is what its model reads: texts, maybe with labels to choose from, or a picture. */
const classifies = (task) => {
  const name = berth.at.classify.model;
  const tasks = berth.store.models.get(name)?.tasks ?? berth.store.catalog.filter((e) => e.name === name).map((e) => e.task);
  return tasks.includes(task);
};
berth.canZeroShot = () => classifies("zero-shot-classification");
berth.namesPictures = () => classifies("image-classification");
berth.forModel = () => {
  document.body.classList.toggle("can-zero-shot", berth.canZeroShot());
  document.body.classList.toggle("names-pictures", berth.namesPictures());
};
berth.onModels(() => berth.forModel());

document.addEventListener("keydown", (event) => {
  const place = event.target.closest?.('[id^="tab-"]');
  const section = place?.id.slice(4);
  if (event.key === "Escape" && document.querySelector(`[class*="running-${berth.tab}"]`)) {
    document.getElementById(`stop-${berth.tab}`)?.click();
  }
  if (event.key !== "Enter" || !section || event.isComposing) return;
  const isLong = event.target.tagName === "TEXTAREA";
  const isOneLine = event.target.tagName === "INPUT" && event.target.type === "text";
  if ((isLong && (event.ctrlKey || event.metaKey)) || isOneLine) {
    event.preventDefault();
    document.getElementById(`run-${section}`)?.click();
  }
});

/** The line above the tabs. */
berth.panels.brand = ({ root }) => {
  const { el, t } = berth;
  const other = berth.lang === "ko" ? ["en", "English"] : ["ko", "한국어"];
  const there = () => {
    const query = new URLSearchParams(location.search);
    query.set("lang", other[0]);
    location.search = query;
  };
  root.append(el("div", { class: "brand" },
    el("strong", {}, "Berth"), el("span", { class: "offline", role: "status" }, t("offline")),
    el("nav", {}, el("a", { href: "docs" }, t("api_docs")),
      el("button", { type: "button", lang: other[0], onclick: there }, other[1]))));
};

/** Called once Gradio has put the page together. */
berth.start = () => {
  if (berth.startTab !== "classify") document.getElementById(`tab-${berth.startTab}-button`)?.click();
};
