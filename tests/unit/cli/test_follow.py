"""Following a job over connections that break."""

import asyncio
from typing import Any

import pytest
from tests.unit.cli.scripted_gateway import (
    ScriptedGateway,
    job_value,
    json_answer,
    problem_answer,
    scripted_gateway,
    stream_answer,
)

from sluicegate.cli.connection import Target, connect
from sluicegate.cli.follow import MOST_FAILURES, Follower
from sluicegate.cli.terminal import Failure

JOB = "/v1/jobs/job_1"
EVENTS = f"{JOB}/events"


class Pauses:
    """Stands for `asyncio.sleep`: notes the seconds and goes on at once."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


async def follow(gateway: ScriptedGateway, pauses: Pauses | None = None) -> list[dict[str, Any]]:
    async with connect(Target(url=gateway.url)) as client:
        follower = Follower(client, job_value("queued"), pauses or Pauses())
        return [job async for job in follower.snapshots()]


def test_events_are_followed_to_the_end_with_one_connection() -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway:
            gateway.script(
                "GET",
                EVENTS,
                stream_answer(
                    "id: 1\nevent: job.queued\ndata: {}\n\n",
                    'id: 2\nevent: job.running\ndata: {}\n\nevent: job.progress\ndata: {"job":"job_1","value":0.5}\n\n',
                    ": heartbeat\n\nid: 3\nevent: job.succeeded\ndata: {}\n\n",
                ),
            )
            answers = [json_answer(job_value(status)) for status in ("queued", "running", "succeeded")]
            gateway.script("GET", JOB, *answers)

            jobs = await follow(gateway)

            assert [job["status"] for job in jobs] == ["queued", "queued", "running", "running", "succeeded"]
            assert jobs[3]["progress"] == {"value": 0.5}
            assert len(gateway.requests("GET", EVENTS)) == 1
            assert len(gateway.requests("GET", JOB)) == 3

    asyncio.run(scenario())


def test_a_broken_connection_is_resumed_after_the_last_whole_event() -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway:
            gateway.script(
                "GET",
                EVENTS,
                stream_answer("id: 1\nevent: job.queued\ndata: {}\n\nid: 2\ndata: cut", ends=False),
                stream_answer("id: 2\nevent: job.succeeded\ndata: {}\n\n"),
            )
            gateway.script("GET", JOB, json_answer(job_value("running")), json_answer(job_value("succeeded")))

            jobs = await follow(gateway)

            assert jobs[-1]["status"] == "succeeded"
            first, second = gateway.requests("GET", EVENTS)
            assert "last-event-id" not in first.headers
            assert second.headers["last-event-id"] == "1"

    asyncio.run(scenario())


def test_where_no_events_come_through_the_job_is_polled() -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway:
            gateway.script("GET", EVENTS, json_answer({"a proxy": "without streams"}))
            states = ("queued", "running", "running", "succeeded")
            gateway.script("GET", JOB, *(json_answer(job_value(status)) for status in states))
            pauses = Pauses()

            jobs = await follow(gateway, pauses)

            assert [job["status"] for job in jobs] == ["queued", *states]
            assert pauses.seconds == [0.5, 0.5, 0.5]

    asyncio.run(scenario())


def test_following_ends_when_the_gateway_stays_away_and_says_how_to_go_on() -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway:
            url = gateway.url
        pauses = Pauses()
        async with connect(Target(url=url)) as client:
            with pytest.raises(Failure, match="sluicegate jobs watch job_1"):
                [job async for job in Follower(client, job_value("running"), pauses).snapshots()]
        assert len(pauses.seconds) == MOST_FAILURES - 1
        assert sorted(pauses.seconds) == pauses.seconds
        assert pauses.seconds[-1] == 5.0

    asyncio.run(scenario())


def test_a_job_that_is_gone_is_told_at_once() -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway:
            gateway.script("GET", EVENTS, problem_answer(404, 'there is no job "job_1"', x_request_id="req_9"))

            with pytest.raises(Failure) as caught:
                await follow(gateway)

            assert "no job" in caught.value.message
            assert "request req_9" in caught.value.message

    asyncio.run(scenario())


def test_the_place_in_the_queue_is_looked_up_while_no_event_comes() -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway:
            gateway.script("GET", EVENTS, stream_answer(": heartbeat\n\n", hold=True))
            gateway.script("GET", JOB, *(json_answer(job_value("queued", queue_position=place)) for place in (2, 1)))
            places = []
            async with connect(Target(url=gateway.url)) as client:
                snapshots = Follower(client, job_value("queued", queue_position=3)).snapshots()
                async for job in snapshots:
                    places.append(job["queue_position"])
                    if job["queue_position"] == 1:
                        break
                await snapshots.aclose()

            assert places == [3, 2, 1]
            async with asyncio.timeout(10):
                await gateway.left.wait()

    asyncio.run(scenario())
