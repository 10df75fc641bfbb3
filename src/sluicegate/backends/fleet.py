"""All chat backends together: who serves what, how they are, and how many calls each has open."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from sluicegate.backends.backend import ChatBackend, Health
from sluicegate.domain.generation import ModelCard
from sluicegate.observability.metrics import BackendGauges
from sluicegate.wire.counts import SharedCount

_LATEST = ":latest"
_log = logging.getLogger(__name__)


class _Desk:
    """The open calls of one backend, and of those the ones for each model."""

    __slots__ = ("models", "open", "shared")

    def __init__(self, shared: SharedCount | None) -> None:
        self.open = 0
        self.models: dict[str, int] = {}
        self.shared = shared


class Fleet:
    """The chat backends, in the order of the settings.

    `shared` has, by backend, the count of its calls that other processes share; without it this process is alone.
    """

    def __init__(self, backends: Sequence[ChatBackend], shared: Mapping[str, SharedCount] | None = None) -> None:
        self._backends = tuple(backends)
        self._desks = {each.name: _Desk(None if shared is None else shared[each.name]) for each in self._backends}
        self._seen: dict[ChatBackend, Sequence[ModelCard]] = dict.fromkeys(self._backends, ())
        self._serving: dict[str, Sequence[ChatBackend]] = {}

    @property
    def backends(self) -> Sequence[ChatBackend]:
        """Every backend."""
        return self._backends

    async def start(self) -> None:
        """Start all; when one cannot, stop those that have started and raise its error."""
        try:
            for backend in self._backends:
                await backend.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all, at the same time; a failure is logged and stops no other."""
        results = await asyncio.gather(*(backend.stop() for backend in self._backends), return_exceptions=True)
        for backend, result in zip(self._backends, results, strict=True):
            if isinstance(result, Exception):
                _log.error("backend %s did not stop well", backend.name, exc_info=result)

    def cards(self) -> Sequence[ModelCard]:
        """The models served now, each id once: the first backend's card wins."""
        cards: dict[str, ModelCard] = {}
        for backend in self._backends:
            for card in backend.cards():
                cards.setdefault(card.id, card)
        return tuple(cards.values())

    def serving(self, model: str) -> Sequence[ChatBackend]:
        """The backends that serve the model, whatever their state."""
        for backend, seen in self._seen.items():
            # A backend gives another sequence when it serves other models.
            if backend.cards() is not seen:
                self._seen, self._serving = {each: each.cards() for each in self._backends}, {}
                break
        serving = self._serving.get(model)
        if serving is None:
            serving = tuple(
                backend
                for backend, its in self._seen.items()
                if any(card.id == model or _is_same(card.id, model, backend) for card in its)
            )
            if serving:
                self._serving[model] = serving
        return serving

    def health(self) -> Mapping[str, Health]:
        """State and reason by backend name."""
        return {backend.name: backend.health() for backend in self._backends}

    def load(self, backend: str) -> int:
        """Calls that the backend has open, those of other processes included."""
        desk = self._desks[backend]
        return desk.open if desk.shared is None else desk.open + desk.shared.others()

    def outstanding(self) -> Mapping[tuple[str, str], int]:
        """Open calls by (backend, model); those with none are absent."""
        return {
            (name, model): count for name, desk in self._desks.items() for model, count in desk.models.items() if count
        }

    def begin_within(self, backend: ChatBackend, model: str) -> bool:
        """Count a call as open, unless the backend has as many as it may have."""
        if self.load(backend.name) >= backend.max_concurrency:
            return False
        self.begin(backend.name, model)
        return True

    def begin(self, backend: str, model: str) -> None:
        """Count a call as open."""
        desk = self._desks[backend]
        desk.open += 1
        desk.models[model] = desk.models.get(model, 0) + 1
        if desk.shared is not None:
            desk.shared.set(desk.open)

    def end(self, backend: str, model: str) -> None:
        """A call that began has ended."""
        desk = self._desks[backend]
        desk.open -= 1
        desk.models[model] -= 1
        if desk.shared is not None:
            desk.shared.set(desk.open)

    def gauges(self) -> BackendGauges:
        """How this process stands with each backend and its models."""
        limits = {
            (backend.name, card.id): backend.max_concurrency for backend in self._backends for card in backend.cards()
        }
        return BackendGauges(limits=limits, inflight={**dict.fromkeys(limits, 0), **self.outstanding()})


def _is_same(card: str, model: str, backend: ChatBackend) -> bool:
    """To an Ollama server, "name" and "name:latest" are the same."""
    return "ollama" in backend.dialects and card.removesuffix(_LATEST) == model.removesuffix(_LATEST)
