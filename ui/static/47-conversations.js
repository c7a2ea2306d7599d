// The list of conversations, and the frame that messages are put into: template, variables, system prompt.
berth.conversation = {}; // section → id of the one on the screen

/** The list: newest first, renamed and deleted in place, taken out and brought in as JSON. */
berth.conversations = ({ server, tell, open, isOpen, gone }) => {
  const { el, t } = berth;
  const list = el("ul", { class: "conversations" });
  const more = berth.button(t("more"), () => look(pages + 1));
  let pages = 1;
  const file = el("input", { type: "file", accept: "application/json,.json", hidden: true, id: "bring-in", onchange: () => bringIn() });
  const look = async (count = pages) => {
    pages = count;
    const items = [];
    let total = 0;
    for (let page = 1; page <= pages; page += 1) {
      const told = await server.conversations(page);
      if (told.error) return tell(told.error);
      items.push(...told.items);
      total = told.total;
    }
    list.replaceChildren(...items.map(row));
    more.hidden = items.length >= total;
    mark();
  };
  const mark = () => {
    for (const each of list.children) {
      if (isOpen(each.dataset.id)) each.setAttribute("aria-current", "true");
      else each.removeAttribute("aria-current");
    }
  };
  const bringIn = async () => {
    try {
      const told = await server.bring_in(JSON.parse(await file.files[0].text()));
      if (told.error) return tell(told.error);
      await look();
      open(told.ids[0]);
    } catch {
      tell({ type: "invalid_request", message: t("not_json") });
    } finally {
      file.value = "";
    }
  };
  const row = (item) => {
    const line = el("li", { "data-id": item.id });
    const asked = async (call) => {
      const told = await call;
      if (told.error) tell(told.error);
      return !told.error;
    };
    const rest = () => line.replaceChildren(
      el("button", { type: "button", class: "open", onclick: () => open(item.id), title: item.title }, item.title),
      el("details", { class: "menu" }, el("summary", { "aria-label": t("conversation_menu", { title: item.title }) }, "⋯"),
        el("div", { class: "actions" }, berth.button(t("rename"), rename), berth.button(t("take_out"), takeOut), berth.button(t("remove"), sure))));
    const rename = () => {
      const field = el("input", { type: "text", "aria-label": t("rename"), maxlength: "200" });
      field.value = item.title;
      const save = async () => {
        const title = field.value.trim();
        if (!title || title === item.title) return rest();
        if (await asked(server.rename({ id: item.id, title }))) item.title = title;
        rest();
      };
      berth.onEnter(field, save);
      field.addEventListener("keydown", (event) => event.key === "Escape" && rest());
      line.replaceChildren(field, berth.button(t("save"), save));
      field.select();
    };
    const sure = () => {
      const yes = berth.button(t("remove"), async () => {
        if (!(await asked(server.remove(item.id)))) return rest();
        const wasOpen = isOpen(item.id);
        await look();
        if (wasOpen) gone();
      }, "danger");
      line.replaceChildren(el("div", { class: "pairs sure" }, el("span", {}, t("remove_sure")), yes, berth.button(t("keep"), rest)));
      yes.focus();
    };
    const takeOut = async () => {
      const told = await server.take_out(item.id);
      if (told.error) tell(told.error);
      else berth.save(`${item.title.replace(/[^\p{L}\p{N} _-]+/gu, "").trim().slice(0, 60) || "conversation"}.json`, "application/json", JSON.stringify(told.file, null, 2));
      rest();
    };
    rest();
    return line;
  };
  const box = el("aside", { class: "conversations-side" },
    el("div", { class: "actions" }, berth.button(t("new_conversation"), gone, "quiet", { id: "new-conversation" }),
      berth.button(t("bring_in"), () => file.click()), file), list, more);
  more.hidden = true;
  return { box, look, mark };
};

/** `text` with each {name} of `values` put in, as the server does it. */
berth.filled = (text, values) => text.replace(/(?<![{$])\{([A-Za-z_]\w*)\}(?!\})/g, (whole, name) => values[name] ?? whole);

/** The frame of the next message. Its panel stands in the options; the chat asks for its values. */
berth.frame = { values: () => ({}), use: () => {}, named: () => null };

berth.panels.frame = ({ root }) => {
  const { el, t } = berth;
  const select = el("select", { "aria-label": t("template"), onchange: () => draw() });
  const about = el("p", { class: "aside" });
  const variables = el("div", { class: "variables" });
  const system = el("textarea", { rows: "3", "aria-label": t("system_prompt"), placeholder: t("system_placeholder") });
  let known = [];
  let isTyped = false; // whether the system prompt is the reader's own
  root.append(el("div", { class: "frame" },
    el("label", { class: "field" }, el("span", {}, t("template")), select), about, variables,
    el("label", { class: "field" }, el("span", {}, t("system_prompt")), system)));
  const seen = () => berth.seen("chat", ["frame"], [berth.frame.values()]);
  system.addEventListener("input", () => {
    isTyped = true;
    seen();
  });
  const chosen = () => known.find((template) => template.name === select.value) ?? null;
  const draw = () => {
    const template = chosen();
    about.textContent = template?.description ?? "";
    variables.replaceChildren(...(template?.variables ?? []).map(({ name, description, default: given }) => {
      const field = el("input", { type: "text", name, placeholder: given === null ? t("variable_needed") : "", oninput: seen });
      field.value = given ?? "";
      return el("label", { class: "field" }, el("span", {}, name, description && el("small", {}, description)), field);
    }));
    isTyped = false;
    system.value = template?.system ?? berth.systemOf?.() ?? "";
    seen();
  };
  berth.frame.named = chosen;
  berth.frame.values = () => {
    const template = chosen();
    const fields = [...variables.querySelectorAll("input")].filter((field) => field.value);
    const given = Object.fromEntries(fields.map((field) => [field.name, field.value]));
    return { template: template?.name ?? null, variables: given, system: isTyped ? berth.filled(system.value, given) : null };
  };
  /** The system prompt as it will be sent; null: the conversation's own. */
  berth.frame.system = () => {
    const { system: typed, variables: given } = berth.frame.values();
    return typed ?? (chosen() ? berth.filled(chosen().system, given) : null);
  };
  berth.frame.use = () => { // the conversation that is opened
    select.value = "";
    draw();
  };
  berth.frame.offer = (templates) => {
    known = templates;
    const now = select.value;
    select.replaceChildren(el("option", { value: "" }, t("no_template")), ...known.map(({ name, title }) => el("option", { value: name }, title)));
    select.value = now;
    seen();
  };
  berth.frame.offer(berth.templates ?? []);
  draw();
};
