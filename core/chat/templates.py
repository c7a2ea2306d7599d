"""Prompt templates: a system prompt and the frame around a message, with `{name}` where a variable goes.

Nothing but a name between single braces is replaced, once, by the value as it is: `{{name}}`, `${name}`, `{0.x}`,
`%(x)s` and whatever a value holds come out as they were written. Five templates come with the project, in
`templates/*.json`, each in Korean and English; those that users make are kept by `core/chat/template_store.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from core.errors import InvalidRequest, RequestTooLarge
from core.params import MAX_CHARACTERS, valid_text

LANGUAGES = ("ko", "en")
MESSAGE = "message"  # the variable that is the user's own text
MAX_TEMPLATE_CHARACTERS = 20_000  # of a system prompt, a frame, or a default
MAX_TITLE = 200  # characters
MAX_VARIABLES = 32
NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_DIRECTORY = Path(__file__).parent / "templates"
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_VARIABLE = re.compile(r"(?<![{$])\{([A-Za-z_][A-Za-z0-9_]{0,63})\}(?!\})")


@dataclass(frozen=True, slots=True)
class Variable:
    description: str
    default: str | None  # None: whoever uses the template must say


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt template in one language. `user` holds `{message}`; `system` does not."""

    name: str
    title: str
    description: str
    system: str  # empty: none
    user: str
    variables: Mapping[str, Variable]
    language: str | None = None  # None: made by a user, in whatever language
    is_built_in: bool = False

    def render(self, message: str, variables: Mapping[str, Any]) -> tuple[str, str]:
        """(system prompt, user's message) for a model.

        Raises InvalidRequest that names the variables which are missing, unknown or not text; RequestTooLarge.
        """
        for name in variables:
            if name not in self.variables:
                known = ", ".join(f"`{each}`" for each in self.variables) or "it has none"
                raise InvalidRequest(f"Template {self.name} has no variable `{name[:64]}`. Its variables: {known}.")
        given = {name: valid_text(f"variables.{name}", value) for name, value in variables.items()}
        values = {name: variable.default for name, variable in self.variables.items()} | given
        missing = [name for name, value in values.items() if value is None]
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            raise InvalidRequest(f"Template {self.name} needs {names}: send the text of each in `variables`.")
        texts = {name: value for name, value in values.items() if value is not None}
        return substitute(self.system, texts), substitute(self.user, {**texts, MESSAGE: message})


def names_in(text: str) -> list[str]:
    """The variables that `text` holds, in order, each once."""
    return list(dict.fromkeys(_VARIABLE.findall(text)))


def substitute(text: str, values: Mapping[str, str]) -> str:
    """`text` with each `{name}` of `values` replaced by its value. Raises RequestTooLarge before it would be built."""
    length = len(text) + sum(len(values.get(name, "")) for name in _VARIABLE.findall(text))
    if length > MAX_CHARACTERS:
        raise RequestTooLarge(f"The prompt would have {length:,} characters; a request may hold {MAX_CHARACTERS:,}.")
    return _VARIABLE.sub(lambda found: values.get(found[1], found[0]), text)


def check_name(name: Any) -> str:
    """Raises InvalidRequest unless a template can be called so."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidRequest("A template's `name` must be 1 to 64 of a-z, 0-9, _ and -, beginning with a letter.")
    return name


def parse_template(fields: Mapping[str, Any]) -> Template:
    """A template as a user describes it; a variable that is used and not described has no default.

    Raises InvalidRequest that names the field.
    """
    for field in fields:
        if field not in ("name", "title", "description", "system", "user", "variables"):
            raise InvalidRequest(f"A template has no field `{field[:64]}`.")
    name = check_name(fields.get("name"))
    user = _text("user", fields.get("user", f"{{{MESSAGE}}}"))
    system = _text("system", fields.get("system", ""))
    if MESSAGE not in names_in(user):
        raise InvalidRequest(f"`user` must hold {{{MESSAGE}}}, where the user's own text goes.")
    if MESSAGE in names_in(system):
        raise InvalidRequest(f"`system` cannot hold {{{MESSAGE}}}: the system prompt stays while messages change.")
    return Template(
        name=name,
        title=_text("title", fields.get("title") or name, MAX_TITLE),
        description=_text("description", fields.get("description", "")),
        system=system,
        user=user,
        variables=_variables(fields.get("variables", {}), names_in(f"{system}\n{user}")),
    )


def as_json(template: Template) -> dict[str, Any]:
    """What `parse_template` reads."""
    return {
        "name": template.name,
        "title": template.title,
        "description": template.description,
        "system": template.system,
        "user": template.user,
        "variables": {
            name: {"description": variable.description, "default": variable.default}
            for name, variable in template.variables.items()
        },
    }


@cache
def built_in() -> Mapping[str, Mapping[str, Template]]:
    """name → language → template."""
    return {path.stem: dict(_read(path)) for path in sorted(_DIRECTORY.glob("*.json"))}


def _read(path: Path) -> Iterator[tuple[str, Template]]:
    stored = orjson.loads(path.read_bytes())
    for language in LANGUAGES:
        parsed = parse_template({"name": path.stem, **stored[language]})
        yield language, replace(parsed, language=language, is_built_in=True)


def _text(field: str, value: Any, most: int = MAX_TEMPLATE_CHARACTERS) -> str:
    text = valid_text(field, value)
    if len(text) > most:
        raise InvalidRequest(f"`{field}` has {len(text):,} characters; a template's may have {most:,}.")
    return text


def _variables(given: Any, used: list[str]) -> dict[str, Variable]:
    if not isinstance(given, Mapping):
        raise InvalidRequest("`variables` must be an object: name → {description, default}.")
    described = {name: _variable(name, value) for name, value in given.items()}
    undescribed = {name: Variable("", None) for name in used if name not in described and name != MESSAGE}
    variables = described | undescribed
    if len(variables) > MAX_VARIABLES:
        raise InvalidRequest(f"A template may have {MAX_VARIABLES} variables; this one has {len(variables)}.")
    return variables


def _variable(name: Any, value: Any) -> Variable:
    if not isinstance(name, str) or not _VARIABLE_NAME.fullmatch(name):
        raise InvalidRequest("A variable's name must be 1 to 64 of A-Z, a-z, 0-9 and _, not beginning with a digit.")
    if name == MESSAGE:
        raise InvalidRequest(f"`variables` cannot describe `{MESSAGE}`: it is the user's own text.")
    if not isinstance(value, Mapping) or not set(value) <= {"description", "default"}:
        raise InvalidRequest(f"`variables.{name}` must be an object with `description` and `default`.")
    default = value.get("default")
    return Variable(
        _text(f"variables.{name}.description", value.get("description") or ""),
        None if default is None else _text(f"variables.{name}.default", default),
    )
