"""Which backend takes a chat call: of those that serve the model, are up and have room, the least busy one.

A call is never queued here. It moves on to another backend only when one could not be connected to, so that no
caller sees half an answer of one and half of another.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sluicegate.backends.backend import ChatBackend, Health, UpstreamAnswer
from sluicegate.backends.fleet import Fleet
from sluicegate.domain.validation import did_you_mean
from sluicegate.errors import BackendError, BackendUnavailable, Overloaded, UnknownModel

_MOST_TRIES = 3
_LOOK_SECONDS = 0.05


class BalancedAnswer:
    """A backend's answer; closing it also ends the call's place in the count. Fulfils `UpstreamAnswer`."""

    def __init__(self, answer: UpstreamAnswer, backend: str, end: Callable[[], None]) -> None:
        self.backend = backend
        self.status = answer.status
        self.content_type = answer.content_type
        self.retry_after = answer.retry_after
        self._answer = answer
        self._end = end

    def chunks(self) -> AsyncIterator[bytes]:
        """See `UpstreamAnswer.chunks`."""
        return self._answer.chunks()

    async def close(self) -> None:
        """See `UpstreamAnswer.close`."""
        try:
            await self._answer.close()
        finally:
            self._end()


class Balancer:
    """Least outstanding calls first; of equals, the one whose last turn is longest ago.

    A call for a model whose only hope is a backend that is still starting waits for it up to `patience` seconds.
    """

    def __init__(self, fleet: Fleet, *, patience: float = 3.0) -> None:
        self._fleet = fleet
        self._patience = patience
        self._turns = 0
        self._last_turn: dict[str, int] = {}

    @asynccontextmanager
    async def lease(self, model: str) -> AsyncIterator[ChatBackend]:
        """A backend for the model, counted as busy with it until the block is left. Raises as `open` does."""
        backend, end = await self._take(model, {}, self._deadline())
        try:
            yield backend
        finally:
            end()

    async def open(self, model: str, path: str, body: bytes, request_id: str) -> BalancedAnswer:
        """POST `body` to ``<base>/<path>`` of a backend for the model; at most three are tried.

        Raises `UnknownModel`, `BackendUnavailable` with each backend's reason, `Overloaded` when all are full, and
        whatever else the backend's `call` raises. Close the answer, whatever happens.
        """
        deadline = self._deadline()
        refused: dict[str, str] = {}
        tries = 0
        while True:
            backend, end = await self._take(model, refused, deadline)
            try:
                answer = await backend.call(path, body, request_id=request_id)
            except BackendUnavailable as error:
                error.backend = backend.name
                end()
                tries += 1
                if tries >= _MOST_TRIES:
                    raise
                refused[backend.name] = error.message
            except BaseException as error:
                end()
                if isinstance(error, BackendError):
                    error.backend = backend.name
                raise
            else:
                return BalancedAnswer(answer, backend.name, end)

    async def _take(
        self, model: str, refused: dict[str, str], deadline: float
    ) -> tuple[ChatBackend, Callable[[], None]]:
        """Choose and count a backend. Those in `refused` have failed this call and are asked again only after a
        restart: an entry goes when its backend is seen starting."""
        looked_again = False
        while True:
            backend = self._choose(model, refused)
            if backend is not None:
                return backend, self._fleet.begin(backend.name, model)
            for name, health in self._fleet.health().items():
                if health.state == "starting":
                    refused.pop(name, None)
            # A backend that has just died is known to be restarting only a moment later.
            worth_waiting = self._may_start(model, refused) or (bool(refused) and not looked_again)
            if not worth_waiting or asyncio.get_running_loop().time() >= deadline:
                raise self._refusal(model, refused)
            looked_again = True
            await asyncio.sleep(_LOOK_SECONDS)

    def _choose(self, model: str, refused: dict[str, str]) -> ChatBackend | None:
        ready = [
            backend
            for backend in self._fleet.serving(model)
            if backend.name not in refused and backend.health().state == "up" and self._has_room(backend)
        ]
        if not ready:
            return None
        chosen = min(ready, key=lambda backend: (self._fleet.load(backend.name), self._last_turn.get(backend.name, 0)))
        self._turns += 1
        self._last_turn[chosen.name] = self._turns
        return chosen

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._patience

    def _has_room(self, backend: ChatBackend) -> bool:
        return self._fleet.load(backend.name) < backend.max_concurrency

    def _may_start(self, model: str, refused: dict[str, str]) -> bool:
        """Whether no backend of the model is up and one is starting, or one that has not yet told its models is."""
        serving = self._fleet.serving(model)
        if not serving:
            return any(backend.health().state == "starting" for backend in self._silent())
        states = {backend.health().state for backend in serving if backend.name not in refused}
        return "up" not in states and "starting" in states

    def _silent(self) -> list[ChatBackend]:
        """Backends that may serve anything: they were never up, and their models are unknown."""
        return [backend for backend in self._fleet.backends if not backend.cards() and backend.health().state != "up"]

    def _refusal(self, model: str, refused: dict[str, str]) -> Exception:
        serving = self._fleet.serving(model)
        if not serving and not self._silent():
            known = [card.id for card in self._fleet.cards()]
            hint = did_you_mean(model, known) or ("see GET /v1/models" if known else "no backend serves any")
            return UnknownModel(f'no model "{model}"; {hint}', details={"param": "model"})
        if any(backend.health().state == "up" and backend.name not in refused for backend in serving):
            return Overloaded(f'every backend of "{model}" is at its max_concurrency; try again', retry_after=1.0)
        asked = serving or self._silent()
        reasons = "; ".join(_reason(backend.name, backend.health(), refused) for backend in asked)
        return BackendUnavailable(f'no backend of "{model}" can be reached: {reasons}', retry_after=1.0)


def _reason(name: str, health: Health, refused: dict[str, str]) -> str:
    reason = refused.get(name) or health.reason or health.state
    return reason if reason.startswith(name) else f"{name}: {reason}"
