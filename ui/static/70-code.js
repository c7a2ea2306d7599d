// "Use it from code": the call on the screen, as programs that run.

/** For each section, what its values mean as a REST body and as arguments of gradio_client. */
berth.programs = {
  classify: ({ text, labels, top_k, multi_label, per_line }) => {
    if (berth.namesPictures()) return { task: "image-classification", writers: berth.naming, top_k };
    const texts = berth.lines(text, per_line);
    const isZeroShot = labels.trim() !== "" && berth.canZeroShot();
    const given = texts.length > 1 ? { texts } : { text: texts[0] ?? "" };
    const candidates = labels.split(/[,\n]/).map((label) => label.trim()).filter(Boolean);
    const options = isZeroShot ? { candidate_labels: candidates, ...(multi_label ? { multi_label } : {}) } : { top_k };
    const client = isZeroShot ? { labels: candidates, ...(multi_label ? { multi_label } : {}) } : { top_k };
    return {
      task: isZeroShot ? "zero-shot-classification" : "text-classification",
      body: { ...given, ...options }, first: texts.length > 1 ? texts : texts[0] ?? "", client, api_name: "/classify",
    };
  },
  ner: ({ text, aggregation }) => ({
    task: "token-classification",
    body: { text, aggregation_strategy: aggregation },
    first: text, client: { aggregation }, api_name: "/ner",
  }),
  embed: ({ text, normalize }) => {
    const texts = berth.lines(text, true);
    const options = normalize === "model" ? {} : { normalize: normalize === "yes" };
    return { task: "feature-extraction", body: { texts, ...options }, first: texts, client: options, api_name: "/embed" };
  },
  generate: ({ model, prompt, ...knobs }) => {
    const { n, ...options } = berth.samplingOf(knobs);
    const entry = berth.store.catalog.find((one) => one.name === model);
    const task = (berth.store.models.get(model)?.tasks ?? [entry?.task]).find((one) => TEXT_TO_TEXT.includes(one));
    const given = { first: prompt, client: { ...options, ...(n > 1 ? { n } : {}) }, api_name: "/generate" };
    if (task) {
      const { max_tokens, min_p, stop, ...others } = options; // what a prediction of one text has
      return { ...given, task, body: { text: prompt, max_new_tokens: max_tokens, ...others } };
    }
    const body = { model, prompt, ...options, ...(n > 1 ? { n } : {}) };
    const choices = n > 1 ? ['[choice["text"] for choice in reply.json()["choices"]]', "choices.map((choice) => choice.text)"]
      : ['reply.json()["choices"][0]["text"]', "choices[0].text"];
    return { ...given, path: "/v1/completions", body, python: choices[0], javascript: choices[1], openai: completions(body) };
  },
  chat: ({ model, message, messages, frame, ...knobs }) => {
    const { n, ...options } = berth.samplingOf(knobs);
    const said = berth.saidSoFar(message, messages ?? [], frame);
    const system = said[0].role === "system" ? said[0].content : null;
    const body = { model, messages: said, ...options };
    const { min_p, ...client } = options; // what /chat has
    return {
      path: "/v1/chat/completions", body, openai: chatCompletions(body),
      python: 'reply.json()["choices"][0]["message"]["content"]', javascript: "choices[0].message.content",
      first: said.at(-1).content, client: { ...(system ? { system } : {}), ...client }, api_name: "/chat",
    };
  },
  vision: ({ message, messages, ...knobs }) => {
    const { n, min_p, ...options } = berth.samplingOf(knobs);
    const last = message?.trim() ? message : (messages ?? []).findLast((each) => each.role === "user")?.content;
    return { writers: berth.looking, openai: true, question: last ?? berth.t("vision_sample"), client: options };
  },
  ask: ({ question, context, top_k }) => ({
    task: "question-answering",
    body: { question, context, ...(top_k > 1 ? { top_k } : {}) },
    first: question, client: { context, ...(top_k > 1 ? { top_k } : {}) }, api_name: "/answer",
  }),
  fill: ({ text, top_k }) => ({
    task: "fill-mask", body: { text, top_k }, first: text, client: { top_k }, api_name: "/fill_mask",
  }),
};

