"""Pictures on this machine: which files are read, which are written, and that none is lost or half-written."""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from sluicegate.cli.client import Client, Json, Refused, content_type_of
from sluicegate.cli.terminal import Failure, Misuse

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


@dataclass(frozen=True, slots=True)
class Destination:
    """Where results go. `path` None means: named after the job, in the working directory."""

    path: Path | None
    force: bool

    @property
    def format(self) -> str:
        """The picture format that the file's suffix asks for. Raises `Failure` for one that is not made."""
        return format_of(self.path) if self.path else "png"

    def check(self, count: int) -> None:
        """Find out before the work that its results can be written. Raises `Failure`."""
        if self.path is None:
            return
        format_of(self.path)
        folder = self.path.parent
        if not folder.is_dir():
            raise Failure(f"{folder} is no folder; make it first, or name another file with -o")
        if not os.access(folder, os.W_OK):
            raise Failure(f"{folder} may not be written to; name a file elsewhere with -o")
        taken = self._taken(self._names(self.path, count))
        if taken is not None:
            raise Failure(taken)

    def paths(self, job: Json) -> list[Path]:
        """One path for each output of the job. Raises `Failure` when a file has appeared there meanwhile."""
        outputs = job["outputs"]
        paths = self._names(self.path or Path(f"{job['id']}.png"), len(outputs))
        taken = self._taken(paths)
        if taken is not None:
            places = "\n  ".join(str(output["url"]) for output in outputs)
            raise Failure(f"{taken}; nothing is lost, the gateway keeps what was made:\n  {places}")
        return paths

    def _names(self, path: Path, count: int) -> list[Path]:
        if count == 1:
            return [path]
        return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, count + 1)]

    def _taken(self, paths: list[Path]) -> str | None:
        """Which path cannot be used, and why."""
        for path in paths:
            if path.is_dir():
                return f"{path} is a folder; name a file with -o"
            if path.exists() and not self.force:
                return f"{path} exists; --force overwrites it"
        return None


def format_of(path: Path) -> str:
    """The picture format of a file name. Raises `Failure` for a suffix that is not made."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        mend = f"not {path.suffix}" if path.suffix else "and this name has no suffix"
        raise Misuse(f"{path}: pictures are written as .png, .jpg or .webp, {mend}") from None


async def upload(client: Client, path: Path) -> str:
    """Send a picture to the gateway; its asset id. The gateway judges what the bytes are."""
    try:
        data = await asyncio.to_thread(path.read_bytes)
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from None
    headers = {"content-type": content_type_of(data)}
    try:
        asset = await client.ask("POST", "/v1/assets", content=data, headers=headers)
    except Refused as refused:
        raise Refused(f"{path}: {refused.message.removeprefix('body: ')}", refused.status) from refused
    return str(asset.get("id"))


async def download(client: Client, output: Json, path: Path) -> None:
    """Write an output to `path`: all of it, checked against its digest, or nothing."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        async with client.download(output["id"]) as pieces:
            digest = await _write(pieces, part)
        if digest != output["sha256"]:
            raise Failure(f"{output['id']} arrived damaged (sha256 {digest}); fetch it again from {output['url']}")
        part.replace(path)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}; the picture is kept at {output['url']}") from None
    finally:
        part.unlink(missing_ok=True)


async def _write(pieces: AsyncIterator[bytes], path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("xb") as file:
        async for piece in pieces:
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
