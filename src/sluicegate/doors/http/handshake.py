"""A WebSocket's opening handshake: what the request must have, and the head that accepts it.

Source: RFC 6455, section 4.2.
"""

from collections.abc import Iterable
from http import HTTPStatus

from websockets.datastructures import Headers
from websockets.http11 import Request as AskedHead
from websockets.server import ServerProtocol

from sluicegate.doors.http.answers import render_head
from sluicegate.doors.http.request import Header, Request
from sluicegate.errors import InvalidRequest

VERSION = "13"


class HandshakeRefused(InvalidRequest):
    """The request asks for a WebSocket, but not as RFC 6455 has it."""

    code = "handshake_refused"


def answer_handshake(request: Request) -> list[Header]:
    """The headers of the answer that accepts the handshake. Raises `HandshakeRefused`.

    No extension is agreed on: compression would keep a window of 32 KB or more for each socket.
    """
    headers = Headers()
    for name, value in request.headers:
        headers[name.decode("latin-1")] = value.decode("latin-1")
    method, version = request.method.decode("ascii"), "HTTP/1.1" if request.is_11 else "HTTP/1.0"
    protocol = ServerProtocol()
    response = protocol.accept(AskedHead(request.path.decode("ascii"), headers, method=method, protocol=version))
    if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
        return [(name.lower().encode(), value.encode()) for name, value in response.headers.raw_items()]
    asked_version = request.fields.get(b"sec-websocket-version", VERSION.encode())
    is_other_version = asked_version != VERSION.encode()
    told = {"sec-websocket-version": VERSION}
    if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        told["allow"] = "GET"
    raise HandshakeRefused(
        f"this is no opening of a WebSocket: {protocol.handshake_exc}; send it as RFC 6455 has it, version {VERSION}",
        status=HTTPStatus.UPGRADE_REQUIRED if is_other_version else response.status_code,
        headers=told,
    )


def subprotocols(request: Request) -> list[str]:
    """The subprotocols that the caller offers, the best first."""
    values = b",".join(value for name, value in request.headers if name == b"sec-websocket-protocol")
    return [name.strip() for name in values.decode("latin-1").split(",") if name.strip()]


def render_acceptance(agreed: Iterable[Header], subprotocol: str | None, more: Iterable[Header]) -> bytes:
    """The head of status 101: what `answer_handshake` gave, and what the application adds."""
    chosen = [(b"sec-websocket-protocol", subprotocol.encode("latin-1"))] if subprotocol else []
    return render_head(HTTPStatus.SWITCHING_PROTOCOLS, [*agreed, *chosen, *more])
