// Markdown of a model as elements. What it wrote becomes text nodes; no markup of its own reaches the document.

const FENCE = /^\s{0,3}(```+|~~~+)\s*([^`]*)$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const HEADING = /^\s{0,3}(#{1,6})\s+(.*?)\s*#*$/;
const QUOTE = /^\s{0,3}>\s?/;
const RULE = /^\s{0,3}([-*_])(\s*\1){2,}\s*$/;

/** The blocks of a text: {kind, lines}, a fence with its `language`. */
const blocksOf = (text) => {
  const blocks = [];
  let block = null, fence = null;
  const open = (kind, line, more = {}) => blocks.push((block = { kind, lines: line === null ? [] : [line], ...more }));
  for (const line of text.split("\n")) {
    if (fence) {
      if (line.trim().startsWith(fence) && !line.trim().slice(fence.length).trim()) fence = block = null;
      else block.lines.push(line);
      continue;
    }
    const opening = line.match(FENCE);
    const kind = RULE.test(line) ? "rule" : HEADING.test(line) ? "heading" : QUOTE.test(line) ? "quote" : ITEM.test(line) ? "list" : "text";
    if (opening) {
      fence = opening[1];
      open("code", null, { language: opening[2].trim() });
    } else if (!line.trim()) {
      if (block?.kind === "list") block.lines.push(line);
      else block = null;
    } else if (block?.kind === "list" && (kind === "list" || /^\s{2,}/.test(line))) block.lines.push(line);
    else if (block?.kind === kind && (kind === "text" || kind === "quote")) block.lines.push(line);
    else open(kind, line);
  }
  return blocks;
};

const INLINE = /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*(?=\S)([\s\S]*?\S)\*\*|(?<![\w*])\*(?=[^\s*])([^*\n]*?[^\s*])\*(?![\w*])|\[([^\][\n]+)\]\((https?:\/\/[^\s()]+)\)|(https?:\/\/[^\s<>"'`)\]]*[^\s<>"'`)\].,;:!?])/g;

/** A text with `code`, **bold**, *emphasis* and links of the web; whatever else it holds is text. */
const inlineOf = (text, depth = 0) => {
  const { el } = berth;
  if (depth > 4) return [text];
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, , code, strong, emphasis, label, target, bare] = found;
    if (found.index > end) parts.push(text.slice(end, found.index));
    end = found.index + whole.length;
    const link = (address, children) => el("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, children);
    if (code !== undefined) parts.push(el("code", {}, code));
    else if (strong !== undefined) parts.push(el("strong", {}, inlineOf(strong, depth + 1)));
    else if (emphasis !== undefined) parts.push(el("em", {}, inlineOf(emphasis, depth + 1)));
    else if (target !== undefined) parts.push(link(target, label));
    else parts.push(link(bare, bare));
  }
  if (end < text.length) parts.push(text.slice(end));
  return parts;
};

const listOf = (lines) => {
  const { el } = berth;
  const items = []; // {indent, ordered, start, text, lines below it}
  for (const line of lines) {
    const found = line.match(ITEM);
    const last = items.at(-1);
    if (found && (!last || found[1].length <= last.indent + 1)) {
      items.push({ indent: found[1].length, mark: found[2], text: found[3], below: [] });
    } else if (last) last.below.push(line);
  }
  const first = items[0];
  const ordered = /\d/.test(first.mark);
  const rows = items.map((item) => {
    const nested = item.below.findIndex((line) => ITEM.test(line));
    const text = [item.text, ...(nested < 0 ? item.below : item.below.slice(0, nested))].map((line) => line.trim()).filter(Boolean);
    return el("li", {}, inlineOf(text.join("\n")), nested >= 0 && listOf(item.below.slice(nested)));
  });
  return el(ordered ? "ol" : "ul", { start: ordered && parseInt(first.mark) !== 1 ? parseInt(first.mark) : null }, rows);
};

const codeOf = ({ lines, language }) => {
  const { el, t } = berth;
  const copy = berth.button(t("copy"), () => berth.copy(lines.join("\n"), copy));
  return el("figure", { class: "code-block" }, el("figcaption", {}, el("span", {}, language), copy),
    el("pre", { tabindex: "0" }, el("code", {}, lines.join("\n"))));
};

const nodeOf = (block) => {
  const { el } = berth;
  const text = block.lines.join("\n");
  switch (block.kind) {
    case "code": return codeOf(block);
    case "rule": return el("hr");
    case "list": return listOf(block.lines);
    case "quote": return el("blockquote", {}, inlineOf(block.lines.map((line) => line.replace(QUOTE, "")).join("\n")));
    case "heading": return el("p", { class: "heading" }, inlineOf(text.match(HEADING)[2]));
    default: return el("p", {}, inlineOf(text));
  }
};

/** A box whose `write(text)` shows a text that grows: only blocks that are other than before are made anew. */
berth.markdown = () => {
  const box = berth.el("div", { class: "markdown" });
  let drawn = []; // the source of each child
  const write = (text) => {
    const blocks = blocksOf(text);
    const sources = blocks.map((block) => JSON.stringify(block));
    blocks.forEach((block, index) => {
      if (drawn[index] === sources[index]) return;
      if (index < box.children.length) box.children[index].replaceWith(nodeOf(block));
      else box.append(nodeOf(block));
    });
    while (box.children.length > blocks.length) box.lastChild.remove();
    drawn = sources;
  };
  return { box, write };
};
