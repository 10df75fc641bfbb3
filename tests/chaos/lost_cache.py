"""What a 202 promises when the power fails: the disk then holds what was flushed, and perhaps some of the rest.

`strace` records every write and every flush of a process that uses the store, in their order, with what the process
told its callers in between. For a moment after any such telling, the disk is made again: each file as it was at its
last flush (the page cache is lost whole), or with some of the later writes, whole or torn. Whatever was told before
that moment must then be in the database. Not modelled: the folder, whose entries count as safe at once.
"""

import asyncio
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from tests.chaos.outcome import Figure, Outcome, Task

_CALLS = "pwrite64,write,fsync,fdatasync,ftruncate,unlink"
_SECTOR = 512
_LINE = re.compile(rb"(\d+)\s+(.*)", re.DOTALL)
_CALL = re.compile(rb"(\w+)\((\d+)<([^>]*)>(?:, (.*))?\)\s+= (-?\d+)", re.DOTALL)
_UNLINK = re.compile(rb'unlink\("([^"]*)"\)\s+= 0')


def can_trace() -> bool:
    """Whether there is an `strace` that may be used here."""
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-o", "/dev/null", "true"], check=False).returncode == 0


class Call(NamedTuple):
    """One system call as it was recorded, by the numbers of the lines on which it began and returned."""

    name: str
    descriptor: int
    path: str
    data: bytes
    offset: int
    began: int
    ended: int


@dataclass
class FileOnDisk:
    """A file: what is safe, and the writes since the last flush."""

    safe: bytearray = field(default_factory=bytearray)
    pending: list[Call] = field(default_factory=list)

    def flushed(self, call: Call) -> None:
        """Make safe what was written before the flush began."""
        for write in [write for write in self.pending if write.ended < call.began]:
            _apply(self.safe, write)
        self.pending = [write for write in self.pending if write.ended >= call.began]

    def after_power_failure(self, rng: random.Random | None) -> bytes:
        """What is found later: what is safe, and with `rng` some of the rest, each piece whole or torn."""
        found = bytearray(self.safe)
        for write in self.pending if rng is not None else ():
            assert rng is not None
            fate = rng.random()
            if fate < 0.4:
                _apply(found, write)
            elif fate < 0.6 and write.data:
                torn = write.data[: _SECTOR * rng.randint(0, len(write.data) // _SECTOR)]
                _apply(found, write._replace(data=torn))
        return bytes(found)


class Disk:
    """All files of a folder while the record is played."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, FileOnDisk] = {}
        self._folder = folder

    def play(self, call: Call) -> None:
        """Let one call take effect."""
        if Path(call.path).parent != self._folder or call.path.endswith(("-shm", ".lock")):
            return
        if call.name == "unlink":
            self.files.pop(Path(call.path).name, None)
            return
        file = self.files.setdefault(Path(call.path).name, FileOnDisk())
        if call.name in ("fsync", "fdatasync"):
            file.flushed(call)
        else:
            file.pending.append(call)

    def leave(self, folder: Path, rng: random.Random | None) -> None:
        """Write what a power failure at this moment leaves."""
        for name, file in self.files.items():
            (folder / name).write_bytes(file.after_power_failure(rng))


def _apply(image: bytearray, call: Call) -> None:
    if call.name == "ftruncate":
        del image[call.offset :]
        image.extend(b"\0" * (call.offset - len(image)))
        return
    if len(image) < call.offset:
        image.extend(b"\0" * (call.offset - len(image)))
    image[call.offset : call.offset + len(call.data)] = call.data


def read_record(path: Path) -> Iterator[Call]:
    """The calls in the order in which they returned; one that another thread interrupted is put together again."""
    unfinished: dict[bytes, tuple[int, bytes]] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            found = _LINE.match(line.rstrip(b"\n"))
            if found is None:
                continue
            thread, text = found.groups()
            began = number
            if text.endswith(b"<unfinished ...>"):
                unfinished[thread] = (number, text.removesuffix(b"<unfinished ...>").rstrip())
                continue
            if b" resumed>" in text[:40] and thread in unfinished:
                began, head = unfinished.pop(thread)
                text = head + text.partition(b" resumed>")[2]
            removed = _UNLINK.match(text)
            if removed is not None:
                yield Call("unlink", -1, _unhex(removed[1]).decode("utf-8", "replace"), b"", 0, began, number)
            call = _CALL.match(text)
            if call is not None and not call[5].startswith(b"-"):
                yield _call(call, began, number)


def _call(found: re.Match[bytes], began: int, ended: int) -> Call:
    name, descriptor, path = found[1].decode(), int(found[2]), _unhex(found[3]).decode("utf-8", "replace")
    data, offset = b"", 0
    if name == "ftruncate":
        offset = int(found[4])
    elif name in ("pwrite64", "write"):
        text, _, rest = found[4].rpartition(b'"')
        data = _unhex(text.lstrip(b'"'))[: int(found[5])]
        offset = int(rest.split(b",")[-1]) if name == "pwrite64" else 0
    return Call(name, descriptor, path, data, offset, began, ended)


def _unhex(text: bytes) -> bytes:
    return bytes.fromhex(text.replace(rb"\x", b"").decode()) if text.startswith(rb"\x") else text


class Loss(NamedTuple):
    """What power failures did: at how many moments, after how many tellings, and what was gone."""

    moments: int
    told: int
    flushes: int
    gone: list[str]


def fail_the_power(*, jobs: int, moments: int, seed: int, synchronous: Literal["full", "normal"] = "full") -> Loss:
    """Record a run of `jobs` jobs; let the power fail at `moments` moments, each once cleanly and once with torn
    writes; look into what is left each time."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-cache-"))
    try:
        (folder / "data").mkdir()
        _record(folder, jobs, synchronous)
        return _play(folder, list(read_record(folder / "record")), moments, random.Random(f"{seed} power"))
    finally:
        shutil.rmtree(folder)


