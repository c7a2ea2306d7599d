// What is known of the models: one store, fed by handlers and by a poll that rests while the tab is hidden.
berth.store = { models: new Map(), catalog: [], machine: null, history: [], evictions: [], role: "nobody", needsKey: false, failures: new Map(), said: null, listeners: new Set() };

berth.onModels = (listener) => {
  berth.store.listeners.add(listener);
  listener();
};
berth.told = () => berth.store.listeners.forEach((listener) => listener());

/** Takes in a whole look at the server, or the newest of one model. */
berth.learn = (news) => {
  const store = berth.store;
  if (news.models) store.models = new Map(news.models.map((model) => [model.name, model]));
  if (news.model) store.models.set(news.model.name, news.model);
  if (news.failure) { // of a load that left nothing behind
    if (news.failure.error) store.failures.set(news.failure.name, news.failure.error);
    else store.failures.delete(news.failure.name);
    berth.refused?.(news.failure);
  }
  if (news.said) store.said = news.said;
  if (news.failure || news.said || news.look) berth.look?.();
  for (const key of ["catalog", "machine", "history", "evictions", "role", "needsKey"]) if (news[key] !== undefined) store[key] = news[key];
  berth.told();
};

berth.isLoading = (model) => ["queued", "downloading", "loading"].includes(model?.state);
berth.isReady = (model) => model?.state === "ready";

/** Models that can do one of `tasks`: those in memory or on their way first, then what the catalogue offers. */
berth.choices = (tasks) => {
  const can = (model) => model.tasks.some((task) => tasks.includes(task));
  const here = [...berth.store.models.values()].filter((model) => can(model) && model.state !== "absent");
  const names = new Set(here.map((model) => model.name));
  const listed = berth.store.catalog.filter((entry) => tasks.includes(entry.task) && !names.has(entry.name));
  return { here: here.sort((a, b) => Number(berth.isReady(b)) - Number(berth.isReady(a)) || a.name.localeCompare(b.name)), listed };
};

berth.describe = (name) => {
  const model = berth.store.models.get(name) ?? { name, state: "absent", tasks: [], labels: [], measured: 0, progress: null };
  const failure = berth.store.failures.get(name);
  return failure && model.state === "absent" ? { ...model, state: "failed", last_error: failure } : model;
};

/** One sentence on how far a load is. */
berth.progressText = (model) => {
  const { t } = berth;
  const data = model.progress?.data ?? {};
  const stage = model.progress?.stage ?? model.state;
  const words = [t(`stage_${stage}`)];
  if (stage === "downloading" && data.total) {
    words.push(t("of_bytes", { done: berth.bytes(data.done), total: berth.bytes(data.total) }));
    if (data.eta_s) words.push(t("left", { time: berth.seconds(data.eta_s) }));
  }
  return words.join(" · ");
};

berth.progressBar = (model) => {
  const { done, total } = model.progress?.data ?? {};
  const share = done && total ? Math.min(1, done / total) : null;
  const bar = berth.el("div", {
    class: `progress${share === null ? " unknown" : ""}`, role: "progressbar", "aria-label": model.name,
    "aria-valuenow": share === null ? null : Math.round(share * 100), "aria-valuemin": "0", "aria-valuemax": "100",
  }, berth.el("i", {}));
  if (share !== null) bar.firstChild.style.width = `${share * 100}%`;
  return bar;
};

/** State as a dot and a word. */
berth.state = (model) => {
  const { el, t } = berth;
  const isBusy = berth.isReady(model) && model.waiting > 0;
  const word = berth.isLoading(model) ? berth.progressText(model)
    : isBusy ? t("state_busy", { n: berth.count(model.waiting) }) : t(`state_${model.state}`);
  const kind = berth.isLoading(model) ? "loading" : isBusy ? "busy" : model.state;
  return el("span", { class: `state ${kind}`, title: model.last_error ? model.last_error.message : null },
    el("i", { class: "dot", "aria-hidden": "true" }), el("span", {}, word));
};

/** Runtime, precision, device, memory. */
berth.facts = (model) => {
  const device = model.device ? model.device.replace(/^cpu$/, "CPU").replace(/cuda:?/g, "GPU ").replaceAll("+", " + ") : null;
  const precision = model.quantization ?? ({ float32: "fp32", float16: "fp16", bfloat16: "bf16" }[model.dtype] ?? model.dtype);
  const short = { "sentence-transformers": "sentence-transformers", onnxruntime: "ONNX Runtime" }[model.runtime] ?? model.runtime;
  return [short, precision, device?.trim(), model.measured ? berth.bytes(model.measured) : null].filter(Boolean);
};

