"""A client of the text generation service, with nothing but Python: a class to import, and a program to try it.

    from scripts.api_client import LLMClient
    LLMClient("http://localhost:7860").chat("머신러닝을 설명하세요")["response"]

As a program: `python scripts/api_client.py [basic|chat|batch]`; without a word, all three.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

ADDRESS = "http://localhost:7860"


class ServerError(Exception):
    """What the server refused, or that it does not answer. `type` names the error, `status` is HTTP's."""

    def __init__(self, message: str, type: str = "unreachable", status: int | None = None) -> None:
        super().__init__(message)
        self.type = type
        self.status = status


class LLMClient:
    """One server. Every call raises ServerError."""

    def __init__(self, base_url: str = ADDRESS, api_key: str | None = None, timeout_s: float = 300) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self._headers = {"Accept": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def health_check(self) -> dict[str, Any]:
        """Whether the server lives, and which models it holds."""
        return self._json("GET", "/health")

    def model_info(self) -> dict[str, Any]:
        """The model that answers when a request names none."""
        return self._json("GET", "/model_info")

    def load_model(self, model_path: str, load_in_8bit: bool = False, load_in_4bit: bool = False) -> dict[str, Any]:
        """Loads a model, waits for it, and makes it the default. Needs the admin key, where there is one."""
        flags = {"load_in_8bit": str(load_in_8bit).lower(), "load_in_4bit": str(load_in_4bit).lower()}
        query = urllib.parse.urlencode({"model_path": model_path, **flags})
        return self._json("POST", f"/load_model?{query}")

    def generate(self, prompt: str, **options: Any) -> dict[str, Any]:
        """Continues a prompt: `generated_text` is a list of texts that begin with it."""
        return self._json("POST", "/generate", {"prompt": prompt, **options})

    def chat(self, instruction: str, input: str = "", **options: Any) -> dict[str, Any]:
        """Answers an instruction about `input`: the text is in `response`."""
        return self._json("POST", "/chat", {"instruction": instruction, "input": input, **options})

    def chat_stream(self, instruction: str, input: str = "", **options: Any) -> Iterator[str]:
        """The same answer, bit by bit."""
        body = {"instruction": instruction, "input": input, **options, "stream": True}
        with self._open("POST", "/chat", body) as answer:
            name = ""
            for line in map(bytes.decode, answer):
                kind, _, data = line.strip().partition(": ")
                if kind == "event":
                    name = data
                elif kind == "data":
                    said = json.loads(data)
                    if name == "error":
                        raise ServerError(said["error"]["message"], said["error"]["type"])
                    if "delta" in said:
                        yield said["delta"]

    def chat_batch(self, instructions: Sequence[str], at_once: int = 8, **options: Any) -> list[dict[str, Any]]:
        """Answers many instructions, `at_once` of them side by side, in their order."""
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(lambda instruction: self.chat(instruction, **options), instructions))

    def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        with self._open(method, path, body) as answer:
            read: dict[str, Any] = json.load(answer)
            return read

    def _open(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data, headers = None, dict(self._headers)
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = urllib.request.Request(self.base_url + path, data, headers, method=method)
        try:
            return urllib.request.urlopen(request, timeout=self.timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise ServerError(f"{self.base_url} does not answer: {reason}. Is the server running?") from None


def _refused(error: urllib.error.HTTPError) -> ServerError:
    try:
        told = json.load(error)["error"]
        return ServerError(told["message"], told["type"], error.code)
    except (ValueError, KeyError, TypeError):  # something in between has answered
        return ServerError(f"HTTP {error.code} {error.reason}", "http", error.code)


def basic(client: LLMClient) -> None:
    """What is there, and one prompt."""
    health = client.health_check()
    print(f"The server is {health['status']}, models loaded: {health['models_loaded']}")
    info = client.model_info()
    print(f"{info['model_name']} writes, on {info['device'] or 'nothing yet'}")
    answer = client.generate("Python이란 무엇인가요?", max_new_tokens=64)
    print(f"{answer['generated_text'][0]}  ({answer['generation_time']} s)")


def chat(client: LLMClient) -> None:
    """An instruction, whole and as it is written."""
    print(client.chat("머신러닝을 설명하세요", max_new_tokens=64)["response"])
    for piece in client.chat_stream("다음 문장을 영어로 옮겨 주세요.", "오늘은 날씨가 좋다.", max_new_tokens=64):
        print(piece, end="", flush=True)
    print()


def batch(client: LLMClient) -> None:
    """Several instructions side by side."""
    asked = ["리스트를 정렬하는 방법은?", "What is a tuple?", "딕셔너리란 무엇인가요?"]
    for instruction, answer in zip(asked, client.chat_batch(asked, max_new_tokens=32), strict=True):
        print(f"{instruction} → {answer['response']}")


EXAMPLES = {"basic": basic, "chat": chat, "batch": batch}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Examples of the text generation service.")
    parser.add_argument("example", nargs="?", choices=EXAMPLES, help="all of them when left out")
    parser.add_argument("--url", default=ADDRESS, help=f"address of the server ({ADDRESS})")
    parser.add_argument("--key", default=os.environ.get("BERTH_API_KEY"), help="a key of the server (BERTH_API_KEY)")
    given = parser.parse_args(argv)
    client = LLMClient(given.url, given.key)
    try:
        for name in [given.example] if given.example else EXAMPLES:
            print(f"— {name}")
            EXAMPLES[name](client)
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
