// Ask: the answer, marked where it stands. Fill: words for a gap.
berth.panels.ask = (panel) => {
  const { el, t } = berth;
  berth.result("ask", panel, ({ reply, context }) => {
    const answers = [reply.result[0]].flat();
    const best = answers[0];
    const points = Array.from(context); // offsets count code points
    const marked = el("div", { class: "spans" }, points.slice(0, best.start).join(""),
      el("mark", { class: "e0" }, points.slice(best.start, best.end).join("")), points.slice(best.end).join(""));
    const found = best.end > best.start;
    return [
      found ? el("div", { class: "answer" }, el("strong", {}, best.answer), el("span", { class: "number" }, berth.score(best.score)))
        : berth.notice("hint", t("ask_none"), t("ask_none_hint")),
      found && marked,
      answers.length > 1 && berth.bars(answers.map((one) => ({ label: one.answer || "—", score: one.score }))),
      berth.readings(reply), berth.how(reply),
    ];
  });
};

berth.panels.fill = (panel) => {
  const { el } = berth;
  berth.result("fill", panel, ({ reply }) => {
    const gaps = Array.isArray(reply.result[0][0]) ? reply.result[0] : [reply.result[0]];
    return [
      gaps.map((rows) => [
        el("div", { class: "spans" }, rows[0].sequence),
        berth.bars(rows.map((row) => ({ label: row.token_str.trim() || "␣", score: row.score }))),
      ]),
      berth.readings(reply), berth.how(reply),
    ];
  });
};
