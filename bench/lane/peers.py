"""Installing the peers: each in an environment of its own under bench/.peers, with the versions that are locked."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.lane.contender import NotThere
from bench.lane.programs import hidden_from_git

LOCKS: Final = Path(__file__).parents[1] / "peers_lane"
INSTALLED: Final = Path(__file__).parents[1] / ".peers"
_SECONDS: Final = 900


def python_peer(name: str) -> Path:
    """The environment with all of ``peers_lane/NAME/requirements.txt``, made or renewed where needed."""
    lock = LOCKS / name / "requirements.txt"
    folder = INSTALLED / name
    if _is_current(folder, lock):
        return folder
    hidden_from_git(INSTALLED)
    shutil.rmtree(folder, ignore_errors=True)
    _do(name, [sys.executable, "-m", "venv", str(folder)])
    install = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _do(name, [*install, "--no-deps", "--require-hashes", "-r", str(lock)])
    _mark(folder, lock)
    return folder


def node_peer(name: str) -> Path:
    """The folder with ``node_modules`` of ``peers_lane/NAME/package-lock.json``."""
    lock = LOCKS / name / "package-lock.json"
    folder = INSTALLED / name
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise NotThere(f"{program} is not installed (apt install nodejs npm, version 20 or newer)")
    if _is_current(folder, lock):
        return folder
    hidden_from_git(INSTALLED)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in ("package.json", "package-lock.json"):
        shutil.copy(LOCKS / name / file, folder / file)
    _do(name, ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)], cwd=folder)
    _mark(folder, lock)
    return folder


def locked_version(name: str, package: str) -> str:
    """The version of a package in the peer's requirements, for the report."""
    for line in (LOCKS / name / "requirements.txt").read_text("utf-8").splitlines():
        found, mark, rest = line.partition("==")
        if mark and found == package:
            return rest.split()[0]
    return "?"


def words_of(command: Sequence[str], folder: Path | None = None) -> str:
    """What a short command writes, without its line end; empty when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=folder)  # noqa: S603 - our own
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else ""


def _is_current(folder: Path, lock: Path) -> bool:
    mark = folder / ".lock"
    return mark.is_file() and mark.read_text("ascii") == _digest(lock)


def _mark(folder: Path, lock: Path) -> None:
    (folder / ".lock").write_text(_digest(lock), "ascii")


def _digest(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def _do(name: str, command: Sequence[str], cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS, cwd=cwd)  # noqa: S603 - a command of our own
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotThere(f"{name} was not installed: {error}") from error
    if done.returncode != 0:
        raise NotThere(f"{name} was not installed: {(done.stderr or done.stdout).strip()[-400:]}")
