"""What is particular to blobs in files: names, links, rights, full disks."""

import asyncio
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from sluicegate.errors import StoreUnavailable, UnknownAsset
from sluicegate.storage.files import FileBlobStore
from sluicegate.testing import ManualClock

APPLE = b"an apple"
DIGEST = hashlib.sha256(APPLE).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobStore:
    return FileBlobStore(tmp_path, ManualClock())


def place(root: Path) -> Path:
    return root / DIGEST[:2] / DIGEST[2:4] / DIGEST


def test_a_blob_stands_in_the_folder_that_its_digest_names(blobs: FileBlobStore, tmp_path: Path) -> None:
    asyncio.run(blobs.put(APPLE))
    assert place(tmp_path).read_bytes() == APPLE
    assert place(tmp_path).stat().st_mode & 0o777 == 0o600
    assert list((tmp_path / "staging").iterdir()) == []


def test_the_same_bytes_keep_their_file(blobs: FileBlobStore, tmp_path: Path) -> None:
    asyncio.run(blobs.put(APPLE))
    first = place(tmp_path).stat().st_ino
    asyncio.run(blobs.put(APPLE))
    assert place(tmp_path).stat().st_ino == first


def test_a_file_that_was_cut_short_is_replaced(blobs: FileBlobStore, tmp_path: Path) -> None:
    asyncio.run(blobs.put(APPLE))
    place(tmp_path).write_bytes(APPLE[:3])
    asyncio.run(blobs.put(APPLE))
    assert asyncio.run(blobs.read(DIGEST)) == APPLE


def test_a_link_in_the_place_of_a_blob_is_not_followed(blobs: FileBlobStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"not yours")
    place(tmp_path).parent.mkdir(parents=True)
    place(tmp_path).symlink_to(secret)
    with pytest.raises((StoreUnavailable, UnknownAsset)):
        asyncio.run(blobs.read(DIGEST))
    assert secret.read_bytes() == b"not yours"


def test_files_of_others_in_the_folder_are_no_blobs(blobs: FileBlobStore, tmp_path: Path) -> None:
    asyncio.run(blobs.put(APPLE))
    (place(tmp_path).parent / "README").write_text("hello")
    assert asyncio.run(blobs.aged(0.0)) == {DIGEST: len(APPLE)}


def test_a_killed_writers_staging_file_is_tidied_when_it_is_old(tmp_path: Path) -> None:
    code = f"""
import asyncio, os, signal
from pathlib import Path
from sluicegate.domain.clock import SystemClock
from sluicegate.storage.files import FileBlobStore
async def main():
    async with FileBlobStore(Path({str(tmp_path)!r}), SystemClock()).stage() as staging:
        await staging.write(b"half a picture")
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = (tmp_path / "staging").iterdir()
    clock = ManualClock(left.stat().st_mtime)
    blobs = FileBlobStore(tmp_path, clock)
    clock.advance(9.0)
    assert asyncio.run(blobs.tidy(older_than_seconds=10.0)) == 0
    clock.advance(1.0)
    assert asyncio.run(blobs.tidy(older_than_seconds=10.0)) == 1
    assert not left.exists()


@pytest.mark.parametrize("way", ["put", "stage"])
def test_a_disk_that_takes_no_more_is_told_and_leaves_nothing(tmp_path: Path, way: str) -> None:
    code = f"""
import asyncio, resource
from pathlib import Path
from sluicegate.domain.clock import SystemClock
from sluicegate.errors import StoreUnavailable
from sluicegate.storage.files import FileBlobStore
async def main():
    blobs = FileBlobStore(Path({str(tmp_path)!r}), SystemClock())
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    try:
        if {way!r} == "put":
            await blobs.put(bytes(100_000))
        else:
            async with blobs.stage() as staging:
                await staging.write(bytes(100_000))
                await staging.commit()
    except StoreUnavailable as error:
        print("refused", error.retry_after)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(await blobs.aged(0.0), (await blobs.put(bytes(100_000))).size_bytes)
asyncio.run(main())
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told == "refused 1.0\n{} 100000\n"
    assert list((tmp_path / "staging").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable, match="picture store"):
        asyncio.run(FileBlobStore(tmp_path / "file" / "assets", ManualClock()).put(APPLE))
