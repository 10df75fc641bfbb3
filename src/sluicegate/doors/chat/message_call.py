"""A call's answer as messages on a WebSocket; counted and logged at its end."""

import time
from typing import Protocol

from sluicegate.domain.ids import RequestId
from sluicegate.domain.principal import Principal
from sluicegate.doors.lane.lane import Lane
from sluicegate.doors.lane.relay_call import LEFT, RelayCall
from sluicegate.errors import SluicegateError

PATH = "/api/chat/ws"


class Conversation(Protocol):
    """The socket that the messages go to."""

    lane: Lane
    principal: Principal
    is_over: bool
    """Whether the caller has left."""

    def say(self, request_id: RequestId, event: bytes, data: bytes) -> None:
        """Send one event of an exchange; `data` is JSON."""
        ...

    def say_error(self, request_id: RequestId, error: SluicegateError) -> int:
        """Send an error; the status that stands for it."""
        ...

    def forget(self, request_id: RequestId) -> None:
        """The exchange is over."""
        ...


class MessageCall(RelayCall):
    """One call's answer as messages."""

    def __init__(self, conversation: Conversation, request_id: RequestId) -> None:
        super().__init__(conversation.lane)
        self._conversation = conversation
        self._request_id = request_id
        self.is_over = False
        self._kept = bytearray()

    def begin(self, content_type: str, length: int | None) -> None:
        """See `RelayCall.begin`; messages have no head."""

    def piece(self, data: bytes) -> None:
        """See `RelayCall.piece`. The translation of this dialect gives whole events only."""
        if not self.order.stream:
            self._kept += data
            return
        for event in data.split(b"\n\n"):
            head, _, payload = event.partition(b"\ndata: ")
            if payload:
                self._conversation.say(self._request_id, head.rpartition(b"event: ")[2], payload)

    def end(self, error: SluicegateError | None) -> None:
        """See `RelayCall.end`."""
        conversation = self._conversation
        self.is_over = True
        conversation.forget(self._request_id)
        status = 200
        if conversation.is_over:
            status = LEFT
        elif error is not None:
            status = conversation.say_error(self._request_id, error)
        elif not self.order.stream:
            conversation.say(self._request_id, b"chat.completion", bytes(self._kept))
        lane = conversation.lane
        seconds = time.perf_counter() - self.started
        lane.record(PATH, conversation.principal.tenant, status, seconds, self._request_id, method="WS")
