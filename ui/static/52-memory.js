// The machine's memory: each device as a bar, what it was over the last hour, and who had to go.

/** A plot of [seconds, bytes] up to `total`, the hour before now from left to right. */
berth.pastHour = (points, total, label) => {
  const { el } = berth;
  const width = 320, height = 48, now = points.at(-1)?.[0] ?? 0;
  const x = (at) => (width * Math.max(0, 1 - (now - at) / 3600)).toFixed(1);
  const y = (bytes) => (height * (1 - Math.min(1, bytes / total))).toFixed(1);
  const path = points.map(([at, bytes]) => `${x(at)},${y(bytes)}`).join(" ");
  const area = points.length > 1 ? `M${x(points[0][0])},${height} L${path.replaceAll(" ", " L")} L${width},${height} Z` : "";
  return el("svg", { class: "past", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    el("title", {}, label), el("path", { d: area }));
};

berth.panels.memory = ({ root }) => {
  const { el, t } = berth;

  /** Every model's share, what all else holds, what is free; a mark where the models' own limit is. */
  const bar = (device, models) => {
    const held = models.map((model) => ({ name: model.name, bytes: model.devices[device.device] ?? 0, promised: Object.keys(model.devices).length === 1 ? model.promised : 0 })).filter((one) => one.bytes);
    const other = Math.max(0, device.used - held.reduce((sum, one) => sum + one.bytes, 0));
    const shares = [...held.map((one, index) => ({ ...one, kind: `c${index % 7}` })), { name: t("memory_other"), bytes: other, kind: "other" }];
    const part = ({ name, bytes, kind }) => {
      const piece = el("i", { class: kind, title: `${name} · ${berth.bytes(bytes)}` });
      piece.style.width = `${(bytes / device.total) * 100}%`;
      return piece;
    };
    const numbers = ({ bytes, promised }) => [
      promised && promised !== bytes && el("small", {}, t("memory_promised", { bytes: berth.bytes(promised) })), berth.bytes(bytes)];
    const row = (one) => el("li", {}, el("i", { class: `swatch ${one.kind}` }), el("span", {}, one.name), el("span", { class: "number" }, numbers(one)));
    const free = { name: t("memory_free"), kind: "free", bytes: Math.max(0, device.total - device.used) };
    const points = berth.store.history.filter(([, used]) => device.device in used).map(([at, used]) => [at, used[device.device]]);
    return el("div", { class: "device" },
      el("div", { class: "heading" }, el("span", {}, device.device === "cpu" ? t("memory_host") : device.name),
        el("span", { class: "number" }, t("memory_of", { used: berth.bytes(device.used), total: berth.bytes(device.total) }))),
      el("div", { class: "shares", role: "img", "aria-label": shares.map((one) => `${one.name} ${berth.bytes(one.bytes)}`).join(", ") }, shares.map(part)),
      el("ul", {}, [...shares, free].map(row)),
      device.limit && el("p", { class: "limit" }, t("memory_limit", { bytes: berth.bytes(device.limit) })),
      points.length > 1 && [berth.pastHour(points, device.total, t("memory_past")), el("p", { class: "limit" }, t("memory_past"))]);
  };

  const time = (at) => new Date(at * 1000).toLocaleTimeString(berth.lang, { hour: "2-digit", minute: "2-digit" });
  const gone = (one) => el("li", {}, el("span", { class: "number" }, time(one.at)),
    el("span", {}, t(`evicted_${one.cause}`, { model: one.model, other: one.for ?? "", bytes: berth.bytes(one.freed) })));

  let drawn = "";
  berth.onModels(() => {
    const { machine, models, history, evictions } = berth.store;
    if (!machine) return;
    const key = JSON.stringify([machine, [...models.values()].map((model) => [model.name, model.devices, model.promised]), history.length, history.at(-1), evictions]);
    if (key === drawn) return;
    drawn = key;
    root.replaceChildren(...machine.map((device) => bar(device, [...models.values()])),
      ...(evictions.length ? [el("div", { class: "evictions" }, el("strong", {}, t("evicted_title")), el("ul", {}, evictions.map(gone)))] : []));
  });
};
