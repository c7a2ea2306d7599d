// Talk: the messages of a conversation, the composer, and how full the context is. Chat and Vision are made of it.

/** What a message is on the page; `write` draws what it says by now. */
berth.message = (message, act) => {
  const { el, t } = berth;
  const isUser = message.role === "user";
  const text = isUser ? { box: el("div", { class: "said" }), write(words) { this.box.textContent = words; } } : berth.markdown();
  const about = el("span", { class: "about" });
  const actions = el("div", { class: "actions" });
  const pictures = message.images?.length ? el("div", { class: "pictures" }, message.images.map(berth.picture)) : null;
  const box = el("article", { class: `message ${message.role}`, "aria-label": isUser ? t("you") : t("the_answer") }, pictures, text.box, el("footer", {}, about, actions));
  const preview = pictures && act.preview?.(message);
  if (preview) pictures.after(preview.place);
  const write = () => {
    preview?.mark();
    text.write(message.content);
    const ending = message.status === "interrupted" ? "cancelled" : message.finish_reason;
    about.textContent = isUser ? "" : [
      message.completion_tokens !== null && message.completion_tokens !== undefined && t("how_tokens", { n: berth.count(message.completion_tokens) }),
      message.tokens_per_s && t("how_speed", { n: berth.fixed(message.tokens_per_s, 1) }),
      ending && ending !== "stop" && berth.ending(ending),
    ].filter(Boolean).join(" · ");
    box.classList.toggle("is-waiting", !isUser && message.isRunning === true && !message.content);
  };
  const copy = berth.button(t("copy"), () => berth.copy(message.content, copy));
  actions.append(copy, isUser ? berth.button(t("edit"), () => edit()) : berth.button(t("retry"), () => act.retry(message), "quiet", { class: "bb quiet retry" }));
  if (preview) actions.append(preview.button);
  const edit = () => {
    const field = el("textarea", { "aria-label": t("edit"), rows: Math.min(8, message.content.split("\n").length + 1) });
    field.value = message.content;
    const back = () => editor.replaceWith(text.box);
    const send = () => {
      if (!field.value.trim()) return;
      back();
      act.resend(message, field.value);
    };
    const editor = el("div", { class: "editor" }, field,
      el("div", { class: "actions" }, berth.button(t("send"), send, "primary"), berth.button(t("cancel"), back),
        el("span", { class: "aside" }, t("edit_hint"))));
    text.box.replaceWith(editor);
    berth.onEnter(field, send);
    field.addEventListener("keydown", (event) => event.key === "Escape" && back());
    field.focus();
  };
  write();
  return { box, write };
};

/** Enter sends, Shift+Enter breaks the line; an Enter that ends a Korean syllable does neither. */
berth.onEnter = (field, send) => field.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  send();
});

/** How much of the model's context a conversation takes. */
berth.meter = () => {
  const { el, t } = berth;
  const fill = el("i", {});
  const label = el("span", { class: "number" });
  const box = el("div", { class: "meter", hidden: true, title: t("meter_hint") }, el("div", { class: "track", "aria-hidden": "true" }, fill), label);
  const show = (used, all) => {
    box.hidden = !used || !all;
    fill.style.width = `${Math.min(1, used / (all || 1)) * 100}%`;
    box.classList.toggle("is-full", used > 0.9 * all);
    label.textContent = t("meter", { used: berth.count(used || 0), all: berth.count(all || 0) });
  };
  return { box, show };
};

