"""What every blob store does. A new engine is one more branch of the `blobs` fixture."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sluicegate.domain.asset import Blob
from sluicegate.errors import StoreUnavailable, UnknownAsset
from sluicegate.storage.contracts import BlobStore
from sluicegate.storage.files import FileBlobStore
from sluicegate.testing import ManualClock

APPLE = b"an apple" * 1000


@pytest.fixture(params=["files"])
def new_blobs(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Callable[[], BlobStore]:
    assert request.param == "files"
    return lambda: FileBlobStore(tmp_path / "assets", clock)


@pytest.fixture
def blobs(new_blobs: Callable[[], BlobStore]) -> BlobStore:
    return new_blobs()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def collected(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


@pytest.mark.parametrize("data", [b"", b"x", APPLE, bytes(range(256)) * 4096])
def test_what_is_put_is_read_back_under_its_digest(blobs: BlobStore, data: bytes) -> None:
    async def scenario() -> None:
        assert await blobs.put(data) == Blob(digest(data), len(data))
        assert await blobs.read(digest(data)) == data

    asyncio.run(scenario())


def test_the_same_bytes_are_stored_once(blobs: BlobStore) -> None:
    async def scenario() -> None:
        stored = await asyncio.gather(*(blobs.put(APPLE) for _ in range(8)))
        assert set(stored) == {Blob(digest(APPLE), len(APPLE))}
        assert await blobs.aged(0.0) == {digest(APPLE): len(APPLE)}

    asyncio.run(scenario())


def test_a_staged_blob_is_visible_only_after_its_commit(blobs: BlobStore) -> None:
    async def scenario() -> None:
        async with blobs.stage() as staging:
            await staging.write(APPLE[:100])
            await staging.write(APPLE[100:])
            assert (staging.size_bytes, staging.path.read_bytes()) == (len(APPLE), APPLE)
            with pytest.raises(UnknownAsset):
                await blobs.read(digest(APPLE))
            assert await staging.commit() == Blob(digest(APPLE), len(APPLE))
            with pytest.raises(StoreUnavailable):
                await staging.write(b"more")
        assert await blobs.read(digest(APPLE)) == APPLE
        assert not staging.path.exists()

    asyncio.run(scenario())


def test_leaving_without_a_commit_leaves_nothing(blobs: BlobStore) -> None:
    async def scenario() -> None:
        async with blobs.stage() as staging:
            await staging.write(APPLE)
        assert not staging.path.exists()
        assert await blobs.aged(0.0) == {}
        assert await blobs.tidy(older_than_seconds=0.0) == 0

    asyncio.run(scenario())


def test_a_cancelled_upload_leaves_nothing(blobs: BlobStore) -> None:
    async def scenario() -> None:
        paths: list[Path] = []
        begun = asyncio.Event()

        async def upload() -> None:
            async with blobs.stage() as staging:
                paths.append(staging.path)
                begun.set()
                while True:
                    await staging.write(bytes(100_000))

        task = asyncio.ensure_future(upload())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not paths[0].exists()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("start", "length"), [(0, 700_000), (0, 1), (262_143, 2), (699_999, 1), (5, 0), (100, 600_000)]
)
def test_a_stream_gives_the_range_that_was_asked_for(blobs: BlobStore, start: int, length: int) -> None:
    data = bytes(n % 251 for n in range(700_000))

    async def scenario() -> None:
        blob = await blobs.put(data)
        assert await collected(blobs.stream(blob.sha256, start, length)) == data[start : start + length]

    asyncio.run(scenario())


def test_a_stream_beyond_the_end_is_refused_rather_than_cut_short(blobs: BlobStore) -> None:
    async def scenario() -> None:
        blob = await blobs.put(b"short")
        with pytest.raises(StoreUnavailable, match="ends at byte 5"):
            await collected(blobs.stream(blob.sha256, 2, 10))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "name", ["", "ab", "../../etc/passwd", "A" * 64, "g" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "٣" * 64, "\0" * 64]
)
def test_what_is_no_digest_is_unknown(blobs: BlobStore, name: str) -> None:
    async def scenario() -> None:
        await blobs.put(APPLE)
        for call in (blobs.read(name), collected(blobs.stream(name, 0, 1)), blobs.discard(name, older_than_seconds=0)):
            with pytest.raises(UnknownAsset):
                await call

    asyncio.run(scenario())


def test_bytes_that_are_gone_are_unknown(blobs: BlobStore) -> None:
    async def scenario() -> None:
        assert await blobs.aged(0.0) == {}
        assert not await blobs.discard(digest(APPLE), older_than_seconds=0.0)
        for _ in range(2):
            with pytest.raises(UnknownAsset):
                await blobs.read(digest(APPLE))
            with pytest.raises(UnknownAsset):
                await collected(blobs.stream(digest(APPLE), 0, 1))
            await blobs.put(b"another")

    asyncio.run(scenario())


def test_only_blobs_that_were_not_stored_of_late_are_discarded(blobs: BlobStore, clock: ManualClock) -> None:
    async def scenario() -> None:
        old, renewed = await blobs.put(b"old"), await blobs.put(b"renewed")
        clock.advance(50.0)
        assert await blobs.put(b"renewed") == renewed
        fresh = await blobs.put(b"fresh")
        clock.advance(50.0)
        assert await blobs.aged(100.0) == {old.sha256: 3}
        assert not await blobs.discard(renewed.sha256, older_than_seconds=100.0)
        assert not await blobs.discard(fresh.sha256, older_than_seconds=100.0)
        assert await blobs.discard(old.sha256, older_than_seconds=100.0)
        assert not await blobs.discard(old.sha256, older_than_seconds=100.0)
        assert await blobs.read(renewed.sha256) == b"renewed"
        clock.advance(50.0)
        assert await blobs.aged(100.0) == {renewed.sha256: 7, fresh.sha256: 5}

    asyncio.run(scenario())


def test_bytes_stored_again_outlive_a_sweep_that_races(new_blobs: Callable[[], BlobStore], clock: ManualClock) -> None:
    async def scenario() -> None:
        keeper, sweeper = new_blobs(), new_blobs()
        for round_ in range(30):
            data = b"round %d" % round_
            blob = await keeper.put(data)
            clock.advance(100.0)
            assert await sweeper.aged(100.0) != {}
            await asyncio.gather(keeper.put(data), sweeper.discard(blob.sha256, older_than_seconds=100.0))
            assert await keeper.read(blob.sha256) == data

    asyncio.run(scenario())


def test_a_living_writers_staging_file_is_left_alone(blobs: BlobStore, clock: ManualClock) -> None:
    async def scenario() -> None:
        async with blobs.stage() as staging:
            await staging.write(APPLE)
            clock.advance(1_000.0)
            assert await blobs.tidy(older_than_seconds=10.0) == 0
            assert (await staging.commit()).size_bytes == len(APPLE)

    asyncio.run(scenario())
