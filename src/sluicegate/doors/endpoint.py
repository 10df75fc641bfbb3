"""How a door declares a route: one `Endpoint` gives the handler, its dialect and its documentation.

The server builds the routes from the endpoints and the OpenAPI document from the same list, so the two cannot differ.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import msgspec

from sluicegate.admission.gate import Gate
from sluicegate.domain.ids import RequestId
from sluicegate.domain.principal import Principal
from sluicegate.doors.decoding import decode_body, invalid
from sluicegate.doors.problems import Dialect
from sluicegate.errors import BodyTooLarge, Fault, InvalidInput, MalformedBody, RequestTimeout

if TYPE_CHECKING:
    # Imported where it is used: the lane's doors declare their routes here, too, and are up sooner without it.
    from starlette.datastructures import Headers
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

T = TypeVar("T")
UNMATCHED = "(unmatched)"
"""The route of what is none of ours, in metrics and logs."""
ENDPOINT_KEY = "sluicegate.endpoint"
"""Where the server finds, in an ASGI scope, the endpoint that was chosen."""


class Answer(Protocol):
    """Anything that can answer an ASGI request; Starlette's responses do."""

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Send the answer."""
        ...


class BodyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller may send: most bytes of a JSON body, and the longest pause in any body, in seconds."""

    max_bytes: int
    idle_seconds: float


class Call:
    """One request as handlers see it: who asks, under which id, and what was sent."""

    def __init__(self, request: "Request", principal: Principal, request_id: RequestId, limits: BodyLimits) -> None:
        self.request = request
        self.principal = principal
        self.request_id = request_id
        self._limits = limits

    @property
    def headers(self) -> "Headers":
        """The request's headers."""
        return self.request.headers

    @property
    def base_url(self) -> str:
        """Scheme and authority as the caller wrote them, without a slash at the end."""
        return str(self.request.base_url).rstrip("/")

    def path(self, name: str) -> str:
        """A parameter of the route's path."""
        return str(self.request.path_params[name])

    async def body(self) -> bytes:
        """The whole body, at most ``server.max_body_bytes``. Raises as `pieces` does."""
        return b"".join([piece async for piece in self.pieces(self._limits.max_bytes, "server.max_body_bytes")])

    async def pieces(self, limit: int, setting: str) -> AsyncGenerator[bytes, None]:
        """The body as it arrives, none of its pieces empty.

        Raises `BodyTooLarge` before more than `limit` bytes (set by `setting`) were read, `RequestTimeout` when the
        caller pauses too long, `MalformedBody` when the body is cut short.
        """
        from starlette.requests import ClientDisconnect

        declared = self.headers.get("content-length", "0")
        if declared.isdigit() and int(declared[:18]) > limit:
            raise too_large(declared[:18], limit, setting)
        size = 0
        stream = self.request.stream()
        try:
            while True:
                async with asyncio.timeout(self._limits.idle_seconds):
                    piece = await anext(stream, None)
                if piece is None:
                    return
                size += len(piece)
                if size > limit:
                    raise too_large(str(size), limit, setting)
                if piece:
                    yield piece
        except ClientDisconnect:
            raise MalformedBody("the body ended early: the connection was closed") from None
        except TimeoutError:
            seconds = f"{self._limits.idle_seconds:g}"
            raise RequestTimeout(f"the body paused for {seconds} s (setting server.client_idle_seconds)") from None

    async def decode(self, kind: type[T]) -> tuple[T, bytes]:
        """The JSON body as a `kind`, and its bytes. Raises `MalformedBody`, or `InvalidInput` with every fault."""
        body = await self.body()
        return decode_body(body, kind), body

    def idempotency_key(self) -> str | None:
        """The caller's Idempotency-Key. Raises `InvalidInput` for one that cannot be stored."""
        key = self.headers.get("idempotency-key")
        if key is not None and not (0 < len(key) <= 255 and key.isprintable()):
            raise InvalidInput.of(Fault("Idempotency-Key", f"{len(key)} characters", "send 1 to 255 printable ones"))
        return key

    def query(self, kind: type[T]) -> T:
        """The query string as a `kind`, texts converted. Raises `InvalidInput` with every fault."""
        values: dict[str, str] = dict(self.request.query_params)
        try:
            return msgspec.convert(values, kind, strict=False)
        except msgspec.ValidationError as error:
            raise invalid(values, kind, error, lax=True) from None


def too_large(size: str, limit: int, setting: str) -> BodyTooLarge:
    """The error for a body of `size` bytes or more over `limit`."""
    return BodyTooLarge(f"the body has {size} bytes or more; at most {limit} are taken (setting {setting})")


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A route, its handler and what the documentation says of it."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    handler: Handler | None
    """None: the lane answers; see `doors/lane`."""
    dialect: Dialect
    tag: str
    summary: str
    description: str = ""
    body: Any = None
    """The type of the JSON body, or a media type such as ``image/*``."""
    query: type[msgspec.Struct] | None = None
    answers: Mapping[int, Any] = field(default_factory=dict)
    """By status: a type, a media type, or None for no body."""
    public: bool = False
    """Open to everyone, without a key."""

    @property
    def template(self) -> str:
        """The path with its parameters' names, free of converters: what metrics and logs show."""
        return self.path.replace(":path}", "}")


class EndpointApp:
    """One endpoint as an ASGI application: admit, handle, answer."""

    def __init__(self, endpoint: Endpoint, gate: Gate, limits: BodyLimits) -> None:
        self.endpoint = endpoint
        self._gate = gate
        self._limits = limits

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request."""
        from starlette.requests import Request

        scope[ENDPOINT_KEY] = self.endpoint
        request = Request(scope, receive, send)
        principal = self._gate.admit(request.headers)
        scope["sluicegate.tenant"] = principal.tenant
        call = Call(request, principal, RequestId(scope["sluicegate.request_id"]), self._limits)
        if self.endpoint.handler is None:
            raise RuntimeError(f"{self.endpoint.path} is served by the lane")
        answer = await self.endpoint.handler(call)
        await answer(scope, receive, send)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> "Response":
    """A JSON answer of any msgspec-encodable value."""
    from starlette.responses import Response

    return Response(msgspec.json.encode(value), status, {"content-type": "application/json", **(headers or {})})
