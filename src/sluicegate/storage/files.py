"""`BlobStore` in a folder: each blob is one file, named by its digest.

    ROOT/staging/…        blobs being written, each locked by its writer
    ROOT/ab/cd/abcd…      blobs; the modification time says when the bytes were last stored
    ROOT/.lock            held shared while a blob gets its name, exclusively while one is discarded

Durability: the bytes are flushed before the name exists, and the folders after it, so a blob that `commit`
returned survives a power failure, and a blob that can be read is whole. The sweep never removes bytes that are
being stored again: storing refreshes the time under the shared lock, and discarding looks again under the exclusive.
"""

import asyncio
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from sluicegate.domain.asset import Blob
from sluicegate.domain.clock import Clock
from sluicegate.errors import StoreUnavailable, UnknownAsset

CHUNK_BYTES = 262_144
"""Size of the pieces that `stream` gives."""

Result = TypeVar("Result")
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class FileBlobStore:
    """Content-addressed files below `root`, shared by every process of one machine.

    Every method raises `StoreUnavailable` when the disk is full, read-only or broken; nothing is left behind then.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root.absolute()
        self._clock = clock

    @asynccontextmanager
    async def stage(self) -> AsyncIterator["FileStaging"]:
        """Begin a blob; leaving the block without `commit` leaves nothing behind."""
        staging = FileStaging(self._root, self._clock)
        await _in_thread(staging.begin)
        try:
            yield staging
        finally:
            await _in_thread(staging.drop)

    async def put(self, data: bytes) -> Blob:
        """Store bytes atomically and durably."""
        staging = FileStaging(self._root, self._clock)

        def store() -> Blob:
            staging.begin()
            try:
                staging.append(data)
                return staging.keep()
            finally:
                staging.drop()

        return await _in_thread(store)

    async def read(self, sha256: str) -> bytes:
        """All bytes of a blob; raises `UnknownAsset` when they are gone."""

        def read_all() -> bytes:
            with _opened(_path_of(self._root, sha256)) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
                return file.read()

        return await _in_thread(read_all)

    async def stream(self, sha256: str, start: int, length: int) -> AsyncIterator[bytes]:
        """`length` bytes from `start`, in chunks. Raises `UnknownAsset` when the blob is gone, and
        `StoreUnavailable` when it ends before that."""
        path = _path_of(self._root, sha256)
        descriptor = await _in_thread(lambda: _open(path))
        try:
            while length > 0:
                chunk = await _in_thread(partial(os.pread, descriptor, min(length, CHUNK_BYTES), start))
                if not chunk:
                    raise StoreUnavailable(f"blob {sha256} ends at byte {start}, {length} more were asked for")
                yield chunk
                start, length = start + len(chunk), length - len(chunk)
        finally:
            os.close(descriptor)

    async def aged(self, older_than_seconds: float) -> Mapping[str, int]:
        """Digest and size of the blobs not stored for so long."""
        return await _in_thread(lambda: dict(self._find_aged(older_than_seconds)))

    async def discard(self, sha256: str, *, older_than_seconds: float) -> bool:
        """Delete a blob unless it has been stored again meanwhile, or is gone already."""

        def remove() -> bool:
            path = _path_of(self._root, sha256)
            with _locked(self._root, fcntl.LOCK_EX):
                if not self._is_aged(path, older_than_seconds):
                    return False
                path.unlink()
                return True

        return await _in_thread(remove)

    async def tidy(self, *, older_than_seconds: float) -> int:
        """Delete staging files that a killed process left; how many."""

        def remove_all() -> int:
            folder = self._root / "staging"
            left = [path for path in folder.iterdir() if self._is_aged(path, older_than_seconds)]
            return sum(_remove_if_left(path) for path in left)

        return await _in_thread(lambda: remove_all() if (self._root / "staging").is_dir() else 0)

    def _find_aged(self, seconds: float) -> Iterator[tuple[str, int]]:
        for path in self._root.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*"):
            with suppress(FileNotFoundError):
                if _DIGEST.fullmatch(path.name) and self._is_aged(path, seconds):
                    yield path.name, path.lstat().st_size

    def _is_aged(self, path: Path, seconds: float) -> bool:
        try:
            return path.lstat().st_mtime <= self._clock.now() - seconds
        except FileNotFoundError:
            return False


class FileStaging:
    """A blob being written. Its methods without `await` block: the store calls them in threads."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self.path = root / "staging" / secrets.token_hex(16)
        self.size_bytes = 0
        self._root = root
        self._clock = clock
        self._digest = hashlib.sha256()
        self._descriptor: int | None = None

    async def write(self, data: bytes) -> None:
        """Append bytes."""
        await _in_thread(lambda: self.append(data))

    async def commit(self) -> Blob:
        """Make the bytes durable under their digest."""
        return await _in_thread(self.keep)

    def begin(self) -> None:
        """Create the file and lock it, as a sign that its writer lives."""
        _make_folder(self.path.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._stamp(self._descriptor)

    def append(self, data: bytes) -> None:
        """Write all of the bytes."""
        descriptor = self._opened()
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        self._stamp(descriptor)
        self._digest.update(data)
        self.size_bytes += len(data)

    def keep(self) -> Blob:
        """Flush the bytes and give them their name."""
        descriptor = self._opened()
        os.fsync(descriptor)
        digest = self._digest.hexdigest()
        target = _path_of(self._root, digest)
        with _locked(self._root, fcntl.LOCK_SH):
            _make_folder(target.parent)
            if not self._refreshed(target):
                self._stamp(descriptor)
                self.path.rename(target)
            for folder in (target.parent, target.parent.parent, self._root):
                _flush_folder(folder)
        self.drop()
        return Blob(digest, self.size_bytes)

    def drop(self) -> None:
        """Leave nothing behind; after `keep` there is nothing to remove."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                self.path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)

    def _refreshed(self, target: Path) -> bool:
        """Whether the blob is there already, whole; then its time is now."""
        try:
            descriptor = _open(target)
        except UnknownAsset:
            return False
        try:
            whole = os.fstat(descriptor).st_size == self.size_bytes
            if whole:
                self._stamp(descriptor)
            return whole
        finally:
            os.close(descriptor)

    def _stamp(self, descriptor: int) -> None:
        now = self._clock.now()
        os.utime(descriptor, (now, now))

    def _opened(self) -> int:
        if self._descriptor is None:
            raise StoreUnavailable(f"the staged blob {self.path.name} has been committed or dropped; stage another")
        return self._descriptor


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Run file work in a thread and wait for its end even when cancelled, so that no descriptor is closed under it."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({running})
        if not running.cancelled():
            running.exception()
        raise
    except OSError as error:
        raise StoreUnavailable(
            f"the picture store does not answer: {error}; check the disk's space, rights and health"
        ) from error


def _path_of(root: Path, sha256: str) -> Path:
    if not _DIGEST.fullmatch(sha256):
        raise UnknownAsset(f"{sha256[:80]!r} is no digest: 64 hexadecimal digits in lower case are needed")
    return root / sha256[:2] / sha256[2:4] / sha256


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UnknownAsset(f"the bytes of {path.name} are gone; store them again") from None


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = _open(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _locked(root: Path, mode: int) -> Iterator[None]:
    _make_folder(root)
    descriptor = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, mode)
        yield
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, each for this user alone (`mkdir` narrows only the last)."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, _FOLDER_FLAGS)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_if_left(path: Path) -> bool:
    """Delete a staging file whose writer no longer lives."""
    try:
        with _opened(path) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            return True
    except (BlockingIOError, FileNotFoundError, UnknownAsset):
        return False
