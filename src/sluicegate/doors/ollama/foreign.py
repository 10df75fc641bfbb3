"""A call of Ollama's dialect for a backend that does not speak it. Imported when the first one is made."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from sluicegate.backends.backend import ChatCall
from sluicegate.backends.dialects.answers_to_ollama import WHOLE_TYPE, answer_to_ollama, answer_unasked
from sluicegate.backends.dialects.to_openai import (
    OpenAICall,
    chat_to_openai,
    embed_to_openai,
    embeddings_to_openai,
    generate_to_openai,
)
from sluicegate.backends.dialects.translation import Translation
from sluicegate.domain.clock import Clock
from sluicegate.domain.ids import RequestId
from sluicegate.domain.principal import Principal
from sluicegate.doors.lane.orders import Reply
from sluicegate.errors import BackendUnavailable

_TRANSLATE: Final[Mapping[str, Callable[[bytes], OpenAICall]]] = {
    "/api/chat": chat_to_openai,
    "/api/generate": generate_to_openai,
    "/api/embed": embed_to_openai,
    "/api/embeddings": embeddings_to_openai,
}


class ForeignCall:
    """One call to a hot route, said in OpenAI's dialect; `model` is what its backends call the model.

    Raises `MalformedBody`, and `InvalidInput` with every fault, also for what cannot be said there.
    """

    def __init__(self, path: str, body: bytes, model: str) -> None:
        self._call = _TRANSLATE[path](body)
        self._model = model

    def reply(self, principal: Principal, clock: Clock) -> Reply:
        """The answer to a call that asks a model nothing."""
        return Reply(principal, WHOLE_TYPE, answer_unasked(self._call, clock=clock))

    def form(self, request_id: RequestId) -> ChatCall:
        """The call as such a backend gets it. Raises `BackendUnavailable` for one that asks nothing."""
        call = self._call
        if call.answered:
            raise BackendUnavailable(f'"{self._model}" has only now come up; ask again', retry_after=1)
        body = call.body if call.model == self._model else _with_model(call.body, self._model)
        return ChatCall(call.path, body, request_id, call.stream)

    def translation(self, clock: Clock, started: float) -> Translation:
        """For its answer; `started` is when the caller asked, by `clock.monotonic`."""
        return answer_to_ollama(self._call, clock=clock, started=started)


def _with_model(body: bytes, model: str) -> bytes:
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**fields, "model": model})
