"""Chat over a WebSocket in memory: a caller who takes nothing, and a backend that refuses at once."""

import asyncio
import json
from collections.abc import Collection, Sequence

import pytest
from tests.protocol_driver import Wire
from tests.websocket_house import PATIENCE, frame, heard, in_memory, run
from websockets.frames import Opcode

from sluicegate.admission.gate import Gate
from sluicegate.backends.backend import AnswerSink, ChatBackend, ChatCall, Health, UpstreamCall, WireDialect
from sluicegate.backends.fleet import Fleet
from sluicegate.domain.clock import SystemClock
from sluicegate.domain.fairness import Tier
from sluicegate.domain.generation import ModelCard
from sluicegate.doors.chat.chat import SimpleChatRoute
from sluicegate.doors.chat.socket import ChatSocketDoor
from sluicegate.doors.lane.exchanges import Exchanges
from sluicegate.doors.lane.lane import Lane
from sluicegate.errors import Fault, InvalidInput
from sluicegate.observability.access_log import AccessLog
from sluicegate.observability.metrics import Metrics
from sluicegate.scheduling.balancer import Balancer
from sluicegate.wire.wheel import Wheel


class Refusing:
    """A backend to which nothing can be said."""

    name = "refusing"
    kind = "openai"
    max_concurrency = 8
    dialects: Collection[WireDialect] = frozenset[WireDialect]({"openai"})

    def __init__(self) -> None:
        self._cards = (ModelCard(id="any", tasks=("chat",), backend=self.name),)

    def cards(self) -> Sequence[ModelCard]:
        return self._cards

    def health(self) -> Health:
        return Health(state="up")

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    def send(self, call: ChatCall, sink: AnswerSink) -> UpstreamCall:
        raise InvalidInput.of(Fault("messages", "cannot be said to this kind of server"))


def door(*backends: ChatBackend) -> ChatSocketDoor:
    """The door before these backends. Make it on the running loop."""
    fleet = Fleet(backends)
    metrics = Metrics()
    lane = Lane(
        gate=Gate(host="127.0.0.1", cors_origins=(), local_tier=Tier()),
        balancer=Balancer(fleet),
        exchanges=Exchanges(metrics, limit=10),
        metrics=metrics,
        access_log=AccessLog(),
        wheel=Wheel(),
    )
    return ChatSocketDoor(lane, SimpleChatRoute(fleet.cards, SystemClock()))


async def answers(wire: Wire, count: int) -> list[tuple[str | None, str, str]]:
    """Request id, event and code of the first `count` answers, as soon as they are here."""
    async with asyncio.timeout(PATIENCE):
        while len(told := [word for word in heard(wire) if isinstance(word, str)]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)
    decoded = [json.loads(word) for word in told]
    return [(each["requestId"], each["event"], each["data"]["code"]) for each in decoded]


def test_a_caller_who_takes_no_answers_to_bad_messages_is_not_heard_until_he_does() -> None:
    async def scenario() -> None:
        async with in_memory(door().talk) as (wire, connection):
            connection.pause_writing()
            sent = 0
            while wire.is_reading():
                wire.feed(frame(Opcode.TEXT, b"{"))
                sent += 1
                assert sent < 5_000, "nothing stops a flood of bad messages"
                await asyncio.sleep(0)
            connection.resume_writing()
            assert await answers(wire, sent) == [(None, "error", "INVALID_REQUEST")] * sent
            assert wire.is_reading()

    run(scenario)


def test_a_caller_who_takes_no_failures_of_his_exchanges_is_not_heard_until_he_does() -> None:
    message = b'{"requestId": "%b", "model": "nope", "messages": [{"role": "user", "content": "x"}]}'

    async def scenario() -> None:
        async with in_memory(door().talk) as (wire, connection):
            connection.pause_writing()
            sent = 0
            while wire.is_reading():
                wire.feed(frame(Opcode.TEXT, message % (b"%0128d" % sent)))
                sent += 1
                assert sent < 20_000, "nothing stops a flood of exchanges that fail"
                for _ in range(10):
                    await asyncio.sleep(0)
            connection.resume_writing()
            told = await answers(wire, sent)
            # What had come before reading stopped is heard at once: more exchanges than may run.
            assert {code for _, _, code in told} <= {"MODEL_NOT_FOUND", "OVERLOADED"}
            assert sorted(str(request_id) for request_id, _, _ in told) == [f"{each:0128d}" for each in range(sent)]
            assert wire.is_reading()

    run(scenario)


@pytest.mark.parametrize("request_id", ["abc\\n", "\\nabc", "a b", "x" * 129, ""])
@pytest.mark.parametrize("kind", ["chat", "cancel"])
def test_an_id_that_is_no_word_is_refused(kind: str, request_id: str) -> None:
    messages = ', "messages": [{"role": "user", "content": "x"}]' if kind == "chat" else ""
    sent = f'{{"type": "{kind}", "requestId": "{request_id}"{messages}}}'

    async def scenario() -> None:
        async with in_memory(door().talk) as (wire, _):
            wire.feed(frame(Opcode.TEXT, sent.encode()))
            ((_, event, code),) = await answers(wire, 1)
            assert (event, code) == ("error", "INVALID_REQUEST")

    run(scenario)


def test_an_exchange_that_ends_before_it_has_begun_is_over() -> None:
    async def scenario() -> None:
        async with in_memory(door(Refusing()).talk) as (wire, _):
            wire.feed(frame(Opcode.TEXT, b'{"requestId": "a", "messages": [{"role": "user", "content": "x"}]}'))
            wire.feed(frame(Opcode.TEXT, b'{"requestId": "a", "type": "cancel"}'))
            assert await answers(wire, 2) == [("a", "error", "INVALID_REQUEST"), ("a", "error", "STREAM_NOT_FOUND")]

    run(scenario)
