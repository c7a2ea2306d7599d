"""A model that looks at pictures beside transformers' own `generate`, one client, in one run.

    python -m bench.vision [--rounds N] [--tokens N] [--threads N] [--edge PIXELS] [--small] [--onnx]

Writes a SmolVLM of the shape of SmolVLM-256M with seeded weights, asks about pictures, and asks on about each (with
`--onnx` also of its ONNX graphs). Then it asks about a picture while another answer is being written, once with the
picture's tiles encoded between the steps of that answer, as the server does it, and once with all of them in one step.
Prints medians, and the ratios of each round.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.generation.streamers import BaseStreamer

from bench import smolvlm
from bench.gguf_vision import chats
from bench.scheduled import Scheduled, Timed
from core.types import IMAGE_MARK, Message, Runtime, Sampling, Task
from core.worker.generation.base import Chunk
from core.worker.generation.images import parts_of
from core.worker.runtimes.base import LoadRequest
from tests.fakes.onnx_vision import write_graphs
from tests.fakes.vision import opened, own_processor, picture

PICTURE, LARGE = (640, 480), (512, 512)  # pixels; of LARGE most tiles are cut


class _Clock(BaseStreamer):
    """When each token was drawn."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def put(self, value: Any) -> None:
        self.at.append(time.perf_counter())

    def end(self) -> None:
        pass


class Plain:
    """`generate`, with all of the chat each time."""

    def __init__(self, folder: Path) -> None:
        self._processor = own_processor(folder)
        self._model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
        self._model.generation_config.eos_token_id = None

    def answer(self, chat: Sequence[Message], sampling: Sampling) -> Timed:
        started, clock = time.perf_counter(), _Clock()
        inputs = transformers.ProcessorMixin.apply_chat_template(
            self._processor, [_conversed(message) for message in chat], tokenize=True, add_generation_prompt=True,
            return_dict=True, return_tensors="pt",
        )  # fmt: skip
        self._model.generate(
            **inputs, do_sample=False, max_new_tokens=sampling.max_tokens, pad_token_id=0, streamer=clock
        )
        drawn = clock.at[1:]  # the first is the prompt
        return drawn[0] - started, drawn[-1] - drawn[0], len(drawn) - 1


def _conversed(message: Message) -> dict[str, Any]:
    parts = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": opened(part)}
        for part in parts_of(message)
    ]
    return {"role": message["role"], "content": parts}


def longest_wait(side: Scheduled, number: int, *, at_once: bool) -> tuple[float, float]:
    """Seconds between two tokens of an answer while a picture that nobody has seen is read, and to that one's first."""
    told: list[float] = []
    vision = side.model.vision
    look_on = vision.look_on

    def look(chunk: Chunk, *, may_embed: bool = True) -> bool:
        while not look_on(chunk):
            pass
        return True

    if at_once:
        vision.look_on = look
    endless = Sampling(max_tokens=2000, temperature=0, ignore_eos=True)
    text: Message = {"role": "user", "content": "tell me a long story"}
    writing = side.ask([text], endless, lambda delta: told.append(time.perf_counter()))
    while len(told) < 4:
        side.step()
    asked = time.perf_counter()
    image = picture(number, *LARGE)
    shown: Message = {"role": "user", "content": f"{IMAGE_MARK}what is it?", "images": (image,)}
    job = side.ask([shown], Sampling(max_tokens=1, temperature=0))
    told[:] = [time.perf_counter()]  # reading the file is another thread's in a worker
    side.run(job)
    seconds = time.perf_counter() - asked
    side.step()
    side.leave(writing)
    vars(vision).pop("look_on", None)
    return max(after - before for before, after in itertools.pairwise(told)), seconds


