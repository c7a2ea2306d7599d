// Models: what is here and what can be done about it, the machine's memory, the catalogue.

/** What is said above the table: failures of loads, and what an action did. */
berth.news = (root) => {
  const { el, t } = berth;
  berth.onModels(() => {
    const { failures, said } = berth.store;
    const close = (act) => berth.button("×", () => { act(); berth.told(); }, "close", { "aria-label": t("close") });
    const parts = [...failures].map(([name, error]) => {
      const notice = berth.errorNotice(error, name);
      notice.append(close(() => failures.delete(name)));
      return notice;
    });
    if (said) {
      const values = { ...said.values, bytes: berth.bytes(said.values.bytes ?? 0) };
      parts.push(berth.notice("hint said", null, t(said.key, values), close(() => (berth.store.said = null))));
    }
    root.replaceChildren(...parts);
  });
};

berth.params = (count) => new Intl.NumberFormat(berth.lang, { notation: "compact", maximumFractionDigits: 1 }).format(count);

/** Where a model comes from, when its name does not say it all. */
berth.origin = ({ name, source, revision }) => {
  const commit = revision && revision !== "local" ? `@${revision.slice(0, 8)}` : "";
  return source === name ? commit : `${source}${commit}`;
};

berth.panels.models = ({ root, props, trigger }) => {
  const { el, t } = berth;
  const news = el("div", { class: "news" });
  const place = el("div", {});
  root.append(news, place);
  berth.news(news);
  let asking = null; // the model whose unloading is to be confirmed
  const act = (event, name) => {
    berth.store.said = null;
    berth.store.failures.delete(name);
    trigger(event, { model: name });
  };
  berth.act = act;

  const actions = (model) => {
    if (berth.store.role !== "admin") return "";
    if (berth.isLoading(model)) return berth.button(t("cancel"), () => act("halt", model.name));
    if (model.state === "absent" || model.state === "failed") {
      return el("span", { class: "pairs" }, berth.button(t("load"), () => act("begin", model.name)), berth.button(t("forget"), () => act("unload", model.name)));
    }
    if (!berth.isReady(model)) return "";
    if (asking !== model.name) return berth.button(t("unload"), () => { asking = model.name; draw(); });
    return el("span", { class: "pairs sure" }, el("span", {}, t("unload_sure", { bytes: berth.bytes(model.measured) })),
      berth.button(t("yes_unload"), () => { asking = null; act("unload", model.name); draw(); }, "danger"),
      berth.button(t("keep"), () => { asking = null; draw(); }));
  };

  const columns = [
    { title: t("col_model"), wide: true, value: (m) => m.name, show: (m) => [
      el("strong", {}, m.name), berth.origin(m) && el("small", {}, berth.origin(m))] },
    { title: t("col_state"), value: (m) => m.state, show: (m) => [
      berth.state(m), berth.isLoading(m) && berth.progressBar(m), m.state === "failed" && el("small", { class: "reason" }, m.last_error?.message ?? "")] },
    { title: t("col_task"), value: (m) => m.task ?? "", show: (m) => (m.task ? t(`task_${m.task}`) : "") },
    { title: t("col_runtime"), value: (m) => m.runtime ?? "", show: (m) => berth.facts({ ...m, device: null, measured: 0 }).join(" · ") },
    { title: t("col_size"), number: true, value: (m) => m.parameters ?? 0, show: (m) => (m.parameters ? berth.params(m.parameters) : "") },
    { title: t("col_device"), value: (m) => m.device ?? "", show: (m) => berth.facts({ device: m.device }).join("") },
    { title: t("col_pid"), number: true, value: (m) => m.pid ?? 0, show: (m) => (m.pid ? String(m.pid) : "") },
    { title: t("col_memory"), number: true, value: (m) => m.measured, show: (m) => (m.measured ? berth.bytes(m.measured) : "") },
    { title: t("col_queue"), number: true, value: (m) => m.waiting, show: (m) => berth.count(m.waiting) },
    { title: t("col_served"), number: true, value: (m) => m.served, show: (m) => berth.count(m.served) },
    { title: "", show: actions, last: true },
  ];
  const table = berth.table(columns, [], { cards: true });
  const draw = () => {
    const models = [...berth.store.models.values()];
    table.fill(models);
    place.replaceChildren(models.length ? table : berth.notice("none", t("models_none"), t("models_none_hint")));
  };
  let drawn = "";
  berth.onModels(() => {
    const key = JSON.stringify([[...berth.store.models.values()], berth.store.role, asking]);
    if (key !== drawn) draw();
    drawn = key;
  });
};

