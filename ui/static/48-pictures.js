// Pictures: chosen, dropped, pasted or taken, made light enough to send, and shown beside the talk about them.
const LONGEST = 2048; // pixels of the longer side of a picture that is made lighter
const LIGHT = 1_000_000; // bytes of a file that is sent as it is
const HEAVY = 6_000_000; // of one that the browser cannot make lighter
const MOST = 8; // in one message

/** The file as {uri, width, height}. Throws an error that can be told. */
const readPicture = async (file) => {
  const asItIs = () => new Promise((done, fail) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => fail(reader.error);
    reader.readAsDataURL(file);
  });
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch { // no picture, or of a kind that the server may still know and can name
    if (file.size > HEAVY) throw { type: "invalid_image", message: file.name };
    return { uri: await asItIs() };
  }
  const { width, height } = bitmap;
  if (file.size <= LIGHT) {
    bitmap.close(); // its pixels would stay until garbage is collected: 48 MB of a photo that has 12 megapixels
    return { uri: await asItIs(), width, height };
  }
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const canvas = berth.el("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff"; // a JPEG has no transparency; what is transparent is white, as on the server
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return { uri: canvas.toDataURL("image/jpeg", 0.92), width: canvas.width, height: canvas.height };
};

/** Makes sure that a picture of a conversation is here. Throws the server's error. */
berth.seePicture = async (picture) => {
  if (picture.uri) return;
  const told = await picture.read();
  if (told.error) throw told.error;
  picture.uri = told.uri;
};

/** A picture as it stands in a message; a click shows it larger. */
berth.picture = (picture) => {
  const { el, t } = berth;
  const image = el("img", { alt: t("picture"), width: picture.width, height: picture.height });
  const grow = () => button.classList.toggle("large");
  const button = el("button", { type: "button", class: "picture", onclick: grow, title: t("picture_grow") }, image);
  berth.seePicture(picture).then(() => (image.src = picture.uri), (error) => button.replaceWith(berth.errorNotice(error)));
  return button;
};

// A browser opens a file that nobody takes, and the page with all that is typed into it would be gone.
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "none";
  });
}

/** Calls `take(files)` for what is dropped on `place`, or pasted anywhere, while `isAble()`. */
berth.givenPictures = (place, isAble, take) => {
  document.addEventListener("paste", (event) => {
    const found = [...(event.clipboardData?.files ?? [])].filter((each) => each.type.startsWith("image/"));
    if (!found.length || !isAble()) return;
    event.preventDefault();
    take(found);
  });
  place.addEventListener("dragover", (event) => {
    if (!isAble() || ![...event.dataTransfer.items].some((each) => each.kind === "file")) return;
    event.preventDefault();
    place.classList.add("is-over");
  });
  place.addEventListener("dragleave", (event) => place.contains(event.relatedTarget) || place.classList.remove("is-over"));
  place.addEventListener("drop", (event) => {
    place.classList.remove("is-over");
    const files = [...event.dataTransfer.files];
    if (!isAble() || !files.length) return; // words that are dropped go where they were dropped
    event.preventDefault();
    take(files);
  });
};

/** The pictures of the next message. `strip` shows them, `choose` is the button that adds one; `place` takes what is
 *  dropped on it. */
berth.pictures = (section, place, tell) => {
  const { el, t } = berth;
  let held = [], reading = 0, hasFailed = false;
  let next = null; // what waits until all are read
  const strip = el("div", { class: "strip", hidden: true });
  const listeners = new Set();
  const file = el("input", { type: "file", accept: "image/*", multiple: true, hidden: true, id: `pictures-${section}`, onchange: () => {
    add([...file.files]);
    file.value = "";
  } });
  const choose = el("span", { class: "choose" }, file,
    berth.button(t("add_picture"), () => file.click(), "quiet", { class: "bb quiet add-picture" }));
  const remove = (picture) => {
    put(held.filter((each) => each !== picture));
    (strip.querySelector("figure > .bb") ?? place.querySelector(".drop .bb, .add-picture")).focus(); // it was on what is gone
  };
  const put = (pictures) => {
    held = pictures;
    strip.hidden = !held.length && !next;
    strip.replaceChildren(...held.map((picture) => el("figure", {}, berth.picture(picture),
      berth.button("×", () => remove(picture), "quiet", { "aria-label": t("remove_picture"), title: t("remove_picture") }))),
      ...(next ? [el("span", { class: "aside", role: "status" }, t("picture_reading"))] : []));
    listeners.forEach((listener) => listener());
  };
  const add = async (files) => {
    if (!reading) hasFailed = false;
    reading += 1;
    for (const each of files.slice(0, MOST + 1)) {
      try {
        const picture = await readPicture(each);
        if (held.length >= MOST) throw { type: "invalid_request", message: t("too_many_pictures", { n: MOST }) };
        put([...held, picture]); // those that are held by now: others may have come or gone meanwhile
      } catch (error) {
        hasFailed = true;
        tell(error.type ? error : { type: "invalid_image", message: each.name });
      }
    }
    reading -= 1;
    if (reading || !next) return;
    const waited = next;
    whenRead(null);
    if (!hasFailed) waited();
  };
  const whenRead = (then) => {
    if (next === then) return;
    next = then;
    put(held);
  };
  const isAble = () => berth.sees(berth.at[section].model);
  berth.givenPictures(place, () => berth.tab === section && isAble(), add);
  berth.onModels(() => choose.classList.toggle("is-able", isAble()));
  const take = () => {
    const taken = held;
    put([]);
    return taken;
  };
  return { strip, choose, add, put, take, isBusy: () => reading > 0, whenRead, held: () => held, onChange: (listener) => listeners.add(listener) };
};

