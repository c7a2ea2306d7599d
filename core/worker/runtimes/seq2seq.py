"""What is the same for every encoder-decoder, whatever runs it: how its prompt and its answer begin, and which tokens
its own settings keep it from writing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from transformers.generation import logits_process
from transformers.generation.logits_process import LogitsProcessorList

from core.types import Task
from core.worker.generation.chat_template import ChatTemplate
from core.worker.generation.codec import HFCodec


class Seq2SeqCodec(HFCodec):
    """A prompt always has its end token, and the words that tell the model its task where it was trained with some."""

    def __init__(self, tokenizer: Any, generation_config: Any, template: ChatTemplate) -> None:
        super().__init__(tokenizer, generation_config, template)
        self.prefix = ""

    def encode(self, text: str) -> list[int]:
        return super().encode(text if text.startswith(self.prefix) else self.prefix + text)

    def encode_chat(self, text: str) -> list[int]:
        return super().encode(text)


def prefix_of(config: Any, task: Task) -> str:
    """The words before a prompt that mean `task` to a model that knows several."""
    own = (getattr(config, "task_specific_params", None) or {}).get(str(task), {})
    return str(own.get("prefix") or "")


def beginning(config: Any) -> list[int]:
    """The tokens that every answer begins with, which are not part of its text. `config`: a generation config."""
    start = config.decoder_start_token_id
    if isinstance(start, list):
        start = start[0]
    if start is None:
        start = config.bos_token_id if config.bos_token_id is not None else config.pad_token_id or 0
    return [start] if config.forced_bos_token_id is None else [start, config.forced_bos_token_id]


def rules_of(config: Any, eos_ids: Iterable[int], prompt: Any) -> LogitsProcessorList:
    """What a generation config forbids to write: Marian its padding, BART to repeat itself …

    `prompt`: a tensor (1, tokens), on the device of the scores that the rules are for.
    """
    ends = sorted(eos_ids)
    device = str(prompt.device)
    found: list[logits_process.LogitsProcessor] = []
    if config.no_repeat_ngram_size:
        found.append(logits_process.NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    if config.encoder_no_repeat_ngram_size:
        size = config.encoder_no_repeat_ngram_size
        found.append(logits_process.EncoderNoRepeatNGramLogitsProcessor(size, prompt))
    if config.bad_words_ids:
        found.append(logits_process.NoBadWordsLogitsProcessor(config.bad_words_ids, ends))
    if config.min_length and ends:
        found.append(logits_process.MinLengthLogitsProcessor(config.min_length, ends, device))
    if config.suppress_tokens:
        found.append(logits_process.SuppressTokensLogitsProcessor(config.suppress_tokens, device))
    return LogitsProcessorList(found)
