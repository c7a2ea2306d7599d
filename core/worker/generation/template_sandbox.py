"""Jinja's sandbox for chat templates: what a template may call, and how much it may build."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEXT = 4_000_000  # characters of a rendered chat beyond its messages
LARGEST_TEXT = 8 * MAX_TEXT  # of any text made on the way
MAX_WIDTH = 10_000  # of a padding, an indentation, a batch
MAX_ITEMS = 200_000  # of a list; also parts of a value that is written out
MAX_BITS = 4096  # of a number

# Methods of plain values that templates may call: none that changes its value, none that can build without bound.
_METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset((
        "capitalize", "casefold", "center", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdecimal",
        "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "ljust", "lower", "lstrip",
        "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit",
        "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper", "zfill",
    )),
    dict: frozenset(("get", "items", "keys", "values", "copy")),
    list: frozenset(("index", "count", "copy")),
    tuple: frozenset(("index", "count")),
}  # fmt: skip
_WRITERS = (  # filters that write their value out as text
    "string", "tojson", "join", "pprint", "escape", "e", "safe", "forceescape", "replace", "upper", "lower", "trim",
    "title", "capitalize", "center", "indent", "striptags", "urlencode", "wordcount", "truncate", "xmlattr",
)  # fmt: skip
_WIDENERS = ("center", "indent", "batch", "slice", "truncate", "tojson", "round")  # filters that take a width or count
_ABSENT_FILTERS = ("format", "urlize", "wordwrap", "random", "filesizeformat")


class TooMuch(SecurityError):
    """The template builds more than a chat can be."""


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja as transformers sets it up for chat templates, with bounds on texts, lists and numbers."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_written,
            extensions=[_Generation, jinja2.ext.loopcontrols],
        )
        self.concat = joined  # type: ignore[assignment]  # of captured blocks and macros
        for name in _ABSENT_FILTERS:
            del self.filters[name]
        self.filters["tojson"] = _tojson
        for name, found in self.filters.items():
            self.filters[name] = _bounded(name, found)
        del self.globals["lipsum"]
        self.globals |= {"raise_exception": _raise, "strftime_now": _strftime_now}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """As a filter, `a ~ b` is bounded like all the others."""
        tree = super()._parse(source, name, filename)
        for parent in [tree, *tree.find_all(nodes.Node)]:
            for field, value in parent.iter_fields():
                if isinstance(value, nodes.Concat):
                    setattr(parent, field, _concatenation(value))
                elif isinstance(value, list):
                    value[:] = [_concatenation(each) if isinstance(each, nodes.Concat) else each for each in value]
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        methods = next((names for kind, names in _METHODS.items() if isinstance(obj, kind)), None)
        if methods is not None and not callable(value):
            methods = None
        if isinstance(obj, int | float | bytes):
            return False
        return (methods is None or attr in methods) and super().is_safe_attribute(obj, attr, value)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: B902, N805
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            _check_method(owner, getattr(__obj, "__name__", ""), args)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _check_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, with which training marks the assistant's words: here it only groups them."""

    tags = {"generation"}

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def _concatenation(node: nodes.Concat) -> nodes.Filter:
    parts = nodes.List(node.nodes, lineno=node.lineno)
    return nodes.Filter(parts, "join", [], [], None, None, lineno=node.lineno, environment=node.environment)


def joined(pieces: Iterable[str], limit: int = MAX_TEXT) -> str:
    kept, length = [], 0
    for piece in pieces:
        length += len(piece)
        if length > limit:
            raise TooMuch(f"it writes more than {limit:,} characters")
        kept.append(piece)
    return "".join(kept)


def _written(value: Any) -> Any:
    """What `{{ value }}` is about to write out."""
    _weigh(value)
    return value


def _weigh(value: Any) -> None:
    """Raises TooMuch for a value too large to write out: lists may hold one another so often that it has no end."""
    if isinstance(value, str):
        if len(value) > LARGEST_TEXT:
            raise TooMuch(f"it writes a text of {len(value):,} characters")
        return
    pending, seen, length = [value], 0, 0
    while pending:
        each = pending.pop()
        seen += 1
        if isinstance(each, str):
            length += len(each)
        elif isinstance(each, Mapping):
            pending.extend(each.keys())
            pending.extend(each.values())
        elif isinstance(each, list | tuple | set | frozenset):
            pending.extend(each)
        if seen + len(pending) > MAX_ITEMS or length > LARGEST_TEXT:
            raise TooMuch("it writes out a value that is too large")


def _bounded(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The filter `name`, refusing widths, counts and values beyond the bounds."""

    @wraps(call)  # Jinja's marks for what a filter is passed are attributes of it
    def bounded(*args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()]
        for value in given:
            if name in _WIDENERS and isinstance(value, int) and abs(value) > MAX_WIDTH:
                raise TooMuch(f"it asks the filter {name} for {value:,}")
            if name in _WRITERS and isinstance(value, str | list | tuple | Mapping):
                _weigh(value)
        texts = [value for value in given if isinstance(value, str)]
        if name == "replace" and len(texts) >= 3:
            _check_replacement(*texts[:3])
        if name == "join":
            _check_joining(args, kwargs)
        return call(*args, **kwargs)

    return bounded


def _check_joining(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    separator = next((str(each) for each in (*args[2:3], kwargs.get("d")) if isinstance(each, str)), "")
    joined = args[1] if len(args) > 1 else ()
    if isinstance(joined, list | tuple):
        length = sum(len(each) for each in joined if isinstance(each, str)) + len(separator) * len(joined)
        if length > LARGEST_TEXT:
            raise TooMuch(f"it joins a text of {length:,} characters")


def _check_replacement(text: str, old: str, new: str) -> None:
    count = text.count(old)
    if len(text) + count * (len(new) - len(old)) > LARGEST_TEXT:
        raise TooMuch(f"it replaces {count:,} parts of a text by {len(new):,} characters each")


def _check_method(text: str, name: str, args: tuple[Any, ...]) -> None:
    if name in ("ljust", "rjust", "center", "zfill") and args and isinstance(args[0], int) and args[0] > MAX_WIDTH:
        raise TooMuch(f"it pads a text to {args[0]:,} characters")
    if name == "replace" and len(args) >= 2 and all(isinstance(each, str) for each in args[:2]):
        _check_replacement(text, args[0], args[1])
    if name == "join" and args:
        _check_joining(("", args[0], text), {})


def _check_operation(operator: str, left: Any, right: Any) -> None:
    sized = [each for each in (left, right) if isinstance(each, str | bytes | list | tuple)]
    if operator == "%" and isinstance(left, str | bytes):
        raise SecurityError("the operator % on a text")
    if operator == "+" and sized and sum(map(len, sized)) > (LARGEST_TEXT if isinstance(left, str) else MAX_ITEMS):
        raise TooMuch("it adds up more than a chat can be")
    if operator == "*" and len(sized) == 1:
        times = next((each for each in (left, right) if isinstance(each, int)), 0)
        if len(sized[0]) * times > MAX_TEXT:
            raise TooMuch(f"it repeats a value {times:,} times")
    numbers = [each for each in (left, right) if isinstance(each, int)]
    if len(numbers) == 2:
        bits = (
            numbers[0].bit_length() * max(numbers[1], 0)
            if operator == "**"
            else sum(each.bit_length() for each in numbers)
        )
        if bits > MAX_BITS:
            raise TooMuch("it computes a number that is too large")


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: Any) -> None:
    raise jinja2.TemplateError(str(message)[:300])


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(str(pattern)[:100])