/** Whether a model reads pictures in a chat. */
berth.sees = (name) => {
  const entry = berth.store.catalog.find((each) => each.name === name);
  return (berth.store.models.get(name)?.tasks ?? [entry?.task]).includes("image-text-to-text");
};

/** The camera, in place: `taken(file)` for a picture that is taken. */
const camera = (taken, tell) => {
  const { el, t } = berth;
  const box = el("div", { class: "camera", hidden: true });
  let stream = null, isAsking = false, opener = null;
  const close = () => {
    const isIn = box.contains(document.activeElement);
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    box.hidden = true;
    box.replaceChildren();
    if (isIn) opener.focus(); // who works by keyboard goes on where the camera was opened
  };
  berth.onTab.add(close);
  const open = async (button) => {
    opener = button;
    if (stream) return close();
    if (isAsking) return; // a second camera would never be closed
    isAsking = true;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      if (berth.tab !== "vision") return close(); // left while the browser asked
    } catch {
      return tell({ type: "no_camera", message: t("no_camera_hint") });
    } finally {
      isAsking = false;
    }
    const video = el("video", { autoplay: true, muted: true, playsinline: true, "aria-label": t("camera") });
    video.srcObject = stream;
    const shoot = () => {
      const canvas = el("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob((blob) => taken(new File([blob], "camera.jpg", { type: blob.type })), "image/jpeg", 0.92);
      close();
    };
    const shutter = berth.button(t("shoot"), shoot, "primary", { disabled: true });
    video.addEventListener("loadeddata", () => (shutter.disabled = false));
    box.replaceChildren(video, el("div", { class: "actions" }, shutter, berth.button(t("cancel"), close)));
    box.hidden = false;
  };
  return { box, open };
};

/** What stands beside the talk in Vision: where pictures come in, those of the next message, those talked about. */
berth.pane = ({ server, pictures, tell, gone, messages }) => {
  const { el, t } = berth;
  const shot = camera((file) => pictures.add([file]), tell);
  const drop = el("div", { class: "drop" },
    el("p", {}, t("drop_hint")),
    el("div", { class: "actions" },
      berth.button(t("choose_picture"), () => document.getElementById("pictures-vision").click(), "primary"),
      navigator.mediaDevices && berth.button(t("take_picture"), (event) => shot.open(event.currentTarget))));
  const seen = el("div", { class: "seen" });
  const again = berth.button(t("new_conversation"), gone, "quiet", { id: "new-vision" });
  const caption = (picture) => [
    picture.width && t("picture_size", { width: berth.count(picture.width), height: berth.count(picture.height) }),
    picture.tokens && t("how_tokens", { n: berth.count(picture.tokens) }),
  ].filter(Boolean).join(" · ");
  const figures = new Map(); // picture → how it stands here; kept, for what is open stays open
  const figure = (picture, message) => {
    const words = el("span", {});
    const preview = berth.preview(server, [picture], () => berth.answered(messages(), message));
    const box = el("figure", {}, berth.picture(picture), el("figcaption", {}, words, preview.button), preview.place);
    return { box, mark: () => { words.textContent = caption(picture); preview.mark(); } };
  };
  const mark = () => {
    const shown = messages().flatMap((message) => (message.images ?? []).map((picture) => [picture, message]));
    const there = new Set(shown.map(([picture]) => picture));
    for (const picture of figures.keys()) if (!there.has(picture)) figures.delete(picture);
    for (const [picture, message] of shown) {
      if (figures.get(picture)?.message !== message) figures.set(picture, { ...figure(picture, message), message });
      figures.get(picture).mark();
    }
    const boxes = shown.map(([picture]) => figures.get(picture).box).reverse();
    if (boxes.length !== seen.children.length || boxes.some((box, index) => box !== seen.children[index])) seen.replaceChildren(...boxes);
    again.hidden = !messages().length;
  };
  const box = el("aside", { class: "pane" }, drop, shot.box, pictures.strip, seen, again);
  return { box, mark, look: () => {} };
};

berth.panels.vision = (panel) =>
  berth.talk("vision", panel, { tasks: ["image-text-to-text"], frame: { values: () => ({}), use: () => {} }, beside: berth.pane });
