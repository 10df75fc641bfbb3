"""Open files, in a process of their own, since what is lowered can rarely be raised again."""

import subprocess
import sys

import pytest

_SCRIPT = """
import logging, resource, sys
from sluicegate.app.descriptors import raise_descriptor_limit
from sluicegate.settings import ServerSettings, Settings
soft, hard, streams = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
logging.basicConfig(level=logging.WARNING, format="%(message)s %(fields)s")
raise_descriptor_limit(Settings(server=ServerSettings(max_streams=streams)))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("streams", "is_told"), [(100, False), (2_000, True)])
def test_as_many_files_as_are_granted_may_be_opened_and_too_few_are_told(streams: int, is_told: bool) -> None:
    command = [sys.executable, "-c", _SCRIPT, "64", "400", str(streams)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "400\n"
    assert ("too few open files" in done.stderr) == is_told
    assert ("4100" in done.stderr) == is_told
