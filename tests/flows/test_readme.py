"""The commands that the documents print, run as they are printed against a real gateway."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.gateway import PATIENCE, RunningGateway, open_picture

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
HTTP = (ROOT / "docs" / "guides" / "http.md").read_text("utf-8")
_ADDRESS = "http://127.0.0.1:8000"

needs_curl = pytest.mark.skipif(not all(map(shutil.which, ("bash", "curl"))), reason="bash and curl are not installed")


def blocks(page: str, language: str) -> list[str]:
    """The page's examples of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def commands(page: str, word: str) -> str:
    """All shell examples of a page that use a word, as one script."""
    return "\n".join(block for block in blocks(page, "sh") if word in block)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks as the repository does to the commands; what they write stays here."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    # A refusal becomes a failure of the script, as it would not be by itself.
    (tmp_path / ".curlrc").write_text('fail-with-body\nmax-time = 60\nnoproxy = "*"\n')
    return tmp_path


def run(argv: list[str], folder: Path, gateway: RunningGateway) -> str:
    """What a command prints; fails with all it said when it does."""
    environment = {**os.environ, "CURL_HOME": str(folder), "SLUICEGATE_URL": gateway.url, "NO_PROXY": "*"}
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE * 2, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}"
    return done.stdout


def run_script(script: str, folder: Path, gateway: RunningGateway) -> str:
    """What a shell script prints, with this gateway's address instead of the printed one."""
    script = script.replace(_ADDRESS, gateway.url).replace("python3 ", f"{shlex.quote(sys.executable)} ")
    return run(["bash", "-euo", "pipefail", "-c", script], folder, gateway)


@needs_curl
def test_the_first_calls_of_the_readme_work_as_printed(folder: Path, gateway: RunningGateway) -> None:
    printed = run_script(commands(README, "curl"), folder, gateway)
    assert "data: [DONE]" in printed
    assert "event: chat.completion.done" in printed
    assert '"active":' in printed
    painted = open_picture((folder / "painted.png").read_bytes())
    assert painted.size == open_picture((ROOT / "docs" / "images" / "lighthouse.png").read_bytes()).size


def test_the_openai_example_of_the_readme_works_as_printed(folder: Path, gateway: RunningGateway) -> None:
    (example,) = blocks(README, "python")
    assert _ADDRESS in example
    printed = run([sys.executable, "-c", example.replace(_ADDRESS, gateway.url)], folder, gateway)
    assert printed.strip()


def test_the_commands_of_the_readme_work_as_printed(folder: Path, gateway: RunningGateway) -> None:
    lines = commands(README, ".venv/bin/sluicegate").splitlines()
    assert {line.split()[1] for line in lines} == {"chat", "generate", "jobs", "doctor"}
    for line in lines:
        words = shlex.split(line)
        if words[1] != "doctor":  # it judges this machine, which may be short of something
            run([sys.executable, "-m", "sluicegate", *words[1:]], folder, gateway)
    assert open_picture((folder / "red.png").read_bytes()).width > 0


@needs_curl
def test_the_calls_of_the_http_guide_work_as_printed(folder: Path, gateway: RunningGateway) -> None:
    printed = run_script(commands(HTTP, "gateway"), folder, gateway)
    assert "event: job.succeeded" in printed
    assert "http_requests_total{" in printed
    assert (folder / "same.png").read_bytes() == (ROOT / "docs" / "images" / "lighthouse.png").read_bytes()
    assert len((folder / "first.bin").read_bytes()) == 1_024
    assert open_picture((folder / "small.webp").read_bytes()).width == 128


def test_every_route_has_its_place_in_the_http_guide(gateway: RunningGateway) -> None:
    document = gateway.get("/openapi.json").json()
    routes = [f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations]
    assert not [route for route in routes if route not in HTTP]
