"""The two contracts that adapters fulfil: chat backends relay bytes, picture backends make pictures."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from sluicegate.domain.asset import Picture
from sluicegate.domain.generation import ModelCard, Task, TaskInput
from sluicegate.domain.job import Progress

BackendState = Literal["starting", "up", "down"]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A backend's state and, when it is not up, why."""

    state: BackendState
    reason: str = ""


class UpstreamAnswer(Protocol):
    """An upstream's answer whose head has arrived. Closing it early cancels the work upstream."""

    status: int
    content_type: str
    retry_after: float | None
    """Seconds that the upstream asks its callers to wait (429, 503), where it says so in seconds."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises `BackendTimeout` (idle gap, whole call) or `BackendFailed` (broken off)."""
        ...

    async def close(self) -> None:
        """Release the connection; when the body is unfinished, break it off. Safe to call twice."""
        ...


class ChatBackend(Protocol):
    """Serves OpenAI's dialect (``/chat/completions``, …) for some models."""

    name: str
    kind: str
    max_concurrency: int
    """Calls at once; the balancer keeps to it."""

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
        """End everything that `start` began."""
        ...

    async def call(self, path: str, body: bytes, *, request_id: str) -> UpstreamAnswer:
        """POST `body` (JSON) to ``<base>/<path>`` and wait for the head of the answer, whatever its status.

        Raises `BackendUnavailable` when no connection can be made (another backend may be tried) and
        `BackendTimeout` when no first byte came in time. Cancelling the awaiting task cancels the call upstream.
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
