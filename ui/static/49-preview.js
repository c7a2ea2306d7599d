// What a model saw of pictures, as its processor made them: asked for when somebody opens it, and not before.

const HIGHEST = 240; // pixels of a view on the page

/** A view: the picture in one piece, or cut into tiles as they lay. */
const drawView = ({ tiles, columns, width, height }) => {
  const { el, t, count } = berth;
  const rows = Math.ceil(tiles.length / columns);
  const grid = el("div", { class: "tiles", role: "img", "aria-label": t("picture") }, tiles.map((tile) => el("img", { src: tile, alt: "" })));
  grid.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
  const [wide, high] = [columns * width, rows * height];
  grid.style.width = `${Math.round(wide * Math.min(1, HIGHEST / high))}px`;
  const size = t("picture_size", { width: count(width), height: count(height) });
  return el("figure", { class: "view" }, grid,
    el("figcaption", {}, tiles.length > 1 ? t("preview_tiles", { columns: count(columns), rows: count(rows), size }) : size));
};

/** `button` opens in `place` what the model of the name `model()` saw of `pictures`; `mark` shows it once there is one. */
berth.preview = (server, pictures, model) => {
  const { el, t } = berth;
  const place = el("div", { class: "previews", hidden: true, "aria-live": "polite" });
  let drawn = null; // the model whose views are there
  const seenBy = async (name) => {
    const found = [];
    for (const picture of pictures) {
      // the server has what it keeps; sent back, it may be too large for a request: a WebP file is kept as PNG
      const told = await server.preview({ model: name, ...(picture.kept ?? { picture: picture.uri }) });
      if (told.error) throw told.error;
      found.push(told.preview);
    }
    return found;
  };
  const draw = (name, { views, tokens, is_exact }) => el("div", { class: "preview" },
    el("div", { class: "views" }, views.map(drawView)),
    el("p", { class: "aside" }, [name, t("how_tokens", { n: berth.count(tokens) })].join(" · ")),
    !is_exact && el("p", { class: "aside" }, t("preview_handed")));
  const open = async () => {
    const name = model();
    if (drawn === name) return;
    drawn = name;
    if (!berth.isReady(berth.describe(name))) {
      drawn = null;
      return place.replaceChildren(berth.notice("hint", null, t("preview_absent", { model: name })));
    }
    place.replaceChildren(el("p", { class: "aside" }, t("preview_running")));
    try {
      const found = await seenBy(name);
      if (drawn !== name) return;
      place.replaceChildren(...found.map((each) => draw(name, each)));
      requestAnimationFrame(() => place.scrollIntoView({ block: "nearest" }));
    } catch (error) {
      drawn = null;
      place.replaceChildren(berth.errorNotice(error.type ? error : { type: "internal", message: null }, name));
    }
  };
  const show = (isOpen) => {
    place.hidden = !isOpen;
    button.setAttribute("aria-expanded", String(isOpen));
  };
  const button = berth.button(t("preview"), () => {
    show(place.hidden);
    if (!place.hidden) open();
  }, "quiet", { class: "bb quiet look", "aria-expanded": "false" });
  const mark = () => {
    button.hidden = !model();
    if (!place.hidden && drawn && drawn !== model()) show(false); // of another model's answer
  };
  mark();
  return { button, place, mark };
};

/** The name of the model that answered `message`, one of `messages`; null while there is no answer. */
berth.answered = (messages, message) => messages[messages.indexOf(message) + 1]?.model ?? null;
