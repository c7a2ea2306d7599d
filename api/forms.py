"""multipart/form-data, read from a body that is in memory already and within its limit: nothing goes to the disk."""

from dataclasses import dataclass, field
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from core.errors import InvalidRequest

MAX_PARTS = 64


@dataclass(slots=True)
class Part:
    """One field of a form. `filename` is None where it is no file."""

    name: str = ""
    filename: str | None = None
    is_picture: bool = False  # by its own Content-Type
    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)

    @property
    def is_file(self) -> bool:
        return self.filename is not None or self.is_picture

    @property
    def text(self) -> str:
        """Raises InvalidRequest."""
        try:
            return self.data.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(
                f"`{self.name[:64]}` is not UTF-8. Send text in UTF-8, and pictures as files."
            ) from None


def is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def read_form(content_type: str, body: bytes) -> list[Part]:
    """The parts in their order. Raises InvalidRequest."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("The form has no boundary. Leave its Content-Type to your client, which makes one.")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise InvalidRequest("The form cannot be read: it is no multipart/form-data.") from None
    if not reader.is_whole:
        raise InvalidRequest("The form cannot be read: it ends too early.")
    return reader.parts


class _Reader:
    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.is_whole = False
        self._header, self._value = bytearray(), bytearray()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": lambda data, start, end: self.parts[-1].data.extend(memoryview(data)[start:end]),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise InvalidRequest(f"The form has more than {MAX_PARTS} parts. Send fewer fields and pictures.")
        self.parts.append(Part())

    def _header_end(self) -> None:
        self.parts[-1].headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        part = self.parts[-1]
        options = parse_options_header(part.headers.get(b"content-disposition"))[1]
        if b"name" not in options:
            raise InvalidRequest("A part of the form has no name.")
        part.name = options[b"name"].decode(errors="replace")
        if b"filename" in options:
            part.filename = options[b"filename"].decode(errors="replace")
        part.is_picture = part.headers.get(b"content-type", b"").lower().startswith(b"image/")

    def _end(self) -> None:
        self.is_whole = True