const TEXT_TO_TEXT = ["text2text-generation", "summarization", "translation"];

/** The knobs of how a model writes as the fields of a request; those that change nothing are left out. */
berth.samplingOf = ({ max_tokens, temperature, top_p, top_k, min_p, repetition_penalty, seed, stop, n }) => ({
  max_tokens, temperature, top_p, top_k, ...(min_p > 0 ? { min_p } : {}), repetition_penalty,
  ...(/^\d{1,15}$/.test(seed?.trim() ?? "") ? { seed: Number(seed) } : {}),
  ...(stop ? { stop: stop.split("\n").filter(Boolean).map((line) => line.replaceAll("\\n", "\n")) } : {}), n,
});

/** Arguments of a call of the openai client: what it does not know by name goes as `extra_body`. */
const openaiArguments = (body) => {
  const { top_k, min_p, repetition_penalty, ...known } = body;
  const extra = Object.fromEntries(Object.entries({ top_k, min_p, repetition_penalty }).filter(([, value]) => value !== undefined));
  return [...Object.entries(known).map(([name, value]) => `    ${name}=${python(value)},`), `    extra_body=${python(extra)},`];
};

/** The messages that lead to the answer on the screen, or to the one of what is being typed. */
berth.saidSoFar = (typed, messages, frame) => {
  const template = berth.frame.named();
  const { filled } = berth;
  const values = { ...frame?.variables };
  const system = frame?.system ?? (template ? filled(template.system, values) : berth.systemOf?.() ?? "");
  const isTyping = Boolean(typed?.trim());
  const until = isTyping ? messages.length : messages.findLastIndex((each) => each.role === "user");
  const last = isTyping ? typed : messages[until]?.content ?? berth.t("chat_sample");
  return [
    ...(system ? [{ role: "system", content: system }] : []),
    ...messages.slice(0, Math.max(0, until)).map(({ role, content, sent }) => ({ role, content: sent ?? content })),
    { role: "user", content: template ? filled(template.user, { ...values, message: last }) : last },
  ];
};

const chatCompletions = (body) => [
  "stream = client.chat.completions.create(",
  ...openaiArguments(body),
  "    stream=True,",
  ")",
  "for chunk in stream:",
  '    print(chunk.choices[0].delta.content or "", end="", flush=True)',
  "print()",
];

const completions = (body) => body.n > 1 ? [
  "reply = client.completions.create(",
  ...openaiArguments(body),
  ")",
  "for choice in reply.choices:",
  "    print(choice.text)",
] : [
  "stream = client.completions.create(",
  ...openaiArguments(body),
  "    stream=True,",
  ")",
  "for chunk in stream:",
  '    print(chunk.choices[0].text, end="", flush=True)',
  "print()",
];

berth.lines = (text, perLine) =>
  (perLine ? text.split("\n") : [text]).map((line) => line.trim()).filter(Boolean);

