"""Which of two dialects a ``POST /api/chat`` is written in: the gateway's simple one and Ollama's share the path.

It is Ollama's when one of these holds, and the simple one's otherwise:

    User-Agent       begins with "ollama": the official clients
    Accept           names application/x-ndjson
    the body         has a field of `FIELDS`
    a message        has images, tool_calls, thinking, tool_name or tool_call_id, or the role "tool"
    without messages a model is named, which is then loaded or unloaded

Nothing that the simple dialect takes is in these, so that no call of it is ever taken for the other.
"""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from sluicegate.backends.fleet import Fleet
from sluicegate.domain.clock import Clock
from sluicegate.domain.ids import RequestId
from sluicegate.domain.principal import Principal
from sluicegate.doors.http.request import Request
from sluicegate.doors.lane.orders import HotRoute, Order, Reply
from sluicegate.doors.ollama.calls import PATHS, OllamaRoute
from sluicegate.doors.problems import Dialect

_UNSET = msgspec.UNSET


class _Turn(msgspec.Struct):
    """What only a turn of Ollama's dialect has."""

    role: Any = None
    images: Any = _UNSET
    thinking: Any = _UNSET
    tool_call_id: Any = _UNSET
    tool_calls: Any = _UNSET
    tool_name: Any = _UNSET


class _Fields(msgspec.Struct):
    """What only a call of Ollama's dialect has; `model` and `messages` excepted."""

    model: Any = None
    messages: list[_Turn] | None = None
    format: Any = _UNSET
    keep_alive: Any = _UNSET
    logprobs: Any = _UNSET
    options: Any = _UNSET
    shift: Any = _UNSET
    template: Any = _UNSET
    think: Any = _UNSET
    tools: Any = _UNSET
    top_logprobs: Any = _UNSET
    truncate: Any = _UNSET


_BOTH = frozenset({"model", "messages"})
FIELDS = tuple(name for name in _Fields.__struct_fields__ if name not in _BOTH)
"""Fields of a call that only Ollama's dialect has."""
_NO_FIELDS = _Fields()
_NO_TURN = _Turn()
_decode = msgspec.json.Decoder(_Fields).decode


def is_ollama_chat(body: bytes) -> bool:
    """Whether the body of a ``POST /api/chat`` has Ollama's shape. What is no JSON object has not."""
    try:
        call = _decode(body)
    except msgspec.ValidationError:
        return _has_field_beside_faults(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    messages = call.messages
    if not messages and call.model is not None:
        return True
    # Compared whole, which is done in C; what both dialects have is put aside before.
    call.model = call.messages = None
    if call != _NO_FIELDS:
        return True
    for turn in messages or ():
        role, turn.role = turn.role, None
        if role == "tool" or turn != _NO_TURN:
            return True
    return False


def _has_field_beside_faults(body: bytes) -> bool:
    """As `is_ollama_chat`, where the messages are no list of turns."""
    try:
        return any(name in FIELDS for name in msgspec.json.decode(body, type=dict[str, msgspec.Raw]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def ollama_routes(
    fleet: Fleet, clock: Clock, pictures: Collection[str] = (), *, simple: HotRoute
) -> Sequence[HotRoute]:
    """The hot routes of Ollama's dialect; its chat shares a path with `simple`. `pictures`: see `OllamaRoute`."""
    routes = {path: OllamaRoute(path, fleet, clock, pictures) for path in PATHS}
    return [SharedRoute(route, simple) if path == simple.path else route for path, route in routes.items()]


class SharedRoute:
    """One hot route of two dialects: each call is given to `ollama` or to `simple`. Fulfils `HotRoute`."""

    def __init__(self, ollama: HotRoute, simple: HotRoute) -> None:
        self.path = simple.path
        self._ollama = ollama
        self._simple = simple

    def dialect_of(self, request: Request) -> Dialect:
        """That of the route which is meant."""
        return self._route(request).dialect_of(request)

    def order(self, request: Request, principal: Principal, request_id: RequestId) -> Order | Reply:
        """See `HotRoute.order`."""
        return self._route(request).order(request, principal, request_id)

    def _route(self, request: Request) -> HotRoute:
        if request.judged is None:
            request.judged = "ollama" if _is_ollama(request) else "simple"
        return self._ollama if request.judged == "ollama" else self._simple


def _is_ollama(request: Request) -> bool:
    fields = request.fields
    return (
        fields.get(b"user-agent", b"").startswith(b"ollama")
        or b"application/x-ndjson" in fields.get(b"accept", b"")
        or is_ollama_chat(request.body)
    )
