"""The package as it is released: its wheel with the compiled chat lane, unpacked and ready to be imported."""

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


class NotCompiled(Exception):
    """The wheel could not be built; the message has the compiler's last words."""


def compiled_package(checkout: Path, python: str = sys.executable) -> Path:
    """The folder to put on PYTHONPATH, built anew when the sources have changed since. `python` has what ``make test``
    installs. Raises `NotCompiled`."""
    folder = checkout / "bench" / ".peers" / "sluicegate"
    digest = _digest(checkout, python)
    mark = folder / ".digest"
    if mark.is_file() and mark.read_text("ascii") == digest:
        return folder
    hidden_from_git(folder.parent)
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="sluicegate-wheel-") as built:
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
            archive.extractall(folder)
    mark.write_text(digest, "ascii")
    return folder


def _digest(checkout: Path, python: str) -> str:
    sources = [*sorted((checkout / "src").rglob("*.py")), checkout / "pyproject.toml", checkout / "hatch_build.py"]
    whole = hashlib.sha256(f"{python} {sys.version}".encode())
    for path in sources:
        whole.update(str(path.relative_to(checkout)).encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()
