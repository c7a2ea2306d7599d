// Embed: how near each line is to each other, as a map and as a table.
berth.panels.embed = (panel) => {
  const { el, t } = berth;
  const CELL = 26, SMALL = 8; // up to SMALL lines, cells carry their number

  const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);

  const map = (lines, similarities) => {
    const count = lines.length;
    const cell = count <= SMALL ? 44 : CELL;
    const edge = 28;
    const side = edge + count * cell;
    const low = Math.min(0.99, ...similarities.flat()); // colours span what is there: most models give no low values
    const strengthOf = (value) => 0.08 + 0.92 * Math.max(0, Math.min(1, (value - low) / (1 - low)));
    const scale = el("div", { class: "scale" }, berth.fixed(low, 2), el("i", {}), berth.fixed(1, 2));
    const told = el("div", { class: "told" }, el("span", {}, t("pair_hint")));
    const about = el("div", { class: "pair" }, told, scale);
    let at = [0, 0]; // row and column of the pair that is told
    const tell = (row, column) => {
      at = [row, column];
      told.replaceChildren(
        el("strong", { class: "number" }, berth.fixed(similarities[row][column], 3)),
        el("span", {}, `${row + 1}. ${lines[row]}`), el("span", {}, `${column + 1}. ${lines[column]}`));
      squares.forEach((one) => one.classList.toggle("at", one.dataset.pair === `${row + 1}-${column + 1}`));
    };
    const keys = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const move = (event) => {
      const step = keys[event.key];
      if (!step) return;
      event.preventDefault();
      tell(...at.map((place, axis) => Math.max(0, Math.min(count - 1, place + step[axis]))));
    };
    const square = (row, column) => {
      const value = similarities[row][column];
      const [x, y] = [edge + column * cell, edge + row * cell];
      const strength = strengthOf(value);
      const box = el("rect", { x, y, width: cell - 2, height: cell - 2, rx: 2, "fill-opacity": strength.toFixed(3) });
      const number = cell > CELL && el("text", { x: x + (cell - 2) / 2, y: y + cell / 2 + 3, class: `${strength > 0.87 ? "strong" : ""} ${strength > 0.75 ? "firm" : ""}` }, berth.fixed(value, 2));
      return el("g", { class: "cell", "data-pair": `${row + 1}-${column + 1}`, onmouseenter: () => tell(row, column) }, box, number);
    };
    const marks = lines.flatMap((_, index) => [
      el("text", { x: edge - 8, y: edge + index * cell + cell / 2 + 3, class: "mark end" }, String(index + 1)),
      el("text", { x: edge + index * cell + cell / 2 - 1, y: edge - 10, class: "mark" }, String(index + 1)),
    ]);
    const squares = similarities.flatMap((row, index) => row.map((_, other) => square(index, other)));
    return el("div", { class: "map" },
      el("svg", { viewBox: `0 0 ${side} ${side}`, width: side, height: side, tabindex: "0", role: "img", "aria-label": t("heat_map"), onkeydown: move }, marks, squares), about);
  };

  berth.result("embed", panel, ({ reply, lines, cut }) => {
    const vectors = reply.result;
    const norms = vectors.map((vector) => Math.sqrt(dot(vector, vector)));
    const similarities = vectors.map((a, i) => vectors.map((b, j) => dot(a, b) / ((norms[i] * norms[j]) || 1)));
    const rows = lines.map((text, index) => {
      const others = similarities[index].map((value, other) => ({ value, other })).filter(({ other }) => other !== index);
      const nearest = others.sort((a, b) => b.value - a.value)[0];
      return { line: index + 1, text, tokens: reply.input_tokens[index], norm: norms[index], nearest };
    });
    const columns = [
      { title: "#", number: true, value: (row) => row.line },
      { title: t("text"), wide: true, value: (row) => row.text },
      lines.length > 1 && { title: t("nearest"), number: true, value: (row) => row.nearest.other + 1 },
      lines.length > 1 && { title: t("similarity"), number: true, value: (row) => row.nearest.value, show: (row) => berth.fixed(row.nearest.value, 3) },
      { title: t("norm"), number: true, value: (row) => row.norm, show: (row) => berth.fixed(row.norm, 3) },
      { title: t("tokens"), number: true, value: (row) => row.tokens, show: (row) => berth.count(row.tokens) },
    ].filter(Boolean);
    const save = () => berth.save("embeddings.json", "application/json",
      JSON.stringify({ model: reply.model, revision: reply.revision, dimension: vectors[0].length, texts: lines, embeddings: vectors }));
    return [
      lines.length > 1 && map(lines, similarities),
      berth.table(columns, rows),
      el("div", { class: "actions" }, el("span", { class: "agree" }, t("dimension", { n: berth.count(vectors[0].length) })),
        berth.button(t("download_vectors"), save)),
      cut && berth.notice("hint", null, t("embed_cut", { n: lines.length })),
      berth.readings(reply), berth.how(reply),
    ];
  });
};
