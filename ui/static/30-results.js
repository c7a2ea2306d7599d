// What every result shares: empty, running, loading, error, and how it was made.

/** A notice with a heading, a sentence and maybe buttons. */
berth.notice = (kind, heading, text, ...more) =>
  berth.el("div", { class: `notice ${kind}`, role: kind === "error" ? "alert" : null },
    heading && berth.el("strong", {}, heading), text && berth.el("p", {}, text), ...more);

/** An error as two sentences: what it is and what to do, in the reader's language, then what the server said. */
berth.errorNotice = (error, model) => {
  const { t } = berth;
  const key = berth.knows(`error_${error.type}`) ? `error_${error.type}` : "error_internal";
  return berth.notice("error", t(key, { model: model || t("the_model") }), error.message);
};

/** Model and revision, times, tokens; one click copies it. */
berth.how = (reply) => {
  const { t } = berth;
  return berth.howLine([
    berth.madeBy(reply),
    t("how_queue", { time: berth.ms(reply.queue_ms) }),
    t("how_model", { time: berth.ms(reply.model_ms) }),
    t("how_tokens", { n: berth.count(reply.tokens) }),
  ]);
};

berth.madeBy = ({ model, revision }) => `${model}@${/^[0-9a-f]{40}$/.test(revision) ? revision.slice(0, 8) : revision}`;

berth.howLine = (line) => {
  const { el, t } = berth;
  const copy = berth.button(t("copy"), () => berth.copy(line.join(" · "), copy));
  return el("div", { class: "how" }, line.map((part) => el("span", {}, part)), copy);
};

/** Sentences on texts that did not fit into the model at once. */
berth.readings = (reply) => {
  const { t } = berth;
  const many = reply.input_tokens.length > 1;
  return reply.input_tokens.flatMap((tokens, index) => {
    const values = { line: index + 1, tokens: berth.count(tokens), context: berth.count(reply.context_length ?? 0), windows: reply.windows[index] };
    const who = t(many ? "reading_line" : "reading_text", values);
    if (reply.truncated[index]) return [berth.notice("hint", null, `${who} ${t("reading_cut", values)}`)];
    if (reply.windows[index] > 1) return [berth.notice("hint", null, `${who} ${t("reading_windows", values)}`)];
    return [];
  });
};

/** A result region: `draw(value)` gives the elements of a finished result; `more` has stages of its own, and maybe a
 *  `hint` for when nothing is there. */
berth.result = (section, { root, props, watch }, draw, more = {}) => {
  const { el, t } = berth;
  root.classList.add("result");
  root.setAttribute("aria-live", "polite");
  const empty = () => berth.notice("empty", t(`${section}_empty`), more.hint ?? t(`${section}_empty_hint`));
  const shown = el("div", { class: "shown" }, empty());
  const above = el("div", { class: "above" });
  root.append(above, shown);
  const idle = () => {
    root.classList.remove("is-running");
    document.body.classList.remove(`running-${section}`);
    above.replaceChildren();
  };
  const stages = {
    running: () => above.replaceChildren(),
    loading: (value) => {
      berth.learn({ model: value.model });
      above.replaceChildren(berth.notice("hint", t("loading_model", { model: value.model.name }), null, berth.progressBar(value.model)));
    },
    empty: () => shown.replaceChildren(berth.notice("empty", t("type_first"), t("type_first_hint"))),
    error: (value) => shown.replaceChildren(berth.errorNotice(value.error, value.model)),
    done: (value) => shown.replaceChildren(...draw(value).flat(Infinity).filter(Boolean)),
    ...more,
  };
  watch("value", () => {
    const value = props.value;
    if (!value || !value.stage) return;
    const isRunning = ["running", "loading", "writing"].includes(value.stage);
    if (!isRunning) {
      idle();
      berth.look?.();
    } else {
      root.classList.toggle("is-running", value.stage !== "writing");
      document.body.classList.add(`running-${section}`);
    }
    stages[value.stage](value, { shown, above });
  });
  berth.stopped[section] = idle;
  return { redraw: () => props.value?.stage === "done" && stages.done(props.value) };
};
berth.stopped = {};

/** Bars, best first: `rows` are {label, score}. With `labels`, those of the model, each has its own colour. */
berth.bars = (rows, labels = null) => {
  const { el } = berth;
  return el("div", { class: "bars" }, rows.map((row, index) => {
    const fill = el("i", { class: labels ? `c${berth.colour(row.label, labels)}` : "c0" });
    fill.style.width = `${Math.max(0, Math.min(1, row.score)) * 100}%`;
    return el("div", { class: `bar${index === 0 ? " best" : ""}` },
      el("span", { class: "label" }, row.label),
      el("span", { class: "track", "aria-hidden": "true" }, fill),
      el("span", { class: "number" }, berth.score(row.score)));
  }));
};

/** A share as per cent; a regression head's number as it is. */
berth.score = (score) => (score >= 0 && score <= 1 ? berth.percent(score) : berth.fixed(score, 3));

/** Examples that can be clicked: chosen, filled in, and run. */
berth.panels.examples = ({ root, options, props, trigger }) => {
  const { el, t } = berth;
  const all = options.examples[berth.lang];
  root.append(el("div", { class: "examples" }, el("span", { class: "caption" }, t("examples")), all.map((example) =>
    el("button", { type: "button", class: "chip", onclick: () => {
      props.value = { fields: example.fields, at: Date.now() };
      trigger("pick");
    } }, example.name ?? example.fields[0]))));
};
