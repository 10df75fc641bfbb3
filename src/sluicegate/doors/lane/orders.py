"""What a door asks the lane to relay."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from sluicegate.backends.backend import ChatCall, WireDialect
from sluicegate.backends.dialects.translation import Translation
from sluicegate.domain.ids import RequestId
from sluicegate.domain.principal import Principal
from sluicegate.doors.http.request import Request
from sluicegate.doors.problems import Dialect
from sluicegate.errors import SluicegateError

HEARTBEAT_SECONDS = 15.0


class Wording(Protocol):
    """How a dialect says what the lane itself has to say inside a stream that has begun."""

    heartbeat: bytes
    """What keeps a silent stream alive and means nothing; empty where the dialect has no such thing."""
    content_type: str
    """Of a stream that is begun before its backend has said anything."""

    def broken(self, error: SluicegateError) -> bytes:
        """The last words of a stream that fails."""
        ...


class Order(msgspec.Struct, frozen=True):
    """One call to relay.

    `form` is the call in OpenAI's dialect, which every backend takes, or makes it for the dialect that is asked for;
    `native` is the caller's own, which some backends take as it is. `translation` makes the answer's translation from
    the dialect that the backend was asked in; without one, or where it makes none, the backend's bytes are the answer.
    """

    principal: Principal
    request_id: RequestId
    model: str
    stream: bool
    wording: Wording
    form: ChatCall | Callable[[WireDialect], ChatCall]
    translation: Callable[[WireDialect], Translation | None] | None = None
    native: WireDialect = "openai"


class Reply(msgspec.Struct, frozen=True):
    """An answer that needs no backend."""

    principal: Principal
    content_type: str
    body: bytes


class HotRoute(Protocol):
    """One route on the lane."""

    path: str

    def dialect_of(self, request: Request) -> Dialect:
        """In which errors are told to this request."""
        ...

    def order(self, request: Request, principal: Principal, request_id: RequestId) -> Order | Reply:
        """Decode and check a request. Raises `MalformedBody`, `InvalidInput`, `UnknownModel`, `Unavailable`."""
        ...
