"""The end of an answer is always told, whatever becomes of who hears it."""

import asyncio

import pytest
from tests.sinks import Recorder

from sluicegate.backends.upstream.call import Call
from sluicegate.errors import BackendFailed
from sluicegate.settings import TimeoutSettings


class Stumbling(Recorder):
    """Cannot bear the end of an answer."""

    def answer_ended(self) -> None:
        """See `AnswerSink`."""
        raise KeyError("a fault of ours")


def test_a_sink_that_stumbles_over_the_end_is_told_of_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        sink = Stumbling()
        call = Call(b"", b"", sink, TimeoutSettings(), 0.0)
        call.came(None, b"")
        assert isinstance(sink.failure, BackendFailed)
        assert "a fault of ours" not in sink.failure.message
        assert (call.sink, call.carrier) == (None, None)

    asyncio.run(scenario())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "a fault of ours" in caplog.text
