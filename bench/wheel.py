"""The package as it is released: its wheel with the compiled chat lane, unpacked and ready to be imported."""

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from bench.lane.programs import hidden_from_git

_SECONDS = 600
_MOST_KEPT = 4
"""Packages; an older one may still be run by somebody."""


class NotCompiled(Exception):
    """The wheel could not be built; the message has the compiler's last words."""


@functools.cache
def compiled_package(checkout: Path, python: str = sys.executable) -> Path:
    """The folder to put on PYTHONPATH, made anew when anything that it is made from has changed; that is looked at once
    in a process, so that a run keeps to one package. `python` has what ``make test`` installs. Raises `NotCompiled`."""
    packages = checkout / "bench" / ".peers" / "sluicegate"
    folder = packages / _digest(checkout, python)
    if folder.is_dir():
        return folder
    hidden_from_git(packages.parent)
    packages.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="new-", dir=packages) as built:
        command = [python, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
        command += ["--no-build-isolation", "--wheel-dir", built, str(checkout)]
        environment = {**os.environ, "HATCH_BUILD_HOOK_ENABLE_CUSTOM": "true"}
        done = subprocess.run(  # noqa: S603 - a command of our own
            command, env=environment, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
        if done.returncode != 0:
            raise NotCompiled(f"the wheel was not built: {(done.stderr or done.stdout).strip()[-1500:]}")
        (wheel,) = Path(built).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(Path(built) / "package")
        with contextlib.suppress(OSError):  # another run was faster
            (Path(built) / "package").rename(folder)
    for old in sorted(packages.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime)[:-_MOST_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _digest(checkout: Path, python: str) -> str:
    """Of the sources, the tools that are locked, and the interpreter."""
    made_from = [path for path in (checkout / "src").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    made_from += [checkout / "pyproject.toml", checkout / "hatch_build.py", *(checkout / "requirements").glob("*.txt")]
    version = subprocess.run([python, "-VV"], capture_output=True, check=True).stdout  # noqa: S603 - our own
    whole = hashlib.sha256(version)
    for path in sorted(made_from):
        whole.update(str(path.relative_to(checkout)).encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()[:16]
