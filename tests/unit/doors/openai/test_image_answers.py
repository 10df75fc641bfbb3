"""Answers that wait for a picture job."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.types import Message
from tests.gateway import picture

from sluicegate.domain.asset import Picture
from sluicegate.domain.ids import Tenant, WorkerId, new_job_id
from sluicegate.domain.job import Claim, JobError, NewJob, Preview
from sluicegate.doors.openai.image_answers import ImageAnswers, Wanted
from sluicegate.errors import BackendTimeout, Draining, SluicegateError
from sluicegate.notifications.feed import JobFeed
from sluicegate.results.assets import Assets
from sluicegate.storage.contracts import Success
from sluicegate.storage.files import FileBlobStore
from sluicegate.storage.sqlite.signals import SocketSignals
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock

TENANT = Tenant("acme")
PNG = picture(32, 24)


class Stage:
    """A real store and feed, one job that nobody else works on, and a caller who may leave."""

    def __init__(self, folder: Path, *, wait_seconds: float) -> None:
        self.clock = ManualClock()
        self.store = SqliteStore(folder / "store.db", self.clock)
        self.signals = SocketSignals(folder / "store.db")
        self.assets = Assets(self.store, FileBlobStore(folder / "assets", self.clock), self.clock, max_pixels=10_000)
        self.feed = JobFeed(self.store, self.signals, self.clock, poll_seconds=0.01)
        self.answers = ImageAnswers(
            self.store, self.feed, self.signals, self.assets, self.clock, wait_seconds=wait_seconds
        )
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.begun = asyncio.Event()
        self.wanted: Wanted

    async def open(self) -> None:
        await self.store.open()
        await self.signals.open()
        new = NewJob(id=new_job_id(), tenant=TENANT, model="m", task="t", input={"seed": 5}, deadline_seconds=60)
        job = (await self.store.submit(new)).job
        self.wanted = Wanted(
            tenant=TENANT,
            job=job.id,
            base_url="http://here",
            kind="image_generation",
            response_format="url",
            size="256x256",
            partial_images=2,
            is_kept=False,
        )

    async def close(self) -> None:
        await self.signals.close()
        await self.store.close()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        self.begun.set()

    async def answer(self, *, stream: bool = False, wanted: Wanted | None = None) -> None:
        make = self.answers.streamed if stream else self.answers.whole
        await make(wanted or self.wanted)({"type": "http", "method": "POST"}, self.incoming.get, self.send)

    async def claim(self) -> Claim:
        claim = await self.store.claim(WorkerId("worker_1"), ["m"], 15)
        assert claim is not None
        return claim

    async def fail(self, code: str) -> None:
        await self.store.fail((await self.claim()).lease, JobError(code=code, message="its words"), retry_in=None)

    async def succeed(self, claim: Claim, *pictures: bytes) -> None:
        outputs = [await self.assets.prepare(TENANT, Picture(data, "image/png", 32, 24)) for data in pictures]
        details = {"unknown_words": ["flurbish"]}
        success = Success(outputs=tuple(outputs), backend="b", execution_seconds=0.1, details=details)
        assert await self.store.succeed(claim.lease, success)

    async def state(self) -> str:
        return (await self.store.get(TENANT, self.wanted.job)).state

    def body(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        blocks = [block.split("\n", 1) for block in self.body().split("\n\n") if block and not block.startswith(":")]
        return [(head.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for head, data in blocks]


def play(folder: Path, scenario: Callable[[Stage], Awaitable[None]], *, wait_seconds: float = 100.0) -> None:
    async def whole() -> None:
        stage = Stage(folder, wait_seconds=wait_seconds)
        await stage.open()
        try:
            await scenario(stage)
        finally:
            await stage.close()

    asyncio.run(whole())


def test_a_whole_answer_lists_the_pictures_and_what_was_done_otherwise_than_asked(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        call = asyncio.create_task(stage.answer())
        await stage.succeed(await stage.claim(), PNG, PNG)
        await call
        told = json.loads(stage.body())
        job = await stage.store.get(TENANT, stage.wanted.job)
        assert told["data"] == [{"url": f"http://here/v1/assets/{output.id}"} for output in job.outputs]
        assert told["created"] == int(stage.clock.now())
        assert (told["size"], told["output_format"]) == ("32x24", "png")
        remarks = told["sluicegate"]
        assert (remarks["job"], remarks["seed"], remarks["unknown_words"]) == (job.id, 5, ["flurbish"])
        assert remarks["degraded"] == ["the size is 32x24, not 256x256: m has its own"]

    play(tmp_path, scenario)


def test_a_stream_has_no_more_previews_than_asked_then_every_picture(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        call = asyncio.create_task(stage.answer(stream=True))
        claim = await stage.claim()
        for index in range(3):
            image = f"data:image/webp;base64,{base64.b64encode(bytes([index])).decode()}"
            await stage.store.preview(claim.lease, Preview(index=index, step=index, steps=9, image=image))
        await stage.succeed(claim, PNG, PNG)
        await call
        told = stage.events()
        partial, completed = "image_generation.partial_image", "image_generation.completed"
        assert [kind for kind, _ in told] == [data["type"] for _, data in told] == [partial] * 2 + [completed] * 2
        for index, (_, data) in enumerate(told[:2]):
            assert base64.b64decode(data["b64_json"]) == bytes([index])
            assert (data["partial_image_index"], data["output_format"], data["size"]) == (index, "webp", "256x256")
        assert [base64.b64decode(data["b64_json"]) for _, data in told[2:]] == [PNG, PNG]
        assert stage.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("code", "status"),
    [("backend_refused", 400), ("image_rejected", 400), ("backend_timeout", 504), ("out_of_memory", 502)],
)
def test_a_failed_job_is_an_error_with_its_words(tmp_path: Path, code: str, status: int) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.fail(code)
        with pytest.raises(SluicegateError, match="its words") as caught:
            await stage.answer()
        assert caught.value.status == status
        assert stage.wanted.job in caught.value.message
        assert stage.sent == []
        await stage.answer(stream=True)
        ((kind, data),) = stage.events()
        assert kind == data["type"] == "error"
        assert data["error"]["message"] == caught.value.message

    play(tmp_path, scenario)


def test_a_job_past_its_deadline_is_a_timeout(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        stage.clock.advance(61)
        await stage.store.recover()
        with pytest.raises(BackendTimeout, match="passed its deadline"):
            await stage.answer()

    play(tmp_path, scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_waited_long_enough_ends_and_its_job_goes_on(tmp_path: Path, stream: bool) -> None:
    async def scenario(stage: Stage) -> None:
        if stream:
            await stage.answer(stream=True)
            ((_, data),) = stage.events()
            assert data["error"]["code"] == "backend_timeout"
            assert stage.wanted.job in data["error"]["message"]
        else:
            with pytest.raises(BackendTimeout, match=f"GET /v1/jobs/{stage.wanted.job}"):
                await stage.answer()
        assert await stage.state() == "queued"

    play(tmp_path, scenario, wait_seconds=0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_gateway_that_stops_says_so_and_its_job_goes_on(tmp_path: Path, stream: bool) -> None:
    async def scenario(stage: Stage) -> None:
        call = asyncio.create_task(stage.answer(stream=stream))
        await asyncio.sleep(0)
        stage.feed.close()
        if stream:
            await call
            ((_, data),) = stage.events()
            assert data["error"]["code"] == "draining"
        else:
            with pytest.raises(Draining, match=stage.wanted.job):
                await call
        assert await stage.state() == "queued"

    play(tmp_path, scenario)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("is_kept", "state"), [(False, "canceled"), (True, "queued")])
def test_a_caller_who_leaves_withdraws_the_job_unless_it_may_come_back(
    tmp_path: Path, stream: bool, is_kept: bool, state: str
) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.incoming.put({"type": "http.disconnect"})
        await stage.answer(stream=stream, wanted=msgspec.structs.replace(stage.wanted, is_kept=is_kept))
        assert await stage.state() == state

    play(tmp_path, scenario)


def test_a_server_that_ends_the_call_leaves_the_job_alone(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        call = asyncio.create_task(stage.answer(stream=True))
        await stage.begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await stage.state() == "queued"

    play(tmp_path, scenario)
