// Generate: samples side by side, as they are written; what else a token could have been.

/** Puts `text` into a text node that holds its beginning: what is there is not written again. */
berth.grow = (node, text) => {
  if (text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
  else node.data = text;
};

/** How a text was written; one click copies it. */
berth.howWritten = (reply) => {
  const { t } = berth;
  return berth.howLine([
    berth.madeBy(reply),
    reply.queue_ms !== null && t("how_queue", { time: berth.ms(reply.queue_ms) }),
    reply.first_token_ms !== null && t("how_first", { time: berth.ms(reply.first_token_ms) }),
    reply.tokens_per_s !== null && t("how_speed", { n: berth.fixed(reply.tokens_per_s, 1) }),
    t("how_read", { n: berth.count(reply.prompt_tokens) }),
  ].filter(Boolean));
};

/** Why a text ended. */
berth.ending = (reason) => (reason ? berth.t(`ended_${reason}`) : "");

/** `text` cut where its tokens end: [piece, score]. Where a character is spread over tokens, or the text is not written
 *  as the tokens are, what lies between two that are found belongs to the first of those between. */
const cut = (text, scores) => {
  const pieces = [], unplaced = [];
  let end = 0;
  const place = (until, score) => {
    if (until > end) pieces.push([text.slice(end, until), score]);
    end = Math.max(end, until);
  };
  for (const score of scores) {
    const isWhole = score.token && !score.token.includes("\ufffd");
    const start = isWhole ? text.indexOf(score.token, end) : -1;
    if (start < 0 || start - end > 2 * unplaced.length) {
      unplaced.push(score);
      continue;
    }
    if (start > end) place(start, unplaced[0]);
    unplaced.length = 0;
    place(start + score.token.length, score);
  }
  if (unplaced.length) place(text.length, unplaced[0]);
  return pieces;
};

/** The tokens of a text as spans; `tell(score)` is called for the one under the cursor. Arrow keys move. */
const tokenSpans = (text, scores, tell) => {
  const { el } = berth;
  let at = -1;
  const go = (index) => {
    spans[at]?.classList.remove("at");
    at = index;
    spans[at].classList.add("at");
    tell(pieces[at][1]);
  };
  const pieces = cut(text, scores);
  const spans = pieces.map(([piece], index) =>
    el("span", { class: "token", onmouseenter: () => go(index), onclick: () => go(index) }, piece));
  const onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !spans.length) return;
    event.preventDefault();
    go(Math.max(0, Math.min(spans.length - 1, at + step)));
  };
  return el("div", { class: "written tokens", tabindex: "0", onkeydown }, spans);
};

const visible = (token) => token.replaceAll("\n", "⏎").replaceAll(" ", "␣") || "∅";

/** One sample: its text and, under it, how long it is and why it ended. */
const sampleBox = (index, count) => {
  const { el, t } = berth;
  const node = document.createTextNode("");
  const text = el("div", { class: "written" }, node);
  const about = el("span", {});
  const copy = berth.button(t("copy"), () => berth.copy(node.data, copy));
  const box = el("section", { class: "sample" },
    count > 1 && el("h3", {}, t("sample_number", { n: index + 1 })), text, el("div", { class: "how" }, about, copy));
  const update = (reply, ending) => {
    berth.grow(node, reply.result[index]);
    about.textContent = [t("how_tokens", { n: berth.count(reply.tokens[index]) }), berth.ending(reply.finish_reasons[index] ?? ending)]
      .filter(Boolean).join(" · ");
  };
  const unfold = (scores, tell) => text.replaceWith(tokenSpans(node.data, scores, tell));
  return { box, update, unfold };
};

/** What else a token could have been: the place under the samples, and what fills it. */
const alternatives = () => {
  const { el, t } = berth;
  const box = el("div", { class: "alternatives" }, t("token_hint"));
  const tell = (score) => box.replaceChildren(
    el("p", {}, t("token_drawn", { token: visible(score.token), share: berth.percent(Math.exp(score.logprob)) })),
    berth.bars(score.top.map((one) => ({ label: visible(one.token), score: Math.exp(one.logprob) }))));
  return { box, tell };
};

berth.panels.generate = (panel) => {
  const { el, t } = berth;
  let samples = null; // those of the run on the screen
  let live = null; // the line that counts while they are written
  const show = ({ reply, stage }, shown) => {
    if (!samples) {
      samples = reply.result.map((_, index) => sampleBox(index, reply.result.length));
      live = el("div", { class: "how live" });
      shown.replaceChildren(el("div", { class: "samples" }, samples.map(({ box }) => box)), live);
    }
    for (const sample of samples) sample.update(reply, stage === "stopped" ? "cancelled" : null);
    live.replaceChildren(reply.tokens_per_s === null ? "" : t("how_speed", { n: berth.fixed(reply.tokens_per_s, 1) }));
  };
  const finish = (value, { shown }) => {
    show(value, shown);
    const scores = value.reply.scores ?? [];
    const { box, tell } = alternatives();
    scores.forEach((each, index) => each.length && samples[index].unfold(each, tell));
    live.replaceWith(...(scores.some((each) => each.length) ? [box] : []), berth.howWritten(value.reply));
  };
  berth.result("generate", panel, null, {
    running: (_, { above }) => {
      samples = null;
      above.replaceChildren();
    },
    writing: (value, { shown, above }) => {
      above.replaceChildren();
      show(value, shown);
    },
    done: finish,
    stopped: (value, places) => value.reply && finish(value, places),
    error: (value, places) => {
      if (value.reply) finish(value, places);
      else places.shown.replaceChildren();
      places.shown.append(berth.errorNotice(value.error, value.model));
    },
  });
};
