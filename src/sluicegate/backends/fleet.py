"""All chat backends together: who serves what, how they are, and how many calls each has open."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from sluicegate.backends.backend import ChatBackend, Health
from sluicegate.domain.generation import ModelCard

_log = logging.getLogger(__name__)


class Fleet:
    """The chat backends, in the order of the settings."""

    def __init__(self, backends: Sequence[ChatBackend]) -> None:
        self._backends = tuple(backends)
        self._outstanding: Counter[tuple[str, str]] = Counter()
        self._load: Counter[str] = Counter()

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
        return tuple(backend for backend in self._backends if any(card.id == model for card in backend.cards()))

    def health(self) -> Mapping[str, Health]:
        """State and reason by backend name."""
        return {backend.name: backend.health() for backend in self._backends}

    def load(self, backend: str) -> int:
        """Calls that the backend has open."""
        return self._load[backend]

    def outstanding(self) -> Mapping[tuple[str, str], int]:
        """Open calls by (backend, model); those with none are absent."""
        return {pair: count for pair, count in self._outstanding.items() if count}

    def begin(self, backend: str, model: str) -> Callable[[], None]:
        """Count a call as open; what is returned ends it, and does nothing when called again."""
        self._outstanding[backend, model] += 1
        self._load[backend] += 1
        ended = False

        def end() -> None:
            nonlocal ended
            if ended:
                return
            ended = True
            self._load[backend] -= 1
            self._outstanding[backend, model] -= 1

        return end
