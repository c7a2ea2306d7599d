// NER: the text with coloured spans, a legend and a threshold that work on the last result, a table, two exports.
berth.panels.ner = (panel) => {
  const { el, t } = berth;
  const off = new Set(); // labels that the legend has switched off
  let threshold = 0;

  const kind = (entity) => entity.entity_group ?? entity.label;

  /** Spans in order of their place; where two overlap, the one that starts first is drawn. */
  const spans = (text, entities, labels) => {
    const points = Array.from(text); // offsets count code points, as Python does; a string here counts halves of some
    const parts = [];
    let at = 0;
    for (const entity of [...entities].sort((a, b) => a.start - b.start || b.end - a.end)) {
      if (entity.start < at) continue;
      parts.push(points.slice(at, entity.start).join(""));
      parts.push(el("mark", { class: `e${berth.colour(kind(entity), labels)}`, title: `${kind(entity)} ${berth.score(entity.score)} · ${entity.start}–${entity.end}` },
        points.slice(entity.start, entity.end).join(""), el("b", {}, kind(entity))));
      at = entity.end;
    }
    parts.push(points.slice(at).join(""));
    return el("div", { class: "spans" }, parts);
  };

  /** One token a line with its BIO tag; entity edges always part tokens, so that a Korean particle stays outside. */
  const conll = (text, entities) => {
    const points = Array.from(text);
    const edges = new Set(entities.flatMap((entity) => [entity.start, entity.end]));
    const isWord = (point) => /[\p{L}\p{M}\p{N}_]/u.test(point);
    const rows = [];
    let start = 0;
    const close = (end) => {
      const word = points.slice(start, end).join("").trim();
      if (word) {
        const entity = entities.find((one) => one.start < end && start < one.end);
        const first = entity && !rows.some((row) => row.entity === entity);
        rows.push({ word, entity, tag: entity ? `${first ? "B" : "I"}-${kind(entity).replace(/^[BI]-/, "")}` : "O" });
      }
      start = end;
    };
    points.forEach((point, index) => {
      if (point === "\n") {
        close(index);
        if (rows.length && rows.at(-1).word !== null) rows.push({ word: null });
        start = index + 1;
      } else if (index > start && (edges.has(index) || isWord(point) !== isWord(points[index - 1]) || /\s/.test(point) || !isWord(point))) close(index);
    });
    close(points.length);
    return rows.map((row) => (row.word === null ? "" : `${row.word}\t${row.tag}`)).join("\n") + "\n";
  };

  const drawn = (reply, text) => {
    const labels = berth.describe(reply.model).labels;
    const all = reply.result[0].filter((entity) => kind(entity) !== "O");
    const kinds = [...new Set(all.map(kind))].sort();
    const body = el("div", { class: "shown" });
    const number = el("output", { class: "number" });
    const visible = () => all.filter((entity) => entity.score >= threshold && !off.has(kind(entity)));
    const fill = () => {
      const entities = visible();
      number.textContent = berth.fixed(threshold, 2);
      legend.forEach((button, index) => button.setAttribute("aria-pressed", String(!off.has(kinds[index]))));
      body.replaceChildren(
        spans(text, entities, labels),
        el("p", { class: "agree" }, t("entities_shown", { n: entities.length, all: all.length })),
        ...(entities.length ? [rowsOf(entities, labels)] : []));
    };
    const legend = kinds.map((name) => el("button", { type: "button", class: "chip legend", onclick: () => {
      if (!off.delete(name)) off.add(name);
      fill();
    } }, el("i", { class: `swatch c${berth.colour(name, labels)}` }), name, " ", el("span", { class: "number" }, String(all.filter((e) => kind(e) === name).length))));
    const slider = el("input", { type: "range", min: "0", max: "1", step: "0.01", value: String(threshold), "aria-label": t("threshold"), oninput: () => {
      threshold = Number(slider.value);
      fill();
    } });
    const saved = {
      jsonl: () => berth.save("entities.jsonl", "application/jsonl", JSON.stringify({ text, model: reply.model, entities: visible() }) + "\n"),
      conll: () => berth.save("entities.conll", "text/plain", conll(text, visible())),
    };
    fill();
    return [
      el("div", { class: "controls" }, el("div", { class: "legends" }, legend),
        el("label", { class: "threshold" }, el("span", {}, t("threshold")), slider, number)),
      body,
      el("div", { class: "actions" }, berth.button(t("download_jsonl"), saved.jsonl), berth.button(t("download_conll"), saved.conll)),
    ];
  };

  const rowsOf = (entities, labels) => berth.table([
    { title: t("entity"), wide: true, value: (row) => row.word },
    { title: t("label"), value: kind, show: (row) => el("span", { class: "tag" }, el("i", { class: `swatch c${berth.colour(kind(row), labels)}` }), kind(row)) },
    { title: t("score"), number: true, value: (row) => row.score, show: (row) => berth.score(row.score) },
    { title: t("start"), number: true, value: (row) => row.start },
    { title: t("end"), number: true, value: (row) => row.end },
  ], entities);

  berth.result("ner", panel, ({ reply, text }) => {
    const found = reply.result[0].some((entity) => kind(entity) !== "O");
    return [
      found ? drawn(reply, text) : berth.notice("empty", t("ner_none"), t("ner_none_hint")),
      berth.readings(reply), berth.how(reply),
    ];
  });
};