/** The field to write in: `send(text)` when it is sent. `pictures` go with it. */
berth.composer = (section, send, stop, pictures) => {
  const { el, t } = berth;
  const field = el("textarea", { rows: "1", placeholder: t(`${section}_placeholder`), "aria-label": t("message"), id: `message-${section}` });
  const grow = () => {
    field.style.height = "auto";
    field.style.height = `${Math.min(200, field.scrollHeight + 2)}px`;
  };
  const go = () => {
    const text = field.value;
    if (!text.trim() || document.body.classList.contains(`running-${section}`)) return;
    if (pictures.isBusy()) return pictures.whenRead(go);
    set("");
    send(text);
  };
  const set = (text) => {
    field.value = text;
    grow();
    berth.seen(section, ["message"], [text]);
  };
  field.addEventListener("input", () => {
    grow();
    berth.seen(section, ["message"], [field.value]);
  });
  berth.onEnter(field, go);
  const box = el("div", { class: "composer" }, pictures.choose, field,
    berth.button(t("send"), go, "primary", { id: `send-${section}`, class: "bb primary send" }),
    berth.button(t("stop"), stop, "quiet", { id: `stop-${section}`, class: "bb quiet stop" }));
  return { box, field, set };
};

const REST = 100_000; // bytes of a turn beside its pictures

/** A conversation. `tasks`: one of which its model does; `frame`: what its messages are put into; `beside` makes what
 *  stands beside it. */
