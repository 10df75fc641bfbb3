"""How a door declares a WebSocket: one `WebSocketEndpoint` gives the handler, its dialect and its documentation."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from sluicegate.admission.gate import Gate
from sluicegate.domain.ids import RequestId
from sluicegate.domain.principal import Principal
from sluicegate.doors.endpoint import ENDPOINT_KEY, Answer, Call, Endpoint
from sluicegate.doors.problems import Dialect
from sluicegate.errors import InvalidRequest


class UpgradeRequired(InvalidRequest):
    """A WebSocket's path was asked for as a page."""

    status = 426
    code = "upgrade_required"


class SocketCall:
    """One WebSocket as handlers see it: who asks, and under which id. It is not accepted yet."""

    def __init__(self, socket: WebSocket, principal: Principal, request_id: RequestId) -> None:
        self.socket = socket
        self.principal = principal
        self.request_id = request_id


SocketHandler = Callable[[SocketCall], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class WebSocketEndpoint:
    """A WebSocket's path, its handler and what the documentation says of it.

    The handler accepts the socket; what it raises before that is told as an HTTP answer in the dialect.
    """

    path: str
    handler: SocketHandler
    dialect: Dialect
    tag: str
    summary: str
    description: str = ""

    def page(self) -> Endpoint:
        """What callers get who ask for the path without opening a WebSocket, and what documents say of it."""
        return Endpoint(
            method="GET",
            path=self.path,
            handler=self._ask_for_upgrade,
            dialect=self.dialect,
            tag=self.tag,
            summary=self.summary,
            description=self.description,
            answers={101: None, 426: None},
        )

    async def _ask_for_upgrade(self, call: Call) -> Answer:
        raise UpgradeRequired(
            f"{self.path} speaks WebSocket only; open it as ws:// or wss:// with a WebSocket client",
            headers={"upgrade": "websocket"},
        )


class WebSocketEndpointApp:
    """One WebSocket endpoint as an ASGI application: admit, then handle."""

    def __init__(self, endpoint: WebSocketEndpoint, gate: Gate) -> None:
        self._handler = endpoint.handler
        self._page = endpoint.page()
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket to its end."""
        scope[ENDPOINT_KEY] = self._page
        socket = WebSocket(scope, receive, send)
        principal = self._gate.admit(socket.headers)
        scope["sluicegate.tenant"] = principal.tenant
        await self._handler(SocketCall(socket, principal, RequestId(scope["sluicegate.request_id"])))
