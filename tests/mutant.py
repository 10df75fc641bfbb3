"""One fault put into the package on purpose, and whether a test catches it."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "sluicegate"
_MOST_SECONDS = 90.0
"""After which tests that hang have noticed."""


@dataclass(frozen=True)
class Mutant:
    """One change of one file of the package: the first `before` becomes `after`, and one of the `suites` notices."""

    name: str
    file: str
    before: str
    after: str
    suites: tuple[str, ...]
    only: str = ""
    """Which of the suites' tests to run, as pytest's ``-k`` takes it."""


def is_caught(mutant: Mutant, suites: tuple[str, ...] = (), only: str = "") -> bool:
    """Whether a test of its suites, or of `suites` when these are given, fails on the mutant.

    Raises `ValueError` when there is nothing to change, or when the tests could not run.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / "sluicegate"
        shutil.copytree(PACKAGE, copy)
        file = copy / mutant.file
        text = file.read_text("utf-8")
        if mutant.before not in text:
            raise ValueError(f'mutant "{mutant.name}": {mutant.file} no longer holds "{mutant.before}"')
        file.write_text(text.replace(mutant.before, mutant.after, 1), "utf-8")
        Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutants"]
        words = only or ("" if suites else mutant.only)
        command += [*(suites or mutant.suites), *(["-k", words] if words else [])]
        environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
        code, told = _run(command, environment)
    if code not in (0, 1):
        raise ValueError(f'mutant "{mutant.name}": the tests could not run\n{told[-4000:]}')
    return code == 1


def _run(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and output; 1 where it hangs, and then nothing that it started stays."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            told, _ = process.communicate(timeout=_MOST_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return 1, ""
    return process.returncode, told