def _record(folder: Path, jobs: int, synchronous: str) -> None:
    command = ["strace", "-f", "-y", "-xx", "-s", "1048576", "-e", f"trace={_CALLS}", "-o", str(folder / "record")]
    command += [sys.executable, "-m", "tests.chaos.acknowledging_process"]
    command += [str(folder / "data" / "store.db"), str(jobs), synchronous]
    subprocess.run(command, check=True, stdout=subprocess.PIPE)


def _play(folder: Path, calls: Sequence[Call], moments: int, rng: random.Random) -> Loss:
    tellings = [number for number, call in enumerate(calls) if _telling(call) is not None]
    chosen = set(rng.sample(tellings, min(moments, len(tellings))))
    disk, promised, gone = Disk(folder / "data"), dict[str, str](), list[str]()
    for number, call in enumerate(calls):
        disk.play(call)
        telling = _telling(call)
        if telling is not None:
            promised[telling[1]] = telling[0]
        if number in chosen:
            for torn in (None, rng):
                gone += _look(disk, folder / "found", promised, torn)
    flushes = sum(call.name.endswith("sync") for call in calls)
    return Loss(len(chosen), len(tellings), flushes, gone)


def _telling(call: Call) -> tuple[str, str] | None:
    if call.name != "write" or call.descriptor != 1:
        return None
    word, _, job = call.data.decode().strip().partition(" ")
    return (word, job) if job else None


def _look(disk: Disk, folder: Path, promised: dict[str, str], torn: random.Random | None) -> list[str]:
    """Which promises the database that is found does not keep."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    disk.leave(folder, torn)
    connection = sqlite3.connect(folder / "store.db")
    try:
        if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            return ["the database is broken"]
        states = dict(connection.execute("SELECT id, state FROM job").fetchall())
        charged = {job for (job,) in connection.execute("SELECT job FROM ledger").fetchall()}
    except sqlite3.Error as error:
        return [f"the database cannot be read: {error}"]
    finally:
        connection.close()
    lost = [f"{job} was told and is gone" for job in promised if job not in states]
    ended = [job for job, word in promised.items() if word == "ended"]
    return lost + [f"{job} had ended" for job in ended if states.get(job) != "succeeded" or job not in charged]


async def promise(task: Task) -> Outcome:
    """What a 202 promises, with a control: the same run with fewer flushes must lose jobs."""
    if not can_trace():
        return task.came_to({}, missed=["strace is not installed, or may not trace: apt install strace"])
    moments = max(20, task.jobs // 5)
    task.show(0, task.jobs, "recording")
    loss = await asyncio.to_thread(fail_the_power, jobs=task.jobs, moments=moments, seed=task.seed)
    control = await asyncio.to_thread(
        fail_the_power, jobs=task.jobs, moments=moments // 4, seed=task.seed, synchronous="normal"
    )
    figures: dict[str, Figure] = {
        "answers told": loss.told,
        "flushes": loss.flushes,
        "power failures, each clean and torn": loss.moments,
        "promises broken": len(loss.gone),
        "promises broken with synchronous = NORMAL (the control)": len(control.gone),
    }
    faults = [f"{len(loss.gone)} promises broken, such as: {loss.gone[0]}"] if loss.gone else []
    if not control.gone:
        faults.append("the control broke no promise: the simulation sees nothing")
    return task.came_to(figures, faults)
