// The plan of a load: whether it fits, what it takes of each device, and what would make it fit.
berth.panels.plan = ({ root, props, trigger, watch }) => {
  const { el, t } = berth;

  const name = (device) => (device === "cpu" ? t("memory_host") : berth.facts({ device }).join(""));

  /** What loaded models hold, and this one beside it; what is over the limit is cut off and told in words. */
  const bar = (need, room) => {
    const share = (bytes, kind, label) => {
      const piece = el("i", { class: kind, title: `${label} · ${berth.bytes(bytes)}` });
      piece.style.width = `${Math.min(100, (bytes / room.limit) * 100)}%`;
      return piece;
    };
    const label = t("plan_needs", { need: berth.bytes(need.total), free: berth.bytes(room.free), limit: berth.bytes(room.limit) });
    return el("div", { class: "device" },
      el("div", { class: "heading" }, el("span", {}, name(need.device)), el("span", {}, label)),
      el("div", { class: "shares", role: "img", "aria-label": label },
        share(room.held, "other", t("plan_held")), share(need.total, need.total > room.free ? "over" : "c0", t("plan_this"))));
  };

  const parts = (plan) => {
    const sum = (key) => plan.needs.reduce((total, need) => total + need[key], 0);
    const cache = t("plan_cache", { n: berth.count(plan.cached_tokens) });
    const rows = [[t("plan_weights"), sum("weights")], [cache, sum("cache")], [t("plan_activations"), sum("activations")], [t("plan_overhead"), sum("overhead")]];
    if (plan.measured) rows.push([t("plan_reckoned"), sum("reckoned")], [t("plan_measured"), Object.values(plan.measured).reduce((total, bytes) => total + bytes, 0)]);
    const disk = plan.download_bytes
      ? t("plan_disk", { bytes: berth.bytes(plan.download_bytes), free: berth.bytes(plan.disk_free) }) : t("plan_here");
    return el("dl", {}, [...rows.filter(([, bytes]) => bytes).map(([label, bytes]) => [label, berth.bytes(bytes)]), [t("plan_download"), disk]]
      .map(([label, value]) => el("div", {}, el("dt", {}, label), el("dd", {}, value))));
  };

  const actions = (plan, asked) => {
    const offer = (label, changes, more = {}) =>
      berth.button(label, () => { root.replaceChildren(); trigger("take", { asked, changes, ...more }); });
    return [
      plan.unload.length && offer(t("plan_unload", { models: plan.unload.join(", ") }), {}, { unload: plan.unload }),
      ...plan.quantizations.map((bits) => offer(t(`plan_${bits}`), { quantization: bits })),
      plan.gpu_layers && offer(t("plan_layers", { n: berth.count(plan.gpu_layers) }), { gpu_layers: plan.gpu_layers }),
      plan.shorter_context && offer(t("plan_context", { n: berth.count(plan.shorter_context) }), { context_length: plan.shorter_context }),
      plan.verdict !== "fits" && offer(t("plan_force"), {}, { force: true }),
    ].filter(Boolean);
  };

  const card = ({ plan, asked }) => {
    const facts = [t(`task_${plan.task}`), ...berth.facts({ ...plan, measured: 0 }), plan.parameters && berth.params(plan.parameters)];
    const verdict = plan.verdict === "never" && plan.shorter_context ? "fits_with_shorter_context" : plan.verdict;
    return el("section", { class: `plan ${verdict}` },
      el("h3", {}, el("i", { class: "dot", "aria-hidden": "true" }), el("span", {}, t(`plan_${verdict}`)),
        berth.button("×", () => root.replaceChildren(), "close", { "aria-label": t("close") })),
      el("p", { class: "meta" }, [plan.name, ...facts].filter(Boolean).join(" · ")),
      plan.needs.filter((need) => plan.rooms[need.device]).map((need) => bar(need, plan.rooms[need.device])),
      parts(plan),
      !plan.fits_on_disk && el("p", { class: "reason" }, t("plan_too_big_for_disk")),
      plan.warnings.map((warning) => el("p", { class: "warning" }, warning)),
      el("div", { class: "actions" }, actions(plan, asked)));
  };

  // a load that was refused leaves its plan here, until that model is loaded again
  let refused = null;
  berth.refused = ({ name, plan, asked }) => {
    if (plan) root.replaceChildren(card({ plan, asked }));
    else if (refused === name) root.replaceChildren();
    refused = plan ? name : refused === name ? null : refused;
  };

  root.setAttribute("aria-live", "polite");
  const stages = {
    running: () => berth.notice("hint", null, t("plan_running")),
    done: card,
    error: ({ error, model }) => berth.errorNotice(error, model),
  };
  watch("value", () => {
    refused = null;
    if (props.value) root.replaceChildren(stages[props.value.stage](props.value));
  });
};
