"""``GET /api/tags``, ``/api/ps``, ``/api/version`` and ``/``, ``POST /api/show``; and the routes that change models.

Models are the operator's affair here: whoever asks to pull, create, copy, push or delete one is told so.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from sluicegate.backends.dialects.answers_to_ollama import WHOLE_TYPE
from sluicegate.backends.dialects.models import (
    OllamaModel,
    find_model,
    running_body,
    show_body,
    tags_body,
    version_body,
)
from sluicegate.backends.dialects.ollama import EmbedRequest, GenerateRequest
from sluicegate.domain.clock import Clock
from sluicegate.domain.generation import ModelCard
from sluicegate.domain.validation import did_you_mean
from sluicegate.doors.endpoint import Answer, Call, Endpoint
from sluicegate.errors import Fault, InvalidInput, SluicegateError, UnknownModel

TAG = "Ollama"
_GREETING = "Ollama is running: this is Sluicegate, which speaks its API; /docs has all routes\n"
"""Ollama's own words come first, which some clients look for."""
_STREAMED_OR_WHOLE = {200: "application/x-ndjson or application/json"}


class ModelsAreFixed(SluicegateError):
    """A caller asked to change the models of a gateway, which only its operator can."""

    status = 403
    code = "models_are_fixed"


class ShowRequest(msgspec.Struct, frozen=True):
    """``POST /api/show``; older clients write `name`."""

    model: str = ""
    name: str = ""


class OllamaDoor:
    """What stands beside the hot routes. `cards` are the models served now, `details` what is known of some by id."""

    def __init__(
        self,
        cards: Callable[[], Sequence[ModelCard]],
        details: Callable[[], Mapping[str, OllamaModel]],
        clock: Clock,
    ) -> None:
        self._cards = cards
        self._details = details
        self._started = clock.now()

    def endpoints(self) -> list[Endpoint]:
        """The routes of this door, with those that the lane serves; ``/api/chat`` is told of by its other dialect."""
        return [
            Endpoint(
                method="POST",
                path="/api/generate",
                handler=None,
                dialect="ollama",
                tag=TAG,
                summary="Answer a prompt, streamed unless `stream` is false",
                body=GenerateRequest,
                answers=_STREAMED_OR_WHOLE,
            ),
            Endpoint(
                method="POST",
                path="/api/embed",
                handler=None,
                dialect="ollama",
                tag=TAG,
                summary="Turn texts into vectors",
                body=EmbedRequest,
                answers={200: dict[str, Any]},
            ),
            Endpoint(
                method="POST",
                path="/api/embeddings",
                handler=None,
                dialect="ollama",
                tag=TAG,
                summary="Turn a text into a vector, as older clients ask for it",
                description="`model` and `prompt`, both texts.",
                body=dict[str, Any],
                answers={200: dict[str, Any]},
            ),
            Endpoint(
                method="POST",
                path="/api/show",
                handler=self.show,
                dialect="ollama",
                tag=TAG,
                summary="One model",
                body=ShowRequest,
                answers={200: dict[str, Any]},
            ),
            *self._lists(),
            *self._changes(),
        ]

    async def greet(self, call: Call) -> Answer:
        """What a browser and a probing client see."""
        return Response(_GREETING, media_type="text/plain")

    async def tags(self, call: Call) -> Answer:
        """The models that chat or embed."""
        return _json(tags_body(self._cards(), started=self._started, details=self._details()))

    async def running(self, call: Call) -> Answer:
        """The same models, as loaded."""
        return _json(running_body(self._cards(), details=self._details()))

    async def version(self, call: Call) -> Answer:
        """The release of Ollama whose API is spoken."""
        return _json(version_body())

    async def show(self, call: Call) -> Answer:
        """One model, by its name with or without ``:latest``. Raises `UnknownModel`."""
        asked, _ = await call.decode(ShowRequest)
        wanted = asked.model or asked.name
        if not wanted:
            raise InvalidInput.of(Fault("model", "required, but absent", None))
        cards = {card.id: card for card in self._cards() if "chat" in card.tasks or not card.tasks}
        found = find_model(wanted, cards)
        if found is None:
            mend = did_you_mean(wanted, list(cards)) or "see GET /api/tags"
            raise UnknownModel(f'model "{wanted}" not found; {mend}')
        return _json(show_body(cards[found], started=self._started, details=self._details().get(found)))

    async def refuse(self, call: Call) -> Answer:
        """No caller changes the models. Raises `ModelsAreFixed`."""
        raise ModelsAreFixed(
            "the operator of this gateway chooses its models: use Ollama itself on the server that runs them, "
            "or the [[backends]] of the gateway's settings"
        )

    def _lists(self) -> list[Endpoint]:
        lists = (
            ("/api/tags", self.tags, "List the models"),
            ("/api/ps", self.running, "List the models that are loaded"),
            ("/api/version", self.version, "The release of Ollama whose API is spoken"),
        )
        told = [
            Endpoint(
                method="GET",
                path=path,
                handler=handler,
                dialect="ollama",
                tag=TAG,
                summary=summary,
                answers={200: dict[str, Any]},
            )
            for path, handler, summary in lists
        ]
        greeting = Endpoint(
            method="GET",
            path="/",
            handler=self.greet,
            dialect="ollama",
            tag=TAG,
            summary="Whether anyone is there",
            answers={200: "text/plain"},
            public=True,
        )
        return [greeting, *told]

    def _changes(self) -> list[Endpoint]:
        refused = [
            Endpoint(
                method="POST",
                path=f"/api/{verb}",
                handler=self.refuse,
                dialect="ollama",
                tag=TAG,
                summary=f"Refused: no caller can {verb} a model here",
            )
            for verb in ("pull", "create", "copy", "push")
        ]
        blob = Endpoint(
            method="POST",
            path="/api/blobs/{digest}",
            handler=self.refuse,
            dialect="ollama",
            tag=TAG,
            summary="Refused: no caller can bring a model here",
        )
        deletion = Endpoint(
            method="DELETE",
            path="/api/delete",
            handler=self.refuse,
            dialect="ollama",
            tag=TAG,
            summary="Refused: no caller can delete a model here",
        )
        return [*refused, blob, deletion]


def _json(body: bytes) -> Response:
    return Response(body, media_type=WHOLE_TYPE)
