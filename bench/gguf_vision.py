"""A GGUF model that sees beside llama-cpp-python's own multimodal chat handler, one client, in one run.

    python -m bench.gguf_vision [--rounds N] [--threads N]

Writes a llama of 8 layers and a tower of 8 layers with seeded weights, asks about pictures, and asks on about each.
Prints medians: milliseconds to the first token of a first and of a second question, and tokens a second behind it.
"""

from __future__ import annotations

import argparse
import base64
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
from llama_cpp.llama_chat_format import MTMDChatHandler

from bench.scheduled import Scheduled, Timed
from core.types import IMAGE_MARK, Image, Message, Runtime, Sampling, Task
from core.worker.runtimes.base import LoadRequest
from tests.fakes.gguf import write_gguf
from tests.fakes.gguf_vision import write_mmproj
from tests.fakes.images import picture

TOKENS = 48  # of an answer
CONTEXT = 2048
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}<|end|>{% endfor %}<|assistant|>"
)


def write(folder: Path) -> None:
    shape = {"embedding": 512, "layers": 8, "heads": 8, "heads_kv": 8, "feed_forward": 1536, "context": CONTEXT}
    write_gguf(folder / "m.gguf", vocabulary="bpe", template=TEMPLATE, **shape)
    tower = {"embedding": 512, "layers": 8, "heads": 8, "feed_forward": 2048, "patch": 14, "side": 224}
    write_mmproj(folder / "mmproj.gguf", width=512, **tower)


def ours(folder: Path, threads: int) -> Scheduled:
    tasks = (Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION)
    return Scheduled(
        LoadRequest(str(folder), Runtime.LLAMA_CPP, tasks, file="m.gguf", projector="mmproj.gguf", threads=threads)
    )


class Handler:
    """llama-cpp-python's chat handler."""

    def __init__(self, folder: Path, threads: int) -> None:
        handler = MTMDChatHandler(str(folder / "mmproj.gguf"), verbose=False)
        options: Any = {"n_ctx": CONTEXT, "n_threads": threads, "flash_attn": True, "chat_handler": handler}
        self._llama = llama_cpp.Llama(str(folder / "m.gguf"), verbose=False, **options)

    def answer(self, chat: Sequence[Message], sampling: Sampling) -> Timed:
        drawn: list[float] = []  # when each token was

        def note(_: Any, scores: Any) -> Any:
            drawn.append(time.perf_counter())
            return scores

        started = time.perf_counter()
        self._llama.create_chat_completion(
            [_parts(message) for message in chat], temperature=0, max_tokens=sampling.max_tokens, repeat_penalty=1.0,
            logits_processor=llama_cpp.LogitsProcessorList([note]),
        )  # fmt: skip
        return drawn[0] - started, drawn[-1] - drawn[0], len(drawn) - 1


def _parts(message: Message) -> Any:
    parts: list[Any] = [{"type": "text", "text": message["content"].replace(IMAGE_MARK, "")}]
    for image in message.get("images", ()):
        url = "data:image/png;base64," + base64.b64encode(image["data"]).decode()
        parts.insert(0, {"type": "image_url", "image_url": {"url": url}})
    return {"role": message["role"], "content": parts}


def chats(image: Image) -> tuple[list[Message], list[Message]]:
    first: Message = {"role": "user", "content": f"{IMAGE_MARK}what is it?", "images": (image,)}
    return [first], [first, {"role": "assistant", "content": "the fox"}, {"role": "user", "content": "over what?"}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        sides: dict[str, Any] = {
            "berth": ours(Path(folder), given.threads),
            "llama-cpp-python": Handler(Path(folder), given.threads),
        }
        found: dict[str, list[list[Timed]]] = {name: [] for name in sides}
        sampling = Sampling(max_tokens=TOKENS, temperature=0)
        for number in range(given.rounds + 1):
            for name, side in sides.items():
                asked = [side.answer(chat, sampling) for chat in chats(picture(number, 320, 240))]
                found[name] += [asked] if number else []  # the first warms
    for name, answers in found.items():
        firsts = [statistics.median(answer[turn][0] for answer in answers) * 1000 for turn in (0, 1)]
        counts = [(seconds, count) for answer in answers for _, seconds, count in answer if count > 0]
        speed = sum(count for _, count in counts) / sum(seconds for seconds, _ in counts)
        print(f"{name:18} first {firsts[0]:7.1f} ms   second {firsts[1]:7.1f} ms   {speed:7.1f} tokens/s")


if __name__ == "__main__":
    main()
