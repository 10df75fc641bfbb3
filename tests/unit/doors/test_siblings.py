"""What doors ask of all processes, where there is only one, and the counts that they read from metrics."""

import asyncio

from sluicegate.domain.ids import RequestId, Tenant
from sluicegate.doors.siblings import NoSiblings, stream_counts
from sluicegate.observability.metrics import Metrics
from sluicegate.observability.tallies import MetricsDump


def test_streams_are_counted_from_the_metrics_of_several_processes() -> None:
    one, two = Metrics(), Metrics()
    one.active_streams.value = 2
    two.active_streams.value = 1
    one.streams.labels("completed").add(5)
    two.streams.labels("completed").add(1)
    two.streams.labels("cancelled").add(3)
    told = stream_counts(one.dump().merged(two.dump()))
    assert told == {"active": 3, "total": 9, "completed": 6, "cancelled": 3, "error": 0}


def test_where_nothing_was_counted_yet_every_count_is_there() -> None:
    assert stream_counts(MetricsDump()) == {"active": 0, "total": 0, "completed": 0, "cancelled": 0, "error": 0}


def test_a_process_that_serves_alone_answers_for_itself() -> None:
    async def scenario() -> None:
        metrics = Metrics()
        metrics.streams.labels("error").add(2)
        alone = NoSiblings(metrics.dump)
        assert stream_counts(await alone.metrics())["error"] == 2
        assert not await alone.cancel(Tenant("t"), RequestId("r"))
        assert await alone.processes() == ()

    asyncio.run(scenario())
