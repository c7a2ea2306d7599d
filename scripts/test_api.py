"""Tries a running server: `python scripts/test_api.py --mode all|health|chat|interactive`.

Each check is a line; the exit status is 1 when one has failed. `interactive` answers what is typed, until an empty
line or the end of input.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from scripts.api_client import ADDRESS, LLMClient, ServerError

Check = Callable[[LLMClient], str]


def health(client: LLMClient) -> str:
    answer = client.health_check()
    assert answer["status"] == "healthy", answer
    return f"{answer['models_loaded']} models loaded"


def model_info(client: LLMClient) -> str:
    answer = client.model_info()
    return f"{answer['model_name']} on {answer['device']}, GPU memory {answer['gpu_memory_allocated']}"


def generate(client: LLMClient) -> str:
    prompt = "Python이란?"
    answer = client.generate(prompt, max_new_tokens=16, temperature=0.7)
    (text,) = answer["generated_text"]
    assert text.startswith(prompt), text
    return f"{answer['usage']['completion_tokens']} tokens in {answer['generation_time']} s"


def chat(client: LLMClient) -> str:
    answer = client.chat("머신러닝을 설명하세요", max_new_tokens=16)
    assert answer["instruction"] == "머신러닝을 설명하세요", answer
    return f"{len(answer['response'])} characters in {answer['generation_time']} s"


def stream(client: LLMClient) -> str:
    pieces = list(client.chat_stream("1부터 10까지 세어 주세요.", max_new_tokens=16))
    return f"{len(pieces)} pieces, {len(''.join(pieces))} characters"


def refusal(client: LLMClient) -> str:
    try:
        client.generate("x", max_new_tokens=-1)
    except ServerError as error:
        if error.status == 422:
            return str(error)
        raise
    raise AssertionError("a negative length was taken")


CHECKS: dict[str, Sequence[Check]] = {
    "health": (health,),
    "chat": (chat, stream),
    "all": (health, model_info, generate, chat, stream, refusal),
}


def run(client: LLMClient, checks: Sequence[Check]) -> bool:
    """Whether all of them passed."""
    passed = True
    for check in checks:
        try:
            print(f"ok      {check.__name__}: {check(client)}", flush=True)
        except (ServerError, AssertionError, KeyError) as error:
            print(f"FAILED  {check.__name__}: {error}", flush=True)
            passed = False
    return passed


def talk(client: LLMClient) -> None:
    """Answers line by line."""
    while True:
        try:
            asked = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not asked:
            return
        try:
            for piece in client.chat_stream(asked):
                print(piece, end="", flush=True)
            print()
        except ServerError as error:
            print(error)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Tries a running server.")
    parser.add_argument("--mode", choices=(*CHECKS, "interactive"), default="all")
    parser.add_argument("--url", default=ADDRESS, help=f"address of the server ({ADDRESS})")
    parser.add_argument("--key", default=os.environ.get("BERTH_API_KEY"), help="a key of the server (BERTH_API_KEY)")
    given = parser.parse_args(argv)
    client = LLMClient(given.url, given.key)
    if given.mode == "interactive":
        talk(client)
        return 0
    return 0 if run(client, CHECKS[given.mode]) else 1


if __name__ == "__main__":
    sys.exit(main())