def talk(sides: dict[str, Any], rounds: int, tokens: int) -> None:
    found: dict[str, list[list[Timed]]] = {name: [] for name in sides}
    sampling = Sampling(max_tokens=tokens, temperature=0, ignore_eos=True)
    for number in range(rounds + 1):
        for name in sorted(sides, reverse=number % 2 == 1):  # first and last change places
            asked = [sides[name].answer(chat, sampling) for chat in chats(picture(number, *PICTURE))]
            found[name] += [asked] if number else []  # the first warms
    print("| | first token of the first question | of the second | tokens/s behind it | of both answers, whole |")
    print("|---|---|---|---|---|")
    for name, answers in found.items():
        firsts = [statistics.median(answer[turn][0] for answer in answers) * 1000 for turn in (0, 1)]
        behind = statistics.median(map(_behind, answers))
        whole = statistics.median(map(_whole, answers))
        print(f"| {name} | {firsts[0]:,.0f} ms | {firsts[1]:,.0f} ms | {behind:.2f} | {whole:.2f} |")
    plain = found.pop("generate")
    print()
    _print_ratios("generate: second question's first token to the first's", [each[1][0] / each[0][0] for each in plain])
    for name, ours in found.items():
        _print_to_generate(name, ours, plain)


def _print_to_generate(name: str, ours: list[list[Timed]], plain: list[list[Timed]]) -> None:
    print(f"\n{name}:")
    _print_ratios("second question's first token to the first's", [each[1][0] / each[0][0] for each in ours])
    for what, rate in (("tokens/s behind the first token", _behind), ("tokens/s, whole", _whole)):
        _print_ratios(f"{what}, to generate", [rate(a) / rate(b) for a, b in zip(ours, plain, strict=True)])
    firsts = [(a[0][0], b[0][0]) for a, b in zip(ours, plain, strict=True)]
    _print_ratios("first token of the first question, to generate", [a / b for a, b in firsts])


def _behind(answers: Sequence[Timed]) -> float:
    return sum(count for _, _, count in answers) / sum(seconds for _, seconds, _ in answers)


def _whole(answers: Sequence[Timed]) -> float:
    return sum(count + 1 for _, _, count in answers) / sum(first + rest for first, rest, _ in answers)


def wait(side: Scheduled, rounds: int) -> None:
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for number in range(rounds):
        for at_once in (True, False):
            found[at_once].append(longest_wait(side, 1000 + 2 * number + at_once, at_once=at_once))
    print("\n| an image's tiles | longest gap of another answer | the image's own first token |\n|---|---|---|")
    for at_once, name in ((True, "in one step"), (False, "one a step")):
        gap, first = (statistics.median(each) * 1000 for each in zip(*found[at_once], strict=True))
        print(f"| {name} | {gap:,.0f} ms | {first:,.0f} ms |")


def _print_ratios(what: str, ratios: list[float]) -> None:
    print(f"{what}: {statistics.median(ratios):.3f} ({', '.join(f'{each:.3f}' for each in ratios)})")


def _as_graphs(folder: Path, threads: int) -> Scheduled:
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager").eval()
    write_graphs(folder / "onnx", model, "smolvlm", "", torch.float32)
    tasks = (Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION)
    file = "onnx/decoder_model_merged.onnx"
    return Scheduled(LoadRequest(str(folder), Runtime.ONNXRUNTIME, tasks, file=file, threads=threads))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48, help="of an answer")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--edge", type=int, default=smolvlm.EDGE, help="pixels that an image is enlarged to")
    parser.add_argument("--small", action="store_true", help="a sixth of the layers, to try it out")
    parser.add_argument("--onnx", action="store_true", help="also as ONNX graphs")
    given = parser.parse_args()
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        smolvlm.lay_out(folder, layers=(2, 5) if given.small else (12, 30), edge=given.edge)
        tasks = (Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION)
        ours = Scheduled(LoadRequest(name, Runtime.TRANSFORMERS, tasks, dtype="float32", threads=given.threads))
        plain = Plain(folder)
        sides: dict[str, Any] = {"Berth": ours, "generate": plain}
        if given.onnx:
            sides["Berth, ONNX"] = _as_graphs(folder, given.threads)
        torch.set_num_threads(given.threads)
        talk(sides, given.rounds, given.tokens)
        wait(ours, given.rounds)


if __name__ == "__main__":
    main()
