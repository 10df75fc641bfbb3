"""``POST /api/chat``, ``/api/generate``, ``/api/embed`` and ``/api/embeddings`` on the lane.

A backend that is an Ollama server gets the caller's bytes, and its answer is the caller's. For any other backend the
call is said in OpenAI's dialect, and the answer in Ollama's, as soon as it is known that such a backend takes it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from sluicegate.backends.backend import ChatBackend, ChatCall, WireDialect
from sluicegate.backends.dialects.translation import Translation
from sluicegate.backends.fleet import Fleet
from sluicegate.domain.clock import Clock
from sluicegate.domain.ids import RequestId
from sluicegate.domain.principal import Principal
from sluicegate.doors.decoding import BodyDecoder
from sluicegate.doors.http.request import Request
from sluicegate.doors.lane.orders import Order, Reply
from sluicegate.doors.ollama.answers import OllamaWording, WholeLines
from sluicegate.doors.problems import Dialect
from sluicegate.errors import UnknownModel

if TYPE_CHECKING:
    from sluicegate.doors.ollama.foreign import ForeignCall

_LATEST = ":latest"
_WORDING = OllamaWording()


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of a call before a backend is chosen; the rest is for the backend, or the translation."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]

    @property
    def is_streamed(self) -> bool:
        """Whether lines are wanted."""
        return False


class _Chat(_Asked, frozen=True, kw_only=True):
    messages: list[msgspec.Raw] | None = None
    stream: bool | None = None

    @property
    def is_empty(self) -> bool:
        return not self.messages

    @property
    def is_streamed(self) -> bool:
        return self.stream is not False and bool(self.messages)


class _Generate(_Asked, frozen=True, kw_only=True):
    prompt: str | None = None
    stream: bool | None = None

    @property
    def is_empty(self) -> bool:
        return not self.prompt

    @property
    def is_streamed(self) -> bool:
        return self.stream is not False and bool(self.prompt)


class _Embed(_Asked, frozen=True, kw_only=True):
    input: str | list[msgspec.Raw] | None = None

    @property
    def is_empty(self) -> bool:
        return not self.input


class _Embeddings(_Asked, frozen=True, kw_only=True):
    prompt: str | None = None

    @property
    def is_empty(self) -> bool:
        return not self.prompt


_Call = _Chat | _Generate | _Embed | _Embeddings
"""`is_empty`: nothing is asked, the caller loads or unloads the model."""
_KINDS: Final[Mapping[str, type[_Call]]] = {
    "/api/chat": _Chat,
    "/api/generate": _Generate,
    "/api/embed": _Embed,
    "/api/embeddings": _Embeddings,
}
PATHS: Final = tuple(_KINDS)


class OllamaRoute:
    """One hot route of this dialect, for a path of `PATHS`. `pictures` are models that exist, but do not chat.

    Fulfils `HotRoute`.
    """

    def __init__(self, path: str, fleet: Fleet, clock: Clock, pictures: Collection[str] = ()) -> None:
        self.path = path
        self._decode: BodyDecoder[_Call] = BodyDecoder(_KINDS[path])
        self._fleet = fleet
        self._clock = clock
        self._pictures = pictures

    def dialect_of(self, request: Request) -> Dialect:
        """Always Ollama's."""
        return "ollama"

    def order(self, request: Request, principal: Principal, request_id: RequestId) -> Order | Reply:
        """See `HotRoute.order`. Loading a model that no Ollama server has is answered here: it is loaded for good."""
        asked = self._decode(request.body)
        model, serving = self._find(asked.model)
        is_streamed = asked.is_streamed
        words = _Words(self.path, request.body, model, request_id, is_streamed=is_streamed, clock=self._clock)
        if asked.is_empty and serving and not all("ollama" in backend.dialects for backend in serving):
            return words.foreign().reply(principal, self._clock)
        return Order(
            principal, request_id, model, is_streamed, _WORDING, words.form, words.translation, native="ollama"
        )

    def _find(self, asked: str) -> tuple[str, Sequence[ChatBackend]]:
        """The model that is meant, and its backends: to this dialect "name" and "name:latest" are the same."""
        for name in (asked, asked.removesuffix(_LATEST), asked + _LATEST):
            serving = self._fleet.serving(name)
            if serving:
                return name, serving
        if asked in self._pictures:
            raise UnknownModel(f'"{asked}" makes pictures and no words; send the work to /v1/jobs or /v1/images')
        return asked, ()


class _Words:
    """One call in the words of whichever backend takes it."""

    __slots__ = ("_body", "_clock", "_foreign", "_is_streamed", "_model", "_path", "_request_id", "_started")

    def __init__(
        self, path: str, body: bytes, model: str, request_id: RequestId, *, is_streamed: bool, clock: Clock
    ) -> None:
        self._path = path
        self._body = body
        self._model = model
        self._request_id = request_id
        self._is_streamed = is_streamed
        self._clock = clock
        self._started = clock.monotonic()
        self._foreign: ForeignCall | None = None

    def form(self, dialect: WireDialect) -> ChatCall:
        """See `Order.form`. Raises `InvalidInput` for what cannot be said in OpenAI's dialect."""
        if dialect == "ollama":
            return ChatCall(self._path[1:], self._body, self._request_id, self._is_streamed, "ollama")
        return self.foreign().form(self._request_id)

    def translation(self, dialect: WireDialect) -> Translation | None:
        """See `Order.translation`."""
        if dialect == "ollama":
            return WholeLines() if self._is_streamed else None
        return self.foreign().translation(self._clock, self._started)

    def foreign(self) -> "ForeignCall":
        """The call in OpenAI's dialect. Raises as `ForeignCall` does."""
        foreign = self._foreign
        if foreign is None:
            from sluicegate.doors.ollama.foreign import ForeignCall

            foreign = self._foreign = ForeignCall(self._path, self._body, self._model)
        return foreign
