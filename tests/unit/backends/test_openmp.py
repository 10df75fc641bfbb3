"""Lending the OpenMP runtime to a process that lacks it."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sluicegate.backends import openmp


def test_a_package_that_is_always_installed_brings_the_runtime() -> None:
    found = openmp.bundled_library()
    assert found is not None
    ctypes.CDLL(str(found))


def test_a_process_without_the_runtime_starts_again_with_it_and_leaves_nothing(tmp_path: Path) -> None:
    """The system may well have the library; asking for one of another name plays a machine without it."""
    module = tmp_path / "needy.py"
    module.write_text(
        "import ctypes, os, sys\n"
        "from sluicegate.backends import openmp\n"
        'openmp.LIBRARY = "libgomp-absent.so.1"\n'
        'openmp.ensure_openmp("needy")\n'
        "ctypes.CDLL(openmp.LIBRARY)\n"
        'print("loaded", sys.argv[1:], os.environ.get(openmp.FOLDER_VARIABLE))\n'
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "needy", "--threads", "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "loaded ['--threads', '2'] None\n", done.stderr
    assert list(scratch.iterdir()) == []


def test_where_nobody_can_lend_it_the_process_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "LIBRARY", "libgomp-absent.so.1")
    monkeypatch.setattr(openmp, "_LENDER", "no_such_package")
    openmp.ensure_openmp("never.started")