const json = (value) => JSON.stringify(value);
const spaced = (value) => { // as people write it: {"a": 1, "b": [2, 3]}
  if (Array.isArray(value)) return `[${value.map(spaced).join(", ")}]`;
  if (value && typeof value === "object") return `{${Object.entries(value).map(([k, v]) => `${json(k)}: ${spaced(v)}`).join(", ")}}`;
  return json(value);
};
const python = (value) => {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([k, v]) => `${json(k)}: ${python(v)}`).join(", ")}}`;
  return json(value);
};
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const WRITERS = {
  curl: ({ url, body, key }) => [
    `curl -sS ${shell(url)} \\`,
    ...(key ? ["  -H 'X-API-Key: YOUR_KEY' \\"] : []),
    "  -H 'Content-Type: application/json' \\",
    `  -d ${shell(spaced(body))}`,
  ],
  Python: ({ url, body, key, python: shown = 'reply.json()["result"]' }) => [
    "import requests",
    "",
    "reply = requests.post(",
    `    ${json(url)},`,
    ...(key ? ['    headers={"X-API-Key": "YOUR_KEY"},'] : []),
    `    json=${python(body)},`,
    "    timeout=120,",
    ")",
    "reply.raise_for_status()",
    `print(${shown})`,
  ],
  openai: ({ base, key, openai }) => [
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${json(`${base}/v1`)}, api_key="${key ? "YOUR_KEY" : "none"}")`,
    ...openai,
  ],
  gradio_client: ({ base, model, first, client, api_name, key }) => [
    "from gradio_client import Client",
    "",
    `client = Client(${json(base)}${key ? ', headers={"X-API-Key": "YOUR_KEY"}' : ""})`,
    "reply = client.predict(",
    `    ${python(first)},`,
    ...Object.entries({ model, ...client }).map(([name, value]) => `    ${name}=${python(value)},`),
    `    api_name=${json(api_name)},`,
    ")",
    'print(reply["result"])',
  ],
  JavaScript: ({ url, body, key, javascript: shown = "result" }) => [
    `const reply = await fetch(${json(url)}, {`,
    '  method: "POST",',
    `  headers: {"Content-Type": "application/json"${key ? ', "X-API-Key": "YOUR_KEY"' : ""}},`,
    `  body: JSON.stringify(${spaced(body)}),`,
    "});",
    "if (!reply.ok) throw new Error((await reply.json()).detail);",
    `console.log((await reply.json()).${shown});`,
  ],
};

berth.program = (section, language) => {
  const model = berth.at[section].model ?? "";
  const base = new URL(".", location.href).href.replace(/\/$/, "");
  const told = berth.programs[section](berth.at[section]);
  const url = told.path ? base + told.path : `${base}/models/${model.split("/").map(encodeURIComponent).join("/")}/predict`;
  if (told.writers) return told.writers[language]({ ...told, base, url, model, key: berth.store.needsKey }).join("\n");
  if (told.path) return WRITERS[language]({ ...told, base, url, model, key: berth.store.needsKey }).join("\n");
  const own = berth.describe(model).tasks[0];
  if (own && own !== told.task) told.body.task = told.task; // a model that can do more than one
  return WRITERS[language]({ ...told, base, url, model, key: berth.store.needsKey }).join("\n");
};

berth.panels.code = ({ root, options }) => {
  const { el, t } = berth;
  let language = "curl";
  const code = el("code", {});
  const aside = el("p", { class: "aside" });
  const copy = berth.button(t("copy"), () => berth.copy(code.textContent, copy));
  const tabs = Object.keys(WRITERS).map((name) =>
    el("button", { type: "button", class: "bb quiet", "aria-pressed": String(name === language), onclick: () => show(name) }, name));
  const box = el("details", { class: "code" }, el("summary", {}, t("use_from_code")),
    el("div", { class: "languages" }, tabs, copy), el("pre", { tabindex: "0" }, code), aside);
  root.append(box);
  const draw = () => {
    if (!box.open || Object.keys(berth.at[options.section]).length < 2) return; // nothing has been told yet
    const isOpenai = Boolean(berth.programs[options.section](berth.at[options.section]).openai);
    tabs.forEach((tab) => { if (tab.textContent === "openai") tab.hidden = !isOpenai; });
    if (language === "openai" && !isOpenai) return show("curl");
    code.textContent = berth.program(options.section, language);
    aside.textContent = [berth.store.needsKey && t("key_hint"), language === "JavaScript" && t("save_as_mjs")].filter(Boolean).join(" ");
  };
  const show = (name) => {
    language = name;
    for (const tab of tabs) tab.setAttribute("aria-pressed", String(tab.textContent === name));
    draw();
  };
  box.addEventListener("toggle", draw);
  berth.redraw[options.section] = draw;
  berth.onModels(draw);
};