/** The feed: takes in what handlers say, and asks again every few seconds while somebody can see the page. */
berth.panels.feed = ({ props, server, watch, trigger }) => {
  berth.feed = { trigger };
  if (props.value) berth.learn(props.value);
  watch("value", () => props.value && berth.learn(props.value));
  let timer = null, isAsking = false;
  const look = async () => {
    clearTimeout(timer);
    if (document.hidden || isAsking) return;
    isAsking = true;
    try {
      berth.learn(await server.snapshot());
      document.body.classList.remove("is-offline");
    } catch {
      document.body.classList.add("is-offline");
    }
    isAsking = false;
    const isBusy = [...berth.store.models.values()].some(berth.isLoading);
    timer = setTimeout(look, isBusy ? 700 : 3000);
  };
  berth.look = look;
  document.addEventListener("visibilitychange", look);
  look();
};

/** The model line of a tab: which model, how it is, and what can be done about it. Its value is the model's name. */
berth.panels.line = ({ root, options, props, trigger, watch }) => {
  const { el, t } = berth;
  const select = el("select", { "aria-label": t("model"), onchange: () => choose(select.value) });
  const detail = el("div", { class: "detail" });
  root.append(el("div", { class: "line" }, el("label", { class: "pick" }, el("span", {}, t(options.title ?? "model")), select), detail));

  let current = ""; // the model's name
  const set = (name) => {
    current = name;
    setTimeout(() => { // Gradio does not hear a value that is set while it puts the component into the page
      props.value = name;
      trigger("input");
      berth.chosen(options.section, options.role ?? "model", name); // last: what shows the choice means it is taken
    });
  };
  const choose = (name) => {
    set(name);
    const model = berth.describe(name);
    if (name && !berth.isReady(model) && !berth.isLoading(model)) setTimeout(() => trigger("choose"));
    draw();
  };
  const first = ({ here, listed }) => {
    const asked = options.role ? null : berth.query.get("model");
    const isOffered = (name) => [...here, ...listed].some((model) => model.name === name);
    if (asked && berth.startTab === options.tab && isOffered(asked)) return asked;
    return here.find(berth.isReady)?.name ?? listed.find((entry) => entry.starter)?.name ?? here[0]?.name ?? listed[0]?.name ?? "";
  };
  let drawn = "";
  const draw = () => {
    const offered = berth.choices(options.tasks);
    if (!current && !options.optional && berth.store.machine) { // once the server has said what is loaded
      const name = first(offered);
      if (name) set(name);
    }
    const key = JSON.stringify([offered.here.map((m) => m.name), offered.listed.length, current]);
    if (key !== drawn) fill(offered, current); // an open list is not redrawn for nothing
    drawn = key;
    if (select.value !== current) select.value = current;
    detail.replaceChildren(...(current ? about(current) : []));
  };
  const fill = ({ here, listed }, name) => {
    const option = (value, text) => el("option", { value }, text);
    const parts = [];
    if (options.optional) parts.push(option("", t("nobody_else")));
    if (here.length) parts.push(el("optgroup", { label: t("in_memory") }, here.map((model) => option(model.name, model.name))));
    if (listed.length) {
      parts.push(el("optgroup", { label: t("catalogue") }, listed.map((entry) =>
        option(entry.name, entry.size_bytes ? `${entry.name} · ${berth.bytes(entry.size_bytes)}` : entry.name))));
    }
    if (name && ![...here, ...listed].some((model) => model.name === name)) parts.push(option(name, name));
    if (!parts.length) parts.push(option("", t("no_models")));
    select.replaceChildren(...parts);
  };
  const about = (name) => {
    const model = berth.describe(name);
    const may = berth.store.role === "admin";
    if (berth.isLoading(model)) {
      return [berth.state(model), berth.progressBar(model), may && berth.button(t("cancel"), () => trigger("cancel"))].filter(Boolean);
    }
    if (model.state === "failed") {
      return [berth.state(model), el("span", { class: "reason" }, model.last_error?.message ?? ""), berth.button(t("try_again"), () => trigger("choose"))];
    }
    if (!berth.isReady(model)) return [berth.state(model), berth.button(t("load"), () => trigger("choose"))];
    return [berth.state(model), ...berth.facts(model).map((fact) => el("span", { class: "fact" }, fact))];
  };
  // Gradio gives a component of a tab that is opened first its first value once more, a frame after it is there
  watch("value", () => props.value !== current && set(current));
  berth.onModels(draw);
};
