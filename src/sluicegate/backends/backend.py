"""The two contracts that adapters fulfil: chat backends relay bytes, picture backends make pictures."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from sluicegate.domain.asset import Picture
from sluicegate.domain.generation import ModelCard, Task, TaskInput
from sluicegate.domain.job import Progress
from sluicegate.errors import BackendError
from sluicegate.observability.health import ServerLoad

BackendState = Literal["starting", "up", "down"]
WireDialect = Literal["openai", "ollama"]
"""Ollama's has paths such as ``api/chat``, relative to the root of the server."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A backend's state and, when it is not up, why; its server's load, where that is told."""

    state: BackendState
    reason: str = ""
    load: ServerLoad | None = None


class ChatCall(msgspec.Struct, frozen=True):
    """One call as a backend gets it: `body` (JSON) to be POSTed to ``<base>/<path>``."""

    path: str
    """Such as ``chat/completions``."""
    body: bytes
    request_id: str
    """Under which id the call is known here; told to the server as X-Request-Id."""
    stream: bool = False
    """Whether events are expected."""
    dialect: WireDialect = "openai"
    """What `path` and `body` are written in, and what the answer is to be: one of the backend's `dialects`."""


class AnswerHead(msgspec.Struct, frozen=True):
    """The head of an upstream's answer, whatever its status."""

    status: int
    content_type: str
    """As the upstream wrote it; empty when it said nothing."""
    retry_after: float | None = None
    """Seconds that the upstream asks its callers to wait (429, 503), where it says so in seconds."""
    length: int | None = None
    """Bytes of the body where they are known: the upstream told them, and nothing translates them."""
    is_framed: bool = True
    """Whether the body tells its own end, so that a whole one can be told from one that was cut."""


class AnswerSink(Protocol):
    """Takes an answer as it arrives.

    begun ▶ piece … ▶ ended      or      [begun ▶ piece …] ▶ failed

    Called on the event loop, never before `ChatBackend.send` has returned, and never again after `UpstreamCall.cancel`.
    No method raises; one that takes long holds up everything else.
    """

    def answer_begun(self, head: AnswerHead) -> None:
        """The head has arrived."""
        ...

    def answer_piece(self, data: bytes) -> None:
        """Some of the body, without transfer or content coding; never empty."""
        ...

    def answer_ended(self) -> None:
        """The body is whole."""
        ...

    def answer_failed(self, error: BackendError) -> None:
        """Nothing more will come. Before `answer_begun`: `BackendUnavailable` when no connection was made or when it
        ended without an answer (another backend may be tried), `BackendTimeout`, `BackendFailed`; after it, the last
        two."""
        ...


class WholeAnswerSink:
    """An `AnswerSink` that would rather hear of a whole answer once, when all of it comes at once."""

    __slots__ = ()

    @abstractmethod
    def answer_came(self, head: AnswerHead, body: bytes) -> None:
        """In place of begun, piece and ended."""


class UpstreamCall(Protocol):
    """A call under way, as who asked for it holds it."""

    def pause(self) -> None:
        """Take no more bytes from the upstream until `resume`; a few pieces may still come."""
        ...

    def resume(self) -> None:
        """Undo `pause`."""
        ...

    def cancel(self) -> None:
        """End the call at once, in every phase; the connection is closed, which frees the upstream. Safe to repeat,
        and after the end it does nothing."""
        ...


class ChatBackend(Protocol):
    """Serves OpenAI's dialect (``/chat/completions``, …) for some models."""

    name: str
    kind: str
    max_concurrency: int
    """Calls at once; the balancer keeps to it."""

    @property
    def dialects(self) -> Collection[WireDialect]:
        """What it takes without translation into another; every backend takes "openai"."""
        ...

    def cards(self) -> Sequence[ModelCard]:
        """The models that it serves now; may be empty until it is up."""
        ...

    def health(self) -> Health:
        """The last known state, without I/O."""
        ...

    async def start(self) -> None:
        """Begin: spawn, probe. Returns at once; `health` tells when it is up."""
        ...

    async def stop(self) -> None:
        """End everything that `start` began; calls under way fail."""
        ...

    def send(self, call: ChatCall, sink: AnswerSink) -> UpstreamCall:
        """Make the call, on a pooled connection or a new one; what comes back goes to `sink`.

        Raises `BackendUnavailable` when it is known at once that there is nothing to connect to, `InvalidInput` when
        the call cannot be said to this kind of server.
        """
        ...


Report = Callable[[Progress], None]
"""Called by running work, from any thread, at every step. Raises `JobCanceled` or `LeaseLost` to stop the work.
`steps` is told once the model is loaded: from then on time counts as work."""


class PictureRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One job's work. `images` holds the encoded bytes of each image field of `input`, checked and decodable."""

    model: str
    task: Task
    input: TaskInput
    images: Mapping[str, bytes]


class PictureResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was made, and what was done less well than asked (`degraded`), in words for the caller."""

    pictures: tuple[Picture, ...]
    degraded: tuple[str, ...] = ()
    details: dict[str, Any] = {}
    """See `Success` in storage/contracts."""
    load_seconds: float = 0.0
    """How much of the time went into loading the model; the caller is not charged for it."""


class PictureBackend(Protocol):
    """Makes pictures, one request at a time, inside a worker process."""

    name: str
    kind: str

    def cards(self) -> Sequence[ModelCard]:
        """The models that it serves; cheap, without loading any."""
        ...

    def loaded(self) -> Sequence[str]:
        """Names of the models now in memory."""
        ...

    async def run(self, request: PictureRequest, report: Report) -> PictureResult:
        """Do the work. Raises `BackendRefused` when the input cannot work, `BackendFailed` when the model failed,
        and whatever `report` raises."""
        ...

    async def close(self) -> None:
        """Free the models."""
        ...
