"""HTTP/1.1 as uvicorn reads it, with a bound on a request's head and errors in our form."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.errors import plain_response

# Bytes of a head that may arrive before it is complete; what is complete is held to less by `api/edge.py`. Twice what
# is read at once, since a piece that begins a head may hold another request before it.
MAX_HEAD_BYTES = 512 * 1024


class Protocol(HttpToolsProtocol):
    """One connection."""

    _is_in_head = True
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_in_head and self.parser is not None and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400)

    def _refuse(self, status: int) -> None:
        """Answers what never became a request, and ends the connection."""
        body = plain_response(status, {"type": "http"}).body
        head = f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + bytes(body))
        self.transport.close()
