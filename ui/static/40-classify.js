// Classify: bars for one text, a table for many, two models side by side.
berth.panels.classify = (panel) => {
  const { el, t } = berth;

  /** Labels that colours are told apart by: the model's, or the reader's own. */
  const labelsOf = (reply) => {
    const [known, given] = [berth.describe(reply.model).labels, reply.result[0].map((row) => row.label)];
    return given.every((label) => known.includes(label)) ? known : given;
  };

  const one = (reply) => berth.bars(reply.result[0], labelsOf(reply));

  const many = (reply, lines) => {
    const labels = labelsOf(reply);
    const rows = reply.result.map((scores, index) => ({ line: index + 1, text: lines[index], best: scores[0], scores }));
    const saved = () => {
      const names = [...new Set(reply.result.flat().map((row) => row.label))].sort();
      const heading = ["line", "text", "label", "score", ...names];
      const values = rows.map((row) => {
        const scores = Object.fromEntries(row.scores.map(({ label, score }) => [label, score]));
        return [row.line, row.text, row.best.label, row.best.score, ...names.map((name) => scores[name] ?? "")];
      });
      berth.save("classification.csv", "text/csv", berth.csv([heading, ...values]));
    };
    const table = berth.table([
      { title: "#", number: true, value: (row) => row.line },
      { title: t("text"), wide: true, value: (row) => row.text },
      { title: t("label"), value: (row) => row.best.label,
        show: (row) => el("span", { class: "tag", title: row.scores.map((s) => `${s.label} ${berth.score(s.score)}`).join("\n") },
          el("i", { class: `swatch c${berth.colour(row.best.label, labels)}` }), row.best.label) },
      { title: t("score"), number: true, value: (row) => row.best.score, show: (row) => berth.score(row.best.score) },
    ], rows);
    return [table, el("div", { class: "actions" }, berth.button(t("download_csv"), saved))];
  };

  const answer = (reply, lines) => reply.error
    ? berth.errorNotice(reply.error, reply.model)
    : [lines.length > 1 ? many(reply, lines) : one(reply), berth.readings(reply), berth.how(reply)];

  berth.result("classify", panel, ({ replies, lines }) => {
    if (replies.length === 1) return [answer(replies[0], lines)].flat(Infinity);
    const top = (reply, index) => reply.result?.[index]?.[0]?.label;
    const same = lines.filter((_, index) => top(replies[0], index) === top(replies[1], index)).length;
    const isWhole = replies.every((reply) => !reply.error);
    return [
      isWhole && el("p", { class: "agree" }, t("agree", { n: same, all: lines.length })),
      el("div", { class: "side-by-side" }, replies.map((reply) =>
        el("section", {}, el("h3", {}, reply.model), answer(reply, lines)))),
    ];
  }, {
    hint: el("span", {}, el("span", { class: "for-text" }, t("classify_empty_hint")), el("span", { class: "for-pictures" }, t("classify_choose"))),
    empty: (_, { shown }) => shown.replaceChildren(berth.namesPictures()
      ? berth.notice("empty", t("choose_first"), t("classify_choose"))
      : berth.notice("empty", t("type_first"), t("type_first_hint"))),
  });
};

/** The picture that is to be named: chosen, dropped or pasted. Its value is a data: URI. */
berth.panels.photo = ({ root, options, props, trigger }) => {
  const { el, t } = berth;
  const above = el("div", { class: "above" });
  const shown = el("div", { class: "shot" });
  const file = el("input", { type: "file", accept: "image/*", hidden: true, id: "pictures-classify", onchange: () => {
    take(file.files);
    file.value = "";
  } });
  const drop = el("div", { class: "drop" }, shown, el("p", {}, t("drop_hint")),
    el("div", { class: "actions" }, file, berth.button(t("choose_picture"), () => file.click())));
  root.append(drop, above);
  let held = ""; // the picture as a data: URI; sent only with a question to a model that names pictures
  const offer = () => {
    const value = berth.namesPictures() ? held : "";
    if ((props.value || "") === value) return;
    props.value = value;
    trigger("input");
  };
  berth.onModels(offer);
  const set = (picture) => {
    held = picture.uri;
    offer();
    shown.replaceChildren(berth.picture(picture));
  };
  let newest = 0; // the last that was given counts, whichever is read first
  const take = async (files) => {
    const given = [...files].find((each) => each.type.startsWith("image/")) ?? files[0]; // which the server can name
    if (!given) return;
    const turn = (newest += 1);
    const run = document.getElementById("run-classify");
    run.disabled = true; // until the picture is read
    above.replaceChildren();
    try {
      const picture = await readPicture(given);
      if (turn !== newest) return;
      if (picture.uri.length + REST > options.max_body) throw { type: "request_too_large", message: null };
      set(picture);
    } catch (error) {
      if (turn === newest) above.replaceChildren(berth.errorNotice(error.type ? error : { type: "invalid_image", message: given.name }));
    } finally {
      if (turn === newest) run.disabled = false;
    }
  };
  berth.givenPictures(document.getElementById("tab-classify"), () => berth.tab === "classify" && berth.namesPictures(), take);
};
