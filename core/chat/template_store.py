"""Templates by name: those that come along, and each owner's own in the database."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import delete, func, insert, select, update

from core.chat import schema
from core.chat.database import Database, whole
from core.chat.rows import new_id, now
from core.chat.templates import LANGUAGES, NAME, Template, as_json, built_in, parse_template
from core.errors import InvalidRequest, TemplateNotFound, WrongState

MAX_TEMPLATES = 200  # of one owner
_table = schema.templates


class TemplateStore:
    """Built-in ones need no database. What reads or writes one may raise NotReady, and a write DiskFull."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def list(self, owner: str, language: str | None = None) -> tuple[Template, ...]:
        """Built-in ones first, each kind by name. Raises InvalidRequest for a language that there is not."""
        ours = [each[_checked(language)] for each in built_in().values()]
        found = select(_table.c.document).where(_table.c.owner == owner).order_by(_table.c.name)
        async with self._database.read() as connection:
            documents = (await connection.execute(found)).scalars().all()
        return (*ours, *(parse_template(orjson.loads(document)) for document in documents))

    @whole
    async def get(self, owner: str, name: str, language: str | None = None) -> Template:
        """`language` (ko when not said) is that of a built-in one. Raises TemplateNotFound, InvalidRequest."""
        chosen = _checked(language)
        if name in built_in():
            return built_in()[name][chosen]
        document = None
        if NAME.fullmatch(name):
            found = select(_table.c.document).where(_table.c.owner == owner, _table.c.name == name)
            async with self._database.read() as connection:
                document = (await connection.execute(found)).scalar_one_or_none()
        if document is None:
            raise _none(name)
        return parse_template(orjson.loads(document))

    @whole
    async def create(self, owner: str, fields: dict[str, Any]) -> Template:
        """Raises InvalidRequest, WrongState when there is one of that name or there are too many."""
        template = parse_template(fields)
        _refuse_built_in(template.name)
        own = _table.c.owner == owner
        async with self._database.write() as connection:
            # of two that come at once to PostgreSQL, the unique name stops the second
            count = (await connection.execute(select(func.count()).where(own))).scalar_one()
            same = await connection.execute(select(_table.c.id).where(own, _table.c.name == template.name))
            if same.first() is not None:
                raise WrongState(f"There is a template {template.name} already. Change it with PUT.")
            if count >= MAX_TEMPLATES:
                raise WrongState(f"There are {MAX_TEMPLATES} templates already. Delete one first.")
            times = {"created_at": now(), "updated_at": now()}
            row = {"id": new_id(), "owner": owner, "name": template.name, "document": _document(template), **times}
            await connection.execute(insert(_table).values(row))
        return template

    @whole
    async def replace(self, owner: str, name: str, fields: dict[str, Any]) -> Template:
        """Raises InvalidRequest, TemplateNotFound, WrongState for a built-in one."""
        _refuse_built_in(name)
        if fields.get("name", name) != name:
            raise InvalidRequest("`name` must be the one in the path; make a new template to give it another.")
        if not NAME.fullmatch(name):
            raise _none(name)
        template = parse_template({**fields, "name": name})
        chosen = update(_table).where(_table.c.owner == owner, _table.c.name == name)
        async with self._database.write() as connection:
            done = await connection.execute(chosen.values(document=_document(template), updated_at=now()))
            if done.rowcount == 0:
                raise _none(name)
        return template

    @whole
    async def delete(self, owner: str, name: str) -> None:
        """Raises TemplateNotFound, WrongState for a built-in one."""
        _refuse_built_in(name)
        if not NAME.fullmatch(name):
            raise _none(name)
        async with self._database.write() as connection:
            done = await connection.execute(delete(_table).where(_table.c.owner == owner, _table.c.name == name))
            if done.rowcount == 0:
                raise _none(name)


def _checked(language: str | None) -> str:
    if language is not None and language not in LANGUAGES:
        raise InvalidRequest(f"`language` must be one of: {', '.join(LANGUAGES)}.")
    return language or LANGUAGES[0]


def _document(template: Template) -> str:
    return orjson.dumps(as_json(template)).decode()  # JSON writes U+0000 as an escape, so any database takes it


def _refuse_built_in(name: str) -> None:
    if name in built_in():
        raise WrongState(f"Template {name} comes with the server and cannot be changed. Make one of another name.")


def _none(name: str) -> TemplateNotFound:
    return TemplateNotFound(f"There is no template `{name[:64]}`. GET /api/v4/prompt/templates lists those there are.")
