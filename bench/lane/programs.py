"""The upstream and the load generator: compiled from bench/c by the system's C compiler, once for each version."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

SOURCES: Final = Path(__file__).parents[1] / "c"
BUILD: Final = Path(__file__).parents[1] / ".build"
_PARTS: Final = {
    "upstream": ("upstream.c", "timetable.c"),
    "loadgen": ("loadgen.c", "answer.c", "processes.c", "requests.c", "samples.c"),
}


class NoCompiler(Exception):
    """There is no C compiler; the message says which package brings one."""


class Programs(NamedTuple):
    """Where the two compiled programs are."""

    upstream: Path
    loadgen: Path


def compiler() -> str | None:
    """The C compiler's path, or None."""
    return shutil.which(os.environ.get("CC", "gcc")) or shutil.which("cc")


def build() -> Programs:
    """Both programs, compiled where their sources changed. Raises `NoCompiler`, or `RuntimeError` with its words."""
    digest = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.read_bytes())
    folder = BUILD / digest.hexdigest()[:16]
    programs = Programs(folder / "upstream", folder / "loadgen")
    for name, program in programs._asdict().items():
        if not program.exists():
            _compile(program, [SOURCES / part for part in _PARTS[name]])
    return programs


def _compile(program: Path, sources: list[Path]) -> None:
    path = compiler()
    if path is None:
        raise NoCompiler("no C compiler: install gcc (apt install gcc libc6-dev), or name another by CC")
    hidden_from_git(BUILD)
    program.parent.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_name(f"{program.name}.{os.getpid()}")
    command = [path, "-O2", "-Wall", "-o", str(unfinished), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a command of our own
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    unfinished.replace(program)


def hidden_from_git(folder: Path) -> None:
    """Make the folder, with a word to git that nothing in it is the project's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", "ascii")
