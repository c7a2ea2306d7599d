"""A model's own chat template, which is a program by somebody unknown: run in Jinja's sandbox, in a thread of its own,
under a deadline and with bounds on what it may build."""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError

from core.errors import TemplateFailed
from core.worker.generation.template_sandbox import MAX_TEXT, Sandbox, TooMuch, joined

DEADLINE_S = 2.0
MAX_SOURCE = 1_000_000  # characters of a template
PLAIN_STOP = "\nUser:"  # where a model that goes on with the plain template's chat by itself is stopped
_ROLES = {"system": "System", "user": "User", "assistant": "Assistant"}


_IMAGE_PART = re.compile(r"""['"]image(_url)?['"]""")


class _Overtime(BaseException):
    """Raised inside a rendering thread that has had its time; not an Exception, so that no handler stops it."""


class ChatTemplate:
    """Messages to the text that a model was trained to go on with.

    With no `source` a plain template is used: the BOS text (pass it where the model's prompts begin with one), then
    `System: …`, `User: …` and `Assistant: …`, a line each, and `Assistant:` for the answer. May be used by several
    threads.
    """

    def __init__(self, source: str | None, *, bos: str = "", eos: str = "", name: str) -> None:
        self.has_template = source is not None
        self._source = source
        self._specials = {"bos_token": bos, "eos_token": eos}
        self._name = name
        self._template: Any = None  # compiled when first used, since that may fail too

    @property
    def takes_parts(self) -> bool:
        """Whether it reads contents as lists of parts, texts and images, as those of models that see do."""
        return self._source is not None and _IMAGE_PART.search(self._source) is not None

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The chat as text, open for the assistant's answer. Raises TemplateFailed, which names the model.

        Of each message its `role` and its `content`: text, or parts where the template takes them.
        """
        if self._source is None:
            return self._plain(messages)
        rendering = _Rendering(lambda: self._rendered(messages))
        error = rendering.run()
        if error is not None:
            raise self._failed(error) from (error if isinstance(error, Exception) else None)
        return rendering.text

    def _plain(self, messages: Sequence[Mapping[str, Any]]) -> str:
        lines = (f"{_ROLES.get(each['role'], 'User')}: {each['content']}\n" for each in messages)
        return self._specials["bos_token"] + "".join(lines) + "Assistant:"

    def _rendered(self, messages: Sequence[Mapping[str, Any]]) -> str:
        assert self._source is not None
        if self._template is None:
            if len(self._source) > MAX_SOURCE:
                raise TooMuch(f"it is longer than {MAX_SOURCE:,} characters")
            self._template = Sandbox().from_string(self._source)
        values = {
            "messages": [{"role": each["role"], "content": each["content"]} for each in messages],
            "add_generation_prompt": True,
        }
        limit = MAX_TEXT + sum(_length(each["content"]) for each in messages)
        pieces = self._template.generate(**values, **self._specials, tools=None, documents=None)
        return joined(pieces, limit)

    def _failed(self, error: BaseException) -> TemplateFailed:
        said = " ".join(str(error).split())[:300]
        reasons: tuple[tuple[type[BaseException], str], ...] = (
            (_Overtime, f"it was not done after {DEADLINE_S:g} s and was stopped"),
            (TooMuch, f"it was stopped, since {said}"),
            (SecurityError, f"it asks for what a template may not do ({said})"),
            (jinja2.TemplateSyntaxError, f"it is no valid Jinja ({said})"),
            (jinja2.UndefinedError, f"it uses what is not there ({said})"),
            (jinja2.TemplateError, f"it refuses these messages: {said}"),
            (RecursionError, "it calls itself without end"),
            (MemoryError, "it needs more memory than there is"),
        )
        why = next((why for kind, why in reasons if isinstance(error, kind)), f"{type(error).__name__}: {said}")
        return TemplateFailed(
            f"The chat template of {self._name} could not write this chat: {why}. Change the messages, use plain "
            "text generation, or choose another model."
        )


def _length(content: str | Sequence[Mapping[str, Any]]) -> int:
    return len(content) if isinstance(content, str) else sum(len(part.get("text", "")) for part in content)


class _Rendering:
    """One call in a thread of its own, so that what is raised there to stop it can never arrive anywhere else."""

    def __init__(self, call: Callable[[], str]) -> None:
        self.text = ""
        self._call = call
        self._error: BaseException | None = None
        self._done = threading.Event()

    def run(self) -> BaseException | None:
        """What went wrong, or None and `text` is there."""
        thread = threading.Thread(target=self._work, name="chat-template", daemon=True)
        thread.start()
        if self._done.wait(DEADLINE_S):
            return self._error
        while not self._done.wait(0.05) and thread.ident is not None:
            # once more should the first have come while a handler of Jinja's was tidying up
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_Overtime))
        return _Overtime()

    def _work(self) -> None:
        try:
            try:
                self.text = self._call()
            except BaseException as error:  # all that a template raises is handed over
                self._error = error.with_traceback(None)
            finally:
                self._done.set()
        except _Overtime:  # late, while handing over
            self._done.set()
