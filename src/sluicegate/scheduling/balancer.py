"""Which backend takes a chat call: of those that serve the model, are up and have room, the least busy one.

A call is never queued here. It moves on to another backend only when one could not be connected to or ended the
connection without an answer, so that no caller sees half an answer of one and half of another.
"""

import asyncio

from sluicegate.backends.backend import ChatBackend, Health
from sluicegate.backends.fleet import Fleet
from sluicegate.domain.validation import did_you_mean
from sluicegate.errors import BackendUnavailable, Overloaded, SluicegateError, UnknownModel

MOST_TRIES = 3
_LOOK_SECONDS = 0.05


class Search:
    """One call's search for a backend: those in `refused` have failed it, with their words, and are asked again only
    after a restart."""

    __slots__ = ("deadline", "model", "refused", "tries")

    def __init__(self, model: str) -> None:
        self.model = model
        self.refused: dict[str, str] = {}
        self.tries = 0
        """Backends that were asked, and failed."""
        self.deadline: float | None = None


class Balancer:
    """Least outstanding calls first; of equals, the one whose last turn is longest ago.

    A call for a model whose only hope is a backend that is still starting waits for it up to `patience` seconds.
    Whoever takes a backend releases it, once.
    """

    def __init__(self, fleet: Fleet, *, patience: float = 3.0) -> None:
        self._fleet = fleet
        self._patience = patience
        self._turns = 0
        self._last_turn: dict[str, int] = {}

    def take_now(self, model: str) -> ChatBackend | None:
        """A backend for the model, counted as busy with it; None when none can be had without a search."""
        fleet = self._fleet
        serving = fleet.serving(model)
        if len(serving) == 1:
            only = serving[0]
            return only if only.health().state == "up" and fleet.begin_within(only, model) else None
        chosen = self._choose(model, {})
        if chosen is not None:
            fleet.begin(chosen.name, model)
        return chosen

    def release(self, backend: ChatBackend, model: str) -> None:
        """The call for which the backend was taken is over."""
        self._fleet.end(backend.name, model)

    async def take(self, search: Search) -> ChatBackend:
        """As `take_now`, but waits where a backend may come up.

        Raises `UnknownModel`, `BackendUnavailable` with each backend's reason, or `Overloaded` when all are full.
        """
        now = asyncio.get_running_loop().time
        if search.deadline is None:
            search.deadline = now() + self._patience
        looked_again = False
        while True:
            backend = self._choose(search.model, search.refused)
            if backend is not None:
                self._fleet.begin(backend.name, search.model)
                return backend
            for name, health in self._fleet.health().items():
                if health.state == "starting":
                    search.refused.pop(name, None)
            # A backend that has just died is known to be restarting only a moment later.
            may_start = self._may_start(search.model, search.refused)
            worth_waiting = may_start or (bool(search.refused) and not looked_again)
            if not worth_waiting or now() >= search.deadline:
                raise self._refusal(search.model, search.refused)
            looked_again = True
            await asyncio.sleep(_LOOK_SECONDS)

    def _choose(self, model: str, refused: dict[str, str]) -> ChatBackend | None:
        chosen, least = None, (0, 0)
        for backend in self._fleet.serving(model):
            if backend.name in refused or backend.health().state != "up":
                continue
            load = self._fleet.load(backend.name)
            if load >= backend.max_concurrency:
                continue
            rank = (load, self._last_turn.get(backend.name, 0))
            if chosen is None or rank < least:
                chosen, least = backend, rank
        if chosen is not None:
            self._turns += 1
            self._last_turn[chosen.name] = self._turns
        return chosen

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

    def _refusal(self, model: str, refused: dict[str, str]) -> SluicegateError:
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
