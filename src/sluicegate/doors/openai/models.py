"""``GET /v1/models``: every model of every backend, chat and picture."""

from collections.abc import Callable, Sequence
from typing import Any

from sluicegate.backends.dialects.models import find_model
from sluicegate.domain.generation import ModelCard
from sluicegate.domain.validation import did_you_mean
from sluicegate.doors.endpoint import Answer, Call, Endpoint, json_response
from sluicegate.errors import UnknownModel


class ModelsDoor:
    """Lists models; `cards` gives those that are served now."""

    def __init__(self, cards: Callable[[], Sequence[ModelCard]], started_at: float) -> None:
        self._cards = cards
        self._created = int(started_at)

    def endpoints(self) -> list[Endpoint]:
        """The routes of this door."""
        return [
            Endpoint(
                method="GET",
                path="/v1/models",
                handler=self.list,
                dialect="openai",
                tag="OpenAI",
                summary="List the models",
                answers={200: dict[str, Any]},
            ),
            Endpoint(
                method="GET",
                path="/v1/models/{model:path}",
                handler=self.show,
                dialect="openai",
                tag="OpenAI",
                summary="One model",
                answers={200: dict[str, Any]},
            ),
        ]

    async def list(self, call: Call) -> Answer:
        """All models, in OpenAI's form plus our `tasks`."""
        return json_response({"object": "list", "data": [self._render(card) for card in self._cards()]})

    async def show(self, call: Call) -> Answer:
        """One model, also without the ":latest" under which an Ollama server lists it. Raises `UnknownModel`."""
        cards = {card.id: card for card in self._cards()}
        wanted = call.path("model")
        found = find_model(wanted, cards)
        if found is None:
            raise unknown_model(wanted, list(cards))
        return json_response(self._render(cards[found]))

    def _render(self, card: ModelCard) -> dict[str, Any]:
        return {
            "id": card.id,
            "object": "model",
            "created": self._created,
            "owned_by": card.backend,
            "tasks": card.tasks,
            "description": card.description,
        }


def unknown_model(wanted: str, known: Sequence[str]) -> UnknownModel:
    """The error for a model that nobody serves."""
    mend = did_you_mean(wanted, known)
    return UnknownModel(f'no model "{wanted}" here' + (f"; {mend}" if mend else ""), details={"param": "model"})