/** Who may only use models is told how to manage them, instead of buttons that do nothing. */
berth.panels.signin = ({ root }) => {
  const { el, t } = berth;
  const key = el("input", { type: "password", autocomplete: "current-password", required: true, "aria-label": t("admin_key"), placeholder: t("admin_key") });
  const wrong = el("p", { class: "wrong", role: "alert" });
  const who = el("input", { type: "text", autocomplete: "username", value: "admin", hidden: true }); // for password managers
  const form = el("form", { class: "signin" }, who, el("strong", {}, t("sign_in_title")), el("p", {}, t("sign_in_hint")),
    el("div", { class: "actions" }, key, el("button", { type: "submit", class: "bb primary" }, t("sign_in"))), wrong);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await fetch("session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ key: key.value }) });
    const role = answer.ok ? (await answer.json()).role : null;
    if (role === "admin") location.reload();
    else wrong.textContent = t(role ? "not_admin_key" : "wrong_key");
  });
  root.append(form);
  berth.onModels(() => {
    document.body.classList.toggle("is-user", berth.store.role === "user");
    document.body.classList.toggle("is-admin", berth.store.role === "admin");
  });
};

berth.panels.catalogue = ({ root }) => {
  const { el, t } = berth;
  const search = el("input", { type: "search", placeholder: t("search_placeholder"), "aria-label": t("search"), oninput: () => draw() });
  const task = el("select", { "aria-label": t("col_task"), onchange: () => draw() });
  const list = el("ul", { class: "entries" });
  root.append(el("div", { class: "filters" }, search, task), list);
  const entryOf = (entry) => {
    const model = berth.describe(entry.name);
    const may = berth.store.role === "admin" || entry.starter || model.state === "absent";
    const button = berth.isReady(model) || berth.isLoading(model) ? berth.state(model)
      : may ? berth.button(t("load"), () => berth.act("begin", entry.name), "quiet", { "aria-label": `${t("load")} ${entry.name}` }) : "";
    return el("li", {}, el("div", { class: "about" },
      el("strong", {}, entry.name),
      el("span", { class: "meta" }, [t(`task_${entry.task}`), entry.size_bytes && berth.bytes(entry.size_bytes), entry.starter && t("starter_tag")].filter(Boolean).join(" · ")),
      el("p", {}, entry[berth.lang])), button);
  };
  let drawn = "";
  const draw = () => {
    const { catalog } = berth.store;
    if (task.options.length !== new Set(catalog.map((entry) => entry.task)).size + 1) {
      const tasks = [...new Set(catalog.map((entry) => entry.task))];
      task.replaceChildren(el("option", { value: "" }, t("all_tasks")), ...tasks.map((name) => el("option", { value: name }, t(`task_${name}`))));
    }
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (entry) => (!task.value || entry.task === task.value) &&
      words.every((word) => `${entry.name} ${entry.en} ${entry.ko} ${t(`task_${entry.task}`)}`.toLowerCase().includes(word));
    const found = catalog.filter(fits);
    const key = JSON.stringify([found.map((entry) => [entry.name, berth.describe(entry.name)]), berth.store.role]);
    if (key !== drawn) list.replaceChildren(...(found.length ? found.map(entryOf) : [berth.notice("none", null, t("catalogue_none"))]));
    drawn = key;
  };
  berth.onModels(draw);
};