berth.talk = (section, { root, options, props, trigger, server, watch }, { tasks, frame, beside }) => {
  const { el, t } = berth;
  root.classList.add("chat");
  let now = { id: null, title: "", system: "", messages: [] }; // the conversation on the screen
  let run = null; // the turn under way: {conversation, question, answer}
  const drawn = new Map(); // message → what draws it

  const list = el("div", { class: "messages", role: "log", "aria-live": "off", tabindex: "0" });
  const above = el("div", { class: "above" });
  const meter = berth.meter();
  const tell = (error) => above.replaceChildren(...(error ? [berth.errorNotice(error, berth.at[section].model)] : []));
  const pictures = berth.pictures(section, root, tell);
  const composer = berth.composer(section, (text) => send(text), () => trigger("stop"), pictures);
  const side = beside({ server, tell, pictures, open: (id) => open(id), isOpen: (id) => id === now.id, gone: () => begin(), messages: () => now.messages });
  const hasPane = side.box.contains(pictures.strip); // where pictures stand, and what was seen of them
  root.append(el("div", { class: "chat-sides" }, side.box,
    el("div", { class: "talk" }, list, above, !hasPane && pictures.strip, composer.box, el("div", { class: "under" }, el("span", { class: "aside" }, t("composer_hint")), meter.box))));

  const act = {
    preview: hasPane ? null : (message) => berth.preview(server, message.images, () => berth.answered(now.messages, message)),
    retry: (answer) => {
      const question = now.messages[now.messages.indexOf(answer) - 1];
      if (question) act.resend(question, question.content);
    },
    resend: (question, text) => {
      if (run) return;
      const replaced = now.messages.splice(now.messages.indexOf(question));
      replaced.forEach(drop);
      send(text, question, question.images, replaced);
    },
  };
  const drop = (message) => {
    drawn.get(message)?.box.remove();
    drawn.delete(message);
  };
  const add = (message) => {
    const shown = berth.message(message, act);
    drawn.set(message, shown);
    list.append(shown.box);
  };
  const toEnd = () => (list.scrollTop = list.scrollHeight);

  /** What there is to do before anybody can chat: nothing, load what the catalogue has, or find a model. */
  const lack = () => {
    const { here, listed } = berth.choices(tasks);
    if (here.length) return null;
    return listed.length ? "load" : "find";
  };
  const empty = () => {
    const model = berth.at[section].model ?? "";
    if (!berth.store.machine || (lack() === "load" && !model)) return berth.notice("empty"); // not known yet
    const load = () => document.querySelector(`#tab-${section} .line .detail button`)?.click();
    if (lack() === "load") {
      return berth.notice("empty", t(`${section}_no_model`), t("chat_load_hint", { model }), berth.button(t("load"), load, "primary"));
    }
    if (lack() === "find") {
      return berth.notice("empty", t(`${section}_no_model`), t("chat_no_model_hint"),
        berth.button(t("chat_to_models"), () => document.getElementById("tab-models-button").click(), "primary"));
    }
    return berth.notice("empty", t(`${section}_empty`), t(`${section}_empty_hint`), el("div", { class: "examples" },
      options.examples[berth.lang].map(({ text, picture }) =>
        el("button", { type: "button", class: "chip", onclick: () => send(text, null, picture ? [{ uri: picture }] : []) },
          picture && el("img", { src: picture, alt: "" }), text))));
  };
  const redraw = () => {
    drawn.clear();
    list.replaceChildren();
    now.messages.forEach(add);
    settle();
    toEnd();
  };
  const showMeter = () => {
    const last = now.messages.findLast((message) => message.prompt_tokens);
    if (!run) meter.show((last?.prompt_tokens ?? 0) + (last?.completion_tokens ?? 0), last?.context_length ?? berth.describe(berth.at[section].model ?? "").context_length);
  };
  /** What depends on whether there are messages, and which is the last. */
  const settle = () => {
    const hasNone = !now.messages.length;
    const notice = list.querySelector(".notice.empty");
    if (hasNone) list.replaceChildren(empty());
    else notice?.remove();
    showMeter();
    berth.conversation[section] = now.id;
    berth.at[section].messages = now.messages;
    berth.seen(section, [], []);
    if (berth.tab === section) berth.address();
    side.mark();
  };

  if (section === "chat") berth.systemOf = () => now.system;
  const begin = () => {
    pictures.whenRead(null);
    now = { id: null, title: "", system: "", messages: [] };
    frame.use();
    tell(null);
    redraw();
    composer.field.focus();
  };
  const open = async (id) => {
    pictures.whenRead(null);
    if (run?.conversation.id === id) now = run.conversation;
    else {
      const told = await server.conversation(id);
      if (told.error) return tell(told.error);
      now = told.conversation;
      for (const { images } of now.messages) for (const image of images) {
        image.kept = { conversation: id, key: image.key };
        image.read = () => server.image(image.kept);
      }
    }
    frame.use();
    tell(null);
    redraw();
  };

  /** `old` is the message that this one takes the place of, with its pictures; `replaced` it and what came after. */
  const send = async (text, old = null, images = pictures.take(), replaced = []) => {
    if (run || !text.trim()) return;
    const question = { id: null, role: "user", content: text, images };
    const answer = { id: null, role: "assistant", content: "", isRunning: true };
    run = { conversation: now, question, answer, replaced, turn: Date.now() };
    now.messages.push(question, answer);
    tell(null);
    document.body.classList.add(`running-${section}`);
    add(question);
    add(answer);
    settle();
    toEnd();
    now.system = frame.system?.() ?? now.system; // it stays with the conversation
    const given = { message: text, conversation: now.id, replaces: now.id ? old?.id ?? null : null, language: berth.lang, ...frame.values(), turn: run.turn };
    try {
      await Promise.all(images.map((image) => image.kept || berth.seePicture(image))); // the server has those that it keeps
      const length = images.reduce((sum, { kept, uri }) => sum + (kept ? 0 : uri.length), REST);
      if (length > options.max_body) throw { type: "request_too_large", message: null }; // nothing would come back of it
    } catch (error) {
      return end({ stage: "error", error });
    }
    props.value = { ...given, images: images.map(({ kept, uri }) => kept ?? uri) };
    trigger("send");
  };

  const write = ({ reply }) => {
    const { conversation, question, answer } = run;
    Object.assign(answer, {
      content: reply.result, completion_tokens: reply.tokens, prompt_tokens: reply.prompt_tokens, model: reply.model,
      context_length: reply.context_length, tokens_per_s: reply.tokens_per_s, finish_reason: reply.finish_reason, id: reply.answer_id,
    });
    question.id = reply.question_id;
    const isNews = reply.image_tokens.length > 0 && question.images.some((image) => !image.tokens);
    question.images.forEach((image, index) => (image.tokens = reply.image_tokens.at(index - question.images.length)));
    if (!conversation.id && reply.conversation_id) {
      conversation.id = reply.conversation_id;
      if (conversation === now) settle();
    }
    if (reply.dropped_messages) answer.note = t("chat_dropped", { n: reply.dropped_messages });
    else if (reply.has_chat_template === false) answer.note = t("chat_plain_template", { model: reply.model });
    if (conversation !== now) return;
    if (isNews) { // not at every word: what is enlarged or has the focus there would be lost
      side.mark();
      drawn.get(question)?.write();
    }
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 48;
    drawn.get(answer)?.write();
    meter.show(reply.prompt_tokens + reply.tokens, reply.context_length);
    if (isAtEnd) toEnd();
  };
  const end = async (value) => {
    if (!run) return;
    if (value.reply) write(value);
    const { conversation, question, answer, replaced } = run;
    run = null;
    answer.isRunning = false;
    if (value.stage !== "done") answer.status = "interrupted";
    document.body.classList.remove(`running-${section}`);
    above.replaceChildren();
    const hasFailed = value.stage === "error" || value.stage === "empty";
    if (!answer.content && (hasFailed || (replaced.length && value.stage === "stopped"))) {
      // nothing came of it: the server has what it had before, and the message is put back to be sent again
      for (const gone of conversation.messages.splice(conversation.messages.indexOf(question))) drop(gone);
      conversation.messages.push(...replaced);
      if (conversation === now) {
        replaced.forEach(add);
        if (replaced[0]?.content !== question.content) {
          composer.set([question.content, composer.field.value].filter((each) => each.trim()).join("\n"));
        }
        if (!replaced.length) pictures.put([...question.images, ...pictures.held()]);
        toEnd();
      }
    }
    if (hasFailed) {
      if (value.error) tell(value.error);
    } else if (answer.note) above.replaceChildren(berth.notice("hint", null, answer.note));
    if (question.images.length) drawn.get(question)?.write(); // what the model saw of them can be asked for now
    drawn.get(answer)?.write();
    if (conversation.id && value.stage !== "done") await learnIds(conversation);
    if (conversation === now) settle();
    side.look();
    berth.look?.();
  };
  /** A turn that was cut short is stored all the same; its messages have their ids from the server. */
  const learnIds = async (conversation) => {
    const told = await server.conversation(conversation.id);
    if (told.error) {
      if (!conversation.messages.length) conversation.id = null;
      return;
    }
    told.conversation.messages.forEach((stored, index) => {
      if (conversation.messages[index]) conversation.messages[index].id = stored.id;
    });
  };

  watch("value", () => {
    const value = props.value;
    if (!value?.stage || value.turn !== run?.turn) return; // the last of a turn may come twice, and late
    if (value.stage === "loading") {
      berth.learn({ model: value.model });
      above.replaceChildren(berth.notice("hint", t("loading_model", { model: value.model.name }), null, berth.progressBar(value.model)));
    } else if (value.stage === "writing") {
      write(value);
      if (above.querySelector(".progress")) above.replaceChildren();
    } else if (value.stage !== "running") end(value);
  });
  let lacked = null;
  berth.onModels(() => { // the first model, or the last, changes what an empty conversation says
    const key = `${Boolean(berth.store.machine)} ${lack()} ${berth.at[section].model}`;
    if (key !== lacked && !now.messages.length) settle();
    else showMeter();
    lacked = key;
  });
  const asked = berth.startTab === section && berth.query.get("conversation");
  if (asked) open(asked);
  else redraw();
  side.look();
};

berth.panels.chat = (panel) => {
  berth.talk("chat", panel, { tasks: ["text-generation"], frame: berth.frame, beside: berth.conversations });
  panel.server.templates(berth.lang).then((told) => {
    berth.templates = told.templates ?? [];
    berth.frame.offer?.(berth.templates);
  });
};
